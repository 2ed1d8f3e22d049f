//! What is known of the slugs of one region, and what a feed changes in it.

use std::{
    collections::{HashMap, hash_map::Entry},
    ops::Deref,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use causeway_client::feed::{FeedChange, FeedUpdate};
use causeway_proto::control::v1::{FeedReservation, ReservationType, feed_event::Change};
use tokio::time::Instant;

use crate::holders::{Holder, OpenHolder, SlugHash};

/// The organizations that slugs lead to. Aliases are few, so that most organizations need no entry of their own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Slugs {
    primary: HashMap<Box<str>, i64>,
    aliases: HashMap<Box<str>, i64>,
    /// The organizations that have aliases.
    aliased: HashMap<i64, Aliased>,
}

/// An organization that has aliases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Aliased {
    /// The slug by which it is known, if it is known by one.
    own: Option<Box<str>>,
    /// How many aliases it has.
    aliases: usize,
}

/// What a change does to the slugs that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The slug was not there, and is now.
    Added,
    /// It was there, and is not any more.
    Removed,
    /// It was there before and after, or never.
    Neither,
}

impl Effect {
    fn of(before: bool, after: bool) -> Self {
        match (before, after) {
            (false, true) => Self::Added,
            (true, false) => Self::Removed,
            (true, true) | (false, false) => Self::Neither,
        }
    }
}

impl Slugs {
    /// Nobody has this slug any more.
    fn remove(&mut self, slug: &str) -> Effect {
        let primary = self.primary.remove(slug);
        if let Some(id) = primary
            && let Some(aliased) = self.aliased.get_mut(&id)
        {
            aliased.own.take_if(|own| **own == *slug);
        }
        let was_alias = self.remove_alias(slug);
        Effect::of(primary.is_some() || was_alias, false)
    }

    /// Returns whether it was an alias.
    fn remove_alias(&mut self, slug: &str) -> bool {
        let Some(id) = self.aliases.remove(slug) else { return false };
        if let Entry::Occupied(mut aliased) = self.aliased.entry(id) {
            aliased.get_mut().aliases -= 1;
            if aliased.get().aliases == 0 {
                aliased.remove();
            }
        }
        true
    }

    /// Takes in what a reservation is from now on. One whose organization is yet to get it leads nowhere.
    fn take(&mut self, reservation: FeedReservation) -> Effect {
        let kind = reservation.r#type();
        let FeedReservation { slug, organization_id, canonical_slug, .. } = reservation;
        let removed = match kind {
            ReservationType::Primary => self.remove_alias(&slug),
            _ => self.remove(&slug) == Effect::Removed,
        };
        match kind {
            ReservationType::Primary => {
                // All its aliases lead to it from now on.
                if let Some(aliased) = self.aliased.get_mut(&organization_id) {
                    aliased.own = Some(slug.as_str().into());
                }
                let before = self.primary.insert(slug.into(), organization_id);
                Effect::of(removed || before.is_some(), true)
            }
            ReservationType::VanityAlias => {
                let aliased = self.aliased.entry(organization_id).or_default();
                aliased.aliases += 1;
                aliased.own = Some(canonical_slug).filter(|slug| !slug.is_empty()).map(Into::into);
                self.aliases.insert(slug.into(), organization_id);
                Effect::of(removed, true)
            }
            ReservationType::TemporaryRenameAlias | ReservationType::Unspecified => {
                Effect::of(removed, false)
            }
        }
    }

    fn led(&self, slug: &str) -> Option<Led> {
        if let Some(organization_id) = self.primary.get(slug) {
            return Some(Led { organization_id: *organization_id, alias_of: None });
        }
        let organization_id = *self.aliases.get(slug)?;
        let own = self.aliased.get(&organization_id).and_then(|aliased| aliased.own.as_deref());
        Some(Led { organization_id, alias_of: Some(own.unwrap_or(slug).to_owned()) })
    }
}

/// Slugs of a region, for each of which the region is among the holders: those that are seen, or those of a snapshot
/// that comes in.
#[derive(Debug)]
struct RegionSlugs {
    slugs: Slugs,
    holder: Holder,
}

impl RegionSlugs {
    fn new(holder: Holder) -> Self {
        Self { slugs: Slugs::default(), holder }
    }

