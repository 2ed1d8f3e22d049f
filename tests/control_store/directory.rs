//! The directory: where slugs lead, and what regions report.

use causeway_control::{
    Error, PageRequest,
    model::directory::{DirectoryOrganization, ReportedOrganization, ResolvedOrganization},
    model::rename::RenameRequest,
    model::reservation::SlugReason,
};

use crate::support::{Fixture, bulk_create, is_suffixed, now, operation, refused_field, wanted};

fn reported(organization_id: i64, slug: &str, status: i64) -> ReportedOrganization {
    let name = format!("{slug} & Söhne");
    ReportedOrganization { organization_id, slug: slug.to_owned(), name, status }
}

pub(crate) async fn a_confirmed_slug_leads_to_its_region(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let directory = fixture.control.directory();
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(7, "acme")]).await.expect("reserved");
    // Until the reservation is confirmed, its organization is not visible.
    assert!(matches!(directory.resolve("acme").await, Err(Error::SlugNotFound { .. })));
    fixture.control.slug_reservations().confirm("us", operation(1)).await.expect("confirmed");
    let expected = ResolvedOrganization {
        slug: "acme".to_owned(),
        canonical_slug: "acme".to_owned(),
        organization_id: 7,
        region: "us".to_owned(),
        region_address: "https://us.example.com".to_owned(),
    };
    assert_eq!(directory.resolve("acme").await.expect("known"), expected);
    assert_eq!(directory.resolve("ACME").await.expect("known"), expected);
    for slug in ["acm", "acme-", "über", "%", &"a".repeat(255)] {
        assert!(matches!(directory.resolve(slug).await, Err(Error::SlugNotFound { slug: s }) if s == slug));
    }
    for slug in ["", "a\0", &"a".repeat(256)] {
        assert_eq!(refused_field(directory.resolve(slug).await), "slug");
    }
}

pub(crate) async fn many_slugs_are_resolved_at_once(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let directory = fixture.control.directory();
    let requested_slugs = (1..=500).map(|id| wanted(id, &format!("us-{id:03}"))).collect();
    bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    bulk_create(&fixture.control, "de", operation(1), vec![wanted(501, "de-001")]).await.expect("reserved");
    bulk_create(&fixture.control, "de", operation(2), vec![wanted(502, "de-002")]).await.expect("reserved");
    for region in ["us", "de"] {
        fixture.control.slug_reservations().confirm(region, operation(1)).await.expect("confirmed");
    }
    let asked: Vec<String> =
        ["US-500", "us-002", "nobody", "de-002", "", "a\0", "us-002", "De-001"].map(str::to_owned).into();
    let found = directory.batch_resolve(&asked).await.expect("resolved");
    let found: Vec<_> = found
        .iter()
        .map(|found| (found.slug.as_str(), found.organization_id, found.region_address.as_str()))
        .collect();
    let expected = [
        ("de-001", 501, "https://de.example.com"),
        ("us-002", 2, "https://us.example.com"),
        ("us-500", 500, "https://us.example.com"),
    ];
    assert_eq!(found, expected);
    let mut most: Vec<String> = (1..=1000).map(|id| format!("us-{id:03}")).collect();
    assert_eq!(directory.batch_resolve(&most).await.expect("resolved").len(), 500);
    most.push("one-more".to_owned());
    assert_eq!(refused_field(directory.batch_resolve(&most).await), "slugs");
    assert_eq!(directory.batch_resolve(&[]).await.expect("nothing"), []);
}

