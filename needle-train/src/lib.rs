//! Optimizer, loss, trainer, evaluation, and what the `needle` command is made of.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what can stop a run |
//! | [`recipe`] | a run's settings: one typed TOML file, with `--set` overrides |
//! | [`device`] | the one place that names a backend |
//! | [`schedule`] | warmup, constant, decay: learning rates as functions of the step |
//! | [`optim`] | parameter groups, Muon, AdamW, the global clip |
//! | [`loss`] | weighted cross-entropy, z-loss, contrastive loss |
//! | [`distributed`] | several processes as one run |
//! | [`checkpointing`] | gradients that keep only the input of each layer |
//! | [`step`] | one step: batch to gradients |
//! | [`feed`] | a rank's batches, made ready ahead |
//! | [`eval`] | the one scorer, predictions, retrieval metrics |
//! | [`catalogue`] | embeddings of many tools, computed once |
//! | [`needle`] | a trained model to ask: load, call, stream, many at once |
//! | [`artifact`] | what ships: an artifact, its manifest, and proof that it is the model |
//! | [`memory`] | how much memory the process holds |
//! | [`state`] | what must survive a restart |
//! | [`run_dir`] | where a run puts what it makes |
//! | [`validation`] | what a run is measured by while it trains |
//! | [`track`] | what a run reports: progress bar, `metrics.jsonl`, TensorBoard |
//! | [`report`] | a run, or several, as one page to look at |
//! | [`start`] | what a run starts from |
//! | [`trainer`] | the loop |
//! | [`finetune`] | one's own examples to a better checkpoint, measured before and after |
//! | [`quickstart`] | data to answered query in minutes |
//! | [`cli`] | the `needle` command, one file a subcommand |

pub mod artifact;
pub mod catalogue;
pub mod checkpointing;
pub mod cli;
pub mod device;
pub mod distributed;
pub mod error;
pub mod eval;
pub mod feed;
pub mod finetune;
pub mod loss;
pub mod memory;
pub mod needle;
pub mod optim;
pub mod quickstart;
pub mod recipe;
pub mod report;
pub mod run_dir;
pub mod schedule;
pub mod start;
pub mod state;
pub mod step;
pub mod track;
pub mod trainer;
pub mod validation;

pub use error::TrainError;
pub use eval::predict::Question;
pub use needle::{Answer, AsQuestion, CallOptions, Needle, tools_from_json};
pub use needle_data::{Call, Tool};
pub use recipe::Recipe;

/// The README's Rust, compiled as it is printed.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
