//! How far an import is: a bar on a terminal, otherwise a line now and then. Always on stderr.

use std::time::Duration;

use causeway_proto::region::v1::{Import, ImportState};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{
    counts, note,
    numbers::{bytes, count_of, duration, rate},
    place::CommandTarget,
    report,
    table::clean,
    terminal::{ATTENTION, BAD, GOOD, Width, styled},
    throttle,
    wrap::columns,
};

/// Least time between two lines about an import that stays in the same state.
const QUIET: Duration = Duration::from_secs(5);
/// After so long there is a line even if nothing has changed, so that nobody takes the command for dead.
const SILENT: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(120);
/// How often [`Progress::tick`] is to be called.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// The widest bar, and the narrowest that says something.
const WIDEST_BAR: usize = 30;
const NARROWEST_BAR: usize = 8;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Records,
    /// What a revert deletes.
    Rows,
}

impl Unit {
    fn shown(self, number: u64) -> String {
        match self {
            Self::Bytes => bytes(number),
            Self::Records | Self::Rows => count_of(number),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "",
            Self::Records => " records",
            Self::Rows => " rows",
        }
    }
}

/// The progress of an upload or an import, for both the bar and the lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    /// The state. A change of it always gets a line, and the rate starts again.
    state: String,
    /// What it waits for: the reason; empty if it does not wait.
    waiting: String,
    /// What holds it back; empty if nothing does. A change of it comes with the next line.
    slowed: String,
    /// The model that is worked on; empty if there is none.
    what: String,
    done: u64,
    /// 0 while it is not known.
    total: u64,
    unit: Unit,
}

/// How fast a step is, and how long it and the whole have taken.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    /// Per second, in this state.
    rate: Option<u64>,
    /// Since the command began to watch.
    elapsed: Duration,
}

impl Step {
    fn of(import: &Import) -> Self {
        let progress = import.progress.clone().unwrap_or_default();
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let waiting =
            import.waiting.as_ref().map_or_else(String::new, |waiting| report::reason(waiting.reason));
        // While planning, the number of records is not known, but the number of bytes is.
        let by_bytes = import.state() == ImportState::Planning && progress.records_total == 0;
        let (done, total, unit) = if by_bytes {
            (number(progress.bytes_done), number(import.size_bytes), Unit::Bytes)
        } else {
            let unit = if import.state() == ImportState::Reverting { Unit::Rows } else { Unit::Records };
            (number(progress.records_done), number(progress.records_total), unit)
        };
        let slowed = progress.throttled.as_ref().map_or_else(String::new, throttle::slowed);
        Self {
            state: report::state(import),
            waiting,
            slowed,
            what: clean(&progress.model),
            done,
            total,
            unit,
        }
    }

    fn sending(sent: u64, size: u64) -> Self {
        Self {
            state: "SENDING".to_owned(),
            waiting: String::new(),
            slowed: String::new(),
            what: String::new(),
            done: sent,
            total: size,
            unit: Unit::Bytes,
        }
    }

    /// Which percentage is done; `None` while the total is not known.
    fn percent(&self) -> Option<u64> {
        // In 128 bits, a hundred times any number of bytes has room.
        let percent = (u128::from(self.done) * 100).checked_div(u128::from(self.total))?;
        Some(u64::try_from(percent).unwrap_or(100).min(100))
    }

    /// The parts of a line about this step, the most important first.
    fn parts(&self, pace: Pace) -> Vec<String> {
        let mut parts = vec![match self.percent() {
            Some(percent) => format!("{} {percent}%", self.state),
            None => self.state.clone(),
        }];
        if !self.waiting.is_empty() {
            parts.push(styled(&format!("waits: {}", self.waiting), ATTENTION));
        }
        match (self.done, self.total) {
            (0, 0) => {}
            (done, 0) => parts.push(format!("{}{}", self.unit.shown(done), self.unit.name())),
            (done, total) => {
                let (done, total) = (self.unit.shown(done), self.unit.shown(total));
                parts.push(format!("{done} of {total}{}", self.unit.name()));
            }
        }
        if let Some(rate) = pace.rate {
            parts.push(format!("{}/s", self.unit.shown(rate)));
        }
        parts.push(duration(pace.elapsed));
        // Something that waits gets no further.
        if self.waiting.is_empty()
            && let Some(left) =
                pace.rate.and_then(|rate| self.total.saturating_sub(self.done).checked_div(rate))
            && left > 0
        {
            parts.push(format!("ETA {}", duration(Duration::from_secs(left))));
        }
        if !self.slowed.is_empty() {
            parts.push(self.slowed.clone());
        }
        if !self.what.is_empty() {
            parts.push(self.what.clone());
        }
        parts
    }

