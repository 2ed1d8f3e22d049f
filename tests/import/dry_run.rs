//! A dry run predicts exactly what the import after it does, and writes nothing.

use std::{collections::BTreeMap, time::Duration};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::{self, Export, OTHER_SLUG, SLUG},
};
use causeway_proto::{
    control::v1::SlugVerdict,
    region::v1::{Import, ImportState, ImportedOrganization, ListFindingsRequest},
    relocation::v1::{ErrorReason, Finding, FindingKind, Severity},
};
use causeway_silo::{
    db::{Db, DbError, Dialect, Statement},
    transact,
};
use serde_json::json;

use crate::{
    encrypted,
    revert::revert,
    support::{MEMBER, ORGANIZATION, cluster, eventually, exhaustive, refused},
};

/// The tables in which a dry run keeps its own records.
const OF_IMPORTS: [&str; 5] = [
    "causeway_import",
    "causeway_import_model",
    "causeway_import_organization",
    "causeway_import_finding",
    "causeway_import_finding_count",
];

/// Every row of every table of a database, and the position of every sequence.
async fn dump(db: &Db) -> BTreeMap<String, Vec<String>> {
    let all = async |sql: Statement| db.fetch_all(sql).await.expect("the database answers");
    let (tables, sequences) = match db.dialect() {
        Dialect::Postgres => (
            Statement::new("SELECT tablename::text AS name FROM pg_tables WHERE schemaname = 'public'"),
            Some(Statement::new(
                "SELECT sequencename || ' ' || COALESCE(last_value, 0) AS row FROM pg_sequences \
                 WHERE sequencename NOT LIKE 'causeway_import_finding%' AND sequencename NOT LIKE 'causeway_audit%' ORDER BY 1",
            )),
        ),
        Dialect::Sqlite => (
            Statement::new(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            ),
            None,
        ),
    };
    let mut dump = BTreeMap::new();
    for table in all(tables).await {
        let table = table.text("name").expect("a name");
        // A service writes to `causeway_health` now and then, to check that it can. That somebody has made a dry run is
        // in the audit log, and that a region plans it is known to control.
        let others = ["causeway_health", "causeway_import_plan"].contains(&table.as_str())
            || table.starts_with("causeway_audit");
        if OF_IMPORTS.contains(&table.as_str()) || others {
            continue;
        }
        let select = match db.dialect() {
            // When control last heard from a region shows nothing about a dry run.
            Dialect::Postgres => {
                Statement::new("SELECT CAST(to_jsonb(t) - 'last_contact_at' AS text) AS row FROM ")
                    .push(&format!("\"{table}\" t ORDER BY 1"))
            }
            Dialect::Sqlite => {
                let columns = Statement::new("SELECT name FROM pragma_table_info(")
                    .arg(&table)
                    .push(") WHERE name <> 'last_contact_at'");
                let quoted: Vec<String> = all(columns)
                    .await
                    .iter()
                    .map(|row| format!("quote(\"{}\")", row.text("name").expect("a name")))
                    .collect();
                Statement::new("SELECT ")
                    .push(&quoted.join(" || ',' || "))
                    .push(&format!(" AS row FROM \"{table}\" ORDER BY 1"))
            }
        };
        let rows = all(select).await;
        dump.insert(table, rows.iter().map(|row| row.text("row").expect("a text")).collect());
    }
    if let Some(sequences) = sequences {
        let rows = all(sequences).await;
        dump.insert(
            "(sequences)".to_owned(),
            rows.iter().map(|row| row.text("row").expect("a text")).collect(),
        );
    }
    dump
}

async fn dump_all(cluster: &Cluster) -> Vec<BTreeMap<String, Vec<String>>> {
    let mut dumps = Vec::new();
    let regions = (0..cluster.region_count()).map(Silo::Region);
    for silo in regions.chain([Silo::Control]) {
        let db = cluster.db(silo).await.expect("a database");
        dumps.push(dump(&db).await);
        db.close().await;
    }
    dumps
}

type Place = (i32, String, i64, i64, String, i64);

fn places(findings: &[Finding]) -> Vec<Place> {
    let mut places: Vec<Place> = findings
        .iter()
        .map(|it| (it.kind, it.model.clone(), it.ordinal, it.source_pk, it.field.clone(), it.byte_offset))
        .collect();
    places.sort();
    places
}

