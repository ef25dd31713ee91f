//! burn's model as a [`Network`] of `needle-runtime`, for f32 and for GPUs. It is also the
//! reference for that crate's own engine.

use needle_runtime::network::Network;
use needle_runtime::{Precision, RuntimeError, SanConfig};

use crate::dropout::Dropout;
use crate::generate::{Generated, StepHook, generate, ids_tensor};
use crate::ops::FusedOps;
use crate::quant::fake_quant::at_precision;
use crate::san::San;

/// Texts per batch in [`Network::embed`].
const BATCH_SIZE: usize = 32;

/// A model at the precision at which it answers.
pub struct BurnNetwork<B: FusedOps> {
    config: SanConfig,
    model: San<B>,
    precision: Precision,
}

impl<B: FusedOps> BurnNetwork<B> {
    /// Wraps `model`, whose sizes are `config`, with its weights rounded as `precision` demands.
    pub fn new(model: San<B>, config: SanConfig, precision: Precision) -> Self {
        Self { config, model: at_precision(model, precision), precision }
    }
}

impl<B: FusedOps> Network for BurnNetwork<B> {
    fn config(&self) -> &SanConfig {
        &self.config
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn generate(
        &self,
        prompts: &[Vec<u32>],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        Ok(generate(&self.model, prompts, max_tokens, hook))
    }

    fn embed(&self, texts: &[Vec<u32>]) -> Result<Option<Vec<Vec<f32>>>, RuntimeError> {
        Ok(embed(&self.model, texts, BATCH_SIZE))
    }
}

/// Embeds texts, given as token ids, as unit vectors, `batch_size` texts at a time. `None` if the
/// model has no retrieval head.
pub fn embed<B: FusedOps>(model: &San<B>, texts: &[Vec<u32>], batch_size: usize) -> Option<Vec<Vec<f32>>> {
    model.retrieval_head.as_ref()?;
    let mut vectors = Vec::with_capacity(texts.len());
    for batch in texts.chunks(batch_size.max(1)) {
        let ids = ids_tensor(batch, &model.device());
        let embedded = model.retrieval_embedding(ids, &mut Dropout::none())?; // [batch, dim]
        let [_, dim] = embedded.dims();
        let values: Vec<f32> = embedded.into_data().iter::<f32>().collect();
        vectors.extend(values.chunks_exact(dim).map(<[f32]>::to_vec));
    }
    Some(vectors)
}
