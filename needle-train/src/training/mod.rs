//! The loop, one step of it, and what it goes by.

pub mod checkpointing;
pub mod feed;
pub mod loss;
pub mod schedule;
pub mod start;
pub mod step;
pub mod trainer;
pub mod validation;
