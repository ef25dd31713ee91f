//! The decisions of a run as pure state machines, without model, files or clock.

pub(crate) mod back_off;
pub(crate) mod early_stopping;
