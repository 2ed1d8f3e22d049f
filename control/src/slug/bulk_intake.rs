//! Limits the bulk creations in progress: their number, and the memory that they take. A bulk creation stays in memory
//! until its answer has been sent, so without a limit a few callers could use up control's memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_proto::limits::organization_in_hand;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, model::reservation::WantedSlug};

/// How many calls may wait for their header, for each that may be in progress. They wait for seconds only.
const HEADERS_PER_CALL: usize = 4;

/// Limits for bulk creations in progress. One region gets at most half of the calls and half of the bytes, so that
/// others get through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The most calls at once; at least two.
    pub calls: usize,
    /// The most bytes that their organizations may take.
    pub bytes: usize,
    /// How long control waits for the next message of a call, or for the caller to take the next answer, before it ends
    /// the call.
    pub idle: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { calls: 64, bytes: 1 << 30, idle: Duration::from_secs(60) }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Usage {
    calls: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    all: Usage,
    of: HashMap<String, Usage>,
}

/// The places for bulk creations. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct BulkIntake {
    options: Options,
    state: Arc<Mutex<State>>,
    /// Places of calls that have not sent their header yet. Each may have a message of 4 MiB on its way.
    headers: Arc<Semaphore>,
}

impl BulkIntake {
    pub(crate) fn new(options: Options) -> Self {
        let options = Options { calls: options.calls.max(2), ..options };
        let headers = HEADERS_PER_CALL.saturating_mul(options.calls).min(Semaphore::MAX_PERMITS);
        Self { options, state: Arc::default(), headers: Arc::new(Semaphore::new(headers)) }
    }

    pub(crate) fn idle(&self) -> Duration {
        self.options.idle
    }

