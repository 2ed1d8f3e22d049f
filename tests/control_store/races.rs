//! Concurrent calls, through several controls on one database.

use std::{collections::HashSet, time::Duration};

use causeway_control::{
    Control, Error, PageRequest,
    model::directory::ReportedOrganization,
    model::region::IdBlock,
    model::reservation::{ReservationType, ResolvedSlug},
};
use causeway_silo::db::{Dialect, Statement};
use tokio::task::JoinSet;

use crate::support::{Fixture, bulk_create, is_suffixed, operation, wanted};

const REGIONS: [&str; 4] = ["us", "de", "au", "in"];

/// A control for each region.
async fn controls(fixture: &Fixture) -> Vec<(&'static str, Control)> {
    let mut controls = Vec::new();
    for (region, seed) in REGIONS.into_iter().zip(100..) {
        controls.push((region, fixture.another(seed).await));
    }
    controls
}

pub(crate) async fn ids_are_never_given_twice(fixture: Fixture) {
    let fixture = fixture.with_regions(&REGIONS).await;
    let mut calls = JoinSet::new();
    for (region, control) in controls(&fixture).await {
        calls.spawn(async move {
            let mut blocks = Vec::new();
            for number in 0..10_u128 {
                let above = i64::try_from(number * 37 % 11).expect("small") * 100;
                let lease =
                    control.regions().lease_ids(region, operation(number), "sentry.project", 50, above);
                blocks.push(lease.await.expect("every call gets ids"));
            }
            blocks
        });
    }
    let blocks: Vec<IdBlock> = calls.join_all().await.into_iter().flatten().collect();
    let ids: HashSet<i64> =
        blocks.iter().flat_map(|block| block.first_id..block.first_id + block.count).collect();
    assert_eq!((blocks.len(), ids.len()), (40, 2000));
}

pub(crate) async fn the_same_lease_at_once_is_one_lease(fixture: Fixture) {
    let fixture = fixture.with_regions(&REGIONS).await;
    let mut calls = JoinSet::new();
    for (_, control) in controls(&fixture).await {
        for _ in 0..3 {
            let control = control.clone();
            calls.spawn(async move {
                control.regions().lease_ids("us", operation(1), "sentry.team", 50, 0).await
            });
        }
    }
    let blocks: HashSet<i64> = calls
        .join_all()
        .await
        .into_iter()
        .map(|outcome| outcome.expect("every call gets ids").first_id)
        .collect();
    assert_eq!(blocks, HashSet::from([1]));
    // One operation id for two models: the first call gets it.
    let mut calls = JoinSet::new();
    for ((_, control), model) in
        controls(&fixture).await.into_iter().zip(["sentry.team", "sentry.project"].into_iter().cycle())
    {
        calls.spawn(async move { control.regions().lease_ids("us", operation(2), model, 50, 0).await });
    }
    let outcomes = calls.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2, "{outcomes:?}");
    assert!(
        outcomes
            .into_iter()
            .filter_map(Result::err)
            .all(|error| matches!(error, Error::OperationContentDiffers { .. }))
    );
}

pub(crate) async fn regions_that_want_the_same_slugs_at_once_all_get_some(fixture: Fixture) {
    const COUNT: i64 = 500;
    let fixture = fixture.with_regions(&REGIONS).await;
    let mut calls = JoinSet::new();
    for ((region, control), first) in controls(&fixture).await.into_iter().zip((0..).step_by(10_000)) {
        // Each region uses another order, because the order in which control locks rows must not depend on it.
        let mut requested_slugs: Vec<_> =
            (0..COUNT).map(|number| wanted(first + 1 + number, &format!("slug-{number}"))).collect();
        let length = requested_slugs.len();
        requested_slugs.rotate_left(usize::try_from(first).expect("small") % length);
        calls.spawn(async move { bulk_create(&control, region, operation(1), requested_slugs).await });
    }
    let answers: Vec<ResolvedSlug> = calls
        .join_all()
        .await
        .into_iter()
        .flat_map(|outcome| outcome.expect("every region gets its slugs"))
        .collect();
    let different: HashSet<&str> = answers.iter().map(|answer| answer.slug.as_str()).collect();
    assert_eq!((answers.len(), different.len()), (2000, 2000));
    let kept = answers.iter().filter(|answer| answer.slug == answer.wanted_slug).count();
    assert_eq!(kept, 500);
    assert!(answers.iter().all(|answer| {
        answer.slug == answer.wanted_slug || is_suffixed(&answer.slug, &answer.wanted_slug)
    }));
    let reserved = fixture.reservations().await;
    assert_eq!(reserved.len(), 2000);
    assert!(reserved.iter().all(|reservation| different.contains(reservation.slug.as_str())));
}

