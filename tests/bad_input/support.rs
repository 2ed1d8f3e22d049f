//! Helpers for the behaviours.

use std::time::Duration;

use causeway_harness::{
    account::{Audit, AuditReport, RowsSnapshot},
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::{
    region::v1::{Import, ImportState},
    relocation::v1::{ErrorReason, Finding, FindingKind, Severity},
};
use causeway_silo::db::{Db, Dialect, Statement};

pub(crate) const ORGANIZATION: &str = "sentry.organization";
pub(crate) const MEMBER: &str = "sentry.organizationmember";
pub(crate) const USER: &str = "sentry.user";
pub(crate) const TEAM: &str = "sentry.team";
pub(crate) const PROJECT: &str = "sentry.project";
pub(crate) const PROJECT_KEY: &str = "sentry.projectkey";

pub(crate) async fn cluster(store: Store, regions: &[&str]) -> Cluster {
    Cluster::start(store, regions).await.expect("a cluster; on PostgreSQL this test needs one installed")
}

/// A valid export with one organization. Tests append a bad record to it.
pub(crate) fn good() -> Export {
    let mut export = Export::new();
    export.organization(1, "good").user(2, "good").member(3, 1, 2).team(4, 1, "good").project(5, 1, "good");
    export
}

/// A file with the records of an export and one more, and the byte offset at which that one begins.
pub(crate) fn with_record(export: &Export, record: &str) -> (Vec<u8>, usize) {
    let mut file = export.to_bytes();
    file.truncate(file.len() - "\n]\n".len());
    file.extend_from_slice(b",\n");
    let offset = file.len();
    file.extend_from_slice(record.as_bytes());
    file.extend_from_slice(b"\n]\n");
    (file, offset)
}

/// The place of the fault that a refusal names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    pub(crate) model: String,
    pub(crate) ordinal: i64,
    pub(crate) pk: Option<i64>,
    pub(crate) field: String,
}

impl Place {
    /// A place that is only a byte of the file.
    pub(crate) fn byte(offset: usize) -> Self {
        Self { offset, ..Self::default() }
    }

    /// The place as messages begin with it.
    fn shown(&self) -> String {
        let mut parts = vec![format!("byte {}", self.offset)];
        match (self.model.as_str(), self.ordinal) {
            ("", _) => {}
            (model, 0) => parts.push(model.to_owned()),
            (model, ordinal) => parts.push(format!("{model} record {ordinal}")),
        }
        if let Some(pk) = self.pk {
            parts.push(format!("pk {pk}"));
        }
        if !self.field.is_empty() {
            parts.push(format!("field {}", self.field));
        }
        parts.join(", ") + ": "
    }

    fn of(finding: &Finding) -> Self {
        Self {
            offset: usize::try_from(finding.byte_offset).unwrap_or(usize::MAX),
            model: finding.model.clone(),
            ordinal: finding.ordinal,
            pk: Some(finding.source_pk).filter(|pk| *pk != 0),
            field: finding.field.clone(),
        }
    }
}

/// A file that must be refused.
pub(crate) struct Refused {
    pub(crate) name: String,
    pub(crate) file: Vec<u8>,
    pub(crate) place: Place,
    pub(crate) kind: FindingKind,
    /// A part of the message.
    pub(crate) says: String,
}

impl Refused {
    /// The reason of the refusal: the reason of a limit, or the one for a broken rule.
    fn reason(&self) -> ErrorReason {
        match self.says.as_str() {
            says if says.starts_with("nested deeper") => ErrorReason::RecordTooDeep,
            says if says.starts_with("larger than") => ErrorReason::RecordTooLarge,
            _ => ErrorReason::ExportInvalid,
        }
    }
}

/// Everything that a refused import must not change: rows, reservations, and ids that were given out.
#[derive(Debug, PartialEq)]
pub(crate) struct Everything {
    rows_now: RowsSnapshot,
    counts: Vec<i64>,
}

