//! The audit log in the database: rows with their changes, the chain, what the database refuses, and retention.

use std::{sync::Arc, time::Duration};

use causeway_audit::{
    Call, Entry, Subject, append,
    chain::{Broken, Link, Verifier, hash_of},
    store::{self, BATCH, Filter},
};
use causeway_control::Error;
use causeway_silo::{
    db::{Db, DbError, DbErrorKind, Dialect, Statement},
    env::Failpoints,
    transact,
};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::support::{Fixture, bulk_create, now, operation, wanted};

/// All rows, the newest first.
async fn rows(db: &Db) -> Vec<Entry> {
    let rows = store::list(db, &Filter::default(), None, 10_000).await.expect("listed");
    rows.into_iter().map(|(entry, _)| entry).collect()
}

async fn objects(db: &Db) -> Vec<String> {
    let mut objects: Vec<String> = rows(db).await.into_iter().map(|entry| entry.object).collect();
    objects.reverse();
    objects
}

/// Appends rows about organizations from `first` on, all in one transaction.
async fn append_many(db: &Db, first: i64, count: i64, time: DateTime<Utc>) {
    let appended: Result<(), DbError> = transact!(DbError, db, |tx| {
        for number in 0..count {
            append(tx, &Subject::organization(first + number), time).await?;
        }
    });
    appended.expect("appended");
}

/// Adds all rows to the chain that are to be added.
async fn seal_all(db: &Db) {
    while store::unsealed(db).await.expect("counted").0 > 0 {
        store::seal(db).await.expect("sealed");
    }
}

/// Deletes rows as a control does by itself.
async fn delete_older(db: &Db, horizon: DateTime<Utc>) -> Result<i64, DbError> {
    let call = Call::own(operation(9), "control", store::DELETE);
    store::delete_older(db, horizon, &call, now()).await
}

/// Checks the whole chain, and returns its head.
async fn verified(db: &Db, expected: Option<Link>) -> Result<Link, Broken> {
    let base = store::base(db).await.expect("a beginning");
    let mut verifier = Verifier::new(base, expected)?;
    loop {
        let page = store::seals(db, verifier.head().position, 100).await.expect("a page");
        if page.is_empty() {
            return verifier.finish(base);
        }
        for sealed in page {
            verifier.next(sealed.position, &sealed.hash, sealed.entry.as_ref())?;
        }
    }
}

async fn execute(db: &Db, statements: &[String]) -> Result<(), DbError> {
    transact!(DbError, db, |tx| {
        for statement in statements {
            tx.execute(Statement::new("").push(statement)).await?;
        }
    })
}

/// Does what only somebody can do who owns the tables: changes them without their triggers.
async fn tamper(db: &Db, statements: &[&str]) {
    let guards = match db.dialect() {
        Dialect::Postgres => ["causeway_audit", "causeway_audit_seal", "causeway_audit_state"]
            .map(|table| format!("ALTER TABLE {table} DISABLE TRIGGER USER"))
            .to_vec(),
        Dialect::Sqlite => ["", "_seal", "_state"]
            .iter()
            .flat_map(|table| {
                ["update", "delete"]
                    .map(|what| format!("DROP TRIGGER IF EXISTS causeway_audit{table}_{what}"))
            })
            .collect(),
    };
    let statements = statements.iter().map(|statement| (*statement).to_owned());
    execute(db, &guards.into_iter().chain(statements).collect::<Vec<_>>()).await.expect("changed");
}

pub(crate) async fn a_change_and_its_row_are_one(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let db = fixture.db().await;
    assert_eq!(objects(&db).await, ["region/us"]);
    let fails: Arc<Failpoints> = Arc::new(|place| {
        Box::pin(async move {
            match place {
                "control.bulk_create.prepared" | "control.release.prepared" => {
                    Err(DbError::inconsistent("on purpose"))
                }
                _ => Ok(()),
            }
        })
    });
    let failing = fixture.another_with(2, fails).await;
    let create = async |control| bulk_create(control, "us", operation(1), vec![wanted(7, "acme")]).await;
    create(&failing).await.expect_err("it fails before the commit");
    assert_eq!(objects(&db).await, ["region/us"], "no row of what was rolled back");

    let operation_object = format!("operation/{}", operation(1));
    for _ in 0..2 {
        create(&fixture.control).await.expect("reserved");
        assert_eq!(objects(&db).await, ["region/us", &operation_object], "one row, also if it is repeated");
    }
    let reservations = fixture.control.slug_reservations();
    let released = failing.slug_reservations().release("us", operation(1)).await;
    released.expect_err("it fails before the commit");
    assert_eq!(objects(&db).await.len(), 2);
    for _ in 0..2 {
        reservations.confirm("us", operation(1)).await.expect("confirmed");
        assert_eq!(objects(&db).await.len(), 3);
    }
    for _ in 0..2 {
        reservations.release("us", operation(1)).await.expect("released");
        assert_eq!(objects(&db).await.len(), 4);
    }
    // Registering again as before changes nothing that anybody would ask for.
    let instance = Uuid::from_u128(1000);
    let regions = fixture.control.regions();
    regions.register("us", "https://us.example.com", instance).await.expect("registered");
    assert_eq!(objects(&db).await.len(), 4);
    regions.register("us", "https://us-2.example.com", instance).await.expect("registered");
    assert_eq!(objects(&db).await.len(), 5);
    let taken = regions.register("us", "https://us-3.example.com", Uuid::from_u128(7)).await;
    assert!(matches!(taken, Err(Error::RegionNameTaken { .. })), "{taken:?}");
    assert_eq!(objects(&db).await.len(), 5);
    failing.stop().await;
}

