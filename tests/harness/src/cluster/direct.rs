//! What a test does directly, alongside the services or in their place.

use std::time::Duration;

use anyhow::ensure;
use causeway_proto::{
    control::v1::{
        BulkCreateHeader, BulkCreateOrganizationSlugReservationsRequest,
        ConfirmOrganizationSlugReservationsRequest, OrganizationSlugRequest, OrganizationSlugRequestBatch,
        bulk_create_organization_slug_reservations_request::Part,
    },
    region::v1::{ImportOrganizationsRequest, import_organizations_request as import},
    whole::{OrganizationDigest, UploadDigest},
};
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};
use tokio::time::{Instant, sleep};
use tonic::Status;

use super::{Cluster, ControlApi, Silo, Store};

/// How long locks or faults may prevent a change.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of slugs per message.
const BATCH: usize = 1_000;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// The messages of a bulk creation with these parts, followed by its end.
#[must_use]
pub fn bulk_create_messages(mut parts: Vec<Part>) -> Vec<BulkCreateOrganizationSlugReservationsRequest> {
    let mut sent = OrganizationDigest::default();
    for part in &parts {
        if let Part::Batch(batch) = part {
            sent.add(&batch.requests);
        }
    }
    parts.push(Part::End(sent.end()));
    let message = |part| BulkCreateOrganizationSlugReservationsRequest { part: Some(part) };
    parts.into_iter().map(message).collect()
}

/// The messages of an upload with these parts, followed by its end.
#[must_use]
pub fn upload_messages(mut parts: Vec<import::Part>) -> Vec<ImportOrganizationsRequest> {
    let mut sent = UploadDigest::default();
    for part in &parts {
        if let import::Part::Data(data) = part {
            sent.add(data);
        }
    }
    parts.push(import::Part::End(sent.end()));
    parts.into_iter().map(|part| ImportOrganizationsRequest { part: Some(part) }).collect()
}

/// The statements that make a table refuse new rows, or take them again. Inserts then fail for a reason that nothing
/// explains and that does not pass by itself. A check would not do: a record that breaks one is left out.
fn refuse_statements(store: Store, table: &str, refuse: bool) -> Vec<String> {
    match (store, refuse) {
        (Store::Sqlite, true) => vec![format!(
            "CREATE TRIGGER IF NOT EXISTS no_rows_of_{table} BEFORE INSERT ON {table} \
             BEGIN SELECT RAISE(ABORT, 'no rows'); END"
        )],
        (Store::Sqlite, false) => vec![format!("DROP TRIGGER IF EXISTS no_rows_of_{table}")],
        (Store::Postgres, true) => vec![
            "CREATE OR REPLACE FUNCTION no_rows() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'no rows'; END $$"
                .to_owned(),
            format!(
                "CREATE OR REPLACE TRIGGER no_rows BEFORE INSERT ON {table} \
                 FOR EACH ROW EXECUTE FUNCTION no_rows()"
            ),
        ],
        (Store::Postgres, false) => vec![format!("DROP TRIGGER IF EXISTS no_rows ON {table}")],
    }
}

impl Cluster {
    /// Makes a table of a silo refuse new rows, or take them again, without its service.
    ///
    /// # Errors
    /// If the database cannot be changed within a minute.
    pub async fn refuse_rows(&self, silo: Silo, table: &str, refuse: bool) -> anyhow::Result<()> {
        let statements = refuse_statements(self.store(), table, refuse);
        let statements: Vec<_> = statements.iter().map(|sql| Statement::new("").push(sql)).collect();
        self.change(silo, &statements).await
    }

    /// Changes the database of a silo in one transaction, without its service. Tries again for up to a minute.
    ///
    /// # Errors
    /// If no attempt succeeds within a minute.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn change(&self, silo: Silo, statements: &[Statement]) -> anyhow::Result<()> {
        let db = self.db(silo).await?;
        let until = Instant::now() + PATIENCE;
        loop {
            let done = transact!(DbError, db, |tx| {
                for statement in statements {
                    tx.execute(statement.clone()).await?;
                }
            });
            match done {
                Ok(()) => break,
                Err(error) => {
                    ensure!(Instant::now() < until, "{silo:?} is not changed after {PATIENCE:?}: {error}")
                }
            }
            sleep(PAUSE).await;
        }
        db.close().await;
        Ok(())
    }
}

impl ControlApi {
    /// Reserves a slug as a region does, and returns the slug that the organization got.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn reserve(
        &self,
        region: &str,
        operation_id: &str,
        organization_id: i64,
        slug: &str,
    ) -> Result<String, Status> {
        let given = self.reserve_all(region, operation_id, &[(organization_id, slug.to_owned())]).await?;
        given.into_iter().next().ok_or_else(|| Status::internal("no slug in the answer"))
    }

    /// Reserves a slug for each of these organizations under one operation, and returns the slugs that they got.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn reserve_all(
        &self,
        region: &str,
        operation_id: &str,
        wanted: &[(i64, String)],
    ) -> Result<Vec<String>, Status> {
        let header = BulkCreateHeader { region: region.to_owned(), operation_id: operation_id.to_owned() };
        let batches = wanted.chunks(BATCH).map(|wanted| {
            let requests = wanted.iter().map(|(organization_id, slug)| OrganizationSlugRequest {
                organization_id: *organization_id,
                slug: slug.clone(),
                ..Default::default()
            });
            Part::Batch(OrganizationSlugRequestBatch { requests: requests.collect() })
        });
        let parts: Vec<_> = [Part::Header(header)].into_iter().chain(batches).collect();
        let messages = tokio_stream::iter(bulk_create_messages(parts));
        let mut reservations = self.reservations();
        let answer = reservations.bulk_create_organization_slug_reservations(messages);
        let (mut answers, mut given) = (answer.await?.into_inner(), Vec::new());
        while let Some(answer) = answers.message().await? {
            given.extend(answer.slugs.into_iter().map(|slug| slug.slug));
            if answer.summary.is_some() {
                return Ok(given);
            }
        }
        Err(Status::unavailable("the answer ended without its summary"))
    }

    /// Confirms all reservations of an operation.
    ///
    /// # Errors
    /// If the call fails.
    pub async fn confirm(&self, region: &str, operation_id: &str) -> Result<(), Status> {
        let request = ConfirmOrganizationSlugReservationsRequest {
            region: region.to_owned(),
            operation_id: operation_id.to_owned(),
        };
        self.reservations().confirm_organization_slug_reservations(request).await?;
        Ok(())
    }
}
