//! Ids of answers and calls, and the time.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

/// A new id that begins with `prefix`.
pub(super) fn fresh_id(prefix: &str) -> String {
    // The standard library seeds each `RandomState` at random.
    format!("{prefix}{:016x}{:08x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1) as u32)
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
