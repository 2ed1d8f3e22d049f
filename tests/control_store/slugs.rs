//! Slug reservations, one call after the other.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use causeway_control::{
    Error, PageRequest,
    model::operation::{OperationFilter, Progress},
    model::rename::RenameRequest,
    model::reservation::{ListFilter, Owner, Reservation, ReservationType, SlugReason, WantedSlug},
    slug::rules,
};

use crate::support::{Fixture, bulk_create, is_suffixed, now, operation, refused_field, slugs, wanted};

pub(crate) async fn a_slug_that_is_free_is_kept(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let longest = "a".repeat(50);
    let requested_slugs = vec![wanted(30, "zulu"), wanted(10, &longest), wanted(20, "4-chan")];
    let answers = bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    // The answers are sorted by id, whatever the order of the request.
    assert_eq!(answers.iter().map(|answer| answer.organization_id).collect::<Vec<_>>(), [10, 20, 30]);
    assert_eq!(slugs(&answers), [longest.as_str(), "4-chan", "zulu"]);
    assert!(answers.iter().all(|answer| answer.slug == answer.wanted_slug));
    let reservations = fixture.reservations().await;
    let expected = Reservation {
        slug: "zulu".to_owned(),
        region: "us".to_owned(),
        organization_id: 30,
        kind: ReservationType::TemporaryRenameAlias,
        operation_id: operation(1),
        created_at: now(),
    };
    assert_eq!((reservations.len(), &reservations[2]), (3, &expected));
}

pub(crate) async fn a_slug_that_is_none_is_made_one(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let too_long = "long".repeat(30);
    let requested_slugs = vec![
        wanted(1, "Żółw Ąę"),
        wanted(2, "ACME_Corp"),
        wanted(3, &too_long),
        WantedSlug { name: "Jane's Bakery".to_owned(), ..wanted(4, "") },
        wanted(5, "settings"),
        wanted(6, "1234"),
        wanted(7, ""),
        wanted(8, "'; DROP TABLE causeway_region; --"),
        WantedSlug { taken_in_region: true, ..wanted(9, "bakery") },
        wanted(10, &"9".repeat(50)),
    ];
    let answers = bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    let got = slugs(&answers);
    assert_eq!(got[..4], ["zolw-ae", "acme-corp", &too_long[..50], "janes-bakery"]);
    assert!(is_suffixed(got[4], "settings") && is_suffixed(got[5], "1234"), "{got:?}");
    assert!(is_suffixed(got[6], "organization") && is_suffixed(got[8], "bakery"), "{got:?}");
    assert_eq!(got[7], "drop-table-causeway-region");
    assert!(got[9].len() == 50 && got[9].starts_with(&"9".repeat(47)), "{got:?}");
    assert!(got.iter().all(|slug| rules::is_valid(slug) && !rules::is_reserved(slug)), "{got:?}");
    assert_eq!(answers[0].wanted_slug, "Żółw Ąę");
}

pub(crate) async fn a_slug_that_is_taken_gets_a_suffix(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let us = bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("free");
    assert_eq!(slugs(&us), ["acme"]);
    // Reserved by another region, regardless of case, and by others of the same operation, one of which is
    // valid as it is.
    let requested_slugs = vec![wanted(4, "other"), wanted(3, "Other"), wanted(2, "ACME")];
    let de = bulk_create(&fixture.control, "de", operation(1), requested_slugs).await.expect("suffixed");
    let got = slugs(&de);
    assert!(is_suffixed(got[0], "acme") && is_suffixed(got[1], "other") && got[2] == "other", "{got:?}");
}

