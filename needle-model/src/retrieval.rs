//! The contrastive retrieval head. It embeds a query close to the tools that the query needs, so
//! that a catalogue of hundreds of tools can be cut to the few that fit into a prompt.
//!
//! Mean over the positions that are not padding -> Linear(d, d/4) with bias -> ReLU -> Linear(d/4,
//! contrastive_dim) -> unit length.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, activation};

/// Added to the squared norm before the square root.
const NORM_EPSILON: f64 = 1e-12;

/// The retrieval head; the module's documentation lists its layers.
#[derive(Module, Debug)]
pub struct RetrievalHead<B: Backend> {
    /// `[d_model, d_model / 4]`, with bias.
    pub hidden: Linear<B>,
    /// `[d_model / 4, contrastive_dim]`, without bias.
    pub proj: Linear<B>,
    /// Logarithm of the temperature by which similarities are divided, `[1]`; initially ln 0.07.
    pub log_temp: Param<Tensor<B, 1>>,
}

impl<B: Backend> RetrievalHead<B> {
    /// `memory [batch, enc_len, d_model]` and its `ids [batch, enc_len]` (0 is padding) -> unit
    /// vectors `[batch, dim]`.
    pub fn forward(&self, memory: Tensor<B, 3>, ids: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        let real = ids.not_equal_elem(0).float(); // [batch, enc_len]
        let count = real.clone().sum_dim(1).clamp_min(1.0); // [batch, 1]
        // The masked sum as a matrix product, `[batch, 1, enc_len] x [batch, enc_len, d_model]`.
        let sum = real.unsqueeze_dim::<3>(1).matmul(memory).squeeze_dim::<2>(1); // [batch, d_model]
        let hidden = activation::relu(self.hidden.forward(sum / count)); // [batch, d_model / 4]
        let projected = self.proj.forward(hidden); // [batch, dim]
        let length = ((projected.clone() * projected.clone()).sum_dim(1) + NORM_EPSILON).sqrt();
        projected / length
    }
}