    /// Takes in a reservation. If it is one that leads nowhere, its hash goes to `removed`.
    fn take(&mut self, holder: &OpenHolder, reservation: FeedReservation, removed: &mut Vec<SlugHash>) {
        let hash = holder.hash(&reservation.slug);
        match self.slugs.take(reservation) {
            Effect::Added => holder.add(hash),
            Effect::Removed => removed.push(hash),
            Effect::Neither => {}
        }
    }

    /// Nobody has this slug any more. Its hash goes to `removed` if somebody had it.
    fn remove(&mut self, holder: &OpenHolder, slug: &str, removed: &mut Vec<SlugHash>) {
        if self.slugs.remove(slug) == Effect::Removed {
            removed.push(holder.hash(slug));
        }
    }
}

impl Drop for RegionSlugs {
    fn drop(&mut self) {
        let Some(holder) = self.holder.open() else { return };
        for slug in self.slugs.primary.keys().chain(self.slugs.aliases.keys()) {
            holder.remove(holder.hash(slug));
        }
    }
}

#[derive(Debug)]
struct State {
    region_slugs: RegionSlugs,
    /// The version that they are of; 0 if no snapshot is in.
    version: i64,
    /// When that was all there is.
    heard: Option<Instant>,
}

/// Where a slug leads within its region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) organization_id: i64,
    /// The organization's own slug, if this is another one.
    pub(crate) alias_of: Option<String>,
}

/// What is known of one region. Read by many, written by the one who reads its feed.
#[derive(Debug)]
pub(crate) struct Replica {
    holder: Holder,
    state: RwLock<State>,
    /// How many times a slug was looked up here.
    #[cfg(test)]
    pub(crate) lookups: std::sync::atomic::AtomicUsize,
}

impl Replica {
    /// Nothing is known yet. `heard` is when the region was not there yet, if that is known: it had nothing then.
    pub(crate) fn new(heard: Option<Instant>, holder: Holder) -> Self {
        Self {
            state: RwLock::new(State { region_slugs: RegionSlugs::new(holder.clone()), version: 0, heard }),
            holder,
            #[cfg(test)]
            lookups: Default::default(),
        }
    }

    /// The number of the region, by which it is found among the holders.
    pub(crate) fn number(&self) -> u32 {
        self.holder.number()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a slug leads, and when that was known to be so.
    pub(crate) fn resolve(&self, slug: &str) -> Option<(Instant, Led)> {
        #[cfg(test)]
        self.lookups.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let state = self.read();
        let led = state.region_slugs.slugs.led(slug)?;
        // There is a snapshot, so all was known at least once.
        Some((state.heard?, led))
    }

    pub(crate) fn version(&self) -> i64 {
        self.read().version
    }

    pub(crate) fn heard(&self) -> Option<Instant> {
        self.read().heard
    }

    pub(crate) fn len(&self) -> usize {
        let slugs = &self.read().region_slugs.slugs;
        slugs.primary.len() + slugs.aliases.len()
    }
}

/// Applies the messages of one stream of a feed to a replica.
#[derive(Debug)]
pub(crate) struct Intake<R> {
    replica: R,
    /// The slugs of a snapshot whose end is not in, and when it began. Until then the replica stays as it was.
    snapshot: Option<(RegionSlugs, Instant)>,
}

impl<R: Deref<Target = Replica>> Intake<R> {
    pub(crate) fn new(replica: R) -> Self {
        Self { replica, snapshot: None }
    }

