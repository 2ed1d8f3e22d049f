//! Regions, and the ids that they lease.

use causeway_control::{
    Error, PageRequest,
    model::directory::ReportedOrganization,
    model::region::{
        Caller, ConflictKind, HeldIds, IdBlock, IdRange, MAX_COUNTER_FROM_IDS_IN_USE, MAX_ID, MAX_LEASE,
    },
    model::reservation::ListFilter,
    regions::Registration,
};
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};
use uuid::Uuid;

use crate::support::{Fixture, bulk_create, now, operation, refused_field, wanted};

pub(crate) async fn registering_again_renews_the_address(fixture: Fixture) {
    let regions = fixture.control.regions();
    let instance = Uuid::from_u128(7);
    let first = regions.register("us", "http://127.0.0.1:7000", instance).await.expect("new");
    assert_eq!((first.name.as_str(), first.address.as_str()), ("us", "http://127.0.0.1:7000"));
    assert_eq!((first.created_at, first.last_seen_at), (now(), now()));
    assert_eq!(regions.register("us", "http://127.0.0.1:7000", instance).await.expect("again"), first);
    let moved = regions.register("us", "https://us.example.com", instance).await.expect("renewed");
    assert_eq!(moved.address, "https://us.example.com");
    assert_eq!(regions.get("us").await.expect("known").registered, Some(moved));
    assert_eq!(regions.region_address("us").await.expect("known"), "https://us.example.com");
}

pub(crate) async fn a_name_belongs_to_the_database_that_registered_first(fixture: Fixture) {
    let regions = fixture.control.regions();
    regions.register("us", "https://us.example.com", Uuid::from_u128(1)).await.expect("new");
    let other = regions.register("us", "https://evil.example.com", Uuid::from_u128(2)).await;
    assert!(matches!(other, Err(Error::RegionNameTaken { region }) if region == "us"));
    assert_eq!(regions.region_address("us").await.expect("known"), "https://us.example.com");
}

pub(crate) async fn a_malformed_region_is_refused(fixture: Fixture) {
    let regions = fixture.control.regions();
    let instance = Uuid::from_u128(1);
    for name in ["", "US", "us east", "-us", "us\0"] {
        assert_eq!(refused_field(regions.register(name, "https://us.example.com", instance).await), "name");
        assert_eq!(refused_field(regions.get(name).await), "name");
    }
    for address in ["", "us.example.com", "https://", "https://us.example.com/\0"] {
        assert_eq!(refused_field(regions.register("us", address, instance).await), "address");
    }
    assert!(matches!(regions.get("us").await, Err(Error::RegionNotFound { region }) if region == "us"));
}

pub(crate) async fn regions_are_listed_page_by_page(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de", "a-1", "a1", "au"]).await;
    let regions = fixture.control.regions();
    let mut seen = Vec::new();
    let mut request = PageRequest { limit: 2, after: None };
    loop {
        let page = regions.list(&request).await.expect("a page");
        seen.push(page.items.into_iter().map(|region| region.name).collect::<Vec<_>>());
        match page.next {
            Some(key) => request.after = Some(key),
            None => break,
        }
    }
    assert_eq!(seen, [vec!["a-1", "a1"], vec!["au", "de"], vec!["us"]]);
    let all = regions.list(&PageRequest { limit: 5, after: None }).await.expect("a page");
    assert_eq!((all.items.len(), all.next), (5, None));
}

pub(crate) async fn a_region_that_never_registered_is_refused_everywhere(fixture: Fixture) {
    fn refused<T>(outcome: Result<T, Error>) -> bool {
        matches!(outcome, Err(Error::RegionNotRegistered { region }) if region == "us")
    }
    let (regions, reservations, directory) =
        (fixture.control.regions(), fixture.control.slug_reservations(), fixture.control.directory());
    assert!(refused(regions.region_address("us").await));
    assert!(refused(regions.lease_ids("us", operation(1), "sentry.team", 1, 0).await));
    assert!(refused(bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await));
    assert!(refused(reservations.confirm("us", operation(1)).await));
    assert!(refused(reservations.release("us", operation(1)).await));
    let filter = ListFilter { region: Some("us".to_owned()), kind: None };
    assert!(refused(reservations.list(&filter, &PageRequest { limit: 1, after: None }).await));
    let report = ReportedOrganization {
        organization_id: 1,
        slug: "acme".to_owned(),
        name: "Acme".to_owned(),
        status: 0,
    };
    assert!(refused(directory.report("us", 0, vec![report], false).await));
    assert!(refused(directory.list(Some("us"), &PageRequest { limit: 1, after: None }).await));
}

