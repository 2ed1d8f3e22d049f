//! `causeway audit`.

use anyhow::{Context as _, bail};
use causeway_audit::{
    Entry,
    chain::{Broken, Link, Verifier, hash_of},
};
use causeway_client::{Client, Service};
use causeway_proto::{
    json::to_json,
    relocation::v1::{ListAuditEntriesRequest, ListAuditSealsRequest, ListAuditSealsResponse},
    time,
};
use causeway_silo::env::Environment;
use chrono::{DateTime, Utc};
use clap::{Subcommand, ValueEnum};
use uuid::Uuid;

use super::{
    PAGE_SIZE,
    moment::{Moment, moment},
    outcome::Outcome,
    target::{DataArgs, Target, either_place, service_url},
};
use crate::output::{self, Format, Reader, lists, place::CommandTarget, terminal::Width};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List who changed what, or tried to, the newest first
    List(List),
    /// Check that no entry was changed, added or removed in the database, and print the head of the chain. Note it, and
    /// expect it the next time
    Verify(Verify),
}

/// The service whose log it is.
#[derive(Debug, clap::Args)]
struct ServiceArgs {
    /// The control to ask
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',',
        conflicts_with_all = ["region", "data_dir", "service"], env = "CAUSEWAY_CONTROL")]
    control: Vec<String>,
    /// The region to ask
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',',
        conflicts_with_all = ["data_dir", "service"], env = "CAUSEWAY_REGION")]
    region: Vec<String>,
    /// Which service to ask, without --control and --region: that which a variable or the file names, or the embedded one
    #[arg(long, value_enum, default_value = "region")]
    service: Embedded,
    #[command(flatten)]
    data: DataArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Embedded {
    Control,
    Region,
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only entries since then: a time such as 2026-11-30 or 2026-11-30T08:00:00Z, or how long ago, such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Only entries before then: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    /// Only entries of this caller: spiffe://NAME/ROLE/NAME, or the name of a region for what it does by itself
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// Only entries about this: import/ID, operation/ID, organization/NUMBER, region/NAME or audit/POSITION:HASH
    #[arg(long, value_name = "OBJECT")]
    object: Option<String>,
    /// Only entries of the request with this id, which error messages and logs have
    #[arg(long, value_name = "ID")]
    request: Option<Uuid>,
    #[command(flatten)]
    service: ServiceArgs,
    /// Text for people, or each page of the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// A head that was printed before: it must still be part of the chain. Without it, nobody would notice that the
    /// newest entries are gone
    #[arg(long, value_name = "POSITION:HASH")]
    expect: Option<Link>,
    #[command(flatten)]
    service: ServiceArgs,
}

impl ServiceArgs {
    /// Where commands with the same arguments go.
    fn place(&self) -> CommandTarget {
        match (self.control.as_slice(), self.region.as_slice(), self.service) {
            ([], [], Embedded::Control) => CommandTarget::AuditOfControl(self.data.data_dir.clone()),
            (control, region, _) => either_place(control, region, &self.data),
        }
    }

    async fn open(&self, env: Environment) -> anyhow::Result<Target> {
        let (service, urls) = match (self.control.as_slice(), self.region.as_slice(), self.service) {
            ([], [], Embedded::Control) => (Service::Control, &[][..]),
            ([], urls, _) => (Service::Region, urls),
            (urls, ..) => (Service::Control, urls),
        };
        Target::open(service, urls, &self.data, false, env).await
    }
}

impl Command {
    /// Where suggested commands go.
    pub(super) fn place(&self) -> CommandTarget {
        match self {
            Self::List(List { service, .. }) | Self::Verify(Verify { service, .. }) => service.place(),
        }
    }
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    match &command {
        Command::List(args) => {
            let request = request(args, env.now())?;
            args.service.open(env).await?.ask(async |service| list(service, args, request).await).await
        }
        Command::Verify(args) => {
            args.service.open(env).await?.ask(async |service| verify(service, args).await).await
        }
    }
}

