//! Waits until nothing is in progress in a cluster.

use std::time::Duration;

use anyhow::bail;
use causeway_proto::region::v1::ImportState;
use causeway_silo::db::{Db, Statement};
use tokio::time::{Instant, sleep};

use super::{Cluster, Silo, link::Link};

/// The pause between two checks.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How long regions may take to register.
const REGISTRATION: Duration = Duration::from_secs(60);

impl Cluster {
    /// Waits until control knows all regions, as long as all services run. Returns at once if control accepts only added
    /// regions.
    pub(super) async fn registered(&self) -> anyhow::Result<()> {
        if self.accepts_only_added() {
            return Ok(());
        }
        // Not the shared connections: a test may replace the database before it uses them.
        let db = self.db(Silo::Control).await?;
        let until = Instant::now() + REGISTRATION;
        while self.services().all(|service| self.is_running(service)) {
            let absent = self.unregistered(&db).await?;
            if absent.is_empty() {
                break;
            }
            if Instant::now() >= until {
                bail!("these have not registered within {REGISTRATION:?}: {}", absent.join(", "));
            }
            sleep(POLL_INTERVAL).await;
        }
        db.close().await;
        Ok(())
    }

    /// The regions that control does not know.
    async fn unregistered(&self, control: &Db) -> anyhow::Result<Vec<String>> {
        let rows = control.fetch_all(Statement::new("SELECT name FROM causeway_region")).await?;
        let known = rows.iter().map(|row| row.text("name")).collect::<Result<Vec<_>, _>>()?;
        let names = (0..self.region_count()).map(|index| self.region_name(index).to_owned());
        Ok(names.filter(|name| !known.contains(name)).collect())
    }

    /// Waits until nothing is in progress in any silo or on any link: every region is registered; every import has ended,
    /// and control's directory has received its result; every rename is confirmed or refused; no reservation is temporary,
    /// except those of failed imports; and every region has received its whole feed. The test's own calls must have ended
    /// before.
    ///
    /// # Errors
    /// If that takes longer than `within`. The error lists what is still in progress.
    pub async fn quiet(&self, within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            let waits = match self.under_way().await {
                Ok(waits) if waits.is_empty() => return Ok(()),
                Ok(waits) => waits,
                Err(error) => vec![format!("a database cannot be asked: {error:#}")],
            };
            if Instant::now() >= until {
                bail!("it is not quiet after {within:?}; it waits for:\n{}", waits.join("\n"));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// What is in progress, one line each. The checks run in the order in which one thing leads to the next (calls,
    /// imports, control, feeds), so that nothing can move unseen from something checked later to something checked
    /// earlier.
    pub(super) async fn under_way(&self) -> anyhow::Result<Vec<String>> {
        let late: usize = self.all_links().map(Link::late_calls).sum();
        let mut waits = Vec::new();
        if late > 0 {
            waits.push(format!("{late} calls that are to come a second time"));
        }
        let mut failed = Vec::new();
        let control = self.shared_db(Silo::Control).await?;
        if !self.accepts_only_added() {
            let absent = self.unregistered(&control).await?;
            waits.extend(absent.iter().map(|name| format!("the registration of {name}")));
        }
        for index in 0..self.region_count() {
            let db = self.shared_db(Silo::Region(index)).await?;
            let name = self.region_name(index);
            let imports = Statement::new(
                "SELECT import_id, state, reported, waiting_reason, waiting_message FROM causeway_import",
            );
            for row in db.fetch_all(imports).await? {
                let state = row.text("state")?;
                let known = ImportState::from_short_name(&state);
                let is_over = known.is_some_and(ImportState::is_final);
                if is_over && (known != Some(ImportState::Succeeded) || row.bool("reported")?) {
                    continue;
                }
                let reason = row.opt_text("waiting_reason")?.unwrap_or_default();
                let message = row.opt_text("waiting_message")?.unwrap_or_default();
                waits.push(format!(
                    "import {} of {name}, which is {} {reason} {message}",
                    row.uuid("import_id")?,
                    state
                ));
            }
            failed.extend(organizations_of_failed(&db).await?);
        }
        let renames = "SELECT slug, region FROM causeway_slug_rename WHERE state = 'pending'";
        for row in control.fetch_all(Statement::new(renames)).await? {
            waits.push(format!("the rename to {} in {}", row.text("slug")?, row.text("region")?));
        }
        let feeds = control.fetch_all(Statement::new("SELECT region, version FROM causeway_feed")).await?;
        for index in 0..self.region_count() {
            let db = self.shared_db(Silo::Region(index)).await?;
            let name = self.region_name(index);
            for row in db.fetch_all(Statement::new("SELECT slug FROM causeway_rename")).await? {
                waits.push(format!("the answer of {name} about the rename to {}", row.text("slug")?));
            }
            let cursor =
                db.fetch_optional(Statement::new("SELECT version FROM causeway_feed_cursor")).await?;
            let cursor = cursor.map_or(Ok(0), |row| row.int("version"))?;
            for feed in &feeds {
                let version = feed.int("version")?;
                if feed.text("region")? == name && version != cursor {
                    waits.push(format!(
                        "the feed of {name}, which is at {version}; the region has heard it up to {cursor}"
                    ));
                }
            }
        }
        let temporary = Statement::new(
            "SELECT slug, region, organization_id FROM causeway_organization_slug_reservation \
             WHERE type = 'temporary_rename_alias'",
        );
        for row in control.fetch_all(temporary).await? {
            let id = row.int("organization_id")?;
            if !failed.contains(&id) {
                waits.push(format!(
                    "the reservation of {} for organization {id} of {}, which is temporary",
                    row.text("slug")?,
                    row.text("region")?
                ));
            }
        }
        Ok(waits)
    }
}

/// The organizations of failed imports. Their reservations stay until somebody decides what to do with the import.
async fn organizations_of_failed(db: &Db) -> anyhow::Result<Vec<i64>> {
    let statement = Statement::new(
        "SELECT o.organization_id FROM causeway_import_organization o \
         JOIN causeway_import i ON i.import_id = o.import_id WHERE i.state = 'failed'",
    );
    let rows = db.fetch_all(statement).await?;
    Ok(rows.iter().map(|row| row.int("organization_id")).collect::<Result<_, _>>()?)
}
