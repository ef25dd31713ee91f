//! How much memory the process holds.

/// Physical memory in use now, in megabytes; `None` if the system does not report it.
pub fn rss_mb() -> Option<f64> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem as f64 / 1e6)
}

/// Peak physical memory, in megabytes; `None` if the system does not report it.
#[cfg(unix)]
pub fn peak_rss_mb() -> Option<f64> {
    /// Bytes per unit of `ru_maxrss`, which is in kilobytes, or in bytes on Apple's systems.
    const UNIT: f64 = if cfg!(target_vendor = "apple") { 1.0 } else { 1024.0 };
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the call writes a `rusage` to the pointer, which is valid for it.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has written the value.
    let usage = unsafe { usage.assume_init() };
    Some(usage.ru_maxrss as f64 * UNIT / 1e6)
}

/// Peak physical memory, in megabytes; `None` if the system does not report it.
#[cfg(not(unix))]
pub fn peak_rss_mb() -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn the_peak_holds_what_was_in_use() {
        // Other tests run in the same process, so only what is held here is certain.
        let block = std::hint::black_box(vec![1u8; 256 << 20]);
        let during = rss_mb().unwrap();
        assert!((256.0..100_000.0).contains(&during), "{during}");
        drop(std::hint::black_box(block));
        let peak = peak_rss_mb().unwrap();
        assert!((256.0..100_000.0).contains(&peak), "{peak}");
    }
}
