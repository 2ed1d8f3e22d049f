//! Running services, by their addresses.

use std::{sync::Arc, time::Duration};

use causeway_client::{CallError, Client, ClientTls, Service, Timeouts, collect_pages};
use causeway_proto::{
    control::v1::{
        ListRegionsRequest, ListRegionsResponse, ListSlugOperationsRequest, ListSlugOperationsResponse,
        Region, SlugOperation, SlugOperationState,
    },
    failure::reason_name,
    limits::MAX_PAGE,
    region::v1::{
        Import, ImportState, ListImportsRequest, ReconcileMode, ReconcileRequest, ReconcileSummary,
    },
    relocation::v1::{
        ErrorReason, GetVersionRequest, GetVersionResponse, ServiceKind,
        version_service_client::VersionServiceClient,
    },
    time::from_proto,
    version::{CONTRACT_REVISION, OLDEST_CONTRACT_REVISION},
};
use causeway_silo::env::Environment;
use causeway_tls::WARN_BEFORE;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    commands::tls::ClientTlsArgs,
    output::{
        diagnosis::{About, Check, Report},
        numbers::counted,
        place::CommandTarget,
    },
};

/// Entries per page: the most that the services allow.
const PAGE_SIZE: i32 = MAX_PAGE as i32;

/// A region reads its feed all the time, and control notes it every ten seconds.
const SILENT_AFTER: TimeDelta = TimeDelta::seconds(60);

/// Reservations that are temporary for longer than this are reported. An import holds its own from the time that control
/// has answered until its slugs are written, which takes minutes.
const STUCK_AFTER: TimeDelta = TimeDelta::hours(1);

/// How many findings of one kind are shown.
const SHOWN: usize = 10;

/// How many addresses of regions are called at once.
const AT_ONCE: usize = 8;

/// How long the comparison of a region with control may take.
const COMPARISON: Duration = Duration::from_secs(120);

fn timeouts() -> Timeouts {
    Timeouts { connect: Duration::from_secs(5), call: Duration::from_secs(20), ..Timeouts::default() }
}

/// What a service has answered about itself, or why it has not.
async fn ask(
    service: Service,
    url: &str,
    tls: Option<Arc<ClientTls>>,
) -> Result<(Client, GetVersionResponse), CallError> {
    let client = Client::connect_with_tls(service, url, timeouts(), tls).await?;
    // Any revision: whether it fits is to be found out.
    let request = client.unary(GetVersionRequest::default());
    let version = client.answer(VersionServiceClient::new(client.channel()).get_version(request)).await?;
    Ok((client, version))
}

/// Reports whether a service answers, is of the right kind, and speaks a contract that this program knows.
async fn reach(
    about: &mut About<'_>,
    service: Service,
    url: &str,
    tls: Option<Arc<ClientTls>>,
) -> Option<(Client, GetVersionResponse)> {
    let (client, version) = match ask(service, url, tls).await {
        Ok(answer) => answer,
        Err(error) => {
            about.error(
                Check::Reachable,
                error.to_string(),
                format!("start the service, or mend the address {url} or what is between here and there"),
            );
            return None;
        }
    };
    let (is, wanted) = (
        version.service(),
        match service {
            Service::Control => ServiceKind::Control,
            Service::Region => ServiceKind::Region,
        },
    );
    let shown = |kind: ServiceKind| if kind == ServiceKind::Control { "control" } else { "a region" };
    if is != wanted {
        about.error(
            Check::Reachable,
            format!("{url} is {}, and not {}", shown(is), shown(wanted)),
            "mend the address",
        );
        return None;
    }
    let (oldest, newest) = (version.oldest_contract_revision, version.contract_revision);
    if newest < OLDEST_CONTRACT_REVISION || CONTRACT_REVISION < oldest {
        about.error(
            Check::Reachable,
            format!(
                "Causeway {} at {url} speaks revisions {oldest} to {newest} of the contract, and this program {OLDEST_CONTRACT_REVISION} \
                 to {CONTRACT_REVISION}",
                version.version
            ),
            "use programs whose revisions meet",
        );
        return None;
    }
    about.ok(
        Check::Reachable,
        format!("{url} answers: Causeway {}, contract revision {newest}", version.version),
    );
    if version.insecure {
        about.warning(
            Check::Certificates,
            format!("{url} listens without TLS where other machines can reach it"),
            "give it certificates: docs/tls.md",
        );
    }
    Some((client, version))
}

