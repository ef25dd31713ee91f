//! Ranks as threads of one process: for tests and benchmarks, which have no launcher.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Communicator, Received, World};
use crate::error::TrainError;

/// One of several ranks, each a thread.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Receiver<Vec<u8>>>,
}

impl Threads {
    /// Runs `work` on `count` threads, each with its own [`World`], and returns their results in
    /// rank order.
    ///
    /// # Panics
    /// If one of them panics.
    pub fn run<T: Send>(count: usize, work: impl Fn(World) -> T + Sync) -> Vec<T> {
        let mut ranks: Vec<Self> = (0..count).map(|rank| Self { rank, to: Vec::new(), from: Vec::new() }).collect();
        for from in 0..count {
            for to in 0..count {
                let (sender, receiver) = channel();
                ranks[from].to.push(sender);
                ranks[to].from.push(receiver);
            }
        }
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> =
                ranks.into_iter().map(|rank| scope.spawn(move || work(World::new(Box::new(rank))))).collect();
            #[expect(clippy::expect_used, reason = "documented")]
            threads.into_iter().map(|thread| thread.join().expect("a rank panicked")).collect()
        })
    }

    fn receive(&self) -> Result<Received, TrainError> {
        let mut received = Received::default();
        for (rank, from) in self.from.iter().enumerate() {
            let bytes = from.recv().map_err(|_| TrainError::Lost(format!("rank {rank} went missing")))?;
            received.counts.push(bytes.len());
            received.bytes.extend(bytes);
        }
        Ok(received)
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.to.len()
    }

    fn local_rank(&self) -> usize {
        self.rank
    }

    fn host(&self) -> String {
        "this machine".into()
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Received, TrainError> {
        // A rank that is gone is detected when its message does not arrive.
        self.to.iter().for_each(|to| _ = to.send(mine.to_vec()));
        self.receive()
    }

    fn all_to_all(&self, send: &[u8], counts: &[usize]) -> Result<Received, TrainError> {
        let parts = Received { bytes: send.to_vec(), counts: counts.to_vec() };
        self.to.iter().zip(parts.parts()).for_each(|(to, part)| _ = to.send(part.to_vec()));
        self.receive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_gets_what_is_meant_for_them() {
        let results = Threads::run(3, |world| {
            let rank = world.rank() as u8;
            let all = world.all_gather_object(&format!("I am {rank}")).unwrap();
            let main = world.broadcast(&rank).unwrap();
            // Rank r sends r bytes of value 10 r + to, to each.
            let send: Vec<u8> = (0..3).flat_map(|to| vec![10 * rank + to; rank as usize]).collect();
            let received = world.all_to_all(&send, &[rank as usize; 3]).unwrap();
            let at_main = world.gather_to_main(&[rank]).unwrap();
            (all, main, received.parts().map(<[u8]>::to_vec).collect::<Vec<_>>(), at_main.bytes)
        });
        for (rank, (all, main, received, at_main)) in results.into_iter().enumerate() {
            let to = rank as u8;
            assert_eq!(all, ["I am 0", "I am 1", "I am 2"]);
            assert_eq!(main, 0);
            assert_eq!(received, [vec![], vec![10 + to], vec![20 + to; 2]]);
            assert_eq!(at_main, if rank == 0 { vec![0, 1, 2] } else { vec![] });
        }
    }

    #[test]
    fn one_that_fails_is_known_to_all_and_one_that_leaves_is_missed() {
        let results = Threads::run(3, |world| {
            let result = if world.rank() == 1 { Err(TrainError::Lost("no disk".into())) } else { Ok(()) };
            let error = world.all_or_none(result).unwrap_err().to_string();
            if world.rank() == 2 {
                return error;
            }
            format!("{error}; {}", world.barrier().unwrap_err())
        });
        let error = "rank 1: no disk";
        assert_eq!(results[2], error);
        for result in &results[..2] {
            assert!(result.starts_with(error) && result.contains("went missing"), "{result}");
        }
    }
}