pub(crate) async fn leased_ids_follow_each_other(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let regions = fixture.control.regions();
    let lease = async |region, number, model, count| {
        regions.lease_ids(region, operation(number), model, count, 0).await.expect("leased")
    };
    assert_eq!(lease("us", 1, "sentry.organization", 3).await, IdBlock { first_id: 1, count: 3 });
    assert_eq!(lease("de", 1, "sentry.organization", 1).await, IdBlock { first_id: 4, count: 1 });
    assert_eq!(lease("us", 2, "sentry.organization", MAX_LEASE).await.first_id, 5);
    assert_eq!(lease("us", 3, "sentry.organization", 1).await.first_id, 5 + MAX_LEASE);
    // Ids are counted per model.
    assert_eq!(lease("us", 4, "sentry.project", 1).await.first_id, 1);
    assert_eq!(lease("us", 5, "sentry.team", 1).await.first_id, 1);
    // The letter case of the model does not matter.
    assert_eq!(lease("us", 6, "Sentry.Team", 1).await.first_id, 2);
    assert_eq!(lease("us", 6, "sentry.team", 1).await.first_id, 2);
}

pub(crate) async fn leased_ids_lie_above_what_the_region_has(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let regions = fixture.control.regions();
    let lease = async |region, number, above| {
        regions.lease_ids(region, operation(number), "sentry.team", 10, above).await.expect("leased").first_id
    };
    assert_eq!(lease("us", 1, 500).await, 501);
    assert_eq!(lease("de", 2, 20).await, 511);
    assert_eq!(lease("de", 3, 520).await, 521);
    // The region's highest id may have grown since. The block is still the same.
    assert_eq!(lease("us", 1, 900).await, 501);
}

pub(crate) async fn a_repeated_lease_is_the_same_lease(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let regions = fixture.control.regions();
    let first = regions.lease_ids("us", operation(1), "sentry.team", 10, 0).await.expect("leased");
    let next = regions.lease_ids("us", operation(2), "sentry.team", 10, 0).await.expect("leased");
    let again = regions.lease_ids("us", operation(1), "sentry.team", 10, 0).await.expect("again");
    assert_eq!(first, again);
    for (model, count) in [("sentry.team", 11), ("sentry.project", 10)] {
        let other = regions.lease_ids("us", operation(1), model, count, 0).await;
        assert!(matches!(other, Err(Error::OperationContentDiffers { .. })));
    }
    // The same id from another region is another operation. A refused request has used up no ids.
    let elsewhere = regions.lease_ids("de", operation(1), "sentry.team", 11, 0).await.expect("leased");
    assert_eq!(elsewhere.first_id, next.first_id + next.count);
    let project = regions.lease_ids("de", operation(2), "sentry.project", 1, 0).await.expect("leased");
    assert_eq!(project.first_id, 1);
}

pub(crate) async fn a_lease_out_of_bounds_is_refused(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let regions = fixture.control.regions();
    for count in [-1, 0, MAX_LEASE + 1] {
        let refused = regions.lease_ids("us", operation(1), "sentry.team", count, 0).await;
        assert_eq!(refused_field(refused), "count");
    }
    for model in ["", "sentry.user", "sentry.teams", "sentry.team\0"] {
        assert_eq!(refused_field(regions.lease_ids("us", operation(1), model, 1, 0).await), "model");
    }
    assert_eq!(refused_field(regions.lease_ids("us", operation(1), "sentry.team", 1, -1).await), "above");
}