pub(crate) async fn a_check_says_what_would_become_of_slugs(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    let asked = ["free", "Free", "Bäckerei", "acme", "A_C_M_E", "Acme", "login", "42", "", "free"];
    let asked: Vec<String> = asked.map(str::to_owned).into();
    let before = fixture.reservations().await;
    let checks = fixture.control.directory().check(asked.clone()).await.expect("checked");
    assert_eq!(fixture.reservations().await, before);
    assert_eq!(checks.iter().map(|check| &check.slug).collect::<Vec<_>>(), asked.iter().collect::<Vec<_>>());
    let got: Vec<_> = checks
        .iter()
        .map(|check| {
            let owner = check.taken_by.as_ref().map(|owner| owner.organization_id);
            (check.reason, check.would_become.as_str(), owner)
        })
        .collect();
    let expected = [
        (SlugReason::Free, "free", None),
        (SlugReason::Taken, "free-?", None),
        (SlugReason::Normalized, "backerei", None),
        (SlugReason::Taken, "acme-?", Some(1)),
        (SlugReason::Normalized, "a-c-m-e", None),
        (SlugReason::Taken, "acme-?", Some(1)),
        (SlugReason::ReservedWord, "login-?", None),
        (SlugReason::Invalid, "42-?", None),
        (SlugReason::Invalid, "organization-?", None),
        (SlugReason::Taken, "free-?", None),
    ];
    assert_eq!(got, expected);
    let too_many = vec!["x".to_owned(); 1001];
    assert_eq!(refused_field(fixture.control.directory().check(too_many).await), "slugs");
    let too_long = vec!["x".to_owned(), "x".repeat(256)];
    assert_eq!(refused_field(fixture.control.directory().check(too_long).await), "slugs[1]");
}

pub(crate) async fn a_check_agrees_with_what_becomes_of_slugs(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(100, "acme")]).await.expect("reserved");
    let asked = ["free", "Free", "Bäckerei", "acme", "login", "42", "", "free", "-", "日本"];
    let checks = fixture.control.directory().check(asked.map(str::to_owned).into()).await.expect("checked");
    let requested_slugs = asked.iter().zip(1..).map(|(slug, id)| wanted(id, slug)).collect();
    let answers = bulk_create(&fixture.control, "us", operation(2), requested_slugs).await.expect("reserved");
    for (check, answer) in checks.iter().zip(answers) {
        match check.would_become.strip_suffix("-?") {
            Some(base) => assert!(is_suffixed(&answer.slug, base), "{check:?} {answer:?}"),
            None => assert_eq!(check.would_become, answer.slug),
        }
    }
}

/// Reserves and confirms these slugs under one operation.
async fn hold(fixture: &Fixture, region: &str, number: u128, held: &[(i64, &str)]) {
    let requested_slugs = held.iter().map(|(id, slug)| wanted(*id, slug)).collect();
    bulk_create(&fixture.control, region, operation(number), requested_slugs).await.expect("reserved");
    fixture.control.slug_reservations().confirm(region, operation(number)).await.expect("confirmed");
}

/// Reports organizations. Returns those that were refused, each with the reason.
async fn report(
    fixture: &Fixture,
    region: &str,
    organizations: Vec<ReportedOrganization>,
) -> Vec<(i64, String)> {
    let refused =
        fixture.control.directory().report(region, 0, organizations, false).await.expect("taken in");
    let why = |error: &Error| match error {
        Error::OrganizationIdTaken { region, .. } => format!("of {region}"),
        Error::OrganizationNotReserved { .. } => "not reserved".to_owned(),
        other => panic!("{other:?}"),
    };
    refused.iter().map(|it| (it.organization_id, why(&it.error))).collect()
}

/// The entries of the directory: id, slug and region of each organization.
async fn listed(fixture: &Fixture) -> Vec<(i64, String, String)> {
    let page = PageRequest { limit: 1000, after: None };
    let page = fixture.control.directory().list(None, &page).await.expect("a page");
    assert_eq!(page.next, None);
    page.items.into_iter().map(|it| (it.organization_id, it.slug, it.region)).collect()
}

fn entry(id: i64, slug: &str, region: &str) -> (i64, String, String) {
    (id, slug.to_owned(), region.to_owned())
}

pub(crate) async fn a_report_is_what_the_directory_shows(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let directory = fixture.control.directory();
    hold(&fixture, "us", 1, &[(1, "acme"), (2, "bolt")]).await;
    let all =
        async || directory.list(None, &PageRequest { limit: 100, after: None }).await.expect("a page").items;
    for _ in 0..2 {
        assert_eq!(report(&fixture, "us", vec![reported(2, "bolt", 3), reported(1, "acme", 0)]).await, []);
        let entries = all().await;
        let expected = DirectoryOrganization {
            organization_id: 1,
            slug: "acme".to_owned(),
            name: "acme & Söhne".to_owned(),
            status: 0,
            region: "us".to_owned(),
            reported_at: now(),
        };
        assert_eq!((entries.len(), &entries[0], entries[1].status), (2, &expected, 3));
    }
    // The region decides about name and status, control about the slug.
    assert_eq!(report(&fixture, "us", vec![reported(2, "acme", 0)]).await, []);
    let entries = all().await;
    assert_eq!((entries[1].slug.as_str(), entries[1].status, entries.len()), ("bolt", 0, 2));
    assert_eq!(entries[1].name, "acme & Söhne");
    assert_eq!(report(&fixture, "us", vec![]).await, []);
}