pub(crate) async fn controls_that_draw_the_same_suffixes_give_different_ones(fixture: Fixture) {
    let fixture = fixture.with_regions(&REGIONS).await;
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("free");
    let mut calls = JoinSet::new();
    for (region, id) in REGIONS.into_iter().zip(2..) {
        let control = fixture.another(7).await;
        let requested_slugs = (0..50).map(|number| wanted(id * 1000 + number, "acme")).collect();
        calls.spawn(async move { bulk_create(&control, region, operation(2), requested_slugs).await });
    }
    let answers: Vec<ResolvedSlug> = calls
        .join_all()
        .await
        .into_iter()
        .flat_map(|outcome| outcome.expect("every region gets its slugs"))
        .collect();
    let different: HashSet<&str> = answers.iter().map(|answer| answer.slug.as_str()).collect();
    assert_eq!((answers.len(), different.len()), (200, 200));
}

pub(crate) async fn the_same_operation_at_once_has_one_answer(fixture: Fixture) {
    let fixture = fixture.with_regions(&REGIONS).await;
    let mut calls = JoinSet::new();
    for (_, control) in controls(&fixture).await {
        for _ in 0..2 {
            let control = control.clone();
            let requested_slugs = (1..=200).map(|id| wanted(id, &format!("slug-{}", id % 50))).collect();
            calls.spawn(async move { bulk_create(&control, "us", operation(1), requested_slugs).await });
        }
    }
    let answers: Vec<Vec<ResolvedSlug>> =
        calls.join_all().await.into_iter().collect::<Result<_, _>>().expect("every call has an answer");
    assert_eq!((answers.len(), answers[0].len()), (8, 200));
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(fixture.reservations().await.len(), 200);
}

pub(crate) async fn two_operations_for_one_organization_at_once_are_one(fixture: Fixture) {
    let fixture = fixture.with_regions(&REGIONS).await;
    for round in 0..5_u128 {
        let organization_id = 1 + i64::try_from(round).expect("small");
        let mut calls = JoinSet::new();
        for ((_, control), number) in controls(&fixture).await.into_iter().zip(round * 10..) {
            let requested_slugs = vec![wanted(organization_id, &format!("slug-{number}"))];
            calls.spawn(async move {
                bulk_create(&control, "us", operation(number), requested_slugs).await?;
                control.slug_reservations().confirm("us", operation(number)).await
            });
        }
        let outcomes = calls.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert!(
            outcomes
                .into_iter()
                .filter_map(Result::err)
                .all(|error| matches!(error, Error::OrganizationAlreadyReserved { .. }))
        );
    }
    let reserved = fixture.reservations().await;
    assert_eq!(reserved.len(), 5);
    assert!(reserved.iter().all(|reservation| reservation.kind == ReservationType::Primary));
}

pub(crate) async fn confirming_repeating_and_releasing_at_once_end_in_a_release(fixture: Fixture) {
    let fixture = fixture.with_regions(&REGIONS).await;
    let [one, two, three] =
        [fixture.another(100).await, fixture.another(101).await, fixture.another(102).await];
    for number in 1..=20 {
        let requested_slugs = || (1..=50).map(|id| wanted(id, &format!("slug-{id}"))).collect::<Vec<_>>();
        let answer = bulk_create(&fixture.control, "us", operation(number), requested_slugs())
            .await
            .expect("reserved");
        let (confirmed, repeated, released) = tokio::join!(
            one.slug_reservations().confirm("us", operation(number)),
            bulk_create(&two, "us", operation(number), requested_slugs()),
            three.slug_reservations().release("us", operation(number)),
        );
        assert!(matches!(confirmed, Ok(50) | Err(Error::OperationReleased { .. })), "{confirmed:?}");
        match repeated {
            Ok(repeated) => assert_eq!(repeated, answer),
            Err(error) => assert!(matches!(error, Error::OperationReleased { .. }), "{error:?}"),
        }
        assert_eq!(released.expect("released"), 50);
        // Whichever call was first: a released operation stays released.
        let late = fixture.control.slug_reservations().confirm("us", operation(number)).await;
        assert!(matches!(late, Err(Error::OperationReleased { .. })), "{late:?}");
        assert_eq!(fixture.reservations().await, []);
    }
}

