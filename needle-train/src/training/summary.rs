//! The log lines at the end of a run.

use needle_data::source::Counts;

use crate::distributed::World;
use crate::error::TrainError;
use crate::run::memory::peak_rss_mb;
use crate::run::state::Progress;
use crate::run::tracking::Tracker;

/// Sums the counts of all ranks, and logs them with peak memory and skipped steps.
///
/// # Errors
/// If a rank is gone.
pub fn log(
    world: &World,
    tracker: Option<&Tracker>,
    progress: &Progress,
    (own_counts, has_lost_patience): (&Counts, bool),
) -> Result<Counts, TrainError> {
    let of_ranks = world.all_gather_object(&(own_counts.clone(), peak_rss_mb()))?;
    let mut counts = Counts::default();
    of_ranks.iter().for_each(|(more, _)| counts.merge(more));
    let Some(tracker) = tracker else { return Ok(counts) };
    tracker.finish();
    if has_lost_patience {
        let (validations, step) = (progress.early_stopping.validations_since_best, progress.step);
        tracker.message(&format!("no better result in {validations} validations: stopped early after step {step}"));
    }
    tracker.message(&format!("while training: {counts}"));
    if world.size() > 1 {
        let peaks: Vec<String> = of_ranks.iter().map(|(_, mb)| format!("{:.0}", mb.unwrap_or(f64::NAN))).collect();
        tracker.message(&format!("peak memory of each rank in MB: {}", peaks.join(" ")));
    }
    if progress.stability.skipped_steps > 0 {
        tracker.message(&format!("{} steps skipped: loss or gradient not finite", progress.stability.skipped_steps));
    }
    Ok(counts)
}
