//! What training episodes came to: the statistics that people watch.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Episodes over which returns are averaged, as is usual in the field.
pub const WINDOW: usize = 100;

/// The last [`WINDOW`] training episodes and the number of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpisodeWindow {
    recent: VecDeque<(f64, u32)>,
    /// Episodes that ended since the run began.
    pub total: u64,
}

impl EpisodeWindow {
    /// Adds an episode that ended.
    pub fn push(&mut self, return_: f64, length: u32) {
        self.recent.push_back((return_, length));
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        self.total += 1;
    }

    /// Mean raw return of the last episodes; `None` before the first.
    #[must_use]
    pub fn mean_return(&self) -> Option<f64> {
        self.mean(|(return_, _)| *return_)
    }

    /// Mean length of the last episodes; `None` before the first.
    #[must_use]
    pub fn mean_length(&self) -> Option<f64> {
        self.mean(|(_, length)| f64::from(*length))
    }

    /// Whether the mean is over a full window.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.recent.len() == WINDOW
    }

    fn mean(&self, value: impl Fn(&(f64, u32)) -> f64) -> Option<f64> {
        let count = self.recent.len();
        (count > 0).then(|| self.recent.iter().map(value).sum::<f64>() / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_over_the_last_hundred() {
        let mut window = EpisodeWindow::default();
        assert_eq!(window.mean_return(), None);
        for _ in 0..50 {
            window.push(0.0, 10);
        }
        assert!(!window.is_full());
        for _ in 0..100 {
            window.push(7.0, 20);
        }
        assert!(window.is_full());
        assert_eq!(window.mean_return(), Some(7.0));
        assert_eq!(window.mean_length(), Some(20.0));
        assert_eq!(window.total, 150);
    }
}
