//! Whose slug is it? It is answered in memory, for routers, which send each request to the right region.
//!
//! A [`Directory`] follows the feeds of all regions, which come on one stream: a snapshot of each first, then
//! what changes, and which regions there are. It answers from what it has received, also while control is
//! away, and reports how old that may be.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use causeway_directory::{Client, Directory, Options, Service, Timeouts};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // All controls of the database. One that is away is passed over.
//! let controls = ["http://control-1:50051".to_owned(), "http://control-2:50051".to_owned()];
//! let control = Client::new(Service::Control, &controls, Timeouts::default())?;
//! let directory = Directory::follow(control, Options::default());
//! directory.ready().await;
//!
//! match directory.resolve("acme") {
//!     Some(found) if found.canonical_slug != "acme" => println!("moved to {}", found.canonical_slug),
//!     Some(found) => println!("organization {} at {}", found.organization_id, found.region_address),
//!     None => println!("nobody has it"),
//! }
//! if directory.staleness().is_none_or(|age| age > Duration::from_secs(60)) {
//!     println!("the answer may be old: control has not been heard for a while");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What it costs
//!
//! A slug takes about a hundred bytes; `docs/scale.md` of Causeway has what was measured with ten million. While a
//! snapshot of a region comes in, the slugs of that region are there twice. [`Directory::resolve`] asks which region
//! may have the slug, and then looks into the table of that region, so it takes as long with a thousand regions as with
//! one. At most, it waits for a batch of 2,000 changes of that region that is being written.
//! [`Directory::staleness`] and [`Directory::regions`] look at each region: ask them from time to time, not for each
//! request. All regions are one stream, and one place among the watches of a control.

mod follow;
mod holders;
mod replica;

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

pub use causeway_client::{Client, ClientFiles, ClientTls, Clock, InvalidUrl, PairFiles, Service, Timeouts};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::{
    holders::Holders,
    replica::{Led, Replica},
};

/// How a directory follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long control may send nothing until the next one is asked. By default, control sends a heartbeat
    /// every 5 s. 20 s by default.
    pub silence: Duration,
    /// The pause after the first attempt that failed. Each further one is twice as long. 250 ms by default.
    pub first_pause: Duration,
    /// The longest pause. 15 s by default.
    pub longest_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            silence: causeway_client::feed::SILENCE,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(15),
        }
    }
}

/// What a slug is to its organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlugKind {
    /// The organization is known by it.
    Primary,
    /// The organization had it before, and it still leads there.
    Alias,
}

/// Whose a slug is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The id of the organization, which is unique across regions.
    pub organization_id: i64,
    /// The region that owns it.
    pub region: Arc<str>,
    /// Where that region is reached, as a URL.
    pub region_address: Arc<str>,
    /// What the slug is to the organization.
    pub kind: SlugKind,
    /// The slug by which the organization is known. Another one than was asked for if that is an alias.
    pub canonical_slug: String,
}

/// What is known of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionStatus {
    /// The name with which the region registered.
    pub name: Arc<str>,
    /// Where it is reached, as a URL.
    pub address: Arc<str>,
    /// The version of its feed up to which all is known; 0 if its snapshot is not in yet.
    pub version: i64,
    /// How many slugs lead to it.
    pub slugs: usize,
    /// How long ago its table was complete; `None` if it never was.
    pub staleness: Option<Duration>,
}

/// A region that is followed.
#[derive(Debug, Clone)]
struct Followed {
    name: Arc<str>,
    address: Arc<str>,
    replica: Arc<Replica>,
}

/// The followed regions.
#[derive(Debug, Default)]
struct Regions {
    /// Sorted by name.
    by_name: Vec<Followed>,
    /// Of each number of a region, its place in `by_name`.
    by_number: HashMap<u32, usize>,
    /// How many regions there have been. Each has a number of its own.
    numbers: u32,
}

impl Regions {
    fn by_name(&self) -> &[Followed] {
        &self.by_name
    }

    fn numbered(&self, number: u32) -> Option<&Followed> {
        self.by_name.get(*self.by_number.get(&number)?)
    }

    fn next_number(&mut self) -> u32 {
        self.numbers = self.numbers.wrapping_add(1);
        self.numbers
    }

    /// Takes out all regions.
    fn take(&mut self) -> Vec<Followed> {
        self.by_number.clear();
        std::mem::take(&mut self.by_name)
    }

