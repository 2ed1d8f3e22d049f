//! Every list of both contracts gives pages that fit into a message, however large the entries are.

use std::collections::{BTreeMap, BTreeSet};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::{
    FILE_DESCRIPTOR_SET,
    control::v1::{
        ListHeldOrganizationsRequest, ListImportChunksRequest, ListOrganizationsRequest, ListRegionsRequest,
        ListSlugOperationsRequest, ListSlugReservationsRequest,
    },
    limits::MAX_MESSAGE_BYTES,
    page::PAGE_BYTES,
    region::v1::{self as region, ListFindingsRequest, ListImportsRequest, ListMappedKeysRequest},
    relocation::v1::{ListAuditEntriesRequest, ListAuditSealsRequest},
};
use causeway_silo::db::Statement;
use prost::Message as _;
use prost_reflect::DescriptorPool;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::support::{cluster, eventually};

/// How many entries each list has of those that are made here, at least. One page could have all of them.
const ROWS: i64 = 100;
/// The bytes of the largest text of an entry: all of them take more than a message has. Indexes take it, because it is
/// always the same character.
const TEXT: usize = 60_000;

/// The names of all lists with pages, with those of their services.
fn lists() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the contract");
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let paged = methods.filter(|method| method.output().get_field_by_name("next_page_token").is_some());
    paged.map(|method| method.full_name().to_owned()).collect()
}

/// What the pages of a list have.
#[derive(Debug, Default)]
struct Pages {
    count: usize,
    entries: i64,
    largest: usize,
}

impl Pages {
    /// Reads a list to its end. `page` gives the bytes of a page, its number of entries, and the token of the next one.
    async fn read(mut page: impl AsyncFnMut(String) -> Result<(usize, usize, String), Status>) -> Self {
        let (mut pages, mut token) = (Self::default(), String::new());
        loop {
            let (bytes, entries, next) = page(token).await.expect("a page");
            pages.count += 1;
            pages.entries += i64::try_from(entries).expect("few");
            pages.largest = pages.largest.max(bytes);
            if next.is_empty() {
                return pages;
            }
            token = next;
        }
    }
}

fn changed<R>(mut request: R, change: impl FnOnce(&mut R)) -> R {
    change(&mut request);
    request
}

/// Reads a list with the largest pages.
macro_rules! pages {
    ($client:expr, $call:ident, $request:expr, $entries:ident) => {
        Pages::read(async |page_token| {
            let request = changed($request, |request| {
                request.page_size = 1_000;
                request.page_token = page_token;
            });
            let page = $client.$call(request).await.map(Response::into_inner)?;
            Ok((page.encoded_len(), page.$entries.len(), page.next_page_token))
        })
        .await
    };
}

/// How many rows a query counts.
async fn count(cluster: &Cluster, silo: Silo, table: &str) -> i64 {
    let db = cluster.db(silo).await.expect("a database");
    let count = Statement::new("SELECT count(*) AS n FROM ").push(table);
    let rows = db.fetch_all(count).await.expect("counted");
    db.close().await;
    rows.first().expect("a row").int("n").expect("a number")
}

/// Makes entries of the audit log with a large text, and waits until they are in its chain.
async fn fill_audit(cluster: &Cluster, silo: Silo, text: &str) {
    let add = Statement::new(
        "INSERT INTO causeway_audit (time, request_id, who, address, call, object, outcome, reason, left_out) \
         SELECT time, request_id, $1, address, call, object, outcome, reason, left_out FROM causeway_audit ORDER BY id LIMIT 1",
    )
    .with(text);
    let mut statements = vec![add; usize::try_from(ROWS).expect("few")];
    statements.push(
        Statement::new(
            "INSERT INTO causeway_audit_unsealed (audit_id) SELECT id FROM causeway_audit WHERE who = $1",
        )
        .with(text),
    );
    cluster.change(silo, &statements).await.expect("changed");
    eventually("the entries are in the chain", async || {
        count(cluster, silo, "causeway_audit_unsealed").await == 0
    })
    .await;
}

