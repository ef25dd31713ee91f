//! Recipes, optimizers, losses, trainer, evaluation and finetuning.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what can stop a run |
//! | [`training::schedule`] | warmup, constant, decay: learning rates as functions of the step |
//! | [`optim`] | parameter groups, Muon, AdamW, the global clip |
//! | [`range`] | what the numbers of a recipe may be |
//! | [`recipe`] | a run's settings: one typed TOML file, with `--set` overrides |
//! | [`device`] | the one place that names a backend |
//! | [`training::loss`] | weighted cross-entropy, z-loss, contrastive loss |
//! | [`distributed`] | several processes as one run |
//! | [`training::checkpointing`] | gradients that keep only the input of each layer |
//! | [`training::step`] | one step: batch to gradients |
//! | [`training::batch_loader`] | a rank's batches, made ready ahead |
//! | [`answering`] | a checkpoint, or a model in training, as one that answers |
//! | [`eval`] | the one scorer, retrieval metrics, calibration |
//! | [`run::memory`] | how much memory the process holds |
//! | [`run::state`] | what must survive a restart |
//! | [`artifact`] | what ships: an artifact, its manifest, and proof that it is the model |
//! | [`run::directory`] | where a run puts what it makes |
//! | [`training::validation`] | what a run is measured by while it trains |
//! | [`run::tracking`] | what a run reports: progress bar, `metrics.jsonl`, TensorBoard |
//! | [`run::report`] | a run, or several, as one page to look at |
//! | [`training::start`] | what a run starts from |
//! | [`training::trainer`] | the loop |
//! | [`out_dir`] | where an export or an import may write |
//! | [`run::inputs`] | what a run was begun with, by content |
//! | [`run::lock`] | one run at a time in a directory |
//! | [`finetune`] | one's own examples to a better checkpoint, measured before and after |
//! | [`quickstart`] | data to answered query in minutes |

pub mod answering;
pub mod artifact;
pub mod device;
pub mod distributed;
pub mod error;
pub mod eval;
pub mod finetune;
pub mod optim;
pub mod out_dir;
pub mod quickstart;
pub mod range;
pub mod recipe;
pub mod run;
pub mod training;

pub use error::TrainError;
pub use recipe::Recipe;
