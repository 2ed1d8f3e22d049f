//! Renames as control sees them. The test plays the region: it confirms or refuses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_control::{
    Control, Error, PageRequest,
    model::directory::ReportedOrganization,
    model::rename::{Rename, RenameRequest, RenameState},
    model::reservation::ReservationType::{Primary, TemporaryRenameAlias, VanityAlias},
    slug::renames,
};
use causeway_proto::relocation::v1::ErrorReason;
use causeway_silo::env::Failpoints;
use tokio::task::JoinSet;

use crate::{
    feeds::Reader,
    support::{Fixture, bulk_create, is_suffixed, operation, refused_field, wanted},
};

fn requested_slug(number: u128, organization_id: i64, slug: &str) -> RenameRequest {
    RenameRequest {
        operation_id: operation(number),
        region: None,
        organization_id,
        desired_slug: slug.to_owned(),
        require_exact: false,
        keep_alias: false,
    }
}

async fn rename(control: &Control, requested_slug: &RenameRequest) -> Result<Rename, Error> {
    control.renames().update_organization_slug(requested_slug, Duration::ZERO).await
}

async fn confirm(control: &Control, number: u128) {
    assert_eq!(control.slug_reservations().confirm("us", operation(number)).await.expect("confirmed"), 1);
}

/// Organizations 1 and 2 of `us` get `acme` and `bolt`, organization 3 of `de` gets `cord`.
async fn begin(fixture: Fixture) -> Fixture {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let requested_slugs = vec![wanted(1, "acme"), wanted(2, "bolt")];
    bulk_create(&fixture.control, "us", operation(1), requested_slugs).await.expect("reserved");
    bulk_create(&fixture.control, "de", operation(1), vec![wanted(3, "cord")]).await.expect("reserved");
    for region in ["us", "de"] {
        fixture.control.slug_reservations().confirm(region, operation(1)).await.expect("confirmed");
    }
    fixture
}

/// The organization that a slug leads to, and its canonical slug.
async fn leads(control: &Control, slug: &str) -> Option<(i64, String)> {
    match control.directory().resolve(slug).await {
        Ok(found) => Some((found.organization_id, found.canonical_slug)),
        Err(Error::SlugNotFound { .. }) => None,
        Err(other) => panic!("{other:?}"),
    }
}

fn led(id: i64, slug: &str) -> Option<(i64, String)> {
    Some((id, slug.to_owned()))
}

pub(crate) async fn a_rename_frees_the_old_slug(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    let report = ReportedOrganization {
        organization_id: 1,
        slug: "acme".to_owned(),
        name: "Acme".to_owned(),
        status: 0,
    };
    control.directory().report("us", 0, vec![report.clone()], false).await.expect("reported");
    let mut reader = Reader::new(control, "us", 3).await;

    let begun = rename(control, &requested_slug(2, 1, "dune")).await.expect("begun");
    assert_eq!((begun.state.clone(), begun.slug.as_str()), (RenameState::Pending, "dune"));
    assert_eq!((begun.previous_slug.as_str(), begun.region.as_str()), ("acme", "us"));
    // Until the region has written the new slug, the old one leads to the organization and the new one nowhere.
    assert_eq!((leads(control, "acme").await, leads(control, "dune").await), (led(1, "acme"), None));
    reader.reach(4).await;
    let event = &reader.slugs["dune"];
    assert!(event.wanted && event.kind == Some(TemporaryRenameAlias) && event.operation_id == operation(2));
    assert_eq!(rename(control, &requested_slug(2, 1, "dune")).await.expect("the same"), begun);

    for _ in 0..2 {
        confirm(control, 2).await;
        assert_eq!((leads(control, "acme").await, leads(control, "dune").await), (None, led(1, "dune")));
    }
    let done = rename(control, &requested_slug(2, 1, "dune")).await.expect("done");
    assert_eq!(done, Rename { state: RenameState::Confirmed, ..begun });
    // The feed has the new slug before it removes the old one.
    reader.reach(6).await;
    let event: Vec<_> =
        reader.events[1..].iter().map(|it| (it.reservation.slug.as_str(), it.reservation.kind)).collect();
    assert_eq!(event, [("dune", Some(Primary)), ("acme", None)]);
    assert!(!reader.slugs["dune"].wanted);
    // A delayed report has the old slug; the directory keeps the new one.
    control.directory().report("us", 0, vec![report], false).await.expect("reported");
    let page = PageRequest { limit: 10, after: None };
    let listed = control.directory().list(None, &page).await.expect("listed").items;
    assert_eq!(listed[0].slug, "dune");
    // Any organization may have the old slug.
    let de = bulk_create(control, "de", operation(5), vec![wanted(4, "acme")]).await.expect("free");
    assert_eq!(de[0].slug, "acme");
    let released = control.slug_reservations().release("us", operation(2)).await;
    assert!(matches!(released, Err(Error::OperationConfirmed { .. })), "{released:?}");
}

