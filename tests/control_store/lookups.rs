//! What people look up about slugs.

use causeway_control::{
    PageRequest,
    model::{rename::RenameRequest, reservation::ReservationType},
};
use chrono::TimeDelta;
use std::time::Duration;

use crate::support::{Fixture, bulk_create, now, operation, wanted};

pub(crate) async fn slugs_are_found_by_their_beginning(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let slugs = ["acme", "acme-1", "acme-2", "acmez", "acmf", "bolt"];
    let organizations = slugs.iter().zip(1..).map(|(slug, id)| wanted(id, slug)).collect();
    bulk_create(&fixture.control, "us", operation(1), organizations).await.expect("reserved");
    let found = async |prefix: &str, limit| {
        let mut request = PageRequest { limit, after: None };
        let mut all = Vec::new();
        loop {
            let page = fixture.control.slug_reservations().search(prefix, &request).await.expect("a page");
            all.extend(page.items.into_iter().map(|it| it.slug));
            match page.next {
                Some(next) => request.after = Some(next),
                None => return all,
            }
        }
    };
    for limit in [1, 100] {
        assert_eq!(found("ACME", limit).await, ["acme", "acme-1", "acme-2", "acmez"]);
        assert_eq!(found("", limit).await, slugs);
    }
    for nothing in ["x", "acme_", "%", "<b>", "ä", "acme'"] {
        assert!(found(nothing, 100).await.is_empty(), "{nothing}");
    }
}

pub(crate) async fn an_organization_shows_its_slugs_and_its_renames(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let (control, reservations) = (&fixture.control, fixture.control.slug_reservations());
    bulk_create(control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    reservations.confirm("us", operation(1)).await.expect("confirmed");
    let rename = |number, slug: &str| RenameRequest {
        operation_id: operation(number),
        region: None,
        organization_id: 1,
        desired_slug: slug.to_owned(),
        require_exact: false,
        keep_alias: true,
    };
    for (number, slug) in [(2, "bolt"), (3, "cube")] {
        control
            .renames()
            .update_organization_slug(&rename(number, slug), Duration::ZERO)
            .await
            .expect("begun");
        if number == 2 {
            reservations.confirm("us", operation(2)).await.expect("confirmed");
        }
    }
    let known = reservations.known(1).await.expect("read");
    let slugs: Vec<_> = known.reservations.iter().map(|it| (it.slug.as_str(), it.kind)).collect();
    assert_eq!(
        slugs,
        [
            ("bolt", ReservationType::Primary),
            ("cube", ReservationType::TemporaryRenameAlias),
            ("acme", ReservationType::VanityAlias)
        ]
    );
    let mut renames: Vec<_> = known.renames.iter().map(|it| it.rename.slug.as_str()).collect();
    renames.sort_unstable();
    assert_eq!(renames, ["bolt", "cube"]);
    let unknown = reservations.known(2).await.expect("read");
    assert!(unknown.reservations.is_empty() && unknown.renames.is_empty() && unknown.entry.is_none());
}

pub(crate) async fn what_is_neither_confirmed_nor_released_is_stuck_after_ten_minutes(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let (control, reservations) = (&fixture.control, fixture.control.slug_reservations());
    bulk_create(control, "us", operation(1), vec![wanted(1, "acme"), wanted(2, "bolt")])
        .await
        .expect("reserved");
    bulk_create(control, "de", operation(2), vec![wanted(3, "cube")]).await.expect("reserved");
    bulk_create(control, "us", operation(3), vec![wanted(4, "dune")]).await.expect("reserved");
    reservations.confirm("us", operation(3)).await.expect("confirmed");
    let rename = RenameRequest {
        operation_id: operation(4),
        region: None,
        organization_id: 4,
        desired_slug: "echo".to_owned(),
        require_exact: false,
        keep_alias: true,
    };
    control.renames().update_organization_slug(&rename, Duration::ZERO).await.expect("begun");
    let later = |minutes| fixture.another_for_added(now() + TimeDelta::minutes(minutes));
    let stuck = async |minutes| {
        let control = later(minutes).await;
        let mut request = PageRequest { limit: 2, after: None };
        let mut all = Vec::new();
        loop {
            let page = control.slug_reservations().stuck(&request).await.expect("a page");
            all.extend(page.items);
            match page.next {
                Some(next) => request.after = Some(next),
                None => return all,
            }
        }
    };
    assert!(stuck(10).await.is_empty(), "not yet");
    let found = stuck(11).await;
    let answered: Vec<_> = found
        .iter()
        .map(|it| {
            (it.region.as_str(), it.operation_id, it.count, it.slug.as_str(), it.renamed_from.as_deref())
        })
        .collect();
    assert_eq!(
        answered,
        [
            ("us", operation(1), 2, "acme", None),
            ("de", operation(2), 1, "cube", None),
            ("us", operation(4), 1, "echo", Some("dune"))
        ]
    );
    assert_eq!((found[0].since, found[0].organization_id), (now(), 1));
    for (region, number) in [("us", 1), ("de", 2), ("us", 4)] {
        reservations.release(region, operation(number)).await.expect("released");
    }
    assert!(stuck(11).await.is_empty());
    // A rename to an alias has no temporary reservation.
    let other =
        RenameRequest { operation_id: operation(5), desired_slug: "echo".to_owned(), ..rename.clone() };
    control.renames().update_organization_slug(&other, Duration::ZERO).await.expect("begun");
    reservations.confirm("us", operation(5)).await.expect("confirmed");
    let back = RenameRequest { operation_id: operation(6), desired_slug: "dune".to_owned(), ..rename };
    control.renames().update_organization_slug(&back, Duration::ZERO).await.expect("begun");
    let found = stuck(11).await;
    assert_eq!(found.iter().map(|it| it.operation_id).collect::<Vec<_>>(), [operation(6)]);
}

pub(crate) async fn a_hundred_thousand_stuck_reservations_are_listed_by_operation(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let organizations = (1..=100_000).map(|id| wanted(id, &format!("slug-{id}"))).collect();
    bulk_create(&fixture.control, "us", operation(1), organizations).await.expect("reserved");
    let later = fixture.another_for_added(now() + TimeDelta::minutes(11)).await;
    let page =
        later.slug_reservations().stuck(&PageRequest { limit: 50, after: None }).await.expect("a page");
    assert_eq!((page.items.len(), page.items[0].count), (1, 100_000));
    let found = later.slug_reservations().search("slug-9", &PageRequest { limit: 50, after: None }).await;
    assert_eq!(found.expect("a page").items.len(), 50);
}
