//! What a throttle knows, without a clock of its own: every function takes the time.

use std::time::Duration;

use causeway_silo::db::ProbeError;
use tokio::time::Instant;

use super::{
    Chosen, ThrottleKind, ThrottleLimits, ThrottleStatus,
    bucket::Bucket,
    giving_way::{GivingWay, LONGEST_REST},
};

/// What a chunk writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Rows that are written or deleted.
    pub(crate) rows: u64,
    /// Bytes of their records in the file.
    pub(crate) bytes: u64,
}

/// What holds a chunk back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlowedBy {
    pub(crate) by: ThrottleKind,
    /// Rows or bytes in a second, or milliseconds.
    pub(crate) limit: u64,
    /// The part of the time in which imports may write, in percent.
    pub(crate) percent: u32,
}

/// The state of a throttle.
#[derive(Debug)]
pub(super) struct State {
    rows: Bucket,
    bytes: Bucket,
    giving_way: GivingWay,
    /// Until when nothing may begin, so that the application has its share.
    rest_until: Option<Instant>,
    /// How many chunks are being written.
    writing: u32,
    /// Since when there has always been a chunk that was being written.
    busy_since: Instant,
    /// Up to when writing has been answered by a rest. Chunks are written at once, and the same time is answered once.
    settled: Instant,
    /// The limits, and the numbers of this process. Its step and percentage are those of `giving_way`.
    status: ThrottleStatus,
}

impl State {
    pub(super) fn new(limits: ThrottleLimits, now: Instant) -> Self {
        Self {
            rows: Bucket::new(now),
            bytes: Bucket::new(now),
            giving_way: GivingWay::default(),
            rest_until: None,
            writing: 0,
            busy_since: now,
            settled: now,
            status: ThrottleStatus { limits, ..ThrottleStatus::default() },
        }
    }

    pub(super) fn limits(&self) -> ThrottleLimits {
        self.status.limits
    }

    pub(super) fn step(&self) -> u32 {
        self.giving_way.step()
    }

    /// Sets the limits of a process that was started with `started`.
    pub(super) fn choose(&mut self, chosen: Chosen, started: ThrottleLimits, now: Instant) {
        let limits = chosen.over(started);
        self.pay(now);
        let before = std::mem::replace(&mut self.status.limits, limits);
        self.status.chosen = chosen;
        // What was written without a limit is not owed.
        if limits.rows_per_second.is_none() || before.rows_per_second.is_none() {
            self.rows.clear(now);
        }
        if limits.bytes_per_second.is_none() || before.bytes_per_second.is_none() {
            self.bytes.clear(now);
        }
        if limits.probe_latency.is_none() {
            self.giving_way = GivingWay::default();
            self.rest_until = None;
            self.status.latency = None;
            self.status.probe_error = None;
        }
    }

    fn pay(&mut self, now: Instant) {
        if let Some(rate) = self.status.limits.rows_per_second {
            self.rows.pay(rate, now);
        }
        if let Some(rate) = self.status.limits.bytes_per_second {
            self.bytes.pay(rate, now);
        }
    }

    /// What holds a chunk back, and until when at least; `None` if it may begin. What writes nothing waits for the
    /// application only.
    pub(super) fn slowed_by(&mut self, now: Instant, cost: Cost) -> Option<(SlowedBy, Instant)> {
        self.pay(now);
        let limits = self.status.limits;
        let mut longest: Option<(ThrottleKind, u64, Instant)> = None;
        let mut add = |by, limit, until: Option<Instant>| {
            if let Some(until) = until
                && until > now
                && longest.is_none_or(|(_, _, longest)| until > longest)
            {
                longest = Some((by, limit, until));
            }
        };
        if let Some(rate) = limits.rows_per_second.filter(|_| cost.rows > 0) {
            add(ThrottleKind::Rows, rate.get(), self.rows.free_at(rate));
        }
        if let Some(rate) = limits.bytes_per_second.filter(|_| cost.bytes > 0) {
            add(ThrottleKind::Bytes, rate.get(), self.bytes.free_at(rate));
        }
        if let Some(bound) = limits.probe_latency {
            add(ThrottleKind::Latency, u64::try_from(bound.as_millis()).unwrap_or(u64::MAX), self.rest_until);
        }
        let (by, limit, until) = longest?;
        Some((SlowedBy { by, limit, percent: self.giving_way.percent() }, until))
    }

