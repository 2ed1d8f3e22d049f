//! The directory: what slugs lead to, and what regions report.

use causeway_control::{
    Error, PageRequest,
    directory::{DirectoryOrganization, ReportedOrganization, ResolvedOrganization},
    slug_reservations::SlugReason,
};

use crate::stage::{Stage, bulk_create, is_suffixed, now, operation, refused_field, wanted};

fn reported(organization_id: i64, slug: &str, status: i32) -> ReportedOrganization {
    let name = format!("{slug} & Söhne");
    ReportedOrganization { organization_id, slug: slug.to_owned(), name, status }
}

pub(crate) async fn a_confirmed_slug_leads_to_its_region(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    let directory = stage.control.directory();
    bulk_create(&stage.control, "us", operation(1), vec![wanted(7, "acme")]).await.expect("reserved");
    // Until it is confirmed, its organization is not visible.
    assert!(matches!(directory.resolve("acme").await, Err(Error::SlugNotFound { .. })));
    stage.control.slug_reservations().confirm("us", operation(1)).await.expect("confirmed");
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

pub(crate) async fn many_slugs_are_resolved_at_once(stage: Stage) {
    let stage = stage.with_regions(&["us", "de"]).await;
    let directory = stage.control.directory();
    let wishes = (1..=500).map(|id| wanted(id, &format!("us-{id:03}"))).collect();
    bulk_create(&stage.control, "us", operation(1), wishes).await.expect("reserved");
    bulk_create(&stage.control, "de", operation(1), vec![wanted(501, "de-001")]).await.expect("reserved");
    bulk_create(&stage.control, "de", operation(2), vec![wanted(502, "de-002")]).await.expect("reserved");
    for region in ["us", "de"] {
        stage.control.slug_reservations().confirm(region, operation(1)).await.expect("confirmed");
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

pub(crate) async fn a_check_says_what_would_become_of_slugs(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    bulk_create(&stage.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    let asked = ["free", "Free", "Bäckerei", "acme", "A_C_M_E", "Acme", "login", "42", "", "free"];
    let asked: Vec<String> = asked.map(str::to_owned).into();
    let before = stage.reservations().await;
    let checks = stage.control.directory().check(asked.clone()).await.expect("checked");
    assert_eq!(stage.reservations().await, before);
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
    assert_eq!(refused_field(stage.control.directory().check(too_many).await), "slugs");
    let too_long = vec!["x".to_owned(), "x".repeat(256)];
    assert_eq!(refused_field(stage.control.directory().check(too_long).await), "slugs[1]");
}

pub(crate) async fn a_check_agrees_with_what_becomes_of_slugs(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    bulk_create(&stage.control, "us", operation(1), vec![wanted(100, "acme")]).await.expect("reserved");
    let asked = ["free", "Free", "Bäckerei", "acme", "login", "42", "", "free", "-", "日本"];
    let checks = stage.control.directory().check(asked.map(str::to_owned).into()).await.expect("checked");
    let wishes = asked.iter().zip(1..).map(|(slug, id)| wanted(id, slug)).collect();
    let answers = bulk_create(&stage.control, "us", operation(2), wishes).await.expect("reserved");
    for (check, answer) in checks.iter().zip(answers) {
        match check.would_become.strip_suffix("-?") {
            Some(base) => assert!(is_suffixed(&answer.slug, base), "{check:?} {answer:?}"),
            None => assert_eq!(check.would_become, answer.slug),
        }
    }
}

pub(crate) async fn a_report_is_what_the_directory_shows(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    let directory = stage.control.directory();
    let all = async || {
        let page = directory.list(None, &PageRequest { limit: 100, after: None }).await.expect("a page");
        assert_eq!(page.next, None);
        page.items
    };
    for _ in 0..2 {
        let report = vec![reported(2, "bolt", 3), reported(1, "acme", 0)];
        directory.report("us", report).await.expect("reported");
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
    directory.report("us", vec![reported(2, "bolt-2", 0)]).await.expect("reported");
    let entries = all().await;
    assert_eq!((entries[1].slug.as_str(), entries[1].status, entries.len()), ("bolt-2", 0, 2));
    directory.report("us", vec![]).await.expect("nothing to report");
}

pub(crate) async fn a_report_of_what_another_region_owns_changes_nothing(stage: Stage) {
    let stage = stage.with_regions(&["us", "de"]).await;
    let directory = stage.control.directory();
    directory.report("us", vec![reported(1, "acme", 0), reported(2, "bolt", 0)]).await.expect("reported");
    let report = vec![reported(3, "cord", 0), reported(2, "mine", 0)];
    assert_eq!(refused_field(directory.report("de", report).await), "organizations[1].organization_id");
    let page = directory.list(None, &PageRequest { limit: 100, after: None }).await.expect("a page");
    let slugs: Vec<_> = page.items.iter().map(|entry| (entry.slug.as_str(), entry.region.as_str())).collect();
    assert_eq!(slugs, [("acme", "us"), ("bolt", "us")]);
}

pub(crate) async fn a_malformed_report_is_refused(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    let directory = stage.control.directory();
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
        let refused = refused_field(directory.report("us", vec![good(), bad]).await);
        assert_eq!(refused, format!("organizations[1].{field}"));
    }
    let too_many = (1..=1001).map(|id| reported(id, "acme", 0)).collect();
    assert_eq!(refused_field(directory.report("us", too_many).await), "organizations");
    let page = directory.list(None, &PageRequest { limit: 100, after: None }).await.expect("a page");
    assert_eq!(page.items, []);
}

pub(crate) async fn organizations_are_listed_page_by_page(stage: Stage) {
    let stage = stage.with_regions(&["us", "de"]).await;
    let directory = stage.control.directory();
    let report =
        |first: i64| (first..first + 1000).map(|id| reported(id, &format!("slug-{id}"), 0)).collect();
    directory.report("us", report(1)).await.expect("reported");
    directory.report("de", report(1001)).await.expect("reported");
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
