//! Renames of organizations.

use causeway_proto::relocation::v1::ErrorReason;
use uuid::Uuid;

/// Why an organization does not get the slug that was reserved for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of the reasons with which a region may refuse, or `OperationReleased`.
    pub reason: ErrorReason,
    /// The reason as text for people; at most 1,000 bytes.
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

/// How far a rename is, or why it will not be done.
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
    /// The slug as the caller asked for it: in any form, 1 to 255 bytes.
    pub desired_slug: String,
    /// Whether control refuses the rename if it cannot give exactly the desired slug.
    pub require_exact: bool,
    /// Whether the old slug stays as an alias; if not, it is freed.
    pub keep_alias: bool,
    /// The slug that the organization gets: valid, 1 to 50 characters.
    pub slug: String,
    /// The slug that it had when the rename began.
    pub previous_slug: String,
    /// Pending until the region confirms or refuses it, or somebody releases it.
    pub state: RenameState,
}

/// A request to rename an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameRequest {
    /// An id that the caller chooses.
    pub operation_id: Uuid,
    /// The region that the organization must belong to; `None` for any region.
    pub region: Option<String>,
    /// The id of the organization, 1 to 2^53 - 1.
    pub organization_id: i64,
    /// The slug that the organization should get, in any form; at most 255 bytes.
    pub desired_slug: String,
    /// Refuse the rename rather than give another slug.
    pub require_exact: bool,
    /// Keep the old slug as an alias.
    pub keep_alias: bool,
}

impl RenameRequest {
    /// Whether `rename` is what this request asks for.
    pub(crate) fn is(&self, rename: &Rename) -> bool {
        self.organization_id == rename.organization_id
            && self.desired_slug == rename.desired_slug
            && self.require_exact == rename.require_exact
            && self.keep_alias == rename.keep_alias
            && self.region.as_ref().is_none_or(|region| *region == rename.region)
    }
}