/// Connects to a control.
pub(super) async fn reach_control(
    about: &mut About<'_>,
    url: &str,
    tls: Option<Arc<ClientTls>>,
) -> Option<Client> {
    reach(about, Service::Control, url, tls).await.map(|(client, _)| client)
}

/// Calls the address at which a region says that it can be reached.
pub(super) async fn reach_region(about: &mut About<'_>, url: &str, name: &str, tls: Option<Arc<ClientTls>>) {
    let Some((_, version)) = reach(about, Service::Region, url, tls).await else { return };
    if version.region != name {
        about.error(
            Check::Reachable,
            format!("{url} is the region {}, and control has this address for {name}", version.region),
            format!("set --advertise of {name} to its own address, and start it again"),
        );
    }
}

/// The health of a service as a whole, and of the services in it.
async fn health(about: &mut About<'_>, client: &Client, services: &[&str]) {
    let mut is_serving = true;
    for name in [""].iter().chain(services) {
        let request = client.unary(HealthCheckRequest { service: (*name).to_owned() });
        let shown = if name.is_empty() { "the server" } else { *name };
        match client.answer(HealthClient::new(client.channel()).check(request)).await {
            Ok(answer) if answer.status() == ServingStatus::Serving => {}
            Ok(answer) => {
                is_serving = false;
                about.error(
                    Check::Health,
                    format!("{shown} says {}", answer.status().as_str_name()),
                    "its log says why: the database does not answer or accept writes, or control does not know the region",
                );
            }
            Err(error) => {
                is_serving = false;
                about.error(Check::Health, format!("{shown}: {error}"), "look at its log");
            }
        }
    }
    if is_serving {
        about.ok(Check::Health, "SERVING");
    }
}

fn elapsed(since: Option<&prost_types::Timestamp>, now: DateTime<Utc>) -> Option<TimeDelta> {
    since.and_then(from_proto).map(|since| now - since)
}

/// A time span in words, to the second.
fn shown(span: TimeDelta) -> String {
    humantime::format_duration(Duration::from_secs(span.num_seconds().unsigned_abs())).to_string()
}

async fn regions(control: &Client) -> Result<Vec<Region>, CallError> {
    let all: ListRegionsResponse = collect_pages(async |page_token| {
        let request = control.unary(ListRegionsRequest { page_size: PAGE_SIZE, page_token });
        control.answer(control.regions().list_regions(request)).await
    })
    .await?;
    Ok(all.regions)
}

/// Reports what control knows of a region, and returns it.
pub(super) async fn region_of_control(
    about: &mut About<'_>,
    control: &Client,
    name: &str,
    env: &Environment,
) -> Option<Region> {
    match regions(control).await {
        Ok(all) => {
            let known = all.into_iter().find(|region| region.name == name);
            let place = CommandTarget::Control(control.address());
            match &known {
                Some(region) => registration(about, region, &place, env.now()),
                None => about.warning(
                    Check::Registration,
                    format!("control does not know a region {name}"),
                    format!(
                        "start the region; if control takes only regions that were added: `{}`",
                        place.command(["regions", "add", name])
                    ),
                ),
            }
            known
        }
        Err(error) => {
            about.error(Check::Registration, error.to_string(), "look at control's log");
            None
        }
    }
}

