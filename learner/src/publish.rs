//! Publishing parameters: each version is encoded once and shared by all subscribers.

use std::collections::VecDeque;
use std::sync::Arc;

use rookery_common::wire::{Publication, publication_chunks};
use rookery_proto::v1;
use tokio::sync::watch;

/// A version as it goes over the wire.
#[derive(Debug)]
pub struct EncodedPublication {
    /// Its number.
    pub version: u64,
    /// Its chunks in order.
    pub chunks: Vec<v1::ParametersChunk>,
}

/// The versions that somebody may still need, oldest first.
pub type RecentPublications = VecDeque<Arc<EncodedPublication>>;

/// Keeps the last `lag + 1` versions, which a synchronous run's late joiners may need, and wakes
/// the subscribers at each new one.
#[derive(Debug)]
pub struct Publisher {
    recent: watch::Sender<RecentPublications>,
    num_kept: usize,
}

impl Publisher {
    /// Starts without a version.
    #[must_use]
    pub fn new(lag: u64) -> Self {
        Self {
            recent: watch::Sender::new(VecDeque::new()),
            num_kept: lag as usize + 1,
        }
    }

    /// Sees every version from the oldest kept on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<RecentPublications> {
        self.recent.subscribe()
    }

    /// Makes a version available to every actor.
    pub fn publish(&self, publication: &Publication) {
        let encoded = Arc::new(EncodedPublication {
            version: publication.version.version,
            chunks: publication_chunks(publication),
        });
        self.recent.send_modify(|recent| {
            recent.push_back(encoded);
            while recent.len() > self.num_kept {
                recent.pop_front();
            }
        });
    }
}
