//! Ranks as processes that an MPI launcher has started: `mpirun`, `srun`, the MPI operator of
//! Kubeflow.

use std::cell::RefCell;

use mpi::collective::CommunicatorCollectives;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::{Communicator as _, SimpleCommunicator};
use mpi::{Count, Threading};

use super::{Communicator, Received};
use crate::error::TrainError;

/// One of several MPI processes.
pub struct Mpi {
    world: SimpleCommunicator,
    // Kept, because MPI cannot be asked any more once it is finalized.
    rank: usize,
    world_size: usize,
    host: String,
    local_rank: usize,
    /// Dropped only where all ranks do so: `MPI_Finalize` waits for all.
    universe: RefCell<Option<Universe>>,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mpi({} of {})", self.rank, self.world_size)
    }
}

impl Mpi {
    /// Joins the other processes. Only the thread that calls this may communicate with them.
    ///
    /// # Errors
    /// If MPI is already initialized.
    pub fn join() -> Result<Self, TrainError> {
        let universe = mpi::initialize_with_threading(Threading::Funneled);
        let (universe, _) = universe.ok_or_else(|| TrainError::Lost("MPI is already initialized".into()))?;
        let world = universe.world();
        let (rank, world_size) = (world.rank() as usize, world.size() as usize);
        let local_rank = world.split_shared(world.rank()).rank() as usize;
        let host = mpi::environment::processor_name().unwrap_or_else(|_| "an unnamed host".into());
        Ok(Self { world, rank, world_size, host, local_rank, universe: RefCell::new(Some(universe)) })
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // After an error on this rank alone, `MPI_Finalize` would wait forever for the others.
        std::mem::forget(self.universe.take());
    }
}

/// The offset of each part.
fn starts(counts: &[Count]) -> Vec<Count> {
    counts
        .iter()
        .scan(0, |end, count| {
            *end += count;
            Some(*end - count)
        })
        .collect()
}

/// `lengths` as MPI's counts, which have 32 bits.
fn counts_of(lengths: &[usize]) -> Result<Vec<Count>, TrainError> {
    let too_much = |_| {
        TrainError::Lost(format!("a message has {} MB, MPI allows at most 2147", lengths.iter().sum::<usize>() >> 20))
    };
    let counts = lengths.iter().map(|&n| Count::try_from(n)).collect::<Result<Vec<_>, _>>().map_err(too_much)?;
    Count::try_from(lengths.iter().sum::<usize>()).map_err(too_much)?;
    Ok(counts)
}

/// Gives an empty slice a real address: the address of an empty `Vec` has the value of OpenMPI's
/// `MPI_IN_PLACE`.
fn placed(bytes: &[u8]) -> &[u8] {
    static PLACE: [u8; 1] = [0];
    if bytes.is_empty() { &PLACE[..0] } else { bytes }
}

fn zeros(length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length.max(1));
    bytes.resize(length, 0);
    bytes
}

fn received(bytes: Vec<u8>, counts: &[Count]) -> Received {
    Received { bytes, counts: counts.iter().map(|&count| count as usize).collect() }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn host(&self) -> String {
        self.host.clone()
    }

    fn all_gather(&self, mine: &[u8]) -> Result<Received, TrainError> {
        let mut lengths = vec![0u64; self.world_size];
        self.world.all_gather_into(&(mine.len() as u64), &mut lengths[..]);
        let lengths: Vec<usize> = lengths.into_iter().map(|n| n as usize).collect();
        let counts = counts_of(&lengths)?;
        let mut bytes = zeros(lengths.iter().sum());
        let mut parts = PartitionMut::new(&mut bytes[..], &counts[..], starts(&counts));
        self.world.all_gather_varcount_into(placed(mine), &mut parts);
        Ok(received(bytes, &counts))
    }

    fn all_to_all(&self, send: &[u8], counts: &[usize]) -> Result<Received, TrainError> {
        let lengths: Vec<u64> = counts.iter().map(|&n| n as u64).collect();
        let mut coming = vec![0u64; self.world_size];
        self.world.all_to_all_into(&lengths[..], &mut coming[..]);
        let coming: Vec<usize> = coming.into_iter().map(|n| n as usize).collect();
        let (send_counts, counts) = (counts_of(counts)?, counts_of(&coming)?);
        let mut bytes = zeros(coming.iter().sum());
        let sent = Partition::new(placed(send), &send_counts[..], starts(&send_counts));
        let mut parts = PartitionMut::new(&mut bytes[..], &counts[..], starts(&counts));
        self.world.all_to_all_varcount_into(&sent, &mut parts);
        Ok(received(bytes, &counts))
    }

    fn finish(&self) {
        drop(self.universe.take());
    }
}
