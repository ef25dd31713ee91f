//! What a run decides by: pure state machines, without a model, a file or a clock.

pub mod back_off;
pub mod early_stopping;
