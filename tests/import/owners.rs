//! Rules about the owners of alerts and monitors, each on the smallest export that demonstrates it.

use causeway_harness::{
    account::{Cell, Outcome},
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
};
use causeway_proto::relocation::v1::{Finding, FindingKind};
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};
use serde_json::json;

use crate::support::{USER, cluster, import, kinds};

/// Exports up to 24.4 name an owner by an actor, and the actor's record may be anywhere in the file.
pub(crate) async fn owners_of_older_exports_are_found(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").user(2, "ann").member(3, 1, 2).project(4, 1, "p");
    let owners = [
        (31, json!(7)),
        (32, json!(8)),
        (33, json!(9)),
        (34, json!(10)),
        (35, json!(null)),
        (36, json!("x")),
    ];
    for (pk, owner) in &owners {
        export.push("sentry.rule", *pk, &json!({"project": 4, "label": "r", "data": {}, "owner": owner}));
        let alert = json!({"organization": 1, "name": "a", "threshold_period": 1, "owner": owner});
        export.push("sentry.alertrule", *pk, &alert);
    }
    // An owner in today's fields takes precedence.
    let both = json!({"project": 4, "label": "r", "data": {}, "owner": 7, "owner_user_id": 2});
    export.push("sentry.rule", 37, &both);
    export.push("sentry.actor", 7, &json!({"type": 0, "team": 11, "user_id": null}));
    export.push("sentry.actor", 8, &json!({"type": 1, "team": null, "user_id": 2}));
    export.push("sentry.actor", 9, &json!({"type": 0}));
    export.team(11, 1, "eleven");
    export.push(
        "sentry.team",
        12,
        &json!({"organization": 1, "slug": "t", "name": "t", "actor": 9, "org_role": null}),
    );
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let id = |model: &str, pk: i64| match account.outcome(model, pk) {
        Some(Outcome::Inserted(id)) => Cell::Int(id),
        outcome => panic!("{model} {pk} is {outcome:?}"),
    };
    let (eleven, twelve, ann) = (id("sentry.team", 11), id("sentry.team", 12), id(USER, 2));
    for (model, team, user) in
        [("sentry.rule", "owner_team", "owner_user_id"), ("sentry.alertrule", "team", "user_id")]
    {
        let of = |pk: i64| {
            let row = account.row(model, pk).unwrap_or_else(|| panic!("{model} {pk} is no row"));
            (row[team].clone(), row[user].clone())
        };
        assert_eq!(of(31), (eleven.clone(), Cell::Null), "{model}");
        assert_eq!(of(32), (Cell::Null, ann.clone()), "{model}");
        assert_eq!(of(33), (twelve.clone(), Cell::Null), "{model}");
        for pk in 34..=36 {
            assert_eq!(of(pk), (Cell::Null, Cell::Null), "{model} {pk}");
        }
    }
    let row = account.row("sentry.rule", 37).expect("a row");
    assert_eq!((&row["owner_team"], &row["owner_user_id"]), (&Cell::Null, &ann));
    // Nothing is known of actor 10, and there is no actor x. A null field is not a loss.
    assert_eq!(
        kinds(&account),
        [("CLEARED_REFERENCE", 2), ("REMOVED_FIELD", 2), ("REMOVED_MODEL", 1)].into()
    );
    cluster.stop().await;
}

/// The number refers to a team of the file. Without mapping, it would mean the team with that id in this database.
pub(crate) async fn the_team_that_owns_a_monitor_is_the_one_of_the_file(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "somebody-else").team(1, 1, "theirs").team(2, 1, "theirs-too");
    import(&cluster, &export, &ImportOptions::default()).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").project(4, 1, "p");
    export.team(1, 1, "ours").team(2, 2, "filtered");
    for (pk, team) in [(1, json!(1)), (2, json!(2)), (3, json!(99)), (4, json!(null))] {
        let fields = json!({
            "organization_id": 1, "project_id": 4, "slug": format!("m-{pk}"), "name": "m", "owner_team_id": team,
            "guid": format!("6f0d3e1b-1111-4222-8333-44445555000{pk}"),
        });
        export.push("sentry.monitor", pk, &fields);
    }
    let (_, account) = import(&cluster, &export, &ImportOptions::default().filter(&["one"])).await;
    let Some(Outcome::Inserted(ours)) = account.outcome("sentry.team", 1) else { panic!("it is new") };
    let teams =
        [1, 2, 3, 4].map(|pk| account.row("sentry.monitor", pk).expect("a row")["owner_team_id"].clone());
    assert_eq!(teams, [Cell::Int(ours), Cell::Null, Cell::Null, Cell::Null]);
    assert_eq!(kinds(&account), [("CLEARED_REFERENCE", 2)].into());
    cluster.stop().await;
}