/// Whatever the order of the ids: a slug that is valid as it is takes precedence over one that is normalized to the
/// same slug.
pub(crate) async fn a_valid_slug_is_not_lost_to_one_that_must_change(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let (longest, too_long) = ("x".repeat(50), "x".repeat(51));
    let pairs = [("Larch", "larch"), ("straße", "strasse"), (too_long.as_str(), longest.as_str())];
    let requested_slugs: Vec<WantedSlug> = pairs
        .iter()
        .flat_map(|(odd, valid)| [*odd, *valid])
        .zip(1..)
        .map(|(slug, id)| wanted(id, slug))
        // Nobody wants this slug in its valid form, so the first organization gets it.
        .chain([wanted(7, "Oak"), wanted(8, "OAK"), wanted(9, "elm"), wanted(10, "elm")])
        .collect();
    let names = requested_slugs.iter().map(|requested_slug| requested_slug.slug.clone()).collect();
    let checks = fixture.control.directory().check(names).await.expect("checked");
    let answers = bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    let got = slugs(&answers);
    for (pair, (odd, valid)) in pairs.iter().enumerate() {
        assert_eq!(got[2 * pair + 1], *valid);
        assert!(got[2 * pair] != *valid && got[2 * pair].contains('-'), "{odd}: {got:?}");
    }
    assert!(got[6] == "oak" && is_suffixed(got[7], "oak") && got[8] == "elm" && is_suffixed(got[9], "elm"));
    use SlugReason::{Free, Normalized, Taken};
    let reasons = [Taken, Free, Taken, Free, Taken, Free, Normalized, Taken, Free, Taken];
    assert_eq!(answers.iter().map(|answer| answer.reason).collect::<Vec<_>>(), reasons);
    // A check for a dry run gives the same results.
    assert_eq!(checks.iter().map(|check| check.reason).collect::<Vec<_>>(), reasons);
    for (check, answer) in checks.iter().zip(&answers) {
        assert_eq!(check.candidate, answer.candidate);
        let is_kept = check.would_become == answer.slug;
        assert_eq!(is_kept, matches!(answer.reason, Free | Normalized), "{check:?} {answer:?}");
    }
}

pub(crate) async fn an_answer_says_why_a_slug_changed(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    bulk_create(&fixture.control, "de", operation(1), vec![wanted(70, "acme")]).await.expect("free");
    let requested_slugs = || {
        vec![
            wanted(1, "acme"),
            wanted(2, "ACME"),
            wanted(3, "login"),
            wanted(4, "42"),
            wanted(5, "Ünal"),
            wanted(6, "unal"),
            wanted(7, "unal"),
            WantedSlug { taken_in_region: true, ..wanted(8, "here") },
            wanted(9, "free"),
        ]
    };
    let answers =
        bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("reserved");
    let answered: Vec<_> = answers
        .iter()
        .map(|it| {
            let owner = it.taken_by.as_ref().map(|owner| (owner.region.as_str(), owner.organization_id));
            (it.reason, it.candidate.as_str(), owner)
        })
        .collect();
    use SlugReason::{Free, Invalid, ReservedWord, Taken};
    let expected = [
        (Taken, "acme", Some(("de", 70))),
        (Taken, "acme", Some(("de", 70))),
        (ReservedWord, "login", None),
        (Invalid, "42", None),
        (Taken, "unal", Some(("us", 6))),
        (Free, "unal", None),
        (Taken, "unal", Some(("us", 6))),
        (Taken, "here", None),
        (Free, "free", None),
    ];
    assert_eq!(answered, expected);
    // The answer stays the same when the slug has another owner by then, or none.
    fixture.control.slug_reservations().release("de", operation(1)).await.expect("released");
    let again = bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("again");
    assert_eq!(again, answers);
    assert_eq!(again[0].taken_by, Some(Owner { region: "de".to_owned(), organization_id: 70 }));
}

