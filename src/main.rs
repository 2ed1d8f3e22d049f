//! The `causeway` command. Everything that a program may want goes to stdout, everything else to stderr.

mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = commands::Cli::parse();
    if let Err(error) = commands::log::start(&cli) {
        return output::failed(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&error.into()),
    };
    let outcome = runtime.block_on(commands::run(cli));
    // What was to be waited for has been waited for; a thread that still hangs must not hold the process.
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => output::failed(&error),
    }
}
