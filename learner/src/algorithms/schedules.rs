//! Options that change over a run (T20): always with environment steps, never with updates or time.

/// An option's value after `env_steps`, where it goes linearly from `start` to `end` in `decay` of
/// them.
#[must_use]
pub fn linear(start: f64, end: f64, decay: u64, env_steps: u64) -> f64 {
    let share = if decay == 0 {
        1.0
    } else {
        (env_steps as f64 / decay as f64).min(1.0)
    };
    start + (end - start) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_an_option_follows_environment_steps_and_stays_at_its_end() {
        for (env_steps, expected) in [(0, 0.9), (250, 0.7), (1_000, 0.1), (5_000, 0.1)] {
            assert!((linear(0.9, 0.1, 1_000, env_steps) - expected).abs() < 1e-12);
        }
        assert_eq!(linear(0.5, 0.25, 0, 0), 0.25);
    }
}
