//! Detects whether a launcher started this process as one of several, and joins the others.

use super::World;
use crate::error::TrainError;

/// Environment variables by which launchers pass the number of processes and the rank of each.
const NAMES: [[&str; 2]; 4] = [
    // OpenMPI's mpirun.
    ["OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"],
    // MPICH, Intel MPI, and Slurm's srun with PMI2.
    ["PMI_SIZE", "PMI_RANK"],
    ["MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"],
    // Slurm's srun, with any kind of MPI; sbatch alone does not set the first variable.
    ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID"],
];

/// How this process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Processes that were started together.
    pub num_processes: usize,
    /// Which of them this is.
    pub rank: usize,
}

impl Launch {
    /// Reads the variables that the launcher has set; `variable` looks one up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str| variable(name)?.parse().ok();
        let found = NAMES.iter().find_map(|[size, rank]| Some((number(size)?, number(rank)?)));
        let (num_processes, rank) = found.unwrap_or((1, 0));
        Self { num_processes, rank }
    }

    /// Joins the others, if there are any.
    ///
    /// # Errors
    /// If there are, and this program was built without MPI.
    pub fn join(self) -> Result<World, TrainError> {
        if self.num_processes == 1 {
            return Ok(World::default());
        }
        #[cfg(feature = "mpi")]
        {
            let mpi = super::Mpi::join()?;
            let joined = super::Communicator::world_size(&mpi);
            if joined != self.num_processes {
                let count = self.num_processes;
                return Err(TrainError::Lost(format!(
                    "{count} processes were started, but MPI knows of {joined}: does the launcher belong to the MPI that this \
                     program was built with? (with Slurm: srun --mpi=pmix)"
                )));
            }
            Ok(World::new(Box::new(mpi)))
        }
        #[cfg(not(feature = "mpi"))]
        Err(TrainError::Lost(format!(
            "{} processes were started, but this program was built without MPI; build it with --features mpi",
            self.num_processes
        )))
    }

    /// Checks that this is the only process.
    ///
    /// # Errors
    /// If several processes were started for a command that runs in one.
    pub fn one(self) -> Result<(), TrainError> {
        match self.num_processes {
            1 => Ok(()),
            n => Err(TrainError::Lost(format!(
                "{n} processes were started; only train, pretrain and bench allreduce run on several"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_says_how_many_and_nobody_means_one() {
        let launch = |set: &'static [(&str, &str)]| {
            let found = |asked: &str| set.iter().find(|(name, _)| *name == asked).map(|(_, value)| (*value).to_owned());
            let Launch { num_processes, rank } = Launch::from_variables(found);
            (num_processes, rank)
        };
        assert_eq!(launch(&[("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_RANK", "2")]), (4, 2));
        assert_eq!(launch(&[("SLURM_STEP_NUM_TASKS", "16"), ("SLURM_PROCID", "15")]), (16, 15));
        // An allocation of sbatch, in which a single process runs.
        assert_eq!(launch(&[("SLURM_NTASKS", "16"), ("SLURM_PROCID", "0")]), (1, 0));
    }

    #[test]
    #[cfg(not(feature = "mpi"))]
    fn several_processes_without_mpi_are_refused() {
        let error = Launch { num_processes: 4, rank: 0 }.join().unwrap_err().to_string();
        assert!(error.contains("4 processes") && error.contains("--features mpi"), "{error}");
    }
}
