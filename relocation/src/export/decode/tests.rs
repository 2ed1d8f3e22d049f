use super::*;
use crate::{
    catalog::{Catalog, Silo},
    export::unknown_option,
};

fn decode(model: &str, fields: &str) -> Result<Decoded, Finding> {
    let catalog = Catalog::load().unwrap();
    let env = Environment::fixed(Utc.timestamp_opt(1_700_000_000, 0).unwrap(), 1);
    let raw: Box<RawValue> = RawValue::from_string(fields.to_owned()).unwrap();
    Decoder::new(&env, env.now()).decode(catalog.model(model).unwrap(), &raw)
}

fn field(model: &str, fields: &str, name: &str) -> Result<Value, Finding> {
    let catalog = Catalog::load().unwrap();
    let index = catalog.model(model).unwrap().column(name).unwrap();
    decode(model, fields).map(|decoded| decoded.values[index].clone())
}

#[test]
fn times_come_in_many_forms() {
    let expected = Utc.with_ymd_and_hms(2023, 6, 22, 22, 59, 57).unwrap();
    for text in [
        "2023-06-22T22:59:57Z",
        "2023-06-22T22:59:57.000Z",
        "2023-06-22T22:59:57",
        "2023-06-22 22:59:57+00:00",
        "2023-06-23T00:59:57+02:00",
        "2023-06-23T00:59:57+0200",
    ] {
        assert_eq!(time(text), Some(expected), "{text}");
    }
    assert_eq!(time("2023-06-22T22:59:57.123456Z").unwrap().timestamp_subsec_micros(), 123_456);
    assert_eq!(time("2023-06-22"), Some(Utc.with_ymd_and_hms(2023, 6, 22, 0, 0, 0).unwrap()));
    for text in ["", "yesterday", "2023-13-01", "2023-06-22T25:00:00Z", "99999-01-01T00:00:00Z"] {
        assert_eq!(time(text), None, "{text}");
    }
}

#[test]
fn a_leap_second_is_the_second_after_it() {
    assert_eq!(time("2016-12-31T23:59:60.5Z"), time("2017-01-01T00:00:00.5Z"));
    assert_eq!(time("1969-12-31T23:59:59.9999999Z"), time("1969-12-31T23:59:59.999999Z"));
    assert_eq!(time("9999-12-31T23:59:60Z"), None);
}

