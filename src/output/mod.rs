//! What the command prints: text for people, JSON for programs, progress on stderr.

mod counts;
pub(crate) mod diagnosis;
pub(crate) mod lists;
pub(crate) mod place;
pub(crate) mod progress;
pub(crate) mod regions;
pub(crate) mod report;
mod table;
pub(crate) mod throttle;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context as _;
use causeway_client::{CallError, UploadError};
use clap::ValueEnum;

use self::place::{CommandTarget, control_of};

/// The format of what is printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Prints messages on stdout, one after the other. They are JSON already.
pub(crate) fn json(messages: &[String]) -> anyhow::Result<()> {
    let mut out = messages.join("\n");
    out.push('\n');
    text(&out)
}

/// Prints text on stdout.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    unless_closed(write(&mut io::stdout().lock(), text)).context("stdout cannot be written")
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A reader that closes the pipe (`| head`) has seen enough: that is not a failure.
fn unless_closed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints a note on stderr. A failure to write it is ignored, because there is nowhere left to report it.
pub(crate) fn note(text: &str) {
    let _ = write(&mut io::stderr().lock(), &format!("causeway: {text}\n"));
}

/// Prints why the command failed, and returns its exit code. Commands in it go to `place`, which the command asked.
pub(crate) fn failed(error: &anyhow::Error, place: Option<&CommandTarget>) -> ExitCode {
    let call = error.chain().find_map(|cause| match cause.downcast_ref::<UploadError>() {
        Some(UploadError::Call(call)) => Some(call),
        _ => cause.downcast_ref::<CallError>(),
    });
    let text = format!("{error:#}");
    note(&match place {
        Some(place) => place.complete(&text, &call.map(control_of).unwrap_or_default()),
        None => text,
    });
    if let Some(id) = call.and_then(CallError::request_id) {
        note(&format!("the request was {id}; the log of the service has more about it"));
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pipe that somebody closed.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert!(write(&mut Closed, "x").is_err());
        assert!(unless_closed(write(&mut Closed, "x")).is_ok());
        assert!(unless_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