async fn fill_control(cluster: &Cluster, text: &str) {
    let mut statements = vec![
        Statement::new("UPDATE causeway_organization SET name = $1").with(text),
        Statement::new("UPDATE causeway_organization_slug_reservation SET slug = slug || $1").with(text),
    ];
    for number in 0..ROWS {
        let id = Uuid::from_u128(1_000 + u128::try_from(number).expect("a number"));
        let region = format!("r{number}{text}");
        statements.extend([
            Statement::new(
                "INSERT INTO causeway_region (name, address, instance_id, created_at, last_seen_at) \
                 SELECT $1, $2, $3, created_at, last_seen_at FROM causeway_region WHERE name = 'us'",
            )
            .with(region.as_str())
            .with(text)
            .with(id),
            Statement::new(
                "INSERT INTO causeway_added_region (name, added_at, added_by) SELECT $1, added_at, added_by \
                 FROM causeway_added_region WHERE name = 'us'",
            )
            .with(region.as_str()),
            Statement::new(
                "INSERT INTO causeway_slug_operation (region, operation_id, content_digest, organization_count, state, \
                 created_at, updated_at) SELECT $1, $2, content_digest, 1, 'released', created_at, updated_at \
                 FROM causeway_slug_operation WHERE region = 'us'",
            )
            .with(region.as_str())
            .with(id),
            Statement::new(
                "INSERT INTO causeway_import_chunk (region, import_id, model, position, min_ordinal, max_ordinal, inserted, \
                 existing, overwritten, filtered, out_of_scope, dropped, digest, keys, findings, created_at) \
                 SELECT region, import_id, $1, $2, min_ordinal, max_ordinal, inserted, existing, overwritten, filtered, \
                 out_of_scope, dropped, digest, keys, findings, created_at FROM causeway_import_chunk \
                 WHERE model = 'sentry.user'",
            )
            .with(format!("m{number}{text}").as_str())
            .with(1_000 + number),
        ]);
    }
    cluster.change(Silo::Control, &statements).await.expect("changed");
}

async fn fill_region(cluster: &Cluster, store: Store, text: &str) {
    let mut statements = Vec::new();
    if store == Store::Postgres {
        statements.push(Statement::new("ALTER TABLE sentry_organization ALTER COLUMN name TYPE text"));
    }
    statements.extend([
        Statement::new("UPDATE sentry_organization SET name = $1").with(text),
        Statement::new("UPDATE causeway_import_finding SET reason = $1").with(text),
        Statement::new("UPDATE causeway_import_organization SET wanted_slug = $1").with(text),
    ]);
    for number in 0..ROWS {
        let id = Uuid::from_u128(1_000 + u128::try_from(number).expect("a number"));
        statements.push(
            Statement::new(
                "INSERT INTO causeway_import (import_id, state, filter, merge_users, hide_organizations, size_bytes, sha256, \
                 created_at, updated_at, records, slug_attempt, slugs_written, reported, failure_reason, failure_message, failure_state) SELECT $1, 'failed', filter, \
                 merge_users, hide_organizations, size_bytes, sha256, created_at, updated_at, records, slug_attempt, slugs_written, reported, 'ERROR_REASON_INTERNAL', $2, \
                 'writing' FROM causeway_import WHERE state = 'succeeded'",
            )
            .with(id)
            .with(text),
        );
    }
    cluster.change(Silo::Region(0), &statements).await.expect("changed");
}