    /// The step as a line.
    fn line(&self, pace: Pace) -> String {
        self.parts(pace).join("  ")
    }

    /// As much of the line as fits, with a bar if there is room for one.
    fn fitted(&self, pace: Pace, width: usize) -> String {
        let mut parts = self.parts(pace);
        while parts.len() > 1 && columns(&parts.join("  ")) > width {
            parts.pop();
        }
        let room = width.saturating_sub(columns(&parts.join("  ")) + 4).min(WIDEST_BAR);
        if let Some(percent) = self.percent()
            && room >= NARROWEST_BAR
        {
            let full = usize::try_from(percent).unwrap_or(100) * room / 100;
            let tip = if full < room { ">" } else { "" };
            let rest = " ".repeat(room - full - tip.len());
            parts.insert(1, format!("[{}{tip}{rest}]", "=".repeat(full)));
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
    begun: Option<(String, Instant, u64)>,
    /// When the first step was seen.
    first: Option<Instant>,
}

impl Lines {
    /// How fast `step` is at this time.
    fn pace(&mut self, step: &Step, now: Instant) -> Pace {
        let first = *self.first.get_or_insert(now);
        match &self.begun {
            Some((state, ..)) if *state == step.state => {}
            _ => self.begun = Some((step.state.clone(), now, step.done)),
        }
        let rate = self.begun.as_ref().and_then(|(_, since, before)| {
            rate(step.done.saturating_sub(*before), now.duration_since(*since))
        });
        Pace { rate, elapsed: now.duration_since(first) }
    }

    /// The line for `step`, if it gets one.
    fn line(&mut self, step: &Step, now: Instant) -> Option<String> {
        let pace = self.pace(step, now);
        let is_due = self.said.as_ref().is_none_or(|(said, when)| {
            let quiet = now.duration_since(*when);
            let news = said.state != step.state || said.waiting != step.waiting;
            news || (said != step && quiet >= QUIET) || quiet >= SILENT
        });
        if !is_due {
            return None;
        }
        self.said = Some((step.clone(), now));
        Some(step.line(pace))
    }
}

/// Shows the progress of one import. The last line stays on the terminal.
#[derive(Debug)]
pub(crate) struct Progress {
    /// `None` if stderr is not a terminal.
    bar: Option<ProgressBar>,
    lines: Lines,
    step: Option<Step>,
    /// The last message about what the import waits for.
    waiting: String,
    /// Where suggested commands go.
    place: CommandTarget,
}

impl Progress {
    /// Nothing is shown yet. Commands that are shown go to `place`.
    pub(crate) fn new(place: CommandTarget) -> Self {
        let bar = Width::of_stderr().map(|_| {
            // indicatif draws on stderr.
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, lines: Lines::default(), step: None, waiting: String::new(), place }
    }

    /// Prints a note above the bar.
    pub(crate) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note(text)),
            None => note(text),
        }
    }

    /// Shows the current state of the import. What it waits for gets a line of its own once, whole, because it may name
    /// a command to paste.
    pub(crate) fn changed(&mut self, import: &Import, now: Instant) {
        let waiting = waiting(import, &self.place);
        if waiting != self.waiting {
            if !waiting.is_empty() {
                self.note(&waiting);
            }
            self.waiting = waiting;
        }
        if import.state().is_final() {
            self.ended(import, now);
        } else {
            self.show(Step::of(import), now);
        }
    }

    /// Shows that `sent` bytes of `size` have been sent.
    pub(crate) fn sending(&mut self, sent: u64, size: u64, now: Instant) {
        self.show(Step::sending(sent, size), now);
    }

    /// Shows how much time has passed. To be called every [`SECOND`].
    pub(crate) fn tick(&mut self, now: Instant) {
        if let Some(step) = self.step.take() {
            self.show(step, now);
        }
    }