    /// The most bytes that one call may ever take.
    pub(crate) fn most_bytes(&self) -> usize {
        self.options.bytes / 2
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a call until it has sent its header.
    ///
    /// # Errors
    /// If too many calls have not sent theirs.
    pub(crate) fn wait_for_header(&self) -> Result<OwnedSemaphorePermit, Error> {
        let limit = self.options.calls;
        let place = Arc::clone(&self.headers).try_acquire_owned();
        place.map_err(|_| Error::TooManyBulkCreations { limit, of: "control" })
    }

    /// Takes a place for a call of a region.
    ///
    /// # Errors
    /// If no place is left, or the region has as many calls as it may.
    pub(crate) fn enter(&self, region: &str) -> Result<IntakeSlot, Error> {
        let mut state = self.state();
        let (of_all, of_region) = (self.options.calls, self.options.calls / 2);
        if state.all.calls >= of_all {
            return Err(Error::TooManyBulkCreations { limit: of_all, of: "control" });
        }
        let usage = state.of.entry(region.to_owned()).or_default();
        if usage.calls >= of_region {
            return Err(Error::TooManyBulkCreations { limit: of_region, of: "region" });
        }
        usage.calls += 1;
        state.all.calls += 1;
        Ok(IntakeSlot { intake: self.clone(), region: region.to_owned(), bytes: 0 })
    }
}

/// The place of a bulk creation, and the bytes that it takes. Dropping it gives both back.
#[derive(Debug)]
pub(crate) struct IntakeSlot {
    intake: BulkIntake,
    region: String,
    bytes: usize,
}

impl IntakeSlot {
    /// Takes bytes for more organizations.
    ///
    /// # Errors
    /// If the region, or all regions together, would take more bytes than they may at the moment, or this call alone
    /// would take more than the region ever may.
    pub(crate) fn grow(&mut self, organizations: &[WantedSlug]) -> Result<(), Error> {
        let Options { bytes: limit, .. } = self.intake.options;
        let bytes: usize = organizations.iter().map(|it| organization_in_hand(&it.slug, &it.name)).sum();
        // It would never fit, so the caller must not be told to try again.
        if self.bytes + bytes > self.intake.most_bytes() {
            return Err(Error::OperationTooLarge { limit: self.intake.most_bytes() });
        }
        let mut state = self.intake.state();
        let all = state.all.bytes + bytes;
        let of = state.of.entry(self.region.clone()).or_default();
        let limit_of_region = self.intake.most_bytes();
        if of.bytes + bytes > limit_of_region {
            return Err(Error::TooMuchInHand { limit: limit_of_region, of: "region" });
        }
        if all > limit {
            return Err(Error::TooMuchInHand { limit, of: "control" });
        }
        of.bytes += bytes;
        state.all.bytes = all;
        drop(state);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for IntakeSlot {
    fn drop(&mut self) {
        let mut state = self.intake.state();
        state.all.calls -= 1;
        state.all.bytes -= self.bytes;
        if let Some(usage) = state.of.get_mut(&self.region) {
            usage.calls -= 1;
            usage.bytes -= self.bytes;
            if usage.calls == 0 {
                state.of.remove(&self.region);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::limits::ORGANIZATION_IN_HAND as ORGANIZATION;

    use super::*;

    fn intake(calls: usize, bytes: usize) -> BulkIntake {
        BulkIntake::new(Options { calls, bytes, ..Options::default() })
    }

    fn organizations(count: usize) -> Vec<WantedSlug> {
        let one = WantedSlug {
            organization_id: 1,
            slug: String::new(),
            name: String::new(),
            taken_in_region: false,
        };
        vec![one; count]
    }

    fn is_nothing_held(intake: &BulkIntake) -> bool {
        let state = intake.state();
        state.of.is_empty() && state.all.calls == 0 && state.all.bytes == 0
    }

    #[test]
    fn a_region_has_half_of_the_places_and_gives_them_back() {
        let intake = intake(4, 1 << 20);
        let us = [intake.enter("us").expect("a place"), intake.enter("us").expect("a place")];
        let refused = intake.enter("us").expect_err("it has half of them");
        assert!(matches!(refused, Error::TooManyBulkCreations { limit: 2, of: "region" }), "{refused:?}");
        let de = intake.enter("de").expect("another region gets through");
        let fr = intake.enter("fr").expect("a place");
        let refused = intake.enter("es").expect_err("there is none");
        assert!(matches!(refused, Error::TooManyBulkCreations { limit: 4, of: "control" }), "{refused:?}");
        drop(us);
        drop(intake.enter("us").expect("there is a place again"));
        drop((de, fr));
        assert!(is_nothing_held(&intake));
    }

    #[test]
    fn what_is_in_hand_is_bounded_and_given_back() {
        let intake = intake(8, 10 * ORGANIZATION);
        let mut us = intake.enter("us").expect("a place");
        us.grow(&organizations(5)).expect("it is half of it");
        let mut second = intake.enter("us").expect("a place");
        let refused = second.grow(&organizations(1)).expect_err("together they are more than half");
        assert!(matches!(refused, Error::TooMuchInHand { of: "region", .. }), "{refused:?}");
        drop(second);
        let mut de = intake.enter("de").expect("a place");
        de.grow(&organizations(4)).expect("another region gets through");
        let mut fr = intake.enter("fr").expect("a place");
        let refused = fr.grow(&organizations(2)).expect_err("there is room for one");
        assert!(matches!(refused, Error::TooMuchInHand { of: "control", .. }), "{refused:?}");
        fr.grow(&organizations(1)).expect("there is");
        drop(us);
        fr.grow(&organizations(4)).expect("there is room again");
        drop((de, fr));
        assert!(is_nothing_held(&intake));
    }

    #[test]
    fn what_would_never_fit_is_distinguished_from_what_does_not_fit_now() {
        let intake = intake(8, 10 * ORGANIZATION);
        let mut us = intake.enter("us").expect("a place");
        let refused = us.grow(&organizations(6)).expect_err("it is more than half");
        assert!(
            matches!(refused, Error::OperationTooLarge { limit } if limit == 5 * ORGANIZATION),
            "{refused:?}"
        );
        us.grow(&organizations(3)).expect("it fits");
        let refused = us.grow(&organizations(3)).expect_err("in parts it is more than half too");
        assert!(matches!(refused, Error::OperationTooLarge { .. }), "{refused:?}");
        drop(us);
        assert!(is_nothing_held(&intake));
    }

    #[test]
    fn the_largest_operation_fits_unless_set_otherwise() {
        let texts = 50 + 64;
        let bytes = causeway_proto::limits::MAX_ORGANIZATIONS * (ORGANIZATION + texts);
        assert!(bytes <= Options::default().bytes / 2, "{bytes}");
    }
}
