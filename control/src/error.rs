//! The errors of control's use cases.

use causeway_proto::{failure::shown, limits::MAX_SLUG};
use causeway_relocation::{
    finding::Finding,
    writer::{HasWriteError, WriteError},
};
use causeway_silo::db::{DbError, HasDbError};
use chrono::SecondsFormat;
use uuid::Uuid;

use crate::{
    model::{region::Suspension, rename::Refusal},
    store::added_region::BeginError,
};

/// Why a call failed. The gRPC layer maps each variant to one reason of the contract.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is missing or malformed.
    #[error("{field}: {description}")]
    InvalidArgument {
        /// The path of the field in the request, e.g. `batch.requests[0].slug`.
        field: String,
        /// What is wrong with it.
        description: String,
    },
    /// The tables of the database are not those for which an import was planned.
    #[error(
        "the tables of control's database have changed since the import was planned; revert the import, and import the \
         file under a new id"
    )]
    SchemaChanged,
    /// A region asks about rows or slugs for an import that it does not plan, or that does more than plan.
    #[error(
        "the region does not plan import {import_id}: it has not said so within a week, or the import writes already, or is \
         being reverted; control answers only for one that plans"
    )]
    ImportNotPlanning {
        /// The id of the import, as the request names it.
        import_id: Uuid,
    },
    /// A record refers to a row of control that its import has not brought.
    #[error(
        "record {record}: {field} leads to {model} {id}, which import {import_id} has not brought to control; a region may write only for \
         what its own import has brought, and nothing of the chunk was written"
    )]
    RowNotOfImport {
        /// The import.
        import_id: Uuid,
        /// The ordinal of the record in the file.
        record: i64,
        /// The field of the record.
        field: String,
        /// The model of the row.
        model: String,
        /// Its primary key at control.
        id: i64,
    },
    /// A record would add to a row that imports of other regions use by now, and its own import began long ago.
    #[error(
        "record {record}: {field} leads to {model} {id}, which another region uses by now; an import adds to such rows within \
         a week of its first chunk only, and nothing of this chunk was written. Revert import {import_id} in its region, and \
         import the file under a new id: the user keeps what it has"
    )]
    RowUsedElsewhere {
        /// The import.
        import_id: Uuid,
        /// The ordinal of the record in the file.
        record: i64,
        /// The field of the record.
        field: String,
        /// The model of the row.
        model: String,
        /// Its primary key at control.
        id: i64,
    },
    /// A request stream ended before its last message.
    #[error(
        "the request stream ended before its last message, which says that it is whole; nothing of it was kept, send \
         it again"
    )]
    StreamIncomplete,
    /// No message of a request stream arrived for this long.
    #[error("nothing came of the request stream for {0:?}; nothing of it was kept, send it again")]
    StreamStalled(std::time::Duration),
    /// The messages of a request stream arrived too slowly.
    #[error(
        "the request stream brings less than {rate} organizations a second; nothing of it was kept, send it again"
    )]
    StreamTooSlow {
        /// The least organizations a second.
        rate: usize,
    },
    /// The maximum number of bulk creations is already in progress.
    #[error(
        "{limit} bulk creations of {} are under way, and there are no more at once; nothing of this one was kept, send it \
         again a little later", if *.of == "region" { "this region" } else { "all regions" }
    )]
    TooManyBulkCreations {
        /// How many bulk creations may be in progress at once in the region, or in all regions (see `of`).
        limit: usize,
        /// Whose maximum it is: `region`, which has half of the total, or `control`, the total.
        of: &'static str,
    },
    /// The bulk creations in progress would take more memory than they may.
    #[error(
        "the bulk creations of {} that are under way would take more than {limit} bytes; nothing of this one was kept, \
         send it again a little later, or start control with a larger --max-bulk-bytes",
        if *.of == "region" { "this region" } else { "all regions" }
    )]
    TooMuchInHand {
        /// The maximum in bytes.
        limit: usize,
        /// Whose maximum it is: `region`, which has half of the total, or `control`, the total.
        of: &'static str,
    },
    /// The organizations of one bulk creation would take more memory than those of a region may, so they would not fit
    /// however long the caller waits.
    #[error(
        "this operation would take more than {limit} bytes, half of what control has for bulk creations, and no region may \
         take more; import fewer organizations at once, or start control with a larger --max-bulk-bytes"
    )]
    OperationTooLarge {
        /// The half of the memory for bulk creations that one region may use, in bytes.
        limit: usize,
    },
    /// The region that calls, or that the call asks about, has never registered.
    #[error("region {region} has not registered with this control")]
    RegionNotRegistered {
        /// Its name; the form is valid.
        region: String,
    },
    /// Another region database has registered under this name.
    #[error(
        "another region database has registered as {region}; give this region another name, or, if that database is gone \
         for good, let this one have the name: `causeway regions take-over {region}`"
    )]
    RegionNameTaken {
        /// The name that both databases use.
        region: String,
    },
    /// Somebody reads a feed as its region does, by the id of the region's database, and is not the region.
    #[error(
        "only region {region} itself may name the id of its database to read its feed; leave `instance_id` empty to read it as \
         a router does"
    )]
    NotOwnRegion {
        /// The region of the feed.
        region: String,
    },
    /// The address is to change, and another identity has registered the region.
    #[error(
        "{identity} has registered as region {region}, and no other identity may change its address; use a certificate of \
         that identity, or let this one have the name: `causeway regions take-over {region}`"
    )]
    RegionIdentityDiffers {
        /// The name under which both identities register.
        region: String,
        /// The identity that has registered.
        identity: String,
    },
    /// No operator has added the region, and control registers no others.
    #[error(
        "no operator has added region {region}, and this control registers no others: `causeway regions add {region}`"
    )]
    RegionNotAdded {
        /// Its name; the form is valid.
        region: String,
    },
    /// The region is suspended.
    #[error(
        "region {region} has been suspended since {}{}; what it writes is refused until it is resumed: \
         `causeway regions resume {region}`",
        .suspension.suspended_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        .suspension.text.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
    )]
    RegionSuspended {
        /// The name of the suspended region.
        region: String,
        /// Since when, and why.
        suspension: Suspension,
    },
    /// The region has registered, so it cannot be removed.
    #[error(
        "region {region} has registered, so it cannot be removed; to refuse what it writes: \
         `causeway regions suspend {region}`"
    )]
    RegionHasRegistered {
        /// The name of the region that was to be removed.
        region: String,
    },
    /// No region of this name was added or has registered.
    #[error("no region is called {}", shown(.region))]
    RegionNotFound {
        /// The name from the request.
        region: String,
    },
    /// No free block of the requested size is left below 2^53.
    #[error("the ids of {model} have reached 2^53")]
    IdSpaceExhausted {
        /// The model, by its catalog name.
        model: String,
    },
    /// No organization has the slug, or its reservation is not confirmed yet.
    #[error("no organization has the slug {:?}", shown(.slug))]
    SlugNotFound {
        /// The slug as the caller sent it.
        slug: String,
    },
    /// The region has no such operation. To a confirmation, an operation without an answer does not exist either.
    #[error("region {region} has no operation {operation_id}")]
    OperationNotFound {
        /// The region from the request.
        region: String,
        /// The operation id from the request.
        operation_id: Uuid,
    },
    /// No rename has this operation id.
    #[error("there is no rename with the operation {operation_id}")]
    RenameNotFound {
        /// The operation id from the request.
        operation_id: Uuid,
    },
    /// The operation id was used before with other content.
    #[error("operation {operation_id} was used before with another content; use a new id")]
    OperationContentDiffers {
        /// The operation id from the request.
        operation_id: Uuid,
    },
    /// The operation has been released.
    #[error("operation {operation_id} has been released")]
    OperationReleased {
        /// The operation id from the request.
        operation_id: Uuid,
    },
    /// The operation asks for too many slugs.
    #[error("one operation may reserve at most {most} slugs; split it")]
    TooManySlugs {
        /// The most slugs that it may ask for.
        most: usize,
    },
    /// An organization of the operation already has a slug from another operation.
    #[error("organization {organization_id} has the slug {slug} by operation {operation_id} already")]
    OrganizationAlreadyReserved {
        /// The organization that already has a slug.
        organization_id: i64,
        /// Its primary or temporary slug.
        slug: String,
        /// The other operation, which reserved that slug.
        operation_id: Uuid,
    },
    /// The id of an organization belongs to another region.
    #[error(
        "the id of organization {organization_id} belongs to region {region}: it has an organization of that id, or the id \
         is in a block that was leased to it. Give the organization another id: export it, import it again, delete the old one"
    )]
    OrganizationIdTaken {
        /// The organization, whose id belongs to the other region.
        organization_id: i64,
        /// The region that the id belongs to.
        region: String,
    },
    /// Control has no confirmed slug for an organization.
    #[error(
        "control holds no confirmed slug for organization {organization_id}, so its directory does not take it; \
         `causeway reconcile --repair` has its slug reserved"
    )]
    OrganizationNotReserved {
        /// The organization without a confirmed slug.
        organization_id: i64,
    },
    /// Another organization has the slug.
    #[error("the slug {slug} is taken")]
    SlugTaken {
        /// The slug that the rename asked for.
        slug: String,
    },
    /// The product has reserved the slug for another organization.
    #[error(
        "the product has reserved {slug} for organization {owner} of region {region}; give that one another slug first, for example: \
         `causeway slugs rename {owner} {slug}-2`"
    )]
    SlugTakenInProduct {
        /// The slug that the product has reserved.
        slug: String,
        /// The organization that has it in the product.
        owner: i64,
        /// The region of the organization that has it, as the product calls it.
        region: String,
    },
    /// The desired slug is not a valid slug, and the caller accepts no other one.
    #[error(
        "{:?} is not a slug: a slug has 1 to {MAX_SLUG} lowercase letters, digits and hyphens with at least one letter", shown(.slug)
    )]
    SlugInvalid {
        /// The desired slug as the caller sent it.
        slug: String,
    },
    /// The desired slug is a reserved word, and the caller accepts no other one.
    #[error("{slug} is a reserved word, which no organization may be called by")]
    SlugReserved {
        /// The slug that the caller asked for, which is on the list of reserved words.
        slug: String,
    },
    /// No region has a confirmed slug for an organization with this id, or not the region that the request names.
    #[error("no region has confirmed a slug of an organization {organization_id}")]
    OrganizationNotFound {
        /// The id from the request.
        organization_id: i64,
    },
    /// The organization already has the maximum number of aliases.
    #[error(
        "organization {organization_id} has {limit} aliases, and no organization may have more; release one that nobody \
         uses, or rename without keeping the old slug"
    )]
    TooManyAliases {
        /// The organization that would get one alias too many.
        organization_id: i64,
        /// The maximum number of aliases of one organization.
        limit: usize,
    },
    /// The organization is being renamed.
    #[error(
        "operation {operation_id} is renaming organization {organization_id}; wait for it, or release it"
    )]
    RenameInFlight {
        /// The organization that is being renamed.
        organization_id: i64,
        /// The operation that is renaming it.
        operation_id: Uuid,
    },
    /// The product is renaming the organization, or has not ended that.
    #[error(
        "the product is renaming organization {organization_id} to {slug}, or has not ended that; wait for it, or rename the \
         organization in the product again"
    )]
    RenamingInProduct {
        /// The organization that the product is renaming.
        organization_id: i64,
        /// The slug that it is to get in the product.
        slug: String,
    },
    /// The region refused the rename, or the rename was released before the region confirmed it.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The slug is not an alias, but the primary or temporary slug of its organization.
    #[error("{slug} is not an alias: its organization is known by it, or will be")]
    SlugNotAlias {
        /// The slug from the request, in lowercase.
        slug: String,
    },
    /// The operation is confirmed, so it cannot be released.
    #[error(
        "operation {operation_id} is confirmed: its slug is that of an organization; rename the organization instead"
    )]
    OperationConfirmed {
        /// The operation from the request.
        operation_id: Uuid,
    },
    /// The maximum number of feed readers is reached, or a newer stream of the same region took this stream's place.
    #[error(
        "{limit} watches are open, and this control has no more at once; watch again a little later, close watches that \
         nobody reads, or start control with a larger --max-watches"
    )]
    TooManyWatches {
        /// The maximum number of one region's streams of its own feed, or of all other readers together.
        limit: usize,
    },
    /// The service is stopping.
    #[error("control is going down; try again")]
    ShuttingDown,
    /// Control does not write this model.
    #[error("{} is not a model that control writes", shown(.model))]
    ModelNotWritable {
        /// The model from the request.
        model: String,
    },
    /// The fields of a record cannot be decoded.
    #[error("{0}")]
    ExportInvalid(Box<Finding>),
    /// A chunk with the same first ordinal was written before with other content.
    #[error(
        "the chunk of {model} that begins at ordinal {min_ordinal} was written before with another content"
    )]
    ChunkContentDiffers {
        /// The model, by its catalog name.
        model: String,
        /// The first ordinal that both chunks cover.
        min_ordinal: i64,
    },
    /// The import is being reverted, or was: control writes no more chunks of it.
    #[error("import {import_id} is being reverted, or was; nothing more of it is written")]
    ImportBeingReverted {
        /// The import that is being reverted, or was.
        import_id: Uuid,
    },
    /// Another call is writing the chunk. The use case returns this only if that call fails.
    #[error("the chunk is being written by another call; try again")]
    ChunkExists,
    /// The task of a call panicked or was cancelled: a defect, or the service is stopping.
    #[error("the call ended by itself: {0}")]
    TaskFailed(String),
    /// A chunk of a model could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The database refused a statement, or could not be reached.
    #[error(transparent)]
    Database(#[from] DbError),
}

impl From<BeginError> for Error {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Suspended { region, suspension } => Self::RegionSuspended { region, suspension },
            BeginError::Database(error) => Self::Database(error),
        }
    }
}

impl HasWriteError for Error {
    fn write_error(&self) -> Option<&WriteError> {
        match self {
            Self::Write(error) => Some(error),
            _ => None,
        }
    }
}

impl Error {
    /// A field is missing or malformed.
    pub(crate) fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidArgument { field: field.into(), description: description.into() }
    }
}

impl HasDbError for Error {
    fn db_error(&self) -> Option<&DbError> {
        match self {
            Self::Database(error) => Some(error),
            Self::Write(error) => error.db_error(),
            _ => None,
        }
    }
}
