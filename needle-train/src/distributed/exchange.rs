//! Sends gradients to the ranks that update them (reduce-scatter), and new weights to all
//! (all-gather).
//!
//! ```text
//! gradients of all ranks  --reduce_scatter-->      each rank: the sum, for its own pieces
//! update                                           each rank: its own pieces
//! weights                 --all_gather_weights-->  each rank: all
//! ```
//!
//! Each direction moves `(N - 1) / N` of the model once, as a ring would. The rank that needs a sum
//! computes it, in rank order and in f32, whatever the dtype of the messages, so that a repeated
//! run gives the same bits.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use needle_model::params::{self, ParamInfo, ParamMapper, ParamVisitor};
use needle_model::{FusedOps, San};

use super::{World, bytes_of, floats_of};
use crate::error::TrainError;
use crate::optim::{Gradients, Optimizer, Piece, Shards};
use crate::recipe::GradientDtype;

impl GradientDtype {
    /// Bytes of one value.
    pub fn num_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    fn write(self, values: &[f32], out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend_from_slice(bytes_of(values)),
            Self::Bf16 => {
                let mut rounded = vec![bf16::ZERO; values.len()];
                rounded.convert_from_f32_slice(values);
                out.extend_from_slice(bytemuck::cast_slice(rounded.as_slice()));
            }
        }
    }

    fn add(self, bytes: &[u8], sum: &mut [f32]) {
        match self {
            Self::F32 => {
                for (sum, bytes) in sum.iter_mut().zip(bytes.as_chunks().0) {
                    *sum += f32::from_ne_bytes(*bytes);
                }
            }
            Self::Bf16 => {
                for (sum, bytes) in sum.iter_mut().zip(bytes.as_chunks().0) {
                    *sum += bf16::from_ne_bytes(*bytes).to_f32();
                }
            }
        }
    }
}

/// Sums `gradients` over all ranks, for this rank's own pieces. A parameter without a gradient on
/// any rank is left out.
///
/// # Errors
/// If a rank is gone.
pub fn reduce_scatter<B: Backend>(
    world: &World,
    shards: &Shards,
    gradients: Gradients<B>,
    dtype: GradientDtype,
    device: &B::Device,
) -> Result<Gradients<B>, TrainError> {
    if world.size() == 1 {
        return Ok(gradients);
    }
    let gradients = Host::new(gradients)?;
    let num_values = shards.lengths().values().sum::<usize>();
    let (mut send, mut counts) = (Vec::with_capacity((num_values + 1024) * dtype.num_bytes()), Vec::new());
    for rank in 0..world.size() {
        let begin = send.len();
        let pieces = shards.of(rank);
        for Piece { name, range } in pieces {
            match gradients.get(name) {
                Some(gradient) => dtype.write(&gradient[range.clone()], &mut send),
                None => send.resize(send.len() + range.len() * dtype.num_bytes(), 0),
            }
        }
        // For each piece, whether this rank has a gradient.
        let has_gradient: Vec<f32> = pieces.iter().map(|p| f32::from(gradients.get(&p.name).is_some())).collect();
        dtype.write(&has_gradient, &mut send);
        counts.push(send.len() - begin);
    }
    drop(gradients);
    let received = world.all_to_all(&send, &counts)?;
    drop(send);
    let own = shards.of(world.rank());
    let num_values = shards.num_values(world.rank());
    let mut sum = vec![0.0f32; num_values + own.len()];
    received.parts().for_each(|bytes| dtype.add(bytes, &mut sum));

    let has_gradient = sum.split_off(num_values);
    let mut rest = sum.as_slice();
    let mut reduced = Gradients::new();
    for (Piece { name, range }, has_gradient) in own.iter().zip(has_gradient) {
        let (values, after) = rest.split_at(range.len());
        rest = after;
        // NaN counts as a gradient.
        if has_gradient != 0.0 {
            let data = TensorData::new(values.to_vec(), [values.len()]);
            reduced.insert(name.clone(), Tensor::from_data(data, device));
        }
    }
    Ok(reduced)
}