pub(crate) async fn a_refused_organization_keeps_no_other_one_out(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    hold(&fixture, "us", 1, &[(1, "acme"), (2, "bolt")]).await;
    hold(&fixture, "de", 2, &[(3, "cord"), (5, "elm")]).await;
    bulk_create(&fixture.control, "de", operation(3), vec![wanted(6, "fir")]).await.expect("reserved");
    let leased = fixture
        .control
        .regions()
        .lease_ids("us", operation(4), "sentry.organization", 10, 0)
        .await
        .expect("leased");
    assert_eq!(report(&fixture, "us", vec![reported(2, "bolt", 0)]).await, []);
    for _ in 0..2 {
        let of_lease = leased.first_id + 3;
        let ids = [5, 2, 3, 1, 4, 6, of_lease];
        let reports = ids.iter().map(|id| reported(*id, "acme", 0)).collect();
        let refused = report(&fixture, "de", reports).await;
        let of_us = |id| (id, "of us".to_owned());
        let not_reserved = |id| (id, "not reserved".to_owned());
        assert_eq!(refused, [of_us(2), of_us(1), not_reserved(4), not_reserved(6), of_us(of_lease)]);
        let expected = [entry(2, "bolt", "us"), entry(3, "cord", "de"), entry(5, "elm", "de")];
        assert_eq!(listed(&fixture).await, expected);
    }
}

/// Whatever happens to reservations: the directory lists nobody under a slug that is not reserved for them, and no slug
/// twice.
pub(crate) async fn the_directory_says_what_is_reserved(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let reservations = fixture.control.slug_reservations();
    hold(&fixture, "us", 1, &[(1, "acme"), (2, "bolt")]).await;
    let all = vec![reported(1, "acme", 0), reported(2, "bolt", 0)];
    assert_eq!(report(&fixture, "us", all.clone()).await, []);
    // Releasing a confirmed operation removes its organizations from the directory.
    assert_eq!(reservations.release("us", operation(1)).await.expect("released"), 2);
    assert_eq!(listed(&fixture).await, []);
    let not_reserved = |id| (id, "not reserved".to_owned());
    assert_eq!(report(&fixture, "us", all.clone()).await, [not_reserved(1), not_reserved(2)]);
    // The slug belongs to another organization now, and no report brings it back.
    hold(&fixture, "de", 1, &[(7, "acme")]).await;
    assert_eq!(report(&fixture, "de", vec![reported(7, "acme", 0)]).await, []);
    hold(&fixture, "us", 2, &[(1, "apex")]).await;
    assert_eq!(report(&fixture, "us", all).await, [not_reserved(2)]);
    assert_eq!(listed(&fixture).await, [entry(1, "apex", "us"), entry(7, "acme", "de")]);
    // After a rename, the directory does not list the organization under the slug of its first operation.
    let rename = RenameRequest {
        operation_id: operation(9),
        region: None,
        organization_id: 1,
        desired_slug: "arch".to_owned(),
        require_exact: true,
        keep_alias: true,
    };
    fixture
        .control
        .renames()
        .update_organization_slug(&rename, std::time::Duration::ZERO)
        .await
        .expect("pending");
    reservations.confirm("us", operation(9)).await.expect("renamed");
    assert_eq!(listed(&fixture).await[0], entry(1, "arch", "us"));
    assert_eq!(reservations.release("us", operation(2)).await.expect("its alias"), 1);
    assert_eq!(listed(&fixture).await[0], entry(1, "arch", "us"));
    reservations.release_organizations("us", vec![1]).await.expect("released");
    assert_eq!(listed(&fixture).await, [entry(7, "acme", "de")]);
}

