//! Recipes, optimizers, losses, trainer, evaluation and finetuning.
//!
//! A run is described by a [`Recipe`], whose keys can be overridden as on the command line.
//! Learning rates are a function of the step:
//!
//! ```
//! use needle_train::Recipe;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "steps = 1000\n[schedule]\nwarmup_steps = 100\ndecay_ratio = 0.2";
//! let recipe = Recipe::parse(text, &["optim.muon_lr=0.01".to_owned()])?;
//! let muon_lr = |step| recipe.optim.muon_lr * recipe.schedule.factor(step, recipe.steps);
//! assert_eq!([0, 50, 100, 800].map(muon_lr), [0.0, 0.005, 0.01, 0.01]);
//! assert!(muon_lr(1000) < 0.001);
//!
//! let error = Recipe::parse("stepps = 1000", &[]).unwrap_err();
//! assert!(error.contains("stepps"), "an unknown key is an error: {error}");
//! # Ok(())
//! # }
//! ```
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | errors that stop a run |
//! | [`range`] | valid ranges of the numbers in a recipe |
//! | [`recipe`] | a run's settings: one typed TOML file, with `--set` overrides |
//! | [`device`] | devices and their backends |
//! | [`optim`] | parameter groups, Muon, AdamW, LoRA, clipping of the global gradient norm |
//! | [`training::schedule`] | warmup, constant, decay: learning rates as functions of the step |
//! | [`training::loss`] | weighted cross-entropy, z-loss, alignment and contrastive loss |
//! | [`distributed`] | data-parallel training over several processes |
//! | [`training::checkpointing`] | activation checkpointing: the input of each layer is kept, the rest recomputed |
//! | [`training::step`] | one step: batch to gradients |
//! | [`training::batch_loader`] | a rank's batches, prepared ahead of the step |
//! | [`answering`] | turns a checkpoint, or a model in training, into one that answers |
//! | [`eval`] | the scorer, retrieval metrics, calibration |
//! | `training::policies` | when to back off and when to stop early, as pure state machines |
//! | [`run::memory`] | how much memory the process holds |
//! | `run::inputs` | hashes of a run's inputs |
//! | `run::lock` | one run at a time in a directory |
//! | [`out_dir`] | where an export or an import may write |
//! | [`run::state`] | the state that a resumed run needs |
//! | [`artifact`] | export of artifacts, with manifest and verification |
//! | [`run::directory`] | the directory of a run and its files |
//! | `run::tracking` | what a run reports: progress bar, `metrics.jsonl`, TensorBoard |
//! | [`run::report`] | one run, or several, as an HTML page |
//! | `training::validation` | validation during training |
//! | `training::start` | what a run starts from |
//! | [`training::word_vectors`] | initializes the embedding with word vectors |
//! | `training::bad_batch` | writes a batch whose loss is not finite to disk |
//! | `training::outcome` | options and result of a run |
//! | `training::summary` | the log lines at the end of a run |
//! | `training::resuming` | checks that a resumed run has the same recipe and data |
//! | `training::saving` | checkpoints of a run: the newest, those before it, the best |
//! | [`training::trainer`] | the loop |
//! | `training::setup` | setup before the first step |
//! | `training::recovery` | what the loop does after a loss that is not finite |
//! | [`finetune`] | finetunes a checkpoint on your own examples and compares it with the base |
//! | [`quickstart`] | from generated data to an answered query in minutes |

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