pub(crate) async fn an_operation_in_parts_has_one_row_for_each_decision(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let in_parts = fixture.another_in_parts(2, 10, Arc::new(|_| Box::pin(async { Ok(()) }))).await;
    let all = (1..=45).map(|id| wanted(id, &format!("slug-{id}"))).collect();
    bulk_create(&in_parts, "us", operation(1), all).await.expect("reserved");
    let db = fixture.db().await;
    assert_eq!(objects(&db).await.len(), 2);
    let reservations = in_parts.slug_reservations();
    assert_eq!(reservations.confirm("us", operation(1)).await.expect("confirmed"), 45);
    assert_eq!(objects(&db).await.len(), 3);
    assert_eq!(reservations.release("us", operation(1)).await.expect("released"), 45);
    assert_eq!(objects(&db).await.len(), 4);
    in_parts.stop().await;
}

pub(crate) async fn rows_are_never_changed_or_deleted_by_hand(fixture: Fixture) {
    let db = fixture.db().await;
    append_many(&db, 1, 3, now()).await;
    seal_all(&db).await;
    let before = (rows(&db).await, store::seals(&db, 0, 100).await.expect("the chain"));
    for statement in [
        "UPDATE causeway_audit SET who = 'nobody'",
        "UPDATE causeway_audit_seal SET hash = ''",
        "UPDATE causeway_audit_seal SET position = position + 10",
        "DELETE FROM causeway_audit",
        "DELETE FROM causeway_audit WHERE object = 'organization/1'",
        "DELETE FROM causeway_audit_seal",
        "DELETE FROM causeway_audit_state",
        "UPDATE causeway_audit_state SET base_position = 2",
        "UPDATE causeway_audit_state SET base_position = -1",
    ] {
        let error = execute(&db, &[statement.to_owned()]).await.expect_err(statement);
        assert_eq!(error.kind(), DbErrorKind::Other, "{statement}: {error}");
    }
    if db.dialect() == Dialect::Postgres {
        for statement in
            ["TRUNCATE causeway_audit", "TRUNCATE causeway_audit_seal", "TRUNCATE causeway_audit_state"]
        {
            execute(&db, &[statement.to_owned()]).await.expect_err(statement);
        }
    }
    assert_eq!((rows(&db).await, store::seals(&db, 0, 100).await.expect("the chain")), before);
}