pub(crate) async fn a_report_that_arrives_late_does_not_replace_a_later_one(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    hold(&fixture, "us", 1, &[(1, "acme"), (2, "bolt")]).await;
    let directory = fixture.control.directory();
    let report = async |number, ids: &[i64], status| {
        let organizations = ids.iter().map(|id| reported(*id, "any", status)).collect();
        let refused = directory.report("us", number, organizations, false).await.expect("taken in");
        assert!(refused.is_empty(), "{refused:?}");
    };
    let statuses = async || {
        let page = directory.list(None, &PageRequest { limit: 100, after: None }).await.expect("a page");
        page.items.into_iter().map(|it| it.status).collect::<Vec<_>>()
    };
    report(7, &[1], 0).await;
    report(5, &[1, 2], 1).await;
    assert_eq!(statuses().await, [0, 1], "only what the later one has not told of");
    report(7, &[1], 0).await;
    report(8, &[1], 1).await;
    assert_eq!(statuses().await, [1, 1]);
    // A region of an older release does not number its reports.
    report(0, &[1], 0).await;
    assert_eq!(statuses().await, [0, 1]);
    let negative = directory.report("us", -1, vec![reported(1, "acme", 0)], false).await;
    assert_eq!(refused_field(negative), "number");
}

pub(crate) async fn a_malformed_report_is_refused(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let directory = fixture.control.directory();
    let good = || reported(1, "acme", 0);
    for (bad, field) in [
        (reported(0, "bolt", 0), "organization_id"),
        (reported(1 << 53, "bolt", 0), "organization_id"),
        (reported(1, "bolt", 0), "organization_id"),
        (reported(2, "bolt", 4), "status"),
        (reported(2, "bolt", -1), "status"),
        (ReportedOrganization { slug: "x".repeat(256), ..reported(2, "", 0) }, "slug"),
        (ReportedOrganization { slug: "\0".to_owned(), ..reported(2, "", 0) }, "slug"),
        (ReportedOrganization { name: "x".repeat(1025), ..reported(2, "bolt", 0) }, "name"),
    ] {
        let refused = refused_field(directory.report("us", 0, vec![good(), bad], false).await);
        assert_eq!(refused, format!("organizations[1].{field}"));
    }
    let too_many = (1..=1001).map(|id| reported(id, "acme", 0)).collect();
    assert_eq!(refused_field(directory.report("us", 0, too_many, false).await), "organizations");
    let page = directory.list(None, &PageRequest { limit: 100, after: None }).await.expect("a page");
    assert_eq!(page.items, []);
}

pub(crate) async fn organizations_are_listed_page_by_page(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let directory = fixture.control.directory();
    for (region, first) in [("us", 1), ("de", 1001)] {
        let slugs: Vec<(i64, String)> = (first..first + 1000).map(|id| (id, format!("slug-{id}"))).collect();
        let held: Vec<(i64, &str)> = slugs.iter().map(|(id, slug)| (*id, slug.as_str())).collect();
        hold(&fixture, region, 1, &held).await;
        let reports = held.iter().map(|(id, slug)| reported(*id, slug, 0)).collect();
        assert_eq!(report(&fixture, region, reports).await, []);
    }
    let all = async |region| {
        let mut request = PageRequest { limit: 300, after: None };
        let mut ids = Vec::new();
        loop {
            let page = directory.list(region, &request).await.expect("a page");
            ids.extend(page.items.into_iter().map(|entry| entry.organization_id));
            match page.next {
                Some(key) => request.after = Some(key),
                None => return ids,
            }
        }
    };
    assert_eq!(all(None).await, (1..=2000).collect::<Vec<_>>());
    assert_eq!(all(Some("de")).await, (1001..=2000).collect::<Vec<_>>());
}

pub(crate) async fn one_organization_is_found_by_its_id(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let directory = fixture.control.directory();
    hold(&fixture, "us", 1, &[(1, "one")]).await;
    hold(&fixture, "de", 2, &[(2, "two")]).await;
    assert_eq!(report(&fixture, "de", vec![reported(2, "two", 0)]).await, []);
    let found = directory.get(2).await.expect("it is in the directory");
    assert_eq!((found.region.as_str(), found.slug.as_str()), ("de", "two"));
    // One that is reserved, but its region has not reported it; and one that is free.
    for id in [1, 3] {
        let error = directory.get(id).await.expect_err("it is not in the directory");
        assert!(
            matches!(error, Error::OrganizationNotFound { organization_id } if organization_id == id),
            "{error}"
        );
    }
    for id in [0, -1, i64::MAX] {
        let error = directory.get(id).await.expect_err("it is not an id");
        assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    }
}
