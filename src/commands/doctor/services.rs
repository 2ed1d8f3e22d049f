//! Running services, by their addresses.

use std::{sync::Arc, time::Duration};

use causeway_client::{CallError, Client, ClientTls, Service, Timeouts, collect_pages};
use causeway_control::{model::region::SILENT_AFTER, slug::lookup::STUCK_AFTER};
use causeway_proto::{
    control::v1::{
        ListSlugOperationsRequest, ListSlugOperationsResponse, Region, SlugOperation, SlugOperationState,
    },
    region::v1::{ListImportsRequest, ReconcileMode, ReconcileRequest, ReconcileSummary},
    relocation::v1::{
        ErrorReason, GetVersionRequest, GetVersionResponse, ServiceKind,
        version_service_client::VersionServiceClient,
    },
    time::from_proto,
    version::{CONTRACT_REVISION, OLDEST_CONTRACT_REVISION},
};
use causeway_silo::env::Environment;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, stream};
use tokio::time::timeout;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{certificates::Certificates, imports::imports};
use crate::{
    commands::{PAGE_SIZE, regions},
    output::{
        diagnosis::{About, Check, Report},
        numbers::{counted, duration},
        place::{CommandTarget, message},
        regions::{Note, certificate, suspension},
    },
};

/// How many findings of one kind are shown.
pub(super) const SHOWN: usize = 10;

/// How many addresses of regions are called at once.
const AT_ONCE: usize = 8;

/// How long the comparison of a region with control may take.
const COMPARISON: Duration = Duration::from_secs(120);

/// What to do if the comparison failed.
const MEND: &str = "mend that, and check again";

fn timeouts() -> Timeouts {
    Timeouts { connect: Duration::from_secs(5), call: Duration::from_secs(20), ..Timeouts::default() }
}