pub(crate) async fn what_somebody_does_to_the_log_is_found(fixture: Fixture) {
    let db = fixture.db().await;
    append_many(&db, 1, 6, now()).await;
    seal_all(&db).await;
    let head = verified(&db, None).await.expect("it is whole");
    assert_eq!(head.position, 6);

    tamper(&db, &["UPDATE causeway_audit SET object = 'organization/9' WHERE object = 'organization/2'"])
        .await;
    assert!(matches!(verified(&db, None).await, Err(Broken::HashDiffers { position: 2, .. })));
    tamper(&db, &["UPDATE causeway_audit SET object = 'organization/2' WHERE object = 'organization/9'"])
        .await;
    assert_eq!(verified(&db, None).await, Ok(head));

    let swap = [
        "UPDATE causeway_audit_seal SET audit_id = -1 WHERE position = 3",
        "UPDATE causeway_audit_seal SET audit_id = \
         (SELECT audit_id FROM causeway_audit_seal WHERE position = 4) * -1 WHERE position = 3",
        "UPDATE causeway_audit_seal SET audit_id = \
         (SELECT min(id) FROM causeway_audit WHERE object = 'organization/3') WHERE position = 4",
        "UPDATE causeway_audit_seal SET audit_id = audit_id * -1 WHERE position = 3",
    ];
    tamper(&db, &swap).await;
    assert!(matches!(verified(&db, None).await, Err(Broken::HashDiffers { position: 3, .. })));
    let back = [
        "UPDATE causeway_audit_seal SET audit_id = -1 WHERE position = 3",
        "UPDATE causeway_audit_seal SET audit_id = \
         (SELECT min(id) FROM causeway_audit WHERE object = 'organization/4') WHERE position = 4",
        "UPDATE causeway_audit_seal SET audit_id = \
         (SELECT min(id) FROM causeway_audit WHERE object = 'organization/3') WHERE position = 3",
    ];
    tamper(&db, &back).await;
    assert_eq!(verified(&db, None).await, Ok(head));

    let copy = "INSERT INTO causeway_audit (time, request_id, who, address, call, object, outcome, reason, left_out) \
                SELECT time, request_id, 'somebody', address, call, 'organization/99', outcome, reason, left_out \
                FROM causeway_audit WHERE object = 'organization/1'";
    tamper(&db, &[copy]).await;
    store::seal(&db).await.expect("there is nothing to add");
    assert_eq!(store::unsealed(&db).await.expect("counted"), (0, 1), "a row that nothing has appended");
    tamper(&db, &["DELETE FROM causeway_audit WHERE object = 'organization/99'"]).await;

    tamper(
        &db,
        &[
            "DELETE FROM causeway_audit WHERE object = 'organization/6'",
            "DELETE FROM causeway_audit_seal WHERE position = 6",
        ],
    )
    .await;
    assert_eq!(verified(&db, None).await.map(|head| head.position), Ok(5));
    assert_eq!(verified(&db, Some(head)).await, Err(Broken::EndsEarly { end: 5, expected: 6 }));

    // A new end has another hash.
    append_many(&db, 7, 1, now()).await;
    seal_all(&db).await;
    assert_eq!(verified(&db, Some(head)).await, Err(Broken::NotExpected(6)));

    tamper(&db, &["DELETE FROM causeway_audit WHERE object = 'organization/3'"]).await;
    assert_eq!(verified(&db, None).await, Err(Broken::EntryGone(3)));
    tamper(&db, &["DELETE FROM causeway_audit_seal WHERE position = 3"]).await;
    assert_eq!(verified(&db, None).await, Err(Broken::Gap { after: 2, found: 4 }));
    // Retention does not hide it.
    let error = delete_older(&db, now() + TimeDelta::days(1)).await.expect_err("a position is gone");
    assert!(error.to_string().contains("what follows position 2"), "{error}");
}

pub(crate) async fn old_rows_go_and_the_chain_stays_whole(fixture: Fixture) {
    let db = fixture.db().await;
    // Younger than what a control deletes by itself.
    let (old, horizon) = (now() - TimeDelta::days(300), now() - TimeDelta::days(200));
    append_many(&db, 1, BATCH + 20, old).await;
    append_many(&db, 10_001, 5, now()).await;
    seal_all(&db).await;
    let head = verified(&db, None).await.expect("it is whole");
    append_many(&db, 20_001, 1, old).await;
    let noted = {
        let sealed = store::seals(&db, BATCH + 20, 1).await.expect("a page").remove(0);
        Link { position: sealed.position, hash: hash_of(&sealed.hash).expect("a hash") }
    };

    assert_eq!(delete_older(&db, horizon).await.expect("deleted"), BATCH);
    assert_eq!(store::base(&db).await.expect("a beginning").position, BATCH);
    assert_eq!(delete_older(&db, horizon).await.expect("deleted"), 20);
    assert_eq!(delete_older(&db, horizon).await.expect("deleted"), 0);
    let left: Vec<String> = objects(&db).await;
    assert_eq!(left.len(), 8, "the young ones, one that came late, and two about the beginning: {left:?}");
    verified(&db, Some(noted)).await.expect("it is whole");
    let early = Link { position: 3, hash: [0; 32] };
    assert_eq!(
        verified(&db, Some(early)).await,
        Err(Broken::BeginsLater { begins: BATCH + 20, expected: 3 })
    );
    // The row that came late is the last of the chain. It goes when all before it are old.
    seal_all(&db).await;
    assert_eq!(delete_older(&db, horizon).await.expect("deleted"), 0);
    assert_eq!(verified(&db, Some(head)).await.map(|head| head.position), Ok(BATCH + 28));
    assert_eq!(delete_older(&db, now() + TimeDelta::days(1)).await.expect("deleted"), 8);
    // What is left says where the chain begins, and who has deleted what was before that.
    let base = store::base(&db).await.expect("a beginning");
    let left = rows(&db).await;
    let [Entry { who, call, object, outcome, .. }] = &left[..] else { panic!("{left:?}") };
    assert_eq!(base.position, BATCH + 28);
    assert_eq!(
        [who.as_str(), call, object, outcome],
        ["control", "delete old entries", &format!("audit/{base}"), "OK"]
    );
    append_many(&db, 30_001, 1, now()).await;
    seal_all(&db).await;
    assert_eq!(verified(&db, None).await.map(|head| head.position), Ok(BATCH + 30));
}

