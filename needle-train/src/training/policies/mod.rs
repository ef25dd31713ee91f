//! What a run decides by: pure state machines, without a model, a file or a clock.

pub(crate) mod back_off;
pub(crate) mod early_stopping;
