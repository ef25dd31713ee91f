//! The messages that ranks exchange before and after each step.

use needle_data::encode::PairKey;
use serde::{Deserialize, Serialize};

use super::World;
use super::rank_batch::{LaneBatch, RankBatch, keys_of};
use crate::error::TrainError;
use crate::training::loss::StepLosses;

/// What each rank sends before a step: whether it has its rows, whether it was asked to stop, and
/// the size of its share.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Present {
    step: usize,
    /// Whether this rank was asked to stop.
    stop: bool,
    /// The error that stops this rank.
    problem: Option<String>,
    num_targets: usize,
    pairs: Vec<PairKey>,
}

/// What the ranks do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// All ranks take the step.
    Go(RankBatch),
    /// A rank was asked to stop, so all ranks stop after the same step.
    Stop,
}

/// Agrees with the other ranks on step `step`, for which this rank has `lanes`.
///
/// # Errors
/// On all ranks, if one has an error or is gone.
pub fn before_step(
    world: &World,
    step: usize,
    lanes: Result<Vec<LaneBatch>, TrainError>,
    stop: bool,
    max_pairs: usize,
) -> Result<Decision, TrainError> {
    let (lanes, problem) = match lanes {
        Ok(lanes) => (lanes, None),
        Err(error) if world.size() == 1 => return Err(error),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let num_targets = lanes.iter().map(|lane| lane.batch.num_targets()).sum();
    let all = world.all_gather_object(&Present { step, stop, problem, num_targets, pairs: keys_of(&lanes) })?;
    for (rank, present) in all.iter().enumerate() {
        let problem = present.problem.clone();
        let other_step = (present.step != step).then(|| format!("is at step {}, this rank at {step}", present.step));
        if let Some(reason) = problem.or(other_step) {
            return Err(TrainError::Rank { rank, reason });
        }
    }
    if all.iter().any(|present| present.stop) {
        return Ok(Decision::Stop);
    }
    let num_targets = all.iter().map(|present| present.num_targets).sum();
    let keys: Vec<Vec<PairKey>> = all.into_iter().map(|present| present.pairs).collect();
    Ok(Decision::Go(RankBatch::new(lanes, num_targets, &keys, world.rank(), max_pairs)))
}

/// The sums over all ranks, after the gradients.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Losses of the whole batch.
    pub losses: StepLosses,
    /// Its global gradient norm.
    pub gradient_norm: f64,
    /// Examples of the batch.
    pub examples: usize,
    /// Tokens of the batch, without padding.
    pub tokens: usize,
    /// Epoch of the lane that is furthest behind.
    pub epoch: u64,
}

/// A rank's contribution to [`after_gradients`].
#[derive(Debug, Clone, Copy)]
pub struct RankStep {
    /// Losses of its share.
    pub losses: StepLosses,
    /// Squared gradient norm of its pieces.
    pub squared_norm: f64,
    /// Epoch of its lane that is furthest behind.
    pub epoch: u64,
    /// Seconds that it took to read and compute.
    pub seconds: f64,
}

/// Sums the contributions of all ranks and returns the totals, with each rank's seconds; the result
/// is the same on every rank.
///
/// # Errors
/// If a rank is gone.
pub fn after_gradients(world: &World, share: &RankBatch, part: &RankStep) -> Result<(Totals, Vec<f64>), TrainError> {
    let count = |f: fn(&LaneBatch) -> usize| share.lanes.iter().map(f).sum::<usize>() as f64;
    let RankStep { losses, squared_norm, epoch, seconds } = *part;
    let numbers = [
        losses.cross_entropy,
        losses.z,
        losses.contrastive.unwrap_or(0.0),
        f64::from(u8::from(losses.contrastive.is_some())),
        losses.total,
        squared_norm,
        count(|lane| lane.batch.num_examples),
        count(|lane| lane.batch.num_tokens()),
        epoch as f64,
        seconds,
        losses.alignment.unwrap_or(0.0),
    ];
    // Sent as bytes, because JSON has no infinity and no NaN.
    let received = world.all_gather(bytemuck::cast_slice(&numbers))?;
    let all: Vec<Vec<f64>> = received.parts().map(bytemuck::pod_collect_to_vec).collect();
    let sum = |i: usize| all.iter().map(|numbers| numbers[i]).sum::<f64>();
    let totals = Totals {
        losses: StepLosses {
            cross_entropy: sum(0),
            z: sum(1),
            alignment: losses.alignment.map(|_| sum(10)),
            contrastive: (sum(3) > 0.0).then(|| sum(2)),
            total: sum(4),
            quantized: losses.quantized,
        },
        gradient_norm: sum(5).sqrt(),
        examples: sum(6) as usize,
        tokens: sum(7) as usize,
        epoch: all.iter().map(|numbers| numbers[8] as u64).min().unwrap_or(0),
    };
    Ok((totals, all.iter().map(|numbers| numbers[9]).collect()))
}