pub(crate) async fn an_answer_is_the_same_whatever_becomes_of_the_slugs(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reservations = fixture.control.slug_reservations();
    let requested_slugs =
        || vec![wanted(1, "acme"), wanted(2, "bolt"), wanted(3, "Cord"), wanted(4, "login")];
    let first = bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("reserved");
    let again = async || bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await;
    assert_eq!(reservations.confirm("us", operation(1)).await.expect("confirmed"), 4);
    let rename = RenameRequest {
        operation_id: operation(2),
        region: None,
        organization_id: 1,
        desired_slug: "apex".to_owned(),
        require_exact: true,
        keep_alias: false,
    };
    fixture.control.renames().update_organization_slug(&rename, Duration::ZERO).await.expect("pending");
    assert_eq!(reservations.confirm("us", operation(2)).await.expect("renamed"), 1);
    assert_eq!(again().await.expect("4 slugs"), first);
    reservations.release_organizations("us", vec![2]).await.expect("released");
    assert_eq!(again().await.expect("4 slugs"), first);
    assert_eq!(reservations.confirm("us", operation(1)).await.expect("as before"), 4);
    reservations.release_organizations("us", vec![1, 3, 4]).await.expect("released");
    assert_eq!(fixture.reservations().await, []);
    assert_eq!(again().await.expect("4 slugs"), first);
    assert_eq!(reservations.confirm("us", operation(1)).await.expect("as before"), 4);
    assert_eq!(reservations.confirm("us", operation(2)).await.expect("as before"), 1);
    assert_eq!(fixture.reservations().await, []);
    // After its release the operation is refused, and each release returns the same count.
    for _ in 0..2 {
        assert_eq!(reservations.release("us", operation(1)).await.expect("nothing was left"), 0);
        assert!(matches!(again().await, Err(Error::OperationReleased { .. })));
    }
}

pub(crate) async fn a_confirmation_counts_what_it_confirmed(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reservations = fixture.control.slug_reservations();
    let requested_slugs = vec![wanted(1, "acme"), wanted(2, "bolt"), wanted(3, "cord")];
    bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    reservations.release_organizations("us", vec![2]).await.expect("released");
    for _ in 0..2 {
        assert_eq!(reservations.confirm("us", operation(1)).await.expect("confirmed"), 2);
    }
    for _ in 0..2 {
        assert_eq!(reservations.release("us", operation(1)).await.expect("released"), 2);
    }
}

pub(crate) async fn a_repeated_operation_has_the_same_answer(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    bulk_create(&fixture.control, "de", operation(9), vec![wanted(9, "acme")]).await.expect("free");
    let requested_slugs =
        || vec![wanted(1, "acme"), wanted(2, "login"), wanted(3, "free"), wanted(4, "Ünal")];
    let first = bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("reserved");
    let reserved = fixture.reservations().await;
    let mut other_order = requested_slugs();
    other_order.reverse();
    assert_eq!(
        bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("again"),
        first
    );
    assert_eq!(bulk_create(&fixture.control, "us", operation(1), other_order).await.expect("again"), first);
    assert_eq!(fixture.reservations().await, reserved);
    fixture.control.slug_reservations().confirm("us", operation(1)).await.expect("confirmed");
    assert_eq!(
        bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("again"),
        first
    );
}

pub(crate) async fn an_operation_id_is_for_one_content(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let requested_slugs = vec![wanted(1, "acme"), wanted(2, "bolt")];
    bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    let reserved = fixture.reservations().await;
    for other in [
        vec![wanted(1, "acme")],
        vec![wanted(1, "acme"), wanted(2, "bolt"), wanted(3, "cord")],
        vec![wanted(1, "bolt"), wanted(2, "acme")],
        vec![wanted(1, "acme"), WantedSlug { taken_in_region: true, ..wanted(2, "bolt") }],
        vec![wanted(1, "acme"), WantedSlug { name: "Bolt".to_owned(), ..wanted(2, "bolt") }],
    ] {
        let refused = bulk_create(&fixture.control, "us", operation(1), other).await;
        assert!(matches!(refused, Err(Error::OperationContentDiffers { .. })), "{refused:?}");
    }
    assert_eq!(fixture.reservations().await, reserved);
}

pub(crate) async fn an_operation_without_organizations_is_one(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reservations = fixture.control.slug_reservations();
    for _ in 0..2 {
        assert_eq!(bulk_create(&fixture.control, "us", operation(1), vec![]).await.expect("nothing"), []);
        assert_eq!(reservations.confirm("us", operation(1)).await.expect("nothing"), 0);
    }
    assert_eq!(reservations.release("us", operation(1)).await.expect("nothing"), 0);
}