#[test]
fn rows_without_numbers_are_no_rows() {
    let snapshot = |values: &str| {
        let fields =
            format!(r#"{{"start": "2024-01-01", "end": "2024-01-01", "period": 1, "values": {values}}}"#);
        field("sentry.timeseriessnapshot", &fields, "values").unwrap()
    };
    for none in ["[]", "[[]]", "\"[[], []]\""] {
        assert_eq!(snapshot(none), Value::FloatRows(Vec::new()), "{none}");
    }
    assert_eq!(snapshot("[[1], [2]]"), Value::FloatRows(vec![vec![1.0], vec![2.0]]));
}

#[test]
fn a_bad_address_is_refused_with_its_field() {
    for bad in ["\"\"", "\"localhost\"", "\"300.1.2.3\"", "\"127.0.0.1/33\"", "\"::1/129\"", "7", "null"] {
        let fields = format!(r#"{{"user": 1, "ip_address": {bad}}}"#);
        let error = decode("sentry.userip", &fields).unwrap_err();
        assert_eq!(
            (error.kind, error.field.as_deref()),
            (FindingKind::ValidationError, Some("ip_address")),
            "{bad}"
        );
    }
    assert!(decode("sentry.userip", r#"{"user": 1, "ip_address": "::ffff:10.0.0.1"}"#).is_ok());
}

#[test]
fn json_in_a_string_is_the_json() {
    let text = |json: &str| json_text::of(&RawValue::from_string(json.to_owned()).unwrap());
    assert_eq!(text(r#""\"abc\"""#).unwrap(), r#""abc""#);
    assert_eq!(text(r#""{\"a\": 1}""#).unwrap(), r#"{"a": 1}"#);
    assert_eq!(text(r#"{ "a" : [ 1.50, " x " ] }"#).unwrap(), r#"{"a":[1.50," x "]}"#);
    assert_eq!(text("12").unwrap(), "12");
    assert_eq!(text(r#""plain""#).unwrap(), r#""plain""#);
    assert!(text(r#""{broken""#).is_err());
}

#[test]
fn a_missing_field_takes_its_default_or_is_an_error() {
    let fields = r#"{"slug": "s", "organization": 1, "name": "n"}"#;
    assert_eq!(field("sentry.team", fields, "status").unwrap(), Value::Int(0));
    assert!(matches!(field("sentry.team", fields, "date_added").unwrap(), Value::Time(_)));
    let error = decode("sentry.team", r#"{"slug": "s", "organization": 1}"#).unwrap_err();
    assert_eq!((error.kind, error.field.as_deref()), (FindingKind::ValidationError, Some("name")));
}

#[test]
fn every_wrong_value_names_its_field() {
    let good = r#"{"slug": "s", "organization": 1, "name": "n", "status": 0}"#;
    assert!(decode("sentry.team", good).is_ok());
    for (from, to, name) in [
        (r#""slug": "s""#, r#""slug": 5"#, "slug"),
        (r#""name": "n""#, &format!(r#""name": "{}""#, "é".repeat(65)), "name"),
        (r#""organization": 1"#, r#""organization": "1""#, "organization"),
        (r#""organization": 1"#, r#""organization": 0"#, "organization"),
        (r#""organization": 1"#, r#""organization": 9007199254740992"#, "organization"),
        (r#""status": 0"#, r#""status": 2147483648"#, "status"),
        (r#""status": 0"#, r#""status": 1.0"#, "status"),
        (r#""status": 0"#, r#""status": 0, "date_added": "soon""#, "date_added"),
        (r#""status": 0"#, r#""status": 0, "status": 1"#, "status"),
        (r#""status": 0"#, r#""status": 0, "idp_provisioned": "yes""#, "idp_provisioned"),
    ] {
        assert!(good.contains(from));
        let error = decode("sentry.team", &good.replace(from, to)).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(name), "{to}: {error}");
    }
    assert!(decode("sentry.team", &good.replace(r#""n""#, &format!(r#""{}""#, "é".repeat(64)))).is_ok());
}

/// Records of other scopes are not imported, but what their fields are is known.
#[test]
fn fields_that_models_of_other_scopes_got_are_known() {
    let catalog = Catalog::load().unwrap();
    let env = Environment::system();
    let decoder = Decoder::new(&env, env.now());
    for (model, fields) in [
        ("sentry.apiapplication", r#"{"scopes": "[]", "requires_org_level_access": false}"#),
        ("sentry.apiauthorization", r#"{"organization_id": 1}"#),
        ("sentry.apigrant", r#"{"organization_id": 1}"#),
        ("sentry.apitoken", r#"{"scoping_organization_id": 1}"#),
        ("sentry.integration", r#"{"debug_data": {"a": 1}}"#),
    ] {
        let fields = RawValue::from_string(fields.to_owned()).unwrap();
        let notes = decoder.note_fields(catalog.model(model).unwrap(), &fields).unwrap();
        assert_eq!(
            notes.iter().map(|note| &note.field).collect::<Vec<_>>(),
            Vec::<&Option<String>>::new(),
            "{model}"
        );
    }
}

#[test]
fn what_is_odd_but_no_error_is_noted() {
    let decoded = decode(
        "sentry.team",
        r#"{"slug": "s", "organization": 1, "name": "n\u0000m", "actor": 3, "org_role": "owner", "mood": 1, "status": 77}"#,
    )
    .unwrap();
    let mut kinds: Vec<FindingKind> = decoded.notes.iter().map(|note| note.kind).collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [
            FindingKind::UnknownField,
            FindingKind::RemovedField,
            FindingKind::UnknownChoice,
            FindingKind::TextCleaned
        ]
    );
}

#[test]
fn an_organization_may_want_any_slug() {
    for (json, wanted) in [("\"Ä/ b\"", "Ä/ b"), ("\"\"", ""), ("null", "")] {
        let fields = format!(r#"{{"name": "n", "slug": {json}}}"#);
        assert_eq!(field("sentry.organization", &fields, "slug").unwrap(), Value::Text(wanted.to_owned()));
    }
    assert_eq!(field("sentry.organization", r#"{"name": "n"}"#, "slug").unwrap(), Value::Text(String::new()));
    let long =
        field("sentry.organization", &format!(r#"{{"name": "n", "slug": "{}"}}"#, "é".repeat(500)), "slug")
            .unwrap();
    assert_eq!(long.as_text().unwrap().len(), 254);
}

#[test]
fn a_member_is_a_user_or_an_address() {
    let member = |user: &str, email: &str| {
        decode(
            "sentry.organizationmember",
            &format!(r#"{{"organization": 1, "user_id": {user}, "email": {email}}}"#),
        )
    };
    assert!(
        member("1", "null").is_ok()
            && member("null", r#""a@example.com""#).is_ok()
            && member("1", r#""""#).is_ok()
    );
    // A member that stands for an invitation is neither.
    assert!(member("null", "null").is_ok() && member("1", r#""a@example.com""#).is_err());
}

#[test]
fn known_options_hold_what_is_meant() {
    let model = Catalog::load().unwrap();
    let model = model.model("sentry.useroption").unwrap();
    let option = |key: &str, value: &str| {
        let fields = format!(r#"{{"user": 1, "key": "{key}", "value": {value}}}"#);
        // A value that the application does not accept is left out. It is not an error of the file.
        unknown_option(model, &decode("sentry.useroption", &fields).unwrap().values).is_none()
    };
    assert!(option("timezone", r#""\"Europe/Vienna\"""#) && !option("timezone", r#""\"Middle/Earth\"""#));
    assert!(option("language", r#""\"pt-br\"""#) && !option("language", "7"));
    assert!(option("clock_24_hours", "true") && !option("clock_24_hours", r#""\"noon\"""#));
    assert!(option("theme", r#""\"dark\"""#) && !option("theme", r#""\"puce\"""#));
    assert!(option("anything else", "[1, 2]"));
}

#[test]
fn addresses_of_both_families_are_read() {
    assert_eq!(inet("127.0.0.2"), Some(Value::Inet("127.0.0.2".parse().unwrap(), 32)));
    assert_eq!(inet("::1/64"), Some(Value::Inet("::1".parse().unwrap(), 64)));
    assert_eq!(inet("127.0.0.1/33"), None);
    assert_eq!(inet("localhost"), None);
}

#[test]
fn a_field_of_nearly_the_right_name_is_named() {
    let error = decode("sentry.organizationmember", r#"{"organization": 1, "user": 3}"#).unwrap_err();
    assert_eq!((error.field.as_deref(), error.kind), (Some("user"), FindingKind::ValidationError));
    assert!(error.reason.contains("`user_id` is missing"), "{}", error.reason);
    let error = decode("sentry.team", r#"{"organization_id": 1, "slug": "s", "name": "n"}"#).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("organization_id"));
    assert!(error.reason.contains("`organization` is missing"), "{}", error.reason);
    // If nothing is missing, the field is an unknown one, and the finding suggests which one was meant.
    let member = r#"{"organization": 1, "user_id": 3, "inviter": 4, "mood": 1}"#;
    let notes = decode("sentry.organizationmember", member).unwrap().notes;
    let notes: Vec<_> = notes
        .iter()
        .map(|note| (note.field.as_deref().unwrap(), note.reason.contains("`inviter_id`")))
        .collect();
    assert_eq!(notes, [("inviter", true), ("mood", false)]);
}

#[test]
fn what_an_index_takes_is_enough_for_every_unique_set() {
    let trigger = |label: String| {
        decode(
            "sentry.alertruletrigger",
            &format!(r#"{{"alert_rule": 1, "label": "{label}", "alert_threshold": 1}}"#),
        )
    };
    assert!(trigger("l".repeat(2_600)).is_ok());
    assert!(trigger("\u{e9}".repeat(1_300)).is_ok());
    for label in ["l".repeat(2_601), "\u{e9}".repeat(1_301)] {
        let error = trigger(label).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("label"));
    }
    let config = |attribute: String| {
        decode(
            "sentry.spanattributeextractionruleconfig",
            &format!(r#"{{"project": 1, "span_attribute": "{attribute}"}}"#),
        )
    };
    assert!(config("a".repeat(1_000)).is_ok() && config("\u{6f22}".repeat(866)).is_ok());
    assert!(config("\u{6f22}".repeat(867)).is_err());
    // A value that is always replaced may have any length.
    let subscription =
        format!(r#"{{"project": 1, "type": "t", "subscription_id": "{}"}}"#, "s".repeat(5_000));
    assert!(decode("sentry.querysubscription", &subscription).is_ok());
}

#[test]
fn numbers_begin_where_their_column_does() {
    let widget = |order: &str| {
        field(
            "sentry.dashboardwidget",
            &format!(r#"{{"dashboard": 1, "order": {order}, "title": "t", "display_type": 0}}"#),
            "order",
        )
    };
    assert_eq!(widget("0").unwrap(), Value::Int(0));
    assert_eq!(widget("2147483647").unwrap(), Value::Int(i32::MAX.into()));
    assert!(widget("-1").is_err() && widget("2147483648").is_err());
}

/// A table of the product may need what newer releases have no more.
#[test]
fn what_is_missing_is_noticed_if_the_database_needs_it() {
    let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
    let catalog = Catalog::load().unwrap();
    let mut model = catalog.model("sentry.groupsearchview").unwrap().clone();
    let fields = r#"{"organization": 1, "user_id": 1, "name": "n", "query": "q", "query_sort": "date"}"#;
    let raw: &RawValue = serde_json::from_str(fields).unwrap();
    let values = Decoder::new(&env, DateTime::UNIX_EPOCH).decode(&model, raw).unwrap().values;
    assert!(model.lacks_value(&values).is_none());
    let position = model.column("position").unwrap();
    model.columns[position].is_needed = true;
    assert_eq!(model.lacks_value(&values).unwrap().column.field, "position");
    model.columns[position].is_stored = false;
    assert!(model.lacks_value(&values).is_none());
    // A rule gives it a value.
    let mut key = catalog.model("sentry.projectkey").unwrap().clone();
    let public = key.column("public_key").unwrap();
    key.columns[public].is_needed = true;
    let mut values = vec![Value::Int(1); key.columns.len()];
    values[public] = Value::Null;
    assert!(key.lacks_value(&values).is_none());
}

/// The fields of an ownership with this JSON as its schema.
fn ownership(json: &str) -> Box<RawValue> {
    let fields = format!(
        r#"{{"project": 1, "raw": "", "schema": {json}, "date_created": "2024-03-05", "last_updated": "2024-03-05"}}"#
    );
    serde_json::from_str(&fields).unwrap()
}

/// PostgreSQL refuses these escapes in `jsonb`, and takes them in a text.
#[test]
fn json_is_cleaned_of_what_its_column_refuses() {
    let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
    let mut model = Catalog::load().unwrap().model("sentry.projectownership").unwrap().clone();
    let schema = model.column("schema").unwrap();
    let decode = |model: &Model, json: &str| {
        let decoded = Decoder::new(&env, DateTime::UNIX_EPOCH).decode(model, &ownership(json)).unwrap();
        let kinds: Vec<_> = decoded.notes.iter().map(|note| note.kind).collect();
        (decoded.values[schema].as_text().unwrap().to_owned(), kinds)
    };
    let dirty = r#"{"a":"x\u0000y","b":"\ud83d\ude00 \ud83d \ude00 \ud83dz","c\u0000":"\\u0000 \u00e9 \n"}"#;
    assert_eq!(decode(&model, dirty), (dirty.to_owned(), vec![]));
    model.columns[schema].sql = "jsonb".to_owned();
    let clean =
        "{\"a\":\"xy\",\"b\":\"\\ud83d\\ude00 \u{fffd} \u{fffd} \u{fffd}z\",\"c\":\"\\\\u0000 \\u00e9 \\n\"}";
    assert_eq!(decode(&model, dirty), (clean.to_owned(), vec![FindingKind::TextCleaned]));
    for kept in
        [r#"{"a":"\\u0000"}"#, r#"["\ud83d\ude00"]"#, "1", "[1e9999,-1.5E-0009]", r#"{"1e99999":"1e99999"}"#]
    {
        assert_eq!(decode(&model, kept), (kept.to_owned(), vec![]), "{kept}");
    }
}

/// PostgreSQL takes numbers of any size in a text, and not in `jsonb`.
#[test]
fn a_number_that_its_column_cannot_hold_is_refused() {
    let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
    let mut model = Catalog::load().unwrap().model("sentry.projectownership").unwrap().clone();
    let schema = model.column("schema").unwrap();
    let is_taken = |model: &Model, json: &str| {
        Decoder::new(&env, DateTime::UNIX_EPOCH).decode(model, &ownership(json)).is_ok()
    };
    let long = "1".repeat(16_001);
    let small = format!("0.{}e-9999", "1".repeat(9_000));
    let huge = ["1e16000", "[-1.5e-16000]", r#"{"a":{"b":1E+99999}}"#, &small, &long, &format!("[{long}]")];
    for json in huge {
        assert!(is_taken(&model, json), "{json}");
    }
    model.columns[schema].sql = "jsonb".to_owned();
    for json in huge {
        assert!(!is_taken(&model, json), "{json}");
    }
}

/// A field of older releases with the opposite meaning counts only where the field itself is missing.
#[test]
fn a_field_that_says_the_opposite_is_read_once() {
    let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
    let catalog = Catalog::load().unwrap();
    let model = catalog.model("sentry.dashboardpermissions").unwrap();
    let (field, opposite) = ("is_editable_by_everyone", "is_creator_only_editable");
    let decode = |fields: &[(&str, &str)]| {
        let fields: String = fields.iter().map(|(name, value)| format!(r#""{name}": {value}, "#)).collect();
        let raw: Box<RawValue> = serde_json::from_str(&format!(r#"{{{fields}"dashboard": 1}}"#)).unwrap();
        let decoded = Decoder::new(&env, DateTime::UNIX_EPOCH).decode(model, &raw);
        decoded.map(|decoded| decoded.values[model.column(field).unwrap()].clone()).ok()
    };
    for (fields, wanted) in [
        (vec![(opposite, "true")], Some(false)),
        (vec![(opposite, "false")], Some(true)),
        (vec![(opposite, "true"), (field, "true")], Some(true)),
        (vec![(field, "false"), (opposite, "false")], Some(false)),
        (vec![(opposite, "true"), (opposite, "true")], None),
        (vec![(opposite, "true"), (field, "true"), (field, "true")], None),
        (vec![(field, "true"), (opposite, "1")], None),
    ] {
        assert_eq!(decode(&fields), wanted.map(Value::Bool), "{fields:?}");
    }
}

/// What cannot be written is reported, unless nothing is lost with it.
#[test]
fn a_value_for_which_the_database_has_no_column_is_reported() {
    let env = Environment::fixed(DateTime::UNIX_EPOCH, 1);
    let mut model = Catalog::load().unwrap().model("sentry.user").unwrap().clone();
    let suspended = model.column("is_suspended").unwrap();
    model.columns[suspended].is_stored = false;
    for (value, reported) in [("true", true), ("false", false)] {
        let fields = format!(
            r#"{{"username": "u", "password": "p", "email": "e", "name": "n", "is_suspended": {value}}}"#
        );
        let raw: &RawValue = serde_json::from_str(&fields).unwrap();
        let decoded = Decoder::new(&env, DateTime::UNIX_EPOCH).decode(&model, raw).unwrap();
        let kinds: Vec<_> = decoded.notes.iter().map(|note| note.kind).collect();
        assert_eq!(kinds, vec![FindingKind::NotInDatabase; usize::from(reported)], "{value}");
    }
}

/// The value of a removed field moves to the field that has replaced it.
#[test]
fn the_value_of_a_removed_field_moves() {
    let catalog = Catalog::load().unwrap();
    let condition = |fields: &str| {
        let fields =
            format!(r#"{{"comparison": 1, "condition_result": true, "condition_group": 1, {fields}}}"#);
        let model = "workflow_engine.datacondition";
        let decoded = decode(model, &fields).unwrap();
        let kind = catalog.model(model).unwrap().column("type").unwrap();
        (decoded.values[kind].as_text().unwrap().to_owned(), decoded.notes.len())
    };
    let of = |kind: &str, notes| (kind.to_owned(), notes);
    assert_eq!(condition(r#""condition": "lte", "type": "WorkflowCondition""#), of("lte", 0));
    assert_eq!(condition(r#""type": "WorkflowCondition", "condition": "lte""#), of("lte", 0));
    assert_eq!(condition(r#""type": "gt", "condition": null"#), of("gt", 0));
    assert_eq!(condition(r#""type": "gt", "condition": 5"#), of("gt", 1));
    let long = format!(
        r#"{{"comparison": 1, "condition_result": true, "condition_group": 1, "condition": "{}"}}"#,
        "c".repeat(201)
    );
    let error = decode("workflow_engine.datacondition", &long).unwrap_err();
    assert_eq!(error.field.as_deref(), Some("condition"));

    let view = |projects: &str| {
        let fields = format!(
            r#"{{"organization": 1, "user_id": 1, "name": "n", "query": "", "projects": {projects}}}"#
        );
        let decoded = decode("sentry.groupsearchview", &fields).unwrap();
        let all = catalog.model("sentry.groupsearchview").unwrap().column("is_all_projects").unwrap();
        (decoded.values[all].clone(), decoded.notes.iter().map(|note| note.kind).collect::<Vec<_>>())
    };
    for nothing in ["[]", "\"[]\"", "null"] {
        assert_eq!(view(nothing), (Value::Bool(false), vec![]), "{nothing}");
    }
    for all in ["[-1]", "\"[-1]\"", "[4, -1]"] {
        assert_eq!(view(all), (Value::Bool(true), vec![]), "{all}");
    }
    // Rows of another model have them, if they are primary keys.
    for list in ["[4]", "\"[4]\"", "[4, 5]"] {
        assert_eq!(view(list), (Value::Bool(false), vec![]), "{list}");
    }
    for odd in [
        "\"abc\"",
        "[\"41\"]",
        "{\"a\": 1}",
        "\"['41']\"",
        "[41.5]",
        "[1e30]",
        "41",
        "[[41]]",
        "\"[41, 'x']\"",
    ] {
        assert_eq!(view(odd), (Value::Bool(false), vec![FindingKind::RemovedField]), "{odd}");
    }
    let mut without = catalog.clone();
    without.change_written(Silo::Region, |model| {
        if model.name == "sentry.groupsearchviewproject" {
            model.not_importable = Some("the database has no such table".to_owned());
        }
    });
    without.note_added();
    let env = Environment::fixed(Utc.timestamp_opt(1_700_000_000, 0).unwrap(), 1);
    let decoder = Decoder::new(&env, env.now());
    let fields = r#"{"organization": 1, "user_id": 1, "name": "n", "query": "", "projects": [4]}"#;
    let model = without.model("sentry.groupsearchview").unwrap();
    let decoded = decoder.decode(model, serde_json::from_str(fields).unwrap()).unwrap();
    let notes: Vec<FindingKind> = decoded.notes.iter().map(|note| note.kind).collect();
    assert_eq!(notes, [FindingKind::RemovedField]);
}
