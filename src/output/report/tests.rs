//! The report, as a person sees it.

use causeway_proto::{
    control::v1::SlugVerdict,
    region::v1::{ImportFailure, ImportedOrganization, SlugPlan, Waiting},
    relocation::v1::{ModelCounts, Severity},
    time::to_proto,
};

use super::*;
use crate::output::terminal::plain;

/// How a report is shown on a terminal of 80 columns.
const SHOWN: Shown = Shown { all: false, width: Width(80), table_width: Width(80) };
const ALL: Shown = Shown { all: true, ..SHOWN };

/// A report without its styles.
fn rendered(import: &Import, findings: &Findings, shown: Shown) -> String {
    plain(&render(import, findings, &place(), shown))
}

fn place() -> CommandTarget {
    CommandTarget::Region("http://eu:1".to_owned())
}

fn import() -> Import {
    Import {
        import_id: "3b1f".to_owned(),
        region: "eu".to_owned(),
        state: ImportState::Succeeded.into(),
        size_bytes: 61_557,
        create_time: Some(to_proto("2026-11-30T08:00:00Z".parse().expect("a time"))),
        update_time: Some(to_proto("2026-11-30T08:00:02Z".parse().expect("a time"))),
        organization_count: 3,
        organizations: vec![
            ImportedOrganization {
                source_id: 1,
                id: 4501,
                wanted_slug: "acme".to_owned(),
                slug: "acme".to_owned(),
                slug_plan: None,
            },
            ImportedOrganization {
                source_id: 22,
                id: 4502,
                wanted_slug: "api".to_owned(),
                slug: "api-x7".to_owned(),
                slug_plan: None,
            },
        ],
        models: vec![
            ModelCounts {
                model: "sentry.organization".to_owned(),
                seen: 4,
                inserted: 3,
                filtered: 1,
                changed: 2,
                ..Default::default()
            },
            ModelCounts {
                model: "sentry.user".to_owned(),
                seen: 10,
                inserted: 7,
                existing: 2,
                dropped: 1,
                ..Default::default()
            },
            ModelCounts {
                model: "sentry.nonsense".to_owned(),
                seen: 5,
                passed_over: 5,
                ..Default::default()
            },
        ],
        finding_counts: vec![FindingCount {
            kind: FindingKind::SlugChanged.into(),
            severity: Severity::Info.into(),
            count: 2,
        }],
        ..Default::default()
    }
}

fn finding() -> Finding {
    Finding {
        kind: FindingKind::SlugChanged.into(),
        severity: Severity::Info.into(),
        model: "sentry.organization".to_owned(),
        ordinal: 2,
        source_pk: 22,
        field: "slug".to_owned(),
        reason: "api is a reserved word".to_owned(),
        remedy: "Tell somebody.".to_owned(),
        ..Default::default()
    }
}

const REPORT: &str = "\
Import 3b1f in region eu: SUCCEEDED
60.11 KiB, begun 2026-11-30 08:00:00 UTC, took 2.0s (9 records/s)

Of 19 records: 10 arrived as in the file; 2 arrived changed; 6 did not arrive (1
  dropped, 5 of models that cannot be imported); 1 left out by the filter

Organizations (3)
  old id  new id  wanted slug  given slug
      22    4502  api          api-x7      changed
  of the first 2, 1 other organization has the slug wanted (--all shows all):
  causeway imports show 3b1f --all --region http://eu:1
  and 1 more; all of them:
  causeway imports keys 3b1f --model sentry.organization --region http://eu:1

Records (19)
  model                dropped  changed  passed over  filtered  existing
  sentry.user                1                                         2
  sentry.nonsense                                  5
  sentry.organization                 2                      1
  total                      1        2            5         1         2
  columns left out: inserted, seen

Findings (2)
  SLUG_CHANGED (info): 2
    sentry.organization #2 pk 22 field slug: api is a reserved word
    and 1 more
    To do: Tell somebody.
  All of them (--findings-file FILE writes them as lines of JSON):
  causeway imports show 3b1f --findings --region http://eu:1
";

#[test]
fn the_report_on_an_import_that_succeeded() {
    assert_eq!(rendered(&import(), &Findings::First(vec![finding()]), SHOWN), REPORT);
}

#[test]
fn all_organizations_and_models_are_shown_on_demand() {
    let mut import = import();
    import.models[0] =
        ModelCounts { model: "sentry.organization".to_owned(), seen: 3, inserted: 3, ..Default::default() };
    let some = rendered(&import, &Findings::First(Vec::new()), SHOWN);
    assert!(!some.contains("acme") && !some.contains("  sentry.organization "), "{some}");
    assert!(some.contains("  3 records of 1 other model are as in the file (--all shows all):\n"), "{some}");
    let all = rendered(&import, &Findings::First(Vec::new()), ALL);
    for row in ["       1    4501  acme         acme\n", "  sentry.organization "] {
        assert!(all.contains(row), "{row}: {all}");
    }
    // What changed still comes first.
    assert!(all.find("api-x7") < all.find("acme"), "{all}");
}