fn registration(name: &str, address: &str, instance_id: Uuid, held: HeldIds) -> Registration {
    Registration {
        name: name.to_owned(),
        address: address.to_owned(),
        instance_id,
        product_name: String::new(),
        held_ids: vec![held],
    }
}

/// Registers a region that reports these ranges of organization ids as its own.
async fn join(fixture: &Fixture, name: &str, ranges: &[(i64, i64)]) -> Vec<(i64, i64, String, ConflictKind)> {
    let held = HeldIds {
        model: "sentry.organization".to_owned(),
        ranges: ranges.iter().map(|(first, last)| IdRange { first: *first, last: *last }).collect(),
        is_exact: true,
    };
    let instance = Uuid::from_u128(name.bytes().map(u128::from).sum());
    let address = format!("https://{name}.example.com");
    let regions = fixture.control.regions();
    let (_, reported) = regions
        .register_with_ids(registration(name, &address, instance, held), &Caller::default())
        .await
        .expect("registered");
    assert_eq!(regions.id_conflicts(name).await.expect("a look").len(), reported.len());
    reported.into_iter().map(|it| (it.ids.first, it.ids.last, it.region, it.kind)).collect()
}

pub(crate) async fn ids_stay_below_2_to_the_53rd(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let regions = fixture.control.regions();
    let used =
        Statement::new("INSERT INTO causeway_id_lease_counter (model, last_id) VALUES ('sentry.team', $1)");
    let db = fixture.db().await;
    transact!(DbError, db, |tx| { tx.execute(used.clone().with(MAX_ID - 5)).await? }).expect("written");
    db.close().await;
    let lease =
        async |number, count| regions.lease_ids("us", operation(number), "sentry.team", count, 0).await;
    assert!(matches!(lease(1, 6).await, Err(Error::IdSpaceExhausted { .. })));
    let last = lease(1, 5).await.expect("they just fit");
    assert_eq!(last, IdBlock { first_id: MAX_ID - 4, count: 5 });
    assert!(matches!(lease(2, 1).await, Err(Error::IdSpaceExhausted { .. })));
    assert_eq!(lease(1, 5).await.expect("the same lease"), last);
}

pub(crate) async fn no_lease_has_an_id_that_a_region_holds(fixture: Fixture) {
    let lease = async |region, number| {
        let regions = fixture.control.regions();
        regions
            .lease_ids(region, operation(number), "sentry.organization", 10, 0)
            .await
            .expect("leased")
            .first_id
    };
    // Organizations from before Causeway, reported at registration.
    assert_eq!(join(&fixture, "us", &[(1, 3), (40, 40)]).await, []);
    assert_eq!(join(&fixture, "de", &[]).await, []);
    assert_eq!(lease("de", 1).await, 41);
    // An organization that a region made without Causeway, and for which it reserves a slug.
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(100, "made-here")])
        .await
        .expect("reserved");
    assert_eq!(lease("de", 3).await, 101);
    // Control does not give out the ids of deleted organizations either.
    assert_eq!(join(&fixture, "us", &[(1, 3), (150, 150)]).await, []);
    assert_eq!(join(&fixture, "us", &[(1, 3)]).await, []);
    assert_eq!(lease("us", 4).await, 151);
    assert_eq!(lease("de", 1).await, 41);
}

