//! Runs a scenario: every actor does what the scenario defines, while its faults happen.

use std::sync::Arc;

use anyhow::ensure;
use causeway_harness::{
    cluster::{Cluster, Failpoints, Service},
    invariants::Inspection,
};
use causeway_proto::{
    control::v1::UpdateOrganizationSlugRequest,
    region::v1::{
        ImportFailure, ImportState,
        ReconcileMode::{Check, Repair},
    },
    relocation::v1::ErrorReason,
};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    driver::{self, PATIENCE},
    observer::Observer,
    outsider::{self, SimulatedRegion},
    reconcile,
    renames::{self, Renamed},
    router::Router,
    scenario::{Fault, Planned, RenameRequest, Scenario, SeededRng},
    watcher::Watcher,
};

/// The tasks of all actors. Each acts at times of its own.
type Actors = JoinSet<anyhow::Result<()>>;

/// Runs a scenario to its end, and then checks all promises. While it runs, the observer and the readers compare every
/// answer with the rows in the databases.
pub(crate) async fn act(
    cluster: &Arc<Cluster>,
    failpoints: &Failpoints,
    scenario: &Scenario,
) -> anyhow::Result<()> {
    let rng = SeededRng::new(scenario.observers);
    let mut observer = Observer::of(cluster, rng.number()).await?;
    let mut watchers: Vec<Watcher> = (0..scenario.regions)
        .map(|region| {
            let (name, forgotten) = (cluster.region_name(region), scenario.may_forget(region));
            Watcher::of(cluster, name, forgotten, SeededRng::new(rng.number()))
        })
        .collect();
    if scenario.outside.is_some() {
        watchers.push(Watcher::of(cluster, outsider::NAME, false, SeededRng::new(rng.number())));
    }
    let forgotten = (0..scenario.regions).filter(|region| scenario.may_forget(*region));
    let forgotten = forgotten.map(|region| cluster.region_name(region).to_owned()).collect();
    let mut router = Router::of(cluster, forgotten, SeededRng::new(rng.number()));
    let outsider = {
        let broken = futures::future::select_all(watchers.iter_mut().map(|it| Box::pin(it.has_ended())));
        tokio::select! {
            outsider = play(cluster, failpoints, scenario) => outsider?,
            wrong = observer.first_error() => return Err(wrong),
            (wrong, ..) = broken => return Err(wrong),
            wrong = router.has_ended() => return Err(wrong),
        }
    };
    cluster.trace().note("nothing is under way");
    observer.has_seen_all().await?;
    cluster.trace().note("everybody says the same");
    all_have_heard_all(cluster, &mut watchers, &mut router).await?;
    cluster.trace().note("all readers have heard all");
    if let Some(outsider) = outsider {
        outsider.leave().await?;
        all_have_heard_all(cluster, &mut watchers, &mut router).await?;
        observer.has_seen_all().await?;
    }
    cluster.trace().note("the rows are inspected");
    let mut inspection = Inspection::of(cluster);
    for import in &scenario.imports {
        inspection = inspection.export(&import.id, &import.export)?;
    }
    inspection.run().await?;
    cluster.trace().note("the readers end");
    for watcher in watchers {
        watcher.end().await;
    }
    router.end().await;
    Ok(())
}

async fn all_have_heard_all(
    cluster: &Cluster,
    watchers: &mut [Watcher],
    router: &mut Router,
) -> anyhow::Result<()> {
    for watcher in watchers {
        watcher.has_heard_all(cluster).await?;
    }
    router.has_heard_all(cluster).await
}

/// Runs the scenario itself, until nothing is in progress any more. Returns the outsider if it has not left yet.
async fn play<'a>(
    cluster: &'a Arc<Cluster>,
    failpoints: &Failpoints,
    scenario: &'a Scenario,
) -> anyhow::Result<Option<SimulatedRegion<'a>>> {
    let outside = async {
        match &scenario.outside {
            Some(plan) => SimulatedRegion::act(cluster, plan).await.map(Some),
            None => Ok(None),
        }
    };
    run_imports_before_faults(cluster, scenario).await?;
    let mut actors = Actors::new();
    for import in scenario.imports.clone() {
        actors.spawn(follow(Arc::clone(cluster), import));
    }
    for (after, region, repairs) in scenario.comparisons.clone() {
        let (cluster, mode) = (Arc::clone(cluster), if repairs { Repair } else { Check });
        actors.spawn(async move {
            sleep(after).await;
            reconcile::nothing_differs(&cluster, region, mode).await
        });
    }
    let all_else = async {
        for (pause, fault) in &scenario.faults {
            // The pauses are a part of the scenario. They wait for no event.
            sleep(*pause).await;
            inject(cluster, failpoints, *fault).await?;
        }
        cluster.heal().await?;
        while let Some(acted) = actors.join_next().await {
            acted??;
        }
        anyhow::Ok(())
    };
    let (outsider, ()) = tokio::try_join!(outside, all_else)?;
    settle(cluster, scenario).await?;
    Ok(outsider)
}

