//! Data-parallel training over several processes: the messages between them, and the share of each.
//!
//! Every rank has all weights, computes the gradient of its share of the batch, updates its share
//! of the weights, and receives the rest from the others. A run on N ranks takes the same steps as
//! a run on one, up to rounding.
//!
//! | file | concept |
//! | --- | --- |
//! | `threads` | ranks as threads of one process: for tests and benchmarks |
//! | `mpi` | ranks as processes started by `mpirun` or `srun` (feature `mpi`) |
//! | [`launch`] | detects whether there are several processes, and joins them |
//! | [`exchange`] | reduce-scatter of gradients, all-gather of weights |
//! | `rank_batch` | which part of a batch a rank computes |
//! | `identity` | checks that all ranks are about to run the same training |
//! | [`step_barrier`] | the messages before and after each step |
//! | [`monitor`] | detects ranks that went missing |

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

/// Collective operations on bytes. All ranks must call the same operations in the same order; each
/// call waits for all ranks.
pub trait Communicator: Debug {
    /// The index of this process, from 0.
    fn rank(&self) -> usize;

    /// Number of processes.
    fn world_size(&self) -> usize;

    /// The index of this process on its machine, from 0; it is also the index of its GPU.
    fn local_rank(&self) -> usize;

    /// The name of this process's host.
    fn host(&self) -> String;

    /// Gathers `mine` of all ranks, on every rank.
    ///
    /// # Errors
    /// If a rank is gone.
    fn all_gather(&self, mine: &[u8]) -> Result<Received, TrainError>;

    /// Sends `counts[r]` bytes of `send` to each rank `r`, in rank order, and returns what each
    /// rank sent to this one.
    ///
    /// # Errors
    /// If a rank is gone.
    fn all_to_all(&self, send: &[u8], counts: &[usize]) -> Result<Received, TrainError>;

    /// Shuts the communication down; either every rank calls it or none.
    fn finish(&self) {}
}

/// The bytes received from each rank, in rank order.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Number of bytes from each rank.
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

/// How much a rank has sent, and how long its communication took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Traffic {
    /// Bytes sent to other ranks; what goes to all is counted once for each.
    pub bytes_sent: u64,
    /// Seconds in communication, waiting for others included.
    pub seconds: f64,
}

impl Traffic {
    /// The traffic since the earlier reading `before`.
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
    /// The world of the ranks that `communicator` connects.
    pub fn new(communicator: Box<dyn Communicator>) -> Self {
        Self { communicator, traffic: Cell::default() }
    }

    /// The index of this process, from 0.
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// Number of processes.
    pub fn size(&self) -> usize {
        self.communicator.world_size()
    }

    /// The index of this process on its machine.
    pub fn local_rank(&self) -> usize {
        self.communicator.local_rank()
    }

    /// The name of this process's host.
    pub fn host(&self) -> String {
        self.communicator.host()
    }

    /// Whether this is rank 0, which writes files and logs.
    pub fn is_main(&self) -> bool {
        self.rank() == 0
    }

    /// The traffic so far.
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

    /// Gathers a message from every rank, in rank order.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn all_gather_object<T: Serialize + DeserializeOwned>(&self, mine: &T) -> Result<Vec<T>, TrainError> {
        let received = self.all_gather(&serde_json::to_vec(mine).map_err(malformed)?)?;
        received.parts().map(|bytes| serde_json::from_slice(bytes).map_err(malformed)).collect()
    }

    /// Returns rank 0's message on every rank; the messages of the others are ignored.
    ///
    /// # Errors
    /// If a rank is gone.
    pub fn broadcast<T: Serialize + DeserializeOwned>(&self, mine: &T) -> Result<T, TrainError> {
        let bytes = if self.is_main() { serde_json::to_vec(mine).map_err(malformed)? } else { Vec::new() };
        let received = self.all_gather(&bytes)?;
        serde_json::from_slice(received.parts().next().unwrap_or_default()).map_err(malformed)
    }

    /// Gathers `mine` of all ranks on rank 0; the others get nothing.
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

    /// Returns `result` if all ranks succeeded; otherwise, on every rank, the error of the first
    /// rank that failed.
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

    /// Shuts the communication down at the end of a run that all ranks end in the same way.
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
    TrainError::Lost(format!("a message between ranks cannot be read ({error}): do all ranks run the same version?"))
}

/// The bytes of `values` in memory.
pub(crate) fn bytes_of(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// The values in `bytes`, which need not be aligned.
pub(crate) fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(bytes)
}
