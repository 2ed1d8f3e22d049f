//! The progress of operations that reserve slugs.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// The progress of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Control is reserving slugs for its organizations, or freeing them again. The operation has no answer yet.
    Reserving,
    /// Its reservations are temporary.
    Reserved,
    /// Its reservations are becoming primary.
    Confirming,
    /// Its reservations are primary.
    Confirmed,
    /// Its reservations are being freed.
    Releasing,
    /// Its reservations are gone.
    Released,
}

impl Progress {
    /// All values, in the order in which an operation may pass through them.
    pub const ALL: [Self; 6] =
        [Self::Reserving, Self::Reserved, Self::Confirming, Self::Confirmed, Self::Releasing, Self::Released];
}

/// An operation as its region or an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationSummary {
    /// The name of the region that began it.
    pub region: String,
    /// The id that the region chose.
    pub operation_id: Uuid,
    /// What it has reached, or what is in progress.
    pub progress: Progress,
    /// How many organizations its request names.
    pub organization_count: i64,
    /// How many reservations it has made primary so far.
    pub confirmed_count: i64,
    /// How many reservations its release has freed so far.
    pub released_count: i64,
    /// When control recorded it.
    pub created_at: DateTime<Utc>,
    /// When its state last changed or a part of it was completed.
    pub updated_at: DateTime<Utc>,
}

/// Which operations to list; by default all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only those of this region; `None` for all regions.
    pub region: Option<String>,
    /// Only those with this progress; `None` for any progress.
    pub progress: Option<Progress>,
}

/// The position of an operation in a list, which is sorted by region, then by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationPosition {
    /// The name of the region that began the operation; lists are sorted by it first.
    pub region: String,
    /// The id of the operation, which the region or the caller chose.
    pub operation_id: Uuid,
}

impl OperationPosition {
    /// The position of `operation`.
    #[must_use]
    pub fn of(operation: &OperationSummary) -> Self {
        Self { region: operation.region.clone(), operation_id: operation.operation_id }
    }
}

/// The form in page tokens: region and id, separated by a space.
impl fmt::Display for OperationPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.region, self.operation_id)
    }
}

/// A text is not the position of an operation.
#[derive(Debug, thiserror::Error)]
#[error("is not a position of an operation")]
pub struct NoPosition;

impl FromStr for OperationPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (region, operation_id) = text.split_once(' ').ok_or(NoPosition)?;
        let operation_id = Uuid::try_parse(operation_id).map_err(|_| NoPosition)?;
        Ok(Self { region: region.to_owned(), operation_id })
    }
}
