//! Usernames that are the address of an earlier user of the file.

use super::*;
use crate::plan::addresses::{Addresses, entries};

fn user(pk: i64, name: &str, email: &str) -> String {
    format!(
        r#"{{"model": "sentry.user", "pk": {pk}, "fields": {{"username": "{name}", "password": "x", "email": "{email}"}}}}"#
    )
}

fn member(pk: i64, organization: i64, user: i64) -> String {
    format!(
        r#"{{"model": "sentry.organizationmember", "pk": {pk}, "fields": {{"organization": {organization}, "user_id": {user}}}}}"#
    )
}

/// The primary keys of each user with a name that is the address of an earlier user, and of that earlier user.
fn pairs(file: &ExportFile, plan: &Plan) -> Vec<(i64, i64)> {
    let model = file.catalog.model(USER).unwrap();
    let mut reader = plan.reader(model, &file.env, 1).unwrap();
    let mut pairs = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        let holder = plan.earlier_holder(model, record.offset);
        pairs.extend(holder.map(|holder| (record.source_pk, holder.source_pk)));
    }
    pairs
}

#[test]
fn a_name_is_the_address_of_the_first_user_who_has_it() {
    let file = ExportFile::new(&[
        // The later user reports this name: when the user with the address is written, the name exists already.
        user(9, "later@x.test", "nine@x.test"),
        user(8, "BOTH@x.test", "both@x.test"),
        user(7, "seven", "Both@X.test"),
        user(6, "both@x.test", "six@x.test"),
        user(5, "five", "later@x.test"),
        user(4, "four", "no address"),
        user(3, "no address", ""),
        // A user's own address does not count.
        user(2, "own@x.test", "OWN@x.test"),
        user(1, "Both@x.test", "both@x.test"),
    ]);
    assert_eq!(pairs(&file, &file.plan(None).unwrap()), [(6, 8), (1, 8)]);
}

#[test]
fn whoever_the_filter_leaves_out_has_no_address() {
    let file = ExportFile::new(&[
        organization(1, "one"),
        organization(2, "two"),
        user(1, "a", "same@x.test"),
        user(2, "b", "same@x.test"),
        user(3, "c", "same@x.test"),
        user(4, "same@x.test", "d@x.test"),
        member(1, 2, 1),
        member(2, 1, 2),
        member(3, 1, 3),
        member(4, 1, 4),
        member(5, 2, 4),
    ]);
    assert_eq!(pairs(&file, &file.plan(None).unwrap()), [(4, 1)]);
    assert_eq!(pairs(&file, &file.plan(Some(&["one"])).unwrap()), [(4, 2)]);
    assert_eq!(pairs(&file, &file.plan(Some(&["two"])).unwrap()), [(4, 1)]);
}

#[test]
fn names_beyond_the_limit_are_counted() {
    let mut records = Vec::new();
    for pk in 1..=5 {
        records.push(user(pk, "x", &format!("u{pk}@x.test")));
    }
    for pk in 6..=10 {
        records.push(user(pk, &format!("u{}@x.test", pk - 5), "x"));
    }
    let file = ExportFile::new(&records);
    let plan = file.plan(None).unwrap();
    let model = file.catalog.model(USER).unwrap();
    let mut reader = plan.reader(model, &file.env, 1).unwrap();
    let mut keys = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        keys.extend(entries(model, &record).unwrap());
    }
    keys.sort_unstable();
    let mut addresses = Addresses::remembering(&file.catalog, &file.env, &plan, 3);
    for key in keys {
        addresses.see(key).unwrap();
    }
    let (found, more) = addresses.end();
    assert_eq!(found[&model.position].len(), 3);
    let more = more.unwrap();
    assert_eq!((more.kind, more.field.as_deref()), (FindingKind::UsernameIsAddress, Some("username")));
    assert!(more.reason.contains("so are 2 names"), "{}", more.reason);
    assert!(more.source_pk.is_some_and(|pk| pk > 5) && more.byte_offset.is_some());
}

#[test]
fn a_plan_that_was_kept_knows_the_holders_of_addresses() {
    let file = ExportFile::new(&[
        organization(1, "one"),
        user(1, "a", "same@x.test"),
        user(2, "Same@x.test", "b@x.test"),
        member(1, 1, 1),
        member(2, 1, 2),
    ]);
    let made = pairs(&file, &file.checkpointed("plan", "a", Limits::default()).unwrap());
    assert_eq!(made, [(2, 1)]);
    let path = file.path("plan.plan");
    assert!(path.exists());
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(pairs(&file, &file.checkpointed("plan", "a", Limits::default()).unwrap()), made);
    // The plan was loaded, not made again.
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), before);
}