    /// Adds a region, whose name comes after all others.
    fn push(&mut self, region: Followed) {
        self.by_number.insert(region.replica.number(), self.by_name.len());
        self.by_name.push(region);
    }
}

/// What is known, and by whom it is waited for.
#[derive(Debug)]
struct Known {
    /// Which regions may have a slug. The first field, as it is dropped first: then regions do not leave it slug by slug.
    holders: Arc<Holders>,
    regions: RwLock<Regions>,
    /// When control last listed the regions.
    listed: RwLock<Option<Instant>>,
    ready: watch::Sender<bool>,
}

impl Known {
    fn new() -> Self {
        Self {
            holders: Arc::new(Holders::new()),
            regions: RwLock::default(),
            listed: RwLock::default(),
            ready: watch::Sender::new(false),
        }
    }

    /// Whose a slug is, which has no uppercase letters.
    fn resolve(&self, slug: &str) -> Option<Resolved> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Option<(Instant, &Followed, Led)> = None;
        for region in self.holders.of(slug).into_iter().filter_map(|number| regions.numbered(number)) {
            let Some((heard, led)) = region.replica.resolve(slug) else { continue };
            // One heartbeat is heard by all regions at the same time: then it is the first by name.
            let is_newer = found.as_ref().is_none_or(|(before, other, _)| {
                (*before, Reverse(&other.name)) < (heard, Reverse(&region.name))
            });
            if is_newer {
                found = Some((heard, region, led));
            }
        }
        let (_, region, led) = found?;
        Some(Resolved {
            organization_id: led.organization_id,
            region: Arc::clone(&region.name),
            region_address: Arc::clone(&region.address),
            kind: if led.alias_of.is_some() { SlugKind::Alias } else { SlugKind::Primary },
            canonical_slug: led.alias_of.unwrap_or_else(|| slug.to_owned()),
        })
    }
}

/// Ends what follows when it is dropped.
#[derive(Debug)]
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Which organization, in which region, has a slug. Cheap to clone; clones know the same. It stops following when the
/// last one is dropped.
#[derive(Debug, Clone)]
pub struct Directory {
    known: Arc<Known>,
    _following: Arc<Following>,
}