pub(crate) async fn a_rename_may_keep_the_old_slug(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    let mut reader = Reader::new(control, "us", 0).await;
    for (number, slug) in [(2, "dune"), (3, "elm")] {
        let requested_slug = RenameRequest { keep_alias: true, ..requested_slug(number, 1, slug) };
        rename(control, &requested_slug).await.expect("begun");
        confirm(control, number).await;
    }
    for slug in ["acme", "dune", "elm"] {
        assert_eq!(leads(control, slug).await, led(1, "elm"));
    }
    let kinds: Vec<_> = fixture.reservations().await.into_iter().map(|it| (it.slug, it.kind)).collect();
    let kinds: Vec<_> = kinds.iter().map(|(slug, kind)| (slug.as_str(), *kind)).collect();
    let expected = [
        ("acme", VanityAlias),
        ("bolt", Primary),
        ("cord", Primary),
        ("dune", VanityAlias),
        ("elm", Primary),
    ];
    assert_eq!(kinds, expected);
    // Each alias leads to the canonical slug of its organization. When that changes, the alias needs no event of its
    // own.
    reader.reach(3 + 1 + 2 + 1 + 2).await;
    let mut fresh = Reader::new(control, "us", 0).await;
    fresh.reach(9).await;
    assert_eq!(reader.slugs, fresh.slugs);
    for slug in ["acme", "dune", "elm"] {
        assert_eq!(reader.slugs[slug].canonical_slug.as_deref(), Some("elm"));
    }
    // An alias belongs to its organization, so no other one can get it.
    let taken = RenameRequest { require_exact: true, ..requested_slug(4, 2, "acme") };
    let taken = rename(control, &taken).await;
    assert!(matches!(taken, Err(Error::SlugTaken { .. })), "{taken:?}");
}

pub(crate) async fn an_organization_may_have_a_hundred_aliases(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    let name = |number| format!("name-{number}");
    let renamed = async |number: u128, slug: &str, keep_alias| {
        let requested_slug =
            RenameRequest { require_exact: true, keep_alias, ..requested_slug(number, 1, slug) };
        rename(control, &requested_slug).await
    };
    for number in 2..102 {
        renamed(number, &name(number), true).await.expect("begun");
        confirm(control, number).await;
    }
    // Each rename makes three events, for the wanted slug and the two slugs that change places, however many slugs the
    // organization has.
    let mut reader = Reader::new(control, "us", 0).await;
    reader.reach(3 + 100 * 3).await;
    assert_eq!(reader.slugs.len(), 102);
    let before = fixture.reservations().await;
    let refused = renamed(102, "one-more", true).await;
    assert!(matches!(refused, Err(Error::TooManyAliases { organization_id: 1, limit: 100 })), "{refused:?}");
    assert_eq!(fixture.reservations().await, before);
    // A rename that leaves no alias, or that turns an alias into the slug, does not exceed the limit.
    renamed(103, "other", false).await.expect("begun");
    confirm(control, 103).await;
    renamed(104, "acme", true).await.expect("begun");
    confirm(control, 104).await;
    assert!(matches!(renamed(105, "one-more", true).await, Err(Error::TooManyAliases { .. })));
    assert!(control.renames().release_alias(1, &name(2)).await.expect("released"));
    renamed(106, "one-more", true).await.expect("begun");
    confirm(control, 106).await;
    let mut fresh = Reader::new(control, "us", 0).await;
    fresh.reach(3 + 100 * 3 + 3 + 3 + 1 + 3).await;
    reader.reach(fresh.version).await;
    assert_eq!(reader.slugs, fresh.slugs);
    assert!(
        fresh
            .slugs
            .values()
            .all(|it| it.organization_id != 1 || it.canonical_slug.as_deref() == Some("one-more"))
    );
}

