//! Writes the batch whose loss or gradient was not finite to disk, so that it can be inspected.

use std::path::PathBuf;

use needle_data::order::stream::Cursor;
use needle_data::{DataError, Tokenizer, file};

use crate::distributed::World;
use crate::distributed::rank_batch::RankBatch;
use crate::error::TrainError;
use crate::run::directory::RunDir;

/// Writes `batch` as ids and as text, with the positions of its lanes, into the run's directory;
/// returns the file.
///
/// # Errors
/// If it cannot be written.
pub fn write(
    run: &RunDir,
    world: &World,
    (step, what): (usize, &str),
    cursors: &[Cursor],
    batch: &RankBatch,
    tokenizer: &Tokenizer,
) -> Result<PathBuf, TrainError> {
    let name = match world.rank() {
        0 => "not_finite.json".to_owned(),
        rank => format!("not_finite.{rank}.json"),
    };
    let path = run.path().join(name);
    let batches: Vec<_> = batch.lanes.iter().map(|lane| &lane.batch).collect();
    let texts: Vec<_> = batches.iter().flat_map(|batch| batch.rows_as_text(tokenizer)).collect();
    let text = serde_json::to_vec(&serde_json::json!({
        "step": step, "what": what, "cursors": cursors, "batches": batches, "texts": texts,
    }));
    file::write_atomically(&path, &text.map_err(|e| DataError::io(&path, e.into()))?)?;
    Ok(path)
}
