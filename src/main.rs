//! The `causeway` command. Results go to stdout, everything else (notes, progress, the log) to stderr.

mod command_line;
mod commands;
#[cfg(feature = "failpoints")]
mod failpoints;
mod output;
mod settings;

use std::{ffi::OsString, process::ExitCode};

use commands::Outcome;
use output::place::Origin;

/// jemalloc gives unused memory back to the system after some seconds, whichever thread had it. The C library's
/// allocator keeps much of it for each thread that has ever allocated.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    command_line::color(&arguments).apply();
    let line = match command_line::parse(&arguments) {
        Ok(line) => line,
        Err(command_line::Refusal::Usage(error)) => return output::usage(&error),
        Err(command_line::Refusal::Settings(error)) => return output::failed(&error, None),
    };
    line.cli.apply_color();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failed(&error.into(), None),
    };
    let entered = runtime.enter();
    let traces = match commands::log::start(&line.cli) {
        Ok(traces) => traces,
        Err(error) => return output::failed(&error, None),
    };
    drop(entered);
    let place = line.cli.place();
    let outcome = runtime.block_on(async {
        let outcome = commands::run(line.cli, &line.settings, line.servers, Origin(line.origin)).await;
        match traces {
            // Whoever has sent a second signal waits for nothing.
            Some(traces) if !matches!(outcome, Ok(Outcome::Cut)) => traces.stop().await,
            _ => {}
        }
        outcome
    });
    // The command has waited for what it needs. A thread that still hangs must not keep the process alive.
    runtime.shutdown_background();
    match outcome {
        Ok(outcome) => outcome.into(),
        Err(error) => output::failed(&error, place.as_ref()),
    }
}
