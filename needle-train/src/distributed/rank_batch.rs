//! Which part of a batch each rank computes.
//!
//! A batch of the run is one batch from each of its data lanes. The number of lanes belongs to the
//! run and does not depend on the number of ranks: with fewer ranks than lanes, a rank computes
//! several lanes; with more, several ranks divide a lane's rows. A run can therefore be resumed on
//! any number of ranks, with the same batches.

use needle_data::batching::batch::different;
use needle_data::encode::PairKey;
use needle_data::{Batch, RetrievalBatch};

/// Rows of one lane that a rank computes.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneBatch {
    /// Lane and part of the lane. They seed all random draws, which therefore do not depend on the
    /// rank.
    pub place: [u64; 2],
    /// The rows.
    pub batch: Batch,
}

/// A rank's share of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct RankBatch {
    /// Its rows, lane by lane.
    pub lanes: Vec<LaneBatch>,
    /// Number of targets in the whole batch, by which the losses are divided.
    pub num_targets: usize,
    /// The rank's share of the retrieval pairs that the whole batch compares, lane by lane, each
    /// with its lane and part of the lane.
    pub pairs: Vec<([u64; 2], RetrievalBatch)>,
    /// Number of pairs that come before the rank's own.
    pub first_pair: usize,
    /// Number of pairs in the whole batch.
    pub num_pairs: usize,
}

impl RankBatch {
    /// The whole batch, for a single rank.
    pub fn whole(batch: &Batch) -> Self {
        let lanes = vec![LaneBatch { place: [0, 0], batch: batch.clone() }];
        let keys = keys_of(&lanes);
        Self::new(lanes, batch.num_targets(), &[keys], 0, usize::MAX)
    }

    /// The share of rank `rank`, whose rows are `lanes`, of a batch with `num_targets` targets.
    /// `keys` are the retrieval pairs of each rank; the first `max_pairs` distinct ones are
    /// compared.
    pub fn new(
        lanes: Vec<LaneBatch>,
        num_targets: usize,
        keys: &[Vec<PairKey>],
        rank: usize,
        max_pairs: usize,
    ) -> Self {
        let all: Vec<PairKey> = keys.iter().flatten().copied().collect();
        let chosen = different(&all, max_pairs);
        let mut begin: usize = keys[..rank].iter().map(Vec::len).sum();
        let first_pair = chosen.partition_point(|&i| i < begin);
        let mut pairs = Vec::new();
        for lane in &lanes {
            let Some(retrieval) = &lane.batch.retrieval else { continue };
            let end = begin + retrieval.pairs;
            let own = retrieval.select(chosen.iter().filter(|&&i| i >= begin && i < end).map(|&i| i - begin));
            if own.pairs > 0 {
                pairs.push((lane.place, own));
            }
            begin = end;
        }
        Self { lanes, num_targets, pairs, first_pair, num_pairs: chosen.len() }
    }
}

/// The retrieval pairs of `lanes`, in order.
pub fn keys_of(lanes: &[LaneBatch]) -> Vec<PairKey> {
    lanes.iter().filter_map(|lane| lane.batch.retrieval.as_ref()).flat_map(|pairs| pairs.keys.clone()).collect()
}

/// A part of a lane: the `part`-th of `parts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePart {
    /// The lane.
    pub lane: usize,
    /// Index of the part of each batch.
    pub part: usize,
    /// Number of parts into which each batch is divided.
    pub parts: usize,
}

/// The lanes, of `lanes` in all, that `rank` of `world_size` computes.
pub fn lanes_of(rank: usize, world_size: usize, lanes: usize) -> Vec<LanePart> {
    if world_size <= lanes {
        let mine = rank * lanes / world_size..(rank + 1) * lanes / world_size;
        return mine.map(|lane| LanePart { lane, part: 0, parts: 1 }).collect();
    }
    let lane = rank * lanes / world_size;
    let ranks: Vec<usize> = (0..world_size).filter(|rank| rank * lanes / world_size == lane).collect();
    vec![LanePart { lane, part: rank - ranks[0], parts: ranks.len() }]
}

impl LanePart {
    /// This part of `batch`, a batch of the lane.
    pub fn of(&self, batch: Batch) -> LaneBatch {
        let batch = if self.parts == 1 { batch } else { batch.part(self.part, self.parts) };
        LaneBatch { place: [self.lane as u64, self.part as u64], batch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_part_of_every_lane_has_one_rank_in_order(world_size in 1usize..40, lanes in 1usize..40) {
            let all: Vec<LanePart> = (0..world_size).flat_map(|rank| lanes_of(rank, world_size, lanes)).collect();
            let mut expected = Vec::new();
            for lane in 0..lanes {
                let parts = all.iter().find(|part| part.lane == lane).unwrap().parts;
                expected.extend((0..parts).map(|part| LanePart { lane, part, parts }));
            }
            prop_assert_eq!(&all, &expected);
            // No rank has more lanes than an even share, rounded up.
            let most = (0..world_size).map(|rank| lanes_of(rank, world_size, lanes).len()).max().unwrap();
            prop_assert_eq!(most, lanes.div_ceil(world_size));
        }

        #[test]
        fn pairs_are_chosen_alike_however_lanes_are_shared_out(
            names in prop::collection::vec(prop::collection::vec(0u64..12, 0..6), 6), most in 1usize..20,
        ) {
            let lane = |lane: usize| {
                let keys: Vec<PairKey> = names[lane].iter().map(|&name| PairKey { name, content: None }).collect();
                let ids: Vec<i32> = (0..keys.len()).map(|i| (100 * lane + i) as i32).collect();
                let retrieval = RetrievalBatch {
                    pairs: keys.len(), query_len: 1, query_ids: ids.clone(), tool_len: 1, tool_ids: ids, keys,
                };
                Batch { retrieval: Some(retrieval), ..Batch::default() }
            };
            let chosen = |world_size: usize| {
                let lanes: Vec<Vec<LaneBatch>> = (0..world_size)
                    .map(|rank| lanes_of(rank, world_size, 6).iter().map(|part| part.of(lane(part.lane))).collect())
                    .collect();
                let keys: Vec<Vec<PairKey>> = lanes.iter().map(|lanes| keys_of(lanes)).collect();
                let mut ids = Vec::new();
                for (rank, lanes) in lanes.into_iter().enumerate() {
                    let share = RankBatch::new(lanes, 0, &keys, rank, most);
                    assert_eq!(share.first_pair, ids.len());
                    ids.extend(share.pairs.iter().flat_map(|(_, pairs)| pairs.query_ids.clone()));
                    assert!(share.num_pairs <= most);
                }
                ids
            };
            let alone = chosen(1);
            for world_size in [2, 3, 4, 6, 9] {
                prop_assert_eq!(&chosen(world_size), &alone, "{} ranks", world_size);
            }
        }
    }
}
