//! A defect of records that the filter excludes does not refuse the file. Every other defect does.

use super::*;

fn record(model: &str, pk: i64, fields: &str) -> String {
    format!(r#"{{"model": "sentry.{model}", "pk": {pk}, "fields": {{{fields}}}}}"#)
}

fn project(pk: i64, organization: i64, slug: &str) -> String {
    record("project", pk, &format!(r#""organization": {organization}, "slug": "{slug}", "name": "p""#))
}

fn member(pk: i64, organization: i64, user: i64) -> String {
    record("organizationmember", pk, &format!(r#""organization": {organization}, "user_id": {user}"#))
}

fn user(pk: i64, name: &str) -> String {
    record("user", pk, &format!(r#""username": "{name}", "password": "", "email": "{name}@x""#))
}

/// Two organizations, `one` with user 11 and `two` with user 12, and some more records.
fn with(records: &[String]) -> ExportFile {
    let mut all = vec![organization(1, "one"), organization(2, "two")];
    all.extend([user(11, "ann"), user(12, "bob"), member(1, 1, 11), member(2, 2, 12)]);
    all.extend_from_slice(records);
    ExportFile::new(&all)
}

/// The records of a model, by primary key, and whether each is reported as defective.
fn defects(file: &ExportFile, plan: &Plan, model: &str) -> Vec<(i64, bool)> {
    let mut reader = plan.reader(file.catalog.model(model).unwrap(), &file.env, 1).unwrap();
    let mut defects = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        defects.push((record.source_pk, record.defect.is_some()));
    }
    defects
}

#[test]
fn a_defect_of_what_is_left_out_is_passed_over_and_one_of_what_is_taken_is_refused() {
    let long = "x".repeat(300);
    // One record for each kind of defect, of the given organization.
    let kinds: [(&str, &dyn Fn(i64) -> String); 9] = [
        ("project", &|of| project(7, of, &long)),
        ("team", &|of| record("team", 7, &format!(r#""organization": {of}, "slug": "t", "name": 7"#))),
        ("team", &|of| record("team", 7, &format!(r#""organization": {of}, "slug": "t""#))),
        ("team", &|of| {
            record("team", 7, &format!(r#""organization": {of}, "slug": "t", "name": "t", "name": "t""#))
        }),
        ("organizationmember", &|of| {
            member(7, of, 10 + of).replace("\"user_id\"", "\"email\": \"e\", \"user_id\"")
        }),
        ("user", &|of| user(7, &long).replace("\"pk\": 7", &format!("\"pk\": {}", 20 + of))),
        ("organization", &|of| {
            let slug = if of == 1 { "one" } else { "three" };
            record("organization", 7, &format!(r#""slug": "{slug}", "name": "{long}""#))
        }),
        ("useremail", &|of| record("useremail", 7, &format!(r#""user": {}, "email": "{long}""#, 10 + of))),
        ("rule", &|of| record("rule", 7, &format!(r#""project": {}, "label": 1, "data": {{}}"#, 20 + of))),
    ];
    for (model, kind) in kinds {
        let others = [project(21, 1, "p"), project(22, 2, "p"), member(8, 1, 21), member(9, 2, 22)];
        let of = |organization: i64| {
            let mut records = others.to_vec();
            records.push(kind(organization));
            with(&records)
        };
        let left_out = of(2).plan(Some(&["one"]));
        let plan = left_out.unwrap_or_else(|error| panic!("{model}: {error}"));
        let file = of(2);
        let reported = defects(&file, &plan, &format!("sentry.{model}"));
        assert_eq!(reported.iter().filter(|(_, is_defect)| *is_defect).count(), 1, "{model}: {reported:?}");
        let refused = of(1).plan(Some(&["one"])).unwrap_err().to_string();
        assert!(refused.contains(&format!("sentry.{model} record")), "{model}: {refused}");
        // Without a filter nothing is excluded.
        assert!(of(2).plan(None).is_err(), "{model}");
    }
}

#[test]
fn records_that_contradict_each_other_are_passed_over_if_both_are_left_out() {
    let takes = |records: &[String]| with(records).plan(Some(&["one"])).map(drop);
    assert!(takes(&[team(7, 2, "same"), team(8, 2, "same")]).is_ok());
    assert!(takes(&[team(7, 1, "same"), team(8, 1, "same")]).is_err());
    assert!(takes(&[team(7, 2, "a"), team(7, 2, "b")]).is_ok());
    // One of the two is selected, and it is unknown which one other records mean.
    assert!(takes(&[team(7, 1, "a"), team(7, 2, "b")]).is_err());
    assert!(takes(&[user(12, "rob")]).is_ok() && takes(&[user(11, "nan")]).is_err());
    assert!(takes(&[organization(2, "three")]).is_ok() && takes(&[organization(1, "three")]).is_err());

    let file = with(&[team(7, 2, "same"), team(8, 2, "same"), team(9, 2, "same")]);
    let plan = file.plan(Some(&["one"])).unwrap();
    let model = file.catalog.model("sentry.team").unwrap();
    let mut reader = plan.reader(model, &file.env, 1).unwrap();
    let mut reported = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        reported.push(plan.is_contradicting(model, record.offset));
    }
    assert_eq!(reported, [false, true, true]);
}

#[test]
fn what_cannot_be_attributed_is_refused_under_a_filter_too() {
    for broken in [
        r#"{"model": "sentry.team", "fields": {"organization": 2}}"#,
        r#"{"model": "sentry.team", "pk": 0, "fields": {"organization": 2}}"#,
        r#"{"pk": 7, "fields": {"organization": 2}}"#,
        r#"{"model": "sentry.team", "pk": 7, "fields": {"organization": "two", "slug": "t", "name": "t"}}"#,
    ] {
        assert!(with(&[broken.to_owned()]).plan(Some(&["one"])).is_err(), "{broken}");
    }
}

#[test]
fn the_first_defect_that_counts_is_reported() {
    let bad = |pk: i64, organization: i64| project(pk, organization, &"x".repeat(101));
    let file = with(&[bad(7, 2), team(7, 2, &"t".repeat(51)), bad(8, 1), team(8, 1, &"t".repeat(51))]);
    let error = file.plan(Some(&["one"])).unwrap_err().to_string();
    assert!(error.contains("sentry.project record 2, pk 8, field slug"), "{error}");
}

#[test]
fn a_record_between_two_organizations_is_known_and_its_children_are_not_reported_again() {
    let monitor = |pk: i64, organization: i64, project: i64| {
        record(
            "monitor",
            pk,
            &format!(
                r#""organization_id": {organization}, "project_id": {project}, "slug": "m{pk}", "name": "m", "type": 3, "guid": "6f0d3e1b-1111-4222-8333-44445555666{pk}""#
            ),
        )
    };
    let project_team = |pk: i64, project: i64, team: i64| {
        record("projectteam", pk, &format!(r#""project": {project}, "team": {team}"#))
    };
    let environment = record("environment", 5, r#""organization_id": 2, "name": "e""#);
    let rule = record("rule", 6, r#""project": 21, "environment_id": 5, "label": "l", "data": {}"#);
    let neglected =
        record("neglectedrule", 7, r#""rule": 6, "organization": 1, "disable_date": "2024-01-01T00:00:00Z""#);
    let file = with(&[
        project(21, 1, "p"),
        project(22, 2, "p"),
        team(31, 1, "t"),
        team(32, 2, "t"),
        monitor(1, 1, 21),
        monitor(2, 1, 22),
        project_team(1, 21, 31),
        project_team(2, 21, 32),
        environment,
        rule,
        neglected,
    ]);
    for filter in [None, Some(&["one"][..]), Some(&["one", "two"][..])] {
        let plan = file.plan(filter).unwrap();
        let mut of_two = Vec::new();
        for model in file.catalog.written() {
            let mut reader = plan.reader(model, &file.env, 1).unwrap();
            while let Some(record) = reader.next_record().unwrap() {
                if plan.is_in_two_organizations(model, record.offset) {
                    of_two.push((model.name.as_str(), record.source_pk));
                }
            }
        }
        of_two.sort_unstable();
        assert_eq!(of_two, [("sentry.monitor", 2), ("sentry.projectteam", 2), ("sentry.rule", 6)]);
    }
}

#[test]
fn records_of_other_scopes_are_reported_if_they_belong_to_what_is_imported() {
    let key =
        |pk: i64, organization: i64| record("apikey", pk, &format!(r#""organization_id": {organization}"#));
    let file = with(&[
        key(1, 2),
        key(2, 1),
        key(3, 1),
        record("userip", 1, r#""user": 11"#),
        record(
            "notificationaction",
            4,
            r#""integration_id": 9, "organization": 1, "type": 0, "target_type": 0, "trigger_type": 0"#,
        ),
        record(
            "notificationaction",
            5,
            r#""organization": 1, "type": 0, "target_type": 0, "trigger_type": 0"#,
        ),
    ]);
    let reported = |filter| {
        let plan = file.plan(filter).unwrap();
        let found = plan.findings.into_iter().filter(|finding| finding.kind == FindingKind::OutOfScope);
        found
            .map(|finding| (finding.model.unwrap(), finding.source_pk.unwrap(), finding.reason))
            .collect::<Vec<_>>()
    };
    let all = reported(None);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].0 == "sentry.apikey" && all[0].1 == 1 && all[0].2.contains("3 records"), "{all:?}");
    assert!(all[1].0 == "sentry.notificationaction" && all[1].1 == 4, "{all:?}");
    let one = reported(Some(&["one"]));
    assert!(one[0].1 == 2 && one[0].2.contains("2 records"), "{one:?}");
}

#[test]
fn more_organizations_than_an_import_takes_are_refused_at_the_first_too_many() {
    let all: Vec<String> = (1..=4).map(|pk| organization(pk, &format!("o{pk}"))).collect();
    assert!(ExportFile::new(&all[..3]).plan(None).is_ok());
    let error = ExportFile::new(&all).plan(None).unwrap_err().to_string();
    assert!(error.contains("record 4, pk 4") && error.contains("4 organizations"), "{error}");
    // A filter that selects no more than that helps.
    assert!(ExportFile::new(&all).plan(Some(&["o1", "o3", "o4"])).is_ok());
    assert!(ExportFile::new(&all).plan(Some(&["o1", "o2", "o3", "o4"])).is_err());
}

#[test]
fn a_query_that_nothing_imported_refers_to_is_not_imported() {
    let query = |pk: i64| {
        let fields = r#""type": 0, "dataset": "events", "query": "", "aggregate": "", "time_window": 1, "resolution": 1"#;
        record("snubaquery", pk, fields)
    };
    let rule = |pk: i64, query: i64, user: i64| {
        let fields = format!(
            r#""organization": 1, "snuba_query": {query}, "user_id": {user}, "name": "n", "threshold_period": 1"#
        );
        record("alertrule", pk, &fields)
    };
    let environment = record("environment", 5, r#""organization_id": 1, "name": "e""#);
    let with_environment = query(14).replace("\"type\"", "\"environment\": 5, \"type\"");
    // Queries of a rule, of nothing, of a rule whose user is excluded, of a rule whose user is not in the file, and of
    // nothing but with an environment.
    let file = with(&[
        environment,
        query(11),
        query(12),
        query(13),
        query(15),
        with_environment,
        rule(1, 11, 11),
        rule(2, 13, 12),
        rule(3, 15, 99),
        record("snubaqueryeventtype", 1, r#""snuba_query": 12, "type": 0"#),
    ]);
    let model = file.catalog.model("sentry.snubaquery").unwrap();
    let outcomes = |filter| {
        let plan = file.plan(filter).unwrap();
        (11..=15)
            .map(|pk| {
                let taken = plan.selection.as_ref().is_none_or(|selection| selection.takes(model, pk, None));
                (taken, plan.is_useless(model, pk))
            })
            .collect::<Vec<_>>()
    };
    let (kept, dropped, filtered) = ((true, false), (true, true), (false, false));
    assert_eq!(outcomes(None), [kept, dropped, kept, dropped, dropped]);
    assert_eq!(outcomes(Some(&["one"])), [kept, filtered, dropped, filtered, dropped]);
}

#[test]
fn a_defect_of_what_a_merged_user_may_keep_is_undecided() {
    let long = "k".repeat(65);
    let option =
        |pk: i64, user: &str| record("useroption", pk, &format!(r#"{user}"key": "{long}", "value": "1""#));
    let file = with(&[option(5, r#""user": 11, "#), option(6, r#""user": 12, "#)]);
    let refused = file.plan(None).unwrap_err().to_string();
    assert!(refused.contains("sentry.useroption record 1, pk 5"), "{refused}");
    let plan = file.plan_merging(None, true).unwrap();
    assert!(plan.has_undecided());
    let users = plan.undecided_users(&file.catalog, &file.env).unwrap();
    assert_eq!(users, [(11, "ann".to_owned()), (12, "bob".to_owned())]);
    let refuse = |existing: &[i64]| {
        plan.refuse_undecided(&file.catalog, &file.env, &existing.iter().copied().collect())
            .map_err(|error| error.to_string())
    };
    assert_eq!(refuse(&[11, 12]), Ok(()));
    for (existing, pk) in [(&[][..], 5), (&[12], 5), (&[11], 6)] {
        let refused = refuse(existing).unwrap_err();
        assert!(refused.contains(&format!("pk {pk}")) && refused.contains("64 are the most"), "{refused}");
    }
    // What the filter leaves out is left out, whichever users exist.
    let plan = file.plan_merging(Some(&["one"]), true).unwrap();
    assert_eq!(plan.undecided_users(&file.catalog, &file.env).unwrap(), [(11, "ann".to_owned())]);
    // The owner of this one is unknown.
    let nobodys = with(&[option(5, "")]);
    assert!(nobodys.plan_merging(None, true).unwrap_err().to_string().contains("pk 5"));
    // Other records of a user are imported, whichever users exist.
    let members = with(&[member(7, 1, 11).replace("\"user_id\"", "\"email\": \"e\", \"user_id\"")]);
    assert!(members.plan_merging(None, true).is_err());
}