pub(crate) async fn every_list_has_pages_that_fit_into_a_message(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.user(1, "ann");
    for pk in 1..=ROWS {
        export.organization(pk, &format!("org-{pk}"));
    }
    let import = cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await;
    let import_id = import.expect("it ends").import_id;
    cluster.quiet(std::time::Duration::from_secs(60)).await.expect("quiet");
    let text = "x".repeat(TEXT);
    fill_control(&cluster, &text).await;
    fill_region(&cluster, store, &text).await;
    for silo in [Silo::Control, Silo::Region(0)] {
        fill_audit(&cluster, silo, &text).await;
    }

    let (control, region) = (cluster.control(), cluster.region(0));
    let of_control = |name: &str| format!("causeway.control.v1.{name}");
    let of_region = |name: &str| format!("causeway.region.v1.{name}");
    let of_both = |name: &str| format!("causeway.relocation.v1.AuditService.{name}");
    let us = || "us".to_owned();
    let mut read: Vec<(String, Pages, Silo, &str)> = Vec::new();
    let here = Silo::Region(0);
    read.push((
        of_control("RegionService.ListRegions"),
        pages!(control.regions(), list_regions, ListRegionsRequest::default(), regions),
        Silo::Control,
        "causeway_region",
    ));
    read.push((
        of_control("SlugReservationService.ListSlugReservations"),
        pages!(
            control.reservations(),
            list_slug_reservations,
            ListSlugReservationsRequest::default(),
            reservations
        ),
        Silo::Control,
        "causeway_organization_slug_reservation",
    ));
    read.push((
        of_control("SlugReservationService.ListSlugOperations"),
        pages!(
            control.reservations(),
            list_slug_operations,
            ListSlugOperationsRequest::default(),
            operations
        ),
        Silo::Control,
        "causeway_slug_operation",
    ));
    read.push((
        of_control("DirectoryService.ListOrganizations"),
        pages!(control.directory(), list_organizations, ListOrganizationsRequest::default(), organizations),
        Silo::Control,
        "causeway_organization",
    ));
    read.push((
        of_control("DirectoryService.ListHeldOrganizations"),
        pages!(
            control.directory(),
            list_held_organizations,
            ListHeldOrganizationsRequest { region: us(), ..Default::default() },
            organizations
        ),
        Silo::Control,
        "causeway_organization",
    ));
    for with_keys in [false, true] {
        let request = || ListImportChunksRequest {
            region: us(),
            import_id: import_id.clone(),
            with_keys,
            ..Default::default()
        };
        read.push((
            of_control("ControlImportService.ListImportChunks"),
            pages!(control.imports(), list_import_chunks, request(), chunks),
            Silo::Control,
            "causeway_import_chunk",
        ));
    }
    read.push((
        of_region("ImportService.ListImports"),
        pages!(region.imports(), list_imports, ListImportsRequest::default(), imports),
        here,
        "causeway_import",
    ));
    read.push((
        of_region("ImportService.ListFindings"),
        pages!(
            region.imports(),
            list_findings,
            ListFindingsRequest { import_id: import_id.clone(), ..Default::default() },
            findings
        ),
        here,
        "causeway_import_finding",
    ));
    read.push((
        of_region("ImportService.ListMappedKeys"),
        pages!(
            region.imports(),
            list_mapped_keys,
            ListMappedKeysRequest {
                import_id: import_id.clone(),
                model: "sentry.organization".to_owned(),
                ..Default::default()
            },
            keys
        ),
        here,
        "causeway_import_organization",
    ));
    read.push((
        of_region("OrganizationService.ListOrganizations"),
        pages!(
            region.organizations(),
            list_organizations,
            region::ListOrganizationsRequest::default(),
            organizations
        ),
        here,
        "sentry_organization",
    ));
    for (client, silo) in [(control.audit(), Silo::Control), (region.audit(), here)] {
        read.push((
            of_both("ListAuditEntries"),
            pages!(client.clone(), list_audit_entries, ListAuditEntriesRequest::default(), entries),
            silo,
            "causeway_audit",
        ));
        read.push((
            of_both("ListAuditSeals"),
            pages!(client.clone(), list_audit_seals, ListAuditSealsRequest::default(), seals),
            silo,
            "causeway_audit_seal",
        ));
    }

    let mut largest: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, pages, silo, table) in &read {
        let rows = count(&cluster, *silo, table).await;
        assert!(rows >= ROWS, "{name}: {rows} rows of {table}");
        assert_eq!(pages.entries, rows, "{name}: each row of {table} is an entry of one page");
        // One more entry would have been too much. Some entries have the text twice.
        assert!(pages.largest <= PAGE_BYTES + 3 * TEXT, "{name}: {pages:?}");
        assert!(pages.count > 1, "{name}: the entries are not large");
        largest.insert(name.as_str(), pages.largest);
    }
    assert!(largest.values().all(|bytes| *bytes < MAX_MESSAGE_BYTES), "{largest:?}");
    assert_eq!(
        largest.into_keys().map(str::to_owned).collect::<BTreeSet<_>>(),
        lists(),
        "right: the contract"
    );
    cluster.stop().await;
}