/// Whoever looks at a row wants to see why it is there: a number may not disappear with its column.
#[test]
fn each_reason_for_which_a_model_is_listed_is_shown_at_any_width() {
    let mut import = import();
    import.models.push(ModelCounts {
        model: "sentry.email".to_owned(),
        seen: 10,
        existing: 10,
        ..Default::default()
    });
    for width in 20..100 {
        let shown = Shown { all: false, width: Width(width), table_width: Width(width) };
        let text = rendered(&import, &Findings::First(Vec::new()), shown);
        let of_email = text.split("sentry.email").nth(1).unwrap_or_default();
        assert!(text.contains("existing") && of_email.trim_start().contains("10"), "{width}: {text}");
    }
    // Without a terminal, each row is a line with all of it.
    let piped = Shown { table_width: Width::UNLIMITED, ..SHOWN };
    let text = rendered(&import, &Findings::First(Vec::new()), piped);
    let heading = "model                dropped  changed  passed over  filtered  existing  inserted  seen\n";
    assert!(text.contains(heading) && !text.contains("left out:"), "{text}");
}

#[test]
fn a_failed_import_has_no_speed() {
    let failed = Import { state: ImportState::Failed.into(), ..import() };
    let text = rendered(&failed, &Findings::First(Vec::new()), SHOWN);
    assert!(text.contains(", took 2.0s\n") && !text.contains("records/s"), "{text}");
}

fn reverted() -> Import {
    let mut import = import();
    import.state = ImportState::Reverted.into();
    import.models[1].deleted = 6;
    import.models[1].kept = 1;
    let kept =
        FindingCount { kind: FindingKind::RowKept.into(), severity: Severity::Warning.into(), count: 1 };
    import.finding_counts.push(kept);
    import
}

#[test]
fn the_report_on_an_import_that_was_reverted_speaks_of_what_is_left() {
    let stays = Finding {
        kind: FindingKind::RowKept.into(),
        severity: Severity::Warning.into(),
        model: "sentry.user".to_owned(),
        reason: "row 7 of auth_user stays: a row of team needs it".to_owned(),
        remedy: "Leave it.".to_owned(),
        ..Default::default()
    };
    let text = rendered(&reverted(), &Findings::First(vec![finding(), stays]), SHOWN);
    let summary = "Reverted at 2026-11-30 08:00:02 UTC: 6 rows deleted, 1 stays (see ROW_KEPT). Who\n  asked for it: \
                   `causeway audit list --object import/3b1f --region http://eu:1`\n";
    assert!(text.contains(summary), "{text}");
    assert!(text.contains("Organizations it had (3)\n") && text.contains("had the slug wanted"), "{text}");
    let findings = "Findings (1)\n  ROW_KEPT (warning): 1\n    sentry.user: row 7 of auth_user stays: a row of team needs \
                    it\n    To do: Leave it.\n  2 findings of the import itself, from before its revert:\n  causeway \
                    imports show 3b1f --findings --region http://eu:1\n";
    assert!(text.ends_with(findings), "{text}");
    assert!(!text.contains("Tell somebody") && !text.contains("SLUG_CHANGED"), "{text}");
    // What the revert has deleted altogether is folded.
    let mut import = reverted();
    import.models[1] = ModelCounts {
        model: "sentry.user".to_owned(),
        seen: 7,
        inserted: 7,
        deleted: 7,
        ..Default::default()
    };
    let text = rendered(&import, &Findings::First(Vec::new()), SHOWN);
    assert!(text.contains("  all rows of 1 other model were deleted (--all shows all):\n"), "{text}");
    assert!(!text.contains("sentry.user "), "{text}");
}

#[test]
fn a_revert_under_way_says_how_much_is_gone() {
    let import = Import { state: ImportState::Reverting.into(), ..reverted() };
    let text = rendered(&import, &Findings::First(Vec::new()), SHOWN);
    assert!(text.contains("Being reverted: so far 6 rows deleted, 1 stays (see ROW_KEPT)."), "{text}");
    // One that failed before it wrote anything has nothing to delete.
    let empty = Import {
        models: Vec::new(),
        finding_counts: Vec::new(),
        failure: Some(ImportFailure { state: ImportState::Planning.into(), ..Default::default() }),
        ..self::reverted()
    };
    let text = rendered(&empty, &Findings::First(Vec::new()), SHOWN);
    assert!(
        text.contains("UTC: it had written no rows.") && text.contains("It had failed while PLANNING"),
        "{text}"
    );
}

