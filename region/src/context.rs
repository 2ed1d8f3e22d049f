//! What all parts of a region share: its database, the catalog, control, limits, and how it ends.

use std::{ops::Deref, sync::Arc, time::Duration};

use causeway_client::{Backoff, CallError};
use causeway_proto::control::v1::{RefusedOrganization, ReportedOrganization};
use causeway_relocation::catalog::{Catalog, ORGANIZATION};
use causeway_silo::{
    db::{Db, DbError, Tx},
    env::Environment,
};
use uuid::Uuid;

use crate::{
    control_client::ControlClient,
    error::Error,
    holder::Holder,
    lifecycle::Lifecycle,
    limits::Limits,
    metrics::RegionMetrics,
    registration::Registration,
    store::{self, product_db::ProductDb},
    throttle::Throttle,
};

/// What all parts of a region share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Context(Arc<Shared>);

/// The parts of a context.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The region's database, with its own tables and those of the models.
    pub(crate) db: Db,
    /// The product's own tables, if the database is the product's.
    pub(crate) product_db: Option<ProductDb>,
    /// What the product calls the region, if that was given.
    pub(crate) product_name: Option<String>,
    /// The rules of all models, fitted to the tables of the database.
    pub(crate) catalog: Arc<Catalog>,
    /// Clock, randomness, ids and failpoints.
    pub(crate) env: Environment,
    /// The client for calls to control.
    pub(crate) control: ControlClient,
    /// The name with which the region registers at control.
    pub(crate) region: String,
    /// Where others reach it, as a URL.
    pub(crate) address: String,
    /// The id of its database.
    pub(crate) instance_id: Uuid,
    /// How much imports, uploads and streams may use.
    pub(crate) limits: Limits,
    /// What holds imports back.
    pub(crate) throttle: Throttle,
    /// Whether importers may use `merge_users`.
    pub(crate) allow_merge: bool,
    /// Whether instructions of control are refused.
    pub(crate) refuse_instructions: bool,
    /// How long it waits before it tries something again.
    pub(crate) backoff: Backoff,
    /// How long a comparison with control waits for the one before it.
    pub(crate) comparison_wait: Duration,
    /// This process, as the holder of leases.
    pub(crate) holder: Holder,
    /// What imports and comparisons count.
    pub(crate) metrics: RegionMetrics,
    /// Whether control knows the region.
    pub(crate) registration: Registration,
    /// Tells all parts of the region when it stops, and waits for their tasks.
    pub(crate) lifecycle: Lifecycle,
}

impl Deref for Context {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Context {
    /// A context of these parts.
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// A call to control, given up when the region stops: every call is idempotent and is made again.
    ///
    /// # Errors
    /// The error of the call, or [`Error::Stopping`].
    pub(crate) async fn ask<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, Error> {
        tokio::select! {
            answer = call => Ok(answer?),
            () = self.lifecycle.stopping() => Err(Error::Stopping),
        }
    }

    /// The number of a report about organizations. Take it before their rows are read: whoever changes a row after that
    /// makes a report with a larger number.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn next_report_number(&self) -> Result<i64, DbError> {
        store::report_number::next(&self.db, self.env.now()).await
    }

    /// Reports organizations to control's directory, and returns those that it does not accept. With `restore_product`,
    /// control also writes and announces the product's reservations. `number` was
    /// [taken](Self::next_report_number) before the organizations were read.
    ///
    /// # Errors
    /// The error of the call, or [`Error::Stopping`].
    pub(crate) async fn report_organizations(
        &self,
        number: i64,
        organizations: Vec<ReportedOrganization>,
        restore_product: bool,
    ) -> Result<Vec<RefusedOrganization>, Error> {
        self.ask(self.control.report_organizations(number, organizations, restore_product)).await
    }

    /// Announces organizations that have changed in this transaction, if somebody has to know.
    ///
    /// # Errors
    /// If the database refuses.
    pub(crate) async fn announce_organizations(&self, tx: &mut Tx, ids: Vec<i64>) -> Result<(), DbError> {
        match &self.product_db {
            Some(product_db) if !ids.is_empty() => product_db.announce_rows(tx, ORGANIZATION, ids).await,
            _ => Ok(()),
        }
    }

    /// Waits before the next attempt, longer each time.
    ///
    /// # Errors
    /// [`Error::Stopping`].
    pub(crate) async fn pause(&self, attempts: i64) -> Result<(), Error> {
        tokio::select! {
            () = tokio::time::sleep(self.backoff.after(attempts, |bound| self.env.below(bound))) => Ok(()),
            () = self.lifecycle.stopping() => Err(Error::Stopping),
        }
    }
}
