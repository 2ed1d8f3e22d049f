//! Regions, and the ids that they lease.

use causeway_control::{
    Error, PageRequest,
    directory::ReportedOrganization,
    regions::{IdBlock, MAX_ID, MAX_LEASE},
    slug_reservations::ListFilter,
};
use uuid::Uuid;

use crate::stage::{Stage, bulk_create, now, operation, refused_field, wanted};

pub(crate) async fn registering_again_renews_the_address(stage: Stage) {
    let regions = stage.control.regions();
    let instance = Uuid::from_u128(7);
    let first = regions.register("us", "http://127.0.0.1:7000", instance).await.expect("new");
    assert_eq!((first.name.as_str(), first.address.as_str()), ("us", "http://127.0.0.1:7000"));
    assert_eq!((first.created_at, first.last_seen_at), (now(), now()));
    assert_eq!(regions.register("us", "http://127.0.0.1:7000", instance).await.expect("again"), first);
    let moved = regions.register("us", "https://us.example.com", instance).await.expect("renewed");
    assert_eq!(moved.address, "https://us.example.com");
    assert_eq!(regions.get("us").await.expect("known"), moved);
    assert_eq!(regions.region_address("us").await.expect("known"), "https://us.example.com");
}

pub(crate) async fn a_name_belongs_to_the_database_that_registered_first(stage: Stage) {
    let regions = stage.control.regions();
    regions.register("us", "https://us.example.com", Uuid::from_u128(1)).await.expect("new");
    let other = regions.register("us", "https://evil.example.com", Uuid::from_u128(2)).await;
    assert!(matches!(other, Err(Error::RegionNameTaken { region }) if region == "us"));
    assert_eq!(regions.region_address("us").await.expect("known"), "https://us.example.com");
}

pub(crate) async fn a_malformed_region_is_refused(stage: Stage) {
    let regions = stage.control.regions();
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

pub(crate) async fn regions_are_listed_page_by_page(stage: Stage) {
    let stage = stage.with_regions(&["us", "de", "a-1", "a1", "au"]).await;
    let regions = stage.control.regions();
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

pub(crate) async fn a_region_that_never_registered_is_refused_everywhere(stage: Stage) {
    fn refused<T>(outcome: Result<T, Error>) -> bool {
        matches!(outcome, Err(Error::RegionNotRegistered { region }) if region == "us")
    }
    let (regions, reservations, directory) =
        (stage.control.regions(), stage.control.slug_reservations(), stage.control.directory());
    assert!(refused(regions.region_address("us").await));
    assert!(refused(regions.lease_ids("us", operation(1), "sentry.team", 1, 0).await));
    assert!(refused(bulk_create(&stage.control, "us", operation(1), vec![wanted(1, "acme")]).await));
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
    assert!(refused(directory.report("us", vec![report]).await));
    assert!(refused(directory.list(Some("us"), &PageRequest { limit: 1, after: None }).await));
}

pub(crate) async fn leased_ids_follow_each_other(stage: Stage) {
    let stage = stage.with_regions(&["us", "de"]).await;
    let regions = stage.control.regions();
    let lease = async |region, number, model, count| {
        regions.lease_ids(region, operation(number), model, count, 0).await.expect("leased")
    };
    assert_eq!(lease("us", 1, "sentry.organization", 3).await, IdBlock { first_id: 1, count: 3 });
    assert_eq!(lease("de", 1, "sentry.organization", 1).await, IdBlock { first_id: 4, count: 1 });
    assert_eq!(lease("us", 2, "sentry.organization", MAX_LEASE).await.first_id, 5);
    assert_eq!(lease("us", 3, "sentry.organization", 1).await.first_id, 5 + MAX_LEASE);
    // Each model counts for itself.
    assert_eq!(lease("us", 4, "sentry.project", 1).await.first_id, 1);
    assert_eq!(lease("us", 5, "sentry.team", 1).await.first_id, 1);
    // In whatever case it is written.
    assert_eq!(lease("us", 6, "Sentry.Team", 1).await.first_id, 2);
    assert_eq!(lease("us", 6, "sentry.team", 1).await.first_id, 2);
}

pub(crate) async fn leased_ids_lie_above_what_the_region_has(stage: Stage) {
    let stage = stage.with_regions(&["us", "de"]).await;
    let regions = stage.control.regions();
    let lease = async |region, number, above| {
        regions.lease_ids(region, operation(number), "sentry.team", 10, above).await.expect("leased").first_id
    };
    assert_eq!(lease("us", 1, 500).await, 501);
    assert_eq!(lease("de", 2, 20).await, 511);
    assert_eq!(lease("de", 3, 520).await, 521);
    // What the region has may have grown since; the block is still the same.
    assert_eq!(lease("us", 1, 900).await, 501);
}

pub(crate) async fn a_repeated_lease_is_the_same_lease(stage: Stage) {
    let stage = stage.with_regions(&["us", "de"]).await;
    let regions = stage.control.regions();
    let first = regions.lease_ids("us", operation(1), "sentry.team", 10, 0).await.expect("leased");
    let next = regions.lease_ids("us", operation(2), "sentry.team", 10, 0).await.expect("leased");
    let again = regions.lease_ids("us", operation(1), "sentry.team", 10, 0).await.expect("again");
    assert_eq!(first, again);
    for (model, count) in [("sentry.team", 11), ("sentry.project", 10)] {
        let other = regions.lease_ids("us", operation(1), model, count, 0).await;
        assert!(matches!(other, Err(Error::OperationContentDiffers { .. })));
    }
    // The same id from another region is another operation. What was refused has used up no id.
    let elsewhere = regions.lease_ids("de", operation(1), "sentry.team", 11, 0).await.expect("leased");
    assert_eq!(elsewhere.first_id, next.first_id + next.count);
    let project = regions.lease_ids("de", operation(2), "sentry.project", 1, 0).await.expect("leased");
    assert_eq!(project.first_id, 1);
}

pub(crate) async fn a_lease_out_of_bounds_is_refused(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    let regions = stage.control.regions();
    for count in [-1, 0, MAX_LEASE + 1] {
        let refused = regions.lease_ids("us", operation(1), "sentry.team", count, 0).await;
        assert_eq!(refused_field(refused), "count");
    }
    for model in ["", "sentry.user", "sentry.teams", "sentry.team\0"] {
        assert_eq!(refused_field(regions.lease_ids("us", operation(1), model, 1, 0).await), "model");
    }
    assert_eq!(refused_field(regions.lease_ids("us", operation(1), "sentry.team", 1, -1).await), "above");
}

pub(crate) async fn ids_stay_below_2_to_the_53rd(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    let regions = stage.control.regions();
    let lease = async |number, count, above| {
        regions.lease_ids("us", operation(number), "sentry.team", count, above).await
    };
    for (count, above) in [(1, MAX_ID), (1, i64::MAX), (6, MAX_ID - 5)] {
        assert!(matches!(lease(1, count, above).await, Err(Error::IdSpaceExhausted { .. })));
    }
    let last = lease(1, 5, MAX_ID - 5).await.expect("they just fit");
    assert_eq!(last, IdBlock { first_id: MAX_ID - 4, count: 5 });
    assert!(matches!(lease(2, 1, 0).await, Err(Error::IdSpaceExhausted { .. })));
    assert_eq!(lease(1, 5, MAX_ID).await.expect("the same lease"), last);
}