pub(crate) async fn an_organization_may_have_its_old_slug_back(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    rename(control, &RenameRequest { keep_alias: true, ..requested_slug(2, 1, "dune") })
        .await
        .expect("begun");
    confirm(control, 2).await;
    let mut reader = Reader::new(control, "us", 0).await;
    let back = RenameRequest { require_exact: true, keep_alias: true, ..requested_slug(3, 1, "acme") };
    assert_eq!(rename(control, &back).await.expect("begun").slug, "acme");
    // Until it is confirmed, the slug stays the alias that it was.
    assert_eq!(leads(control, "acme").await, led(1, "dune"));
    reader.reach(7).await;
    let event = &reader.slugs["acme"];
    assert!(
        event.wanted && event.kind == Some(VanityAlias) && event.operation_id == operation(3),
        "{event:?}"
    );
    control.slug_reservations().release("us", operation(3)).await.expect("released");
    assert_eq!(leads(control, "acme").await, led(1, "dune"));
    reader.reach(8).await;
    assert!(!reader.slugs["acme"].wanted);

    rename(control, &RenameRequest { operation_id: operation(4), ..back }).await.expect("begun");
    confirm(control, 4).await;
    assert_eq!(
        (leads(control, "acme").await, leads(control, "dune").await),
        (led(1, "acme"), led(1, "acme"))
    );
}

pub(crate) async fn a_slug_that_cannot_be_had_gets_a_suffix_unless_it_must_be_exact(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    for (number, slug) in [(2, "cord"), (3, "settings"), (4, "123")] {
        let given = rename(control, &requested_slug(number, 1, slug)).await.expect("begun").slug;
        assert!(is_suffixed(&given, slug), "{given}");
        confirm(control, number).await;
    }
    assert_eq!(rename(control, &requested_slug(5, 1, "Düne Nord")).await.expect("begun").slug, "dune-nord");
    confirm(control, 5).await;
    let exact = |slug| RenameRequest { require_exact: true, ..requested_slug(6, 1, slug) };
    let taken = rename(control, &exact("cord")).await;
    assert!(matches!(&taken, Err(Error::SlugTaken { slug }) if slug == "cord"), "{taken:?}");
    let reserved = rename(control, &exact("settings")).await;
    assert!(matches!(&reserved, Err(Error::SlugReserved { .. })), "{reserved:?}");
    for slug in ["123", "Dune", "-dune", "dü"] {
        let invalid = rename(control, &exact(slug)).await;
        assert!(matches!(&invalid, Err(Error::SlugInvalid { .. })), "{slug}: {invalid:?}");
    }
    assert_eq!(rename(control, &exact("dune")).await.expect("begun").slug, "dune");
}

