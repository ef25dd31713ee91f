//! Training data from a list of tools: a large model writes, and every row is checked before it is trusted.
//!
//! A file imports only files above it in this map:
//!
//! | file | concept |
//! | --- | --- |
//! | [`error`] | what ends a run |
//! | [`tokens`] | tokens and money |
//! | [`kind`] | the kinds of request that a training set needs |
//! | [`schema`] | JSON schemas of the answers that we ask for |
//! | [`extract`] | the JSON in what a model wrote |
//! | [`client`] | one exchange with an OpenAI-compatible endpoint |
//! | [`budget`] | limits on money, tokens and speed |
//! | [`journal`] | the record of what was paid for |
//! | [`teacher`] | many questions, answered once each |
//! | [`task`] | one request's worth of rows |
//! | [`plan`] | the matrix of tasks |
//! | [`prompt`] | what the teacher is told |
//! | [`trust`] | which rows can be trusted |
//! | [`config`] | the settings of a run |
//! | [`invent`] | new tools around a domain |
//! | [`rewrite`] | tasks made from what people wrote |
//! | [`run`] | tasks to rows, in rounds |
//! | [`summary`] | the figures of a run |
//! | [`report`] | the figures as a page |
//! | [`output`] | the files of a run |
//! | [`session`] | what a command was given -> the files of its run |
//! | [`offline`] | new rows from old ones, without a teacher |

pub mod budget;
pub mod client;
pub mod config;
pub mod error;
pub mod extract;
pub mod invent;
pub mod journal;
pub mod kind;
pub mod offline;
pub mod output;
pub mod plan;
pub mod prompt;
pub mod report;
pub mod rewrite;
pub mod run;
pub mod schema;
pub mod session;
pub mod summary;
pub mod task;
pub mod teacher;
pub mod tokens;
pub mod trust;

pub use error::TeacherError;
