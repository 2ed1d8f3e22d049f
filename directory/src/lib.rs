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
//! A slug of 12 letters takes 55 to 85 bytes, more right after a growth of its table: 84 MB for a million, as
//! measured with a table of this kind. While a snapshot of a region comes in, its slugs are there twice.
//! [`Directory::resolve`] takes a read lock for one query of a table for each region. At most, it waits for a
//! batch of 2,000 changes that is being written. All regions are one stream, and one place among the watches
//! of a control.

mod follow;
mod replica;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

pub use causeway_client::{Client, ClientFiles, ClientTls, Clock, InvalidUrl, PairFiles, Service, Timeouts};
use tokio::{sync::watch, task::JoinHandle, time::Instant};

use crate::replica::Replica;

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
    /// How long ago all was known of it; `None` if that was never so.
    pub staleness: Option<Duration>,
}

/// A region that is followed.
#[derive(Debug, Clone)]
struct Followed {
    name: Arc<str>,
    address: Arc<str>,
    replica: Arc<Replica>,
}

/// What is known, and by whom it is waited for.
#[derive(Debug)]
struct Known {
    /// The followed regions, sorted by name.
    regions: RwLock<Vec<Followed>>,
    /// When control last listed the regions.
    listed: RwLock<Option<Instant>>,
    ready: watch::Sender<bool>,
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
    /// it is dropped. If control is away, that is no error: the directory tries each of its addresses again,
    /// for ever.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn follow(control: Client, options: Options) -> Self {
        let known = Arc::new(Known {
            regions: RwLock::default(),
            listed: RwLock::default(),
            ready: watch::Sender::new(false),
        });
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
        let regions = self.known.regions.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Option<(Instant, Resolved)> = None;
        for region in regions.iter() {
            let Some((heard, led)) = region.replica.resolve(slug) else { continue };
            if found.as_ref().is_none_or(|(before, _)| *before < heard) {
                let resolved = Resolved {
                    organization_id: led.organization_id,
                    region: Arc::clone(&region.name),
                    region_address: Arc::clone(&region.address),
                    kind: if led.alias_of.is_some() { SlugKind::Alias } else { SlugKind::Primary },
                    canonical_slug: led.alias_of.unwrap_or_else(|| slug.to_owned()),
                };
                found = Some((heard, resolved));
            }
        }
        found.map(|(_, resolved)| resolved)
    }

    /// Waits until the snapshots of all regions are in that there were when control was first heard. Resolving before
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

    /// How old an answer may be: how long ago all was known, of all regions and of which regions there are. `None` if
    /// that was never so. While control answers, it lies between 0 and the time between heartbeats, which is
    /// 5 s.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        let listed = (*self.known.listed.read().unwrap_or_else(PoisonError::into_inner))?;
        let regions = self.known.regions.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = regions.iter().try_fold(listed, |oldest, it| Some(oldest.min(it.replica.heard()?)))?;
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
        regions.iter().map(status).collect()
    }
}
