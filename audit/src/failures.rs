//! Calls that failed, until they are stored. Each caller gets a bounded number of rows, so that nobody can fill the
//! database with calls that are refused. How many have none is part of the caller's next row, or is logged.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};

use crate::store::NewEntry;

/// The most rows about failed calls of one caller at once. After that, there is one in each [`REFILL`].
const AT_ONCE: f64 = 10.0;
/// After so many seconds, a caller gets one more row.
const REFILL: f64 = 10.0;
/// The most rows that wait to be stored.
const WAITING: usize = 1_000;
/// The most callers that are counted separately. Further ones are counted together.
const CALLERS: usize = 1_000;
/// After so many seconds without a further row, it is logged how many calls have none.
const LOGGED_AFTER: i64 = 60;

/// The calls of one caller.
#[derive(Debug, Default)]
struct Caller {
    /// The second of the last failed call, since 1970.
    second: i64,
    /// How many rows it had used up then; it has a right to [`AT_ONCE`].
    used: f64,
    /// How many calls have no row since the last one.
    left_out: i64,
}

impl Caller {
    /// How many rows it has used up by now.
    fn used(&self, second: i64) -> f64 {
        let passed = u32::try_from(second - self.second).map_or(0.0, f64::from);
        (self.used - passed / REFILL).max(0.0)
    }
}

/// The caller of a failed call, as it is counted: its identity, or its address if it has none.
fn caller_of(entry: &NewEntry) -> &str {
    match entry.call.who() {
        "" => entry.call.address(),
        who => who,
    }
}

#[derive(Debug, Default)]
struct Pending {
    callers: HashMap<String, Caller>,
    waiting: Vec<(NewEntry, i64)>,
}

/// Failed calls that are to be stored.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    pending: Mutex<Pending>,
}

impl Failures {
    /// Keeps a failed call, or counts it if there are too many.
    pub(crate) fn add(&self, entry: NewEntry, now: DateTime<Utc>) {
        let name = caller_of(&entry).to_owned();
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let Pending { callers, waiting } = &mut *pending;
        let second = now.timestamp();
        if callers.len() >= CALLERS && !callers.contains_key(&name) {
            callers.retain(|_, caller| caller.used(second) > 0.0 || caller.left_out > 0);
        }
        let name =
            if callers.len() >= CALLERS && !callers.contains_key(&name) { String::new() } else { name };
        let caller = callers.entry(name).or_default();
        caller.used = caller.used(second);
        caller.second = second;
        if caller.used + 1.0 > AT_ONCE || waiting.len() >= WAITING {
            caller.left_out += 1;
            return;
        }
        caller.used += 1.0;
        waiting.push((entry, std::mem::take(&mut caller.left_out)));
    }

    /// Those that are to be stored.
    pub(crate) fn take(&self) -> Vec<(NewEntry, i64)> {
        std::mem::take(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner).waiting)
    }

    /// Puts back those that could not be stored, to be stored later. What would then be too many is only counted.
    pub(crate) fn put_back(&self, mut entries: Vec<(NewEntry, i64)>) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        entries.append(&mut pending.waiting);
        for (entry, left_out) in entries.drain(WAITING.min(entries.len())..) {
            pending.callers.entry(caller_of(&entry).to_owned()).or_default().left_out += 1 + left_out;
        }
        pending.waiting = entries;
    }

    /// Callers with calls that have no row, whose last call was a while ago, or all of them. They are not counted any
    /// longer.
    pub(crate) fn take_left_out(&self, now: DateTime<Utc>, all: bool) -> Vec<(String, i64)> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = Vec::new();
        for (name, caller) in &mut pending.callers {
            if caller.left_out > 0 && (all || now.timestamp() - caller.second >= LOGGED_AFTER) {
                left_out.push((name.clone(), std::mem::take(&mut caller.left_out)));
            }
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;
    use crate::{Call, Subject};

    fn failed(who: &str, now: DateTime<Utc>) -> NewEntry {
        let call = Call::new(Uuid::nil(), who, "127.0.0.1".to_owned(), "Service/Call");
        NewEntry::new(&call, Subject::default(), "NOT_FOUND", "", now)
    }

    #[test]
    fn each_caller_gets_some_rows_at_once_and_later_ones_count_the_others() {
        let failures = Failures::default();
        let now = DateTime::UNIX_EPOCH;
        for _ in 0..25 {
            failures.add(failed("ann", now), now);
        }
        failures.add(failed("bob", now), now);
        let taken = failures.take();
        assert_eq!(taken.len(), 11);
        assert!(taken.iter().all(|(_, left_out)| *left_out == 0));
        let later = now + TimeDelta::seconds(10);
        assert_eq!(failures.take_left_out(later, false), []);
        failures.add(failed("ann", later), later);
        let taken = failures.take();
        assert_eq!(taken.iter().map(|(_, left_out)| *left_out).collect::<Vec<_>>(), [15]);
    }

    #[test]
    fn calls_without_a_row_are_logged_if_no_row_follows() {
        let failures = Failures::default();
        let now = DateTime::UNIX_EPOCH;
        for _ in 0..12 {
            failures.add(failed("", now), now);
        }
        assert_eq!(failures.take_left_out(now, false), []);
        let later = now + TimeDelta::seconds(60);
        assert_eq!(failures.take_left_out(later, false), [("127.0.0.1".to_owned(), 2)]);
        assert_eq!(failures.take_left_out(later, true), []);
    }

    #[test]
    fn callers_that_have_not_failed_for_long_are_forgotten() {
        let failures = Failures::default();
        let now = DateTime::UNIX_EPOCH;
        for number in 0..CALLERS {
            failures.add(failed(&format!("caller-{number}"), now), now);
        }
        let later = now + TimeDelta::seconds(200);
        failures.add(failed("ann", later), later);
        assert_eq!(failures.pending.lock().expect("nobody panics with it").callers.len(), 1);
    }

    #[test]
    fn what_cannot_be_stored_takes_bounded_memory() {
        let failures = Failures::default();
        let now = DateTime::UNIX_EPOCH;
        let mut made = 0;
        for attempt in 0..3 {
            for number in 0..CALLERS / 2 {
                failures.add(failed(&format!("caller-{number}"), now), now);
                failures.add(failed(&format!("caller-{attempt}-{number}"), now), now);
                made += 2;
            }
            let taken = failures.take();
            for number in 0..CALLERS / 2 {
                failures.add(failed(&format!("caller-{number}"), now), now);
                made += 1;
            }
            failures.put_back(taken);
        }
        let counted: i64 = failures.take_left_out(now, true).iter().map(|(_, count)| count).sum();
        let waiting = failures.take();
        assert!(waiting.len() <= WAITING, "{}", waiting.len());
        let reported: i64 = waiting.iter().map(|(_, left_out)| 1 + left_out).sum();
        assert_eq!(reported + counted, made, "none is forgotten");
    }

    #[test]
    fn many_callers_take_bounded_memory() {
        let failures = Failures::default();
        let now = DateTime::UNIX_EPOCH;
        for number in 0..5_000 {
            failures.add(failed(&format!("caller-{number}"), now), now);
        }
        assert_eq!(failures.take().len(), WAITING);
        let callers = failures.pending.lock().expect("nobody panics with it").callers.len();
        assert!(callers <= CALLERS + 1, "{callers}");
        let counted: i64 = failures.take_left_out(now, true).iter().map(|(_, count)| count).sum();
        assert_eq!(counted, 4_000, "none is forgotten");
    }
}
