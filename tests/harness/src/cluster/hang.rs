//! A run in which nothing happens any more.

use std::{future::Future, time::Duration};

use anyhow::{anyhow, bail};
use causeway_silo::db::Statement;
use tokio::time::{sleep, timeout};

use super::{Cluster, Silo};

/// How long a database may take to say how things stand.
const ANSWER: Duration = Duration::from_secs(2);

impl Cluster {
    /// Does something, unless nothing happens for so long, as the [trace](Self::trace) has it: then the error says how
    /// everything stands, and the rest is given up. What takes its time must note that it gets on.
    ///
    /// # Errors
    /// What `doing` ends with, or that it hangs.
    pub async fn unless_it_hangs<T>(
        &self,
        idle: Duration,
        doing: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let hangs = async {
            while let Some(rest) = idle.checked_sub(self.trace.idle()).filter(|rest| !rest.is_zero()) {
                sleep(rest).await;
            }
        };
        // It stays until it has been told what it waits for.
        let mut doing = std::pin::pin!(doing);
        tokio::select! {
            biased;
            done = &mut doing => done,
            () = hangs => bail!("nothing has happened for {idle:?}\n{}", self.standing().await),
        }
    }

    /// How everything stands, for people: what is waited for, which services run, where each import is.
    pub async fn standing(&self) -> String {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.trace.waits().iter().map(|wait| format!("waits for {wait}")));
        let dead: Vec<String> = self
            .services()
            .filter(|service| !self.is_running(*service))
            .map(|service| service.to_string())
            .collect();
        lines.push(if dead.is_empty() {
            "all services run".to_owned()
        } else {
            format!("these do not run: {}", dead.join(", "))
        });
        for region in 0..self.region_count() {
            match timeout(ANSWER, self.imports_of(region)).await {
                Ok(Ok(imports)) => lines.extend(imports),
                Ok(Err(error)) => {
                    lines.push(format!("the imports of region {region} cannot be read: {error:#}"))
                }
                Err(_) => {
                    lines.push(format!("the imports of region {region} cannot be read within {ANSWER:?}"))
                }
            }
        }
        match timeout(ANSWER, self.under_way()).await {
            Ok(Ok(waits)) => lines.extend(waits.iter().map(|wait| format!("not quiet for {wait}"))),
            Ok(Err(error)) => lines.push(format!("a database cannot be asked: {error:#}")),
            Err(_) => lines.push(format!("a database does not answer within {ANSWER:?}")),
        }
        lines.join("\n")
    }

    /// Where each import of a region is, a line each.
    async fn imports_of(&self, region: usize) -> anyhow::Result<Vec<String>> {
        let db = self.shared_db(Silo::Region(region)).await?;
        let statement = "SELECT import_id, state, reported, lease_place, waiting_reason, waiting_message \
                         FROM causeway_import ORDER BY created_at, import_id";
        let rows = db.fetch_all(Statement::new(statement)).await?;
        let line = |row: &causeway_silo::db::Row| {
            let of = |name: &str| row.opt_text(name).map(|text| text.unwrap_or_else(|| "nobody".to_owned()));
            let waits = match row.opt_text("waiting_reason")? {
                Some(reason) => {
                    format!(", waits: {reason} {}", row.opt_text("waiting_message")?.unwrap_or_default())
                }
                None => String::new(),
            };
            anyhow::Ok(format!(
                "import {} of {}: {}, reported: {}, run by {}{waits}",
                row.uuid("import_id")?,
                self.region_name(region),
                row.text("state")?,
                row.bool("reported")?,
                of("lease_place")?,
            ))
        };
        rows.iter().map(line).collect()
    }

    /// An error with what happened behind it: the reason comes first.
    #[must_use]
    pub fn explain(&self, reason: &anyhow::Error) -> anyhow::Error {
        anyhow!("{reason:#}\n\nwhat happened:\n{}", self.trace)
    }
}
