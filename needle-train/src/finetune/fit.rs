//! Fits the recipe to examples and base, except for what the user has set.

use burn::backend::Autodiff;
use needle_data::batching::pack::RowSize;
use needle_data::{Encoder, Example};
use needle_model::FusedOps;
use needle_runtime::answer::needle::limits;

use super::plan::VALIDATIONS;
use super::{Base, Settings};
use crate::error::TrainError;
use crate::optim::LearningRates;
use crate::recipe::{OneOrMore, Recipe};
use crate::training::trainer::Start;

/// The recipe whose learning rates a new model gets.
const NEW_MODEL_RECIPE: &str = include_str!("../../../configs/quickstart.toml");

/// Below this number of training examples, [`FEW_EXAMPLES_RATES`] apply.
const FEW_EXAMPLES: usize = 200;
/// Learning rates for few examples: with the recipe's, a model of 64 examples is past its best
/// after some forty steps (docs/LOG.md, "Finetuning").
const FEW_EXAMPLES_RATES: LearningRates = LearningRates { muon: 0.0015, adamw: 1e-4 };

/// Sets row sizes that hold the examples, and returns the number of batches in an epoch.
pub(super) fn fit_rows<B: FusedOps>(
    recipe: &mut Recipe,
    start: &Start<Autodiff<B>>,
    train: &[Example],
    settings: Settings<'_>,
) -> Result<usize, TrainError> {
    let encoder = Encoder::new(&start.tokenizer, limits(&start.config))?;
    let sizes: Vec<RowSize> = train.iter().filter_map(|e| encoder.encode(e, None).ok()).map(|e| e.size()).collect();
    let up = |length: usize, least: usize, most: usize| length.next_multiple_of(64).clamp(least.min(most), most);
    let longest = |f: &dyn Fn(&RowSize) -> usize| sizes.iter().map(f).max().unwrap_or(0);
    if !settings.is_set("data.row_enc_tokens") {
        let enc = up(longest(&|s| s.enc), recipe.data.row_enc_tokens.longest(), start.config.max_enc_len);
        recipe.data.row_enc_tokens = OneOrMore::One(enc);
    }
    if !settings.is_set("data.row_dec_tokens") {
        // Substituted values may be longer than those of the example.
        let dec = up(longest(&|s| s.dec) * 3 / 2, 128, start.config.max_dec_len);
        recipe.data.row_dec_tokens = OneOrMore::One(dec);
    }
    recipe.data.max_tool_tokens = recipe.data.max_tool_tokens.min(recipe.data.row_enc_tokens.longest());
    recipe.eval.max_tokens = recipe.eval.max_tokens.min(start.config.max_dec_len);
    let rows = sizes.iter().map(|s| s.enc).sum::<usize>().div_ceil(recipe.data.row_enc_tokens.longest());
    let rows = rows.max(sizes.iter().map(|s| s.dec).sum::<usize>().div_ceil(recipe.data.row_dec_tokens.longest()));
    Ok(rows.div_ceil(recipe.data.rows).max(1))
}

/// Sets the number of steps, and what follows from it, from `base`, and from the number of training
/// examples.
///
/// # Errors
/// If [`NEW_MODEL_RECIPE`] is invalid, which the quickstart's tests rule out.
pub(super) fn fit_schedule(
    recipe: &mut Recipe,
    steps: usize,
    num_examples: usize,
    base: Base<'_>,
    settings: Settings<'_>,
) -> Result<(), TrainError> {
    recipe.steps = steps;
    let mut rates = LearningRates { muon: recipe.optim.muon_lr, adamw: recipe.optim.adamw_lr };
    if matches!(base, Base::Scratch) {
        // A new model learns at the quickstart's rates.
        let fresh = Recipe::parse(NEW_MODEL_RECIPE, &[]).map_err(|reason| TrainError::Recipe { path: None, reason })?;
        rates = LearningRates { muon: fresh.optim.muon_lr, adamw: fresh.optim.adamw_lr };
        recipe.eval.patience = recipe.eval.patience.filter(|_| settings.is_set("eval.patience"));
    } else if num_examples < FEW_EXAMPLES {
        rates = FEW_EXAMPLES_RATES;
    }
    if !settings.is_set("optim.muon_lr") {
        recipe.optim.muon_lr = rates.muon;
    }
    if !settings.is_set("optim.adamw_lr") {
        recipe.optim.adamw_lr = rates.adamw;
    }
    if !settings.is_set("eval.every_steps") {
        recipe.eval.every_steps = Some(recipe.steps.div_ceil(VALIDATIONS));
    }
    Ok(())
}
