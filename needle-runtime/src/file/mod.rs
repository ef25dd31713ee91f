//! The files of a model as the engine reads them: mapped into memory, with every size checked
//! before use.
//!
//! | file | concept |
//! | --- | --- |
//! | [`names`] | the names of parameters, in a checkpoint and in an artifact |
//! | [`tensors`] | a memory-mapped safetensors file |
//! | [`quantize`] | codes and scales of trained weights |
//! | [`source`] | access to a model's weights, whatever file they come from |
//! | [`config_json`] | the sizes in a checkpoint's `config.json` |
//! | [`artifact`] | `needle.safetensors` and `vocab.txt` |
//! | [`checkpoint`] | a training checkpoint, quantized while it is loaded |
//! | [`locate`] | which checkpoint a path refers to, or what it is instead |

pub mod artifact;
pub mod checkpoint;
pub mod config_json;
pub mod locate;
pub mod names;
pub mod quantize;
pub mod source;
pub mod tensors;
