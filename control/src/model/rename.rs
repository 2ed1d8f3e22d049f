//! Renames of organizations.

use causeway_proto::relocation::v1::ErrorReason;
use uuid::Uuid;

/// Why an organization does not get the slug that was reserved for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: ErrorReason,
    /// What is in the way.
    pub message: String,
}

impl Refusal {
    /// That nobody wants it any more.
    pub(crate) fn released(operation_id: Uuid) -> Self {
        Self {
            reason: ErrorReason::OperationReleased,
            message: format!("rename {operation_id} was released before its region had confirmed it"),
        }
    }
}

/// How far a rename is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenameState {
    /// The region has not confirmed it yet.
    Pending,
    /// Done.
    Confirmed,
    /// It will not be done.
    Refused(Refusal),
}

/// A rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// Its operation.
    pub operation_id: Uuid,
    /// The region of the organization.
    pub region: String,
    /// The organization.
    pub organization_id: i64,
    /// The slug that was asked for.
    pub desired_slug: String,
    /// Whether it must be exactly that.
    pub require_exact: bool,
    /// Whether the old slug stays as an alias.
    pub keep_alias: bool,
    /// The slug that the organization gets.
    pub slug: String,
    /// The slug that it had.
    pub previous_slug: String,
    /// How far it is.
    pub state: RenameState,
}

/// What somebody wants an organization to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRename {
    /// An id that the caller chooses.
    pub operation_id: Uuid,
    /// The region that the organization must be of, if that matters.
    pub region: Option<String>,
    /// The organization.
    pub organization_id: i64,
    /// The slug, of any form.
    pub desired_slug: String,
    /// Refuse rather than give another one.
    pub require_exact: bool,
    /// Checkpoint the old slug as an alias.
    pub keep_alias: bool,
}

impl WantedRename {
    /// Whether a rename is what this asks for.
    pub(crate) fn is(&self, rename: &Rename) -> bool {
        self.organization_id == rename.organization_id
            && self.desired_slug == rename.desired_slug
            && self.require_exact == rename.require_exact
            && self.keep_alias == rename.keep_alias
            && self.region.as_ref().is_none_or(|region| *region == rename.region)
    }
}