/// A caller that disconnects ends its call at any point. The limits are far too short for most calls to finish, and
/// stop each of them at another point.
pub(crate) async fn an_abandoned_call_leaves_nothing_half_done(fixture: Fixture) {
    let fixture = fixture.with_regions(&REGIONS).await;
    let requested_slugs = |number: i64| -> Vec<_> {
        (0..100).map(|id| wanted(number * 1000 + id + 1, &format!("slug-{}", id % 50))).collect()
    };
    for number in 0..30 {
        let call = bulk_create(
            &fixture.control,
            "us",
            operation(number),
            requested_slugs(i64::try_from(number).expect("small")),
        );
        let limit = Duration::from_micros(u64::try_from(number).expect("small") * 400);
        let _ended_or_not = tokio::time::timeout(limit, call).await;
    }
    // The last call may still be committed. On SQLite, whoever writes next comes after it.
    fixture.control.check_writable(Duration::from_secs(60)).await.expect("it can be written to");
    // All reservations belong to complete operations, and each operation can be repeated to its end.
    assert_eq!(fixture.reservations().await.len() % 100, 0);
    for number in 0..30 {
        let requested_slugs = requested_slugs(i64::try_from(number).expect("small"));
        let answers =
            bulk_create(&fixture.control, "us", operation(number), requested_slugs).await.expect("repeated");
        assert_eq!(answers.len(), 100);
    }
    assert_eq!(fixture.reservations().await.len(), 3000);
}

/// A region's report may be older than control's data, also if a rename is confirmed at that moment.
pub(crate) async fn a_report_that_waits_for_a_rename_does_not_undo_it(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let control = fixture.control.clone();
    bulk_create(&control, "us", operation(1), vec![wanted(7, "old")]).await.expect("reserved");
    control.slug_reservations().confirm("us", operation(1)).await.expect("confirmed");
    let report = move || {
        let control = control.clone();
        let (slug, name) = ("old".to_owned(), "Acme".to_owned());
        let organization = ReportedOrganization { organization_id: 7, slug, name, status: 0 };
        async move { control.directory().report("us", 0, vec![organization], false).await }
    };
    report().await.expect("reported");

    let db = fixture.db().await;
    let mut renaming = db.begin().await.expect("a transaction");
    for rename in [
        // A transaction that changes slugs of a region locks the region's feed.
        "UPDATE causeway_feed SET version = version WHERE region = 'us'",
        "UPDATE causeway_organization_slug_reservation SET slug = 'new' WHERE slug = 'old'",
    ] {
        assert_eq!(renaming.execute(Statement::new(rename)).await.expect("renamed"), 1);
    }
    let reporting = tokio::spawn(report());
    // SQLite has no such table to check. There, a writer waits before it has read anything.
    while db.dialect() == Dialect::Postgres {
        let waiting = Statement::new("SELECT count(*) AS n FROM pg_locks WHERE NOT granted");
        let row = db.fetch_optional(waiting).await.expect("it answers").expect("a row");
        if row.int("n").expect("a number") > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    renaming.commit().await.expect("renamed");
    reporting.await.expect("it ends").expect("reported");
    let page = fixture.control.directory().list(None, &PageRequest { limit: 10, after: None }).await;
    let slugs: Vec<String> = page.expect("a page").items.into_iter().map(|it| it.slug).collect();
    assert_eq!(slugs, ["new"]);
    db.close().await;
}