pub(crate) async fn a_rename_to_the_same_slug_changes_nothing(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let before = fixture.reservations().await;
    for (number, slug) in [(2, "acme"), (3, "ACME")] {
        let same = rename(&fixture.control, &requested_slug(number, 1, slug)).await.expect("nothing to do");
        assert_eq!((same.state, same.slug.as_str()), (RenameState::Confirmed, "acme"), "{slug}");
    }
    assert_eq!(fixture.reservations().await, before);
    assert_eq!(Reader::new(&fixture.control, "us", 3).await.events, []);
}

pub(crate) async fn a_refusal_leaves_everything_as_it_was(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    bulk_create(control, "us", operation(2), vec![wanted(9, "nine")]).await.expect("reserved");
    rename(control, &requested_slug(3, 2, "flight")).await.expect("begun");
    let before = fixture.reservations().await;

    for id in [4, 9] {
        // An organization with an unconfirmed slug is not known yet.
        let unknown = rename(control, &requested_slug(4, id, "dune")).await;
        assert!(matches!(unknown, Err(Error::OrganizationNotFound { .. })), "{unknown:?}");
    }
    let elsewhere = RenameRequest { region: Some("de".to_owned()), ..requested_slug(4, 1, "dune") };
    let elsewhere = rename(control, &elsewhere).await;
    assert!(matches!(elsewhere, Err(Error::OrganizationNotFound { .. })), "{elsewhere:?}");
    let flying = rename(control, &requested_slug(4, 2, "dune")).await;
    assert!(
        matches!(flying, Err(Error::RenameInFlight { operation_id, .. }) if operation_id == operation(3)),
        "{flying:?}"
    );
    // An operation id is for one request, of renames and of bulk creations.
    for other in [
        requested_slug(3, 2, "dune"),
        requested_slug(3, 1, "flight"),
        RenameRequest { keep_alias: true, ..requested_slug(3, 2, "flight") },
    ] {
        let differs = rename(control, &other).await;
        assert!(matches!(differs, Err(Error::OperationContentDiffers { .. })), "{differs:?}");
    }
    let differs = rename(control, &requested_slug(1, 1, "dune")).await;
    assert!(matches!(differs, Err(Error::OperationContentDiffers { .. })), "{differs:?}");
    let differs = bulk_create(control, "us", operation(3), vec![wanted(2, "flight")]).await;
    assert!(matches!(differs, Err(Error::OperationContentDiffers { .. })), "{differs:?}");
    assert_eq!(refused_field(rename(control, &requested_slug(4, 1, "")).await), "desired_slug");
    assert_eq!(refused_field(rename(control, &requested_slug(4, 0, "dune")).await), "organization_id");
    assert_eq!(refused_field(rename(control, &requested_slug(4, 1, "a\0")).await), "desired_slug");
    assert_eq!(fixture.reservations().await, before);

    // An organization id belongs to one region. If a request names a region, it must be that one.
    let taken = bulk_create(control, "de", operation(7), vec![wanted(1, "both")]).await;
    assert!(matches!(taken, Err(Error::OrganizationIdTaken { organization_id: 1, .. })), "{taken:?}");
    let elsewhere = RenameRequest { region: Some("de".to_owned()), ..requested_slug(4, 1, "dune") };
    let unknown = rename(control, &elsewhere).await;
    assert!(matches!(unknown, Err(Error::OrganizationNotFound { organization_id: 1 })), "{unknown:?}");
    let one = RenameRequest { region: Some("us".to_owned()), ..requested_slug(4, 1, "dune") };
    assert_eq!(rename(control, &one).await.expect("begun").region, "us");
}