pub(crate) async fn confirming_twice_is_confirming_once(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reservations = fixture.control.slug_reservations();
    let requested_slugs = vec![wanted(1, "acme"), wanted(2, "bolt")];
    bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(3, "cord")]).await.expect("reserved");
    for _ in 0..2 {
        assert_eq!(reservations.confirm("us", operation(1)).await.expect("confirmed"), 2);
        let kinds: Vec<_> = fixture.reservations().await.iter().map(|reservation| reservation.kind).collect();
        use ReservationType::{Primary, TemporaryRenameAlias};
        assert_eq!(kinds, [Primary, Primary, TemporaryRenameAlias]);
    }
}

pub(crate) async fn releasing_twice_is_releasing_once(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reservations = fixture.control.slug_reservations();
    let requested_slugs = || vec![wanted(1, "acme"), wanted(2, "bolt")];
    for (number, confirmed) in [(1, false), (2, true)] {
        bulk_create(&fixture.control, "us", operation(number), requested_slugs()).await.expect("reserved");
        if confirmed {
            reservations.confirm("us", operation(number)).await.expect("confirmed");
        }
        assert_eq!(reservations.release("us", operation(number)).await.expect("released"), 2);
        assert_eq!(reservations.release("us", operation(number)).await.expect("again"), 2);
        assert_eq!(fixture.reservations().await, []);
        let again = bulk_create(&fixture.control, "us", operation(number), requested_slugs()).await;
        assert!(matches!(again, Err(Error::OperationReleased { .. })), "{again:?}");
        let other = bulk_create(&fixture.control, "us", operation(number), vec![]).await;
        assert!(matches!(other, Err(Error::OperationContentDiffers { .. })), "{other:?}");
        let confirm = reservations.confirm("us", operation(number)).await;
        assert!(matches!(confirm, Err(Error::OperationReleased { .. })), "{confirm:?}");
    }
    // The slugs are free again for any organization.
    let de = bulk_create(&fixture.control, "de", operation(1), requested_slugs()).await.expect("reserved");
    assert_eq!(slugs(&de), ["acme", "bolt"]);
}

pub(crate) async fn an_operation_belongs_to_its_region(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reservations = fixture.control.slug_reservations();
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    let before = fixture.reservations().await;
    for (region, number) in [("de", 1), ("us", 2)] {
        let confirm = reservations.confirm(region, operation(number)).await;
        assert!(matches!(confirm, Err(Error::OperationNotFound { .. })), "{confirm:?}");
        let release = reservations.release(region, operation(number)).await;
        assert!(matches!(release, Err(Error::OperationNotFound { .. })), "{release:?}");
    }
    assert_eq!(fixture.reservations().await, before);
}

pub(crate) async fn an_organization_has_one_slug(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let reservations = fixture.control.slug_reservations();
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    for number in [2, 3] {
        let requested_slugs = || vec![wanted(2, "bolt"), wanted(1, "cord")];
        let refused = bulk_create(&fixture.control, "us", operation(number), requested_slugs()).await;
        assert!(
            matches!(&refused, Err(Error::OrganizationAlreadyReserved { organization_id: 1, slug, operation_id })
                if slug == "acme" && *operation_id == operation(1)),
            "{refused:?}"
        );
        assert_eq!(fixture.reservations().await.len(), 1);
        // The refused operation was never started.
        let confirm = reservations.confirm("us", operation(number)).await;
        assert!(matches!(confirm, Err(Error::OperationNotFound { .. })), "{confirm:?}");
        // In the second round, the organization's slug is confirmed.
        reservations.confirm("us", operation(1)).await.expect("confirmed");
    }
    reservations.release("us", operation(1)).await.expect("released");
    let answers =
        bulk_create(&fixture.control, "us", operation(2), vec![wanted(1, "cord")]).await.expect("reserved");
    assert_eq!(slugs(&answers), ["cord"]);
}

