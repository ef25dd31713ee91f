//! Several processes as one run: the messages between them, and the part of each.
//!
//! Data parallel training: every rank has all weights, computes the gradient of its share of the
//! batch, updates its share of the weights, and hears the rest from the others. A run of N ranks
//! makes the steps of a run of one, to rounding.
//!
//! | file | concept |
//! | --- | --- |
//! | `threads` | ranks as threads of one process: for tests and benchmarks |
//! | `mpi` | ranks as processes that `mpirun` or `srun` has started (feature `mpi`) |
//! | [`launch`] | whether there are several, and joining them |
//! | [`exchange`] | gradients to those who update, new weights to all |
//! | `rank_batch` | which part of a batch a rank computes |
//! | `identity` | whether all ranks are about to run the same thing |
//! | [`step_barrier`] | what ranks tell each other before and after each step |
//! | [`monitor`] | who went missing |

pub mod exchange;
pub(crate) mod identity;
pub mod launch;
pub mod monitor;
#[cfg(feature = "mpi")]
mod mpi;
pub(crate) mod rank_batch;
pub mod step_barrier;
mod threads;

use std::cell::Cell;
use std::fmt::Debug;
use std::time::Instant;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TrainError;

#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use threads::Threads;

/// How bytes travel between ranks. All ranks call the same operations in the same order; each waits
/// for all.
pub trait Communicator: Debug {
    /// Which process this is, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn world_size(&self) -> usize;

    /// Which process of its machine this is, from 0: the index of its GPU.
    fn local_rank(&self) -> usize;

    /// Where this process runs.
    fn host(&self) -> String;

    /// What each rank gave, the same on every rank.
    ///
    /// # Errors
    /// If a rank is gone.
    fn all_gather(&self, mine: &[u8]) -> Result<Received, TrainError>;

    /// `counts[r]` bytes of `send`, one rank's after the other's, go to rank `r`; back comes what
    /// each rank had for this one.
    ///
    /// # Errors
    /// If a rank is gone.
    fn all_to_all(&self, send: &[u8], counts: &[usize]) -> Result<Received, TrainError>;

    /// Ends the communication cleanly; every rank calls it, or none.
    fn finish(&self) {}
}

/// What came from each rank, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// How many are of each rank.
    pub counts: Vec<usize>,
}

impl Received {
    /// The bytes of each rank, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.counts.iter().map(move |&count| {
            let (part, after) = rest.split_at(count);
            rest = after;
            part
        })
    }
}

/// A single process.
#[derive(Debug)]
struct Alone;

impl Communicator for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        1
    }

    fn local_rank(&self) -> usize {
        0
    }

    fn host(&self) -> String {
        "this machine".into()
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Received, TrainError> {
        Ok(Received { bytes: mine.to_vec(), counts: vec![mine.len()] })
    }

    fn all_to_all(&self, send: &[u8], _: &[usize]) -> Result<Received, TrainError> {
        self.all_gather(send)
    }
}

/// What a rank has sent, and how long it was busy with that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Bytes given to other ranks; what all get is counted once for each.
    pub bytes_sent: u64,
    /// Seconds in communication, waiting for others included.
    pub seconds: f64,
}

impl Traffic {
    /// What was added to `before`.
    pub fn since(self, before: Self) -> Self {
        Self { bytes_sent: self.bytes_sent - before.bytes_sent, seconds: self.seconds - before.seconds }
    }
}

/// All ranks of a run, seen from one of them.
#[derive(Debug)]
pub struct World {
    communicator: Box<dyn Communicator>,
    traffic: Cell<Traffic>,
}

impl Default for World {
    fn default() -> Self {
        Self::new(Box::new(Alone))
    }
}

impl World {
    /// The ranks that `communicator` reaches.
    pub fn new(communicator: Box<dyn Communicator>) -> Self {
        Self { communicator, traffic: Cell::default() }
    }

    /// Which process this is, from 0.
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.communicator.world_size()
    }

    /// Which process of its machine this is.
    pub fn local_rank(&self) -> usize {
        self.communicator.local_rank()
    }

    /// Where this process runs.
    pub fn host(&self) -> String {
        self.communicator.host()
    }

    /// Whether this is rank 0, which writes files and logs.
    pub fn is_main(&self) -> bool {
        self.rank() == 0
    }

    /// What went to the other ranks so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic.get()
    }

    /// See [`Communicator::all_gather`].
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn all_gather(&self, mine: &[u8]) -> Result<Received, TrainError> {
        let bytes = mine.len() * (self.size() - 1);
        self.counted(bytes, || self.communicator.all_gather(mine))
    }

    /// See [`Communicator::all_to_all`].
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn all_to_all(&self, send: &[u8], counts: &[usize]) -> Result<Received, TrainError> {
        let bytes = send.len() - counts[self.rank()];
        self.counted(bytes, || self.communicator.all_to_all(send, counts))
    }

    /// A message of each rank, in rank order.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn all_gather_object<T: Serialize + DeserializeOwned>(&self, mine: &T) -> Result<Vec<T>, TrainError> {
        let received = self.all_gather(&serde_json::to_vec(mine).map_err(malformed)?)?;
        received.parts().map(|bytes| serde_json::from_slice(bytes).map_err(malformed)).collect()
    }

    /// The message of rank 0, on every rank; the messages of the others are ignored.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn broadcast<T: Serialize + DeserializeOwned>(&self, mine: &T) -> Result<T, TrainError> {
        let bytes = if self.is_main() { serde_json::to_vec(mine).map_err(malformed)? } else { Vec::new() };
        let received = self.all_gather(&bytes)?;
        serde_json::from_slice(received.parts().next().unwrap_or_default()).map_err(malformed)
    }

    /// What each rank gave, on rank 0; nothing on the others.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn gather_to_main(&self, mine: &[u8]) -> Result<Received, TrainError> {
        let mut counts = vec![0; self.size()];
        counts[0] = mine.len();
        self.all_to_all(mine, &counts)
    }

    /// Waits for all ranks.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn barrier(&self) -> Result<(), TrainError> {
        self.all_gather(&[]).map(drop)
    }

    /// `result` where every rank has one; else, on every rank, the error of the first that has
    /// none.
    ///
    /// # Errors
    /// That error, and if a rank is gone.
    pub fn all_or_none<T>(&self, result: Result<T, TrainError>) -> Result<T, TrainError> {
        if self.size() == 1 {
            return result;
        }
        let problems = self.all_gather_object(&result.as_ref().err().map(ToString::to_string))?;
        match problems.into_iter().enumerate().find_map(|(rank, problem)| Some((rank, problem?))) {
            Some((rank, reason)) => Err(TrainError::Rank { rank, reason }),
            None => result,
        }
    }

    /// Ends the communication cleanly, for a run that all ranks end alike.
    pub fn finish(&self) {
        self.communicator.finish();
    }

    fn counted<T>(&self, bytes: usize, exchange: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let received = exchange();
        let Traffic { bytes_sent, seconds } = self.traffic.get();
        let seconds = seconds + began.elapsed().as_secs_f64();
        self.traffic.set(Traffic { bytes_sent: bytes_sent + bytes as u64, seconds });
        received
    }
}

fn malformed(error: serde_json::Error) -> TrainError {
    TrainError::Lost(format!("a message between ranks cannot be read ({error}): are all of one version?"))
}

/// `values` as they are in memory.
pub(crate) fn bytes_of(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// Values from bytes, wherever they lie.
pub(crate) fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}
