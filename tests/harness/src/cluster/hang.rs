//! Ends a run that makes no progress, and explains what it waits for.

use std::{future::Future, time::Duration};

use anyhow::{anyhow, bail};
use causeway_silo::db::Statement;
use tokio::time::{sleep, timeout};

use super::{Cluster, Silo};

/// How long a database may take to answer a question about its state.
const ANSWER: Duration = Duration::from_secs(2);

impl Cluster {
    /// Runs `doing` to its end, unless the [trace](Self::trace) gets no event for as long as `idle`. Then the error
    /// describes the state of everything, and `doing` is dropped. An operation that takes long must note its progress
    /// in the trace.
    ///
    /// # Errors
    /// The error of `doing`, or that it hangs.
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
        // `doing` is dropped only after the error has described what it waits for.
        let mut doing = std::pin::pin!(doing);
        tokio::select! {
            biased;
            done = &mut doing => done,
            () = hangs => bail!("nothing has happened for {idle:?}\n{}", self.standing().await),
        }
    }

    /// The state of everything, for people to read: what is waited for, which services run, and how far each import is.
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

    /// The state of each import of a region, one line each.
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

    /// Appends the trace to an error. The reason comes first.
    #[must_use]
    pub fn explain(&self, reason: &anyhow::Error) -> anyhow::Error {
        anyhow!("{reason:#}\n\nwhat happened:\n{}", self.trace)
    }
}