    /// A chunk begins now that has waited so long.
    pub(super) fn begin(&mut self, cost: Cost, waited: Duration, now: Instant) {
        if self.writing == 0 {
            self.busy_since = now;
        }
        self.writing = self.writing.saturating_add(1);
        if self.status.limits.rows_per_second.is_some() {
            self.rows.take(cost.rows);
        }
        if self.status.limits.bytes_per_second.is_some() {
            self.bytes.take(cost.bytes);
        }
        self.status.waited = self.status.waited.saturating_add(waited);
    }

    /// A chunk was written.
    pub(super) fn written(&mut self, cost: Cost) {
        self.status.rows = self.status.rows.saturating_add(cost.rows);
        self.status.bytes = self.status.bytes.saturating_add(cost.bytes);
    }

    /// A chunk that began at `begun` was not written, so it owes nothing.
    pub(super) fn give_back(&mut self, cost: Cost, begun: Instant) {
        self.rows.give_back(cost.rows, begun);
        self.bytes.give_back(cost.bytes, begun);
    }

    /// A chunk has ended, written or not.
    pub(super) fn end(&mut self, now: Instant) {
        self.writing = self.writing.saturating_sub(1);
        // What was written before another chunk ended has been answered, whichever of them began first.
        let from = self.settled.max(self.busy_since);
        let wrote = now.saturating_duration_since(from);
        self.settled = self.settled.max(now);
        let rest = self.giving_way.rest(wrote);
        if !rest.is_zero() {
            // While a chunk was still being written, the rest of another one did not pass.
            let until = self.rest_until.map_or(from, |until| until.max(from)) + wrote + rest;
            self.rest_until = Some(until.min(now + LONGEST_REST));
        }
    }

    /// Takes a measurement. Returns whether that lets imports write faster or slower. One that failed says nothing of the
    /// application, so imports go back to full speed by the same steps as after quick ones.
    pub(super) fn measured(&mut self, outcome: Result<Duration, ProbeError>, now: Instant) -> bool {
        let Some(bound) = self.status.limits.probe_latency else { return false };
        let status = &mut self.status;
        status.probes = status.probes.saturating_add(1);
        let (latency, error) = match outcome {
            Ok(latency) => (latency, None),
            // At least so long.
            Err(ProbeError::Slow(limit)) => (limit.max(bound + Duration::from_millis(1)), None),
            Err(error) => (Duration::ZERO, Some(error.to_string())),
        };
        match &error {
            Some(error) if status.probe_error.as_ref() != Some(error) => {
                tracing::warn!(%error, "the probe statement cannot be measured, so imports do not give way to the application; mend --probe-statement, or the database");
            }
            None if status.probe_error.is_some() => {
                tracing::info!("the probe statement can be measured again");
            }
            _ => {}
        }
        if error.is_some() {
            status.failed_probes = status.failed_probes.saturating_add(1);
        } else if latency > bound {
            status.slow_probes = status.slow_probes.saturating_add(1);
        }
        status.latency = error.is_none().then_some(latency);
        status.probe_error = error;
        let before = self.giving_way.step();
        if !self.giving_way.measured(latency, bound) {
            return false;
        }
        let step = self.giving_way.step();
        let percent = self.giving_way.percent();
        if step < before {
            // A rest that has begun gets shorter as well.
            self.rest_until = self
                .rest_until
                .filter(|until| step > 0 && *until > now)
                .map(|until| now + until.saturating_duration_since(now) / 2);
            tracing::info!(
                ?latency,
                ?bound,
                step,
                percent,
                "the application is quick again, so imports write faster"
            );
        } else {
            tracing::warn!(
                ?latency,
                ?bound,
                step,
                percent,
                "the application is slow, so imports give way to it"
            );
        }
        true
    }

