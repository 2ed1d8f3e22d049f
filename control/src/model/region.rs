//! Regions, and the ids in their tables.

use chrono::{DateTime, TimeDelta, Utc};

pub use causeway_relocation::export::MAX_PK as MAX_ID;

/// A region that control has not heard from for longer than this is silent. One that runs reads its feed all the time,
/// which control notes about every 10 seconds.
pub const SILENT_AFTER: TimeDelta = TimeDelta::seconds(40);

/// Which regions control lets register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptRegions {
    /// Those that an operator has added.
    Added,
    /// Any region. Its registration adds it.
    Any,
}

/// Who makes a call, as far as control knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The identity in its certificate, as a URI; `None` if callers need none.
    pub identity: Option<String>,
    /// The end of its certificate; `None` if it has shown none.
    pub certificate_end: Option<DateTime<Utc>>,
}

/// Why and since when a region is suspended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// When it was suspended, by control's clock.
    pub suspended_at: DateTime<Utc>,
    /// The identity of the caller who suspended it; `None` if callers had none.
    pub suspended_by: Option<String>,
    /// Why, as that caller said; at most 500 bytes.
    pub text: Option<String>,
}

/// A region that was added, and perhaps has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRegion {
    /// Its name: 1 to 32 lowercase letters, digits and hyphens.
    pub name: String,
    /// When it was added, by control's clock.
    pub added_at: DateTime<Utc>,
    /// The identity of the caller who added it; `None` if callers had none.
    pub added_by: Option<String>,
    /// `None` if it is not suspended.
    pub suspension: Option<Suspension>,
    /// `None` if it has never registered.
    pub registered: Option<Region>,
    /// The version of its feed; `None` if it has never registered.
    pub feed_version: Option<i64>,
    /// Whether ids that it reported belong to other regions as well.
    pub has_id_conflicts: bool,
}

/// A region that registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name: 1 to 32 lowercase letters, digits and hyphens.
    pub name: String,
    /// The URL under which its users reach it; at most 2,048 bytes.
    pub address: String,
    /// When it first registered, by control's clock.
    pub created_at: DateTime<Utc>,
    /// When it last registered, by control's clock.
    pub last_seen_at: DateTime<Utc>,
    /// When it last registered or read its feed, to about ten seconds.
    pub last_contact_at: Option<DateTime<Utc>>,
    /// The identity that registered; `None` if callers had none.
    pub identity: Option<String>,
    /// The end of the certificate with which it last registered.
    pub certificate_end: Option<DateTime<Utc>>,
}

/// A block of consecutive ids that belong to one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdBlock {
    /// The lowest id of the block, at least 1.
    pub first_id: i64,
    /// How many ids, 1 to 1,000,000.
    pub count: i64,
}

/// The most ids of one lease.
pub const MAX_LEASE: i64 = causeway_proto::limits::MAX_LEASE as i64;

/// Ids in use raise the counter of a model up to this id at most: half of all ids. Leases skip ids in use above it.
pub const MAX_COUNTER_FROM_IDS_IN_USE: i64 = 1 << 52;

/// A range of ids, including both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The lowest id of the range, which is part of it.
    pub first: i64,
    /// The highest id of the range, which is part of it.
    pub last: i64,
}

/// The ids of one model in the table of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldIds {
    /// The model, by its catalog name; one with leased ids.
    pub model: String,
    /// At most 3,000 ranges, ascending, without overlaps.
    pub ranges: Vec<IdRange>,
    /// Whether the table has each id of the ranges. If not, the ranges include small gaps.
    pub is_exact: bool,
}

/// Why ids in a region's table conflict with another region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ConflictKind {
    /// They are in a block that was leased to the other region.
    Leased,
    /// The table of the other region has them too.
    Held,
    /// The other region has reserved a slug for the organization with that id.
    Reserved,
}

impl ConflictKind {
    /// The value in the database.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// Ids in a region's table that another region also has, or may give out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdConflict {
    /// The model, by its catalog name.
    pub model: String,
    /// The ids in conflict.
    pub ids: IdRange,
    /// The name of the other region.
    pub region: String,
    /// How the other region came to these ids.
    pub kind: ConflictKind,
}

/// A block that overlaps a range begins above this id, because no block is longer than [`MAX_LEASE`].
pub(crate) fn earliest_block(within: IdRange) -> i64 {
    within.first.saturating_sub(MAX_LEASE)
}