/// Reports the registration of one region.
fn registration(about: &mut About<'_>, region: &Region, place: &CommandTarget, now: DateTime<Utc>) {
    let name = region.name.as_str();
    if region.create_time.is_none() {
        about.warning(
            Check::Registration,
            format!("region {name} was added and has never registered"),
            format!("start it, or remove it: `{}`", place.command(["regions", "remove", name])),
        );
        return;
    }
    if let Some(suspension) = &region.suspension {
        about.warning(
            Check::Registration,
            format!("region {name} is suspended, and its imports wait: {}", suspension.text),
            format!("to resume it: `{}`", place.command(["regions", "resume", name])),
        );
    }
    if region.has_id_conflicts {
        about.error(
            Check::Registration,
            format!("region {name} has ids that belong to other regions as well"),
            format!("`{}` shows them, and what to do", place.command(["regions", "list"])),
        );
    }
    if let Some(end) = region.certificate_end_time.as_ref().and_then(from_proto)
        && end - now <= WARN_BEFORE
    {
        about.warning(
            Check::Certificates,
            format!("the certificate with which region {name} registered ends at {end}"),
            "issue a new one: docs/tls.md",
        );
    }
    match elapsed(region.last_contact_time.as_ref(), now) {
        Some(silent) if silent > SILENT_AFTER => about.error(
            Check::Feed,
            format!("control has heard nothing of region {name} for {}", shown(silent)),
            "look whether the region runs, and at its log",
        ),
        _ => about.ok(
            Check::Registration,
            format!("region {name} is registered, and reads its feed (version {})", region.feed_version),
        ),
    }
}

/// Reports all about a control, its regions, and reservations that are stuck.
pub(super) async fn control(report: &mut Report, url: &str, tls: &ClientTlsArgs, env: &Environment) {
    let mut about = About::new(report, format!("control at {url}"));
    let loaded = match tls.load(url, env) {
        Ok(loaded) => loaded,
        Err(error) => return about.error_that_says_what_to_do(Check::Certificates, format!("{error:#}")),
    };
    let Some(control) = reach_control(&mut about, url, loaded).await else { return };
    health(&mut about, &control, &causeway_control::Control::SERVICES).await;
    let place = CommandTarget::Control(url.to_owned()).with_tls(tls.words());
    match regions(&control).await {
        Ok(all) => {
            for region in &all {
                registration(&mut about, region, &place, env.now());
            }
            addresses(&mut about, &all, tls, env).await;
        }
        Err(error) => about.error(Check::Registration, error.to_string(), "look at control's log"),
    }
    match operations(&control).await {
        Ok(operations) => stuck(&mut about, &operations, &place, env.now()),
        Err(error) => about.error(Check::Reservations, error.to_string(), "look at control's log"),
    }
}

/// Calls each region at the address that it has registered.
async fn addresses(about: &mut About<'_>, regions: &[Region], tls: &ClientTlsArgs, env: &Environment) {
    let registered = regions.iter().filter(|region| !region.address.is_empty());
    let mut answers = stream::iter(registered)
        .map(async |region| {
            let tls = tls.load(&region.address, env);
            let answer = match tls {
                Ok(tls) => {
                    ask(Service::Region, &region.address, tls).await.map_err(|error| error.to_string())
                }
                Err(error) => Err(format!("{error:#}")),
            };
            (region, answer.map(|(_, version)| version))
        })
        .buffered(AT_ONCE);
    while let Some((region, answer)) = answers.next().await {
        let Region { name, address, .. } = region;
        match answer {
            Ok(version) if version.region == *name => {
                about.ok(
                    Check::Reachable,
                    format!("region {name} answers at {address}: Causeway {}", version.version),
                );
            }
            Ok(_) => about.error(
                Check::Reachable,
                format!("another service than region {name} answers at {address}"),
                format!("set --advertise of {name} to its own address, and start it again"),
            ),
            Err(error) => about.error(
                Check::Reachable,
                format!("region {name} cannot be reached at {address}: {error}"),
                format!("start it, or set --advertise of {name} to an address that others reach"),
            ),
        }
    }
}