const CONTROL_COUNTS: &[&str] = &[
    "SELECT count(*) AS n FROM causeway_slug_operation",
    "SELECT count(*) AS n FROM causeway_organization",
    "SELECT count(*) AS n FROM causeway_import_chunk",
    "SELECT count(*) AS n FROM causeway_id_lease",
    "SELECT CAST(coalesce(sum(last_id), 0) AS bigint) AS n FROM causeway_id_lease_counter",
];
const REGION_COUNTS: &[&str] = &[
    "SELECT count(*) AS n FROM causeway_import_chunk",
    "SELECT count(*) AS n FROM causeway_import_organization",
    "SELECT count(*) AS n FROM causeway_import_carried",
    "SELECT CAST(coalesce(sum(next), 0) AS bigint) AS n FROM causeway_id_block",
];
/// The state of the databases' own id sequences. Excludes those of Causeway's own tables, such as findings,
/// which stay.
const SEQUENCES: &str = "SELECT CAST(coalesce(sum(last_value), 0) AS bigint) AS n FROM pg_sequences \
                         WHERE sequencename NOT LIKE 'causeway%'";
const COUNTERS: &str = "SELECT CAST(coalesce(sum(next), 0) AS bigint) AS n FROM causeway_id_counter";

impl Everything {
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        let mut counts = Vec::new();
        for (silo, statements) in [(Silo::Control, CONTROL_COUNTS), (Silo::Region(0), REGION_COUNTS)] {
            let db = cluster.db(silo).await.expect("the database can be reached");
            for statement in statements {
                counts.push(number(&db, statement).await);
            }
            let ids = match db.dialect() {
                Dialect::Postgres => SEQUENCES,
                Dialect::Sqlite => COUNTERS,
            };
            counts.push(number(&db, ids).await);
            db.close().await;
        }
        Self { rows_now: rows_now(cluster).await, counts }
    }
}

/// Waits until control's directory has received all imports that have succeeded. That happens after the end that a test
/// waits for.
pub(crate) async fn all_reported(cluster: &Cluster) {
    cluster.quiet(Duration::from_secs(30)).await.expect("everything comes to an end");
}

async fn number(db: &Db, statement: &'static str) -> i64 {
    let row = db.fetch_optional(Statement::new(statement)).await.expect("the database can be read");
    row.expect("a sum is one row").int("n").expect("a number")
}

pub(crate) async fn rows_now(cluster: &Cluster) -> RowsSnapshot {
    RowsSnapshot::at(cluster, 0).await.expect("the databases can be read")
}

