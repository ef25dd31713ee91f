//! The memory allocator of the command.

/// Every training step allocates and frees the same large buffers, which the default allocator
/// returns to the system in between.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_e`, which its Rust bindings do not name.
const PURGE_DELAY: i32 = 15;

/// Keeps freed pages for the next training step: getting them back, zeroed, from the system took a
/// tenth of a step. A server must not do so, since its memory would only ever grow.
pub fn keep_freed_pages() {
    // SAFETY: setting an option has no precondition.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
