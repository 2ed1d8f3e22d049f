//! Eras of the feeds: a control whose database is an old copy gives nothing out twice, and every reader starts over.

use std::sync::Arc;

use causeway_audit::Call;
use causeway_control::{
    Control, Error,
    feed::{Part, all::AllMessage},
    model::region::{Caller, HeldIds, IdRange},
    regions::Registration,
};
use causeway_proto::era::{LAST_ERA, first_version};
use causeway_silo::{
    db::{DbError, Row, Statement},
    env::Failpoints,
};
use uuid::Uuid;

use crate::{
    feeds::Reader,
    support::{Fixture, bulk_create, now, operation, refused_field, wanted},
};

const ORGANIZATION: &str = "sentry.organization";

async fn confirmed(fixture: &Fixture, region: &str, number: u128, id: i64, slug: &str) {
    let control = &fixture.control;
    bulk_create(control, region, operation(number), vec![wanted(id, slug)]).await.expect("reserved");
    control.slug_reservations().confirm(region, operation(number)).await.expect("confirmed");
}

fn instance(of: u128) -> Uuid {
    Uuid::from_u128(of)
}

async fn registered(fixture: &Fixture, name: &str, instance_id: Uuid, ranges: Vec<IdRange>, is_exact: bool) {
    let registration = Registration {
        name: name.to_owned(),
        address: format!("http://{name}.example.com"),
        instance_id,
        product_name: String::new(),
        held_ids: vec![HeldIds { model: ORGANIZATION.to_owned(), ranges, is_exact }],
    };
    fixture.control.regions().register_with_ids(registration, &Caller::default()).await.expect("registered");
}

/// A region has read more than the feed has. All readers start over, also those who come when the feed has caught up.
pub(crate) async fn every_reader_starts_over_in_a_new_era(fixture: Fixture) {
    let control = &fixture.control;
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    confirmed(&fixture, "us", 1, 1, "acme").await;
    let mut live = Reader::new(control, "us", 0).await;
    live.reach(2).await;
    assert_eq!(live.snapshots, 1);

    // The region has heard of two changes that control has forgotten.
    let mut own = control.feeds().watch("us", 4, Some(instance(1))).await.expect("a feed");
    let first = own.recv().await.expect("it goes on").expect("it does not fail");
    let begin = first_version(1);
    assert!(
        matches!(first.part, Part::Snapshot { version, first: true, last: true, .. } if version == begin)
    );
    live.reach(begin).await;
    assert_eq!((live.snapshots, live.slugs()), (2, vec!["acme"]));

    // Other slugs have the numbers of those changes now, in the former count. A reader that was away gets them all.
    confirmed(&fixture, "us", 2, 2, "bolt").await;
    confirmed(&fixture, "us", 3, 3, "cord").await;
    live.reach(begin + 2).await;
    assert_eq!((live.snapshots, live.events.len()), (2, 2));
    for version in [2, 3, 4, 5] {
        let mut reader = Reader::new(control, "us", version).await;
        reader.reach(begin + 2).await;
        assert_eq!((reader.snapshots, reader.slugs()), (1, vec!["acme", "bolt", "cord"]), "{version}");
    }
    // A region that registers later begins in this era, too.
    registered(&fixture, "de", instance(2), Vec::new(), true).await;
    let mut routers = control.feeds().watch_all(vec![("us".to_owned(), 4)]).await.expect("all feeds");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = routers.recv().await.expect("it goes on").expect("it does not fail");
        if let AllMessage::Feed { region, message } = message {
            let Part::Snapshot { version, .. } = message.part else { panic!("events: {message:?}") };
            seen.push((region, version));
        }
    }
    seen.sort();
    assert_eq!(seen, [("de".to_owned(), begin), ("us".to_owned(), begin + 2)]);

    // The region has followed, so its next stream begins no other era.
    drop(own);
    let mut own = control.feeds().watch("us", begin + 2, Some(instance(1))).await.expect("a feed");
    let next = own.recv().await.expect("it goes on").expect("it does not fail");
    assert_eq!((next.part, next.current_version), (Part::Heartbeat, begin + 2));
}