    pub(super) fn status(&self) -> ThrottleStatus {
        ThrottleStatus {
            step: self.giving_way.step(),
            percent: self.giving_way.percent(),
            ..self.status.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BOUND: Duration = Duration::from_millis(20);
    const COST: Cost = Cost { rows: 100, bytes: 1_000 };

    fn limits(rows: u64, bytes: u64, bound: Option<Duration>) -> ThrottleLimits {
        ThrottleLimits {
            rows_per_second: NonZeroU64::new(rows),
            bytes_per_second: NonZeroU64::new(bytes),
            probe_latency: bound,
        }
    }

    fn held_by(state: &mut State, now: Instant, cost: Cost) -> Option<(ThrottleKind, Instant)> {
        state.slowed_by(now, cost).map(|(slowed_by, until)| (slowed_by.by, until))
    }

    #[test]
    fn the_stricter_limit_holds_and_what_writes_nothing_passes() {
        let now = Instant::now();
        let mut state = State::new(limits(100, 500, None), now);
        assert_eq!(state.slowed_by(now, COST), None);
        state.begin(COST, Duration::ZERO, now);
        assert_eq!(held_by(&mut state, now, COST), Some((ThrottleKind::Bytes, now + 2 * SECOND)));
        assert_eq!(
            held_by(&mut state, now, Cost { rows: 1, bytes: 0 }),
            Some((ThrottleKind::Rows, now + SECOND))
        );
        assert_eq!(held_by(&mut state, now, Cost::default()), None);
        assert_eq!(held_by(&mut state, now + 2 * SECOND, COST), None);
    }

    #[test]
    fn what_was_written_without_a_limit_is_not_owed() {
        let now = Instant::now();
        let mut state = State::new(limits(0, 0, None), now);
        state.begin(COST, Duration::ZERO, now);
        state.end(now + SECOND);
        state.choose(Chosen::default(), limits(1, 1, None), now);
        assert_eq!(state.slowed_by(now, COST), None);
    }

    #[test]
    fn imports_rest_while_the_application_is_slow_and_less_when_it_is_quick() {
        let now = Instant::now();
        let mut state = State::new(limits(0, 0, Some(BOUND)), now);
        for _ in 0..3 {
            assert!(state.measured(Ok(2 * BOUND), now));
        }
        state.begin(COST, Duration::ZERO, now);
        state.end(now + SECOND);
        let now = now + SECOND;
        // Also what writes nothing, because it reads.
        assert_eq!(
            held_by(&mut state, now, Cost::default()),
            Some((ThrottleKind::Latency, now + 7 * SECOND))
        );
        let slowed_by = state.slowed_by(now, COST).expect("it is held").0;
        assert_eq!((slowed_by.limit, slowed_by.percent), (20, 13));
        for quick in 1..=5 {
            assert_eq!(state.measured(Ok(BOUND), now), quick == 5);
        }
        assert_eq!(held_by(&mut state, now, COST), Some((ThrottleKind::Latency, now + 7 * SECOND / 2)));
        state.choose(Chosen::default(), limits(0, 0, None), now);
        assert_eq!(state.slowed_by(now, COST), None);
        assert_eq!((state.status().step, state.status().latency), (0, None));
    }

    #[test]
    fn chunks_that_are_written_at_once_rest_for_the_time_in_which_any_was_written() {
        let begin = Instant::now();
        let at = |seconds: u32| begin + seconds * SECOND;
        let slow = || {
            let mut state = State::new(limits(0, 0, Some(BOUND)), begin);
            for _ in 0..3 {
                assert!(state.measured(Ok(2 * BOUND), begin));
            }
            state
        };
        // On step 3, an eighth of the time: three from 0 to 1 are 1 second of writing, and 7 of rest.
        let mut state = slow();
        for _ in 0..3 {
            state.begin(COST, Duration::ZERO, at(0));
        }
        for _ in 0..3 {
            state.end(at(1));
        }
        assert_eq!(held_by(&mut state, at(1), COST), Some((ThrottleKind::Latency, at(8))));
        // The next one rests for itself.
        state.begin(COST, Duration::ZERO, at(8));
        state.end(at(9));
        assert_eq!(held_by(&mut state, at(9), COST), Some((ThrottleKind::Latency, at(16))));
        // From 0 to 1, and from 0 to 2: 2 seconds of writing, and 14 of rest.
        let mut state = slow();
        state.begin(COST, Duration::ZERO, at(0));
        state.begin(COST, Duration::ZERO, at(0));
        state.end(at(1));
        state.end(at(2));
        assert_eq!(held_by(&mut state, at(2), COST), Some((ThrottleKind::Latency, at(16))));
        // From 1 to 2 within 0 to 4: 4 seconds of writing, and 28 of rest, whichever ended first.
        let mut state = slow();
        state.begin(COST, Duration::ZERO, at(0));
        state.begin(COST, Duration::ZERO, at(1));
        state.end(at(2));
        state.end(at(4));
        assert_eq!(held_by(&mut state, at(4), COST), Some((ThrottleKind::Latency, at(32))));
        // However many there are, for a minute at most.
        let mut state = slow();
        for _ in 1..40 {
            state.begin(COST, Duration::ZERO, at(0));
        }
        for end in 1..40 {
            state.end(at(end));
        }
        assert_eq!(held_by(&mut state, at(39), COST), Some((ThrottleKind::Latency, at(39) + LONGEST_REST)));
    }

    #[test]
    fn what_was_not_written_owes_nothing_and_is_not_counted() {
        let now = Instant::now();
        let mut state = State::new(limits(100, 0, None), now);
        state.begin(COST, Duration::ZERO, now);
        state.begin(COST, Duration::ZERO, now);
        state.written(COST);
        assert_eq!(held_by(&mut state, now, COST), Some((ThrottleKind::Rows, now + 2 * SECOND)));
        state.give_back(COST, now);
        assert_eq!(held_by(&mut state, now, COST), Some((ThrottleKind::Rows, now + SECOND)));
        assert_eq!((state.status().rows, state.status().bytes), (100, 1_000));
        // What it took was forgotten when the limit was lifted, so it gives back nothing of what others owe.
        let later = now + SECOND / 2;
        state.choose(Chosen::default(), limits(0, 0, None), later);
        state.choose(Chosen::default(), limits(100, 0, None), later);
        state.begin(COST, Duration::ZERO, now);
        state.give_back(COST, now);
        assert_eq!(held_by(&mut state, later, COST), Some((ThrottleKind::Rows, later + SECOND)));
    }

    #[test]
    fn an_answer_that_does_not_come_is_slow_and_a_refused_statement_is_no_reason_to_wait() {
        let now = Instant::now();
        let mut state = State::new(limits(0, 0, Some(BOUND)), now);
        assert!(state.measured(Err(ProbeError::Slow(SECOND)), now));
        assert!(state.measured(Err(ProbeError::Slow(Duration::ZERO)), now));
        let status = state.status();
        assert_eq!((status.step, status.slow_probes, status.failed_probes), (2, 2, 0));
        assert!(status.latency > Some(BOUND) && status.probe_error.is_none(), "{status:?}");
        for _ in 0..10 {
            state.measured(Err(ProbeError::Refused("no such table".to_owned())), now);
        }
        let status = state.status();
        assert_eq!((status.step, status.probes, status.slow_probes, status.failed_probes), (0, 12, 2, 10));
        assert!(status.probe_error.is_some_and(|error| error.contains("no such table")));
        assert_eq!(status.latency, None);
        state.measured(Ok(BOUND), now);
        assert_eq!(state.status().probe_error, None);
    }
}
