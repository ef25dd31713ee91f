//! Packs several examples into a row, so that little of a batch is padding.
//!
//! An example takes encoder tokens and decoder tokens, and its row must have room for both. The
//! algorithm is best-fit decreasing: the longest example first, each into the fullest row that
//! still has room (Johnson et al. 1974 prove a bound of 11/9 of the optimum in one dimension). If
//! no row has room, a new one is begun: of the shortest size that holds four such examples, so that
//! short examples fill short rows, or else of the longest size. It does not matter which examples
//! share a row, because attention stays within each example's segment.

use serde::{Deserialize, Serialize};

/// Capacity of a row, or length of an example, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowSize {
    /// Encoder tokens.
    pub enc: usize,
    /// Decoder tokens.
    pub dec: usize,
}

impl RowSize {
    /// Whether an example of `need` tokens fits.
    pub fn holds(&self, need: RowSize) -> bool {
        self.enc >= need.enc && self.dec >= need.dec
    }

    fn minus(self, used: RowSize) -> Self {
        Self { enc: self.enc.saturating_sub(used.enc), dec: self.dec.saturating_sub(used.dec) }
    }

    fn plus(self, more: RowSize) -> Self {
        Self { enc: self.enc + more.enc, dec: self.dec + more.dec }
    }
}

/// A new row has the shortest size that holds this many examples like its first. With fewer, the
/// remaining room would be too small for the next example.
const MIN_EXAMPLES: usize = 4;

/// One row: the index of its size, and the examples in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Index into the given sizes.
    pub size: usize,
    /// Indices of the examples.
    pub members: Vec<usize>,
}

/// Packs examples of `lengths` (encoder and decoder tokens) into rows of `sizes`, which are in
/// ascending order.
///
/// An example longer than the longest row gets a row of its own.
pub fn pack(lengths: &[RowSize], sizes: &[RowSize]) -> Vec<Packed> {
    let Some(longest) = sizes.last().copied() else { return Vec::new() };
    // The share of a row that an example takes, encoder or decoder, whichever is larger.
    let share = |need: RowSize| need.enc.max(need.dec * longest.enc / longest.dec.max(1));
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // The sort is stable: equal lengths keep their order, so the result is deterministic.
    order.sort_by_key(|&i| std::cmp::Reverse((share(lengths[i]), lengths[i].enc)));
    let mut rows: Vec<(RowSize, Packed)> = Vec::new();
    for index in order {
        let need = lengths[index];
        // The fullest row is the one with the fewest free tokens in total.
        let fullest = rows
            .iter()
            .enumerate()
            .filter(|(_, (left, _))| left.holds(need))
            .min_by_key(|(_, (left, _))| left.enc + left.dec)
            .map(|(i, _)| i);
        match fullest {
            Some(i) => {
                let (left, row) = &mut rows[i];
                *left = left.minus(need);
                row.members.push(index);
            }
            None => {
                let several = RowSize { enc: MIN_EXAMPLES * need.enc, dec: MIN_EXAMPLES * need.dec };
                let size = sizes.iter().position(|size| size.holds(several)).unwrap_or(sizes.len() - 1);
                rows.push((sizes[size].minus(need), Packed { size, members: vec![index] }));
            }
        }
    }
    // Rows that are not full shrink to the shortest size that holds their contents.
    for (_, row) in &mut rows {
        let used = row.members.iter().fold(RowSize { enc: 0, dec: 0 }, |sum, &i| sum.plus(lengths[i]));
        row.size = sizes.iter().position(|size| size.holds(used)).unwrap_or(row.size);
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROW: RowSize = RowSize { enc: 64, dec: 32 };
    const ROWS: [RowSize; 3] = [RowSize { enc: 16, dec: 8 }, RowSize { enc: 32, dec: 16 }, ROW];

    #[test]
    fn short_examples_share_a_row_and_long_ones_stand_alone() {
        let lengths = [(60, 10), (2, 2), (32, 16), (32, 16), (100, 5)].map(|(enc, dec)| RowSize { enc, dec });
        let mut rows: Vec<Vec<usize>> = pack(&lengths, &[ROW]).into_iter().map(|row| row.members).collect();
        rows.iter_mut().for_each(|r| r.sort_unstable());
        rows.sort();
        assert_eq!(rows, [vec![0, 1], vec![2, 3], vec![4]]);
        assert!(pack(&[], &[ROW]).is_empty());
    }

    #[test]
    fn short_examples_go_into_short_rows_and_fill_the_holes_of_long_ones() {
        let lengths = [(62, 8), (4, 2), (4, 2), (4, 2), (4, 2), (2, 1)].map(|(enc, dec)| RowSize { enc, dec });
        let rows = pack(&lengths, &ROWS);
        assert_eq!(rows[0], Packed { size: 2, members: vec![0, 5] });
        assert_eq!(rows[1], Packed { size: 0, members: vec![1, 2, 3, 4] });
    }

    proptest! {
        #[test]
        fn every_example_is_in_one_row_and_no_row_overflows(lengths in prop::collection::vec((1usize..=64, 1usize..=32), 0..200)) {
            let lengths: Vec<RowSize> = lengths.into_iter().map(|(enc, dec)| RowSize { enc, dec }).collect();
            for sizes in [&ROWS[..], &ROWS[2..]] {
                let rows = pack(&lengths, sizes);
                let mut all: Vec<usize> = rows.iter().flat_map(|row| row.members.clone()).collect();
                all.sort_unstable();
                prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
                for row in rows {
                    prop_assert!(row.members.iter().map(|&i| lengths[i].enc).sum::<usize>() <= sizes[row.size].enc);
                    prop_assert!(row.members.iter().map(|&i| lengths[i].dec).sum::<usize>() <= sizes[row.size].dec);
                }
            }
        }
    }
}