/// The audit log has who has shown that the database is an old copy, and the request by which it did.
pub(crate) async fn the_audit_log_names_the_region_by_which_an_era_begins(fixture: Fixture) {
    let feeds = fixture.control.feeds();
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    let request_id = operation(77);
    let call = Call::new(request_id, "spiffe://test.example/region/us", "127.0.0.1".to_owned(), "a watch");
    let opened = causeway_audit::scope(call, feeds.watch("us", 9, Some(instance(1)))).await;
    drop(opened.expect("a feed"));
    let db = fixture.db().await;
    let era =
        Statement::new("SELECT request_id, who, object FROM causeway_audit WHERE call LIKE 'begin an era%'");
    let rows = db.fetch_all(era).await.expect("entries");
    let told = |row: &Row| -> Result<_, DbError> {
        Ok((row.uuid("request_id")?, row.text("who")?, row.text("object")?))
    };
    let told: Vec<_> = rows.iter().map(|row| told(row).expect("an entry")).collect();
    db.close().await;
    assert_eq!(told, [(request_id, "control".to_owned(), "region/us".to_owned())]);
}

pub(crate) async fn only_a_region_begins_an_era_by_what_it_has_read(fixture: Fixture) {
    let control = &fixture.control;
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    let mut reader = Reader::new(control, "us", 70).await;
    reader.hear().await;
    assert_eq!((reader.version, reader.snapshots), (1, 1));
    let refused = control.feeds().watch("us", 70, Some(instance(2))).await.map(|_| ());
    assert!(matches!(refused, Err(Error::RegionNameTaken { .. })), "{refused:?}");
    let mut reader = Reader::new(control, "us", 1).await;
    reader.hear().await;
    assert_eq!((reader.version, reader.snapshots), (1, 0));
}

pub(crate) async fn a_version_of_no_era_is_refused(fixture: Fixture) {
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    // A region of the last era could only be followed by an era that there is not.
    for version in [first_version(LAST_ERA), first_version(LAST_ERA + 1), i64::MAX] {
        let refused = fixture.control.feeds().watch("us", version, Some(instance(1))).await.map(|_| ());
        assert!(
            matches!(&refused, Err(Error::InvalidArgument { field, .. }) if field == "after_version"),
            "{refused:?}"
        );
    }
    let mut reader = Reader::new(&fixture.control, "us", 1).await;
    reader.hear().await;
    assert_eq!((reader.version, reader.snapshots), (1, 0));
}

pub(crate) async fn ids_that_may_have_been_leased_are_leased_again_to_nobody(fixture: Fixture) {
    let regions = fixture.control.regions();
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    registered(&fixture, "de", instance(2), Vec::new(), true).await;
    let lease = async |region: &'static str, number: u128| {
        regions.lease_ids(region, operation(number), ORGANIZATION, 10, 0).await.expect("a lease")
    };
    assert_eq!(lease("us", 1).await.first_id, 1);
    // A lease of 11 to 20 is forgotten.
    drop(fixture.control.feeds().watch("us", 9, Some(instance(1))).await.expect("a feed"));
    let lost = IdRange { first: 11, last: 10 + (1 << 32) };
    assert_eq!(lease("de", 2).await.first_id, lost.last + 1);

    // A region that has rows of lost ids is given leases of them. Ranges with gaps may have ids of others.
    registered(&fixture, "us", instance(1), vec![IdRange { first: 3, last: 15 }], false).await;
    registered(&fixture, "de", instance(2), vec![IdRange { first: 12, last: 13 }], true).await;
    registered(&fixture, "us", instance(1), vec![IdRange { first: 3, last: 15 }], true).await;
    registered(&fixture, "us", instance(1), vec![IdRange { first: 3, last: 15 }], true).await;
    let db = fixture.db().await;
    let all = Statement::new("SELECT first_id, count FROM causeway_id_lease ORDER BY first_id");
    let rows = db.fetch_all(all).await.expect("leases");
    let number = |row: &Row, name| row.int(name).expect("a number");
    let blocks: Vec<_> = rows.iter().map(|row| (number(row, "first_id"), number(row, "count"))).collect();
    db.close().await;
    assert_eq!(blocks, [(1, 10), (11, 1), (12, 2), (14, 2), (lost.last + 1, 10)]);
    let conflicts = regions.id_conflicts("us").await.expect("conflicts");
    assert!(
        conflicts.iter().any(|it| it.region == "de" && it.ids == IdRange { first: 12, last: 13 }),
        "{conflicts:?}"
    );
    // An id that is its own again is no other region's.
    let refused = bulk_create(&fixture.control, "de", operation(3), vec![wanted(14, "acme")]).await;
    assert!(matches!(refused, Err(Error::OrganizationIdTaken { .. })), "{refused:?}");
    bulk_create(&fixture.control, "us", operation(4), vec![wanted(14, "acme")]).await.expect("reserved");
}

