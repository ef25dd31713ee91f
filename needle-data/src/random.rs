//! All random streams of the project, numbered in one place.
//!
//! A stream is a pure function of a seed, a purpose and a place (a window, a row, a step, ...). No
//! generator state is carried from one draw to the next, so a resumed run draws the same as an
//! uninterrupted one.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;

/// What a random stream is for. Streams of different purposes are independent, whatever their seed
/// and place.
///
/// The numbers are part of a run's identity: a new purpose gets a new number, and no number is
/// reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// The order of a source's shards. Place: source, epoch.
    ShardOrder = 0,
    /// The source of a mixture that the next row comes from. Place: window.
    Mixture = 1,
    /// The order of a window's rows. Place: window.
    WindowOrder = 2,
    /// The seed of one row. Place: source, epoch, shard, row.
    RowSeed = 3,
    /// The augmentation of one example; the seed is that of its row. Place: none.
    Augmentation = 4,
    /// The order of tools and keys of one example; the seed is drawn from its augmentation. Place:
    /// none.
    ToolOrder = 5,
    /// The order of packed rows. Place: window, index of the pack window in it.
    PackedRowOrder = 6,
    /// The part of a dataset that an example goes to. Place: group.
    Split = 7,
    /// Generated examples to train on. Place: index.
    Synthetic = 8,
    /// Generated examples that are held out. Place: index.
    SyntheticHeldOut = 9,
    /// The seed of a model's dropout in one micro-batch. Place: step, lane, part, micro-batch.
    Dropout = 10,
    /// The seed of the retrieval head's dropout. Place: step, lane, part, 0.
    RetrievalDropout = 14,
    /// What a teacher is asked for. Place: request.
    TeacherPlan = 15,
    /// The order of a teacher's plan. Place: none.
    TeacherPlanOrder = 16,
    /// How a teacher should paraphrase an example. Place: example.
    TeacherRewrite = 17,
    /// How long a client waits before it asks again. Place: hash of the request.
    RetryDelay = 18,
    /// Variants of an existing row that are made without a teacher. Place: row, copy.
    OfflineChange = 19,
    /// The kind of the invented example at an index. Place: part, index.
    InventedKind = 20,
    /// An invented example. Place: part, index, attempt.
    Invented = 21,
    /// One dropout mask; the seed is that of the micro-batch. Place: index of the mask.
    DropoutMask = 11,
    /// Initial weights of a model. Place: none.
    InitialWeights = 12,
    /// Initial weights of a LoRA adapter. Place: bytes of the matrix's name.
    InitialAdapter = 13,
    /// The order of an example's tools when it is evaluated again. Place: example, shuffle.
    AskedAgain = 22,
}

/// The random stream of `purpose` at `place`: equal inputs give equal streams, and different inputs
/// independent ones.
///
/// The mixing is SplitMix64's finalizer (Steele, Lea and Flood 2014), applied to each input in
/// turn.
pub fn rng(seed: u64, purpose: Purpose, place: &[u64]) -> ChaCha8Rng {
    let inputs = std::iter::once(purpose as u64).chain(place.iter().copied());
    let mixed = inputs.fold(seed, |state, input| {
        let mut z = state ^ input.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    });
    ChaCha8Rng::seed_from_u64(mixed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn streams_differ_by_seed_purpose_and_place_and_repeat() {
        let first = |seed, purpose, place: &[u64]| rng(seed, purpose, place).random::<u64>();
        let same = || first(3, Purpose::Mixture, &[1, 2]);
        assert_eq!(same(), same());
        let others = [
            first(4, Purpose::Mixture, &[1, 2]),
            first(3, Purpose::WindowOrder, &[1, 2]),
            first(3, Purpose::Mixture, &[2, 1]),
            first(3, Purpose::Mixture, &[1]),
            first(3, Purpose::Mixture, &[1, 2, 0]),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, same());
            assert!(!others[..i].contains(other));
        }
    }
}
