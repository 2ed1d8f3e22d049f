//! A client that does not give up: it repeats a call until it gets an answer, as real clients do.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use causeway_harness::cluster::{Cluster, ControlApi, ImportOptions, Silo};
use causeway_proto::{
    failure::{reason_of, retry_after},
    region::v1::{GetImportRequest, Import, ImportState, ResumeImportRequest, RevertImportRequest},
    relocation::v1::ErrorReason,
};
use causeway_silo::{db::Statement, env::Environment};
use chrono::TimeDelta;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::scenario::{Other, Planned};

/// The longest that anything may take while faults happen. A run without progress ends sooner, after [`IDLE`].
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The longest time without any event in a run.
pub(crate) const IDLE: Duration = Duration::from_secs(20);
/// The pause between two attempts of a call.
pub(crate) const PAUSE: Duration = Duration::from_millis(5);
/// The pause between two requests for an import. Each costs the region as much as a step of the import.
const POLL_INTERVAL: Duration = Duration::from_millis(15);
/// The longest pause between two checks whether all services run.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// The timeout of one attempt.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Whether a call may succeed when it is repeated.
pub(crate) fn passes(status: &Status) -> bool {
    match reason_of(status) {
        // The run repairs what broke.
        Some(ErrorReason::Internal | ErrorReason::SpoolFailed) => true,
        Some(reason) => retry_after(reason).is_some(),
        None => !matches!(status.code(), Code::InvalidArgument | Code::Unimplemented),
    }
}

/// Repeats a call until it is answered.
pub(crate) async fn retry_until_ok<T, F>(
    cluster: &Cluster,
    what: &str,
    call: impl Fn() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, Status>>,
{
    let wait = cluster.trace().wait(what);
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match timeout(ATTEMPT, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !passes(&error) => bail!("{what} is refused: {error:?}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {ATTEMPT:?}"),
        };
        wait.tried(&error);
        ensure!(Instant::now() < until, "{what} is not done after {PATIENCE:?}: {error}");
        sleep(PAUSE).await;
    }
}

/// Like [`retry_until_ok`], but a refusal for one of these reasons also ends the call.
pub(crate) async fn retry_until_ok_or_refused<T, F>(
    cluster: &Cluster,
    what: &str,
    refusals: &[ErrorReason],
    call: impl Fn() -> F,
) -> anyhow::Result<Result<T, ErrorReason>>
where
    F: Future<Output = Result<T, Status>>,
{
    retry_until_ok(cluster, what, || async {
        match call().await {
            Ok(answer) => Ok(Ok(answer)),
            Err(status) => match reason_of(&status) {
                Some(reason) if refusals.contains(&reason) => Ok(Err(reason)),
                _ => Err(status),
            },
        }
    })
    .await
}

/// The controls in turn, over their links. A call that gets no answer goes to the next control.
#[derive(Debug, Default)]
pub(crate) struct Controls(AtomicUsize);

impl Controls {
    pub(crate) fn next(&self, cluster: &Cluster) -> ControlApi {
        cluster.control_by_link(self.0.fetch_add(1, Ordering::Relaxed) % cluster.control_count())
    }
}

/// Deletes all events of the feed of a region except the last one, as control does when there are many.
pub(crate) async fn forget_events(cluster: &Cluster, region: usize) -> anyhow::Result<()> {
    let name = cluster.region_name(region);
    cluster.trace().note(format!("the feed of {name} is forgotten"));
    let oldest = "UPDATE causeway_feed SET oldest = version - 1 WHERE region = $1 AND oldest < version - 1";
    let events = "DELETE FROM causeway_feed_event WHERE region = $1 \
                  AND version <= (SELECT f.oldest FROM causeway_feed f WHERE f.region = $1)";
    let statements = [oldest, events].map(|sql| Statement::new(sql).with(name));
    cluster.change(Silo::Control, &statements).await
}

/// Sets whether the database of a region accepts project keys. While it does not, imports fail for a reason that does
/// not pass by itself.
pub(crate) async fn take_keys(cluster: &Cluster, region: usize, take: bool) -> anyhow::Result<()> {
    cluster.trace().note(format!("the database of region {region} takes keys: {take}"));
    cluster.refuse_rows(Silo::Region(region), "sentry_projectkey", !take).await
}

/// For each import whose lease one process has: its state, and everything that the process writes for it as one line of
/// text.
const WRITTEN: &str = "SELECT i.import_id, i.state, i.records || ' records, ' || i.slugs_written || ' slugs, ' \
    || (SELECT count(*) || ' chunks, taken back ' || count(c.reverted_at) FROM causeway_import_chunk c \
        WHERE c.import_id = i.import_id) \
    || ', counted ' || (SELECT COALESCE(SUM(m.seen + m.inserted + m.deleted + m.kept), 0) \
        FROM causeway_import_model m WHERE m.import_id = i.import_id) AS written \
    FROM causeway_import i WHERE i.lease_holder = $1";