/// Reads the feed of `us` as the region itself, and returns the version of the snapshot that it begins with; `None` if it
/// begins with none.
async fn watched(control: &Control, after: i64) -> Option<i64> {
    let mut own = control.feeds().watch("us", after, Some(instance(1))).await.expect("a feed");
    let first = own.recv().await.expect("it goes on").expect("it does not fail");
    match first.part {
        Part::Snapshot { version, .. } => Some(version),
        Part::Events(_) | Part::Heartbeat => None,
    }
}

async fn last_lease(fixture: &Fixture, number: u128) -> i64 {
    let regions = fixture.control.regions();
    regions.lease_ids("us", operation(number), ORGANIZATION, 10, 0).await.expect("a lease").first_id
}

pub(crate) async fn what_two_readers_notice_at_once_is_one_era(fixture: Fixture) {
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    registered(&fixture, "de", instance(2), Vec::new(), true).await;
    // Each control has its own memory of what it has begun, so only the database tells them of each other.
    let other = fixture.another_for_added(now()).await;
    let (here, there) = (fixture.control.feeds(), other.feeds());
    let (us, again, de) = tokio::join!(
        here.watch("us", 70, Some(instance(1))),
        there.watch("us", 70, Some(instance(1))),
        there.watch("de", 90, Some(instance(2))),
    );
    drop((us.expect("a feed"), again.expect("a feed"), de.expect("a feed")));
    let mut reader = Reader::new(&fixture.control, "us", 0).await;
    reader.hear().await;
    assert_eq!(reader.version, first_version(1));
    other.stop().await;
}

pub(crate) async fn a_region_begins_one_era_for_each_start_of_control(fixture: Fixture) {
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    registered(&fixture, "de", instance(2), Vec::new(), true).await;
    assert_eq!(watched(&fixture.control, 70).await, Some(first_version(1)));
    let ahead = first_version(1) + 1;
    for _ in 0..2 {
        let refused = fixture.control.feeds().watch("us", ahead, Some(instance(1))).await.map(drop);
        assert_eq!(refused_field(refused), "after_version");
    }
    assert_eq!(watched(&fixture.control, first_version(1)).await, None, "it is the same era");
    // Another region may have read more than this one, and a database may be put back while control is stopped.
    let de = fixture.control.feeds().watch("de", ahead, Some(instance(2))).await;
    drop(de.expect("a feed"));
    let other = fixture.another_for_added(now()).await;
    assert_eq!(watched(&other, first_version(2) + 1).await, Some(first_version(3)));
    other.stop().await;
}

pub(crate) async fn an_era_whose_commit_was_not_answered_counts(fixture: Fixture) {
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    // The connection is lost after the commit: control cannot tell whether it arrived.
    let fails: Arc<Failpoints> = Arc::new(|place| {
        let outcome = match place {
            "control.era.committed" => Err(DbError::injected(place)),
            _ => Ok(()),
        };
        Box::pin(async move { outcome })
    });
    let other = fixture.another_with(2, fails).await;
    let unknown = other.feeds().watch("us", 70, Some(instance(1))).await.map(drop);
    assert!(matches!(&unknown, Err(Error::Database(_))), "{unknown:?}");
    assert_eq!(watched(&other, 70).await, Some(first_version(1)), "it has begun");
    let refused = other.feeds().watch("us", first_version(1) + 1, Some(instance(1))).await.map(drop);
    assert_eq!(refused_field(refused), "after_version");
    other.stop().await;
}

