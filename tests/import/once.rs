//! One import into empty databases.

use std::path::Path;

use causeway_harness::{
    account::{Audit, Outcome},
    cluster::{ImportOptions, Silo, Store},
    export::{Export, OTHER_SLUG, OTHER_SOURCE_ID, SLUG, SOURCE_ID},
};
use causeway_proto::region::v1::{GetOrganizationRequest, ImportState, get_organization_request::By};
use causeway_proto::relocation::v1::{ErrorReason, FindingKind};
use causeway_relocation::catalog::Catalog;
use causeway_silo::{
    db::{DbError, Statement},
    transact,
};

use crate::support::{
    ORGANIZATION, cluster, exhaustive, import, import_bytes, kinds, refused, reported, rows_now,
};

pub(crate) async fn every_model_arrives_as_the_file_has_it(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let (import, account) = import(&cluster, &exhaustive(), &ImportOptions::default()).await;
    let added = reported(&account, FindingKind::RowAdded);
    assert_eq!(account.inserted() + added, account.after.row_count());
    assert_eq!(added, 4, "the export has four projects without a key");
    let written = Catalog::load().expect("the catalog").written().count();
    // Records of these need a record of a model that no export of organizations has, so none of them arrives.
    let never = ["sentry.codereviewevent", "workflow_engine.workflowgroupstatus"];
    assert_eq!(import.models.iter().filter(|counts| counts.inserted > 0).count(), written - never.len());
    for model in never {
        let counts = import.models.iter().find(|counts| counts.model == model).expect("it is counted");
        assert_eq!((counts.seen, counts.dropped), (2, 2), "{model}");
    }
    assert_eq!(account.count(|outcome| matches!(outcome, Outcome::Existing(_) | Outcome::Filtered)), 0);
    let slugs: Vec<&str> = import.organizations.iter().map(|it| it.slug.as_str()).collect();
    assert_eq!(slugs, [SLUG, OTHER_SLUG]);
    // No other row had a value: the regenerated keys and made slugs replace missing ones.
    let expected = [
        ("CLEARED_REFERENCE", 4),
        ("DROPPED_REFERENCE", 8),
        ("ID_NOT_MAPPED", 2),
        ("KEY_REGENERATED", 4),
        ("OUT_OF_SCOPE", 13),
        ("REMOVED_FIELD", 1),
        ("REMOVED_MODEL", 1),
        ("SKIPPED_BY_RULE", 2),
        ("SLUG_MADE", 8),
        ("UNEXPECTED_MODEL", 2),
        ("UNKNOWN_FIELD", 2),
        ("UNKNOWN_MODEL", 1),
    ];
    assert_eq!(kinds(&account), expected.into());
    cluster.stop().await;
}

/// Tests the audit itself, with databases in which something is wrong.
pub(crate) async fn a_row_that_is_not_as_the_file_has_it_is_noticed(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let (export, options) = (exhaustive().to_bytes(), ImportOptions::default());
    let before = rows_now(&cluster, 0).await;
    let import = cluster.region(0).import(&export, &options).await.expect("the import ends");
    let audit = || Audit::new(&cluster, 0, &before, &export, &options, &import).run();
    audit().await.expect("all is well");
    let damages = [
        (Silo::Region(0), "UPDATE sentry_rule SET label = 'x' WHERE id = 1", ": label is Text(\"x\")"),
        (Silo::Region(0), "UPDATE sentry_monitor SET type = type + 1 WHERE id = 1", ": type is Int("),
        (
            Silo::Region(0),
            "UPDATE sentry_monitor SET is_muted = NOT is_muted WHERE id = 1",
            ": is_muted is Bool(",
        ),
        (
            Silo::Region(0),
            "UPDATE sentry_dashboard SET filters = '{\"project\":[1]}' WHERE id = 1",
            ": filters is Json(",
        ),
        (Silo::Region(0), "UPDATE sentry_environment SET name = 'x' WHERE id = 1", ": name is Text(\"x\")"),
        (Silo::Region(0), "DELETE FROM sentry_ruleactivity WHERE id = 1", "which is not there"),
        (Silo::Region(0), "UPDATE sentry_projectbookmark SET user_id = user_id + 1", ": user_id is Int("),
        (
            Silo::Region(0),
            "UPDATE sentry_querysubscription SET subscription_id = 'x' WHERE id = 1",
            ": subscription_id is",
        ),
        (
            Silo::Region(0),
            "UPDATE sentry_incident SET detection_uuid = NULL WHERE id = 1",
            ": detection_uuid is Null",
        ),
        (Silo::Region(0), "UPDATE sentry_organization SET status = 3", ": status is Int(3)"),
        (
            Silo::Region(0),
            "UPDATE sentry_organizationmember SET user_email = 'x' WHERE id = 1",
            ": user_email is",
        ),
        (Silo::Region(0), "UPDATE sentry_projectkey SET public_key = 'x' WHERE id = 1", "share a public_key"),
        (
            Silo::Region(0),
            "INSERT INTO sentry_neglectedrule SELECT id + 70, rule_id, organization_id, disable_date, opted_out, \
             sent_initial_email_date, sent_final_email_date FROM sentry_neglectedrule WHERE id = 1",
            "of sentry.neglectedrule is of no record",
        ),
        (
            Silo::Control,
            "UPDATE auth_user SET is_superuser = true WHERE id = 1",
            ": is_superuser is Bool(true)",
        ),
        (Silo::Control, "UPDATE auth_user SET password = 'x' WHERE id = 1", ": password is Text(\"x\")"),
        (
            Silo::Control,
            "UPDATE sentry_useremail SET is_verified = true WHERE id = 1",
            ": is_verified is Bool(true)",
        ),
        (Silo::Control, "DELETE FROM sentry_useroption WHERE id = 1", "- sentry.useroption"),
        (
            Silo::Control,
            "UPDATE causeway_organization_slug_reservation SET type = 'temporary_rename_alias' WHERE slug = 'acme'",
            "TemporaryRenameAlias",
        ),
    ];
    for (silo, damage, _) in damages {
        let db = cluster.db(silo).await.expect("a database");
        let changed = transact!(DbError, db, |tx| { tx.execute(Statement::new(damage)).await? });
        assert!(changed.expect("the statement runs") > 0, "{damage}");
    }
    let error = audit().await.expect_err("nothing is well").to_string();
    for (_, damage, noticed) in damages {
        assert!(error.contains(noticed), "{damage}: {error}");
    }
    cluster.stop().await;
}