/// The operations whose reservations are temporary.
async fn operations(control: &Client) -> Result<Vec<SlugOperation>, CallError> {
    let all: ListSlugOperationsResponse = collect_pages(async |page_token| {
        let request = control.unary(ListSlugOperationsRequest {
            state: SlugOperationState::Reserved.into(),
            page_size: PAGE_SIZE,
            page_token,
            ..ListSlugOperationsRequest::default()
        });
        control.answer(control.reservations().list_slug_operations(request)).await
    })
    .await?;
    Ok(all.operations)
}

fn stuck(about: &mut About<'_>, operations: &[SlugOperation], place: &CommandTarget, now: DateTime<Utc>) {
    let stuck: Vec<_> = operations
        .iter()
        .filter_map(|operation| {
            let age = elapsed(operation.update_time.as_ref(), now)?;
            (age > STUCK_AFTER).then_some((operation, age))
        })
        .collect();
    if stuck.is_empty() {
        about.ok(Check::Reservations, "none is temporary for more than an hour");
    }
    for (operation, age) in stuck.iter().take(SHOWN) {
        let SlugOperation { region, operation_id, organization_count, .. } = operation;
        let words = ["slugs", "release-operation", operation_id, "--for-region", region];
        about.warning(
            Check::Reservations,
            format!(
                "region {region} has neither confirmed nor released operation {operation_id}, with the slugs of \
                 {}, for {}",
                counted(*organization_count, "organization"),
                shown(*age)
            ),
            format!(
                "look whether an import or a rename of the region waits; if none does, release it: `{}`",
                place.command(words)
            ),
        );
    }
    if let Some(more) = stuck.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        about.warning(
            Check::Reservations,
            format!("{more} more like these"),
            "release those first, and check again",
        );
    }
}

/// Reports all about a region: its imports, and whether it agrees with control.
pub(super) async fn region(report: &mut Report, url: &str, tls: &ClientTlsArgs, env: &Environment) {
    let mut about = About::new(report, format!("region at {url}"));
    let loaded = match tls.load(url, env) {
        Ok(loaded) => loaded,
        Err(error) => return about.error_that_says_what_to_do(Check::Certificates, format!("{error:#}")),
    };
    let Some((region, _)) = reach(&mut about, Service::Region, url, loaded).await else { return };
    health(&mut about, &region, &causeway_region::Region::SERVICES).await;
    let place = CommandTarget::Region(url.to_owned()).with_tls(tls.words());
    let request = region.unary(ListImportsRequest { page_size: PAGE_SIZE, page_token: String::new() });
    match region.answer(region.imports().list_imports(request)).await {
        Ok(newest) => imports(&mut about, &newest.imports, &place, env.now()),
        Err(error) => about.error(Check::Imports, error.to_string(), "look at the region's log"),
    }
    match timeout(COMPARISON, compare(&region)).await {
        Ok(Ok(summary)) => differences(&mut about, &summary, &place),
        Ok(Err(error)) => about.error(
            Check::Differences,
            format!("region and control were not compared: {error:#}"),
            "mend that, and check again",
        ),
        Err(_) => about.warning(
            Check::Differences,
            format!("the comparison with control has taken more than {} s", COMPARISON.as_secs()),
            format!("`{}` takes as long as it needs", place.command(["reconcile", "--check"])),
        ),
    }
}

/// What to do about an import that has failed. The same file would fail again, so a region does not keep it.
fn what_to_do(import: &Import, place: &CommandTarget) -> String {
    let id = import.import_id.as_str();
    let reason = import.failure.as_ref().map_or(ErrorReason::Unspecified, |failure| failure.reason());
    let revert = place.command(["imports", "revert", id]);
    match reason {
        _ if import.dry_run => {
            "it was a dry run, so nothing was written: correct what is wrong, and try again".to_owned()
        }
        ErrorReason::ExportInvalid => {
            format!(
                "mend the file, and import it again under a new id; `{revert}` takes back what was written"
            )
        }
        ErrorReason::FilterMatchesNothing => {
            "correct the slugs of the filter, and import the file again under a new id".to_owned()
        }
        _ => format!(
            "`{}` goes on once the cause is gone, `{revert}` takes it back",
            place.command(["imports", "resume", id])
        ),
    }
}

