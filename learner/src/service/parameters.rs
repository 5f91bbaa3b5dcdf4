//! The `Parameters` stream: every version from the oldest that somebody may still need.

use rookery_proto::v1;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::BoxStream;
use crate::publish::RecentPublications;

/// Chunks that may wait for a slow reader: 4 MiB at most.
const MAX_WAITING_CHUNKS: usize = 4;

/// Streams the kept versions and then each new one. A reader that falls behind skips what is no
/// longer kept: in a synchronous run that is a version whose rounds are all collected.
pub(super) fn stream(
    mut recent: watch::Receiver<RecentPublications>,
) -> BoxStream<v1::ParametersChunk> {
    let (sender, receiver) = mpsc::channel(MAX_WAITING_CHUNKS);
    tokio::spawn(async move {
        let mut next_version = 0;
        loop {
            let fresh: Vec<_> = recent
                .borrow_and_update()
                .iter()
                .filter(|publication| publication.version >= next_version)
                .cloned()
                .collect();
            for publication in fresh {
                next_version = publication.version + 1;
                for chunk in &publication.chunks {
                    if sender.send(Ok(chunk.clone())).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                changed = recent.changed() => if changed.is_err() { return },
                () = sender.closed() => return,
            }
        }
    });
    Box::pin(ReceiverStream::new(receiver))
}
