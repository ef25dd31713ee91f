//! The thread pool of training steps.

/// Makes the calling thread one of the pool's, which must not have been used yet.
///
/// A step is some thousand short parallel operations. A thread outside of the pool hands each of
/// them over and sleeps until it is done, which took a tenth of a step on two cores.
///
/// # Errors
/// If a thread cannot be started.
pub fn join_pool() -> anyhow::Result<()> {
    Ok(rayon::ThreadPoolBuilder::new().use_current_thread().build_global()?)
}
