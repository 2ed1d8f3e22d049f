//! What regions have control write, and what they only ask it about.

use std::time::Duration;

use causeway_control::{
    model::import::{ImportModels, ImportRecord},
    model::reservation::SlugReason,
    model::reservation::WantedSlug,
};
use causeway_relocation::revert::lock_table;
use causeway_silo::db::{Dialect, Statement};
use serde_json::json;

use crate::support::{Fixture, bulk_create, now, operation, refused_field};

/// A record. Its ordinal is also its primary key.
fn record(ordinal: i64, fields: serde_json::Value) -> ImportRecord {
    ImportRecord { ordinal, source_pk: ordinal, byte_offset: 0, fields_json: fields.to_string() }
}

/// A chunk of the import with this number.
fn chunk_of(import: u128, model: &str, records: Vec<ImportRecord>) -> ImportModels {
    ImportModels {
        region: "us".to_owned(),
        import_id: operation(import),
        model: model.to_owned(),
        merge_users: false,
        min_ordinal: 1,
        max_ordinal: i64::try_from(records.len()).expect("a number"),
        records,
        tables_fingerprint: String::new(),
    }
}

pub(crate) async fn a_repeated_chunk_has_the_same_answer(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let imports = fixture.control.imports();
    let user = |name: &str, email: &str, is_active: bool| json!({"username": name, "password": "x", "email": email, "is_active": is_active});
    let here = chunk_of(1, "sentry.user", vec![record(1, user("ann", "ann@old.example", false))]);
    let here = imports.import_models(here).await.expect("written");
    let records = vec![
        record(1, user("Ann", "ann@new.example", true)),
        record(2, user("bob", "b\u{f6}b \"the\" builder@new.example", false)),
        record(3, user("carol", "", true)),
    ];
    let chunk = ImportModels { merge_users: true, ..chunk_of(2, "sentry.user", records) };
    let first = imports.import_models(chunk.clone()).await.expect("written");

    // The answer to the region equals the rows in the table, both for the existing user and for the new ones.
    let ann = here.keys.inserted[0].1;
    assert_eq!(first.keys.existing, [(1, ann)]);
    let reported = |id: i64| -> serde_json::Value {
        let (_, text) = first.returned.iter().find(|returned| returned.0 == id).expect("it is answered");
        serde_json::from_str(text).expect("JSON")
    };
    let (bob, carol) = (first.keys.inserted[0].1, first.keys.inserted[1].1);
    assert_eq!(reported(ann), json!({"email": "ann@old.example", "is_active": false}));
    assert_eq!(reported(bob), json!({"email": "b\u{f6}b \"the\" builder@new.example", "is_active": false}));
    assert_eq!(reported(carol), json!({"email": "", "is_active": true}));
    // The second time, control reads the whole answer from the table.
    assert_eq!(imports.import_models(chunk).await.expect("answered"), first);
}

pub(crate) async fn an_address_that_is_there_is_used_and_the_others_of_its_chunk_are_new(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let imports = fixture.control.imports();
    let address = |text: &str| json!({"email": text, "date_added": "2024-01-01T00:00:00Z"});
    let here = chunk_of(1, "sentry.email", vec![record(1, address("Ann@Example.com"))]);
    let here = imports.import_models(here).await.expect("written");
    let records = vec![
        record(1, address("bob@example.com")),
        record(2, address("ann@example.com")),
        record(3, address("c@x")),
    ];
    let written = imports.import_models(chunk_of(2, "sentry.email", records)).await.expect("written");
    assert_eq!(written.keys.existing, [(2, here.keys.inserted[0].1)]);
    let inserted: Vec<i64> = written.keys.inserted.iter().map(|key| key.0).collect();
    assert_eq!(inserted, [1, 3]);
}

pub(crate) async fn a_token_for_an_organization_of_another_region_is_refused(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us", "de"]).await;
    let imports = fixture.control.imports();
    for (region, number, id, slug) in [("us", 1, 7, "own"), ("de", 2, 8, "other")] {
        let wanted = WantedSlug {
            organization_id: id,
            slug: slug.to_owned(),
            name: String::new(),
            taken_in_region: false,
        };
        bulk_create(&fixture.control, region, operation(number), vec![wanted]).await.expect("reserved");
    }
    let token = |ordinal: i64, organization: i64| {
        let fields = json!({
            "organization_id": organization, "name": "ci", "token_hashed": format!("{ordinal:064}"),
            "token_last_characters": "abcd", "scope_list": "[\"org:ci\"]",
        });
        record(ordinal, fields)
    };
    let own = vec![token(1, 7)];
    imports.import_models(chunk_of(1, "sentry.orgauthtoken", own)).await.expect("its own organization");
    let both = vec![token(1, 7), token(2, 8)];
    let refused = imports.import_models(chunk_of(2, "sentry.orgauthtoken", both)).await;
    let Err(causeway_control::Error::OrganizationIdTaken { organization_id: 8, region }) = refused else {
        panic!("a token of another region was written: {refused:?}")
    };
    assert_eq!(region, "de");
    // Nothing of the chunk is stored, so a right one may take its place.
    let right = vec![token(1, 7)];
    let written = imports.import_models(chunk_of(2, "sentry.orgauthtoken", right)).await.expect("written");
    assert_eq!(written.keys.mapped().count(), 1);
}

