//! The same records, written as other releases and other writers write them.

use causeway_harness::{
    account::{Cell, RowsSnapshot},
    cluster::{Cluster, ImportOptions, Store},
    export::Export,
};
use causeway_proto::relocation::v1::{Finding, FindingKind};
use causeway_relocation::export::MAX_PK;
use serde_json::{Value, json};

use crate::support::{PROJECT, check_import, cluster, rows_now, tells};

/// Imports a file. Returns all rows after the import, and the import's id.
async fn imports(cluster: &Cluster, name: &str, file: &[u8]) -> (RowsSnapshot, String) {
    let region = cluster.region(0);
    let import = region
        .import(file, &ImportOptions::default())
        .await
        .unwrap_or_else(|status| panic!("{name}: the call failed: {status}"));
    check_import(name, &import);
    let findings = region.findings(&import.import_id).await.expect("a list");
    let is_empty = import.models.iter().all(|counts| counts.seen == 0);
    // Few of these exports have keys and addresses.
    let reported: Vec<FindingKind> =
        findings.iter().map(Finding::kind).filter(|kind| *kind != FindingKind::RowAdded).collect();
    let expected = if is_empty { &[FindingKind::NothingToImport][..] } else { &[] };
    assert_eq!(reported, expected, "{name}: {findings:?}");
    (rows_now(cluster).await, import.import_id)
}

/// The value of a field in the row that the record of a model has become.
async fn cell(cluster: &Cluster, name: &str, file: &[u8], model: &str, field: &str) -> Cell {
    let (rows_now, id) = imports(cluster, name, file).await;
    let keys = cluster.region(0).mapped_keys(&id).await.expect("a list");
    let key = keys.iter().find(|key| key.model == model).unwrap_or_else(|| panic!("{name}: no {model}"));
    let row = rows_now.row(model, key.new_pk).unwrap_or_else(|| panic!("{name}: no row of {model}"));
    row[field].clone()
}

/// An export with an organization, its own slug and owner, and one more record.
fn with(slug: &str, model: &str, fields: &Value) -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, slug).user(1, slug).member(1, 1, 1).push(model, MAX_PK, fields);
    export.to_bytes()
}