pub(crate) async fn a_rename_that_its_region_refuses_is_gone(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    let before = fixture.reservations().await;
    let mut reader = Reader::new(control, "us", 3).await;
    rename(control, &requested_slug(2, 1, "dune")).await.expect("begun");
    let refusal =
        renames::refusal(ErrorReason::SlugTakenInRegion, "organization 7 has it").expect("one of them");
    for _ in 0..2 {
        let answer =
            control.slug_reservations().release_or_refuse("us", operation(2), Some(refusal.clone())).await;
        assert_eq!(answer.expect("refused"), 1);
    }
    assert_eq!(fixture.reservations().await, before);
    reader.reach(5).await;
    assert!(!reader.slugs.contains_key("dune"));
    let refused = rename(control, &requested_slug(2, 1, "dune")).await;
    assert!(matches!(&refused, Err(Error::Refused(why)) if *why == refusal), "{refused:?}");
    let late = control.slug_reservations().confirm("us", operation(2)).await;
    assert!(matches!(late, Err(Error::OperationReleased { .. })), "{late:?}");

    // An operator who releases it gives no reason.
    rename(control, &requested_slug(3, 1, "dune")).await.expect("it begins again");
    control.slug_reservations().release("us", operation(3)).await.expect("released");
    let refused = rename(control, &requested_slug(3, 1, "dune")).await;
    assert!(
        matches!(&refused, Err(Error::Refused(why)) if why.reason == ErrorReason::OperationReleased),
        "{refused:?}"
    );
    assert!(renames::refusal(ErrorReason::Internal, "no").is_err());
}

pub(crate) async fn a_rename_is_waited_for(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let (asked, other) = (fixture.control.clone(), fixture.another(2).await);
    let mut reader = Reader::new(&other, "us", 3).await;
    let waiting = tokio::spawn(async move {
        asked.renames().update_organization_slug(&requested_slug(2, 1, "dune"), Duration::from_secs(30)).await
    });
    reader.reach(4).await;
    confirm(&other, 2).await;
    let done = waiting.await.expect("it ends").expect("renamed");
    assert_eq!((done.state, done.slug.as_str()), (RenameState::Confirmed, "dune"));
}