pub(crate) async fn imports_that_want_the_same_addresses_do_not_wait_for_each_other(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let db = fixture.db().await;
    // The other transaction begins with the last of them.
    let mut other = db.begin().await.expect("a transaction");
    lock_table(&mut other, "sentry_email", now()).await.expect("nobody has it");
    let insert = |address: &str| {
        Statement::new("INSERT INTO sentry_email (email, date_added) VALUES ($1, CURRENT_TIMESTAMP)")
            .with(address)
    };
    other.execute(insert("b@example.com")).await.expect("inserted");
    let address = |text: &str| json!({"email": text, "date_added": "2024-01-01T00:00:00Z"});
    let records = vec![record(1, address("a@example.com")), record(2, address("b@example.com"))];
    let imports = fixture.control.imports().clone();
    let writing =
        tokio::spawn(async move { imports.import_models(chunk_of(1, "sentry.email", records)).await });
    if db.dialect() == Dialect::Postgres {
        loop {
            let waiting = Statement::new("SELECT count(*) AS n FROM pg_locks WHERE NOT granted");
            let row = db.fetch_optional(waiting).await.expect("it answers").expect("a row");
            if row.int("n").expect("a number") > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The waiting transaction has no lock that this one would wait for.
        other.execute(Statement::new("SET LOCAL lock_timeout = '100ms'")).await.expect("set");
    }
    other.execute(insert("a@example.com")).await.expect("inserted without waiting");
    other.commit().await.expect("committed");
    let written = writing.await.expect("it ends").expect("written");
    assert_eq!((written.keys.inserted.len(), written.keys.existing.len()), (0, 2));
    db.close().await;
}

pub(crate) async fn rows_are_found_as_the_rules_compare_them(fixture: Fixture) {
    let fixture = fixture.with_regions(&["us"]).await;
    let imports = fixture.control.imports();
    let user = |name: &str| json!({"username": name, "password": "x", "email": ""});
    let users = vec![record(1, user("Ann")), record(2, user("bob"))];
    let written = imports.import_models(chunk_of(1, "sentry.user", users)).await.expect("written");
    let id = |pk: i64| written.keys.inserted.iter().find(|key| key.0 == pk).expect("a key").1;
    let address = vec![record(1, json!({"email": "Ann@Example.com", "date_added": "2024-01-01T00:00:00Z"}))];
    imports.import_models(chunk_of(1, "sentry.email", address)).await.expect("written");

    let asked = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let found = imports.find_rows("sentry.user", "username", asked(&["ANN", "ann", "bob", "carol"])).await;
    let expected = [("ANN", id(1)), ("ann", id(1)), ("bob", id(2))];
    assert_eq!(found.expect("found"), expected.map(|(name, id)| (name.to_owned(), id)));
    let found = imports.find_rows("sentry.email", "email", asked(&["ann@example.com", "x"])).await;
    assert_eq!(found.expect("found").len(), 1);
    assert_eq!(imports.find_rows("sentry.user", "username", Vec::new()).await.expect("nothing"), []);

    // Only fields that a rule needs, only of models that control writes, and only a limited number of values.
    for field in ["password", "name", "id"] {
        let refused = imports.find_rows("sentry.user", field, asked(&["x"])).await;
        assert_eq!(refused_field(refused), "field");
    }
    let refused = imports.find_rows("sentry.team", "slug", asked(&["x"])).await.expect_err("it is refused");
    assert!(matches!(refused, causeway_control::Error::ModelNotWritable { .. }), "{refused:?}");
    let many = vec!["x".to_owned(); 10_001];
    assert_eq!(refused_field(imports.find_rows("sentry.user", "username", many).await), "values");
}

pub(crate) async fn a_check_takes_what_a_reservation_would_be_asked_with(fixture: Fixture) {
    let wanted = |slug: &str, name: &str, taken_in_region| WantedSlug {
        organization_id: 0,
        slug: slug.to_owned(),
        name: name.to_owned(),
        taken_in_region,
    };
    let organizations = vec![
        wanted("", "From Its Name", false),
        wanted("here", "", true),
        wanted("Here Too", "", true),
        wanted("free", "", false),
    ];
    let checks = fixture.control.directory().check_all(vec!["free".to_owned()], organizations, None).await;
    let checks = checks.expect("checked");
    let got: Vec<_> = checks.iter().map(|check| (check.reason, check.would_become.as_str())).collect();
    let expected = [
        (SlugReason::Free, "free"),
        (SlugReason::Normalized, "from-its-name"),
        (SlugReason::Taken, "here-?"),
        (SlugReason::Taken, "here-too-?"),
        (SlugReason::Taken, "free-?"),
    ];
    assert_eq!(got, expected);
    let many = vec![wanted("x", "", false); 1_000];
    let refused = fixture.control.directory().check_all(vec!["x".to_owned()], many, None).await;
    assert_eq!(refused_field(refused), "organizations");
    let long = vec![wanted("x", &"n".repeat(256), false)];
    let refused = fixture.control.directory().check_all(Vec::new(), long, None).await;
    assert_eq!(refused_field(refused), "organizations[0].name");
}
