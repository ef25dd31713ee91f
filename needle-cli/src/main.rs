//! The `needle` command.

mod args;
mod commands;

use std::process::ExitCode;

use needle_train::distributed::launch::Launch;

/// Every training step allocates and frees the same large buffers, which the default allocator
/// returns to the system in between.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_e`, which its Rust bindings do not name.
const PURGE_DELAY: i32 = 15;

fn main() -> ExitCode {
    // Keep freed pages for the next step: getting them back, zeroed, from the system took a tenth
    // of a step. SAFETY: setting an option has no precondition.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    let launch = Launch::from_variables(|name| std::env::var(name).ok());
    match commands::Cli::run(launch) {
        Ok(code) => code,
        // The reader closed the pipe (for example `head`): exit quietly.
        Err(error)
            if error
                .root_cause()
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
