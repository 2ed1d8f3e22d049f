//! What the command prints: text for people, JSON for programs, progress on stderr.

mod counts;
pub(crate) mod diagnosis;
mod help;
pub(crate) mod inspection;
pub(crate) mod lists;
pub(crate) mod numbers;
pub(crate) mod place;
pub(crate) mod progress;
pub(crate) mod regions;
pub(crate) mod report;
mod table;
pub(crate) mod terminal;
pub(crate) mod throttle;
mod wrap;

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use anstream::AutoStream;
use anyhow::Context as _;
use causeway_client::{CallError, UploadError};
use causeway_proto::relocation::v1::ErrorReason;
use clap::ValueEnum;
use tonic::Code;

use self::{
    place::{CommandTarget, control_of},
    terminal::{BAD, Width, styled},
    wrap::wrap_lines,
};

/// The format of what is printed on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Whether somebody still reads what is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody may.
    There,
    /// The reader has closed the pipe (`| head`): it has seen enough.
    Gone,
}

/// Prints messages on stdout, one after the other. They are JSON already.
pub(crate) fn json(messages: &[String]) -> anyhow::Result<()> {
    json_page(messages).map(|_| ())
}

/// Prints text on stdout, with its styles where somebody sees them.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    text_page(text).map(|_| ())
}

/// Prints a text on stdout, in lines that fit a report.
pub(crate) fn paragraph(paragraph: &str) -> anyhow::Result<()> {
    text(&wrap_lines(paragraph, Width::of_report()))
}

/// Prints messages as [`json`] does. For output in pages, which ends with its reader.
pub(crate) fn json_page(messages: &[String]) -> anyhow::Result<Reader> {
    let mut out = messages.join("\n");
    out.push('\n');
    unless_closed(write(&mut io::stdout().lock(), &out)).context(CANNOT)
}

/// Prints text as [`text`] does. For output in pages, which ends with its reader.
pub(crate) fn text_page(text: &str) -> anyhow::Result<Reader> {
    unless_closed(write(&mut AutoStream::auto(io::stdout().lock()), text)).context(CANNOT)
}

const CANNOT: &str = "stdout cannot be written";

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Whether the reader has closed the pipe, as `head` does. It has seen enough: that is not a failure.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

fn unless_closed(written: io::Result<()>) -> io::Result<Reader> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if is_closed(&error) => Ok(Reader::Gone),
        Err(error) => Err(error),
    }
}

/// Prints a note on stderr, in lines that fit the terminal. A failure to write it is ignored, because there is nowhere
/// left to report it.
pub(crate) fn note(text: &str) {
    said("causeway:", text);
}

/// Prints a text on stderr after the name of the command.
fn said(name: &str, text: &str) {
    let width = Width::of_stderr().unwrap_or(Width::UNLIMITED);
    let lines = wrap_lines(&format!("{name} {text}"), width);
    let _ = write(&mut AutoStream::auto(io::stderr().lock()), &lines);
}

/// Prints a help or the version on stdout, or on stderr what is wrong with a command line, and returns the exit code.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    let text = error.render().ansi().to_string();
    if error.use_stderr() {
        let text = help::fitted(&text, Width::of_stderr().unwrap_or(Width::UNLIMITED));
        // Where that cannot be written, there is nowhere left to report it.
        let _ = write(&mut AutoStream::auto(io::stderr().lock()), &text);
        return code;
    }
    let text = help::fitted(&text, Width::of_list());
    let written = write(&mut AutoStream::auto(io::stdout().lock()), &text);
    match unless_closed(written).context(CANNOT) {
        Ok(_) => code,
        Err(error) => failed(&error, None),
    }
}

/// A call that failed, and what is to be done then, which the service that was called did not know.
#[derive(Debug)]
pub(crate) struct Advised {
    /// Why it failed.
    pub(crate) call: CallError,
    /// What follows that in the message.
    pub(crate) advice: String,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.call, self.advice)
    }
}

/// The call is no source: the message has it already.
impl Error for Advised {}

/// Whether the log of the service has more about a failed call than its message. What is refused for what a caller has
/// asked is not logged.
fn is_logged(call: &CallError) -> bool {
    match call.reason() {
        Some(reason) => matches!(
            reason,
            ErrorReason::Internal
                | ErrorReason::SpoolFailed
                | ErrorReason::DatabaseUnavailable
                | ErrorReason::DatabaseFull
                | ErrorReason::DatabaseContention
        ),
        None => matches!(call.code(), Some(Code::Internal | Code::Unknown)),
    }
}

/// Prints why the command failed, and returns its exit code. Commands in it go to `place`, which the command asked.
pub(crate) fn failed(error: &anyhow::Error, place: Option<&CommandTarget>) -> ExitCode {
    let call = error.chain().find_map(|cause| match cause.downcast_ref::<UploadError>() {
        Some(UploadError::Call(call)) => Some(call),
        _ => match cause.downcast_ref::<Advised>() {
            Some(advised) => Some(&advised.call),
            None => cause.downcast_ref::<CallError>(),
        },
    });
    let text = format!("{error:#}");
    let text = match place {
        Some(place) => place.complete(&text, &call.map(control_of).unwrap_or_default()),
        None => text,
    };
    said(&styled("causeway:", BAD), &text);
    if let Some(id) = call.filter(|call| is_logged(call)).and_then(CallError::request_id) {
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

    fn failed_call(status: tonic::Status) -> CallError {
        let urls = ["http://127.0.0.1:1".to_owned()];
        let service = causeway_client::Service::Region;
        let client = causeway_client::Client::new(service, &urls, causeway_client::Timeouts::default());
        client.expect("a client").failed(status)
    }

    #[tokio::test]
    async fn only_what_a_log_has_sends_somebody_there() {
        use causeway_proto::failure::Failure;
        let of = |reason| is_logged(&failed_call(Failure::new(reason, "no").into()));
        assert!(of(ErrorReason::Internal) && of(ErrorReason::SpoolFailed));
        assert!(!of(ErrorReason::ImportNotFound) && !of(ErrorReason::RoleNotAllowed));
        assert!(is_logged(&failed_call(tonic::Status::internal("broken"))));
        assert!(!is_logged(&failed_call(tonic::Status::unavailable("gone"))));
    }

    #[tokio::test]
    async fn advice_follows_the_cause_which_is_said_once() {
        let call =
            failed_call(causeway_proto::failure::Failure::new(ErrorReason::Internal, "a defect").into());
        let error = anyhow::Error::from(Advised { call, advice: "; look again".to_owned() });
        assert_eq!(format!("{error:#}"), "a defect (INTERNAL); look again");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert!(write(&mut Closed, "x").is_err());
        assert_eq!(unless_closed(write(&mut Closed, "x")).expect("no failure"), Reader::Gone);
        assert!(unless_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
