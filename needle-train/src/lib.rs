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
//! | [`error`] | what can stop a run |
//! | [`range`] | what the numbers of a recipe may be |
//! | [`recipe`] | a run's settings: one typed TOML file, with `--set` overrides |
//! | [`device`] | the one place that names a backend |
//! | [`optim`] | parameter groups, Muon, AdamW, LoRA, the global clip |
//! | [`training::schedule`] | warmup, constant, decay: learning rates as functions of the step |
//! | [`training::loss`] | weighted cross-entropy, z-loss, contrastive loss |
//! | [`distributed`] | several processes as one run |
//! | [`training::checkpointing`] | gradients that keep only the input of each layer |
//! | [`training::step`] | one step: batch to gradients |
//! | [`training::batch_loader`] | a rank's batches, prepared ahead of the step |
//! | [`answering`] | a checkpoint, or a model in training, as one that answers |
//! | [`eval`] | the one scorer, retrieval metrics, calibration |
//! | `training::policies` | pure decisions of a run: when to back off, when to stop early |
//! | [`run::memory`] | how much memory the process holds |
//! | `run::inputs` | what a run was started with, by content |
//! | `run::lock` | one run at a time in a directory |
//! | [`out_dir`] | where an export or an import may write |
//! | [`run::state`] | what must survive a restart |
//! | [`artifact`] | what ships: an artifact, its manifest, and proof that it is the model |
//! | [`run::directory`] | where a run puts what it makes |
//! | `run::tracking` | what a run reports: progress bar, `metrics.jsonl`, TensorBoard |
//! | [`run::report`] | one run, or several, as an HTML page |
//! | `training::validation` | what a run is measured by while it trains |
//! | `training::start` | what a run starts from |
//! | [`training::word_vectors`] | word vectors as the beginning of an embedding |
//! | `training::bad_batch` | a batch whose loss is not finite, written down |
//! | `training::outcome` | what a run gives when it ends |
//! | `training::summary` | the figures of the whole run |
//! | `training::resuming` | whether a saved run may go on under this recipe and data |
//! | `training::saving` | checkpoints of a run: the newest, those before it, the best |
//! | [`training::trainer`] | the loop |
//! | `training::setup` | everything that is made before the first step |
//! | `training::recovery` | what the loop does after a loss that is not finite |
//! | [`finetune`] | your own examples to a better checkpoint, compared with the base model |
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
