//! A client who does not give up: it asks again until it is answered, as real ones do.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use causeway_harness::cluster::{Cluster, ImportOptions};
use causeway_proto::{
    control::v1::{RenameState, UpdateOrganizationSlugRequest},
    failure::reason_of,
    region::v1::{GetImportRequest, Import, ImportState, ResumeImportRequest, RevertImportRequest},
    relocation::v1::ErrorReason,
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, Status};

/// How long anything may take when faults happen meanwhile.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two looks whether all services run.
const LOOK: Duration = Duration::from_millis(20);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Whether a call may succeed when it is made again.
fn passes(status: &Status) -> bool {
    match reason_of(status) {
        Some(reason) => matches!(
            reason,
            ErrorReason::DatabaseUnavailable
                | ErrorReason::DatabaseContention
                | ErrorReason::ShuttingDown
                | ErrorReason::ControlUnavailable
                | ErrorReason::Internal
                | ErrorReason::SpoolFailed
        ),
        None => !matches!(status.code(), Code::InvalidArgument | Code::Unimplemented),
    }
}

/// Makes a call until it is answered.
pub(crate) async fn insist<T, F>(what: &str, call: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, Status>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match timeout(ATTEMPT, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !passes(&error) => bail!("{what} is refused: {error:?}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {ATTEMPT:?}"),
        };
        ensure!(Instant::now() < until, "{what} is not done after {PATIENCE:?}: {error}");
        sleep(PAUSE).await;
    }
}

/// Sends an export until its import is taken.
pub(crate) async fn begin(
    cluster: &Cluster,
    region: usize,
    export: &[u8],
    options: &ImportOptions,
) -> anyhow::Result<()> {
    cluster.trace().note(format!("import {:?} into region {region}", options.import_id));
    insist("an upload", || async { cluster.region_by_link(region).begin(export, options).await }).await?;
    Ok(())
}

/// Asks for an import.
async fn get(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<Import> {
    let answer = insist("a look at an import", || async {
        let request = GetImportRequest { import_id: id.to_owned() };
        cluster.region_by_link(region).imports().get_import(request).await
    });
    answer.await?.into_inner().import.context("an import")
}

/// Waits until an import has ended.
pub(crate) async fn ended(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<Import> {
    let until = Instant::now() + PATIENCE;
    loop {
        let import = get(cluster, region, id).await?;
        match import.state() {
            ImportState::Succeeded | ImportState::Failed | ImportState::Reverted => return Ok(import),
            _ => ensure!(Instant::now() < until, "import {id} has not ended after {PATIENCE:?}: {import:?}"),
        }
        sleep(PAUSE).await;
    }
}

/// Resumes an import that has failed.
pub(crate) async fn resume(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<()> {
    cluster.trace().note(format!("resume {id}"));
    insist("resuming", || async {
        let request = ResumeImportRequest { import_id: id.to_owned() };
        cluster.region_by_link(region).imports().resume_import(request).await
    })
    .await?;
    Ok(())
}

/// Takes an import back. That goes on when this returns.
pub(crate) async fn revert(cluster: &Cluster, region: usize, id: &str) -> anyhow::Result<()> {
    cluster.trace().note(format!("revert {id}"));
    insist("reverting", || async {
        let request = RevertImportRequest { import_id: id.to_owned() };
        cluster.region_by_link(region).imports().revert_import(request).await
    })
    .await?;
    Ok(())
}

/// Gives an organization another slug, and waits until its region has confirmed that.
pub(crate) async fn rename(
    cluster: &Cluster,
    operation_id: &str,
    organization_id: i64,
    slug: &str,
) -> anyhow::Result<()> {
    cluster.trace().note(format!("rename {organization_id} to {slug}"));
    let until = Instant::now() + PATIENCE;
    loop {
        let renamed = insist("a rename", || async {
            let request = UpdateOrganizationSlugRequest {
                organization_id,
                desired_slug: slug.to_owned(),
                operation_id: operation_id.to_owned(),
                wait_seconds: Some(1),
                ..UpdateOrganizationSlugRequest::default()
            };
            cluster.control().reservations().update_organization_slug(request).await
        });
        let renamed = renamed.await?.into_inner();
        match renamed.state() {
            RenameState::Confirmed => return Ok(()),
            _ => {
                ensure!(Instant::now() < until, "a rename is not done after {PATIENCE:?}: {renamed:?}")
            }
        }
    }
}

/// Starts whatever has died, again and again, until it is dropped. No failpoint acts any more when one has killed.
pub(crate) struct Reviver(JoinHandle<()>);

impl Reviver {
    pub(crate) fn of(cluster: &Arc<Cluster>) -> Self {
        let cluster = Arc::clone(cluster);
        Self(tokio::spawn(async move {
            loop {
                // A process is not announced when it dies.
                let _looked = timeout(LOOK, cluster.killed()).await;
                if !cluster.services().all(|service| cluster.is_running(service)) {
                    cluster.failpoints().disarm();
                    // Killed while it starts, it is started once more.
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
