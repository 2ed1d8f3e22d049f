//! How far an import is: a bar on a terminal, otherwise a line now and then. Always on stderr.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use causeway_proto::region::v1::{Import, ImportState};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{note, place::CommandTarget, report, table::clean, throttle};

/// Least time between two lines about an import that stays in the same state.
const QUIET: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(120);

/// The progress of an upload or an import, for both the bar and the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// The state. A change of it always gets a line, and the rate starts again.
    state: String,
    /// What it waits for; empty if it does not wait. A change of it gets a line too.
    waiting: String,
    /// What holds it back; empty if nothing does. A change of it comes with the next line.
    held: String,
    /// The model that is worked on; empty if there is none.
    what: String,
    done: u64,
    /// 0 while it is not known.
    total: u64,
    unit: &'static str,
}

impl Step {
    /// Commands in it go to `place`.
    fn of(import: &Import, place: &CommandTarget) -> Self {
        let progress = import.progress.clone().unwrap_or_default();
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let waiting = import.waiting.as_ref().map_or_else(String::new, |waiting| {
            let message = place.complete(&clean(&waiting.message), &import.control_addresses);
            format!("waiting: {message} ({})", report::reason(waiting.reason))
        });
        // While planning, the number of records is not known, but the number of bytes is.
        let by_bytes = import.state() == ImportState::Planning && progress.records_total == 0;
        let (done, total, unit) = if by_bytes {
            (number(progress.bytes_done), number(import.size_bytes), "bytes")
        } else {
            (number(progress.records_done), number(progress.records_total), "records")
        };
        let held = progress.throttled.as_ref().map_or_else(String::new, throttle::held);
        Self { state: report::state(import), waiting, held, what: clean(&progress.model), done, total, unit }
    }

    /// The step as text, with `rate` as its progress per second.
    fn line(&self, rate: Option<u64>) -> String {
        let mut parts = vec![self.state.clone()];
        if !self.what.is_empty() {
            parts.push(self.what.clone());
        }
        match (self.done, self.total) {
            (0, 0) => {}
            (done, 0) => parts.push(format!("{done} {}", self.unit)),
            (done, total) => parts.push(format!("{done} of {total} {}", self.unit)),
        }
        if let Some(rate) = rate.filter(|rate| *rate > 0) {
            parts.push(format!("{rate}/s"));
        }
        if !self.held.is_empty() {
            parts.push(self.held.clone());
        }
        if !self.waiting.is_empty() {
            parts.push(self.waiting.clone());
        }
        parts.join("  ")
    }
}

/// Decides which steps get a line, and measures the rate.
#[derive(Debug, Default)]
struct Lines {
    /// The last step that got a line, and when.
    said: Option<(Step, Instant)>,
    /// When this state was first seen, and how much was done then.
    begun: Option<(Instant, u64)>,
}

impl Lines {
    /// The line for `step`, if it gets one.
    fn line(&mut self, step: &Step, now: Instant) -> Option<String> {
        let news = self.said.as_ref().is_none_or(|(said, _)| said.state != step.state);
        if news {
            self.begun = Some((now, step.done));
        }
        let waits = self.said.as_ref().is_some_and(|(said, _)| said.waiting != step.waiting);
        let due =
            self.said.as_ref().is_some_and(|(said, when)| said != step && now.duration_since(*when) >= QUIET);
        if !(news || waits || due) {
            return None;
        }
        let line = step.line(self.rate(step, now));
        self.said = Some((step.clone(), now));
        Some(line)
    }

    /// The average progress per second since this state began.
    fn rate(&self, step: &Step, now: Instant) -> Option<u64> {
        let (since, before) = self.begun?;
        let millis = u64::try_from(now.duration_since(since).as_millis()).ok()?;
        step.done.saturating_sub(before).saturating_mul(1_000).checked_div(millis)
    }
}

/// Shows the progress of one import. Leaves nothing on a terminal when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` if stderr is not a terminal.
    bar: Option<ProgressBar>,
    /// Whether the total is known, so that the bar shows a fraction.
    measured: bool,
    lines: Lines,
    /// Where suggested commands go.
    place: CommandTarget,
}