/// Whether a process needs the lease of an import in this state to write for it. It does not while the file arrives,
/// nor after the end of the import: then only a call changes the import.
fn is_run(state: &str) -> bool {
    ImportState::from_short_name(state)
        .is_some_and(|state| state != ImportState::Receiving && !state.is_final())
}

/// Whether a region has written for an import while another process had its lease. Starting a revert does not count: a
/// call does that.
fn is_written_for(before: &(String, String), after: &(String, String)) -> bool {
    let is_taken_back = before.0 != "reverting" && after.0 == "reverting";
    before != after && is_run(&before.0) && !is_taken_back
}

/// Gives the leases of all imports of a region to another process for a while. The process that ran them is still in
/// the middle of a step, and must commit nothing.
pub(crate) async fn take_leases(cluster: &Cluster, region: usize, during: Duration) -> anyhow::Result<()> {
    let name = cluster.region_name(region);
    cluster.trace().note(format!("another process has the imports of {name} for {during:?}"));
    let (thief, now) = (Uuid::from_u128(7), Environment::system().now());
    let take = Statement::new(
        "UPDATE causeway_import SET lease_holder = $1, lease_place = 'elsewhere', lease_spool = $1, \
         lease_acquired_at = $2, lease_renewed_at = $2, lease_until = $3",
    );
    let take = take.with(thief).with(now).with(now + TimeDelta::days(1));
    cluster.change(Silo::Region(region), &[take]).await?;
    let db = cluster.shared_db(Silo::Region(region)).await?;
    let written = async || {
        let rows = db.fetch_all(Statement::new(WRITTEN).with(thief)).await?;
        let rows =
            rows.iter().map(|row| Ok((row.uuid("import_id")?, (row.text("state")?, row.text("written")?))));
        rows.collect::<anyhow::Result<BTreeMap<Uuid, (String, String)>>>()
    };
    let before = written().await?;
    sleep(during).await;
    let after = written().await?;
    let free = Statement::new(
        "UPDATE causeway_import SET lease_holder = NULL, lease_place = NULL, lease_spool = NULL, \
         lease_acquired_at = NULL, lease_renewed_at = NULL, lease_until = NULL WHERE lease_holder = $1",
    );
    cluster.change(Silo::Region(region), &[free.with(thief)]).await?;
    cluster.trace().note(format!("the imports of {name} are free again"));
    for (id, before) in before.iter().filter(|(_, (state, _))| is_run(state)) {
        // A call that reverts the import releases the lease.
        let Some(after) = after.get(id) else { continue };
        ensure!(
            !is_written_for(before, after),
            "{name} has written for import {id} while another process had it: it was {before:?}, and is {after:?}"
        );
    }
    Ok(())
}

/// Repeats an upload until the region has accepted the import.
pub(crate) async fn begin(
    cluster: &Cluster,
    region: usize,
    export: &[u8],
    options: &ImportOptions,
) -> anyhow::Result<()> {
    cluster.trace().note(format!("import {:?} into region {region}", options.import_id));
    retry_until_ok(cluster, "an upload", || async {
        cluster.region_by_link(region).begin(export, options).await
    })
    .await?;
    Ok(())
}

/// Sends other content under the id of a known import. The region must refuse it.
pub(crate) async fn send_other(cluster: &Cluster, import: &Planned, other: Other) -> anyhow::Result<()> {
    cluster.trace().note(format!("other content ({other:?}) under import {}", import.id));
    let (mut export, mut options) = (import.export.clone(), import.options.clone());
    match other {
        // An equally valid file.
        Other::File => export.splice(1..1, *b"  \n").for_each(drop),
        Other::Flags => options.hide_organizations = !options.hide_organizations,
    }
    let refusals = [ErrorReason::ImportContentDiffers];
    let begun = retry_until_ok_or_refused(cluster, "an upload of other content", &refusals, || async {
        cluster.region_by_link(import.region).begin(&export, &options).await
    });
    let begun = begun.await?;
    ensure!(begun.is_err(), "import {} was joined with other content: {begun:?}", import.id);
    Ok(())
}