pub(crate) async fn reservations_are_listed_page_by_page(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reservations = fixture.control.slug_reservations();
    let requested_slugs =
        |first: i64| (first..first + 25).map(|id| wanted(id, &format!("slug-{id:03}"))).collect();
    bulk_create(&fixture.control, "us", operation(1), requested_slugs(1)).await.expect("reserved");
    bulk_create(&fixture.control, "us", operation(2), requested_slugs(51)).await.expect("reserved");
    bulk_create(&fixture.control, "de", operation(1), requested_slugs(101)).await.expect("reserved");
    reservations.confirm("us", operation(2)).await.expect("confirmed");
    let all = async |region: Option<&str>, kind| {
        let filter = ListFilter { region: region.map(str::to_owned), kind };
        let mut request = PageRequest { limit: 10, after: None };
        let mut ids = Vec::new();
        loop {
            let page = reservations.list(&filter, &request).await.expect("a page");
            assert!(page.items.len() == 10 || page.next.is_none());
            ids.extend(page.items.into_iter().map(|reservation| reservation.organization_id));
            match page.next {
                Some(key) => request.after = Some(key),
                None => return ids,
            }
        }
    };
    let chain = |ranges: &[i64]| -> Vec<i64> { ranges.iter().flat_map(|first| *first..first + 25).collect() };
    let temporary = Some(ReservationType::TemporaryRenameAlias);
    assert_eq!(all(None, None).await, chain(&[1, 51, 101]));
    assert_eq!(all(Some("us"), None).await, chain(&[1, 51]));
    assert_eq!(all(Some("us"), temporary).await, chain(&[1]));
    assert_eq!(all(None, temporary).await, chain(&[1, 101]));
    assert_eq!(all(None, Some(ReservationType::Primary)).await, chain(&[51]));
    assert_eq!(all(Some("de"), Some(ReservationType::Primary)).await, chain(&[]));
}

pub(crate) async fn the_slugs_of_organizations_are_known(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reservations = fixture.control.slug_reservations();
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(2, "bolt")]).await.expect("reserved");
    bulk_create(&fixture.control, "de", operation(1), vec![wanted(3, "cord")]).await.expect("reserved");
    reservations.confirm("us", operation(1)).await.expect("confirmed");
    let of = async |region, ids| reservations.slugs_of(region, ids).await.expect("an answer");
    let both = HashMap::from([(1, "acme".to_owned()), (2, "bolt".to_owned())]);
    assert_eq!(of("us", vec![3, 2, 1, 4]).await, both);
    assert_eq!(of("de", vec![1, 2]).await, HashMap::new());
    assert_eq!(of("us", vec![]).await, HashMap::new());
}

/// Half of the organizations want slugs of their own, the other half all want the same two.
pub(crate) async fn a_hundred_thousand_organizations_in_one_operation(fixture: Fixture) {
    const COUNT: i64 = 100_000;
    let fixture = fixture.with_regions(&["us"]).await;
    let reservations = fixture.control.slug_reservations();
    let requested_slugs = || {
        (1..=COUNT)
            .map(|id| match id % 4 {
                0 => wanted(id, "Acme"),
                1 => wanted(id, "2024"),
                _ => wanted(id, &format!("organization-number-{id}")),
            })
            .collect()
    };
    let answers =
        bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("reserved");
    assert_eq!(answers.len(), 100_000);
    assert!(answers.iter().zip(1..).all(|(answer, id)| answer.organization_id == id));
    let different: HashSet<&str> = slugs(&answers).into_iter().collect();
    assert_eq!(different.len(), 100_000);
    let kept = answers.iter().filter(|answer| answer.slug == answer.wanted_slug).count();
    assert_eq!(kept, 50_000);
    assert_eq!(answers[3].slug, "acme");
    assert!(different.iter().all(|slug| rules::is_valid(slug)));
    assert_eq!(
        bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.expect("again"),
        answers
    );
    assert_eq!(reservations.confirm("us", operation(1)).await.expect("confirmed"), COUNT);
    assert_eq!(fixture.reservations().await.len(), 100_000);
    assert_eq!(reservations.release("us", operation(1)).await.expect("released"), 100_000);
    assert_eq!(fixture.reservations().await, []);
}

