//! Embeddings of single tools, cached across questions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::error::RuntimeError;
use crate::network::Network;

/// Maximum number of cached tools. It bounds the memory of a server whose clients keep bringing new
/// tools.
const REMEMBERED: usize = 4096;

/// Cache of the retrieval head's unit vectors of tools, by token ids.
#[derive(Debug, Default)]
pub struct ToolVectors {
    known: Mutex<HashMap<Vec<u32>, Vec<f32>>>,
}

impl ToolVectors {
    /// A vector for each of `texts` (from [`super::tool_texts`]). `network` computes those that are
    /// not cached. `None` if the model has no retrieval head.
    ///
    /// # Errors
    /// If the network cannot embed a text.
    pub fn of(&self, network: &dyn Network, texts: Vec<Vec<u32>>) -> Result<Option<Vec<Vec<f32>>>, RuntimeError> {
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut vectors: Vec<Option<Vec<f32>>> = {
            let known = known();
            texts.iter().map(|text| known.get(text).cloned()).collect()
        };
        let missing: Vec<usize> = (0..texts.len()).filter(|&i| vectors[i].is_none()).collect();
        if !missing.is_empty() {
            let new: Vec<Vec<u32>> = missing.iter().map(|&i| texts[i].clone()).collect();
            let Some(embedded) = network.embed(&new)? else { return Ok(None) };
            let mut known = known();
            if known.len() + new.len() > REMEMBERED {
                known.clear();
            }
            for ((i, text), vector) in missing.into_iter().zip(new).zip(embedded) {
                known.insert(text, vector.clone());
                vectors[i] = Some(vector);
            }
        }
        Ok(Some(vectors.into_iter().flatten().collect()))
    }
}
