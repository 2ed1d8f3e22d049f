//! Which regions may register, from where, and what control knows of them.

use causeway_control::{
    Control, Error, PageRequest,
    model::region::{Caller, KnownRegion},
    regions::Registration,
};
use causeway_silo::db::Statement;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::support::{Fixture, bulk_create, now, operation, refused_field, wanted};

/// A caller with this identity, and a certificate for 90 days.
fn caller(name: &str) -> Caller {
    Caller {
        identity: Some(format!("spiffe://test.example/region/{name}")),
        certificate_end: Some(now() + TimeDelta::days(90)),
    }
}

async fn register(
    control: &Control,
    address: &str,
    instance: u128,
    caller: &Caller,
) -> Result<KnownRegion, Error> {
    let registration = Registration {
        name: "us".to_owned(),
        address: address.to_owned(),
        instance_id: Uuid::from_u128(instance),
        product_name: String::new(),
        held_ids: Vec::new(),
    };
    Ok(control.regions().register_with_ids(registration, caller).await?.0)
}

const HERE: &str = "https://us.example.com";
const THERE: &str = "https://elsewhere.example.com";

pub(crate) async fn a_region_that_nobody_added_cannot_register(fixture: Fixture) {
    let control = fixture.another_for_added(now()).await;
    let regions = control.regions();
    let refused = register(&control, HERE, 1, &caller("us")).await.expect_err("nobody added it");
    assert!(matches!(&refused, Error::RegionNotAdded { region } if region == "us"));
    assert!(refused.to_string().contains("`causeway regions add us`"), "{refused}");
    let unknown = bulk_create(&control, "us", operation(1), vec![wanted(1, "acme")]).await;
    assert!(matches!(unknown, Err(Error::RegionNotRegistered { .. })));

    let operator =
        Caller { identity: Some("spiffe://test.example/operator/ann".to_owned()), certificate_end: None };
    let (added, changed) = regions.add("us", &operator).await.expect("added");
    assert!(changed);
    assert_eq!((added.added_at, &added.added_by), (now(), &operator.identity));
    assert_eq!((&added.registered, added.feed_version), (&None, None));
    assert_eq!(regions.add("us", &Caller::default()).await.expect("it is there"), (added.clone(), false));
    assert_eq!(regions.get("us").await.expect("known"), added);
    // It may register, and may do nothing else before it has.
    let unknown = bulk_create(&control, "us", operation(1), vec![wanted(1, "acme")]).await;
    assert!(matches!(unknown, Err(Error::RegionNotRegistered { .. })));
    assert!(matches!(regions.take_over("us", None).await, Err(Error::RegionNotRegistered { .. })));
    let registered = register(&control, HERE, 1, &caller("us")).await.expect("it was added");
    assert_eq!((registered.added_at, &registered.added_by), (now(), &operator.identity));
    assert_eq!(registered.feed_version, Some(1));
    assert_eq!(regions.add("us", &operator).await.expect("it is there"), (registered, false));
    for name in ["", "US", "us east"] {
        assert_eq!(refused_field(regions.add(name, &operator).await), "name");
    }
}

pub(crate) async fn a_region_that_registers_where_any_may_is_added_by_that(fixture: Fixture) {
    let region = register(&fixture.control, HERE, 1, &caller("us")).await.expect("any may");
    assert_eq!((region.added_at, region.added_by), (now(), caller("us").identity));
    // It stays one when control takes only those that were added.
    let control = fixture.another_for_added(now()).await;
    register(&control, HERE, 1, &caller("us")).await.expect("it was added");
}

pub(crate) async fn a_region_that_has_never_registered_can_be_removed(fixture: Fixture) {
    let control = fixture.another_for_added(now()).await;
    let regions = control.regions();
    for name in ["eu", "us"] {
        regions.add(name, &Caller::default()).await.expect("added");
    }
    register(&control, HERE, 1, &caller("us")).await.expect("it was added");
    assert!(regions.remove("eu").await.expect("removed"));
    assert!(!regions.remove("eu").await.expect("it is gone"));
    assert!(matches!(regions.get("eu").await, Err(Error::RegionNotFound { .. })));
    let refused = regions.remove("us").await.expect_err("it has registered");
    assert!(matches!(&refused, Error::RegionHasRegistered { .. }));
    assert!(refused.to_string().contains("`causeway regions suspend us`"), "{refused}");
    let listed = regions.list(&PageRequest { limit: 10, after: None }).await.expect("a page").items;
    assert_eq!(listed.into_iter().map(|region| region.name).collect::<Vec<_>>(), ["us"]);
}

