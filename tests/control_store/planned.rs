//! Questions about rows and slugs, which control answers a region only for an import that it plans.

use causeway_control::{
    Control, Error,
    model::import::{ImportModels, ImportRecord},
};
use causeway_silo::db::{Dialect, Statement};
use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;

use crate::support::{Fixture, now, operation};

/// Whether control answers a region for an import.
async fn is_planned(control: &Control, region: &str, import_id: Uuid) -> bool {
    match control.imports().check_planning(region, import_id).await {
        Ok(()) => true,
        Err(Error::ImportNotPlanning { import_id: of }) if of == import_id => false,
        Err(error) => panic!("{error}"),
    }
}

/// How many entries of the audit log are about an import.
async fn entries(fixture: &Fixture, import_id: Uuid) -> usize {
    let filter =
        causeway_audit::store::Filter { object: Some(format!("import/{import_id}")), ..Default::default() };
    let db = fixture.db().await;
    let found = causeway_audit::store::list(&db, &filter, None, 100).await.expect("listed").len();
    db.close().await;
    found
}

pub(crate) async fn a_region_asks_only_for_imports_that_it_has_said_it_plans(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let (control, imports) = (&fixture.control, fixture.control.imports());
    let id = operation(1);
    assert!(!is_planned(control, "us", id).await, "an id that somebody has made up");
    for _ in 0..2 {
        imports.plan("us", id).await.expect("noted");
    }
    assert!(is_planned(control, "us", id).await);
    assert!(!is_planned(control, "de", id).await, "the id belongs to its region");
    assert_eq!(entries(&fixture, id).await, 1, "it is recorded once");

    // It plans no more once it writes, or is closed.
    let fields = json!({"email": "ann@example.com", "date_added": "2024-01-01T00:00:00Z"}).to_string();
    let chunk = ImportModels {
        region: "us".to_owned(),
        import_id: id,
        model: "sentry.email".to_owned(),
        merge_users: false,
        min_ordinal: 1,
        max_ordinal: 1,
        records: vec![ImportRecord { ordinal: 1, source_pk: 1, byte_offset: 0, fields_json: fields }],
        tables_fingerprint: String::new(),
    };
    imports.import_models(chunk).await.expect("written");
    imports.plan("us", operation(2)).await.expect("noted");
    imports.revert("us", operation(2), &[]).await.expect("closed");
    for id in [id, operation(2)] {
        assert!(!is_planned(control, "us", id).await);
        let again = imports.plan("us", id).await;
        assert!(matches!(again, Err(Error::ImportNotPlanning { .. })), "{again:?}");
        assert!(!is_planned(control, "us", id).await);
    }
    let unknown = imports.plan("fr", operation(3)).await;
    assert!(matches!(unknown, Err(Error::RegionNotRegistered { .. })), "{unknown:?}");
}

pub(crate) async fn a_region_plans_an_import_for_a_week_and_not_too_many(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let (control, imports) = (&fixture.control, fixture.control.imports());
    for region in ["us", "de"] {
        imports.plan(region, operation(1)).await.expect("noted");
    }
    let later = |by: TimeDelta| {
        let fixture = &fixture;
        async move { fixture.another_for_added(now() + by).await }
    };
    let week = TimeDelta::days(7);
    let (then, too_late) = (later(week).await, later(week + TimeDelta::seconds(1)).await);
    assert!(is_planned(&then, "us", operation(1)).await);
    assert!(!is_planned(&too_late, "us", operation(1)).await);
    // A region that goes on says so again.
    too_late.imports().plan("us", operation(1)).await.expect("noted");
    assert!(is_planned(&too_late, "us", operation(1)).await);
    assert_eq!(entries(&fixture, operation(1)).await, 2, "one for each region");

    // A thousand newer ones of the same region; the other region does not notice.
    let db = fixture.db().await;
    let id = match db.dialect() {
        Dialect::Postgres => "CAST(lpad(to_hex(n + 65536), 32, '0') AS uuid)",
        Dialect::Sqlite => "printf('00000000-0000-0000-0000-%012x', n + 65536)",
    };
    let many = Statement::new(
        "INSERT INTO causeway_import_plan (region, import_id, planned_at) \
         WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000) SELECT 'us', ",
    )
    .push(id)
    .push(", ")
    .arg(now() + week + TimeDelta::hours(1))
    .push(" FROM numbers");
    let mut tx = db.begin().await.expect("a transaction");
    tx.execute(many).await.expect("noted");
    tx.commit().await.expect("committed");
    assert!(is_planned(&too_late, "us", operation(1)).await);
    let latest = later(week + TimeDelta::hours(2)).await;
    latest.imports().plan("us", operation(2)).await.expect("noted");
    assert!(is_planned(&latest, "us", operation(2)).await);
    assert!(!is_planned(&latest, "us", operation(1)).await, "the oldest one is forgotten");
    assert!(is_planned(control, "de", operation(1)).await);
    let kept = Statement::new("SELECT count(*) AS n FROM causeway_import_plan WHERE region = 'us'");
    let kept = db.fetch_optional(kept).await.expect("counted").expect("a row").int("n").expect("a number");
    assert_eq!(kept, 1_000);
    db.close().await;
    for other in [then, too_late, latest] {
        other.stop().await;
    }
}