    fn show(&mut self, step: Step, now: Instant) {
        match &self.bar {
            None => {
                if let Some(line) = self.lines.line(&step, now) {
                    note(&line);
                }
            }
            Some(bar) => {
                let pace = self.lines.pace(&step, now);
                // The spinner and a space come first. A line over the whole width would end on the next one.
                let width = Width::of_stderr().map_or(0, |width| width.0.saturating_sub(3));
                bar.set_message(step.fitted(pace, width));
            }
        }
        self.step = Some(step);
    }

    /// Shows the outcome, which stays.
    fn ended(&mut self, import: &Import, now: Instant) {
        let first = *self.lines.first.get_or_insert(now);
        let line = outcome(import, now.duration_since(first));
        match self.bar.take() {
            Some(bar) => {
                bar.finish_and_clear();
                note(&line);
            }
            None => note(&line),
        }
        self.step = None;
    }
}

impl Drop for Progress {
    /// The last line stays, so that a person who has interrupted the command sees how far it was.
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

/// A bar for reading so many bytes of a file; it shows nothing without a terminal.
pub(crate) fn reading(bytes: u64) -> ProgressBar {
    if Width::of_stderr().is_none() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    let style = ProgressStyle::with_template("{percent}% {wide_bar} {bytes} of {total_bytes}  {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// What an import waits for and what to do about it; empty if it does not wait.
fn waiting(import: &Import, place: &CommandTarget) -> String {
    import.waiting.as_ref().map_or_else(String::new, |waiting| {
        let message = place.complete(&clean(&waiting.message), &import.control_addresses);
        format!("{} {message} ({})", styled("waiting:", ATTENTION), report::reason(waiting.reason))
    })
}

/// How an import ended, in one line: its state, and for one that did all it should, how much that was and how long it
/// took. `watched` is how long the command has watched it.
fn outcome(import: &Import, watched: Duration) -> String {
    let seen = u64::try_from(counts::seen(import)).unwrap_or(0);
    let state = report::state(import);
    match import.state() {
        ImportState::Succeeded | ImportState::Planned => {
            // If it was joined, or seen to its end later, its own time says more.
            let took = report::duration_of(import).unwrap_or(watched);
            let mut parts = vec![
                styled(&format!("{state} 100%"), GOOD),
                format!("{} records", count_of(seen)),
                duration(took),
            ];
            parts.extend(rate(seen, took).map(|rate| format!("{} records/s", count_of(rate))));
            parts.join("  ")
        }
        ImportState::Failed => format!("{}  {}", styled(&state, BAD), duration(watched)),
        _ => format!("{state}  {}", duration(watched)),
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::{
        region::v1::{Progress as Far, Waiting},
        relocation::v1::{ErrorReason, ModelCounts},
        time::to_proto,
    };
    use chrono::{DateTime, TimeDelta};

    use super::{super::terminal::plain, *};

    fn place() -> CommandTarget {
        CommandTarget::Region("http://eu:1".to_owned())
    }

    fn writing(done: i64) -> Import {
        Import {
            state: ImportState::Writing.into(),
            progress: Some(Far {
                model: "sentry.project".to_owned(),
                records_done: done,
                records_total: 5_000,
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
        let mut line = |import: &Import, seconds| lines.line(&Step::of(import), at(seconds));
        assert_eq!(
            line(&writing(0), 0).as_deref(),
            Some("WRITING 0%  0 of 5,000 records  0.0s  sentry.project")
        );
        assert_eq!(line(&writing(10), 1), None);
        assert_eq!(
            line(&writing(1_000), 5).as_deref(),
            Some("WRITING 20%  1,000 of 5,000 records  200/s  5.0s  ETA 20s  sentry.project")
        );
        assert_eq!(line(&writing(1_000), 20), None, "nothing has changed");
        assert!(line(&writing(1_000), 35).is_some(), "nobody may take it for dead");
        let finishing = Import { state: ImportState::Finishing.into(), ..Default::default() };
        assert_eq!(line(&finishing, 36).as_deref(), Some("FINISHING  36s"));
    }

    #[test]
    fn waiting_is_worth_a_line_at_once() {
        let now = Instant::now();
        let mut lines = Lines::default();
        lines.line(&Step::of(&writing(1)), now);
        let mut import = writing(1);
        import.waiting = Some(Waiting {
            reason: ErrorReason::ControlUnavailable.into(),
            message: "control is away; `causeway regions resume eu`".to_owned(),
            ..Default::default()
        });
        import.control_addresses = vec!["http://control:1".to_owned()];
        assert_eq!(
            lines.line(&Step::of(&import), now).map(|line| plain(&line)).as_deref(),
            Some("WRITING 0%  waits: CONTROL_UNAVAILABLE  1 of 5,000 records  0.0s  sentry.project")
        );
        assert_eq!(
            plain(&waiting(&import, &place())),
            "waiting: control is away; `causeway regions resume eu --control http://control:1` (CONTROL_UNAVAILABLE)"
        );
    }

    #[test]
    fn planning_is_measured_in_bytes() {
        let import = Import {
            state: ImportState::Planning.into(),
            size_bytes: 4 << 20,
            progress: Some(Far { bytes_done: 1 << 20, records_done: 3, ..Default::default() }),
            ..Default::default()
        };
        let pace = Pace { rate: Some(1 << 19), elapsed: Duration::from_secs(2) };
        assert_eq!(
            Step::of(&import).line(pace),
            "PLANNING 25%  1.00 MiB of 4.00 MiB  512.00 KiB/s  2.0s  ETA 6.0s"
        );
    }

    #[test]
    fn a_revert_is_measured_in_rows() {
        let import = Import { state: ImportState::Reverting.into(), size_bytes: 4 << 20, ..writing(1_000) };
        let pace = Pace { rate: Some(500), elapsed: Duration::from_secs(2) };
        assert_eq!(
            Step::of(&import).line(pace),
            "REVERTING 20%  1,000 of 5,000 rows  500/s  2.0s  ETA 8.0s  sentry.project"
        );
        // A region of an older release does not say how many there are: then there is no guess either.
        let mut unknown = import;
        unknown.progress = unknown.progress.map(|progress| Far { records_total: 0, ..progress });
        assert_eq!(Step::of(&unknown).line(pace), "REVERTING  1,000 rows  500/s  2.0s  sentry.project");
    }

    #[test]
    fn a_line_on_a_terminal_fits_its_width() {
        let step = Step::of(&writing(2_500));
        let pace = Pace { rate: Some(100), elapsed: Duration::from_secs(25) };
        let shown: Vec<String> = [20, 34, 35, 50, 80, 120].map(|width| step.fitted(pace, width)).into();
        assert_eq!(
            shown,
            [
                "WRITING 50%",
                "WRITING 50%  [=========>         ]",
                "WRITING 50%  2,500 of 5,000 records",
                "WRITING 50%  2,500 of 5,000 records  100/s  25s",
                "WRITING 50%  2,500 of 5,000 records  100/s  25s  ETA 25s  sentry.project",
                "WRITING 50%  [===============>              ]  2,500 of 5,000 records  100/s  25s  ETA 25s  \
                 sentry.project",
            ]
            .map(str::to_owned)
        );
        for width in 20..200 {
            assert!(columns(&step.fitted(pace, width)) <= width, "{width}");
        }
        let done = Step::sending(7, 7);
        assert_eq!(done.fitted(Pace::default(), 42), "SENDING 100%  [========]  7 B of 7 B  0.0s");
    }

    #[test]
    fn the_outcome_says_how_much_and_how_fast() {
        let begun = DateTime::UNIX_EPOCH;
        let import = Import {
            state: ImportState::Succeeded.into(),
            create_time: Some(to_proto(begun)),
            update_time: Some(to_proto(begun + TimeDelta::seconds(20))),
            models: vec![ModelCounts { seen: 1_234_567, ..Default::default() }],
            ..Default::default()
        };
        let line = plain(&outcome(&import, Duration::from_secs(3)));
        assert_eq!(line, "SUCCEEDED 100%  1,234,567 records  20s  61,728 records/s");
        let failed = Import { state: ImportState::Failed.into(), ..Default::default() };
        assert_eq!(plain(&outcome(&failed, Duration::from_secs(3))), "FAILED  3.0s");
    }

    #[test]
    fn no_number_is_too_large_for_a_percentage() {
        let step = Step::sending(u64::MAX, u64::MAX - 1);
        assert_eq!((step.percent(), Step::sending(3, 0).percent()), (Some(100), None));
    }
}
