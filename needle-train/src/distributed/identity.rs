//! Checks that all ranks are about to run the same training.

use needle_data::order::stream::Sources;
use needle_data::tokenizer::hex;
use needle_model::checkpoint::weights_to_bytes;
use needle_model::{FusedOps, San};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::World;
use crate::error::TrainError;
use crate::recipe::Recipe;

/// What must be the same on every rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    host: String,
    version: String,
    recipe: Recipe,
    tokenizer: String,
    data: String,
    weights: String,
    step: usize,
}

impl Identity {
    /// The identity of this rank.
    ///
    /// # Errors
    /// If the data cannot be listed.
    pub fn new<B: FusedOps>(
        world: &World,
        recipe: &Recipe,
        tokenizer: &needle_data::Tokenizer,
        data: &Sources,
        model: &San<B>,
        step: usize,
    ) -> Result<Self, TrainError> {
        let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes)[..8]);
        Ok(Self {
            host: world.host(),
            version: env!("CARGO_PKG_VERSION").into(),
            recipe: recipe.clone(),
            tokenizer: hash(tokenizer.to_json().as_bytes()),
            data: data.fingerprint()?,
            weights: hash(&weights_to_bytes(model)?),
            step,
        })
    }

    /// How this rank differs from rank 0; `None` if it does not.
    fn difference(&self, main: &Self) -> Option<String> {
        let texts = [
            ("program version", &self.version, &main.version),
            ("tokenizer", &self.tokenizer, &main.tokenizer),
            ("data listing (names, lengths, weights)", &self.data, &main.data),
            ("starting weights", &self.weights, &main.weights),
        ];
        let recipe = self.recipe.differences(&main.recipe);
        if !recipe.is_empty() {
            return Some(format!(
                "has a different recipe: {}",
                recipe.join("; ").replace(", was ", ", on rank 0 it is ")
            ));
        }
        if let Some((what, mine, other)) = texts.into_iter().find(|(_, mine, other)| mine != other) {
            return Some(format!("has a different {what}: {mine}, on rank 0 it is {other}"));
        }
        (self.step != main.step).then(|| {
            format!(
                "continues after step {}, but rank 0 after step {}; is --out the same directory?",
                self.step, main.step
            )
        })
    }
}

/// Compares all ranks to rank 0.
///
/// # Errors
/// On every rank, if one differs; the message names the rank, its host and the difference.
pub fn compare(world: &World, own: &Identity) -> Result<(), TrainError> {
    if world.size() == 1 {
        return Ok(());
    }
    let all = world.all_gather_object(own)?;
    for (rank, other) in all.iter().enumerate() {
        if let Some(difference) = other.difference(&all[0]) {
            return Err(TrainError::Rank { rank, reason: format!("refused: {} {difference}", other.host) });
        }
    }
    Ok(())
}
