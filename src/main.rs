//! The `causeway` command. Everything that a program may want goes to stdout, everything else to stderr.

mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;
mod output;
mod settings;

use std::{ffi::OsString, process::ExitCode};

/// Gives memory that nobody uses any more back to the system after some seconds, whatever thread had it. That of the C
/// library keeps much of it for each thread that has ever taken some.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let line = match settings::parse(&arguments) {
        Ok(line) => line,
        Err(settings::Refusal::Usage(error)) => error.exit(),
        Err(settings::Refusal::Settings(error)) => return output::failed(&error),
    };
    if let Err(error) = commands::log::start(&line.cli) {
        return output::failed(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&error.into()),
    };
    let outcome = runtime.block_on(commands::run(line));
    // What was to be waited for has been waited for; a thread that still hangs must not hold the process.
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => output::failed(&error),
    }
}