#[test]
fn all_findings_are_shown_on_demand() {
    let text = rendered(&import(), &Findings::All(vec![finding(), finding()]), SHOWN);
    let line =
        "  SLUG_CHANGED (info): sentry.organization #2 pk 22 field slug: api is a\n    reserved word\n";
    assert!(text.ends_with(&format!("Findings (2)\n{line}{line}")), "{text}");
}

#[test]
fn the_report_on_an_import_that_failed() {
    let import = Import {
        import_id: "3b1f".to_owned(),
        region: "eu".to_owned(),
        state: ImportState::Failed.into(),
        failure: Some(ImportFailure {
            reason: ErrorReason::ExportInvalid.into(),
            message: "record 7 is not an object".to_owned(),
            state: ImportState::Planning.into(),
        }),
        ..Default::default()
    };
    assert_eq!(
        rendered(&import, &Findings::First(Vec::new()), SHOWN),
        "Import 3b1f in region eu: FAILED\n\n\
             Failed while PLANNING: record 7 is not an object (EXPORT_INVALID)\n"
    );
    assert_eq!(
        failure(&import, &place(), Some("causeway import organizations x.json --region http://eu:1"), false),
        "import 3b1f failed while PLANNING: record 7 is not an object (EXPORT_INVALID)\n\
             nothing of it is visible; mend the file and import it again, under a new import id:\n  \
             causeway import organizations x.json --region http://eu:1"
    );
    let import = Import {
        failure: Some(ImportFailure {
            reason: ErrorReason::DatabaseUnavailable.into(),
            message: "away".to_owned(),
            state: ImportState::Writing.into(),
        }),
        ..import
    };
    let text = failure(&import, &place(), None, false);
    let commands = "\n  causeway imports resume 3b1f --region http://eu:1\
                        \n  causeway imports revert 3b1f --region http://eu:1";
    assert!(text.ends_with(commands), "{text}");
}

#[test]
fn organizations_that_are_left_hidden_are_shown_by_a_command() {
    let import = Import { hidden_organization_count: 2, ..import() };
    let text = rendered(&import, &Findings::First(Vec::new()), SHOWN);
    let message = "2 organizations are hidden until somebody approves them:\n  \
                    causeway organizations approve --import 3b1f --region http://eu:1\n";
    assert!(text.ends_with(message), "{text}");
}

#[test]
fn an_import_took_as_long_as_it_ran_whatever_came_later() {
    let at = |time: &str| Some(to_proto(time.parse().expect("a time")));
    let approved = Import {
        end_time: at("2026-11-30T08:00:00.3Z"),
        update_time: at("2026-11-30T08:01:58Z"),
        ..import()
    };
    let took = |import: &Import| super::duration_of(import).expect("it has ended").as_millis();
    assert_eq!(took(&approved), 300);
    // A region of an older release does not say when it ended.
    assert_eq!(took(&Import { end_time: None, ..approved }), 118_000);
}

#[test]
fn an_import_whose_filter_matches_nothing_says_so_once() {
    let why = "none of the slugs of the filter (acmee) is in the export. Did you mean `acme`? It has acme";
    let failed = Import {
        state: ImportState::Failed.into(),
        failure: Some(ImportFailure {
            reason: ErrorReason::FilterMatchesNothing.into(),
            message: format!("{why} (nothing was written)"),
            state: ImportState::Planning.into(),
        }),
        finding_counts: vec![FindingCount {
            kind: FindingKind::FilterMatchesNothing.into(),
            severity: Severity::Error.into(),
            count: 1,
        }],
        organization_count: 0,
        organizations: Vec::new(),
        models: Vec::new(),
        ..import()
    };
    let finding = Finding {
        kind: FindingKind::FilterMatchesNothing.into(),
        reason: why.to_owned(),
        remedy: "Correct the filter.".to_owned(),
        ..finding()
    };
    let text = rendered(&failed, &Findings::First(vec![finding]), Shown { width: Width::UNLIMITED, ..SHOWN });
    assert_eq!(text.matches("none of the slugs").count(), 1, "{text}");
    assert!(!text.contains("Organizations (") && !text.contains("Records ("), "{text}");
    assert!(
        text.ends_with("Findings (1)\n  FILTER_MATCHES_NOTHING (error): 1\n    To do: Correct the filter.\n"),
        "{text}"
    );
    // With the report before their eyes, nobody needs to read it again.
    let shown = failure(&failed, &place(), Some("again"), true);
    assert!(shown.starts_with("import 3b1f failed while PLANNING (FILTER_MATCHES_NOTHING)\n"), "{shown}");
}

