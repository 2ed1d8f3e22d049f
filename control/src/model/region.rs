//! Regions, and the ids that they hold.

use chrono::{DateTime, Utc};

pub use causeway_relocation::export::MAX_PK as MAX_ID;

/// A region that registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Where its users reach it.
    pub address: String,
    /// When it registered first.
    pub created_at: DateTime<Utc>,
    /// When it registered last.
    pub last_seen_at: DateTime<Utc>,
}

/// Ids that belong to one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdBlock {
    /// The first one.
    pub first_id: i64,
    /// How many.
    pub count: i64,
}

/// The most ids of one lease.
pub const MAX_LEASE: i64 = causeway_proto::limits::MAX_LEASE as i64;

/// The highest id above which the counter of a model is put: half of all ids. What a region has above is stepped around.
pub const FOLLOWED: i64 = 1 << 52;

/// Ids from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub first: i64,
    /// The last.
    pub last: i64,
}

/// Which ids of one model the table of a region holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldIds {
    /// The model.
    pub model: String,
    /// In ranges, ascending, without overlaps.
    pub ranges: Vec<IdRange>,
    /// Whether the region holds each id of the ranges, and not only some.
    pub is_exact: bool,
}

/// Why ids that a region holds are not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictKind {
    /// They were leased to another region.
    Leased,
    /// Another region holds them too.
    Held,
    /// Another region has reserved a slug for the organization of that id.
    Reserved,
}

impl ConflictKind {
    /// Its name in the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Held => "held",
            Self::Reserved => "reserved",
        }
    }
}

/// Ids that a region holds and another one too, or may give out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdConflict {
    /// The model.
    pub model: String,
    /// The ids.
    pub ids: IdRange,
    /// The other region.
    pub region: String,
    /// Why they are not this region's own.
    pub kind: ConflictKind,
}

/// Where blocks begin that may reach into a range: none is longer than [`MAX_LEASE`].
pub(crate) fn earliest_block(within: IdRange) -> i64 {
    within.first.saturating_sub(MAX_LEASE)
}
