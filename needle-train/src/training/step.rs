//! One training step up to the gradients: a share of a batch -> losses -> backward.
//!
//! A share is computed in micro-batches, one after the other, which takes less memory. Their losses
//! are divided by the whole batch's counts, so the sum of their gradients over micro-batches and
//! ranks is the whole batch's gradient, up to rounding. The contrastive loss is not split: every
//! pair is a negative for every other pair, on any rank.
//!
//! Computing micro-batches in parallel would not be faster: burn's autodiff waits for all graphs at
//! the end of a backward pass.

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use needle_data::Batch;
use needle_data::random::{Purpose, rng};
use needle_model::dropout::Dropout;
use needle_model::params::{EMBEDDING, ParamInfo, with_gradients};
use needle_model::quant::fake_quant::{fake_quantize, in_bf16};
use needle_model::quant::int4::Bits;
use needle_model::{FusedOps, San};
use rand::RngExt;

use crate::distributed::rank_batch::RankBatch;
use crate::distributed::{World, bytes_of, floats_of};
use crate::error::TrainError;
use crate::optim::{Gradients, add_gradients, collect};
use crate::recipe::{ComputeDtype, Recipe};
use crate::training::checkpointing::text_loss_and_gradients;
use crate::training::loss::{DeviceBatch, StepLosses, clip_loss, pair_embeddings, text_loss};

/// Losses and gradients of `batch` at step `step` (from 1), in one process.
pub fn forward_backward<AB>(
    model: &San<AB>,
    batch: &Batch,
    recipe: &Recipe,
    step: usize,
) -> (StepLosses, Gradients<AB::InnerBackend>)
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    let result = forward_backward_rank_batch(model, &RankBatch::whole(batch), recipe, step, &World::default());
    #[expect(clippy::expect_used, reason = "only another rank can go missing")]
    result.expect("there is no other rank")
}

/// The contribution of `share` to the losses and gradients of step `step` (from 1).
///
/// # Errors
/// If a rank is gone.
pub fn forward_backward_rank_batch<AB>(
    model: &San<AB>,
    share: &RankBatch,
    recipe: &Recipe,
    step: usize,
    world: &World,
) -> Result<(StepLosses, Gradients<AB::InnerBackend>), TrainError>
where
    AB: AutodiffBackend + FusedOps,
    AB::InnerBackend: FusedOps,
{
    let quantized = recipe.qat.applies(step, recipe.steps);
    let quantizes = |p: &ParamInfo| p.is_attention_matrix() || recipe.qat.embedding && p.name == EMBEDDING;
    // Each graph needs its own leaves: burn drops leaves that an earlier backward pass has used.
    let graph = || {
        let model = with_gradients(model.clone());
        let seen = if quantized { fake_quantize(model.clone(), Bits::Int4, quantizes) } else { model.clone() };
        let seen = if recipe.compute_dtype == ComputeDtype::Bf16 { in_bf16(seen) } else { seen };
        (model, seen)
    };
    // The random streams depend only on the step and the place in the batch, so a resumed step has
    // the same dropout masks as the first time.
    let dropout = |purpose, [lane, part]: [u64; 2], micro_batch: usize| {
        let place = [step as u64, lane, part, micro_batch as u64];
        Dropout::new(recipe.dropout, rng(recipe.seed, purpose, &place).random())
    };
    // Losses are read once, at the end, because reading waits for the device.
    let (mut of_text, mut of_pairs) = (Vec::new(), Vec::new());
    let mut gradients = Gradients::<AB::InnerBackend>::new();
    for lane in &share.lanes {
        for (i, part) in lane.batch.split(recipe.data.micro_batches).iter().enumerate() {
            let dropout = &mut dropout(Purpose::Dropout, lane.place, i);
            let (model, seen) = graph();
            let (loss, more) = if recipe.activation_checkpointing {
                // With the straight-through estimator, the gradients of the quantized weights are
                // those of the weights.
                text_loss_and_gradients(&seen, part, share.num_targets, &recipe.loss, dropout)
            } else {
                let weights = recipe.loss.class_weights();
                let on_device = DeviceBatch::new(part, share.num_targets, weights, &model.device())
                    .aligned(part, recipe.loss.alignment_weight);
                let loss = text_loss(&seen, on_device, recipe.loss.z_coefficient, dropout);
                (loss.inner(), collect(&model, &loss.total().backward()))
            };
            let alignment = loss.alignment.unwrap_or_else(|| loss.z.zeros_like());
            of_text.extend([loss.cross_entropy, loss.z, alignment]);
            add_gradients(&mut gradients, more);
        }
    }

    let is_time = step.is_multiple_of(recipe.loss.contrastive_every_steps) && recipe.loss.contrastive_weight > 0.0;
    if is_time && share.num_pairs >= 2 && model.retrieval_head.is_some() {
        let (model, seen) = graph();
        let own = share.pairs.iter().filter_map(|(place, pairs)| {
            pair_embeddings(&seen, pairs, &mut dropout(Purpose::RetrievalDropout, *place, 0))
        });
        if let Some(loss) = contrastive_loss(&seen, own.collect(), share, world)? {
            of_pairs.push(loss.clone().inner());
            add_gradients(&mut gradients, collect(&model, &(loss * recipe.loss.contrastive_weight).backward()));
        }
    }
    let num_text = of_text.len();
    of_text.extend(of_pairs);
    let values: Vec<f64> =
        if of_text.is_empty() { Vec::new() } else { Tensor::cat(of_text, 0).into_data().iter::<f64>().collect() };
    let (of_text, of_pairs) = values.split_at(num_text);
    let sum = |first: usize| of_text.iter().skip(first).step_by(3).sum::<f64>();
    let (cross_entropy, z, alignment) = (sum(0), sum(1), sum(2));
    let contrastive = of_pairs.first().map(|loss| loss * own_part(share));
    let total = cross_entropy + z + alignment + contrastive.map_or(0.0, |loss| loss * recipe.loss.contrastive_weight);
    let alignment = (recipe.loss.alignment_weight > 0.0).then_some(alignment);
    Ok((StepLosses { cross_entropy, z, alignment, contrastive, total, quantized }, gradients))
}