#[test]
fn the_reasons_of_a_changed_slug_are_distinguished() {
    let plan = |verdict: SlugVerdict, taken_by_organization_id| SlugPlan {
        verdict: verdict.into(),
        taken_by_region: "us".to_owned(),
        taken_by_organization_id,
    };
    for (verdict, id, message) in [
        (SlugVerdict::Taken, 7, "taken by organization 7 of us"),
        (SlugVerdict::Taken, 0, "taken"),
        (SlugVerdict::ReservedWord, 0, "reserved word"),
        (SlugVerdict::Invalid, 0, "no valid slug"),
        (SlugVerdict::Normalized, 0, "no valid slug"),
    ] {
        let mut import = import();
        import.organizations[1].slug_plan = Some(plan(verdict, id));
        let text = rendered(&import, &Findings::First(Vec::new()), SHOWN);
        assert!(text.contains(&format!("22    4502  api          api-x7      {message}\n")), "{text}");
    }
}

#[test]
fn the_report_on_a_dry_run() {
    let plan = |verdict: SlugVerdict, region: &str, id| {
        Some(SlugPlan {
            verdict: verdict.into(),
            taken_by_region: region.to_owned(),
            taken_by_organization_id: id,
        })
    };
    let organization = |source_id, wanted: &str, would: &str, slug_plan| ImportedOrganization {
        source_id,
        id: 0,
        wanted_slug: wanted.to_owned(),
        slug: would.to_owned(),
        slug_plan,
    };
    let import = Import {
        dry_run: true,
        state: ImportState::Planned.into(),
        organization_count: 4,
        organizations: vec![
            organization(1, "acme", "acme-?", plan(SlugVerdict::Taken, "us", 7)),
            organization(2, "acme", "acme-?", plan(SlugVerdict::Taken, "", 0)),
            organization(3, "api", "api-?", plan(SlugVerdict::ReservedWord, "", 0)),
            organization(4, "free", "free", plan(SlugVerdict::Free, "", 0)),
        ],
        models: Vec::new(),
        ..import()
    };
    let text = rendered(&import, &Findings::First(Vec::new()), SHOWN);
    let expected = "\
Dry run 3b1f in region eu: PLANNED; nothing was written
60.11 KiB, begun 2026-11-30 08:00:00 UTC, took 2.0s

Of 0 records: 0 would arrive as in the file; 0 would arrive changed; 0 would not
  arrive (0 dropped, 0 of models that cannot be imported)

Organizations that would be imported (4)
  old id  wanted slug  verdict        would become  taken by
       1  acme         taken          acme-?        organization 7 of us
       2  acme         taken          acme-?        another one of the file
       3  api          reserved word  api-?
  1 other organization would get the slug wanted (--all shows all):
  causeway imports show 3b1f --all --region http://eu:1
";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn an_import_that_waits_says_for_what() {
    let import = Import {
        state: ImportState::Writing.into(),
        waiting: Some(Waiting {
            reason: ErrorReason::ControlUnavailable.into(),
            message: "control does not answer".to_owned(),
            attempts: 3,
            ..Default::default()
        }),
        ..Default::default()
    };
    let text = rendered(&import, &Findings::First(Vec::new()), SHOWN);
    let lines = "Waiting after 3 failed attempts: control does not answer (CONTROL_UNAVAILABLE).\n  It tries again by itself.\n";
    assert!(text.contains(lines), "{text}");
}

#[test]
fn an_import_without_slugs_yet_shows_its_first_organizations() {
    let organizations: Vec<ImportedOrganization> = (1..=50)
        .map(|id| ImportedOrganization {
            source_id: id,
            wanted_slug: format!("acme-{id}"),
            ..Default::default()
        })
        .collect();
    let import = Import {
        import_id: "3b1f".to_owned(),
        state: ImportState::Writing.into(),
        organization_count: 50,
        organizations,
        ..Default::default()
    };
    let text = rendered(&import, &Findings::First(Vec::new()), SHOWN);
    assert!(text.contains(" acme-20\n") && !text.contains("acme-21"), "{text}");
    let more = "  and 30 more without a slug yet (--all shows all):\n  causeway imports show 3b1f --all --region http://eu:1\n";
    assert!(text.contains(more), "{text}");
    assert!(rendered(&import, &Findings::First(Vec::new()), ALL).contains(" acme-50\n"));
}

#[test]
fn a_state_of_a_newer_contract_is_a_number() {
    assert_eq!(state(&Import { state: 77, ..Default::default() }), "77");
    assert_eq!(reason(7777), "7777");
}
