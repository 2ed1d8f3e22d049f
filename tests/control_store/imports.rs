//! What regions have control write, and what they only ask for.

use causeway_control::{
    control_import::{ImportModels, ImportRecord},
    directory::Verdict,
    slug_reservations::WantedSlug,
};
use serde_json::json;

use crate::stage::{Stage, operation, refused_field};

pub(crate) async fn rows_are_found_as_the_rules_compare_them(stage: Stage) {
    let stage = stage.with_regions(&["us"]).await;
    let imports = stage.control.imports();
    let record = |ordinal, fields: serde_json::Value| ImportRecord {
        ordinal,
        source_pk: ordinal,
        byte_offset: 0,
        fields_json: fields.to_string(),
    };
    let chunk = |model: &str, records: Vec<ImportRecord>| ImportModels {
        region: "us".to_owned(),
        import_id: operation(1),
        model: model.to_owned(),
        merge_users: false,
        min_ordinal: 1,
        max_ordinal: 2,
        records,
    };
    let user = |name: &str| json!({"username": name, "password": "x", "email": ""});
    let users = vec![record(1, user("Ann")), record(2, user("bob"))];
    let written = imports.import_models(chunk("sentry.user", users)).await.expect("written");
    let id = |pk: i64| written.keys.inserted.iter().find(|key| key.0 == pk).expect("a key").1;
    let address = vec![record(1, json!({"email": "Ann@Example.com", "date_added": "2024-01-01T00:00:00Z"}))];
    imports.import_models(chunk("sentry.email", address)).await.expect("written");

    let asked = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let found = imports.find_rows("sentry.user", "username", asked(&["ANN", "ann", "bob", "carol"])).await;
    let expected = [("ANN", id(1)), ("ann", id(1)), ("bob", id(2))];
    assert_eq!(found.expect("found"), expected.map(|(name, id)| (name.to_owned(), id)));
    let found = imports.find_rows("sentry.email", "email", asked(&["ann@example.com", "x"])).await;
    assert_eq!(found.expect("found").len(), 1);
    assert_eq!(imports.find_rows("sentry.user", "username", Vec::new()).await.expect("nothing"), []);

    // Only what a rule has to know, of models that control writes, and not without end.
    for field in ["password", "name", "id"] {
        let refused = imports.find_rows("sentry.user", field, asked(&["x"])).await;
        assert_eq!(refused_field(refused), "field");
    }
    let refused = imports.find_rows("sentry.team", "slug", asked(&["x"])).await.expect_err("it is refused");
    assert!(matches!(refused, causeway_control::Error::ModelNotWritable { .. }), "{refused:?}");
    let many = vec!["x".to_owned(); 10_001];
    assert_eq!(refused_field(imports.find_rows("sentry.user", "username", many).await), "values");
}

pub(crate) async fn a_check_takes_what_a_reservation_would_be_asked_with(stage: Stage) {
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
    let checks = stage.control.directory().check_all(vec!["free".to_owned()], organizations).await;
    let checks = checks.expect("checked");
    let got: Vec<_> = checks.iter().map(|check| (check.verdict, check.would_become.as_str())).collect();
    let expected = [
        (Verdict::Free, "free"),
        (Verdict::Normalized, "from-its-name"),
        (Verdict::Taken, "here-?"),
        (Verdict::Taken, "here-too-?"),
        (Verdict::Taken, "free-?"),
    ];
    assert_eq!(got, expected);
    let many = vec![wanted("x", "", false); 1_000];
    let refused = stage.control.directory().check_all(vec!["x".to_owned()], many).await;
    assert_eq!(refused_field(refused), "organizations");
    let long = vec![wanted("x", &"n".repeat(256), false)];
    let refused = stage.control.directory().check_all(Vec::new(), long).await;
    assert_eq!(refused_field(refused), "organizations[0].name");
}