    /// Takes in one message, which came `now` and follows what came before.
    pub(crate) fn take(&mut self, update: FeedUpdate, now: Instant) {
        // Nobody asks a directory that is gone.
        let Some(holder) = self.replica.holder.open() else { return };
        // What nobody has any more. It leaves the holders when nobody sees it here.
        let mut removed = Vec::new();
        match update.change {
            FeedChange::Snapshot(snapshot) => {
                let (mut collected, begun) = match self.snapshot.take() {
                    Some(coming) if !snapshot.first => coming,
                    _ => (RegionSlugs::new(self.replica.holder.clone()), now),
                };
                for reservation in snapshot.reservations {
                    collected.take(&holder, reservation, &mut removed);
                }
                if !snapshot.last {
                    self.snapshot = Some((collected, begun));
                    removed.into_iter().for_each(|hash| holder.remove(hash));
                    return;
                }
                let before = {
                    let mut state = self.replica.write();
                    state.version = snapshot.version;
                    // The snapshot took a while; its content is at least as new as its beginning.
                    state.heard = Some(begun);
                    std::mem::replace(&mut state.region_slugs, collected)
                };
                // Not under the lock: it may be large.
                drop(before);
            }
            FeedChange::Events(events) => {
                let mut state = self.replica.write();
                for event in events {
                    match event.change {
                        Some(Change::Reservation(reservation)) => {
                            state.region_slugs.take(&holder, reservation, &mut removed);
                        }
                        Some(Change::Removed(gone)) => {
                            state.region_slugs.remove(&holder, &gone.slug, &mut removed);
                        }
                        None => {}
                    }
                    state.version = event.version;
                }
            }
            FeedChange::Nothing => {}
        }
        removed.into_iter().for_each(|hash| holder.remove(hash));
        let mut state = self.replica.write();
        if state.version > 0 && state.version >= update.current_version {
            state.heard = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use causeway_client::feed::{BrokenFeed, FeedReader};
    use causeway_proto::control::v1::{
        FeedEvent, FeedEvents, FeedHeartbeat, FeedRemoval, FeedSnapshot, WatchSlugReservationsResponse,
        watch_slug_reservations_response::Part,
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::holders::Holders;

    /// A replica of which nothing is known, and what it is found by.
    fn new() -> (Arc<Holders>, Replica) {
        let holders = Arc::new(Holders::new());
        let replica = Replica::new(None, Holder::new(&holders, 7));
        (holders, replica)
    }

    /// What control holds: of each slug, organization and type.
    type Model = BTreeMap<String, (i64, ReservationType)>;

    /// The slug by which an organization is known.
    fn own(model: &Model, organization_id: i64) -> Option<&String> {
        let mut own = model.iter().filter(|(_, led)| **led == (organization_id, ReservationType::Primary));
        own.next().map(|(slug, _)| slug)
    }

    /// The events about a slug of an organization.
    fn change_of(model: &Model, slug: &str, organization_id: i64) -> Change {
        let slug = slug.to_owned();
        let Some((_, kind)) = model.get(&slug) else {
            return Change::Removed(FeedRemoval { slug, organization_id, ..FeedRemoval::default() });
        };
        Change::Reservation(FeedReservation {
            slug,
            organization_id,
            r#type: (*kind).into(),
            canonical_slug: own(model, organization_id).cloned().unwrap_or_default(),
            ..FeedReservation::default()
        })
    }

    /// A stream of the feed of the region of a replica, from what is known on.
    struct Stream<'a> {
        reader: FeedReader,
        intake: Intake<&'a Replica>,
    }

    impl<'a> Stream<'a> {
        fn new(replica: &'a Replica) -> Self {
            Self { reader: FeedReader::new(replica.version()), intake: Intake::new(replica) }
        }

        /// How many slugs a snapshot has whose end is not in.
        fn coming(&self) -> usize {
            let slugs = self.intake.snapshot.as_ref().map(|(snapshot, _)| &snapshot.slugs);
            slugs.map_or(0, |slugs| slugs.primary.len() + slugs.aliases.len())
        }

        fn take(&mut self, message: WatchSlugReservationsResponse, now: Instant) -> Result<(), BrokenFeed> {
            self.intake.take(self.reader.read(message)?, now);
            Ok(())
        }
    }

    fn message(part: Part, current_version: i64) -> WatchSlugReservationsResponse {
        WatchSlugReservationsResponse { part: Some(part), current_version }
    }

    fn events(after: i64, changes: Vec<Change>, current: i64) -> WatchSlugReservationsResponse {
        let events = (after + 1..).zip(changes);
        let events = events.map(|(version, change)| FeedEvent { version, change: Some(change) }).collect();
        message(Part::Events(FeedEvents { events }), current)
    }

    /// A snapshot in parts of two.
    fn snapshot(model: &Model, version: i64) -> Vec<WatchSlugReservationsResponse> {
        let reservation =
            |(slug, (id, _)): (&String, &(i64, ReservationType))| match change_of(model, slug, *id) {
                Change::Reservation(reservation) => Some(reservation),
                Change::Removed(_) => None,
            };
        let all: Vec<FeedReservation> = model.iter().filter_map(reservation).collect();
        let mut parts: Vec<Vec<FeedReservation>> = all.chunks(2).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let count = parts.len();
        let part = |(index, reservations)| {
            let (first, last) = (index == 0, index + 1 == count);
            message(Part::Snapshot(FeedSnapshot { version, reservations, first, last }), version)
        };
        parts.into_iter().enumerate().map(part).collect()
    }

    fn resolved(replica: &Replica, slug: &str) -> Option<(i64, String)> {
        let (_, led) = replica.resolve(slug)?;
        Some((led.organization_id, led.alias_of.unwrap_or_else(|| slug.to_owned())))
    }

    fn led(model: &Model, slug: &str) -> Option<(i64, String)> {
        let (id, kind) = model.get(slug)?;
        match kind {
            ReservationType::Primary => Some((*id, slug.to_owned())),
            ReservationType::VanityAlias => {
                Some((*id, own(model, *id).map_or(slug, String::as_str).to_owned()))
            }
            _ => None,
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// An organization is known by this slug from now on. Its old one stays as an alias, or is free.
        Name(usize, i64, bool),
        /// A slug is reserved for an organization that is to get it.
        Want(usize, i64),
        /// Nobody has the slug any more.
        Free(usize),
        /// The stream breaks; the next one goes on after what is known.
        Break,
        /// It breaks, and the next one begins with a snapshot, of which so many parts come before that breaks
        /// too, and then another one, if it does not go on after what is known.
        Again(usize, bool),
    }

    const SLUGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

    fn step() -> impl Strategy<Value = Step> {
        let (slug, id) = (|| 0..SLUGS.len(), || 1..4_i64);
        prop_oneof![
            8 => (slug(), id(), any::<bool>()).prop_map(|(slug, id, keep)| Step::Name(slug, id, keep)),
            2 => (slug(), id()).prop_map(|(slug, id)| Step::Want(slug, id)),
            3 => slug().prop_map(Step::Free),
            1 => Just(Step::Break),
            1 => (0..4_usize, any::<bool>()).prop_map(|(parts, again)| Step::Again(parts, again)),
        ]
    }

    /// Does to the model what a step does, as control does it, and returns the events about it: one event for each slug
    /// that changes.
    fn change(model: &mut Model, step: &Step) -> Vec<Change> {
        let mut changes = Vec::new();
        let free = |model: &mut Model, slug: &str, changes: &mut Vec<Change>| {
            if let Some((id, _)) = model.remove(slug) {
                changes.push(change_of(model, slug, id));
            }
        };
        match step {
            Step::Name(slug, id, keep) => {
                let slug = SLUGS[*slug];
                if model.get(slug).is_some_and(|(other, _)| other != id) {
                    free(model, slug, &mut changes);
                }
                let old = own(model, *id).filter(|old| *old != slug).cloned();
                if let Some(old) = &old {
                    model.remove(old);
                }
                model.insert(slug.to_owned(), (*id, ReservationType::Primary));
                if let (Some(old), true) = (&old, *keep) {
                    model.insert(old.clone(), (*id, ReservationType::VanityAlias));
                }
                changes.push(change_of(model, slug, *id));
                changes.extend(old.map(|old| change_of(model, &old, *id)));
            }
            Step::Want(slug, id) if !model.contains_key(SLUGS[*slug]) => {
                model.insert(SLUGS[*slug].to_owned(), (*id, ReservationType::TemporaryRenameAlias));
                changes.push(change_of(model, SLUGS[*slug], *id));
            }
            Step::Free(slug) => free(model, SLUGS[*slug], &mut changes),
            Step::Want(..) | Step::Break | Step::Again(..) => {}
        }
        changes
    }

    proptest! {
        #[test]
        fn what_was_heard_is_what_control_holds(steps in vec(step(), 1..60)) {
            let now = Instant::now();
            let (holders, replica) = new();
            let mut model = Model::new();
            let mut version = 1;
            let mut reader = Stream::new(&replica);
            for part in snapshot(&model, version) {
                reader.take(part, now).expect("it follows");
            }
            for step in steps {
                let changes = change(&mut model, &step);
                if !changes.is_empty() {
                    let after = version;
                    version += i64::try_from(changes.len()).expect("few");
                    reader.take(events(after, changes, version), now).expect("it follows");
                }
                match step {
                    Step::Break => {
                        reader = Stream::new(&replica);
                        prop_assert_eq!(replica.version(), version);
                    }
                    Step::Again(parts, again) => {
                        reader = Stream::new(&replica);
                        for part in snapshot(&model, version).into_iter().take(parts) {
                            reader.take(part, now).expect("it follows");
                        }
                        reader = Stream::new(&replica);
                        for part in snapshot(&model, version).into_iter().filter(|_| again) {
                            reader.take(part, now).expect("it follows");
                        }
                    }
                    Step::Name(..) | Step::Want(..) | Step::Free(_) => {}
                }
                for slug in SLUGS {
                    prop_assert_eq!(resolved(&replica, slug), led(&model, slug), "{}", slug);
                    let is_holder = holders.of(slug).contains(&replica.number());
                    prop_assert!(is_holder || led(&model, slug).is_none(), "{} is not found by its holders", slug);
                }
            }
            let count = SLUGS.iter().filter(|slug| led(&model, slug).is_some()).count();
            prop_assert_eq!((replica.len(), holders.len()), (count, count + reader.coming()));
            drop(reader);
            prop_assert_eq!(holders.len(), count);
            drop(replica);
            prop_assert_eq!(holders.len(), 0);
        }
    }

    fn primary(slug: &str, id: i64) -> Model {
        Model::from([(slug.to_owned(), (id, ReservationType::Primary))])
    }

    #[test]
    fn what_is_missing_or_comes_again_is_noticed_and_not_taken() {
        let ((_holders, replica), now) = (new(), Instant::now());
        let change = || vec![change_of(&primary("b", 2), "b", 2)];
        // Before there is a snapshot.
        let refused = Stream::new(&replica).take(events(0, change(), 1), now);
        assert_eq!(refused, Err(BrokenFeed::Gap { after: 0, version: 1 }));
        let mut reader = Stream::new(&replica);
        reader.take(snapshot(&primary("a", 1), 7).remove(0), now).expect("a snapshot");
        for after in [6, 8] {
            let refused = reader.take(events(after, change(), 9), now);
            assert_eq!(refused, Err(BrokenFeed::Gap { after: 7, version: after + 1 }));
            assert_eq!((replica.version(), resolved(&replica, "b")), (7, None));
        }
        reader.take(events(7, change(), 8), now).expect("it follows");
        assert_eq!((replica.version(), resolved(&replica, "b")), (8, Some((2, "b".to_owned()))));
    }

    #[test]
    fn a_snapshot_takes_the_place_of_all_at_once() {
        let ((_holders, replica), now) = (new(), Instant::now());
        let mut reader = Stream::new(&replica);
        reader.take(snapshot(&primary("gone", 1), 3).remove(0), now).expect("a snapshot");
        let new: Model = (2..).zip(["p", "q", "r"]).flat_map(|(id, slug)| primary(slug, id)).collect();
        let mut parts = snapshot(&new, 9);
        let last = parts.pop().expect("two parts");
        for part in parts {
            reader.take(part, now).expect("it follows");
            assert_eq!((resolved(&replica, "gone").is_some(), resolved(&replica, "p")), (true, None));
        }
        let refused = reader.take(events(3, vec![change_of(&Model::new(), "gone", 1)], 9), now);
        assert_eq!(refused, Err(BrokenFeed::NoEnd));
        reader.take(last.clone(), now).expect("it follows");
        assert_eq!(
            (resolved(&replica, "gone"), resolved(&replica, "p").is_some(), replica.len()),
            (None, true, 3)
        );
        assert_eq!(Stream::new(&replica).take(last, now), Err(BrokenFeed::NoBeginning));
    }

    #[test]
    fn only_one_who_knows_all_is_up_to_date() {
        let ((_holders, replica), now) = (new(), Instant::now());
        let later = |seconds| now + std::time::Duration::from_secs(seconds);
        let mut reader = Stream::new(&replica);
        let mut behind = snapshot(&primary("a", 1), 3).remove(0);
        behind.current_version = 5;
        reader.take(behind, now).expect("a snapshot");
        assert_eq!(replica.heard(), Some(now));
        reader.take(message(Part::Heartbeat(FeedHeartbeat {}), 5), later(1)).expect("it follows");
        reader.take(events(3, vec![change_of(&Model::new(), "a", 1)], 5), later(2)).expect("it follows");
        assert_eq!(replica.heard(), Some(now));
        reader.take(events(4, vec![change_of(&Model::new(), "b", 1)], 5), later(3)).expect("it follows");
        assert_eq!(replica.heard(), Some(later(3)));
        reader.take(message(Part::Heartbeat(FeedHeartbeat {}), 5), later(8)).expect("it follows");
        assert_eq!(replica.heard(), Some(later(8)));
    }
}