pub(crate) async fn files_of_other_habits_import_alike(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let of = |slug: &str| {
        let mut export = Export::new();
        export.organization(1, slug).user(2, slug).member(3, 1, 2).team(4, 1, "t").project(5, 1, "p");
        export
    };
    let mut camel = of("camel");
    for record in &mut camel.records {
        record.model = match record.model.as_str() {
            "sentry.organizationmember" => "sentry.OrganizationMember".to_owned(),
            "sentry.user" => "SENTRY.USER".to_owned(),
            other => other.replace("sentry.", "Sentry.").replace(".t", ".T"),
        };
    }
    let tree = |slug: &str| -> Value { serde_json::from_slice(&of(slug).to_bytes()).expect("JSON") };
    let indented = serde_json::to_vec_pretty(&tree("indented")).expect("JSON");
    let tabs = String::from_utf8(serde_json::to_vec_pretty(&tree("tabs")).expect("JSON")).expect("UTF-8");
    let tabs = tabs.replace("  ", "\t").replace('\n', "\r\n");
    let marked = [&b"\xef\xbb\xbf"[..], &serde_json::to_vec(&tree("marked")).expect("JSON")].concat();
    let mut escaped = String::from_utf8(of("escaped").to_bytes()).expect("UTF-8");
    escaped = escaped.replace("\"sentry.team\"", "\"sentry.\\u0074eam\"").replace("\"pk\"", "\"\\u0070k\"");
    let rows = rows_now(&cluster).await.row_count();
    for (count, (name, file)) in [
        ("a record a line", of("lines").to_bytes()),
        ("one line", serde_json::to_vec(&tree("dense")).expect("JSON")),
        ("indented", indented),
        ("tabs and CR LF", tabs.into_bytes()),
        ("a byte order mark", marked),
        ("model names in CamelCase", camel.to_bytes()),
        ("escapes in names", escaped.into_bytes()),
        ("from the last to the first", of("reversed").reversed().to_bytes()),
        ("in any order", of("shuffled").shuffled(7).to_bytes()),
        (
            "more members of a record",
            String::from_utf8(of("more").to_bytes())
                .expect("UTF-8")
                .replace("{\"fields\"", "{\"natural\": [1], \"fields\"")
                .into_bytes(),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (rows_now, _) = imports(&cluster, name, &file).await;
        // Five records, a key for the project, and an address for the user.
        assert_eq!(rows_now.row_count(), rows + 7 * (count + 1), "{name}");
    }
    for (name, file, count) in
        [("an empty array", &b"[]"[..], 0), ("an empty array, marked", b"\xef\xbb\xbf [ ]\n", 0)]
    {
        let rows = rows_now(&cluster).await.row_count();
        assert_eq!(imports(&cluster, name, file).await.0.row_count(), rows + count, "{name}");
    }
    cluster.stop().await;
}

pub(crate) async fn times_in_all_forms_are_the_same_time(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    for (number, (form, time)) in [
        ("2023-06-22T22:59:57Z", "2023-06-22T22:59:57Z"),
        ("2023-06-22T22:59:57z", "2023-06-22T22:59:57Z"),
        ("2023-06-22T22:59:57.123Z", "2023-06-22T22:59:57.123Z"),
        ("2023-06-22T22:59:57.123456Z", "2023-06-22T22:59:57.123456Z"),
        ("2023-06-22T22:59:57.123456789Z", "2023-06-22T22:59:57.123456Z"),
        ("2023-06-23T00:59:57+02:00", "2023-06-22T22:59:57Z"),
        ("2023-06-23T00:59:57.5+0200", "2023-06-22T22:59:57.5Z"),
        ("2023-06-22T19:29:57-03:30", "2023-06-22T22:59:57Z"),
        ("2023-06-23 00:59:57+02", "2023-06-22T22:59:57Z"),
        ("2023-06-22T22:59:57", "2023-06-22T22:59:57Z"),
        ("2023-06-22T22:59:57.123", "2023-06-22T22:59:57.123Z"),
        ("2023-06-22 22:59:57", "2023-06-22T22:59:57Z"),
        ("2023-06-22 22:59:57.123456+00:00", "2023-06-22T22:59:57.123456Z"),
        ("2023-06-22", "2023-06-22T00:00:00Z"),
        ("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z"),
    ]
    .into_iter()
    .enumerate()
    {
        let fields = json!({"organization": 1, "slug": "p", "name": "p", "date_added": form});
        let file = with(&format!("time-{number}"), PROJECT, &fields);
        let cell = cell(&cluster, form, &file, PROJECT, "date_added").await;
        assert_eq!(cell, Cell::Time(time.parse().expect("a time")), "{form}");
    }
    cluster.stop().await;
}

pub(crate) async fn json_in_strings_is_the_json(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let model = "sentry.organizationoption";
    for (number, (form, value)) in [
        (json!("\"abc\""), json!("abc")),
        (json!("{\"a\": [1, \"\\u00e9\"]}"), json!({"a": [1, "é"]})),
        (json!({"a": [1, "é"]}), json!({"a": [1, "é"]})),
        (json!("plain"), json!("plain")),
        (json!(""), json!("")),
        (json!("12"), json!(12)),
        (json!(12), json!(12)),
        (json!("\"12\""), json!("12")),
        (json!("true"), json!(true)),
        (json!("null"), Value::Null),
        (json!("nul\0"), json!("nul\0")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = form.to_string();
        let file =
            with(&format!("json-{number}"), model, &json!({"organization": 1, "key": "k", "value": form}));
        assert_eq!(cell(&cluster, &name, &file, model, "value").await, Cell::Json(value), "{name}");
    }
    cluster.stop().await;
}

pub(crate) async fn lists_in_all_forms_are_the_same_list(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let model = "sentry.orgauthtoken";
    for (number, (form, list)) in [
        (json!(["org:ci", "it's"]), json!(["org:ci", "it's"])),
        (json!("[\"org:ci\", \"it's\"]"), json!(["org:ci", "it's"])),
        (json!("['org:ci', \"it's\"]"), json!(["org:ci", "it's"])),
        (json!("['org:ci', 'it\\'s',]"), json!(["org:ci", "it's"])),
        (json!("  [ 'org:ci' ]  "), json!(["org:ci"])),
        (json!("['\\xe9', '\\u20ac', '\\U0001f980', 'é']"), json!(["é", "€", "🦀", "é"])),
        (json!("['a', None]"), json!(["a", null])),
        (json!("[]"), json!([])),
        (json!([]), json!([])),
    ]
    .into_iter()
    .enumerate()
    {
        let name = form.to_string();
        let hash = format!("hash {number}");
        let fields = json!({"organization_id": 1, "name": "n", "token_hashed": hash, "scope_list": form});
        let file = with(&format!("list-{number}"), model, &fields);
        assert_eq!(cell(&cluster, &name, &file, model, "scope_list").await, Cell::List(list), "{name}");
    }
    cluster.stop().await;
}

pub(crate) async fn flags_are_numbers_or_texts(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    for (number, (form, flags)) in [
        (json!(5), 5),
        (json!("5"), 5),
        (json!("0"), 0),
        (json!(i64::MAX), i64::MAX),
        (json!(i64::MAX.to_string()), i64::MAX),
        (json!("-1"), -1),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("flags {form}");
        let fields = json!({"organization": 1, "slug": "p", "name": "p", "flags": form});
        let mut export = Export::new();
        export.organization(1, &format!("flags-{number}")).push(PROJECT, 2, &fields);
        let (_, account) = tells(&cluster, &name, &export.to_bytes(), &ImportOptions::default(), &[]).await;
        let row = account.row(PROJECT, 2).unwrap_or_else(|| panic!("{name}: no project"));
        assert_eq!(row["flags"], Cell::Int(flags), "{name}");
    }
    cluster.stop().await;
}
