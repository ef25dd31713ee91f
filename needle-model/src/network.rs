//! The model as one that answers: for f32 and for GPUs, and as the reference of the engine in
//! `needle-runtime`.

use needle_runtime::network::Network;
use needle_runtime::{Precision, RuntimeError, SanConfig};

use crate::dropout::Dropout;
use crate::generate::{Generated, StepHook, generate, ids_tensor};
use crate::ops::FusedOps;
use crate::quant::fake_quant::at_precision;
use crate::san::San;

/// Texts embedded together.
const BATCH_SIZE: usize = 32;

/// A model at the precision that it answers at.
pub struct BurnNetwork<B: FusedOps> {
    config: SanConfig,
    model: San<B>,
    precision: Precision,
}

impl<B: FusedOps> BurnNetwork<B> {
    /// `model`, of these sizes, as it computes at `precision`.
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

/// Unit vectors of texts, given as ids, a batch at a time; `None` without a retrieval head.
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