/// Runs the imports that must have ended before the faults begin.
async fn run_imports_before_faults(cluster: &Cluster, scenario: &Scenario) -> anyhow::Result<()> {
    if let Some(region) = scenario.without_keys {
        driver::take_keys(cluster, region, false).await?;
    }
    for import in scenario.imports.iter().filter(|import| import.before) {
        driver::begin(cluster, import.region, &import.export, &import.options).await?;
        driver::ended(cluster, import.region, &import.id).await?;
    }
    if let Some(region) = scenario.without_keys {
        driver::take_keys(cluster, region, true).await?;
    }
    Ok(())
}

/// Runs one import and everything that the scenario does with it.
async fn follow(cluster: Arc<Cluster>, import: Planned) -> anyhow::Result<()> {
    if !import.before {
        sleep(import.after).await;
        driver::begin(&cluster, import.region, &import.export, &import.options).await?;
    }
    let mut actors = Actors::new();
    for rename_request in import.rename_requests.clone() {
        actors.spawn(run_rename(Arc::clone(&cluster), import.region, import.id.clone(), rename_request));
    }
    if let Some(after) = import.again_after {
        let (cluster, import) = (Arc::clone(&cluster), import.clone());
        actors.spawn(async move {
            sleep(after).await;
            driver::begin(&cluster, import.region, &import.export, &import.options).await
        });
    }
    if let Some((after, other)) = import.other_after {
        let (cluster, import) = (Arc::clone(&cluster), import.clone());
        actors.spawn(async move {
            sleep(after).await;
            driver::send_other(&cluster, &import, other).await
        });
    }
    if let Some(after) = import.resumed_after {
        let (cluster, import) = (Arc::clone(&cluster), import.clone());
        actors.spawn(async move {
            sleep(after).await;
            driver::resume(&cluster, import.region, &import.id).await.map(drop)
        });
    }
    if let Some(after) = import.reverted_after {
        sleep(after).await;
        driver::revert(&cluster, import.region, &import.id).await?;
        driver::shows_nothing_of(&cluster, import.region, &import.id).await?;
    }
    while let Some(acted) = actors.join_next().await {
        acted??;
    }
    Ok(())
}

/// Requests one rename and follows it to its end, whether it succeeds or not.
async fn run_rename(
    cluster: Arc<Cluster>,
    region: usize,
    import_id: String,
    rename_request: RenameRequest,
) -> anyhow::Result<()> {
    sleep(rename_request.after).await;
    let found = driver::organization(
        &cluster,
        region,
        &import_id,
        rename_request.organization,
        rename_request.at_its_end,
    );
    let Some(organization_id) = found.await? else { return Ok(()) };
    let request = UpdateOrganizationSlugRequest {
        organization_id,
        desired_slug: rename_request.slug.to_owned(),
        require_exact: rename_request.require_exact,
        operation_id: rename_request.operation_id.clone(),
        keep_alias: rename_request.keep_alias,
        region: rename_request
            .region
            .map(|region| cluster.region_name(region).to_owned())
            .unwrap_or_default(),
        wait: None,
    };
    let given_up = async {
        if let Some(after) = rename_request.given_up_after {
            sleep(after).await;
            renames::give_up(&cluster, region, &rename_request.operation_id).await?;
        }
        anyhow::Ok(())
    };
    let again = async {
        if rename_request.twice {
            renames::rename(&cluster, request.clone()).await.map(Some)
        } else {
            Ok(None)
        }
    };
    let (renamed, again, given_up) =
        tokio::join!(renames::rename(&cluster, request.clone()), again, given_up);
    given_up?;
    let (renamed, again) = (renamed?, again?);
    for outcome in [Some(&renamed), again.as_ref()].into_iter().flatten() {
        may_be(&rename_request, outcome)?;
    }
    let done: Vec<&Renamed> = [Some(&renamed), again.as_ref()]
        .into_iter()
        .flatten()
        .filter(|outcome| matches!(outcome, Renamed::Confirmed { .. }))
        .collect();
    let Some(done) = done.first() else { return Ok(()) };
    if rename_request.other {
        let others = [
            UpdateOrganizationSlugRequest { desired_slug: "other-content".to_owned(), ..request.clone() },
            UpdateOrganizationSlugRequest { require_exact: !request.require_exact, ..request.clone() },
            UpdateOrganizationSlugRequest { keep_alias: !request.keep_alias, ..request.clone() },
            UpdateOrganizationSlugRequest { organization_id: organization_id + 1, ..request.clone() },
        ];
        for other in others {
            let answer = renames::rename(&cluster, other).await?;
            let refused = Renamed::Refused(ErrorReason::OperationContentDiffers);
            ensure!(
                answer == refused,
                "other content under operation {} is {answer:?}",
                rename_request.operation_id
            );
        }
    }
    // The organization may have changed since, but the operation still has its result.
    let later = renames::rename(&cluster, request).await?;
    ensure!(&later == *done, "a rename that was {done:?} is {later:?} now");
    if let (Renamed::Confirmed { previous_slug, .. }, Some(after)) =
        (done, rename_request.alias_released_after)
    {
        sleep(after).await;
        renames::release_alias(&cluster, organization_id, previous_slug).await?;
    }
    Ok(())
}