pub(crate) async fn a_suspended_region_begins_no_era(fixture: Fixture) {
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    fixture.control.regions().suspend("us", "", &Caller::default()).await.expect("suspended");
    let refused = fixture.control.feeds().watch("us", 70, Some(instance(1))).await.map(drop);
    assert!(matches!(refused, Err(Error::RegionSuspended { .. })), "{refused:?}");
    assert_eq!(watched(&fixture.control, 1).await, None, "what there is, it may read");
    fixture.control.regions().resume("us").await.expect("resumed");
    assert_eq!(watched(&fixture.control, 70).await, Some(first_version(1)));
}

pub(crate) async fn eras_that_were_forgotten_are_passed_over_with_their_ids(fixture: Fixture) {
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    assert_eq!(last_lease(&fixture, 1).await, 1);
    // Control was put back twice from this copy: the region has heard of two eras, and each leased ids above the former.
    assert_eq!(watched(&fixture.control, first_version(2) + 5).await, Some(first_version(3)));
    assert_eq!(last_lease(&fixture, 2).await, 11 + 3 * (1 << 32));
    // No region passes over all of them: from an era that is 16 later than control's, nobody begins one.
    registered(&fixture, "de", instance(2), Vec::new(), true).await;
    registered(&fixture, "fr", instance(3), Vec::new(), true).await;
    let refused = fixture.control.feeds().watch("de", first_version(3 + 16), Some(instance(2))).await;
    assert_eq!(refused_field(refused.map(drop)), "after_version");
    let refused = fixture.control.feeds().watch("de", first_version(20), Some(instance(2))).await.map(drop);
    assert_eq!(refused_field(refused), "after_version");
    assert_eq!(last_lease(&fixture, 3).await, 21 + 3 * (1 << 32));
    drop(
        fixture.control.feeds().watch("fr", first_version(3 + 15), Some(instance(3))).await.expect("a feed"),
    );
    let mut reader = Reader::new(&fixture.control, "us", 0).await;
    reader.hear().await;
    assert_eq!(reader.version, first_version(3 + 16));
}

pub(crate) async fn lost_ids_that_two_regions_have_are_leased_to_neither(fixture: Fixture) {
    registered(&fixture, "us", instance(1), Vec::new(), true).await;
    // Before the era: no id is lost yet, so nobody is leased one.
    registered(&fixture, "de", instance(2), vec![IdRange { first: 12, last: 13 }], true).await;
    assert_eq!(watched(&fixture.control, 9).await, Some(first_version(1)));
    let lost = 14;
    bulk_create(&fixture.control, "de", operation(1), vec![wanted(lost + 4, "acme")])
        .await
        .expect("reserved");
    // `us` has a slug for a row that only `de` has at first, so nobody is leased its id.
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(lost + 2, "cube")])
        .await
        .expect("reserved");
    let both = [(12, 13), (lost + 2, lost + 2)].map(|(first, last)| IdRange { first, last });
    registered(&fixture, "de", instance(2), both.to_vec(), true).await;
    registered(&fixture, "us", instance(1), vec![IdRange { first: lost - 2, last: lost + 6 }], true).await;
    let db = fixture.db().await;
    let all = Statement::new("SELECT region, first_id, count FROM causeway_id_lease ORDER BY first_id");
    let rows = db.fetch_all(all).await.expect("leases");
    db.close().await;
    let block = |row: &Row| {
        let number = |name| row.int(name).expect("a number");
        (row.text("region").expect("a region"), number("first_id"), number("count"))
    };
    let us = |first, count| ("us".to_owned(), first, count);
    assert_eq!(rows.iter().map(block).collect::<Vec<_>>(), [us(14, 2), us(17, 1), us(19, 2)]);
}
