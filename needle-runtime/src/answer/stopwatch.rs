//! Seconds from question to answer. A browser's WebAssembly has no clock of its own: there they are
//! 0.

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
use std::time::Instant;

/// Runs from when it was made.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub struct Stopwatch(Instant);

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Stands still.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub struct Stopwatch(());

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
impl Stopwatch {
    /// Begins.
    pub fn start() -> Self {
        Self(())
    }

    /// No seconds.
    pub fn seconds(&self) -> f64 {
        0.0
    }
}