/// Imports each file into the first region. The region must refuse it and write nothing.
pub(crate) async fn refuse(cluster: &Cluster, cases: Vec<Refused>) {
    let before = Everything::of(cluster).await;
    let mut problems = Vec::new();
    for case in cases {
        let name = case.name.clone();
        let mut mismatch = |what: String| problems.push(format!("{name}: {what}"));
        let import = match cluster.region(0).import(&case.file, &ImportOptions::default()).await {
            Ok(import) => import,
            Err(status) => {
                mismatch(format!("the call failed: {status}"));
                continue;
            }
        };
        let failure = import.failure.clone().unwrap_or_default();
        let message = &failure.message;
        if import.state() != ImportState::Failed
            || failure.reason() != case.reason()
            || failure.state() != ImportState::Planning
        {
            mismatch(format!("is {:?} and fails with {failure:?}", import.state()));
        } else if !message.starts_with(&case.place.shown()) || !message.contains(&case.says) {
            mismatch(format!("{message:?} is not about {:?} and {:?}", case.place.shown(), case.says));
        }
        check_finding(cluster, &import, &case, &mut mismatch).await;
        if Everything::of(cluster).await != before {
            mismatch("something was written".to_owned());
            break;
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Checks that the refusal is the only error among the findings, and that the finding's fields agree with the message.
async fn check_finding(
    cluster: &Cluster,
    import: &Import,
    case: &Refused,
    mismatch: &mut impl FnMut(String),
) {
    // In a finding, a primary key of 0 means none.
    let place = Place { pk: case.place.pk.filter(|pk| *pk != 0), ..case.place.clone() };
    let findings = cluster.region(0).findings(&import.import_id).await.expect("a list of findings");
    let errors: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity() == Severity::Error).collect();
    match errors.as_slice() {
        [error] => {
            if error.kind() != case.kind || Place::of(error) != place {
                mismatch(format!("{error:?} should be a {:?} at {place:?}", case.kind));
            }
        }
        _ => mismatch(format!("has not one error but {errors:?}")),
    }
}

/// A finding in short: kind, model, source primary key (0: none), and field.
pub(crate) type Told = (FindingKind, &'static str, i64, &'static str);

/// Imports a file into the first region, audits the import, and expects exactly these findings.
pub(crate) async fn tells(
    cluster: &Cluster,
    name: &str,
    file: &[u8],
    options: &ImportOptions,
    expected: &[Told],
) -> (Import, AuditReport) {
    let before = rows_now(cluster).await;
    let import = cluster
        .region(0)
        .import(file, options)
        .await
        .unwrap_or_else(|status| panic!("{name}: the call failed: {status}"));
    check_import(name, &import);
    let account = Audit::new(cluster, 0, &before, file, options, &import)
        .run()
        .await
        .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    expect_findings(name, &account.findings, expected);
    (import, account)
}

/// Imports a file into the first region and expects exactly these findings, without an audit.
pub(crate) async fn tells_in_short(
    cluster: &Cluster,
    name: &str,
    file: &[u8],
    expected: &[Told],
) -> (Import, RowsSnapshot) {
    let region = cluster.region(0);
    let import = region
        .import(file, &ImportOptions::default())
        .await
        .unwrap_or_else(|status| panic!("{name}: the call failed: {status}"));
    check_import(name, &import);
    let findings = region.findings(&import.import_id).await.expect("a list of findings");
    expect_findings(name, &findings, expected);
    (import, rows_now(cluster).await)
}

/// Checks that the import has succeeded, and that the counts of every model add up.
pub(crate) fn check_import(name: &str, import: &Import) {
    assert_eq!(import.state(), ImportState::Succeeded, "{name}: {:?}", import.failure);
    for counts in &import.models {
        let sum = counts.inserted
            + counts.existing
            + counts.out_of_scope
            + counts.filtered
            + counts.dropped
            + counts.passed_over;
        assert_eq!(counts.seen, sum, "{name}: {counts:?} do not add up");
    }
}

/// Checks that there are exactly these findings, in any order. An organization without owner and rows that are added need
/// not be expected, because few exports here have members, keys and addresses.
pub(crate) fn expect_findings(name: &str, findings: &[Finding], expected: &[Told]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable_by_key(|reported| (reported.0 as i32, reported.1, reported.2, reported.3));
    let is_beside = |kind: FindingKind| {
        matches!(kind, FindingKind::OrganizationWithoutOwner | FindingKind::RowAdded)
            && expected.iter().all(|reported| reported.0 != kind)
    };
    let mut reported: Vec<(FindingKind, &str, i64, &str)> = findings
        .iter()
        .filter(|it| !is_beside(it.kind()))
        .map(|it| (it.kind(), it.model.as_str(), it.source_pk, it.field.as_str()))
        .collect();
    reported.sort_unstable_by_key(|reported| (reported.0 as i32, reported.1, reported.2, reported.3));
    assert_eq!(reported, expected, "{name}: {findings:#?}");
}

/// The reason of the finding about a record. Empty if there is none.
pub(crate) fn reason<'a>(account: &'a AuditReport, model: &str, pk: i64) -> &'a str {
    let found = account.findings.iter().find(|it| it.model == model && it.source_pk == pk);
    found.map_or("", |finding| finding.reason.as_str())
}
