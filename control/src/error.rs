//! What a caller of control may do wrong or meet.

use causeway_proto::failure::shown;
use causeway_relocation::{
    finding::Finding,
    writer::{HasWriteError, WriteError},
};
use causeway_silo::db::{DbError, HasDbError};
use uuid::Uuid;

use crate::model::rename::Refusal;

/// Why a call failed. Each variant is one reason of the contract; the gRPC layer says which.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the request is missing or malformed.
    #[error("{field}: {description}")]
    InvalidArgument {
        /// Which field, as a path into the request.
        field: String,
        /// What is wrong with it.
        description: String,
    },
    /// A request stream ended before its last message.
    #[error(
        "the request stream ended before its last message, which says that it is whole; nothing of it was kept, send \
         it again"
    )]
    StreamIncomplete,
    /// Nothing has come of a request stream.
    #[error("nothing came of the request stream for {0:?}; nothing of it was kept, send it again")]
    StreamStalled(std::time::Duration),
    /// As many bulk creations are under way as there may be.
    #[error(
        "{limit} bulk creations of {} are under way, and there are no more at once; nothing of this one was kept, send it \
         again a little later", if *.of == "region" { "this region" } else { "all regions" }
    )]
    TooManyBulkCreations {
        /// How many that are.
        limit: usize,
        /// Of whom: `region` or `control`.
        of: &'static str,
    },
    /// The bulk creations that are under way take as much memory as they may.
    #[error(
        "the bulk creations of {} that are under way would take more than {limit} bytes; nothing of this one was kept, \
         send it again a little later, or start control with a larger --max-bulk-bytes",
        if *.of == "region" { "this region" } else { "all regions" }
    )]
    TooMuchInHand {
        /// How many bytes they may take.
        limit: usize,
        /// Of whom: `region` or `control`.
        of: &'static str,
    },
    /// The region that calls, or that is asked about, never registered.
    #[error("region {region} has not registered with this control")]
    RegionNotRegistered {
        /// Its name.
        region: String,
    },
    /// Another region database has the name.
    #[error(
        "another region database has registered as {region}; give this region another name, or, if that database is gone \
         for good, let this one have the name: causeway regions take-over {region} --control URL"
    )]
    RegionNameTaken {
        /// The name.
        region: String,
    },
    /// No region has the name.
    #[error("no region is called {}", shown(.region))]
    RegionNotFound {
        /// The name.
        region: String,
    },
    /// The ids asked for would reach 2^53.
    #[error("the ids of {model} have reached 2^53")]
    IdSpaceExhausted {
        /// The model.
        model: String,
    },
    /// No organization has the slug.
    #[error("no organization has the slug {:?}", shown(.slug))]
    SlugNotFound {
        /// The slug.
        slug: String,
    },
    /// The region never began the operation.
    #[error("region {region} has no operation {operation_id}")]
    OperationNotFound {
        /// The region.
        region: String,
        /// The operation.
        operation_id: Uuid,
    },
    /// No rename has that operation.
    #[error("there is no rename with the operation {operation_id}")]
    RenameNotFound {
        /// The operation.
        operation_id: Uuid,
    },
    /// The operation id was used before for something else.
    #[error("operation {operation_id} was used before with another content; use a new id")]
    OperationContentDiffers {
        /// The operation.
        operation_id: Uuid,
    },
    /// The operation has been undone.
    #[error("operation {operation_id} has been released")]
    OperationReleased {
        /// The operation.
        operation_id: Uuid,
    },
    /// The operation asks for too many slugs.
    #[error("one operation may reserve at most {most} slugs; split it")]
    TooManySlugs {
        /// How many it may be.
        most: usize,
    },
    /// An organization of the operation has a slug already.
    #[error("organization {organization_id} has the slug {slug} by operation {operation_id} already")]
    OrganizationAlreadyReserved {
        /// The organization.
        organization_id: i64,
        /// Its slug.
        slug: String,
        /// The operation that reserved it.
        operation_id: Uuid,
    },
    /// The id of an organization belongs to another region.
    #[error(
        "the id of organization {organization_id} belongs to region {region}: it has an organization of that id, or the id \
         is in a block that was leased to it. Give the organization another id: export it, import it again, delete the old one"
    )]
    OrganizationIdTaken {
        /// The organization.
        organization_id: i64,
        /// The other region.
        region: String,
    },
    /// Control holds no confirmed slug for an organization.
    #[error(
        "control holds no confirmed slug for organization {organization_id}, so its directory does not take it; \
         `causeway reconcile --repair` has its slug reserved"
    )]
    OrganizationNotReserved {
        /// The organization.
        organization_id: i64,
    },
    /// Somebody has the slug.
    #[error("the slug {slug} is taken")]
    SlugTaken {
        /// The slug.
        slug: String,
    },
    /// The slug has not the form of one.
    #[error(
        "{:?} is no slug, which is 1 to 50 lowercase letters, digits and hyphens with at least one letter", shown(.slug)
    )]
    SlugInvalid {
        /// The slug.
        slug: String,
    },
    /// The slug is a word that is kept for something else.
    #[error("{slug} is a reserved word, which no organization may be called by")]
    SlugReserved {
        /// The slug.
        slug: String,
    },
    /// Control knows no organization of this id.
    #[error("no region has confirmed a slug of an organization {organization_id}")]
    OrganizationNotFound {
        /// Its id.
        organization_id: i64,
    },
    /// The organization has as many aliases as one may have.
    #[error(
        "organization {organization_id} has {limit} aliases, and no organization may have more; release one that nobody \
         uses, or rename without keeping the old slug"
    )]
    TooManyAliases {
        /// The organization.
        organization_id: i64,
        /// How many that are.
        limit: usize,
    },
    /// The organization is being renamed.
    #[error(
        "operation {operation_id} is renaming organization {organization_id}; wait for it, or release it"
    )]
    RenameInFlight {
        /// The organization.
        organization_id: i64,
        /// The operation.
        operation_id: Uuid,
    },
    /// The region does not give the organization the slug.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The slug is more than an alias.
    #[error("{slug} is no alias: its organization is known by it, or will be")]
    SlugNotAlias {
        /// The slug.
        slug: String,
    },
    /// The rename is done.
    #[error("rename {operation_id} is confirmed; rename the organization again instead")]
    OperationConfirmed {
        /// The operation.
        operation_id: Uuid,
    },
    /// There are as many readers of feeds as there may be.
    #[error(
        "{limit} watches are open, and this control has no more at once; watch again a little later, close watches that \
         nobody reads, or start control with a larger --max-watches"
    )]
    TooManyWatches {
        /// How many that are.
        limit: usize,
    },
    /// The service is stopping.
    #[error("control is going down; try again")]
    Stopping,
    /// The model is none that control writes.
    #[error("{} is no model that control writes", shown(.model))]
    ModelNotWritable {
        /// The model.
        model: String,
    },
    /// A record cannot be written.
    #[error("{0}")]
    ExportInvalid(Box<Finding>),
    /// Another chunk has the same place in an import.
    #[error(
        "the chunk of {model} that begins at ordinal {min_ordinal} was written before with another content"
    )]
    ChunkContentDiffers {
        /// The model.
        model: String,
        /// The first ordinal.
        min_ordinal: i64,
    },
    /// The import is being reverted, or was: nothing more of it is written.
    #[error("import {import_id} is being reverted, or was; nothing more of it is written")]
    ImportBeingReverted {
        /// The import.
        import_id: Uuid,
    },
    /// The chunk is being written by another call. Never leaves the use case unless that one fails.
    #[error("the chunk is being written by another call; try again")]
    ChunkExists,
    /// The task of a call ended by itself: a defect, or the service is going down.
    #[error("the call ended by itself: {0}")]
    Stopped(String),
    /// Writing rows.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DbError),
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