pub(crate) async fn a_beginning_that_was_cut_off_is_found(fixture: Fixture) {
    let db = fixture.db().await;
    append_many(&db, 1, 3, now() - TimeDelta::days(300)).await;
    append_many(&db, 4, 6, now()).await;
    seal_all(&db).await;
    // Does what retention does to the tables: the beginning moves after this position.
    let cut = async |position: i64| {
        let (seals, state) = ("causeway_audit_seal", "causeway_audit_state");
        let statements = [
            format!(
                "UPDATE {state} SET base_position = {position}, \
                 base_hash = (SELECT hash FROM {seals} WHERE position = {position})"
            ),
            format!(
                "DELETE FROM causeway_audit WHERE id IN (SELECT audit_id FROM {seals} WHERE position <= {position})"
            ),
            format!("DELETE FROM {seals} WHERE position <= {position}"),
        ];
        execute(&db, &statements).await.expect("the triggers take it");
    };
    let moved = |begins, recorded| Err(Broken::BeginningMoved { begins, recorded });

    assert_eq!(delete_older(&db, now() - TimeDelta::days(200)).await.expect("deleted"), 3);
    let head = verified(&db, None).await.expect("retention has recorded it");
    assert_eq!(head.position, 10);
    // Nobody has to switch off a trigger for this.
    cut(5).await;
    assert_eq!(verified(&db, None).await, moved(5, 3));
    assert_eq!(verified(&db, Some(head)).await, moved(5, 3), "the head alone is what was noted");
    // Retention does not hide it.
    let error = delete_older(&db, now() + TimeDelta::days(1)).await.expect_err("it is not its beginning");
    assert!(error.to_string().contains("does not say that it begins after position 5"), "{error}");
    assert_eq!(verified(&db, None).await, moved(5, 3));
    cut(10).await;
    assert_eq!(verified(&db, None).await, moved(10, 0), "the whole chain is gone");
}

/// Controls store entries for 400 days if nothing else is set.
pub(crate) async fn a_control_deletes_what_is_too_old(fixture: Fixture) {
    let db = fixture.db().await;
    append_many(&db, 1, 3, now() - TimeDelta::days(401)).await;
    append_many(&db, 4, 2, now() - TimeDelta::days(399)).await;
    seal_all(&db).await;
    let another = fixture.another(2).await;
    let deleted = async {
        while store::base(&db).await.expect("a beginning").position < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), deleted).await.expect("a control does it");
    let beginning = format!("audit/{}", store::base(&db).await.expect("a beginning"));
    assert_eq!(objects(&db).await, ["organization/4", "organization/5", &beginning]);
    assert_eq!(verified(&db, None).await.map(|head| head.position), Ok(6));
    assert_eq!(delete_older(&db, now() - TimeDelta::days(400)).await.expect("it can be looked for"), 0);
    assert_eq!(objects(&db).await.len(), 3);
    another.stop().await;
}

pub(crate) async fn several_controls_make_one_chain(fixture: Fixture) {
    let others = [fixture.another(2).await, fixture.another(3).await];
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let db = fixture.db().await;
        tasks.spawn(async move {
            for number in 0..25 {
                append_many(&db, writer * 1_000 + number, 2, now()).await;
            }
        });
        let db = fixture.db().await;
        tasks.spawn(async move {
            for _ in 0..25 {
                store::seal(&db).await.expect("sealed");
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("it ends");
    }
    let db = fixture.db().await;
    seal_all(&db).await;
    assert_eq!(verified(&db, None).await.map(|head| head.position), Ok(200));
    assert_eq!(store::unsealed(&db).await.expect("counted"), (0, 0));
    for other in others {
        other.stop().await;
    }
}

pub(crate) async fn rows_get_into_the_chain_by_themselves(fixture: Fixture) {
    let db = fixture.db().await;
    append_many(&db, 1, 3, now()).await;
    let sealed = async {
        while store::seals(&db, 0, 10).await.expect("a page").len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sealed).await.expect("a control does it");
    verified(&db, None).await.expect("it is whole");
    // A control that stops leaves nothing to be added.
    append_many(&db, 4, 3, now()).await;
    fixture.control.stop().await;
    assert_eq!(store::unsealed(&db).await.expect("counted"), (0, 0));
}
