//! What happened to a cluster, in order: shown when a test fails.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The events of one cluster. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Trace {
    began: Instant,
    events: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Default for Trace {
    fn default() -> Self {
        Self { began: Instant::now(), events: Arc::default() }
    }
}

impl Trace {
    /// Adds an event.
    pub fn note(&self, event: impl Into<String>) {
        let event = event.into();
        tracing::debug!(event, "trace");
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push((self.began.elapsed(), event));
    }
}

impl fmt::Display for Trace {
    /// An event a line, with the seconds since the cluster began.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, event) in self.events.lock().unwrap_or_else(PoisonError::into_inner).iter() {
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
