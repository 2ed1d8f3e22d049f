mod addresses;
mod checkpoint;
mod left_out;
mod segments;

use std::{fs::File, io::Write as _};

use super::*;
use crate::{
    catalog::{ORGANIZATION, USER},
    finding::FindingKind,
};

struct ExportFile {
    dir: tempfile::TempDir,
    catalog: Catalog,
    env: Environment,
}

fn organization(pk: i64, slug: &str) -> String {
    format!(
        r#"{{"model": "sentry.organization", "pk": {pk}, "fields": {{"name": "{slug}", "slug": "{slug}"}}}}"#
    )
}

fn team(pk: i64, organization: i64, slug: &str) -> String {
    format!(
        r#"{{"model": "sentry.team", "pk": {pk}, "fields": {{"name": "t", "slug": "{slug}", "organization": {organization}}}}}"#
    )
}

impl ExportFile {
    fn new(records: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join("export.json"))
            .unwrap()
            .write_all(format!("[{}]", records.join(",\n")).as_bytes())
            .unwrap();
        Self { dir, catalog: Catalog::load().unwrap(), env: Environment::fixed(DateTime::UNIX_EPOCH, 1) }
    }

    fn plan(&self, filter: Option<&[&str]>) -> Result<Plan, ExportError> {
        self.plan_merging(filter, false)
    }

    fn plan_merging(&self, filter: Option<&[&str]>, merge_users: bool) -> Result<Plan, ExportError> {
        let filter: Option<BTreeSet<String>> =
            filter.map(|slugs| slugs.iter().map(|slug| (*slug).to_owned()).collect());
        let request = PlanRequest {
            source: &Source::plain(&self.dir.path().join("export.json"))?,
            scratch_dir: self.dir.path(),
            filter: filter.as_ref(),
            limits: Limits::default(),
            merge_users,
            most_organizations: 3,
            now: self.env.now(),
            tables: "",
            keep: None,
        };
        Plan::make(&self.catalog, &self.env, &request, &PlanningProgress::default())
    }

    fn pks(&self, plan: &Plan, model: &str, from: i64) -> Vec<i64> {
        let mut reader = plan.reader(self.catalog.model(model).unwrap(), &self.env, from).unwrap();
        let mut pks = Vec::new();
        while let Some(record) = reader.next_record().unwrap() {
            pks.push(record.source_pk);
        }
        pks
    }
}

#[test]
fn records_of_a_model_are_found_wherever_they_lie() {
    let file = ExportFile::new(&[
        team(1, 1, "a"),
        organization(1, "x"),
        team(2, 1, "b"),
        team(3, 1, "c"),
        organization(2, "y"),
        team(4, 2, "a"),
    ]);
    let plan = file.plan(None).unwrap();
    assert_eq!(plan.records, 6);
    assert_eq!(file.pks(&plan, "sentry.team", 1), [1, 2, 3, 4]);
    assert_eq!(file.pks(&plan, "sentry.team", 3), [3, 4]);
    assert_eq!(file.pks(&plan, "sentry.organization", 2), [2]);
    assert_eq!(file.pks(&plan, "sentry.project", 1), [] as [i64; 0]);
}

/// All teams of the file, by primary key, with the slug that each gets.
fn slugs(file: &ExportFile, plan: &Plan) -> BTreeMap<i64, String> {
    let model = file.catalog.model("sentry.team").unwrap();
    let mut reader = plan.reader(model, &file.env, 1).unwrap();
    let mut slugs = BTreeMap::new();
    while let Some(record) = reader.next_record().unwrap() {
        let own = || record.values[1].as_text().unwrap().to_owned();
        let made = plan.generated_slug(model, &record).unwrap();
        slugs.insert(record.source_pk, made.map_or_else(own, |(_, slug)| slug));
    }
    slugs
}

