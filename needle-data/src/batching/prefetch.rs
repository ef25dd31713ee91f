//! Prepares batches on a separate thread while the trainer computes.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// Moves `source` to a thread of `scope` that stays at most `depth` items ahead; the thread ends
/// when the receiver is dropped.
pub fn prefetch<'scope, T, I>(scope: &'scope Scope<'scope, '_>, depth: usize, source: I) -> Receiver<T>
where
    T: Send + 'scope,
    I: Iterator<Item = T> + Send + 'scope,
{
    let (sender, receiver) = sync_channel(depth);
    scope.spawn(move || {
        for item in source {
            if sender.send(item).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_and_an_endless_source_ends_with_its_reader() {
        let taken: Vec<u32> = std::thread::scope(|scope| prefetch(scope, 2, 0..).into_iter().take(5).collect());
        assert_eq!(taken, [0, 1, 2, 3, 4]);
    }
}
