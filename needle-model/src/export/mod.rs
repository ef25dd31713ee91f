//! Deployable artifacts. Each format is a file of its own; all take codes and scales from [`crate::int4`].

pub mod needle_rs;
