//! Several examples in one row, so that little of a batch is padding.
//!
//! An example takes space on the encoder's side and on the decoder's; a row has room for both or the example goes into
//! another. Best-fit decreasing: the longest first, each into the fullest row that still has room (Johnson et al. 1974
//! bound it at 11/9 of the optimum in one dimension). Which examples share a row has no meaning: attention keeps to each
//! example's own segment.

/// Room of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowSize {
    /// Encoder tokens.
    pub enc: usize,
    /// Decoder tokens.
    pub dec: usize,
}

/// Packs examples of `lengths` (encoder and decoder tokens) into rows of `row`; gives the indices of each row.
///
/// An example longer than a row gets one of its own.
pub fn pack(lengths: &[RowSize], row: RowSize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Stable, so equal lengths keep their order and the result is the same everywhere.
    order.sort_by_key(|&i| {
        std::cmp::Reverse((lengths[i].enc.max(lengths[i].dec * row.enc / row.dec.max(1)), lengths[i].enc))
    });
    let mut rows: Vec<(RowSize, Vec<usize>)> = Vec::new();
    for index in order {
        let need = lengths[index];
        let fullest = rows
            .iter()
            .enumerate()
            .filter(|(_, (left, _))| left.enc >= need.enc && left.dec >= need.dec)
            .min_by_key(|(_, (left, _))| left.enc + left.dec)
            .map(|(i, _)| i);
        match fullest {
            Some(i) => {
                let (left, members) = &mut rows[i];
                *left = RowSize { enc: left.enc - need.enc, dec: left.dec - need.dec };
                members.push(index);
            }
            None => {
                let left = RowSize { enc: row.enc.saturating_sub(need.enc), dec: row.dec.saturating_sub(need.dec) };
                rows.push((left, vec![index]));
            }
        }
    }
    rows.into_iter().map(|(_, members)| members).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROW: RowSize = RowSize { enc: 64, dec: 32 };

    #[test]
    fn short_examples_share_a_row_and_long_ones_stand_alone() {
        let lengths = [(60, 10), (2, 2), (32, 16), (32, 16), (100, 5)].map(|(enc, dec)| RowSize { enc, dec });
        let mut rows = pack(&lengths, ROW);
        rows.iter_mut().for_each(|r| r.sort_unstable());
        rows.sort();
        assert_eq!(rows, [vec![0, 1], vec![2, 3], vec![4]]);
        assert!(pack(&[], ROW).is_empty());
    }

    proptest! {
        #[test]
        fn every_example_is_in_one_row_and_no_row_overflows(lengths in prop::collection::vec((1usize..=64, 1usize..=32), 0..200)) {
            let lengths: Vec<RowSize> = lengths.into_iter().map(|(enc, dec)| RowSize { enc, dec }).collect();
            let rows = pack(&lengths, ROW);
            let mut all: Vec<usize> = rows.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            for row in rows {
                prop_assert!(row.iter().map(|&i| lengths[i].enc).sum::<usize>() <= ROW.enc);
                prop_assert!(row.iter().map(|&i| lengths[i].dec).sum::<usize>() <= ROW.dec);
            }
        }
    }
}