pub(crate) async fn organizations_may_stay_hidden(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let options = ImportOptions::default().hide_organizations();
    let (import, account) = import(&cluster, &exhaustive(), &options).await;
    assert_eq!(import.state(), ImportState::Succeeded);
    // A person who shows the organizations must know that one of them was about to be deleted.
    let reported = account.findings_of(FindingKind::HiddenStatus);
    assert!(
        matches!(reported[..], [one] if one.source_pk == SOURCE_ID && one.reason.contains("1 (pending deletion)")),
        "{reported:?}"
    );
    assert_eq!(cluster.region(0).visible_organizations().await.expect("a list"), []);
    for source_id in [SOURCE_ID, OTHER_SOURCE_ID] {
        let Some(Outcome::Inserted(id)) = account.outcome(ORGANIZATION, source_id) else {
            panic!("{account:?}")
        };
        let request = GetOrganizationRequest { by: Some(By::Id(id)) };
        let answer = cluster.region(0).organizations().get_organization(request).await;
        assert_eq!(refused(answer), ErrorReason::OrganizationNotFound);
    }
    // Their slugs are reserved all the same.
    assert_eq!(account.after.reservations().len(), 2);
    cluster.stop().await;
}

pub(crate) async fn the_order_of_the_records_makes_no_difference(store: Store) {
    let export = exhaustive();
    let mut all = Vec::new();
    for export in [export.clone(), export.clone().reversed(), export.shuffled(7)] {
        let cluster = cluster(store, &["us"]).await;
        let (_, account) = import(&cluster, &export, &ImportOptions::default()).await;
        let mut rows = account.rows_by_source().expect("rows");
        for ((model, _), row) in &mut rows {
            // Values that are random, or the time of the import.
            for field in [
                "password",
                "last_password_change",
                "validation_hash",
                "date_hash_added",
                "guid",
                "detection_uuid",
                "notification_uuid",
            ] {
                row.remove(field);
            }
            if account.after.rows(model).is_empty() {
                panic!("no rows of {model}");
            }
            row.retain(|field, _| !matches!(field.as_str(), "date_updated" | "date_modified"));
            if row.get("label").is_some() && model == "sentry.projectkey" {
                row.retain(|field, _| !field.ends_with("_key"));
            }
        }
        all.push(rows);
        cluster.stop().await;
    }
    assert_eq!(all[0], all[1], "in order and reversed");
    assert_eq!(all[0], all[2], "in order and shuffled");
}

pub(crate) async fn a_file_without_records_is_an_import_of_nothing(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let (import, account) = import(&cluster, &Export::new(), &ImportOptions::default()).await;
    assert_eq!((import.models.len(), account.after.row_count()), (0, 0));
    assert_eq!(account.after.reservations(), []);
    cluster.stop().await;
}

/// The example export of the README, which the project itself wrote.
pub(crate) async fn the_example_arrives(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.json");
    let example = std::fs::read(example).expect("the example");
    let (import, account) = import_bytes(&cluster, &example, &ImportOptions::default()).await;
    assert_eq!(import.organization_count, 3);
    assert!(import.models.iter().filter(|counts| counts.inserted > 0).count() >= 20);
    assert!(kinds(&account).contains_key("SLUG_CHANGED"), "a reserved slug and one that is not ASCII");
    cluster.stop().await;
}

/// Parts of an export, in random order, with various options, on top of each other.
pub(crate) async fn any_part_of_an_export_adds_up(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    for (seed, tenths_lost) in [(1, 1), (2, 3), (3, 2), (4, 4), (6, 0)] {
        let mut export = exhaustive().shuffled(seed);
        export.records.truncate(export.records.len() * (10 - tenths_lost) / 10);
        let export = if seed % 2 == 0 { export } else { export.in_order().expect("the catalog") };
        let has =
            |pk: i64| export.records.iter().any(|record| record.model == ORGANIZATION && record.pk == pk);
        let filter: Option<&[&str]> = match seed % 3 {
            1 if has(SOURCE_ID) => Some(&[SLUG, "nobody"]),
            2 if has(OTHER_SOURCE_ID) => Some(&[OTHER_SLUG]),
            _ => None,
        };
        let options = ImportOptions {
            filter: filter.map(|slugs| slugs.iter().map(|slug| (*slug).to_owned()).collect()),
            merge_users: seed > 2,
            hide_organizations: seed == 4,
            ..ImportOptions::default()
        };
        import(&cluster, &export, &options).await;
    }
    cluster.stop().await;
}
