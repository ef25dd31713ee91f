//! Keys and values that queries attend to: those of a prompt, or of the tokens so far.
//!
//! They are INT8, in the layout of the kernels' dot products, which take four bytes at a time (see
//! [`crate::pack`]). A panel of 16 keys has one line per four dimensions, so that one pass gives 16
//! scores. Of the values, a panel of 16 dimensions has one line per four keys. Each head of each
//! position has a scale. The exact mode stores f32.

use crate::pack::{LANES, Line};

/// A line of zeros: code 0 is stored as 128.
const ZERO: Line = Line([128; Line::BYTES]);

/// Keys and values of one attention block.
#[derive(Debug)]
pub struct KeyValue {
    kv_heads: usize,
    /// Dimension of a head, padded to a multiple of the lanes.
    head_width: usize,
    /// Maximum number of positions, a multiple of 16.
    capacity: usize,
    store: Store,
}

#[derive(Debug)]
enum Store {
    Int8 {
        /// `[kv_heads, capacity / 16, head_width / 4]`.
        keys: Vec<Line>,
        /// `[kv_heads, head_width / 16, capacity / 4]`.
        values: Vec<Line>,
        /// `[kv_heads, capacity]`.
        key_scales: Vec<f32>,
        /// `[kv_heads, capacity]`.
        value_scales: Vec<f32>,
    },
    /// Keys and values, each `[kv_heads, capacity, head_width]`.
    Exact { keys: Vec<f32>, values: Vec<f32> },
}

/// One head's keys and values.
#[derive(Debug, Clone, Copy)]
pub enum HeadView<'a> {
    /// INT8 codes and their scales.
    Int8 {
        /// `[capacity / 16, head_width / 4]`.
        keys: &'a [Line],
        /// `[head_width / 16, capacity / 4]`.
        values: &'a [Line],
        /// `[capacity]`.
        key_scales: &'a [f32],
        /// `[capacity]`.
        value_scales: &'a [f32],
    },
    /// f32 values, each `[capacity, head_width]`.
    Exact {
        /// Keys.
        keys: &'a [f32],
        /// Values.
        values: &'a [f32],
    },
}

impl KeyValue {
    /// Allocates room for `positions` positions of `kv_heads` heads of `head_width` dimensions.
    pub fn new(kv_heads: usize, head_width: usize, positions: usize, is_exact: bool) -> Self {
        let head_width = head_width.next_multiple_of(LANES);
        let capacity = positions.next_multiple_of(LANES);
        let all = kv_heads * capacity;
        let store = if is_exact {
            Store::Exact { keys: vec![0.0; all * head_width], values: vec![0.0; all * head_width] }
        } else {
            let lines = all * head_width / Line::BYTES;
            Store::Int8 {
                keys: vec![ZERO; lines],
                values: vec![ZERO; lines],
                key_scales: vec![0.0; all],
                value_scales: vec![0.0; all],
            }
        };
        Self { kv_heads, head_width, capacity, store }
    }

    /// Makes room for `positions` positions. The previous contents are lost.
    pub fn clear(&mut self, positions: usize) {
        if positions > self.capacity {
            let is_exact = matches!(self.store, Store::Exact { .. });
            *self = Self::new(self.kv_heads, self.head_width, positions, is_exact);
        }
    }

    /// Keys and values of head `head`.
    pub fn head(&self, head: usize) -> HeadView<'_> {
        match &self.store {
            Store::Int8 { keys, values, key_scales, value_scales } => {
                let lines = self.capacity * self.head_width / Line::BYTES;
                HeadView::Int8 {
                    keys: &keys[head * lines..(head + 1) * lines],
                    values: &values[head * lines..(head + 1) * lines],
                    key_scales: &key_scales[head * self.capacity..(head + 1) * self.capacity],
                    value_scales: &value_scales[head * self.capacity..(head + 1) * self.capacity],
                }
            }
            Store::Exact { keys, values } => {
                let size = self.capacity * self.head_width;
                HeadView::Exact {
                    keys: &keys[head * size..(head + 1) * size],
                    values: &values[head * size..(head + 1) * size],
                }
            }
        }
    }

    /// Sets one head of one position from `head_width` codes and their scale, for key and value.
    ///
    /// # Panics
    /// If the position is beyond the capacity, or the mode is exact.
    pub fn set_int8(&mut self, head: usize, position: usize, key: (&[i8], f32), value: (&[i8], f32)) {
        let (width, capacity) = (self.head_width, self.capacity);
        assert!(position < capacity, "position {position} of {capacity}");
        let Store::Int8 { keys, values, key_scales, value_scales } = &mut self.store else {
            unreachable!("the mode of an engine never changes");
        };
        let place = head * capacity + position;
        (key_scales[place], value_scales[place]) = (key.1, value.1);
        let first = head * (capacity * width / Line::BYTES);
        let (panel, lane) = (position / LANES, position % LANES);
        let panel = &mut keys[first + panel * (width / 4)..first + (panel + 1) * (width / 4)];
        for (line, four) in panel.iter_mut().zip(key.0.as_chunks::<4>().0) {
            line.0[4 * lane..4 * lane + 4].copy_from_slice(&four.map(|code| code as u8 ^ 0x80));
        }
        let (four, place) = (position / 4, position % 4);
        for (panel, codes) in value.0.chunks_exact(LANES).enumerate() {
            let line = &mut values[first + panel * (capacity / 4) + four];
            for (lane, code) in codes.iter().enumerate() {
                line.0[4 * lane + place] = (*code as u8) ^ 0x80;
            }
        }
    }

    /// Sets one head of one position in the exact mode.
    ///
    /// # Panics
    /// If the position is beyond the capacity, or the mode is not exact.
    pub fn set_exact(&mut self, head: usize, position: usize, key: &[f32], value: &[f32]) {
        assert!(position < self.capacity, "position {position} of {}", self.capacity);
        let Store::Exact { keys, values } = &mut self.store else {
            unreachable!("the mode of an engine never changes");
        };
        let start = (head * self.capacity + position) * self.head_width;
        keys[start..start + key.len()].copy_from_slice(key);
        values[start..start + value.len()].copy_from_slice(value);
    }
}