/// Many callers wait for one rename while others start and end. The callers share their database reads, and there are
/// few of those.
pub(crate) async fn whoever_waits_for_a_rename_costs_nothing_while_others_end(fixture: Fixture) {
    const WAITING: usize = 300;
    let fixture = begin(fixture).await;
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let count: Arc<Failpoints> = Arc::new(move |place| {
        if place == "control.rename.checked" {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        Box::pin(async { Ok(()) })
    });
    let control = fixture.another_with(2, count).await;
    rename(&control, &requested_slug(2, 1, "dune")).await.expect("begun");
    let mut waiting = JoinSet::new();
    for _ in 0..WAITING {
        let control = control.clone();
        waiting.spawn(async move {
            let requested_slug = requested_slug(2, 1, "dune");
            control.renames().update_organization_slug(&requested_slug, Duration::from_secs(60)).await
        });
    }
    for number in 10..40_u128 {
        rename(&control, &requested_slug(number, 2, &format!("slug-{number}"))).await.expect("begun");
        confirm(&control, number).await;
    }
    confirm(&control, 2).await;
    for done in waiting.join_all().await {
        assert_eq!(done.expect("renamed").state, RenameState::Confirmed);
    }
    let looks = looks.load(Ordering::Relaxed);
    assert!((1..100).contains(&looks), "{looks} reads for {WAITING} callers");
}

/// Through several controls: one operation twice at the same time, and another one for the same organization.
pub(crate) async fn renames_at_once_are_one(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let mut calls = JoinSet::new();
    for number in 0..8_u128 {
        let control = fixture.another(100 + u64::try_from(number).expect("small")).await;
        calls.spawn(async move { rename(&control, &requested_slug(2 + number % 2, 1, "dune")).await });
    }
    let outcomes = calls.join_all().await;
    let (begun, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let begun: Vec<Rename> = begun.into_iter().map(|it| it.expect("begun")).collect();
    assert!(begun.len() == 4 && begun.iter().all(|it| *it == begun[0]), "{begun:?}");
    assert!(refused.iter().all(|it| matches!(it, Err(Error::RenameInFlight { .. }))), "{refused:?}");
    let temporary =
        fixture.reservations().await.into_iter().filter(|it| it.kind == TemporaryRenameAlias).count();
    assert_eq!(temporary, 1);
}

pub(crate) async fn an_alias_can_be_released(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    let reservations = control.slug_reservations();
    rename(control, &RenameRequest { keep_alias: true, ..requested_slug(2, 1, "dune") })
        .await
        .expect("begun");
    let refused = fixture.control.renames().release_alias(1, "dune").await;
    assert!(matches!(refused, Err(Error::SlugNotAlias { .. })), "{refused:?}");
    confirm(control, 2).await;
    let refused = fixture.control.renames().release_alias(1, "dune").await;
    assert!(matches!(refused, Err(Error::SlugNotAlias { .. })), "{refused:?}");

    rename(control, &requested_slug(3, 1, "acme")).await.expect("begun");
    let refused = fixture.control.renames().release_alias(1, "acme").await;
    assert!(matches!(refused, Err(Error::RenameInFlight { .. })), "{refused:?}");
    reservations.release("us", operation(3)).await.expect("released");

    // A slug of another organization, or a free one: nothing to release.
    for (id, slug) in [(2, "acme"), (1, "nobody"), (1, "cord")] {
        assert!(!fixture.control.renames().release_alias(id, slug).await.expect("nothing"));
    }
    let mut reader = Reader::new(control, "us", 0).await;
    assert!(fixture.control.renames().release_alias(1, "ACME").await.expect("released"));
    assert!(!fixture.control.renames().release_alias(1, "acme").await.expect("again"));
    assert_eq!(leads(control, "acme").await, None);
    reader.reach(9).await;
    assert_eq!(reader.slugs(), ["bolt", "dune"]);
}

pub(crate) async fn nothing_is_left_of_a_released_organization(fixture: Fixture) {
    let fixture = begin(fixture).await;
    let control = &fixture.control;
    let reservations = control.slug_reservations();
    bulk_create(control, "us", operation(9), vec![wanted(9, "nine")]).await.expect("reserved");
    rename(control, &RenameRequest { keep_alias: true, ..requested_slug(2, 1, "dune") })
        .await
        .expect("begun");
    confirm(control, 2).await;
    rename(control, &requested_slug(3, 1, "elm")).await.expect("begun");
    let reported = [(1, "dune"), (2, "bolt")].map(|(organization_id, slug)| ReportedOrganization {
        organization_id,
        slug: slug.to_owned(),
        name: slug.to_owned(),
        status: 0,
    });
    control.directory().report("us", 0, reported.into(), false).await.expect("reported");
    let mut reader = Reader::new(control, "us", 0).await;

    // Another region cannot release any of it.
    assert_eq!(reservations.release_organizations("de", vec![1, 9]).await.expect("nothing"), 0);
    for released in [4, 0] {
        let answer = reservations.release_organizations("us", vec![9, 1, 1, 77]).await;
        assert_eq!(answer.expect("released"), released);
    }
    let left: Vec<String> = fixture.reservations().await.into_iter().map(|it| it.slug).collect();
    assert_eq!(left, ["bolt", "cord"]);
    let page = PageRequest { limit: 10, after: None };
    let listed = control.directory().list(None, &page).await.expect("listed").items;
    assert_eq!(listed.iter().map(|it| it.organization_id).collect::<Vec<_>>(), [2]);
    reader.reach(11).await;
    assert_eq!(reader.slugs(), ["bolt"]);
    let refused = rename(control, &requested_slug(3, 1, "elm")).await;
    assert!(
        matches!(&refused, Err(Error::Refused(why)) if why.reason == ErrorReason::OrganizationNotFound),
        "{refused:?}"
    );
    let late = reservations.confirm("us", operation(3)).await;
    assert!(matches!(late, Err(Error::OperationReleased { .. })), "{late:?}");
    assert_eq!(
        refused_field(reservations.release_organizations("us", vec![1, 0]).await),
        "organization_ids[1]"
    );
}
