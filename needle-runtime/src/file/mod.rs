//! The files that hold a model, as the engine reads them: mapped into memory, every size checked
//! before it is used.
//!
//! | file | concept |
//! | --- | --- |
//! | [`names`] | the names of parameters, in a checkpoint and in an artifact |
//! | [`tensors`] | a safetensors file, mapped |
//! | [`quantize`] | codes and scales of trained weights |
//! | [`source`] | what a model is made of, whatever file it comes from |
//! | [`config_json`] | the sizes in a checkpoint's `config.json` |
//! | [`artifact`] | `needle.safetensors` and `vocab.txt` |
//! | [`checkpoint`] | a training checkpoint, quantized as it is loaded |
//! | [`locate`] | which checkpoint a path means, or what it is instead |

pub mod artifact;
pub mod checkpoint;
pub mod config_json;
pub mod locate;
pub mod names;
pub mod quantize;
pub mod source;
pub mod tensors;