impl Progress {
    /// Nothing is shown yet. Commands that are shown go to `place`.
    pub(crate) fn new(place: CommandTarget) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            // indicatif draws on stderr.
            let bar = ProgressBar::new_spinner();
            bar.set_style(style(false));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, measured: false, lines: Lines::default(), place }
    }

    /// Prints a note above the bar.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Shows the current state of the import.
    pub(crate) fn changed(&mut self, import: &Import, now: Instant) {
        self.show(&Step::of(import, &self.place), now);
    }

    /// Shows that `sent` bytes of `size` have been sent.
    pub(crate) fn sending(&mut self, sent: u64, size: u64, now: Instant) {
        self.show(
            &Step {
                state: "SENDING".to_owned(),
                waiting: String::new(),
                held: String::new(),
                what: String::new(),
                done: sent,
                total: size,
                unit: "bytes",
            },
            now,
        );
    }

    fn show(&mut self, step: &Step, now: Instant) {
        let line = self.lines.line(step, now);
        match &self.bar {
            None => {
                if let Some(line) = line {
                    note(&line);
                }
            }
            Some(bar) => {
                let measured = step.total > 0;
                if std::mem::replace(&mut self.measured, measured) != measured {
                    bar.set_style(style(measured));
                }
                bar.set_length(step.total);
                bar.set_position(step.done);
                bar.set_message(step.line(self.lines.rate(step, now)));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar if the total is known, otherwise a spinner.
fn style(measured: bool) -> ProgressStyle {
    let template = if measured { "{spinner} [{bar:30}] {wide_msg}" } else { "{spinner} {wide_msg}" };
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use causeway_proto::{
        region::v1::{Progress as Far, Waiting},
        relocation::v1::ErrorReason,
    };

    use super::*;

    fn place() -> CommandTarget {
        CommandTarget::Region("http://eu:1".to_owned())
    }

    fn writing(done: i64) -> Import {
        Import {
            state: ImportState::Writing.into(),
            progress: Some(Far {
                model: "sentry.project".to_owned(),
                records_done: done,
                records_total: 500,
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_line_comes_with_a_state_and_then_now_and_then() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut lines = Lines::default();
        let mut line = |import: &Import, seconds| lines.line(&Step::of(import, &place()), at(seconds));
        assert_eq!(line(&writing(0), 0).as_deref(), Some("WRITING  sentry.project  0 of 500 records"));
        assert_eq!(line(&writing(10), 1), None);
        assert_eq!(
            line(&writing(100), 5).as_deref(),
            Some("WRITING  sentry.project  100 of 500 records  20/s")
        );
        assert_eq!(line(&writing(100), 20), None, "nothing has changed");
        let done = Import { state: ImportState::Succeeded.into(), ..Default::default() };
        assert_eq!(line(&done, 21).as_deref(), Some("SUCCEEDED"));
    }

    #[test]
    fn waiting_is_worth_a_line_at_once() {
        let now = Instant::now();
        let mut lines = Lines::default();
        lines.line(&Step::of(&writing(1), &place()), now);
        let mut import = writing(1);
        import.waiting = Some(Waiting {
            reason: ErrorReason::ControlUnavailable.into(),
            message: "control is away; `causeway regions resume eu`".to_owned(),
            ..Default::default()
        });
        import.control_addresses = vec!["http://control:1".to_owned()];
        assert_eq!(
            lines.line(&Step::of(&import, &place()), now).as_deref(),
            Some(
                "WRITING  sentry.project  1 of 500 records  waiting: control is away; `causeway regions resume eu --control \
                 http://control:1` (CONTROL_UNAVAILABLE)"
            )
        );
    }

    #[test]
    fn planning_is_measured_in_bytes() {
        let import = Import {
            state: ImportState::Planning.into(),
            size_bytes: 1_000,
            progress: Some(Far { bytes_done: 10, records_done: 3, ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(Step::of(&import, &place()).line(None), "PLANNING  10 of 1000 bytes");
    }
}