/// Contrastive loss over the pairs of all ranks. `own` are the embeddings of this rank's queries
/// and tools, lane by lane. Only they get gradients here; the other ranks compute their own. `None`
/// if this rank has no pair.
fn contrastive_loss<AB: AutodiffBackend>(
    model: &San<AB>,
    own: Vec<[Tensor<AB, 2>; 2]>,
    share: &RankBatch,
    world: &World,
) -> Result<Option<Tensor<AB, 1>>, TrainError> {
    let [queries, tools]: [Vec<_>; 2] = own.into_iter().fold(Default::default(), |[mut queries, mut tools], [q, t]| {
        queries.push(q);
        tools.push(t);
        [queries, tools]
    });
    let both = (!queries.is_empty()).then(|| [Tensor::cat(queries, 0), Tensor::cat(tools, 0)]); // [pairs, dim] each
    let (Some([mut queries, mut tools]), Some(head)) = (both, &model.retrieval_head) else {
        // This rank has no pairs, but the others wait for it.
        world.all_gather(&[])?;
        return Ok(None);
    };
    let mut log_temp = head.log_temp.val();
    if world.size() > 1 {
        // Queries and tools side by side, so that one all-gather keeps the pairs in order: [pairs,
        // 2 * dim].
        let own = Tensor::cat(vec![queries, tools], 1);
        let [own_pairs, width] = own.dims();
        let values = own.clone().inner().into_data().convert::<f32>().into_vec::<f32>().unwrap_or_default();
        let all = floats_of(&world.all_gather(bytes_of(&values))?.bytes);
        let others = |pairs: std::ops::Range<usize>| {
            let values = all[pairs.start * width..pairs.end * width].to_vec();
            Tensor::<AB, 2>::from_data(TensorData::new(values, [pairs.len(), width]), &own.device())
        };
        let (before, after) = (0..share.first_pair, share.first_pair + own_pairs..share.num_pairs);
        let mut rows: Vec<Tensor<AB, 2>> = Vec::new();
        if !before.is_empty() {
            rows.push(others(before));
        }
        rows.push(own.clone());
        if !after.is_empty() {
            rows.push(others(after));
        }
        let all = Tensor::cat(rows, 0); // [all pairs, 2 * dim]
        queries = all.clone().narrow(1, 0, width / 2);
        tools = all.narrow(1, width / 2, width / 2);
        // Every rank computes the whole gradient of the temperature; each is weighted by the rank's
        // share of the pairs, so that their sum is the gradient.
        let part = own_part(share);
        log_temp = log_temp.clone().detach() * (1.0 - part) + log_temp * part;
    }
    Ok(Some(clip_loss(queries, tools, log_temp)))
}

/// This rank's share of all pairs.
fn own_part(share: &RankBatch) -> f64 {
    share.pairs.iter().map(|(_, pairs)| pairs.pairs).sum::<usize>() as f64 / share.num_pairs.max(1) as f64
}