/// What to do about a call that failed: `otherwise`, unless it was refused for the certificate of who makes the check.
fn to_do(error: &CallError, otherwise: &'static str) -> &'static str {
    match error.reason() {
        Some(ErrorReason::RoleNotAllowed | ErrorReason::IdentityInvalid) => {
            "use the certificate of an operator (--tls-cert and --tls-key)"
        }
        _ => otherwise,
    }
}

/// What a service has answered about itself, or why it has not.
async fn ask(
    service: Service,
    url: &str,
    tls: Option<Arc<ClientTls>>,
) -> Result<(Client, GetVersionResponse), CallError> {
    let client = Client::connect_with_tls(service, url, timeouts(), tls).await?;
    // Any revision: whether it fits is to be found out.
    let request = GetVersionRequest::default();
    let version = client
        .ask(request, async |it, request| VersionServiceClient::new(it.channel()).get_version(request).await)
        .await?;
    Ok((client, version))
}

/// The service at a URL.
fn place_of(service: Service, url: &str) -> CommandTarget {
    match service {
        Service::Control => CommandTarget::Control(url.to_owned()),
        Service::Region => CommandTarget::Region(url.to_owned()),
    }
}

/// Reports whether a service answers, is of the right kind, and speaks a contract that this program knows. `words` are
/// the options about TLS of commands that call it.
async fn reach(
    about: &mut About<'_>,
    service: Service,
    url: &str,
    tls: Option<Arc<ClientTls>>,
    words: Vec<String>,
) -> Option<(Client, GetVersionResponse)> {
    let (client, version) = match ask(service, url, tls).await {
        Ok(answer) => answer,
        Err(error) => {
            about.error(
                Check::Reachable,
                message(&place_of(service, url).with_tls(words), &error),
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
    words: Vec<String>,
) -> Option<Client> {
    reach(about, Service::Control, url, tls, words).await.map(|(client, _)| client)
}

/// Calls the address at which a region says that it can be reached.
pub(super) async fn reach_region(
    about: &mut About<'_>,
    url: &str,
    name: &str,
    tls: Option<Arc<ClientTls>>,
    words: Vec<String>,
) {
    let Some((_, version)) = reach(about, Service::Region, url, tls, words).await else { return };
    if version.region != name {
        about.error(
            Check::Reachable,
            format!("{url} is the region {}, and control has this address for {name}", version.region),
            format!("set --advertise of {name} to its own address, and start it again"),
        );
    }
}

/// The health of a service as a whole, and of the services in it.
async fn health(about: &mut About<'_>, client: &Client, services: &[&str], place: &CommandTarget) {
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
                let why = message(place, &error);
                about.error(Check::Health, format!("{shown}: {why}"), "look at its log");
            }
        }
    }
    if is_serving {
        about.ok(Check::Health, "SERVING");
    }
}

pub(super) fn elapsed(since: Option<&prost_types::Timestamp>, now: DateTime<Utc>) -> Option<TimeDelta> {
    since.and_then(from_proto).map(|since| now - since)
}

/// A time span in words.
pub(super) fn shown(span: TimeDelta) -> String {
    duration(span.abs().to_std().unwrap_or_default())
}

/// Reports what control knows of a region, and returns it. `tls` are the options of commands that call control.
pub(super) async fn region_of_control(
    about: &mut About<'_>,
    control: &Client,
    name: &str,
    tls: Vec<String>,
    env: &Environment,
) -> Option<Region> {
    let place = CommandTarget::Control(control.address()).with_tls(tls);
    match regions::all(control).await {
        Ok(all) => {
            let known = all.regions.into_iter().find(|region| region.name == name);
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
            about.error(Check::Registration, message(&place, &error), to_do(&error, "look at control's log"));
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
    if let Some(Note { fact, to_do }) = suspension(region, place) {
        about.warning(Check::Registration, fact, to_do);
    }
    if region.has_id_conflicts {
        about.error(
            Check::Registration,
            format!("region {name} has ids that belong to other regions as well"),
            format!("`{}` shows them, and what to do", place.command(["regions", "list"])),
        );
    }
    if let Some(Note { fact, to_do }) = certificate(region, now) {
        about.warning(Check::Certificates, fact, to_do);
    }
    match elapsed(region.last_contact_time.as_ref(), now) {
        Some(silent) if silent > SILENT_AFTER => about.error(
            Check::Feed,
            format!("control has heard nothing from region {name} for {}", shown(silent)),
            "look whether the region runs, and at its log",
        ),
        _ => about.ok(
            Check::Registration,
            format!("region {name} is registered, and reads its feed (version {})", region.feed_version),
        ),
    }
}

/// Reports all about a control, its regions, and reservations that are stuck.
pub(super) async fn control(report: &mut Report, url: &str, tls: &mut Certificates<'_>, env: &Environment) {
    let mut about = About::new(report, format!("control at {url}"));
    let loaded = match tls.for_url(&mut about, url) {
        Ok(loaded) => loaded,
        Err(error) => return about.error_that_says_what_to_do(Check::Certificates, error),
    };
    let Some(control) = reach_control(&mut about, url, loaded, tls.words()).await else { return };
    let place = CommandTarget::Control(url.to_owned()).with_tls(tls.words());
    health(&mut about, &control, &causeway_control::Control::SERVICES, &place).await;
    match regions::all(&control).await {
        Ok(all) => {
            for region in &all.regions {
                registration(&mut about, region, &place, env.now());
            }
            addresses(&mut about, &all.regions, tls).await;
        }
        Err(error) => {
            about.error(Check::Registration, message(&place, &error), to_do(&error, "look at control's log"))
        }
    }
    match operations(&control).await {
        Ok(operations) => stuck(&mut about, &operations, &place, env.now()),
        Err(error) => {
            about.error(Check::Reservations, message(&place, &error), to_do(&error, "look at control's log"))
        }
    }
}

/// Calls each region at the address that it has registered.
async fn addresses(about: &mut About<'_>, regions: &[Region], tls: &mut Certificates<'_>) {
    let registered = regions.iter().filter(|region| !region.address.is_empty());
    let calls: Vec<_> = registered.map(|region| (region, tls.for_url(about, &region.address))).collect();
    let words = tls.words();
    let mut answers = stream::iter(calls)
        .map(async |(region, tls)| {
            let answer = match tls {
                Ok(tls) => {
                    let place = place_of(Service::Region, &region.address).with_tls(words.clone());
                    ask(Service::Region, &region.address, tls).await.map_err(|error| message(&place, &error))
                }
                Err(error) => Err(error),
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
        let request = ListSlugOperationsRequest {
            state: SlugOperationState::Reserved.into(),
            page_size: PAGE_SIZE,
            page_token,
            ..ListSlugOperationsRequest::default()
        };
        control.ask(request, async |it, request| it.reservations().list_slug_operations(request).await).await
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
        about.ok(Check::Reservations, format!("none is temporary for more than {}", shown(STUCK_AFTER)));
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
pub(super) async fn region(report: &mut Report, url: &str, tls: &mut Certificates<'_>, env: &Environment) {
    let mut about = About::new(report, format!("region at {url}"));
    let loaded = match tls.for_url(&mut about, url) {
        Ok(loaded) => loaded,
        Err(error) => return about.error_that_says_what_to_do(Check::Certificates, error),
    };
    let Some((region, _)) = reach(&mut about, Service::Region, url, loaded, tls.words()).await else {
        return;
    };
    let place = CommandTarget::Region(url.to_owned()).with_tls(tls.words());
    health(&mut about, &region, &causeway_region::Region::SERVICES, &place).await;
    let request = ListImportsRequest { page_size: PAGE_SIZE, page_token: String::new() };
    match region.ask(request, async |it, request| it.imports().list_imports(request).await).await {
        Ok(newest) => imports(&mut about, &newest.imports, &place, env.now()),
        Err(error) => {
            about.error(Check::Imports, message(&place, &error), to_do(&error, "look at the region's log"))
        }
    }
    match timeout(COMPARISON, compare(&region)).await {
        Ok(Ok(Some(summary))) => differences(&mut about, &summary, &place),
        Ok(Ok(None)) => about.error(
            Check::Differences,
            "region and control were not compared: the comparison ended early, without a summary",
            "look at the region's log",
        ),
        Ok(Err(error)) => about.error(
            Check::Differences,
            format!("region and control were not compared: {}", message(&place, &error)),
            to_do(&error, MEND),
        ),
        Err(_) => about.warning(
            Check::Differences,
            format!("the comparison with control has taken more than {}", duration(COMPARISON)),
            format!("`{}` takes as long as it needs", place.command(["reconcile", "--check"])),
        ),
    }
}

/// Compares a region with control; `None` if the answer ended early.
async fn compare(region: &Client) -> Result<Option<ReconcileSummary>, CallError> {
    // The deadline is that of the caller.
    let request = ReconcileRequest { mode: ReconcileMode::Check.into() };
    let mut parts =
        region.open(request, async |it, request| it.reconciliation().reconcile(request).await).await?;
    let mut summary = None;
    while let Some(part) = parts.message().await.map_err(|status| region.failed(status))? {
        summary = part.summary.or(summary);
    }
    Ok(summary)
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
