//! Files that are not an array of records.

use causeway_harness::cluster::Store;
use causeway_proto::relocation::v1::FindingKind;

use crate::support::{Place, Refused, cluster, good, refuse, with_record};

/// A nesting depth that would overflow the stack of a recursive parser.
const DEEP: usize = 20_000;

fn refused(name: &str, file: impl Into<Vec<u8>>, offset: usize, says: &str) -> Refused {
    Refused {
        name: name.to_owned(),
        file: file.into(),
        place: Place::byte(offset),
        kind: FindingKind::DeserializationFailed,
        says: says.to_owned(),
    }
}

/// A file over a limit. The parser has read everything before the place where it notices that, so the refusal names the
/// record.
fn over(name: &str, file: impl Into<Vec<u8>>, place: Place, says: &str) -> Refused {
    Refused { place, ..refused(name, file, 0, says) }
}

/// Good exports with the last record cut off or changed, or with something after the end.
fn spoilt() -> Vec<Refused> {
    let whole = good().to_bytes();
    let end = whole.len() - "\n]\n".len();
    let last = good().offset("sentry.project", 5).expect("it is there");
    let cut = |length: usize| whole.get(..length).expect("the file is longer").to_vec();
    let after = |more: &[u8]| [whole.as_slice(), more].concat();
    let mut changed = whole.clone();
    *changed.get_mut(end - 5).expect("the file is longer") = 0xff;
    let mut between = whole.clone();
    *between.get_mut(last - 1).expect("the file is longer") = 0xff;
    let mut half = whole.clone();
    *half.get_mut(end - 5).expect("the file is longer") = 0xc3;
    vec![
        refused("cut off in the middle of a record", cut(last + 20), last, "cut off in the middle"),
        refused("cut off in a string", cut(last + 12), last, "cut off in the middle"),
        refused("cut off after a record", cut(end), end, "cut off"),
        refused("cut off after a comma", cut(last - 1), last - 1, "the array does not end"),
        refused("text after the array", after(b"x"), whole.len(), "something after the end of the array"),
        refused("an array after the array", after(b"[]"), whole.len(), "something after the end"),
        refused("a NUL after the array", after(b"\0"), whole.len(), "something after the end"),
        refused("a byte in a string that is not UTF-8", changed, end - 5, "UTF-8"),
        refused("half a character in a string", half, end - 5, "UTF-8"),
        refused("a byte between records that is not UTF-8", between, last - 1, "expected a record"),
    ]
}

/// The place of the rule with primary key 6 that follows a good export.
fn rule(offset: usize) -> Place {
    Place { offset, model: "sentry.rule".to_owned(), ordinal: 1, pk: Some(6), ..Place::default() }
}

/// Records nested `DEEP` levels, in each way in which a file can do that.
fn deep() -> Vec<Refused> {
    let nested = |open: &str, close: &str| open.repeat(DEEP) + "1" + &close.repeat(DEEP);
    let mut cases = Vec::new();
    for (name, open, close) in [("arrays", "[", "]"), ("objects", "{\"a\":", "}")] {
        let record = format!(
            r#"{{"model": "sentry.rule", "pk": 6, "fields": {{"project": 5, "label": "l", "data": {}}}}}"#,
            nested(open, close)
        );
        let (file, offset) = with_record(&good(), &record);
        cases.push(over(&format!("{DEEP} {name} in a field"), file, rule(offset), "nested deeper than"));
        let record = format!(r#"{{"model": "sentry.nonsense", "pk": 6, "fields": {}}}"#, nested(open, close));
        let (file, offset) = with_record(&good(), &record);
        let place = Place { model: "sentry.nonsense".to_owned(), ordinal: 0, ..rule(offset) };
        cases.push(over(&format!("{DEEP} {name} of no model"), file, place, "nested deeper than"));
    }
    cases.push(refused("nothing but brackets", "[".repeat(DEEP), 1, "expected a record"));
    cases.push(refused("nothing but braces", "[".to_owned() + &"{\"a\":".repeat(DEEP), 1, "nested deeper"));
    cases
}

pub(crate) async fn a_file_that_is_no_array_of_records_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let no_array = "not a JSON array";
    let mut cases = vec![
        refused("an empty file", "", 0, "empty"),
        refused("nothing but blanks", " \n", 2, "empty"),
        refused("no JSON", "hello", 0, no_array),
        refused("no JSON, of bytes", &b"\x01\x8b\x08\0\0"[..], 0, no_array),
        refused("gzip", &b"\x1f\x8b\x08\0\0"[..], 0, "gunzip"),
        refused("UTF-16", &b"\xff\xfe[\0]\0"[..], 0, "UTF-16"),
        refused("a record a line", "{\"model\": \"a.b\"}\n{\"model\": \"a.b\"}\n", 0, "NDJSON"),
        refused("an object", r#"{"model": "sentry.user", "pk": 1, "fields": {}}"#, 0, no_array),
        refused("an empty object", " {}", 1, no_array),
        refused("a string", "\"[]\"", 0, no_array),
        refused("null", "null", 0, no_array),
        refused("a number", "1", 0, no_array),
        refused("an array of words", "[hello]", 1, "expected a record"),
        refused("an array of numbers", "[1]", 1, "expected a record"),
        refused("an array of arrays", "[[{}]]", 1, "expected a record"),
        refused("an array of null", "[null]", 1, "expected a record"),
        refused("a record that is not JSON", r#"[{"model": sentry.user, "pk": 1}]"#, 1, "not JSON"),
        refused("a record in single quotes", "[{'model': 'sentry.user', 'pk': 1}]", 1, "not JSON"),
        refused("a comment", "[/* none */]", 1, "expected a record"),
        refused("no comma", "[{\"model\": \"a.b\", \"pk\": 1, \"fields\": {}} {}]", 41, "comma"),
        refused(
            "a comma too many",
            "[{\"model\": \"a.b\", \"pk\": 1, \"fields\": {}},]",
            41,
            "expected a record",
        ),
        refused("braces for brackets", "[{\"model\": \"a.b\", \"pk\": 1, \"fields\": [}]", 1, "not JSON"),
    ];
    cases.extend(spoilt());
    cases.extend(deep());
    refuse(&cluster, cases).await;
    cluster.stop().await;
}

pub(crate) async fn a_string_of_a_hundred_megabytes_is_refused(store: Store) {
    let cluster = cluster(store, &["us"]).await;
    let record = format!(
        r#"{{"model": "sentry.rule", "pk": 6, "fields": {{"project": 5, "label": "l", "data": "{}"}}}}"#,
        "x".repeat(100_000_000)
    );
    let (file, offset) = with_record(&good(), &record);
    let says = "larger than 67108864 bytes";
    refuse(&cluster, vec![over("a string of 100 MB", file, rule(offset), says)]).await;
    cluster.stop().await;
}
