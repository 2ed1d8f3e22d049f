//! How far an operation that reserves slugs is.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use uuid::Uuid;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its organizations are being given slugs, or what was given is being taken back: it has no answer yet.
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
    /// All of them, in the order in which an operation may go through them.
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
    /// How far it is.
    pub progress: Progress,
    /// How many organizations it was asked for.
    pub organization_count: i64,
    /// How many reservations it has made primary so far.
    pub confirmed_count: i64,
    /// How many reservations its release has freed so far.
    pub released_count: i64,
    /// When it was begun.
    pub created_at: DateTime<Utc>,
    /// When its state last changed, or a part of it was done.
    pub updated_at: DateTime<Utc>,
}

/// Which operations a list is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only those of this region.
    pub region: Option<String>,
    /// Only those that are so far.
    pub progress: Option<Progress>,
}

/// Where an operation stands in a list: by region, then by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationPosition {
    /// The region.
    pub region: String,
    /// The operation.
    pub operation_id: Uuid,
}

impl OperationPosition {
    /// That of an operation.
    #[must_use]
    pub fn of(operation: &OperationSummary) -> Self {
        Self { region: operation.region.clone(), operation_id: operation.operation_id }
    }
}

/// As a page token has it: region and id, with a space between.
impl fmt::Display for OperationPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.region, self.operation_id)
    }
}

/// A text that is no position of an operation.
#[derive(Debug, thiserror::Error)]
#[error("is no position of an operation")]
pub struct NoPosition;

impl FromStr for OperationPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (region, operation_id) = text.split_once(' ').ok_or(NoPosition)?;
        let operation_id = Uuid::try_parse(operation_id).map_err(|_| NoPosition)?;
        Ok(Self { region: region.to_owned(), operation_id })
    }
}
