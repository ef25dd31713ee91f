//! The real model: [`Model`] for [`needle_runtime::Needle`].

use std::path::Path;
use std::sync::Arc;

use needle_data::Tool;
use needle_runtime::{AnswerConfig, Needle, RuntimeError};

use crate::model::{Answer, Embedded, Model, ModelError, OnPiece, Piece, Question};

/// Loads the model in `path`: a checkpoint, the result of a run, or an exported artifact.
///
/// # Errors
/// What is wrong with it, in words.
pub fn load(path: &Path) -> Result<Arc<dyn Model>, String> {
    // Catalogues come from clients, so their vectors must not fill the disk.
    let needle = Needle::load(path).map_err(|error| error.to_string())?.in_memory();
    Ok(Arc::new(Loaded { needle }))
}

/// A loaded model.
struct Loaded {
    needle: Needle,
}

impl Model for Loaded {
    fn answer(&self, question: &Question, on_piece: &mut OnPiece<'_>) -> Result<Answer, ModelError> {
        let defaults = self.needle.config();
        if question.abstain_below.is_some() && self.needle.confidence().is_none() {
            let reason = "abstain_below: this model has no calibrated confidence; `needle eval --calibrate` adds one";
            return Err(ModelError::Unsupported(reason.into()));
        }
        let longest = self.needle.model_config().max_dec_len;
        let config = AnswerConfig {
            min_calls: question.min_calls,
            max_calls: question.max_calls.unwrap_or(defaults.max_calls).min(defaults.max_calls),
            max_tokens: question.max_tokens.map(|most| most.min(longest)).or(defaults.max_tokens),
            abstain_below: question.abstain_below,
            ..defaults.clone()
        };
        let needle = self.needle.clone().with_config(config).map_err(failed)?;
        let answer = needle.call_watched(&question.query, &question.tools, |piece| {
            on_piece(Piece { bytes: piece.bytes, probability: piece.probability })
        });
        let answer = answer.map_err(failed)?;
        // Count the tokens of the prompt as it was read, after truncation.
        let offered: Vec<Tool> = match &answer.picked {
            Some(names) => {
                let tool = |name: &String| question.tools.iter().find(|tool| tool.name == *name).cloned();
                names.iter().filter_map(tool).collect()
            }
            None => question.tools.clone(),
        };
        let prompt_tokens = needle.encoder().prompt(&question.query, &offered).0.len();
        Ok(Answer {
            calls: answer.calls,
            confidence: answer.confidence,
            abstained: answer.abstained,
            is_complete: answer.is_complete,
            violations: answer.violations,
            cut: answer.cut,
            picked: answer.picked,
            prompt_tokens,
            completion_tokens: answer.token_ids.len(),
            seconds: answer.seconds,
        })
    }

    fn is_calibrated(&self) -> bool {
        self.needle.confidence().is_some()
    }

    fn similarities(&self, query: &str, tools: &[Tool]) -> Result<Vec<f32>, ModelError> {
        self.ensure_head()?;
        let catalogue = self.needle.catalogue(tools).map_err(failed)?;
        let mut similarities = vec![0.0; tools.len()];
        for (index, cosine) in self.needle.rank(query, &catalogue).map_err(failed)? {
            similarities[index] = cosine;
        }
        Ok(similarities)
    }

    fn embed(&self, texts: &[String]) -> Result<Embedded, ModelError> {
        self.ensure_head()?;
        let mut embedded = Embedded::default();
        for text in texts {
            embedded.tokens += self.needle.encoder().query_ids(text).len();
            embedded.vectors.extend(self.needle.embed(text).map_err(failed)?);
        }
        Ok(embedded)
    }
}

impl Loaded {
    fn ensure_head(&self) -> Result<(), ModelError> {
        match self.needle.model_config().contrastive_dim {
            None => Err(ModelError::Unsupported("this model has no retrieval head".into())),
            Some(_) => Ok(()),
        }
    }
}

/// Tells errors of the question from failures of the model.
fn failed(error: RuntimeError) -> ModelError {
    match error {
        RuntimeError::Question { .. } | RuntimeError::Tools(_) | RuntimeError::Prompt { .. } => {
            ModelError::Question(error.to_string())
        }
        RuntimeError::Config { field: "tools", .. } => ModelError::Question(error.to_string()),
        other => ModelError::Failed(other.to_string()),
    }
}
