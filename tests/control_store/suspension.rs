//! What a suspended region may not do any more, and what goes on.

use std::time::Duration;

use causeway_control::{
    Error,
    model::{
        directory::ReportedOrganization,
        import::{ImportModels, ImportRecord},
        region::Caller,
    },
};
use causeway_proto::relocation::v1::ErrorReason;
use causeway_silo::db::{Db, Dialect, Statement};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::{
    contract::writing_calls,
    feeds::Reader,
    grpc::serve,
    support::{Fixture, Gate, bulk_create, now, operation, refused_field, slugs, wanted},
};

/// The region `us` with the organization 1, which has the slug `acme` and is in the directory, and a chunk of import 1.
async fn begin(fixture: Fixture) -> Fixture {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let control = &fixture.control;
    bulk_create(control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    control.slug_reservations().confirm("us", operation(1)).await.expect("confirmed");
    let (slug, name) = ("acme".to_owned(), "Acme".to_owned());
    let report = ReportedOrganization { organization_id: 1, slug, name, status: 0 };
    control.directory().report("us", 0, vec![report], false).await.expect("reported");
    let fields = json!({"email": "ann@example.com", "date_added": "2024-01-01T00:00:00Z"});
    let chunk = ImportModels {
        region: "us".to_owned(),
        import_id: operation(1),
        model: "sentry.email".to_owned(),
        merge_users: false,
        min_ordinal: 1,
        max_ordinal: 1,
        records: vec![ImportRecord {
            ordinal: 1,
            source_pk: 1,
            byte_offset: 0,
            fields_json: fields.to_string(),
        }],
        tables_fingerprint: String::new(),
    };
    control.imports().import_models(chunk).await.expect("written");
    fixture
}

/// Waits until a transaction waits for a lock, or the task has ended. SQLite has no such table to check. There, a
/// writer waits before it has read anything.
async fn waits<T>(db: &Db, task: &JoinHandle<T>) {
    while db.dialect() == Dialect::Postgres && !task.is_finished() {
        let waiting = Statement::new("SELECT count(*) AS n FROM pg_locks WHERE NOT granted");
        let row = db.fetch_optional(waiting).await.expect("it answers").expect("a row");
        if row.int("n").expect("a number") > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn suspending_and_resuming_twice_is_doing_it_once(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let regions = fixture.control.regions();
    let operator = Caller { identity: Some("spiffe://x/operator/ann".to_owned()), certificate_end: None };
    let (first, changed) = regions.suspend("us", "stolen key", &operator).await.expect("suspended");
    let suspension = first.suspension.clone().expect("it is suspended");
    assert!(changed);
    assert_eq!((suspension.suspended_at, suspension.suspended_by), (now(), operator.identity.clone()));
    assert_eq!(suspension.text.as_deref(), Some("stolen key"));
    let again = regions.suspend("us", "something else", &Caller::default()).await.expect("it is suspended");
    assert_eq!(again, (first.clone(), false));
    assert_eq!(regions.get("us").await.expect("known"), first);
    let (resumed, changed) = regions.resume("us").await.expect("resumed");
    assert!(changed && resumed.suspension.is_none(), "{resumed:?}");
    assert_eq!(regions.resume("us").await.expect("not suspended"), (resumed, false));
    let long = "x".repeat(501);
    for text in [long.as_str(), "stolen\nkey", "stolen \u{1b}[31mkey"] {
        assert_eq!(refused_field(regions.suspend("us", text, &operator).await), "text");
    }
    regions.suspend("us", &long[..500], &operator).await.expect("suspended");
    for unknown in
        [regions.suspend("fr", "", &operator).await.map(drop), regions.resume("fr").await.map(drop)]
    {
        assert!(matches!(unknown, Err(Error::RegionNotFound { region }) if region == "fr"));
    }
}

pub(crate) async fn a_suspended_region_cannot_write(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let (served, regions) = (serve(&fixture.control).await, fixture.control.regions());
    let before = fixture.reservations().await;
    regions.suspend("us", "stolen key", &Caller::default()).await.expect("suspended");
    for call in writing_calls() {
        let made = call.make(served.channel.clone()).await;
        assert_eq!(made, Err(Some(ErrorReason::RegionSuspended)), "{}", call.name);
    }
    let refused = bulk_create(&fixture.control, "us", operation(2), vec![wanted(2, "bolt")]).await;
    let refused = refused.expect_err("it is suspended").to_string();
    for part in ["since 2023-11-14T22:13:20Z (stolen key)", "`causeway regions resume us`"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(fixture.reservations().await, before);
    // Another region goes on, and so does this one when it is resumed.
    bulk_create(&fixture.control, "de", operation(2), vec![wanted(2, "bolt")]).await.expect("reserved");
    regions.resume("us").await.expect("resumed");
    for call in writing_calls() {
        let made = call.make(served.channel.clone()).await;
        assert_ne!(made, Err(Some(ErrorReason::RegionSuspended)), "{}", call.name);
    }
}

pub(crate) async fn a_suspended_region_is_still_found(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    control.regions().suspend("us", "", &Caller::default()).await.expect("suspended");
    let found = control.directory().resolve("acme").await.expect("it is there");
    assert_eq!((found.region.as_str(), found.region_address.as_str()), ("us", "https://us.example.com"));
    assert_eq!(control.directory().get(1).await.expect("it is there").name, "Acme");
    assert_eq!(control.regions().region_address("us").await.expect("known"), "https://us.example.com");
    let mut reader = Reader::new(control, "us", 0).await;
    reader.reach(2).await;
    assert_eq!(reader.slugs(), ["acme"]);
    let mut own = control.feeds().watch("us", 0, Some(operation(1000))).await.expect("its own feed");
    own.recv().await.expect("a message").expect("no error");
}

/// A suspension that has been answered holds for every later commit: it waits for the transactions that are open.
pub(crate) async fn a_suspension_waits_for_what_is_being_written(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let db = fixture.db().await;
    let (gate, failpoints) = Gate::at("control.bulk_create.prepared");
    let other = fixture.another_with(2, failpoints).await;
    let creating =
        tokio::spawn(async move { bulk_create(&other, "us", operation(2), vec![wanted(2, "bolt")]).await });
    gate.there().await;
    let control = fixture.control.clone();
    let suspending = tokio::spawn(async move {
        control.regions().suspend("us", "", &Caller::default()).await.expect("suspended");
        control.slug_reservations().slugs_of("us", vec![2]).await.expect("an answer")
    });
    waits(&db, &suspending).await;
    assert!(!suspending.is_finished(), "it does not wait");
    gate.open();
    assert_eq!(slugs(&creating.await.expect("it ends").expect("it was first")), ["bolt"]);
    let seen = suspending.await.expect("it ends");
    assert_eq!(seen.get(&2).map(String::as_str), Some("bolt"), "it was committed after the suspension");
    db.close().await;
}

/// The other way round: what has passed the first check, and begins to write while the region is being suspended, waits
/// for the suspension and is refused.
pub(crate) async fn what_begins_to_write_during_a_suspension_is_refused(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let (served, db) = (serve(&fixture.control).await, fixture.db().await);
    for call in writing_calls() {
        let name = call.name.clone();
        let mut suspending = db.begin().await.expect("a transaction");
        let suspend = Statement::new("UPDATE causeway_added_region SET suspended_at = $1 WHERE name = 'us'");
        assert_eq!(suspending.execute(suspend.with(now())).await.expect("suspended"), 1);
        let channel = served.channel.clone();
        let calling = tokio::spawn(async move { call.make(channel).await });
        waits(&db, &calling).await;
        suspending.commit().await.expect("suspended");
        let made = calling.await.expect("it ends");
        assert_eq!(made, Err(Some(ErrorReason::RegionSuspended)), "{name}");
        fixture.control.regions().resume("us").await.expect("resumed");
    }
    db.close().await;
}