pub(crate) async fn one_absurd_id_does_not_use_up_those_of_all(fixture: Fixture) {
    let lease = async |number, count, above| {
        let regions = fixture.control.regions();
        regions
            .lease_ids("us", operation(number), "sentry.organization", count, above)
            .await
            .expect("leased")
            .first_id
    };
    assert_eq!(join(&fixture, "us", &[(1, 3), (MAX_ID - 1, MAX_ID)]).await, []);
    assert_eq!(lease(1, 10, MAX_ID).await, 4);
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(MAX_ID, "far-away")])
        .await
        .expect("reserved");
    assert_eq!(lease(3, 10, i64::MAX).await, 14);
    // Even if half of all ids are used up, the other half remains, with blocks between the ids that are used there.
    assert_eq!(
        join(
            &fixture,
            "us",
            &[
                (MAX_COUNTER_FROM_IDS_IN_USE, MAX_COUNTER_FROM_IDS_IN_USE),
                (MAX_COUNTER_FROM_IDS_IN_USE + 500, MAX_COUNTER_FROM_IDS_IN_USE + 509),
                (MAX_ID, MAX_ID)
            ]
        )
        .await,
        []
    );
    bulk_create(
        &fixture.control,
        "us",
        operation(4),
        vec![wanted(MAX_COUNTER_FROM_IDS_IN_USE + 600, "half-way")],
    )
    .await
    .expect("reserved");
    assert_eq!(lease(5, 400, 0).await, MAX_COUNTER_FROM_IDS_IN_USE + 1);
    assert_eq!(lease(6, 99, 0).await, MAX_COUNTER_FROM_IDS_IN_USE + 401);
    assert_eq!(lease(7, 90, 0).await, MAX_COUNTER_FROM_IDS_IN_USE + 510);
    assert_eq!(lease(8, 1, 0).await, MAX_COUNTER_FROM_IDS_IN_USE + 601);
    assert_eq!(lease(7, 90, 0).await, MAX_COUNTER_FROM_IDS_IN_USE + 510);
}

pub(crate) async fn an_id_of_another_region_is_refused(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let regions = fixture.control.regions();
    let block = regions.lease_ids("us", operation(1), "sentry.organization", 10, 0).await.expect("leased");
    assert_eq!(block.first_id, 1);
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(50, "acme")]).await.expect("reserved");
    for (number, id) in [(3, 1), (4, 10), (5, 50)] {
        let requested_slugs = vec![wanted(11, "bolt"), wanted(id, "cord")];
        let refused = bulk_create(&fixture.control, "de", operation(number), requested_slugs).await;
        assert!(
            matches!(&refused, Err(Error::OrganizationIdTaken { organization_id, region })
                if *organization_id == id && region == "us"),
            "{refused:?}"
        );
    }
    // A check reports the same beforehand. Organizations that belong to no other region are accepted.
    let asked = vec![wanted(10, "cord"), wanted(11, "bolt"), wanted(50, "elm")];
    let checks = fixture.control.directory().check_all(vec![], asked, Some("de")).await.expect("checked");
    let reported: Vec<_> = checks.iter().map(|check| check.id_taken_by.as_deref()).collect();
    assert_eq!(reported, [Some("us"), None, Some("us")]);
    bulk_create(&fixture.control, "de", operation(6), vec![wanted(11, "bolt")]).await.expect("its own");
    bulk_create(&fixture.control, "us", operation(7), vec![wanted(10, "cord")]).await.expect("its own");
}

pub(crate) async fn a_region_is_told_which_of_its_ids_are_not_its_own(fixture: Fixture) {
    use ConflictKind::{Held, Leased, Reserved};
    assert_eq!(join(&fixture, "us", &[(1, 3)]).await, []);
    let regions = fixture.control.regions();
    let block = regions.lease_ids("us", operation(1), "sentry.organization", 10, 0).await.expect("leased");
    assert_eq!(block, IdBlock { first_id: 4, count: 10 });
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(3, "acme"), wanted(90, "bolt")])
        .await
        .expect("reserved");
    let us = |first, last, kind| (first, last, "us".to_owned(), kind);
    for _ in 0..2 {
        let reported = join(&fixture, "de", &[(2, 2), (10, 20), (30, 40), (80, 95)]).await;
        assert_eq!(reported, [us(10, 13, Leased), us(2, 2, Held), us(90, 90, Reserved)]);
    }
    // A region's own ids do not conflict with it, whether they were leased or reported.
    let de = |first, last, kind| (first, last, "de".to_owned(), kind);
    assert_eq!(join(&fixture, "us", &[(1, 13)]).await, [de(2, 2, Held), de(10, 13, Held)]);
    assert_eq!(join(&fixture, "de", &[(30, 40)]).await, []);
    assert_eq!(join(&fixture, "us", &[(1, 13)]).await, []);
    for (ranges, field) in [
        (vec![IdRange { first: 0, last: 1 }], "held_ids[0].ranges"),
        (vec![IdRange { first: 5, last: 4 }], "held_ids[0].ranges"),
        (vec![IdRange { first: 1, last: 5 }, IdRange { first: 5, last: 6 }], "held_ids[0].ranges"),
        (vec![IdRange { first: 1, last: MAX_ID + 1 }], "held_ids[0].ranges"),
    ] {
        let held = HeldIds { model: "sentry.team".to_owned(), ranges, is_exact: true };
        let fr = registration("fr", "https://fr.example.com", Uuid::nil(), held);
        let refused = regions.register_with_ids(fr, &Caller::default()).await;
        assert_eq!(refused_field(refused), field);
    }
}