/// Checks that a region shows no organization of an import whose revert it has accepted.
pub(crate) async fn shows_nothing_of(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<()> {
    let shown = retry_until_ok(cluster, "what a region shows", || async {
        cluster.region_by_link(region).visible_organizations().await
    });
    let shown: BTreeSet<i64> = shown.await?.into_iter().map(|organization| organization.id).collect();
    let import = get(cluster, region, id).await?;
    let of_it = import.organizations.iter().find(|organization| shown.contains(&organization.id));
    ensure!(of_it.is_none(), "import {id} is being taken back, and shown is {of_it:?}");
    Ok(())
}

/// Reads an import from its region.
pub(crate) async fn get(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<Import> {
    let answer = retry_until_ok(cluster, "a look at an import", || async {
        let request = GetImportRequest { import_id: id.to_owned() };
        cluster.region_by_link(region).imports().get_import(request).await
    });
    answer.await?.into_inner().import.context("an import")
}

/// One of the organizations of an import, as soon as it has any, or only after its end if `ended` is true. `None` if it
/// ends without organizations.
pub(crate) async fn organization(
    cluster: &Cluster,
    region: usize,
    id: &str,
    which: usize,
    at_its_end: bool,
) -> anyhow::Result<Option<i64>> {
    let _wait = cluster.trace().wait(format!("the organizations of import {id}"));
    let until = Instant::now() + PATIENCE;
    loop {
        let import = get(cluster, region, id).await?;
        let ended = import.state().is_final();
        if ended || !(at_its_end || import.organizations.is_empty()) {
            let count = import.organizations.len().max(1);
            return Ok(import.organizations.get(which % count).map(|organization| organization.id));
        }
        ensure!(Instant::now() < until, "import {id} has no organizations after {PATIENCE:?}: {import:?}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Waits until an import has ended.
pub(crate) async fn ended(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<Import> {
    let _wait = cluster.trace().wait(format!("the end of import {id}"));
    let until = Instant::now() + PATIENCE;
    loop {
        let import = get(cluster, region, id).await?;
        match import.state() {
            state if state.is_final() => return Ok(import),
            _ => ensure!(Instant::now() < until, "import {id} has not ended after {PATIENCE:?}: {import:?}"),
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Resumes an import. Returns false if it had not failed, or was resumed already.
pub(crate) async fn resume(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<bool> {
    cluster.trace().note(format!("resume {id}"));
    let refusals = [ErrorReason::ImportNotFailed, ErrorReason::ImportBeingReverted];
    let resumed = retry_until_ok_or_refused(cluster, "resuming", &refusals, || async {
        let request = ResumeImportRequest { import_id: id.to_owned() };
        cluster.region_by_link(region).imports().resume_import(request).await
    });
    Ok(resumed.await?.is_ok())
}

/// Starts the revert of an import. The revert goes on after this returns.
pub(crate) async fn revert(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<()> {
    cluster.trace().note(format!("revert {id}"));
    retry_until_ok(cluster, "reverting", || async {
        let request = RevertImportRequest { import_id: id.to_owned() };
        cluster.region_by_link(region).imports().revert_import(request).await
    })
    .await?;
    Ok(())
}

/// Starts every service that has died, until this is dropped. It disarms all failpoints when one has killed a service.
pub(crate) struct Reviver(JoinHandle<()>);

impl Reviver {
    pub(crate) fn of(cluster: &Arc<Cluster>) -> Self {
        let cluster = Arc::clone(cluster);
        Self(tokio::spawn(async move {
            loop {
                // Nothing announces the death of a process.
                let _looked = timeout(CHECK_INTERVAL, cluster.killed()).await;
                if !cluster.services().all(|service| cluster.is_running(service)) {
                    cluster.failpoints().disarm();
                    // If the service is killed while it starts, the next round starts it again.
                    let _killed_again = cluster.revive().await;
                }
            }
        }))
    }
}

impl Drop for Reviver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::is_written_for;

    #[test]
    fn what_is_written_without_the_lease_is_no_write_of_a_call() {
        let of = |state: &str, written: &str| (state.to_owned(), written.to_owned());
        for (before, after, is_written) in [
            (of("writing", "1"), of("writing", "1"), false),
            (of("writing", "1"), of("writing", "2"), true),
            (of("writing", "1"), of("finishing", "1"), true),
            (of("reverting", "1"), of("reverting", "2"), true),
            (of("reverting", "1"), of("reverted", "1"), true),
            // The file has arrived; the import is being reverted; it is resumed.
            (of("receiving", "0"), of("planning", "0"), false),
            (of("writing", "1"), of("reverting", "2"), false),
            (of("succeeded", "1"), of("reverting", "1"), false),
            (of("failed", "1"), of("received", "0"), false),
        ] {
            assert_eq!(is_written_for(&before, &after), is_written, "{before:?} {after:?}");
        }
    }
}
