//! How much memory the process holds, where the system tells.

/// Megabytes in use now.
pub fn rss_mb() -> Option<f64> {
    status("VmRSS:")
}

/// The most megabytes that were in use.
pub fn peak_rss_mb() -> Option<f64> {
    status("VmHWM:")
}

fn status(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().trim_end_matches(" kB").parse::<f64>().ok().map(|kb| kb / 1e3)
}
