//! How a command ended, and its exit code.

use std::process::ExitCode;

/// How a command ended. One that could not be run at all is an error instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The command did what was requested: exit code 0.
    Done,
    /// The command tried and did not succeed; it has printed why: exit code 1.
    Failed,
    /// A second signal has stopped a server, and nothing more may be waited for: exit code 1.
    Cut,
    /// A dry run shows that the import would fail: exit code 10.
    WouldFail,
    /// A dry run shows that the import would succeed, or a check that all works, and has warnings: exit code 11.
    Warnings,
    /// An organization got another slug than the requested one: exit code 11.
    OtherSlug,
    /// Region and control differ, and not all of it was repaired: exit code 10.
    Differences,
    /// A check has found something that does not work: exit code 10.
    Faults,
    /// Somebody has pressed Ctrl-C; the command has printed what goes on: exit code 130, as that of a command which the
    /// signal ends.
    Interrupted,
    /// The process was told to end (SIGTERM): exit code 143, for the same reason.
    Terminated,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::Failed | Outcome::Cut => Self::FAILURE,
            Outcome::WouldFail | Outcome::Differences | Outcome::Faults => Self::from(10),
            Outcome::Warnings | Outcome::OtherSlug => Self::from(11),
            Outcome::Interrupted => Self::from(130),
            Outcome::Terminated => Self::from(143),
        }
    }
}
