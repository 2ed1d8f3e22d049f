//! Checks that each broken promise is noticed.

use std::time::Duration;

use causeway_silo::db::Statement;

use super::*;
use crate::{
    cluster::{ImportOptions, Silo, Store},
    export::Export,
};

fn export() -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").user(1, "ann").email(1, "ann@example.com");
    export.user_email(1, 1, "ann@example.com").member(1, 1, 1).member(2, 2, 1).team(1, 2, "t");
    export.project(1, 1, "p").project_key(1, 1, "key").auth_token(1, 1, "token");
    export.to_bytes()
}

async fn tamper(cluster: &Cluster, silo: Silo, sql: &'static str) {
    let db = cluster.shared_db(silo).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    // The constraints of the tables would prevent most of this.
    for sql in ["PRAGMA ignore_check_constraints = ON", sql, "PRAGMA ignore_check_constraints = OFF"] {
        tx.execute(Statement::new(sql)).await.unwrap();
    }
    tx.commit().await.unwrap();
}

const CONTROL: Silo = Silo::Control;
const US: Silo = Silo::Region(0);

/// The database, the SQL, the promise that it breaks, and a part of the message. They run one after the other, on top
/// of each other.
const TAMPERING: &[(Silo, &str, u8, &str)] = &[
    (
        CONTROL,
        "INSERT INTO causeway_organization_slug_reservation SELECT 'ONE', organization_id, region, wanted_slug, \
         'vanity_alias', operation_id, created_at, confirmed_at FROM causeway_organization_slug_reservation \
         WHERE slug = 'one'",
        1,
        "`one` is reserved for",
    ),
    (
        US,
        "UPDATE sentry_organization SET slug = 'else' WHERE slug = 'two'",
        2,
        "is `else`, and its reservation `two`",
    ),
    (
        CONTROL,
        "UPDATE causeway_organization_slug_reservation SET type = 'temporary_rename_alias' WHERE slug = 'two'",
        2,
        "has 0 primary reservations",
    ),
    (
        CONTROL,
        "INSERT INTO causeway_organization_slug_reservation SELECT 'gone', 12345, region, wanted_slug, 'primary', \
         operation_id, created_at, confirmed_at FROM causeway_organization_slug_reservation WHERE slug = 'one'",
        3,
        "`gone` is reserved (primary) for organization 12345 of us, which is not there",
    ),
    (
        CONTROL,
        "UPDATE causeway_organization SET status = 2 WHERE region = 'us'",
        3,
        "as DeletionInProgress, and its row has status Some(0)",
    ),
    (
        CONTROL,
        "DELETE FROM causeway_organization WHERE organization_id IN (SELECT organization_id \
         FROM causeway_organization_slug_reservation WHERE slug = 'one')",
        3,
        "the directory does not have organization",
    ),
    (US, "DELETE FROM sentry_projectkey", 4, "of us (Inserted), which is not there"),
    (
        US,
        "UPDATE causeway_import_chunk SET max_ordinal = 2 WHERE model = 'sentry.team'",
        4,
        "has 1 records of sentry.team and chunks of 1-2",
    ),
    (
        CONTROL,
        "INSERT INTO sentry_email (id, email, date_added) VALUES (77, 'x@example.com', '2026-01-01T00:00:00.000000Z')",
        4,
        "row 77 of sentry.email of control is of no import",
    ),
    (
        CONTROL,
        "DELETE FROM causeway_import_chunk WHERE model = 'sentry.useremail'",
        4,
        "the chunk of sentry.useremail from 1 is another one at control",
    ),
    (US, "UPDATE sentry_organization SET status = 3 WHERE slug = 'one'", 5, "has status 3"),
    (
        US,
        "UPDATE causeway_import_model SET inserted = 5 WHERE model = 'sentry.team'",
        6,
        "of sentry.team, and counts [5,",
    ),
    (
        US,
        "UPDATE sentry_team SET organization_id = (SELECT id FROM sentry_organization WHERE slug = 'one')",
        7,
        "whose organization is",
    ),
    (US, "UPDATE sentry_organizationmember SET user_id = 4711", 7, "user_id leads to sentry.user 4711"),
    (US, "DELETE FROM causeway_slug_replica WHERE slug = 'one'", 3, "us knows `one` as None"),
    (CONTROL, "UPDATE causeway_slug_operation SET state = 'released'", 8, "is released and has"),
    (
        CONTROL,
        "UPDATE causeway_id_lease SET region = 'de' WHERE model = 'sentry.team'",
        9,
        "of sentry.team of us has an id of de",
    ),
    (
        CONTROL,
        "UPDATE causeway_organization_slug_reservation SET region = 'elsewhere' WHERE slug = 'gone'",
        9,
        "`gone` is reserved for elsewhere, which is not a region",
    ),
    (
        CONTROL,
        "INSERT INTO causeway_id_lease SELECT 'de', 'another', model, first_id + 10, count, created_at \
         FROM causeway_id_lease WHERE model = 'sentry.project' AND first_id = 1",
        10,
        "two blocks of ids overlap",
    ),
    (
        CONTROL,
        "DELETE FROM causeway_id_lease WHERE model = 'sentry.organization'",
        10,
        "has an id that was never leased",
    ),
    (US, "UPDATE causeway_import SET state = 'writing'", 4, "is still writing"),
    (US, "UPDATE causeway_import SET state = 'reverted'", 5, "is of an import that was reverted"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_broken_promise_is_noticed() {
    let cluster = Cluster::start(Store::Sqlite, &["us", "de"]).await.unwrap();
    let bytes = export();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.unwrap();
    cluster.region(1).import(&bytes, &ImportOptions::default().merge_users()).await.unwrap();
    cluster.quiet(Duration::from_secs(30)).await.unwrap();
    let inspection = Inspection::of(&cluster).export(&import.import_id, &bytes).unwrap();
    let mut before = inspection.violations().await.unwrap();
    assert_eq!(before, []);

    for (silo, sql, invariant, words) in TAMPERING {
        tamper(&cluster, *silo, sql).await;
        let now = inspection.violations().await.unwrap();
        let noticed = |violation: &&Violation| {
            violation.invariant == *invariant
                && violation.message.contains(words)
                && !before.contains(violation)
        };
        assert!(now.iter().find(noticed).is_some(), "{sql}: I{invariant} {words}: {now:#?}");
        before = now;
    }
    let invariants: std::collections::BTreeSet<u8> =
        TAMPERING.iter().map(|(_, _, number, _)| *number).collect();
    assert_eq!(invariants, (1..=10).collect());
    cluster.assert_invariants().await.unwrap_err();
    cluster.stop().await;
}