/// Whether a rename request may have this result.
fn may_be(rename_request: &RenameRequest, renamed: &Renamed) -> anyhow::Result<()> {
    let may = match renamed {
        Renamed::Confirmed { slug, .. } => !rename_request.require_exact || slug == rename_request.slug,
        Renamed::Refused(ErrorReason::SlugInvalid | ErrorReason::SlugReserved | ErrorReason::SlugTaken) => {
            rename_request.require_exact
        }
        Renamed::Refused(ErrorReason::OperationReleased) => rename_request.given_up_after.is_some(),
        Renamed::Refused(_) => true,
    };
    ensure!(may, "a rename came to {renamed:?}: {rename_request:?}");
    Ok(())
}

/// After everything is healed: waits until every import ends as it should and nothing is in progress.
async fn settle(cluster: &Cluster, scenario: &Scenario) -> anyhow::Result<()> {
    for region in (0..scenario.regions).filter(|region| scenario.may_fail(*region)) {
        driver::take_keys(cluster, region, true).await?;
    }
    for import in &scenario.imports {
        end(cluster, scenario, import).await?;
    }
    cluster.quiet(PATIENCE).await?;
    for region in 0..scenario.regions {
        reconcile::nothing_differs(cluster, region, Check).await?;
    }
    Ok(())
}

/// Waits for the end of an import, and resumes it if it has failed as the scenario allows.
async fn end(cluster: &Cluster, scenario: &Scenario, import: &Planned) -> anyhow::Result<()> {
    let expected = match import {
        Planned { reverted_after: Some(_), .. } => ImportState::Reverted,
        Planned { options, .. } if options.dry_run => ImportState::Planned,
        _ => ImportState::Succeeded,
    };
    loop {
        let end = driver::ended(cluster, import.region, &import.id).await?;
        if end.state() == expected {
            return Ok(());
        }
        let reason = end.failure.as_ref().map(ImportFailure::reason);
        let may = end.state() == ImportState::Failed
            && expected == ImportState::Succeeded
            && reason == Some(ErrorReason::Internal)
            && scenario.may_fail(import.region);
        ensure!(may, "this import is to be {expected:?}: {end:?}");
        if import.left_alone {
            return Ok(());
        }
        ensure!(
            driver::resume(cluster, import.region, &import.id).await?,
            "an import that failed is resumed"
        );
    }
}

async fn inject(cluster: &Cluster, failpoints: &Failpoints, fault: Fault) -> anyhow::Result<()> {
    match fault {
        Fault::KillRegion(region) => cluster.kill(Service::Region(region)).await,
        Fault::KillControl(control) => cluster.kill(Service::Control(control)).await,
        Fault::StopRegion(region) => cluster.stop_service(Service::Region(region)).await,
        Fault::StopControl(control) => cluster.stop_service(Service::Control(control)).await,
        // A failpoint may kill a service that starts.
        Fault::Revive => drop(cluster.revive().await),
        Fault::LinkState(region, link_state) => cluster.set_link_state(region, link_state),
        Fault::LinkTo(region, control, link_state) => cluster.set_link_state_to(region, control, link_state),
        Fault::ForgetEvents(region) => driver::forget_events(cluster, region).await?,
        Fault::Keys(region, take) => driver::take_keys(cluster, region, take).await?,
        Fault::CallFaults(call_faults) => cluster.set_call_faults(call_faults),
        Fault::Failpoints(fail, kill) => {
            cluster.trace().note(format!("failpoints: {fail} of 1,000 fail and {kill} kill"));
            failpoints.set_chances(fail, kill);
        }
        Fault::TakeLeases(region, during) => driver::take_leases(cluster, region, during).await?,
        Fault::CrashDatabase(down) => cluster.crash_database(down).await?,
    }
    Ok(())
}
