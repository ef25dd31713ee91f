//! Training data from a list of tools: a large model (the teacher) writes rows, and every row is
//! checked before it is accepted.
//!
//! Makes new rows from an existing one, without a teacher:
//!
//! ```
//! use needle_data::Example;
//! use needle_teacher::offline::{Changes, augment};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let example = Example::parse(
//!     r#"{"query": "set a timer for ten minutes please",
//!         "tools": [{"name": "set_timer", "description": "Start a countdown",
//!                    "parameters": {"minutes": {"type": "integer", "required": true}}}],
//!         "answers": [{"name": "set_timer", "arguments": {"minutes": 10}}]}"#,
//! )?;
//! let changes = Changes { copies: 3, masked_names: 1.0, withheld: 0.0, ..Changes::default() };
//! let rows = augment(std::slice::from_ref(&example), &changes, 0)?;
//! assert!(!rows.is_empty());
//! for row in &rows {
//!     row.validate()?;
//!     assert_ne!(row.tools[0].name, "set_timer", "the tool has a meaningless name");
//!     assert_eq!(row.answers[0].name, row.tools[0].name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | `error` | errors that end a run |
//! | [`tokens`] | token counts and prices |
//! | [`kind`] | the kinds of request that a training set needs |
//! | `schema` | JSON schemas of the answers |
//! | `extract` | finds the JSON in a model's output |
//! | [`client`] | one exchange with an OpenAI-compatible endpoint |
//! | [`budget`] | limits on money, tokens and speed |
//! | `journal` | the record of requests and answers |
//! | [`teacher`] | asks many questions, and pays for each answer once |
//! | `task` | the rows of one request |
//! | `plan` | the matrix of tasks |
//! | `prompt` | the prompts of teacher and judge |
//! | [`trust`] | the checks that every row has to pass |
//! | [`config`] | the settings of a run |
//! | `invent` | new tools for a domain |
//! | `rewrite` | tasks made from existing examples |
//! | `run` | from tasks to rows, in rounds |
//! | [`summary`] | the statistics of a run |
//! | `report` | the statistics as a page |
//! | `output` | the files of a run |
//! | [`session`] | from the arguments of a command to the files of its run |
//! | [`offline`] | new rows from existing ones, without a teacher |

pub mod budget;
pub mod client;
pub mod config;
mod error;
mod extract;
mod invent;
mod journal;
pub mod kind;
pub mod offline;
mod output;
mod plan;
mod prompt;
mod report;
mod rewrite;
mod run;
mod schema;
pub mod session;
pub mod summary;
mod task;
pub mod teacher;
pub mod tokens;
pub mod trust;

pub use error::TeacherError;
