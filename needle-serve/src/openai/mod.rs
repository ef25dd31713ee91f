//! The part of OpenAI's API that a model which only calls tools can support.

pub mod asked;
pub mod chat;
pub mod error;
pub mod fields;
mod id;
pub mod responses;
pub mod retrieval;
pub(crate) mod routes;
pub mod split;
pub mod turn;
