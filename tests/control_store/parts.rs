//! Operations with more organizations than one transaction takes: here, three.

use std::{collections::BTreeMap, sync::Arc};

use causeway_control::{
    Control, Error,
    model::operation::Progress,
    model::reservation::{
        Reservation,
        ReservationType::{self, Primary, TemporaryRenameAlias},
        WantedSlug,
    },
};
use causeway_silo::{
    db::{Dialect, Statement},
    env::Failpoints,
};

use crate::{
    feeds::Reader,
    support::{Fixture, Gate, bulk_create, is_suffixed, operation, slugs, wanted},
};

const AT_ONCE: usize = 3;

fn nothing() -> Arc<Failpoints> {
    Arc::new(|_| Box::pin(async { Ok(()) }))
}

/// Ten organizations. Some want the same slug, one wants a reserved word, one wants an invalid slug.
fn requested_slugs() -> Vec<WantedSlug> {
    let wanted_slugs =
        ["acme", "Acme", "bolt", "cord", "acme", "settings", "dune", "elm", "Elm Street", "fir"];
    (1..).zip(wanted_slugs).map(|(id, slug)| wanted(id, slug)).collect()
}

fn of(reservations: &[Reservation], kind: ReservationType) -> BTreeMap<i64, String> {
    let of_kind = reservations.iter().filter(|it| it.kind == kind);
    of_kind.map(|it| (it.organization_id, it.slug.clone())).collect()
}

/// Starts a call that stops at a failpoint.
macro_rules! gated_at {
    ($fixture:expr, $seed:expr, $place:expr, |$control:ident| $call:expr) => {{
        let (gate, failpoints) = Gate::at($place);
        let $control = $fixture.another_in_parts($seed, AT_ONCE, failpoints).await;
        let call = tokio::spawn(async move { $call });
        gate.there().await;
        (gate, call)
    }};
}

pub(crate) async fn an_operation_of_many_is_done_in_parts_and_others_write_in_between(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let (gate, call) = gated_at!(fixture, 2, "control.bulk_create.part_committed", |control| {
        bulk_create(&control, "us", operation(1), requested_slugs()).await
    });
    // Other operations get slugs in between, also in the same region.
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(100, "between")]).await.expect("reserved");
    bulk_create(&fixture.control, "de", operation(1), vec![wanted(200, "other")]).await.expect("reserved");
    assert_eq!(of(&fixture.reservations().await, TemporaryRenameAlias).len(), AT_ONCE + 2);
    let so_far = async || {
        let so_far =
            fixture.control.slug_reservations().operation("us", operation(1)).await.expect("it is there");
        assert_eq!(so_far.organization_count, 10);
        (so_far.progress, so_far.confirmed_count, so_far.released_count)
    };
    assert_eq!(so_far().await, (Progress::Reserving, 0, 0));
    gate.open();
    let answers = call.await.expect("it ends").expect("reserved");
    assert!(gate.reached() >= 4, "{} parts", gate.reached());
    let given = slugs(&answers);
    assert_eq!((given[0], given[2], given[6], given[7]), ("acme", "bolt", "dune", "elm"));
    assert!(
        is_suffixed(given[1], "acme") && is_suffixed(given[4], "acme") && is_suffixed(given[5], "settings")
    );
    assert_eq!(given[8], "elm-street");
    // Repeating it gives the same answer, also from a control that does everything in one transaction.
    for control in [&fixture.control, &fixture.another_in_parts(3, AT_ONCE, nothing()).await] {
        assert_eq!(
            bulk_create(control, "us", operation(1), requested_slugs()).await.expect("answered"),
            answers
        );
    }
    fixture.control.slug_reservations().release("us", operation(2)).await.expect("released");

    // Each part of a confirmation writes its events, and no organization loses what it had.
    let mut reader = Reader::new(&fixture.control, "us", 0).await;
    let (gate, call) = gated_at!(fixture, 4, "control.confirm.part_committed", |control| {
        control.slug_reservations().confirm("us", operation(1)).await
    });
    let reservations = fixture.reservations().await;
    let (primary, temporary) = (of(&reservations, Primary), of(&reservations, TemporaryRenameAlias));
    assert_eq!(primary.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(so_far().await, (Progress::Confirming, 3, 0));
    assert_eq!(temporary.len(), 7 + 1);
    // Repeating it continues it, through any control.
    assert_eq!(fixture.control.slug_reservations().confirm("us", operation(1)).await.expect("confirmed"), 10);
    gate.open();
    assert_eq!(call.await.expect("it ends").expect("confirmed"), 10);
    let confirmed = of(&fixture.reservations().await, Primary);
    assert_eq!(confirmed.values().map(String::as_str).collect::<Vec<_>>(), given);
    reader.reach(12).await;
    let mut reported = reader.slugs();
    reported.sort_unstable_by_key(|slug| reader.slugs[*slug].organization_id);
    assert_eq!(reported, given);

    // The same for a release: from its first part on, the operation is released.
    let (gate, call) = gated_at!(fixture, 5, "control.release.part_committed", |control| {
        control.slug_reservations().release("us", operation(1)).await
    });
    assert_eq!(of(&fixture.reservations().await, Primary).len(), 7);
    assert_eq!(so_far().await, (Progress::Releasing, 10, 3));
    for refused in [
        bulk_create(&fixture.control, "us", operation(1), requested_slugs()).await.map(drop),
        fixture.control.slug_reservations().confirm("us", operation(1)).await.map(drop),
    ] {
        assert!(matches!(refused, Err(Error::OperationReleased { .. })), "{refused:?}");
    }
    call.abort();
    let _aborted = call.await;
    drop(gate);
    assert_eq!(fixture.control.slug_reservations().release("us", operation(1)).await.expect("released"), 10);
    assert_eq!(of(&fixture.reservations().await, Primary).len(), 0);
    assert_eq!(so_far().await, (Progress::Released, 10, 10));
    reader.reach(22).await;
    assert_eq!(reader.slugs(), [] as [&str; 0]);
}