fn request(args: &List, now: DateTime<Utc>) -> anyhow::Result<ListAuditEntriesRequest> {
    let instant = |moment: Option<Moment>| moment.map(|moment| moment.time(now)).transpose();
    Ok(ListAuditEntriesRequest {
        since: instant(args.since)?.map(time::to_proto),
        until: instant(args.until)?.map(time::to_proto),
        who: args.who.clone().unwrap_or_default(),
        object: args.object.clone().unwrap_or_default(),
        request_id: args.request.map(|id| id.to_string()).unwrap_or_default(),
        page_size: PAGE_SIZE,
        page_token: String::new(),
    })
}

/// Prints page by page, because a log may be long.
async fn list(
    service: &Client,
    args: &List,
    mut request: ListAuditEntriesRequest,
) -> anyhow::Result<Outcome> {
    loop {
        let asked = request.clone();
        let page =
            service.ask(asked, async |it, request| it.audit().list_audit_entries(request).await).await?;
        let reader = match args.output {
            Format::Json => {
                output::json_page(&[to_json(&page, "causeway.relocation.v1.ListAuditEntriesResponse")?])?
            }
            Format::Text => output::text_page(&lists::audit_entries(&page, Width::of_list()))?,
        };
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || reader == Reader::Gone {
            return Ok(Outcome::Done);
        }
    }
}

/// Why the log is not as it was written, in words for whoever has to do something about it.
fn broken(why: &Broken) -> anyhow::Result<Outcome> {
    output::note(&format!("the audit log is not as it was written: {why}"));
    Ok(Outcome::Failed)
}

async fn verify(service: &Client, args: &Verify) -> anyhow::Result<Outcome> {
    let (mut page_token, mut verifier) = (String::new(), None);
    loop {
        let asked = ListAuditSealsRequest { page_size: PAGE_SIZE, page_token };
        let page = service.ask(asked, async |it, request| it.audit().list_audit_seals(request).await).await?;
        page_token = page.next_page_token.clone();
        let mut verifying = match verifier.take() {
            Some(verifying) => verifying,
            None => match Verifier::new(base(&page)?, args.expect) {
                Ok(verifying) => verifying,
                Err(why) => return broken(&why),
            },
        };
        if page.base_position > verifying.head().position {
            bail!("entries were deleted by age while they were checked; check again");
        }
        if let Err(why) = checked(&mut verifying, &page)? {
            return broken(&why);
        }
        if !page_token.is_empty() {
            verifier = Some(verifying);
            continue;
        }
        let entries = verifying.checked();
        let head = match verifying.finish(base(&page)?) {
            Ok(head) => head,
            Err(why) => return broken(&why),
        };
        if page.loose_count > 0 {
            output::note(&format!(
                "entries that the service has not written were added in the database: {}; `{}` shows them without a \
                 position",
                page.loose_count,
                args.service.place().command(["audit", "list"])
            ));
            return Ok(Outcome::Failed);
        }
        if page.waiting_count > 0 {
            output::note(&format!("entries that are not in the chain yet: {}", page.waiting_count));
        }
        output::text(&format!("entries that are as they were written: {entries}\nhead {head}\n"))?;
        return Ok(Outcome::Done);
    }
}

/// Where the chain begins.
fn base(page: &ListAuditSealsResponse) -> anyhow::Result<Link> {
    let hash = hash_of(&page.base_hash).context("the service does not say where its chain begins")?;
    Ok(Link { position: page.base_position, hash })
}

/// Checks the positions of a page.
fn checked(verifier: &mut Verifier, page: &ListAuditSealsResponse) -> anyhow::Result<Result<(), Broken>> {
    for seal in &page.seals {
        let entry = seal.entry.clone().map(Entry::from_proto).transpose()?;
        if let Err(why) = verifier.next(seal.position, &seal.hash, entry.as_ref()) {
            return Ok(Err(why));
        }
    }
    Ok(Ok(()))
}
