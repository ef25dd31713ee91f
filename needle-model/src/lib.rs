//! The Simple Attention Network in burn: attention and gates, no feed-forward layers.
//!
//! ```
//! use burn::tensor::{Int, Tensor};
//! use burn_flex::Flex;
//! use needle_model::dropout::Dropout;
//! use needle_model::generate::{NoHook, generate};
//! use needle_model::{AttentionMask, San, SanConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = SanConfig::preset("tiny")?;
//! let device = Default::default();
//! let model = San::<Flex>::new(&config, 0, &device)?;
//!
//! // What the encoder makes of one prompt, padded by the id 0: [batch, enc_len, d_model].
//! let ids = Tensor::<Flex, 2, Int>::from_data([[7, 8, 9, 0]], &device);
//! let mask = AttentionMask::padding(ids.clone());
//! assert_eq!(model.encode(ids, &mask, &mut Dropout::none()).dims(), [1, 4, config.d_model]);
//!
//! // Greedy decoding of at most 5 tokens.
//! let answers = generate(&model, &[vec![7, 8, 9]], 5, &mut NoHook);
//! assert!(answers[0].ids.len() <= 5);
//! # Ok(())
//! # }
//! ```
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | `error` | what can be wrong with a model or its files |
//! | [`ops`] | the operations with kernels of their own, and their plain definitions |
//! | `mask` | who may attend to whom |
//! | [`dropout`] | seeded dropout |
//! | `norm` | ZCRMSNorm |
//! | [`rope`] | half-split rotary position embedding |
//! | [`attention`] | grouped-query attention with QK-norm, split where a cache goes in |
//! | `encoder`, [`decoder`] | the layers |
//! | `retrieval` | the contrastive tool-retrieval head |
//! | `san` | the model, and every initial weight |
//! | [`params`] | all parameters by name |
//! | [`quant::int4`] | codes and scales of group quantization: the one copy |
//! | [`quant::fake_quant`] | a model that computes as its quantized form will |
//! | [`generate`] | batched greedy decoding with caches |
//! | [`network`] | the model as one that answers |
//! | [`checkpoint::tensor_file`] | tensors as a safetensors file, and back |
//! | [`checkpoint::directory`] | directories written whole or not at all |
//! | [`checkpoint`] | the directory that holds a model |
//! | [`golden`] | vectors for authors of runtimes |
//! | [`export`] | deployable artifacts |
//! | [`import`] | checkpoints of other formats |
//!
//! # Shapes
//!
//! `batch` rows; `seq`, `enc_len`, `dec_len`, `q_len`, `k_len` positions; `heads` query heads,
//! `kv_heads` key/value heads of `head_dim` each; `d_model` width; `vocab` ids; `rows` positions of
//! all batch rows together. Linear weights are `[in, out]` in memory and `[out, in]` on disk.

pub mod attention;
pub mod checkpoint;
pub mod decoder;
pub mod dropout;
mod encoder;
mod error;
pub mod export;
pub mod generate;
pub mod golden;
pub mod import;
mod mask;
pub mod network;
mod norm;
pub mod ops;
pub mod params;
pub mod quant;
mod retrieval;
pub mod rope;
mod san;

pub use needle_runtime::constrain;

pub use needle_runtime::config;

pub use config::SanConfig;
pub use error::ModelError;
pub use mask::AttentionMask;
pub use ops::FusedOps;
pub use quant::fake_quant::Precision;
pub use san::San;