pub(crate) async fn an_operation_that_ends_half_way_goes_on_when_it_is_asked_again(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    for parts in 1..=4 {
        let number = 10 * parts;
        let (gate, failpoints) = Gate::at("control.bulk_create.part_committed");
        let control =
            fixture.another_in_parts(20 + u64::try_from(parts).expect("few"), AT_ONCE, failpoints).await;
        let call =
            tokio::spawn(
                async move { bulk_create(&control, "us", operation(number), requested_slugs()).await },
            );
        for _ in 1..parts {
            gate.there().await;
            gate.go_on();
        }
        gate.there().await;
        call.abort();
        let _aborted = call.await;
        let before = of(&fixture.reservations().await, TemporaryRenameAlias);
        assert!(!before.is_empty(), "{before:?}");
        let other = fixture.another_in_parts(3, AT_ONCE, nothing()).await;
        let answers =
            bulk_create(&other, "us", operation(number), requested_slugs()).await.expect("it goes on");
        let after: BTreeMap<i64, String> =
            answers.iter().map(|it| (it.organization_id, it.slug.clone())).collect();
        assert_eq!(after.len(), 10);
        assert!(before.iter().all(|(id, slug)| after.get(id) == Some(slug)), "{before:?} became {after:?}");
        assert_eq!(of(&fixture.reservations().await, TemporaryRenameAlias), after);
        fixture.control.slug_reservations().release("us", operation(number)).await.expect("released");
        assert_eq!(fixture.reservations().await, []);
    }
}

pub(crate) async fn an_organization_that_turns_out_to_have_a_slug_undoes_the_whole_operation(
    fixture: Fixture,
) {
    let fixture = fixture.with_regions(&["us"]).await;
    let (gate, call) = gated_at!(fixture, 2, "control.bulk_create.part_committed", |control| {
        bulk_create(&control, "us", operation(1), requested_slugs()).await
    });
    // Organization 6 is the last one to get a slug: it wants a reserved word, so it gets none in the first round.
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(6, "between")]).await.expect("reserved");
    gate.open();
    let refused = call.await.expect("it ends").expect_err("it has one");
    assert!(matches!(refused, Error::OrganizationAlreadyReserved { organization_id: 6, .. }), "{refused:?}");
    assert_eq!(of(&fixture.reservations().await, TemporaryRenameAlias).len(), 1, "nothing else is left");
    // The operation id does not belong to anything yet.
    fixture.control.slug_reservations().release("us", operation(2)).await.expect("released");
    let control = fixture.another_in_parts(3, AT_ONCE, nothing()).await;
    assert_eq!(
        bulk_create(&control, "us", operation(1), requested_slugs()).await.expect("reserved").len(),
        10
    );
    // If control knows beforehand that an organization has a slug, it refuses the request before it writes anything.
    let refused =
        bulk_create(&control, "us", operation(3), requested_slugs()).await.expect_err("all have one");
    assert!(matches!(refused, Error::OrganizationAlreadyReserved { .. }), "{refused:?}");
    let unknown = control.slug_reservations().release("us", operation(3)).await;
    assert!(matches!(unknown, Err(Error::OperationNotFound { .. })), "{unknown:?}");
}