impl Directory {
    /// Begins to follow the feeds of all regions, on the runtime in which this is called, and does so until
    /// it is dropped. If control is away, that is not an error: the directory tries each of its addresses again,
    /// for ever.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn follow(control: Client, options: Options) -> Self {
        let known = Arc::new(Known::new());
        let following = tokio::spawn(follow::regions(Arc::clone(&known), control, options));
        Self { known, _following: Arc::new(Following(following)) }
    }

    /// Whose a slug is, without regard to case; `None` if nobody has it, or that is not known yet. Never waits for the
    /// network.
    ///
    /// If a slug goes from one region to another, their feeds may report it in either order, or one of them
    /// may be interrupted. If two regions seem to have it, the answer is the one whose feed is newer: a slug
    /// has one owner at a time, so the other one had it before.
    #[must_use]
    pub fn resolve(&self, slug: &str) -> Option<Resolved> {
        let lowercase;
        let slug = if slug.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
            lowercase = slug.to_lowercase();
            lowercase.as_str()
        } else {
            slug
        };
        self.known.resolve(slug)
    }

    /// Waits until the snapshots of all regions have arrived that control listed in its first message. Resolving before
    /// that is allowed, and knows less.
    pub async fn ready(&self) {
        let mut ready = self.known.ready.subscribe();
        // It fails if the sender is gone, which this directory holds.
        let _ready = ready.wait_for(|ready| *ready).await;
    }

    /// Whether [`ready`](Self::ready) has come. It stays so, also while control is away;
    /// [`staleness`](Self::staleness) returns how old the answers may be.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.known.ready.borrow()
    }

    /// How old an answer may be: how long ago the tables of all regions, and the list of regions, were complete. `None` if
    /// that was never so. While control answers, it lies between 0 and the time between heartbeats, which is
    /// 5 s.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let listed = (*self.known.listed.read().unwrap_or_else(PoisonError::into_inner))?;
        let regions = self.known.regions.read().unwrap_or_else(PoisonError::into_inner);
        let oldest =
            regions.by_name().iter().try_fold(listed, |oldest, it| Some(oldest.min(it.replica.heard()?)))?;
        Some(oldest.elapsed())
    }

    /// The regions that are followed, by name.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionStatus> {
        let regions = self.known.regions.read().unwrap_or_else(PoisonError::into_inner);
        let status = |region: &Followed| RegionStatus {
            name: Arc::clone(&region.name),
            address: Arc::clone(&region.address),
            version: region.replica.version(),
            slugs: region.replica.len(),
            staleness: region.replica.heard().map(|heard| heard.elapsed()),
        };
        regions.by_name().iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use causeway_client::feed::{FeedChange, FeedUpdate};
    use causeway_proto::control::v1::{FeedRegion, FeedReservation, FeedSnapshot, ReservationType};

    use super::*;
    use crate::replica::Intake;

    fn region(name: String) -> FeedRegion {
        FeedRegion { address: format!("http://{name}"), name }
    }

    fn snapshot(slugs: impl IntoIterator<Item = (String, i64)>) -> FeedUpdate {
        let reservation = |(slug, organization_id)| FeedReservation {
            slug,
            organization_id,
            r#type: ReservationType::Primary.into(),
            ..FeedReservation::default()
        };
        let reservations = slugs.into_iter().map(reservation).collect();
        let change = FeedChange::Snapshot(FeedSnapshot { version: 1, reservations, first: true, last: true });
        FeedUpdate { change, current_version: 1 }
    }

    fn lookups(known: &Known) -> usize {
        known.replicas().values().map(|replica| replica.lookups.load(Ordering::Relaxed)).sum()
    }

    #[test]
    fn a_slug_is_looked_up_in_its_own_region_only_however_many_there_are() {
        const REGIONS: i64 = 1_000;
        let (known, now) = (Known::new(), Instant::now());
        known.set_regions((0..REGIONS).map(|number| region(format!("region-{number:04}"))).collect(), now);
        for (name, replica) in known.replicas() {
            let slugs = (0..10).map(|number| (format!("{name}-{number}"), number));
            Intake::new(replica).take(snapshot(slugs), now);
        }
        for number in 0..REGIONS {
            let found = known.resolve(&format!("region-{number:04}-7")).expect("it has it");
            assert_eq!((&*found.region, found.organization_id), (&*format!("region-{number:04}"), 7));
        }
        // A few more are possible: two slugs may have the same hash.
        let asked = lookups(&known);
        assert!((1_000..1_010).contains(&asked), "{asked} lookups for 1,000 slugs");
        for number in 0..REGIONS {
            assert_eq!(known.resolve(&format!("nobody-{number}")), None);
        }
        assert!(lookups(&known) < asked + 10, "slugs that nobody has were looked up");
    }

    #[test]
    fn of_two_regions_that_seem_to_have_a_slug_the_newer_one_has_it() {
        let (known, now) = (Known::new(), Instant::now());
        known.set_regions(["a", "b", "c"].map(|name| region(name.to_owned())).into(), now);
        let replicas = known.replicas();
        let take = |name: &str, seconds| {
            let heard = now + Duration::from_secs(seconds);
            Intake::new(Arc::clone(&replicas[name])).take(snapshot([("acme".to_owned(), 1)]), heard);
            known.resolve("acme").map(|found| found.region.to_string())
        };
        assert_eq!(take("c", 1).as_deref(), Some("c"));
        assert_eq!(take("b", 2).as_deref(), Some("b"));
        // Of those that were heard at the same time, the first by name.
        assert_eq!(take("c", 2).as_deref(), Some("b"));
        assert_eq!(take("a", 2).as_deref(), Some("a"));
        assert_eq!(take("c", 3).as_deref(), Some("c"));
    }

    #[test]
    fn a_region_that_is_gone_has_no_slugs_and_takes_no_memory() {
        let (known, now) = (Known::new(), Instant::now());
        known.set_regions(["a", "b"].map(|name| region(name.to_owned())).into(), now);
        for (name, replica) in known.replicas() {
            Intake::new(replica).take(snapshot([(format!("of-{name}"), 1)]), now);
        }
        assert_eq!(known.holders.len(), 2);
        known.set_regions(vec![region("b".to_owned())], now);
        assert_eq!(known.resolve("of-a"), None);
        assert_eq!(known.resolve("of-b").map(|found| found.region.to_string()).as_deref(), Some("b"));
        assert_eq!(known.holders.len(), 1);
        // The same name comes back as another region.
        known.set_regions(["a", "b"].map(|name| region(name.to_owned())).into(), now);
        assert_eq!(known.resolve("of-a"), None);
        assert!(known.resolve("of-b").is_some());
    }
}
