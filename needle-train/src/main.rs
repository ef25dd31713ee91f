//! The `needle` command.

use std::process::ExitCode;

use clap::Parser;

/// A step allocates and frees the same large buffers again and again; the system's allocator gives them back in between.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match needle_train::cli::Cli::parse().run() {
        Ok(code) => code,
        // Whoever read our output has enough of it.
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