/// Finds slow ranks, for which the others wait.
#[derive(Debug, Default)]
pub struct Stragglers {
    /// Running means of each rank's seconds per step.
    means: Vec<f64>,
    steps: usize,
}

/// A rank that takes this many times as long as the median rank is slow.
const SLOW: f64 = 1.5;
/// Weight of a new step in the running mean.
const RECENT: f64 = 0.1;
/// Number of steps before the first check, and between two.
const JUDGE_EVERY: usize = 20;

/// A slow rank, for which the others wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Straggler {
    /// The rank.
    pub rank: usize,
    /// Seconds that it takes for a step.
    pub seconds: f64,
    /// Seconds that the median rank takes.
    pub median_seconds: f64,
}

impl Stragglers {
    /// Adds each rank's seconds for a step. Every `JUDGE_EVERY` steps, returns the ranks that are
    /// slow.
    pub fn add(&mut self, seconds: &[f64]) -> Vec<Straggler> {
        if self.means.len() != seconds.len() {
            *self = Self { means: seconds.to_vec(), steps: 0 };
        }
        self.means.iter_mut().zip(seconds).for_each(|(mean, new)| *mean += RECENT * (new - *mean));
        self.steps += 1;
        if !self.steps.is_multiple_of(JUDGE_EVERY) {
            return Vec::new();
        }
        let mut sorted = self.means.clone();
        sorted.sort_by(f64::total_cmp);
        // Of two ranks, the faster one's.
        let median_seconds = sorted[(sorted.len() - 1) / 2];
        let slow = self.means.iter().enumerate().filter(|(_, mean)| **mean > SLOW * median_seconds);
        slow.map(|(rank, &seconds)| Straggler { rank, seconds, median_seconds }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::Threads;

    #[test]
    fn one_that_is_asked_to_stop_stops_all_and_one_with_a_problem_is_named() {
        let decisions = Threads::run(3, |world| {
            let ask = |stop, lanes| before_step(&world, 7, lanes, stop, 8);
            let stop = ask(world.rank() == 2, Ok(Vec::new())).unwrap();
            let problem =
                if world.rank() == 1 { Err(TrainError::Lost("a.jsonl:3: not JSON".into())) } else { Ok(Vec::new()) };
            (stop, ask(false, problem).unwrap_err().to_string())
        });
        for (stop, problem) in decisions {
            assert_eq!(stop, Decision::Stop);
            assert_eq!(problem, "rank 1: a.jsonl:3: not JSON");
        }
    }

    #[test]
    fn a_rank_that_keeps_the_others_waiting_is_found_and_one_slow_step_is_not() {
        let mut stragglers = Stragglers::default();
        let slow: Vec<_> = (0..40).flat_map(|_| stragglers.add(&[1.0, 1.1, 2.0, 0.9])).collect();
        assert_eq!(slow.iter().map(|s| s.rank).collect::<Vec<_>>(), [2, 2]);
        let mut stragglers = Stragglers::default();
        let once = (0..40).flat_map(|step| stragglers.add(&[1.0, if step == 5 { 3.0 } else { 1.0 }]));
        assert_eq!(once.count(), 0);
    }
}
