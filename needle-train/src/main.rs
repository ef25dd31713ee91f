//! The `needle` command.

use clap::Parser;

fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_target(false).without_time().init();
    if let Err(error) = needle_train::cli::Cli::parse().run() {
        eprintln!("error: {error:#}");
        std::process::exit(1);
    }
}