/// A control dies while it releases what it had reserved before it found the organization with a slug.
pub(crate) async fn an_operation_that_is_undone_half_way_is_undone_when_it_is_asked_again(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let (reserving, call) = gated_at!(fixture, 2, "control.bulk_create.part_committed", |control| {
        bulk_create(&control, "us", operation(1), requested_slugs()).await
    });
    // The process ends with some slugs reserved. Then another operation gives the last organization a slug.
    reserving.go_on();
    reserving.there().await;
    call.abort();
    let _aborted = call.await;
    bulk_create(&fixture.control, "us", operation(2), vec![wanted(6, "between")]).await.expect("reserved");
    let (withdrawing, call) = gated_at!(fixture, 3, "control.bulk_create.part_withdrawn", |control| {
        bulk_create(&control, "us", operation(1), requested_slugs()).await
    });
    call.abort();
    let _aborted = call.await;
    drop(withdrawing);
    let left = of(&fixture.reservations().await, TemporaryRenameAlias);
    assert!(left.len() > 1 && left.contains_key(&6), "{left:?}");
    let refused = fixture.control.slug_reservations().confirm("us", operation(1)).await;
    assert!(matches!(refused, Err(Error::OperationNotFound { .. })), "{refused:?}");
    // As if it had never been requested: it is refused for the same reason, and leaves nothing.
    let control = fixture.another_in_parts(4, AT_ONCE, nothing()).await;
    let refused =
        bulk_create(&control, "us", operation(1), requested_slugs()).await.expect_err("one has a slug");
    assert!(matches!(refused, Error::OrganizationAlreadyReserved { organization_id: 6, .. }), "{refused:?}");
    assert_eq!(of(&fixture.reservations().await, TemporaryRenameAlias).len(), 1, "nothing else is left");
    fixture.control.slug_reservations().release("us", operation(2)).await.expect("released");
    assert_eq!(
        bulk_create(&control, "us", operation(1), requested_slugs()).await.expect("reserved").len(),
        10
    );
}

pub(crate) async fn an_operation_in_parts_refuses_an_organization_of_another_region(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let is_taken = |refused: &Error| matches!(refused, Error::OrganizationIdTaken { organization_id: 6, region } if region == "de");
    // The other region reserves a slug for organization 6 before this one does.
    let (gate, call) = gated_at!(fixture, 2, "control.bulk_create.part_committed", |control| {
        bulk_create(&control, "us", operation(1), requested_slugs()).await
    });
    bulk_create(&fixture.control, "de", operation(2), vec![wanted(6, "between")]).await.expect("reserved");
    gate.open();
    let refused = call.await.expect("it ends").expect_err("another region has one");
    assert!(is_taken(&refused), "{refused:?}");
    assert_eq!(of(&fixture.reservations().await, TemporaryRenameAlias).len(), 1, "nothing else is left");
    // If control knows beforehand that an organization belongs to another region, it refuses the request before it
    // writes anything.
    let control = fixture.another_in_parts(3, AT_ONCE, nothing()).await;
    let refused = bulk_create(&control, "us", operation(3), requested_slugs())
        .await
        .expect_err("another region has one");
    assert!(is_taken(&refused), "{refused:?}");
    let unknown = control.slug_reservations().release("us", operation(3)).await;
    assert!(matches!(unknown, Err(Error::OperationNotFound { .. })), "{unknown:?}");
}