/// Adds the checks of the product's own tables. On SQLite they are triggers.
async fn add_checks_of_the_product(cluster: &Cluster, store: Store) {
    let exactly_one = "(rule_id IS NULL) <> (alert_rule_id IS NULL)";
    let at_most_one = "owner_team_id IS NULL OR owner_user_id IS NULL";
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    for (table, check) in
        [("sentry_rulesnooze", exactly_one), ("sentry_rule", at_most_one), ("sentry_monitor", at_most_one)]
    {
        let of_new = check.replace("rule_id", "NEW.rule_id").replace("alert_NEW.", "NEW.alert_");
        let of_new = of_new.replace("owner_", "NEW.owner_");
        let sql = match store {
            Store::Postgres => format!("ALTER TABLE {table} ADD CONSTRAINT own_check CHECK ({check})"),
            Store::Sqlite => format!(
                "CREATE TRIGGER own_check_{table} BEFORE INSERT ON {table} WHEN NOT ({of_new}) \
                 BEGIN SELECT RAISE(ABORT, 'own check'); END"
            ),
        };
        let added: Result<(), DbError> = transact!(DbError, &db, |tx| {
            tx.execute(Statement::new("").push(&sql)).await?;
        });
        added.expect("a check");
    }
}

/// The product's database accepts what the plan accepts: it has checks that two owners of one thing would violate.
pub(crate) async fn two_owners_of_one_thing_arrive_as_one(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    add_checks_of_the_product(&cluster, store).await;
    let mut export = Export::new();
    export.organization(1, "one").user(2, "ann").member(3, 1, 2).project(4, 1, "p").team(5, 1, "t");
    let rule = |team: i64, user: i64| json!({"project": 4, "label": "r", "data": {}, "owner_team": team, "owner_user_id": user});
    export.push("sentry.rule", 1, &rule(5, 2));
    // The team does not exist, so only one of the two owners is left.
    export.push("sentry.rule", 2, &rule(99, 2));
    for (pk, team) in [(1, json!(5)), (2, json!(99)), (3, json!(null))] {
        let fields = json!({
            "organization_id": 1, "project_id": 4, "slug": format!("m-{pk}"), "name": "m", "owner_team_id": team,
            "owner_user_id": 2, "guid": format!("6f0d3e1b-1111-4222-8333-44445555000{pk}"),
        });
        export.push("sentry.monitor", pk, &fields);
    }
    let dry = cluster.region(0).import(&export.to_bytes(), &ImportOptions::default().dry_run()).await;
    let dry = dry.expect("it ends");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    let id = |model: &str, pk: i64| match account.outcome(model, pk) {
        Some(Outcome::Inserted(id)) => Cell::Int(id),
        outcome => panic!("{model} {pk} is {outcome:?}"),
    };
    let (team, ann) = (id("sentry.team", 5), id(USER, 2));
    let owners = |model: &str, pk: i64, field: &str| {
        let row = account.row(model, pk).unwrap_or_else(|| panic!("{model} {pk} is no row"));
        (row[field].clone(), row["owner_user_id"].clone())
    };
    assert_eq!(owners("sentry.rule", 1, "owner_team"), (team.clone(), Cell::Null));
    assert_eq!(account.outcome("sentry.rule", 2), Some(Outcome::Dropped));
    assert_eq!(owners("sentry.monitor", 1, "owner_team_id"), (team, Cell::Null));
    assert_eq!(owners("sentry.monitor", 2, "owner_team_id"), (Cell::Null, ann.clone()));
    assert_eq!(owners("sentry.monitor", 3, "owner_team_id"), (Cell::Null, ann));
    assert_eq!(kinds(&account), [("CLEARED_REFERENCE", 3), ("DROPPED_REFERENCE", 1)].into());

    let place = |finding: &Finding| (finding.model.clone(), finding.source_pk, finding.field.clone());
    let cleared = |findings: &[Finding], reported: &str| -> Vec<(String, i64, String)> {
        let cleared = findings.iter().filter(|it| it.kind() == FindingKind::ClearedReference);
        cleared.filter(|it| it.reason.contains(reported) && it.byte_offset > 0).map(place).collect()
    };
    let user = "owner_user_id".to_owned();
    let two = [("sentry.monitor".to_owned(), 1, user.clone()), ("sentry.rule".to_owned(), 1, user)];
    for (mut found, reported) in [
        (cleared(&account.findings, "was set together with owner_team"), "the import"),
        (
            cleared(
                &cluster.region(0).findings(&dry.import_id).await.expect("a list"),
                "is set together with owner_team",
            ),
            "the dry run",
        ),
    ] {
        found.sort();
        assert_eq!(found, two, "{reported}");
    }
    cluster.stop().await;
}

/// No record of an export with all kinds of records violates the checks of the product's tables.
pub(crate) async fn every_model_arrives_in_tables_with_the_products_checks(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    add_checks_of_the_product(&cluster, store).await;
    let export = causeway_harness::export::exhaustive().expect("an export");
    let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
    for model in ["sentry.rulesnooze", "sentry.rule", "sentry.monitor"] {
        assert!(account.after.rows(model).len() > 1, "{model}");
    }
    cluster.stop().await;
}
