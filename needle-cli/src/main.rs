//! The `needle` command.

mod allocator;
mod args;
mod commands;
mod threads;

use std::process::ExitCode;

use needle_train::distributed::launch::Launch;

fn main() -> ExitCode {
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
