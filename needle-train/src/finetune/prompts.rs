//! Checks that the prompts fit into the model: a tool that is cut off can be neither read nor
//! called.

use burn::backend::Autodiff;
use needle_data::{Encoder, Place};
use needle_model::FusedOps;

use super::{Parts, Settings};
use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::training::trainer::{Start, encode_config};

/// Checks that the rows of `recipe` hold the prompts of all parts. If the user has chosen to cut
/// longer ones, returns a warning instead of an error.
///
/// # Errors
/// If a prompt is too long and may not be cut; the message names the longest, and what to do.
pub(super) fn check_prompts<B: FusedOps>(
    recipe: &Recipe,
    start: &Start<Autodiff<B>>,
    parts: &Parts,
    settings: Settings<'_>,
) -> Result<Option<String>, TrainError> {
    let encoder = Encoder::new(&start.tokenizer, encode_config(recipe))?;
    let most = recipe.data.row_enc_tokens.longest();
    let mut longest: Option<(usize, &Place)> = None;
    let (mut num_too_long, mut num_examples) = (0, 0);
    for (place, example) in parts.placed() {
        num_examples += 1;
        let (ids, cut) = encoder.prompt(&example.query, &example.tools);
        if cut == 0 {
            continue;
        }
        num_too_long += 1;
        let tokens = ids.len() + cut;
        if longest.is_none_or(|(length, _)| tokens > length) {
            longest = Some((tokens, place));
        }
    }
    let Some((tokens, place)) = longest else { return Ok(None) };
    if settings.cut_long_prompts {
        let warning = format!(
            "{num_too_long} of {num_examples} prompts are longer than the {most} tokens that the model reads: the ends of their \
             tools are cut (the longest, {place}, has {tokens})"
        );
        tracing::warn!("{warning}");
        return Ok(Some(warning));
    }
    let remedy = if most < start.config.max_enc_len {
        format!("the model could read {}: raise data.row_enc_tokens", start.config.max_enc_len)
    } else {
        "use another base, one that reads longer prompts (max_enc_len in its config.json), or offer fewer or shorter tools in a \
         row, or cut what does not fit with --cut-long-prompts"
            .into()
    };
    Err(TrainError::LongPrompts { place: Box::new(place.clone()), tokens, most, num_too_long, num_examples, remedy })
}