/// Reports imports that wait or have failed, of the newest 1,000.
fn imports(about: &mut About<'_>, newest: &[Import], place: &CommandTarget, now: DateTime<Utc>) {
    let mut shown_so_far = 0;
    let mut found = 0;
    for import in newest {
        let id = import.import_id.as_str();
        let (text, advice) = if let Some(waiting) = &import.waiting {
            let since = elapsed(waiting.since.as_ref(), now)
                .map_or_else(String::new, |age| format!(" for {}", shown(age)));
            let reason = ErrorReason::try_from(waiting.reason)
                .map_or("a reason that this program does not know", reason_name);
            let message = place.complete(&waiting.message, &import.control_addresses);
            (
                format!("import {id} waits{since} ({reason}): {message}"),
                "it goes on by itself once that has passed".to_owned(),
            )
        } else if import.state() == ImportState::Failed {
            let message = import.failure.as_ref().map_or("", |failure| failure.message.as_str());
            (
                format!("import {id} has failed: {}", place.complete(message, &import.control_addresses)),
                what_to_do(import, place),
            )
        } else {
            continue;
        };
        found += 1;
        if shown_so_far < SHOWN {
            shown_so_far += 1;
            about.warning(Check::Imports, text, advice);
        }
    }
    if found > shown_so_far {
        about.warning(
            Check::Imports,
            format!("{} more like these", found - shown_so_far),
            format!("`{}` lists them", place.command(["imports", "list"])),
        );
    }
    if found == 0 {
        about.ok(Check::Imports, "none waits or has failed");
    }
}

async fn compare(region: &Client) -> anyhow::Result<ReconcileSummary> {
    // The deadline is that of the caller.
    let request = Request::new(ReconcileRequest { mode: ReconcileMode::Check.into() });
    let mut parts = region.answer(region.reconciliation().reconcile(request)).await?;
    let mut summary = None;
    while let Some(part) = parts.message().await.map_err(|status| region.failed(status))? {
        summary = part.summary.or(summary);
    }
    summary.ok_or_else(|| anyhow::anyhow!("the comparison ended early, without a summary"))
}

fn differences(about: &mut About<'_>, summary: &ReconcileSummary, place: &CommandTarget) {
    if summary.differences == 0 {
        about.ok(
            Check::Differences,
            if summary.compared == 1 {
                "the only organization agrees with control".to_owned()
            } else {
                format!("{} agree with control", counted(summary.compared, "organization"))
            },
        );
    } else {
        about.error(
            Check::Differences,
            format!(
                "{} from control, {} compared",
                counted(summary.differences, "difference"),
                counted(summary.compared, "organization")
            ),
            format!("`{}` shows each, and what to do", place.command(["reconcile", "--check"])),
        );
    }
}

#[cfg(test)]
mod tests {
    use causeway_proto::region::v1::ImportFailure;

    use super::*;

    #[test]
    fn an_import_that_would_fail_again_is_not_to_be_resumed() {
        let place = CommandTarget::Region("http://127.0.0.1:1".to_owned());
        let advice = |reason: ErrorReason, dry_run| {
            let failure = Some(ImportFailure { reason: reason.into(), ..Default::default() });
            let import = Import { import_id: "3b1f".to_owned(), failure, dry_run, ..Default::default() };
            what_to_do(&import, &place)
        };
        assert_eq!(
            advice(ErrorReason::SchemaChanged, false),
            "`causeway imports resume 3b1f --region http://127.0.0.1:1` goes on once the cause is gone, `causeway imports \
             revert 3b1f --region http://127.0.0.1:1` takes it back"
        );
        let invalid = advice(ErrorReason::ExportInvalid, false);
        assert!(invalid.starts_with("mend the file") && invalid.contains("imports revert 3b1f"), "{invalid}");
        let filter = advice(ErrorReason::FilterMatchesNothing, false);
        for text in [invalid, filter, advice(ErrorReason::SchemaChanged, true)] {
            assert!(!text.contains("resume"), "{text}");
        }
    }
}