/// Makes a dry run, and checks that it changes nothing.
async fn dry_run(cluster: &Cluster, bytes: &[u8], options: &ImportOptions) -> (Import, Vec<Finding>) {
    // The region receives the feed's events about its last import a little later.
    cluster.quiet(Duration::from_secs(60)).await.expect("quiet");
    // It also stores how far it has received the feed when there was nothing in it.
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let cursor = async || {
        let cursor = Statement::new("SELECT version FROM causeway_feed_cursor");
        db.fetch_optional(cursor).await.expect("the database answers").is_some()
    };
    eventually("the region has received its feed", cursor).await;
    db.close().await;
    let before = dump_all(cluster).await;
    let region = cluster.region(0);
    let dry = region.import(bytes, &options.clone().dry_run()).await.expect("the dry run ends");
    assert!(dry.dry_run);
    let after = dump_all(cluster).await;
    for (before, after) in before.iter().zip(&after) {
        for (table, rows) in before {
            assert_eq!(after.get(table), Some(rows), "{table} has changed");
        }
    }
    let file = cluster.spool_dir(0).join(format!("{}.json", dry.import_id));
    assert!(!file.exists(), "the file is still there");
    assert_eq!(region.mapped_keys(&dry.import_id).await.expect("a list"), []);
    let findings = region.findings(&dry.import_id).await.expect("a list");
    (dry, findings)
}

/// Makes a dry run and then the import, and compares the two.
async fn agree(cluster: &Cluster, export: &Export, options: &ImportOptions) -> (Import, Import) {
    let bytes = export.to_bytes();
    let (dry, predicted) = dry_run(cluster, &bytes, options).await;
    assert_eq!(dry.state(), ImportState::Planned, "{:?}", dry.failure);
    let region = cluster.region(0);
    let real = region.import(&bytes, options).await.expect("the import ends");
    assert_eq!(real.state(), ImportState::Succeeded, "{:?}", real.failure);
    let met = region.findings(&real.import_id).await.expect("a list");
    assert_eq!(dry.models, real.models);
    assert_eq!(places(&predicted), places(&met));
    let counts = |import: &Import| -> Vec<(i32, i64)> {
        import.finding_counts.iter().map(|count| (count.kind, count.count)).collect()
    };
    assert_eq!(counts(&dry), counts(&real));
    // A finding that is only informational for the import is a warning in the dry run, worded as a prediction. The
    // counts include everything that is changed.
    for finding in &predicted {
        let is_counted_only =
            matches!(finding.kind(), FindingKind::FindingsNotStored | FindingKind::RowAdded);
        assert!(is_counted_only || finding.severity() >= Severity::Warning, "{finding:?}");
        if finding.ordinal > 0 && finding.kind() != FindingKind::UnknownChoice {
            assert!(!finding.reason.contains(" was ") && !finding.reason.ends_with(" now"), "{finding:?}");
        }
    }
    assert_eq!(dry.organization_count, real.organization_count);
    let mut imported: BTreeMap<i64, &ImportedOrganization> = BTreeMap::new();
    imported.extend(real.organizations.iter().map(|it| (it.source_id, it)));
    for planned in &dry.organizations {
        let imported = imported.get(&planned.source_id).expect("it was imported");
        let given = &imported.slug;
        let plan = planned.slug_plan.clone().expect("a plan");
        let why = imported.slug_plan.clone().expect("a reason");
        assert_eq!(plan.verdict(), why.verdict(), "{planned:?} {imported:?}");
        assert_eq!(planned.id, 0);
        match planned.slug.strip_suffix('?') {
            Some(front) => {
                assert!(given.starts_with(front) && given.len() > front.len(), "{given} is not {planned:?}")
            }
            None => assert_eq!(*given, planned.slug),
        }
        assert_eq!(plan.verdict() == SlugVerdict::Free, planned.wanted_slug == *given, "{planned:?}");
    }
    (dry, real)
}

