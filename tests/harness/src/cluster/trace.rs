//! The trace of a cluster: what happened, in order, and what is being waited for. It is shown when a test fails.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The events of one cluster. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    began: Instant,
    state: Mutex<TraceState>,
}

#[derive(Default)]
struct TraceState {
    events: Vec<(Duration, String)>,
    /// The current waits by number: when each began, what it waits for, and the outcome of the last attempt.
    waits: BTreeMap<u64, (Duration, String, String)>,
    next_wait: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self(Arc::new(Inner { began: Instant::now(), state: Mutex::default() }))
    }
}

impl Trace {
    fn state(&self) -> MutexGuard<'_, TraceState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event. Code that only polls must not add events: [`idle`](Self::idle) counts from the last event.
    pub fn note(&self, event: impl Into<String>) {
        let event = event.into();
        tracing::debug!(event, "trace");
        self.state().events.push((self.0.began.elapsed(), event));
    }

    /// The time since the last event.
    #[must_use]
    pub fn idle(&self) -> Duration {
        let last = self.state().events.last().map_or(Duration::ZERO, |(at, _)| *at);
        self.0.began.elapsed().saturating_sub(last)
    }

    /// Notes that somebody waits for something, until the returned [`Wait`] is dropped.
    pub fn wait(&self, what: impl Into<String>) -> Wait {
        let mut state = self.state();
        let number = state.next_wait;
        state.next_wait += 1;
        state.waits.insert(number, (self.0.began.elapsed(), what.into(), String::new()));
        drop(state);
        Wait { trace: self.clone(), number }
    }

    /// What is being waited for, one line each, the oldest first.
    #[must_use]
    pub fn waits(&self) -> Vec<String> {
        let now = self.0.began.elapsed();
        let line = |(since, what, last): &(Duration, String, String)| {
            let last = if last.is_empty() { String::new() } else { format!("; at last: {last}") };
            format!("{what}, for {:.1} s{last}", now.saturating_sub(*since).as_secs_f64())
        };
        self.state().waits.values().map(line).collect()
    }
}

impl fmt::Display for Trace {
    /// Writes one event per line, with the seconds since the cluster began.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, event) in &self.state().events {
            writeln!(f, "{:>9.4} {event}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A wait that is noted in a trace. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "the wait ends when this is dropped"]
pub struct Wait {
    trace: Trace,
    number: u64,
}

impl Wait {
    /// Notes the outcome of the last attempt.
    pub fn tried(&self, outcome: impl Into<String>) {
        if let Some((_, _, last)) = self.trace.state().waits.get_mut(&self.number) {
            *last = outcome.into();
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.trace.state().waits.remove(&self.number);
    }
}

/// Prints a trace when a panic drops this. The panic has printed its reason by then.
#[derive(Debug)]
pub(super) struct PrintOnPanic {
    trace: Trace,
    say: fn(&str),
}

impl PrintOnPanic {
    /// Prints the trace of a cluster on the standard error of the test.
    pub(super) fn of(trace: Trace) -> Self {
        Self { trace, say: |words| eprintln!("{words}") }
    }
}

impl Drop for PrintOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            (self.say)(&format!("what happened to the cluster:\n{}", self.trace));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

    #[test]
    fn a_panic_is_followed_by_what_happened() {
        let words = |trace: &Trace| PrintOnPanic {
            trace: trace.clone(),
            say: |words| SAID.lock().unwrap().push(words.to_owned()),
        };
        let trace = Trace::default();
        trace.note("it began");
        drop(words(&trace));
        assert_eq!(SAID.lock().unwrap().len(), 0);
        let words = words(&trace);
        let panicked = std::thread::spawn(move || {
            let _words = words;
            panic!("on purpose");
        });
        panicked.join().unwrap_err();
        let said = SAID.lock().unwrap();
        assert!(said.len() == 1 && said[0].ends_with("it began\n"), "{said:?}");
    }

    #[test]
    fn waits_are_reported_as_long_as_somebody_waits() {
        let trace = Trace::default();
        let (one, other) = (trace.wait("the first"), trace.wait("the other"));
        one.tried("no answer");
        let waits = trace.waits();
        assert!(waits[0].starts_with("the first, for 0."), "{waits:?}");
        assert!(
            waits[0].ends_with(" s; at last: no answer") && waits[1].starts_with("the other"),
            "{waits:?}"
        );
        drop(one);
        assert_eq!(trace.waits().len(), 1);
        drop(other);
        assert!(trace.waits().is_empty());
    }
}
