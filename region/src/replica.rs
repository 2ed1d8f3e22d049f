//! Plain types of the replica of slug reservations, and of the answers that the region sends to control.

use causeway_proto::relocation::v1::ErrorReason;
use uuid::Uuid;

/// The type of a reservation in the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum ReplicaType {
    /// The slug by which the organization is known.
    Primary,
    /// Reserved for the organization, but not confirmed yet.
    #[strum(serialize = "temporary_rename_alias")]
    Temporary,
    /// A slug that also leads to the organization.
    #[strum(serialize = "vanity_alias")]
    Alias,
}

impl ReplicaType {
    /// Its name in the store, the same as at control.
    pub(crate) fn name(self) -> &'static str {
        self.into()
    }
}

/// The new state of one slug, as the feed reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlugChange {
    pub(crate) slug: String,
    pub(crate) organization_id: i64,
    /// `None` if no organization has the slug any more.
    pub(crate) kind: Option<ReplicaType>,
    /// The primary slug of the organization; `None` if it has none.
    pub(crate) canonical_slug: Option<String>,
    pub(crate) operation_id: Uuid,
    /// Whether control requests that the region gives the organization this slug.
    pub(crate) wanted: bool,
}

/// The answer to control about a rename that it requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) operation_id: Uuid,
    pub(crate) organization_id: i64,
    pub(crate) slug: String,
    /// The slug that the organization gets back if control has abandoned the rename.
    pub(crate) previous_slug: Option<String>,
    /// Why the region refused the rename; `None` if it did the rename.
    pub(crate) refusal: Option<(ErrorReason, String)>,
}
