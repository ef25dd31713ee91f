//! Which rank updates which weights and keeps the optimizer's state for them (stage 1 of ZeRO:
//! Rajbhandari et al., arXiv:1910.02054).
//!
//! Muon needs whole matrices: each goes to the rank with the least work so far. Large parameters
//! that AdamW trains are split among all ranks.

use std::collections::BTreeMap;
use std::ops::Range;

use needle_model::params::ParamInfo;

use super::group;
use crate::recipe::{Group, OptimConfig};

/// A contiguous range of the values of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The parameter's name.
    pub name: String,
    /// The range of its values.
    pub range: Range<usize>,
}

/// Parameters with fewer values are not split.
const WORTH_CUTTING: usize = 1 << 16;
/// One element of AdamW takes as long as this many floating-point operations of Newton-Schulz:
/// AdamW is bound by memory, Newton-Schulz by matrix products (measured on two cores: 6 ns per
/// element, 380 GFLOP/s).
const ADAMW_FLOP: f64 = 2000.0;

/// The pieces of all parameters, by the rank that updates them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    /// The pieces of each rank, in the order of names.
    of_rank: Vec<Vec<Piece>>,
    /// Number of values of each parameter.
    lengths: BTreeMap<String, usize>,
}

impl Shards {
    /// Divides `params` among `world_size` ranks.
    pub fn new(params: &[ParamInfo], config: &OptimConfig, world_size: usize) -> Self {
        // Adapters need whole matrices, as Muon does.
        let matrices = if config.lora_rank.is_some() { Group::Muon } else { config.matrices };
        let mut of_rank = vec![Vec::new(); world_size];
        let mut load = vec![0.0; world_size];
        let length = |param: &ParamInfo| param.shape.iter().product::<usize>();
        let mut whole: Vec<(f64, &ParamInfo)> = Vec::new();
        for param in params {
            let values = length(param);
            match group(param, matrices) {
                Group::Muon => whole.push((newton_schulz_flop(&param.shape, config.muon_ns_steps), param)),
                Group::AdamW if values < WORTH_CUTTING => whole.push((values as f64 * ADAMW_FLOP, param)),
                Group::AdamW => {
                    for (rank, pieces) in of_rank.iter_mut().enumerate() {
                        let range = rank * values / world_size..(rank + 1) * values / world_size;
                        load[rank] += range.len() as f64 * ADAMW_FLOP;
                        pieces.push(Piece { name: param.name.clone(), range });
                    }
                }
            }
        }
        // The most work first, each to the rank with the least. Names break ties, so that all ranks
        // come to the same result.
        whole.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| x.name.cmp(&y.name)));
        for (flop, param) in whole {
            let least = (0..world_size).min_by(|&a, &b| load[a].total_cmp(&load[b])).unwrap_or(0);
            load[least] += flop;
            of_rank[least].push(Piece { name: param.name.clone(), range: 0..length(param) });
        }
        of_rank.iter_mut().for_each(|pieces| pieces.sort_by(|a, b| a.name.cmp(&b.name)));
        let lengths = params.iter().map(|param| (param.name.clone(), length(param))).collect();
        Self { of_rank, lengths }
    }

    /// The pieces that `rank` updates.
    pub fn of(&self, rank: usize) -> &[Piece] {
        &self.of_rank[rank]
    }

    /// The values of parameter `name` that `rank` updates; `None` if other ranks update all of
    /// them.
    pub fn range(&self, rank: usize, name: &str) -> Option<Range<usize>> {
        let pieces = &self.of_rank[rank];
        let found = pieces.binary_search_by(|piece| piece.name.as_str().cmp(name)).ok()?;
        Some(pieces[found].range.clone())
    }

    /// Number of values of each parameter, by name.
    pub fn lengths(&self) -> &BTreeMap<String, usize> {
        &self.lengths
    }

    /// Number of values that `rank` updates.
    pub fn num_values(&self, rank: usize) -> usize {
        self.of_rank[rank].iter().map(|piece| piece.range.len()).sum()
    }
}

/// Each iteration computes `x x^T`, its square, and the product with `x`.
fn newton_schulz_flop(shape: &[usize], steps: usize) -> f64 {
    let (small, large) = match shape {
        [a, b] => (*a.min(b) as f64, *a.max(b) as f64),
        _ => return 0.0,
    };
    steps as f64 * (4.0 * small * small * large + 2.0 * small.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use needle_model::{San, SanConfig, params};
    use proptest::prelude::*;

    fn all_params(preset: &str) -> Vec<ParamInfo> {
        let config = SanConfig::preset(preset).unwrap();
        params::list(&San::<burn_flex::Flex>::new(&config, 0, &Default::default()).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]
        #[test]
        fn every_value_has_one_rank_and_matrices_stay_whole(world_size in 1usize..40, lora in any::<bool>()) {
            let params = all_params("quickstart");
            let config = OptimConfig { lora_rank: lora.then_some(4), ..OptimConfig::default() };
            let shards = Shards::new(&params, &config, world_size);
            for param in &params {
                let length: usize = param.shape.iter().product();
                let ranges: Vec<_> = (0..world_size).filter_map(|rank| shards.range(rank, &param.name)).collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start), "in order, none twice");
                prop_assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, length));
                prop_assert!(!param.is_attention_matrix() || ranges.len() == 1);
            }
        }
    }

    #[test]
    fn ranks_have_like_loads() {
        let params = all_params("needle-26m");
        let shards = Shards::new(&params, &OptimConfig::default(), 8);
        let matrices = |rank| shards.of(rank).iter().filter(|p| p.name.ends_with("_proj.weight")).count();
        let counts: Vec<usize> = (0..8).map(matrices).collect();
        assert_eq!(counts, [14; 8], "112 matrices, half of them large");
        let values: Vec<usize> = (0..8).map(|rank| shards.num_values(rank)).collect();
        assert!(values.iter().max().unwrap() * 10 < values.iter().min().unwrap() * 11, "{values:?}");
    }
}