pub(crate) async fn a_dry_run_says_what_an_import_does(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let export = exhaustive();
    let plain = ImportOptions::default();
    // Into an empty database, again on top, on top with users merged, and only a part.
    agree(&cluster, &export, &plain).await;
    agree(&cluster, &export, &plain).await;
    agree(&cluster, &export, &plain.clone().merge_users()).await;
    agree(&cluster, &export, &plain.clone().filter(&[OTHER_SLUG])).await;
    agree(&cluster, &export, &plain.clone().filter(&[SLUG, "nobody"]).merge_users()).await;
    agree(&cluster, &export, &plain.filter(&[])).await;
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_knows_what_is_there_already(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let export = export::large(12);
    agree(&cluster, &export, &ImportOptions::default()).await;
    let (dry, _) = agree(&cluster, &export, &ImportOptions::default()).await;
    assert!(dry.finding_counts.iter().map(|count| count.count).sum::<i64>() > 100);
    agree(&cluster, &export.shuffled(7), &ImportOptions::default().merge_users()).await;
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_knows_what_repeats_in_the_file(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut export = Export::new();
    export.organization(1, "one").organization(2, "two").project(31, 1, "p");
    // Users who merge, members with bookmarks of one project; and names that differ only in case.
    export.user(13, "ANN").user(11, "ann").user(12, "Ann").user(14, "bob");
    export.member(21, 1, 11).member(22, 1, 12).member(23, 2, 12).member(24, 1, 14).member(25, 1, 13);
    for (pk, user) in [(41, 11), (42, 12), (43, 14), (44, 13)] {
        export.push("sentry.projectbookmark", pk, &json!({"project": 31, "user_id": user}));
    }
    export.user_option(1, 11, "theme", &json!("dark")).user_option(2, 12, "theme", &json!("light"));
    export.email(1, "Ann@Example.com").email(2, "ann@example.com").email(3, "bob@example.com");
    // Keys and tokens that occur twice, and missing ones.
    export.project_key(1, 31, "key").project_key(2, 31, "key");
    export.push("sentry.projectkey", 6, &json!({"project": 31, "public_key": "", "secret_key": ""}));
    export.auth_token(1, 1, "kept").auth_token(2, 1, "kept").auth_token(3, 1, "missing");
    export.find("sentry.orgauthtoken", 3).expect("it").fields.remove("token_hashed");
    for (pk, token) in [(52, "t"), (51, "t"), (53, "u")] {
        let fields = json!({
            "organization": 2, "email": format!("{pk}@example.com"), "token": token,
            "token_expires_at": "2030-01-01T00:00:00Z", "user_is_active": false,
        });
        export.push(MEMBER, pk, &fields);
    }
    let plain = ImportOptions::default();
    agree(&cluster, &export, &plain.clone().merge_users()).await;
    agree(&cluster, &export, &plain).await;
    agree(&cluster, &export, &plain.clone().merge_users()).await;

    // The same over several chunks, each of at most a mebibyte.
    let mut export = Export::new();
    export.organization(1, "chunks").project(1, 1, "p");
    for pk in 1..=120 {
        let first = if pk > 100 { pk - 100 } else { pk };
        let name = if pk > 100 { format!("USER-{first}") } else { format!("user-{first}") };
        export.user(pk, &name).email(pk, &format!("{name}@example.com")).member(pk, 1, pk);
        export.project_key(pk, 1, &format!("another key {first}"));
    }
    for record in &mut export.records {
        record.fields.insert("padding".to_owned(), json!("x".repeat(15_000)));
    }
    agree(&cluster, &export, &plain.clone().merge_users()).await;
    agree(&cluster, &export, &plain).await;
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_of_any_part_of_an_export_agrees(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    for (seed, tenths_lost) in [(1, 1), (2, 3), (3, 2), (4, 5), (5, 4), (6, 0)] {
        let mut export = exhaustive().shuffled(seed);
        export.records.truncate(export.records.len() * (10 - tenths_lost) / 10);
        let options = ImportOptions { merge_users: seed % 2 == 0, ..ImportOptions::default() };
        agree(&cluster, &export, &options).await;
    }
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_says_who_has_a_slug(store: Store) {
    let cluster = cluster(store, &["us", "de"]).await;
    let mut theirs = Export::new();
    theirs.organization(1, "theirs");
    let theirs = theirs.to_bytes();
    let there = cluster.region(1).import(&theirs, &ImportOptions::default()).await.expect("it ends");
    // An organization that control does not know.
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let here = "INSERT INTO sentry_organization (id, name, slug, status, date_added, default_role, is_test, flags) \
                VALUES (7000000, 'Here', 'here', 0, '2024-01-01T00:00:00.000000Z', 'member', false, 1)";
    transact!(DbError, db, |tx| { tx.execute(Statement::new(here)).await? }).expect("it is written");
    db.close().await;

    let long = "a-slug-of-fifty-characters-is-kept-as-it-is-000000";
    let mut export = Export::new();
    let wanted = [
        "theirs",
        "here",
        "Here",
        "free",
        "free",
        "Free!",
        "api",
        "12345",
        "Über_Räume",
        "UPPER",
        long,
        long,
        "漢字",
        "🦀",
        "",
    ];
    for (pk, slug) in (1..).zip(wanted) {
        export.organization(pk, slug);
    }
    export.push(ORGANIZATION, 90, &json!({"name": "From Its Name"}));
    let (dry, real) = agree(&cluster, &export, &ImportOptions::default()).await;
    let of = |import: &Import, pk: i64| {
        let found = import.organizations.iter().find(|it| it.source_id == pk).expect("it is reported");
        let plan = found.slug_plan.clone().expect("a plan");
        (plan.verdict(), plan.taken_by_region.clone(), plan.taken_by_organization_id)
    };
    let plan = |pk: i64| of(&dry, pk);
    let nobody = |verdict| (verdict, String::new(), 0);
    let of_file = nobody(SlugVerdict::Taken);
    assert_eq!(plan(1), (SlugVerdict::Taken, "de".to_owned(), there.organizations[0].id));
    assert_eq!(plan(2), (SlugVerdict::Taken, "us".to_owned(), 7_000_000));
    assert_eq!(plan(3), (SlugVerdict::Taken, "us".to_owned(), 7_000_000));
    assert_eq!(plan(4), nobody(SlugVerdict::Free));
    assert_eq!((plan(5), plan(6)), (of_file.clone(), of_file));
    assert_eq!(plan(7), nobody(SlugVerdict::ReservedWord));
    assert_eq!(plan(8), nobody(SlugVerdict::Invalid));
    assert_eq!(plan(9), nobody(SlugVerdict::Normalized));
    assert_eq!(plan(90), nobody(SlugVerdict::Normalized));
    // The import reports the same owners of slugs as the dry run, and also the new ids of those in the file.
    let new = |pk: i64| real.organizations.iter().find(|it| it.source_id == pk).expect("imported");
    for pk in [1, 2, 3, 4, 7, 8, 9, 90] {
        assert_eq!(of(&real, pk), plan(pk), "{pk}");
    }
    for pk in [5, 6] {
        assert_eq!(of(&real, pk), (SlugVerdict::Taken, "us".to_owned(), new(4).id), "{pk}");
    }
    let findings = cluster.region(0).findings(&real.import_id).await.expect("a list");
    let free = new(4).id;
    for (pk, why) in [
        (1, format!("`theirs` is taken by organization {} of region de", there.organizations[0].id)),
        (2, "`here` is taken by organization 7000000 of region us".to_owned()),
        (
            3,
            "`Here` is not a valid slug, and `here` is taken by organization 7000000 of region us".to_owned(),
        ),
        (5, format!("`free` is taken by another organization of the file, which is {free} now")),
        (7, "`api` is a reserved word".to_owned()),
        (8, "`12345` is not a valid slug".to_owned()),
        (9, "`Über_Räume` is not a valid slug".to_owned()),
        (15, "the organization has no slug".to_owned()),
    ] {
        let found =
            findings.iter().find(|it| it.field == "slug" && it.source_pk == pk).expect("it is reported");
        assert_eq!(found.reason, format!("{why}; the organization is `{}` now", new(pk).slug));
    }

    // More slugs than one request to control may have.
    let mut export = Export::new();
    for pk in 1..=1_100 {
        let slug = match pk {
            // A valid slug that comes long after an invalid one that becomes the same.
            1 => "Larch",
            1_050 => "Same",
            1_100 => "larch",
            _ => "same",
        };
        export.organization(pk, slug);
    }
    let (dry, real) = agree(&cluster, &export, &ImportOptions::default()).await;
    assert_eq!((dry.organizations.len(), dry.organization_count), (1_000, 1_100));
    assert_eq!(dry.organizations[0].slug, "larch-?");
    let keys = cluster.region(0).mapped_keys(&real.import_id).await.expect("a list");
    let last =
        keys.iter().find(|key| key.model == ORGANIZATION && key.source_pk == 1_100).expect("a key").new_pk;
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let slug = Statement::new("SELECT slug FROM sentry_organization WHERE id = $1").with(last);
    let row = db.fetch_optional(slug).await.expect("a look").expect("a row");
    assert_eq!(row.text("slug").expect("a text"), "larch", "the organization with the valid slug lost it");
    db.close().await;
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_fails_as_the_import_would(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let mut invalid = exhaustive();
    invalid.push("sentry.user", 900, &json!({"username": 1}));
    let nobody = ImportOptions::default().filter(&["nobody"]);
    for (export, options, reason) in [
        (invalid, ImportOptions::default(), ErrorReason::ExportInvalid),
        (exhaustive(), nobody, ErrorReason::FilterMatchesNothing),
    ] {
        let bytes = export.to_bytes();
        let (dry, predicted) = dry_run(&cluster, &bytes, &options).await;
        let real = cluster.region(0).import(&bytes, &options).await.expect("it ends");
        let met = cluster.region(0).findings(&real.import_id).await.expect("a list");
        assert_eq!((dry.state(), real.state()), (ImportState::Failed, ImportState::Failed));
        assert_eq!(dry.failure.clone().unwrap_or_default().reason(), reason);
        assert_eq!(dry.failure, real.failure);
        // The remedy differs in wording: what happened, or what would happen.
        let bare = |findings: Vec<Finding>| -> Vec<Finding> {
            findings.into_iter().map(|it| Finding { remedy: String::new(), ..it }).collect()
        };
        assert_eq!(bare(predicted), bare(met));
    }
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_is_another_import_than_the_real_one(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let region = cluster.region(0);
    let options = ImportOptions::default().import_id("0d8a52a3-36f1-4d5e-8d63-6d1f7d2f7b31");
    let bytes = exhaustive().to_bytes();
    let dry = region.import(&bytes, &options.clone().dry_run()).await.expect("it ends");
    assert_eq!(dry.state(), ImportState::Planned);
    assert!(region.begin(&bytes, &options.clone().dry_run()).await.expect("it is joined").joined);
    assert_eq!(refused(region.begin(&bytes, &options).await), ErrorReason::ImportContentDiffers);
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_of_an_encrypted_export_is_one_of_what_is_in_it(store: Store) {
    let cluster = encrypted::opening(store).await;
    let plain = exhaustive().to_bytes();
    let (of_plain, predicted) = dry_run(&cluster, &plain, &ImportOptions::default()).await;
    let encrypted = encrypted::encrypted(&plain, encrypted::PUBLIC);
    let (of_encrypted, also) = dry_run(&cluster, &encrypted, &ImportOptions::default()).await;
    assert_eq!(of_encrypted.state(), ImportState::Planned);
    assert_eq!((of_encrypted.models, of_encrypted.organizations), (of_plain.models, of_plain.organizations));
    assert_eq!(places(&also), places(&predicted));
    let entries = std::fs::read_dir(cluster.spool_dir(0)).expect("it is there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let left: Vec<String> = names.filter(|name| name.contains(&of_encrypted.import_id)).collect();
    assert!(left.is_empty(), "an upload is still there: {left:?}");
    cluster.stop().await;
}

pub(crate) async fn a_dry_run_waits_for_control_and_begins_again(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let bytes = exhaustive().to_bytes();
    let region = cluster.region(0);
    let expected = region.import(&bytes, &ImportOptions::default().dry_run()).await.expect("it ends");
    cluster.stop_control().await;
    let begun = region.begin(&bytes, &ImportOptions::default().dry_run()).await.expect("it begins");
    let id = begun.import.unwrap_or_default().import_id;
    let checking = |import: &Import| import.state() == ImportState::Checking && import.waiting.is_some();
    let waits = region.wait_until(&id, checking).await.expect("it waits");
    assert_eq!(waits.waiting.unwrap_or_default().reason(), ErrorReason::ControlUnavailable);
    // A region that restarts continues it.
    cluster.stop_region(0).await;
    cluster.start_region(0).await.expect("it starts without control");
    cluster.start_control().await.expect("it starts");
    let import = cluster.region(0).wait(&id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Planned);
    assert_eq!((import.models, import.finding_counts), (expected.models, expected.finding_counts));
    assert_eq!(import.organizations, expected.organizations);
    cluster.stop().await;
}

/// Whether the dry run has succeeded, has failed or still waits: there is nothing to revert, and it stays unchanged.
pub(crate) async fn a_dry_run_cannot_be_reverted(store: Store) {
    let mut cluster = cluster(store, &["us"]).await;
    let (bytes, options) = (exhaustive().to_bytes(), ImportOptions::default().dry_run());
    let region = cluster.region(0);
    let planned = region.import(&bytes, &options).await.expect("it ends");
    let failed = region.import(b"hello", &options).await.expect("it ends");
    cluster.stop_control().await;
    let begun = region.begin(&bytes, &options).await.expect("it begins").import.unwrap_or_default();
    let checking = |import: &Import| import.state() == ImportState::Checking && import.waiting.is_some();
    let waits = region.wait_until(&begun.import_id, checking).await.expect("it waits");
    let before = dump_all(&cluster).await;
    for (import, state) in
        [(&planned, ImportState::Planned), (&failed, ImportState::Failed), (&waits, ImportState::Checking)]
    {
        assert_eq!(import.state(), state);
        let reverted = revert(&cluster, &import.import_id).await;
        assert_eq!(refused(reverted), ErrorReason::ImportIsDryRun, "{state:?}");
    }
    for ended in [planned, failed] {
        let import = region.wait(&ended.import_id).await.expect("it has ended");
        let seen = |import: Import| (import.state, import.update_time, import.failure, import.models);
        assert_eq!(seen(import), seen(ended));
    }
    assert!(dump_all(&cluster).await == before, "something was written");
    cluster.start_control().await.expect("it starts");
    let import = cluster.region(0).wait(&waits.import_id).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Planned);
    cluster.stop().await;
}

/// A dry run has no warnings only if everything would be imported unchanged.
pub(crate) async fn a_dry_run_warns_of_all_that_would_be_changed(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let plain = ImportOptions::default();
    let mut clean = Export::new();
    clean.organization(1, "clean").user(2, "clean").user_email(2, 2, "clean@example.com").member(3, 1, 2);
    clean.project(4, 1, "p").project_key(5, 4, "k");
    let (dry, predicted) = dry_run(&cluster, &clean.to_bytes(), &plain).await;
    assert_eq!(predicted, []);
    assert_eq!(dry.models.iter().map(|counts| counts.changed).sum::<i64>(), 0);
    let real = cluster.region(0).import(&clean.to_bytes(), &plain).await.expect("it ends");
    assert_eq!(real.state(), ImportState::Succeeded);

    // The same again: other rows have the slug, the name and the key now. Each record counts once as changed.
    let (dry, predicted) = dry_run(&cluster, &clean.to_bytes(), &plain).await;
    let mut reasons: Vec<(FindingKind, Severity, &str)> =
        predicted.iter().map(|it| (it.kind(), it.severity(), it.reason.as_str())).collect();
    reasons.sort_by_key(|(kind, ..)| *kind as i32);
    let [slug, name, key, secret] = reasons.as_slice() else { panic!("{reasons:?}") };
    assert_eq!((slug.0, slug.1), (FindingKind::SlugChanged, Severity::Warning));
    assert!(slug.2.ends_with("the organization would become `clean-?`, with a random suffix"), "{slug:?}");
    assert_eq!((name.0, name.1), (FindingKind::UsernameChanged, Severity::Warning));
    assert_eq!(name.2, "`clean` is taken; the record would have `clean-?`, with a random suffix");
    assert_eq!((key.0, key.1), (FindingKind::KeyRegenerated, Severity::Warning));
    assert_eq!(key.2, "is taken by another row; a new one would be made");
    assert_eq!(key, secret, "both keys of one record");
    let changed: BTreeMap<&str, i64> = dry
        .models
        .iter()
        .filter(|counts| counts.changed > 0)
        .map(|counts| (counts.model.as_str(), counts.changed))
        .collect();
    let expected = [("sentry.organization", 1), ("sentry.projectkey", 1), ("sentry.user", 1)];
    assert_eq!(changed, BTreeMap::from(expected));
    assert!(dry.finding_counts.iter().all(|count| count.severity() == Severity::Warning), "{dry:?}");
    // A list of warnings contains them.
    for (severity, expected) in [(Severity::Warning, 4), (Severity::Info, 0)] {
        let request = ListFindingsRequest {
            import_id: dry.import_id.clone(),
            severity: severity.into(),
            ..ListFindingsRequest::default()
        };
        let page = cluster.region(0).imports().list_findings(request).await.expect("a page").into_inner();
        assert_eq!(page.findings.len(), expected, "{severity:?}");
    }
    cluster.stop().await;
}
