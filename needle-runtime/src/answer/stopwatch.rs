//! Measures the seconds from question to answer. WebAssembly in a browser has no clock of its own,
//! so there they are 0.

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
use std::time::Instant;

/// Measures the time since it was started.
#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
pub struct Stopwatch(Instant);

#[cfg(not(all(target_family = "wasm", target_os = "unknown")))]
impl Stopwatch {
    /// Starts measuring.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A stopwatch for platforms without a clock.
#[cfg(all(target_family = "wasm", target_os = "unknown"))]
pub struct Stopwatch(());

#[cfg(all(target_family = "wasm", target_os = "unknown"))]
impl Stopwatch {
    /// Does nothing.
    pub fn start() -> Self {
        Self(())
    }

    /// Always 0.
    pub fn seconds(&self) -> f64 {
        0.0
    }
}