pub(crate) async fn an_address_changes_by_the_same_identity_only(fixture: Fixture) {
    let control = &fixture.control;
    register(control, HERE, 1, &caller("us")).await.expect("new");
    let refused = register(control, THERE, 1, &caller("thief")).await.expect_err("it is another identity");
    assert!(matches!(&refused, Error::RegionIdentityDiffers { .. }));
    for part in ["spiffe://test.example/region/us", "`causeway regions take-over us`"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    // One that changes nothing is no way to become the identity that may.
    register(control, HERE, 1, &caller("thief")).await.expect("nothing changes");
    assert!(matches!(
        register(control, THERE, 1, &caller("thief")).await,
        Err(Error::RegionIdentityDiffers { .. })
    ));
    let database = register(control, THERE, 2, &caller("us")).await;
    assert!(matches!(database, Err(Error::RegionNameTaken { .. })));
    assert_eq!(control.regions().region_address("us").await.expect("known"), HERE);
    let moved = register(control, THERE, 1, &caller("us")).await.expect("its own");
    assert_eq!(moved.registered.expect("it has registered").address, THERE);
    // After a takeover, the database may come with another identity. Then only that one may change the address.
    control.regions().take_over("us", Some(Uuid::from_u128(1))).await.expect("allowed");
    let renewed = register(control, HERE, 1, &caller("renewed")).await.expect("taken over");
    assert_eq!(renewed.registered.expect("it has registered").identity, caller("renewed").identity);
    assert!(matches!(
        register(control, THERE, 1, &caller("us")).await,
        Err(Error::RegionIdentityDiffers { .. })
    ));
    control.regions().take_over("us", None).await.expect("allowed");
    let new = register(control, THERE, 2, &caller("new")).await.expect("taken over");
    assert_eq!(new.registered.expect("it has registered").identity, caller("new").identity);
    assert!(matches!(
        register(control, HERE, 2, &caller("renewed")).await,
        Err(Error::RegionIdentityDiffers { .. })
    ));
}

pub(crate) async fn a_region_from_before_identities_gets_the_first_that_it_shows(fixture: Fixture) {
    let control = &fixture.control;
    register(control, HERE, 1, &Caller::default()).await.expect("new");
    register(control, THERE, 1, &caller("us")).await.expect("the first identity");
    assert!(matches!(
        register(control, HERE, 1, &caller("thief")).await,
        Err(Error::RegionIdentityDiffers { .. })
    ));
}

/// When control last heard from the region.
async fn contact(control: &Control) -> Option<DateTime<Utc>> {
    let region = control.regions().get("us").await.expect("known").registered;
    region.expect("it has registered").last_contact_at
}

pub(crate) async fn a_region_that_reads_its_feed_is_in_contact(fixture: Fixture) {
    register(&fixture.control, HERE, 1, &caller("us")).await.expect("new");
    let region = fixture.control.regions().get("us").await.expect("known").registered.expect("registered");
    assert_eq!((region.last_contact_at, region.certificate_end), (Some(now()), caller("us").certificate_end));
    // Somebody else who reads the feed is not the region.
    let later = fixture.another_for_added(now() + TimeDelta::seconds(10)).await;
    let mut other = later.feeds().watch("us", 0, None).await.expect("a reader");
    other.recv().await.expect("a message").expect("no error");
    assert_eq!(contact(&later).await, Some(now()));
    // Contact is not noted again within ten seconds.
    for (seconds, noted) in [(9, 0), (10, 10), (11, 10), (25, 25)] {
        let later = fixture.another_for_added(now() + TimeDelta::seconds(seconds)).await;
        let mut own = later.feeds().watch("us", 0, Some(Uuid::from_u128(1))).await.expect("its own feed");
        // The second message comes after contact was noted.
        for _ in 0..2 {
            own.recv().await.expect("a message").expect("no error");
        }
        assert_eq!(contact(&later).await, Some(now() + TimeDelta::seconds(noted)), "{seconds}");
        later.stop().await;
    }
}

/// The migration made all of them regions that were added.
pub(crate) async fn regions_from_before_count_as_added(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let db = fixture.db().await;
    let mut tx = db.begin().await.expect("a transaction");
    let delete = Statement::new("DELETE FROM causeway_added_region");
    assert_eq!(tx.execute(delete).await.expect("deleted"), 1);
    let migration = include_str!("../../migrations/control/postgres/0037_added_regions.sql");
    let insert = migration.split(';').find(|it| it.contains("INSERT INTO causeway_added_region"));
    tx.execute(Statement::new(insert.expect("it is there"))).await.expect("migrated");
    tx.commit().await.expect("migrated");
    db.close().await;
    let control = fixture.another_for_added(now()).await;
    assert_eq!(control.regions().get("us").await.expect("known").added_at, now());
    let instance = Uuid::from_u128(1000);
    control.regions().register("us", "https://us.example.com", instance).await.expect("it counts as added");
}
