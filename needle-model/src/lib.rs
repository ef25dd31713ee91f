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
//! // Encodes one prompt, padded with id 0, to [batch, enc_len, d_model].
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
//! | `error` | errors of models and their files |
//! | [`ops`] | the operations that have their own kernels, and their reference definitions |
//! | `mask` | attention masks: padding, packed rows, causal order |
//! | [`dropout`] | seeded dropout |
//! | `norm` | ZCRMSNorm |
//! | [`rope`] | half-split rotary position embedding |
//! | [`attention`] | grouped-query attention with QK-norm, in steps between which keys and values can be cached |
//! | `encoder`, [`decoder`] | the layers |
//! | `retrieval` | the contrastive tool-retrieval head |
//! | `san` | the model and its initial weights |
//! | [`params`] | all parameters by name |
//! | [`quant::int4`] | codes and scales of group quantization (the only implementation) |
//! | [`quant::fake_quant`] | fake quantization: a model that computes what its quantized form will compute |
//! | [`generate`] | batched greedy decoding with caches |
//! | [`network`] | the model as a `Network` of `needle-runtime` |
//! | [`checkpoint::tensor_file`] | reading and writing safetensors files |
//! | [`checkpoint::directory`] | atomic writes of directories |
//! | [`checkpoint`] | checkpoints: directories in Hugging Face's layout |
//! | [`golden`] | golden test vectors for authors of other runtimes |
//! | [`export`] | deployable artifacts |
//! | [`import`] | import of checkpoints in other formats |
//!
//! # Shapes
//!
//! `batch` counts rows; `seq`, `enc_len`, `dec_len`, `q_len` and `k_len` count positions; `heads`
//! counts query heads and `kv_heads` key/value heads, each `head_dim` wide; `d_model` is the width
//! of the residual stream; `vocab` counts ids; `rows` counts the positions of all batch rows
//! together. Linear weights are `[in, out]` in memory and `[out, in]` on disk.

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
