//! Attention masks, described by segment ids instead of `[q_len, k_len]` matrices.
//!
//! | rule | a query sees a key if |
//! | --- | --- |
//! | padding | the key's segment is not 0 |
//! | packed | both have the same segment, not 0 |
//! | causal, in addition | the key's position is not after the query's |
//!
//! A query that sees no key (padding in packed rows) attends to nothing: on every backend, its
//! result is 0 and no gradient passes through it ([`crate::ops::reference::attention`]).

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use crate::ops::MaskPrimitive;

/// An attention mask. The table in the module's documentation lists the rules.
#[derive(Debug, Clone)]
pub struct AttentionMask<B: Backend> {
    query_segments: Option<Tensor<B, 2, Int>>,
    key_segments: Option<Tensor<B, 2, Int>>,
    causal: bool,
}

impl<B: Backend> AttentionMask<B> {
    /// Every query sees every key.
    pub fn none() -> Self {
        Self { query_segments: None, key_segments: None, causal: false }
    }

    /// Every query sees the keys whose segment (or id) is not 0; `keys [batch, k_len]`.
    pub fn padding(keys: Tensor<B, 2, Int>) -> Self {
        Self { key_segments: Some(keys), ..Self::none() }
    }

    /// A query sees the keys of its own segment; `queries [batch, q_len]`, `keys [batch, k_len]`.
    pub fn packed(queries: Tensor<B, 2, Int>, keys: Tensor<B, 2, Int>) -> Self {
        Self { query_segments: Some(queries), key_segments: Some(keys), causal: false }
    }

    /// Adds the rule that no query sees a later key. With more keys than queries, the last query is
    /// aligned with the last key.
    pub fn causal(self) -> Self {
        Self { causal: true, ..self }
    }

    pub(crate) fn into_primitive(self) -> MaskPrimitive<B> {
        MaskPrimitive {
            query_segments: self.query_segments.map(Tensor::into_primitive),
            key_segments: self.key_segments.map(Tensor::into_primitive),
            causal: self.causal,
        }
    }
}