pub(crate) async fn one_organization_gets_a_slug_as_many_do(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reservations = fixture.control.slug_reservations();
    let one = reservations.create("us", operation(1), wanted(1, "Acme Inc")).await.expect("reserved");
    assert_eq!((one.slug.as_str(), one.reason), ("acme-inc", SlugReason::Normalized));
    // Repeating it, also as a bulk creation of one organization, is the same operation.
    assert_eq!(reservations.create("us", operation(1), wanted(1, "Acme Inc")).await.expect("answered"), one);
    let many = bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "Acme Inc")]).await;
    assert_eq!(many.expect("answered"), [one]);
    let other = reservations.create("us", operation(1), wanted(1, "acme")).await;
    assert!(matches!(other, Err(Error::OperationContentDiffers { .. })), "{other:?}");
    let taken = reservations.create("de", operation(1), wanted(2, "acme-inc")).await.expect("reserved");
    assert!(is_suffixed(&taken.slug, "acme-inc") && taken.reason == SlugReason::Taken, "{taken:?}");
    let twice = reservations.create("us", operation(2), wanted(1, "bolt")).await;
    assert!(matches!(twice, Err(Error::OrganizationAlreadyReserved { .. })), "{twice:?}");
    assert_eq!(
        refused_field(reservations.create("us", operation(3), wanted(0, "bolt")).await),
        "batch.requests[0].organization_id"
    );
    let nowhere = reservations.create("nowhere", operation(3), wanted(3, "bolt")).await;
    assert!(matches!(nowhere, Err(Error::RegionNotRegistered { .. })), "{nowhere:?}");
}

pub(crate) async fn operations_say_how_far_they_are_page_by_page(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reservations = fixture.control.slug_reservations();
    for (region, number, id) in [("us", 2, 1), ("us", 1, 2), ("us", 3, 3), ("de", 1, 4)] {
        let organizations = vec![wanted(id, "acme"), wanted(id + 10, "bolt")];
        bulk_create(&fixture.control, region, operation(number), organizations).await.expect("reserved");
    }
    reservations.confirm("us", operation(1)).await.expect("confirmed");
    reservations.confirm("us", operation(3)).await.expect("confirmed");
    reservations.release("us", operation(3)).await.expect("released");
    let of = |region: Option<&str>, progress| OperationFilter { region: region.map(str::to_owned), progress };
    let list = async |filter: &OperationFilter| {
        let mut request = PageRequest { limit: 1, after: None };
        let mut all = Vec::new();
        loop {
            let page = reservations.operations(filter, &request).await.expect("a page");
            assert!(page.items.len() <= 1);
            all.extend(page.items.into_iter().map(|it| (it.region, it.operation_id.as_u128(), it.progress)));
            let Some(next) = page.next else { return all };
            // A page token contains the position as a text.
            request.after = Some(next.to_string().parse().expect("a position"));
        }
    };
    let all = [
        ("de".to_owned(), 1, Progress::Reserved),
        ("us".to_owned(), 1, Progress::Confirmed),
        ("us".to_owned(), 2, Progress::Reserved),
        ("us".to_owned(), 3, Progress::Released),
    ];
    assert_eq!(list(&of(None, None)).await, all);
    assert_eq!(list(&of(Some("us"), None)).await, all[1..]);
    assert_eq!(list(&of(Some("us"), Some(Progress::Reserved))).await, all[2..3]);
    assert_eq!(list(&of(None, Some(Progress::Confirmed))).await, all[1..2]);
    assert_eq!(list(&of(None, Some(Progress::Reserving))).await, []);
    let released = reservations.operation("us", operation(3)).await.expect("it is there");
    let counts = (released.organization_count, released.confirmed_count, released.released_count);
    assert_eq!((counts, released.created_at, released.updated_at), ((2, 2, 2), now(), now()));
    let none = reservations.operation("de", operation(2)).await;
    assert!(matches!(none, Err(Error::OperationNotFound { .. })), "{none:?}");
}
