//! Renames of organizations.

use causeway_proto::relocation::v1::ErrorReason;
use uuid::Uuid;

/// Why an organization does not get the slug that was reserved for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of the reasons with which a region may refuse, or `OperationReleased`.
    pub reason: ErrorReason,
    /// The same for people; at most 1,000 bytes.
    pub message: String,
}

impl Refusal {
    /// The rename was released before its region confirmed it.
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
    /// The region has written the slug, and control has made it the primary one.
    Confirmed,
    /// The region refused it, or it was released.
    Refused(Refusal),
}

/// A rename of one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The id that the caller chose; unique across regions.
    pub operation_id: Uuid,
    /// The region of the organization.
    pub region: String,
    /// The id of the organization, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// The slug that was asked for, as it was asked for: of any form, at most 255 bytes.
    pub desired_slug: String,
    /// Whether another slug than the desired one is refused.
    pub require_exact: bool,
    /// Whether the old slug stays as an alias.
    pub keep_alias: bool,
    /// The slug that the organization gets: valid, 1 to 50 characters.
    pub slug: String,
    /// The slug that it had when the rename began.
    pub previous_slug: String,
    /// How far it is.
    pub state: RenameState,
}

/// What somebody wants an organization to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedRename {
    /// An id that the caller chooses.
    pub operation_id: Uuid,
    /// The region that the organization must belong to; any if `None`.
    pub region: Option<String>,
    /// The id of the organization, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// The slug, of any form; at most 255 bytes.
    pub desired_slug: String,
    /// Refuse rather than give another one.
    pub require_exact: bool,
    /// Keep the old slug as an alias.
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