/// `model` with each piece of the weights from the rank that updates it.
///
/// # Errors
/// If a rank is gone.
pub fn all_gather_weights<AB: AutodiffBackend>(
    world: &World,
    shards: &Shards,
    model: San<AB>,
) -> Result<San<AB>, TrainError> {
    if world.size() == 1 {
        return Ok(model);
    }
    let mut own = Own { shards, rank: world.rank(), values: BTreeMap::new() };
    params::visit(&model, &mut own);
    let received = world.all_gather(bytes_of(&Host::new(own.values)?.values))?;
    let mut values: BTreeMap<String, Vec<f32>> =
        shards.lengths().iter().map(|(name, &length)| (name.clone(), vec![0.0; length])).collect();
    for (rank, bytes) in received.parts().enumerate() {
        let all = floats_of(bytes);
        let mut rest = all.as_slice();
        for Piece { name, range } in shards.of(rank) {
            let (piece, after) = rest.split_at(range.len());
            rest = after;
            if let Some(values) = values.get_mut(name) {
                values[range.clone()].copy_from_slice(piece);
            }
        }
    }
    Ok(params::map(model, &mut Fill(values)))
}

/// Gathers the optimizer's state from all ranks on rank 0; the other ranks get nothing.
///
/// # Errors
/// If a rank is gone.
pub fn gather_state<B: FusedOps>(
    world: &World,
    optimizer: &Optimizer<B>,
    device: &B::Device,
) -> Result<BTreeMap<String, Tensor<B, 1>>, TrainError> {
    if world.size() == 1 {
        return Ok(optimizer.state());
    }
    let own = Host::new(optimizer.state())?;
    // The names go to every rank, the values, which are long, only to rank 0.
    let index = world.all_gather_object(&own.ranges)?;
    let received = world.gather_to_main(bytes_of(&own.values))?;
    let mut state = BTreeMap::<String, Vec<f32>>::new();
    if world.is_main() {
        // Ranks hold pieces in order, so the pieces of one name are concatenated in rank order.
        for (ranges, bytes) in index.into_iter().zip(received.parts()) {
            let all = floats_of(bytes);
            for (name, range) in ranges {
                state.entry(name).or_default().extend(&all[range]);
            }
        }
    }
    let tensor = |values: Vec<f32>| {
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), device)
    };
    Ok(state.into_iter().map(|(name, values)| (name, tensor(values))).collect())
}

/// Tensors by name, in host memory: the values of all, concatenated, and the range of each.
struct Host {
    values: Vec<f32>,
    ranges: BTreeMap<String, Range<usize>>,
}

impl Host {
    /// Copies all tensors from the device in one transfer instead of one for each parameter.
    fn new<B: Backend>(tensors: BTreeMap<String, Tensor<B, 1>>) -> Result<Self, TrainError> {
        let (names, tensors): (Vec<String>, Vec<Tensor<B, 1>>) = tensors.into_iter().unzip();
        let mut end = 0;
        let ranges = names.into_iter().zip(&tensors).map(|(name, tensor)| {
            let begin = end;
            end += tensor.dims()[0];
            (name, begin..end)
        });
        let ranges = ranges.collect();
        let values = match tensors.is_empty() {
            true => Ok(Vec::new()),
            false => Tensor::cat(tensors, 0).into_data().convert::<f32>().into_vec::<f32>(),
        };
        let values = values.map_err(|e| TrainError::Lost(format!("cannot read from the device: {e:?}")))?;
        Ok(Self { values, ranges })
    }

    fn get(&self, name: &str) -> Option<&[f32]> {
        self.ranges.get(name).map(|range| &self.values[range.clone()])
    }
}

struct Own<'a, B: Backend> {
    shards: &'a Shards,
    rank: usize,
    values: BTreeMap<String, Tensor<B, 1>>,
}

impl<AB: AutodiffBackend> ParamVisitor<AB> for Own<'_, AB::InnerBackend> {
    fn visit<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<AB, D>) {
        if let Some(range) = self.shards.range(self.rank, &info.name) {
            let flat: Tensor<AB::InnerBackend, 1> = tensor.inner().reshape([-1]);
            self.values.insert(info.name, flat.narrow(0, range.start, range.len()));
        }
    }
}

struct Fill(BTreeMap<String, Vec<f32>>);

impl<AB: AutodiffBackend> ParamMapper<AB> for Fill {
    fn map<const D: usize>(&mut self, info: ParamInfo, tensor: Tensor<AB, D>) -> Tensor<AB, D> {
        let Some(values) = self.0.remove(&info.name) else { return tensor };
        Tensor::from_data(TensorData::new(values, info.shape), &tensor.device()).require_grad()
    }
}