#[test]
fn a_slug_that_is_made_is_nobody_elses_whatever_the_file_has() {
    let named = |pk: i64| team(pk, 1, "");
    // The second candidate of one of them is in the file too, after it.
    let further =
        |pk: i64, attempt: usize| crate::slug::candidate("sentry.team", pk, "t", 50, attempt).unwrap();
    let mut records = vec![named(9), named(8), team(3, 1, &further(9, 1)), team(4, 2, "t")];
    let plan = |records: &[String]| {
        let file = ExportFile::new(records);
        file.plan(None).map(|plan| slugs(&file, &plan))
    };
    let made = plan(&records).unwrap();
    // The lower primary key gets the plain slug, wherever its record is.
    assert_eq!((&*made[&8], &made[&9]), ("t", &further(9, 2)));
    records.reverse();
    assert_eq!(plan(&records).unwrap(), made);
    records.push(team(5, 1, "t"));
    assert_eq!(plan(&records).unwrap()[&8], further(8, 1));

    // Only a crafted file has all of them.
    for attempt in 2..crate::slug::CANDIDATES {
        records.push(team(i64::try_from(10 + attempt).unwrap(), 1, &further(9, attempt)));
    }
    let error = plan(&records).unwrap_err().to_string();
    assert!(error.contains("sentry.team record") && error.contains("pk 9, field slug"), "{error}");
}

#[test]
fn records_that_contradict_each_other_are_refused_and_both_named() {
    let error = ExportFile::new(&[organization(7, "x"), organization(8, "y"), organization(7, "z")])
        .plan(None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sentry.organization") && error.contains("pk 7") && error.contains("at byte 1"),
        "{error}"
    );
    let error = ExportFile::new(&[organization(1, "x"), team(1, 1, "a"), team(5, 1, "a")])
        .plan(None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("pk 5") && error.contains("with pk 1") && error.contains("slug"), "{error}");
    assert!(ExportFile::new(&[team(1, 1, "a"), team(5, 2, "a")]).plan(None).is_ok());
    // Control resolves conflicts between slugs of organizations.
    assert!(ExportFile::new(&[organization(1, "x"), organization(2, "x")]).plan(None).is_ok());
}

#[test]
fn of_options_that_are_the_same_the_first_is_kept() {
    let option = |pk: i64, user: i64| {
        format!(
            r#"{{"model": "sentry.useroption", "pk": {pk}, "fields": {{"user": {user}, "key": "k", "value": 1}}}}"#
        )
    };
    let file = ExportFile::new(&[option(1, 1), option(2, 2), option(3, 1)]);
    let plan = file.plan(None).unwrap();
    let model = file.catalog.model("sentry.useroption").unwrap();
    let mut reader = plan.reader(model, &file.env, 1).unwrap();
    let mut repeated = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        repeated.push(plan.is_repeated(model, record.offset));
    }
    assert_eq!(repeated, [false, false, true]);
}

#[test]
fn what_the_catalog_does_not_know_is_passed_over_and_counted() {
    let file = ExportFile::new(&[
        r#"{"model": "sentry.nonsense", "pk": 1, "fields": {"x": [{}]}}"#.to_owned(),
        r#"{"model": "Sentry.Actor", "pk": 1, "fields": {}}"#.to_owned(),
        r#"{"model": "sentry.nonsense", "pk": 2, "fields": {}}"#.to_owned(),
        organization(1, "x"),
        r#"{"model": "sentry.controloption", "pk": 1, "fields": {"unheard": 1}}"#.to_owned(),
    ]);
    let plan = file.plan(None).unwrap();
    assert_eq!(
        plan.passed_over.clone().into_iter().collect::<Vec<_>>(),
        [("sentry.actor".to_owned(), 1), ("sentry.nonsense".to_owned(), 2)]
    );
    assert_eq!(
        plan.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(),
        [FindingKind::UnknownModel, FindingKind::UnknownField, FindingKind::RemovedModel]
    );
    assert!(plan.findings[0].reason.contains("2 records"));
}