pub(crate) async fn an_operation_that_was_never_answered_can_only_be_released(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let (gate, call) = gated_at!(fixture, 2, "control.bulk_create.part_committed", |control| {
        bulk_create(&control, "us", operation(1), requested_slugs()).await
    });
    let reservations = fixture.control.slug_reservations();
    let refused = reservations.confirm("us", operation(1)).await;
    assert!(matches!(refused, Err(Error::OperationNotFound { .. })), "{refused:?}");
    let differs = bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await;
    assert!(matches!(differs, Err(Error::OperationContentDiffers { .. })), "{differs:?}");
    assert_eq!(reservations.release("us", operation(1)).await.expect("released"), 3);
    assert_eq!(fixture.reservations().await, []);
    gate.open();
    let refused = call.await.expect("it ends");
    assert!(matches!(refused, Err(Error::OperationReleased { .. })), "{refused:?}");
    assert_eq!(fixture.reservations().await, []);
}

/// The stored answer of an operation of a million organizations has a hundred parts. They go in transactions of their own.
pub(crate) async fn the_answer_of_a_released_operation_is_deleted_in_parts(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    bulk_create(&fixture.control, "us", operation(1), vec![wanted(1, "acme")]).await.expect("reserved");
    let db = fixture.db().await;
    let parts = || Statement::new("SELECT count(*) AS n FROM causeway_slug_operation_answer");
    let left = async || {
        let row = db.fetch_optional(parts()).await.expect("it answers").expect("a row");
        row.int("n").expect("a number")
    };
    for part in 1_i64..10 {
        let copy = Statement::new(
            "INSERT INTO causeway_slug_operation_answer (region, operation_id, part, answers) \
             SELECT region, operation_id, $1, answers FROM causeway_slug_operation_answer WHERE part = 0 RETURNING part",
        );
        db.fetch_all(copy.with(part)).await.expect("copied");
    }
    assert_eq!(left().await, 10);
    let (gate, call) = gated_at!(fixture, 2, "control.release.part_committed", |control| {
        control.slug_reservations().release("us", operation(1)).await
    });
    assert_eq!(left().await, 6);
    let refused = fixture.control.slug_reservations().confirm("us", operation(1)).await;
    assert!(matches!(refused, Err(Error::OperationReleased { .. })), "{refused:?}");
    call.abort();
    let _aborted = call.await;
    drop(gate);
    // Its slug is free from the first part on, and the count stays.
    assert_eq!(fixture.reservations().await, []);
    assert_eq!(fixture.control.slug_reservations().release("us", operation(1)).await.expect("released"), 1);
    assert_eq!(left().await, 0);
    let released =
        fixture.control.slug_reservations().operation("us", operation(1)).await.expect("it is there");
    assert_eq!((released.progress, released.released_count), (Progress::Released, 1));
    db.close().await;
}

async fn reserve_and_confirm(control: &Control, number: u128, slug: &str) -> Result<i64, Error> {
    bulk_create(control, "us", operation(number), vec![wanted(7, slug)]).await?;
    control.slug_reservations().confirm("us", operation(number)).await
}

/// One operation has seen that the organization has no slug when another operation gives it one and is confirmed. No
/// unique set keeps the two apart, because the first reservation is primary by then.
pub(crate) async fn an_organization_gets_one_slug_however_two_operations_meet(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let (gate, failpoints) = Gate::at("control.bulk_create.checked");
    let control = fixture.another_with(2, failpoints).await;
    let first = tokio::spawn(async move { reserve_and_confirm(&control, 1, "acme").await });
    gate.there().await;
    let other = fixture.another(3).await;
    let second = tokio::spawn(async move { reserve_and_confirm(&other, 2, "bolt").await });
    let db = fixture.db().await;
    // SQLite has no such table to check. There, a writer waits before it has read anything.
    while db.dialect() == Dialect::Postgres && !second.is_finished() {
        let waiting = Statement::new("SELECT count(*) AS n FROM pg_locks WHERE NOT granted");
        let row = db.fetch_optional(waiting).await.expect("it answers").expect("a row");
        if row.int("n").expect("a number") > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    gate.open();
    let outcomes = [first.await.expect("it ends"), second.await.expect("it ends")];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let mut refused = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    assert!(refused.all(|error| matches!(error, Error::OrganizationAlreadyReserved { .. })), "{outcomes:?}");
    assert_eq!(fixture.reservations().await.len(), 1);
    db.close().await;
}