/// Control compares the ids of other regions page by page, 1,000 at a time.
pub(crate) async fn a_conflict_is_found_among_many_ids_of_others(fixture: Fixture) {
    use ConflictKind::{Held, Leased};
    let fixture = fixture.with_regions(&["us"]).await;
    let regions = fixture.control.regions();
    join(&fixture, "de", &[(1, 1)]).await;
    for number in 0..1_020 {
        let lease = regions.lease_ids("us", operation(number), "sentry.organization", 1, 0).await;
        assert_eq!(lease.expect("leased").first_id, 2 + i64::try_from(number).expect("a few"));
    }
    let reported = join(&fixture, "de", &[(1, 1), (1_021, 1_021)]).await;
    assert_eq!(reported, [(1_021, 1_021, "us".to_owned(), Leased)]);
    // The same with ids that another region has: 1,020 ranges.
    let ranges: Vec<_> = (5_000..6_020).map(|id| (2 * id, 2 * id)).collect();
    join(&fixture, "fr", &ranges).await;
    let reported = join(&fixture, "de", &[(1, 1), (9_999, 9_999), (12_038, 12_040)]).await;
    assert_eq!(reported, [(12_038, 12_038, "fr".to_owned(), Held)]);
    // Organizations far apart are queried one by one.
    let wanted_ids = vec![wanted(1, "acme"), wanted(1_021, "bolt"), wanted(MAX_ID, "cord")];
    let refused = bulk_create(&fixture.control, "de", operation(5_000), wanted_ids).await;
    assert!(
        matches!(&refused, Err(Error::OrganizationIdTaken { organization_id: 1_021, region }) if region == "us"),
        "{refused:?}"
    );
}

pub(crate) async fn a_name_can_be_taken_over_by_an_operators_word(fixture: Fixture) {
    let regions = fixture.control.regions();
    let (old, new, third) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    let register = async |instance| regions.register("us", "https://us.example.com", instance).await;
    let is_taken = |outcome: Result<_, Error>| matches!(outcome, Err(Error::RegionNameTaken { .. }));
    register(old).await.expect("new");
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    assert!(matches!(regions.take_over("de", None).await, Err(Error::RegionNotFound { .. })));
    let refused = register(new).await.expect_err("it is taken").to_string();
    assert!(refused.contains("`causeway regions take-over us`"), "{refused}");
    for _ in 0..2 {
        assert_eq!(regions.take_over("us", Some(new)).await.expect("allowed").name, "us");
    }
    // No other instance may take over, and the old one keeps the name until the new one registers.
    assert!(is_taken(register(third).await));
    register(old).await.expect("still its own");
    register(new).await.expect("taken over");
    assert!(is_taken(register(old).await) && is_taken(register(third).await));
    // If anyone may take over, only the first instance to register can.
    regions.take_over("us", None).await.expect("allowed");
    register(new).await.expect("its own, which uses nothing up");
    register(third).await.expect("taken over");
    assert!(is_taken(register(new).await) && is_taken(register(old).await));
    // Reservations stay.
    assert_eq!(fixture.reservations().await.len(), 1);
}