#[test]
fn a_filter_takes_organizations_their_members_and_the_addresses_of_those() {
    let user = |pk: i64, email: &str| {
        format!(
            r#"{{"model": "sentry.user", "pk": {pk}, "fields": {{"username": "u{pk}", "password": "", "email": "{email}"}}}}"#
        )
    };
    let member = |pk: i64, organization: i64, user: i64| {
        format!(
            r#"{{"model": "sentry.organizationmember", "pk": {pk}, "fields": {{"organization": {organization}, "user_id": {user}}}}}"#
        )
    };
    let file = ExportFile::new(&[
        member(1, 1, 11),
        member(2, 2, 12),
        user(11, "A@x"),
        user(12, "b@x"),
        organization(1, "one"),
        organization(2, "two"),
    ]);
    let takes = |plan: &Plan, model: &str, pk: i64, email: Option<&str>| {
        plan.selection.as_ref().unwrap().takes(file.catalog.model(model).unwrap(), pk, email)
    };
    let plan = file.plan(Some(&["one", "three"])).unwrap();
    assert!(takes(&plan, ORGANIZATION, 1, None) && !takes(&plan, ORGANIZATION, 2, None));
    assert!(takes(&plan, USER, 11, None) && !takes(&plan, USER, 12, None));
    assert!(takes(&plan, "sentry.email", 1, Some("a@x")) && !takes(&plan, "sentry.email", 1, Some("b@x")));
    assert_eq!(
        plan.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(),
        [FindingKind::FilterSlugNotFound]
    );

    assert!(matches!(file.plan(Some(&["ONE"])), Err(ExportError::FilterMatchesNothing(_))));
    let nothing = file.plan(Some(&[])).unwrap();
    assert!(
        !takes(&nothing, ORGANIZATION, 1, None) && !takes(&nothing, "sentry.timeseriessnapshot", 1, None)
    );
}

#[test]
fn a_record_that_hangs_from_nothing_goes_with_those_that_refer_to_it() {
    let record = |model: &str, pk: i64, fields: &str| {
        format!(r#"{{"model": "sentry.{model}", "pk": {pk}, "fields": {{{fields}}}}}"#)
    };
    let query = |pk: i64| {
        record(
            "snubaquery",
            pk,
            r#""type": 0, "dataset": "events", "query": "", "aggregate": "", "time_window": 1, "resolution": 1"#,
        )
    };
    let rule = |pk: i64, organization: &str, query: i64| {
        record(
            "alertrule",
            pk,
            &format!(
                r#""organization": {organization}, "snuba_query": {query}, "name": "n", "threshold_period": 1"#
            ),
        )
    };
    let subscription = |pk: i64, project: i64, query: i64| {
        record(
            "querysubscription",
            pk,
            &format!(r#""project": {project}, "type": "t", "snuba_query": {query}"#),
        )
    };
    let project = |pk: i64, organization: i64| {
        record("project", pk, &format!(r#""organization": {organization}, "slug": "p{pk}", "name": "p""#))
    };
    let file = ExportFile::new(&[
        organization(1, "one"),
        organization(2, "two"),
        project(1, 1),
        project(2, 2),
        // Queries of both organizations, of the second one, of neither, and of a rule that belongs to nothing itself.
        query(11),
        query(12),
        query(13),
        query(14),
        rule(1, "1", 11),
        rule(2, "2", 12),
        rule(3, "null", 14),
        record("rulesnooze", 1, r#""alert_rule": 3, "rule": null"#),
        subscription(1, 2, 11),
        subscription(2, 2, 12),
        // A trigger that belongs to nothing refers to the rule that belongs to nothing.
        record("alertruletrigger", 1, r#""alert_rule": 3, "label": "l", "alert_threshold": 1"#),
        record("snubaqueryeventtype", 1, r#""snuba_query": 13, "type": 0"#),
    ]);
    let taken = |slug: &str| {
        let plan = file.plan(Some(&[slug])).unwrap();
        let takes = |model: &str, pk: i64| {
            plan.selection.as_ref().unwrap().takes(file.catalog.model(model).unwrap(), pk, None)
        };
        let queries: Vec<i64> = (11..=14).filter(|pk| takes("sentry.snubaquery", *pk)).collect();
        (queries, takes("sentry.alertrule", 3))
    };
    assert_eq!(taken("one"), (vec![11], false));
    assert_eq!(taken("two"), (vec![11, 12], false));
}
