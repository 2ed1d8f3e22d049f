//! The report on one import, for people.

use std::fmt::Write as _;

use causeway_proto::{
    control::v1::SlugVerdict,
    failure::reason_name,
    region::v1::{Import, ImportState, SlugPlan},
    relocation::v1::{ErrorReason, Finding, FindingCount, FindingKind, Severity},
    time::from_proto,
};
use chrono::SecondsFormat;

use super::{
    counts::{records, summary},
    place::CommandTarget,
    table::{
        Align::{Left, Right},
        Table, clean,
    },
    throttle,
};

/// The model of organizations.
const ORGANIZATION: &str = "sentry.organization";

/// The findings that the report shows.
#[derive(Debug)]
pub(crate) enum Findings {
    /// The first findings of each kind.
    First(Vec<Finding>),
    /// All findings of the import.
    All(Vec<Finding>),
}

/// The name of an enum value without the prefix that all values of its type have.
pub(super) fn short<'a>(name: &'a str, prefix: &str) -> &'a str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// The import's state; its number if it is of a newer contract.
pub(crate) fn state(import: &Import) -> String {
    state_name(import.state)
}

fn state_name(state: i32) -> String {
    ImportState::try_from(state).map_or_else(|_| state.to_string(), |state| state.short_name().to_uppercase())
}

/// The name of a reason; its number if it is of a newer contract.
pub(super) fn reason(reason: i32) -> String {
    ErrorReason::try_from(reason).map_or_else(|_| reason.to_string(), |reason| reason_name(reason).to_owned())
}

/// Everything about an import that fits on a few screens. Commands in it go to `place`.
pub(crate) fn render(import: &Import, findings: &Findings, place: &CommandTarget) -> String {
    let message = |text: &str| place.complete(&clean(text), &import.control_addresses);
    let (what, written) = if import.dry_run { ("Dry run", "; nothing was written") } else { ("Import", "") };
    let mut sections = vec![format!(
        "{what} {} in region {}: {}{written}\n",
        import.import_id,
        clean(&import.region),
        state(import)
    )];
    if let Some(throttled) = import.progress.as_ref().and_then(|progress| progress.throttled.as_ref()) {
        sections.push(format!("The import is {}\n", throttle::held(throttled)));
    }
    if let Some(waiting) = import.waiting.as_ref().filter(|_| import.pause.is_some()) {
        sections.push(format!("Paused: {} ({})\n", message(&waiting.message), reason(waiting.reason)));
    } else if let Some(waiting) = &import.waiting {
        sections.push(format!(
            "Waiting after {} failed attempts: {} ({})\n",
            waiting.attempts,
            message(&waiting.message),
            reason(waiting.reason)
        ));
    }
    if let Some(lease) = &import.lease {
        let renewed = lease.renew_time.as_ref().and_then(from_proto);
        sections.push(format!(
            "Run by {}, which last showed itself at {}\n",
            clean(&lease.place),
            renewed.map_or_else(String::new, |time| time.to_rfc3339_opts(SecondsFormat::Secs, true)),
        ));
    }
    if let Some(failure) = &import.failure {
        sections.push(format!(
            "Failed while {}: {} ({})\n",
            state_name(failure.state),
            message(&failure.message),
            reason(failure.reason)
        ));
    }
    sections.extend(summary(import));
    sections.push(if import.dry_run { slug_plans(import, place) } else { organizations(import, place) });
    sections.push(records(&import.models));
    sections.push(match findings {
        Findings::First(first) => findings_by_kind(import, first, place),
        Findings::All(all) => all_findings(import, all, place),
    });
    if import.hidden_organization_count > 0 {
        sections.push(format!(
            "{} organizations are hidden until somebody approves them:\n  {}\n",
            import.hidden_organization_count,
            place.command(["organizations", "approve", "--import", &import.import_id])
        ));
    }
    sections.join("\n")
}

fn organizations(import: &Import, place: &CommandTarget) -> String {
    let mut text = format!("Organizations ({})\n", import.organization_count);
    if import.organizations.is_empty() {
        return text;
    }
    let mut table = Table::new(&[
        ("old id", Right),
        ("new id", Right),
        ("wanted slug", Left),
        ("given slug", Left),
        ("", Left),
    ]);
    for organization in &import.organizations {
        let changed = !organization.slug.is_empty() && organization.slug != organization.wanted_slug;
        table.row([
            organization.source_id.to_string(),
            organization.id.to_string(),
            organization.wanted_slug.clone(),
            organization.slug.clone(),
            if changed { why_changed(organization.slug_plan.as_ref()) } else { String::new() },
        ]);
    }
    text.push_str(&table.render());
    let shown = i64::try_from(import.organizations.len()).unwrap_or(i64::MAX);
    if import.organization_count > shown {
        let more = import.organization_count - shown;
        // Writing to a string does not fail.
        let all = ["imports", "keys", &import.import_id, "--model", ORGANIZATION];
        let _ = writeln!(text, "  and {more} more; all of them:\n  {}", place.command(all));
    }
    text
}

/// Why an organization has another slug than it wanted, in a few words.
fn why_changed(plan: Option<&SlugPlan>) -> String {
    let plan = plan.cloned().unwrap_or_default();
    match (plan.verdict(), plan.taken_by_organization_id) {
        (SlugVerdict::Taken, 0) => "taken".to_owned(),
        (SlugVerdict::Taken, id) => format!("taken by organization {id} of {}", plan.taken_by_region),
        (SlugVerdict::ReservedWord, _) => "reserved word".to_owned(),
        (SlugVerdict::Normalized | SlugVerdict::Invalid, _) => "no valid slug".to_owned(),
        (SlugVerdict::Free | SlugVerdict::Unspecified, _) => "changed".to_owned(),
    }
}

/// What a dry run found out about each organization.
fn slug_plans(import: &Import, place: &CommandTarget) -> String {
    let mut text = format!("Organizations that would be imported ({})\n", import.organization_count);
    if import.organizations.is_empty() {
        return text;
    }
    let mut table = Table::new(&[
        ("old id", Right),
        ("wanted slug", Left),
        ("verdict", Left),
        ("would become", Left),
        ("taken by", Left),
    ]);
    for organization in &import.organizations {
        let plan = organization.slug_plan.clone().unwrap_or_default();
        let holder = match (plan.verdict(), plan.taken_by_organization_id) {
            (SlugVerdict::Taken, 0) => "another one of the file".to_owned(),
            (SlugVerdict::Taken, id) => format!("organization {id} of {}", plan.taken_by_region),
            _ => String::new(),
        };
        table.row([
            organization.source_id.to_string(),
            organization.wanted_slug.clone(),
            short(plan.verdict().as_str_name(), "SLUG_VERDICT_").to_lowercase().replace('_', " "),
            organization.slug.clone(),
            holder,
        ]);
    }
    text.push_str(&table.render());
    let shown = i64::try_from(import.organizations.len()).unwrap_or(i64::MAX);
    if import.organization_count > shown {
        let more = import.organization_count - shown;
        let findings = place.command(["imports", "show", &import.import_id, "--findings"]);
        let _ =
            writeln!(text, "  and {more} more; each that would get another slug is a finding:\n  {findings}");
    }
    text
}

fn kind_name(finding: &Finding) -> String {
    short(finding.kind().as_str_name(), "FINDING_KIND_").to_owned()
}

fn severity_name(severity: Severity) -> String {
    short(severity.as_str_name(), "SEVERITY_").to_lowercase()
}

fn findings_by_kind(import: &Import, first: &[Finding], place: &CommandTarget) -> String {
    let total: i64 = import.finding_counts.iter().map(|count| count.count).sum();
    let mut text = format!("Findings ({total})\n");
    let mut more = false;
    for count in &import.finding_counts {
        let kind = short(count.kind().as_str_name(), "FINDING_KIND_");
        let _ = writeln!(text, "  {kind} ({}): {}", severity_name(count.severity()), count.count);
        let mut shown = 0;
        for finding in first.iter().filter(|finding| finding.kind == count.kind) {
            let _ = writeln!(text, "    {}", one_finding(import, finding, place));
            shown += 1;
        }
        if count.count > shown {
            let _ = writeln!(text, "    and {} more", count.count - shown);
            more = true;
        }
        let remedy = first.iter().find(|finding| finding.kind == count.kind).map(|it| it.remedy.as_str());
        if let Some(remedy) = remedy.filter(|remedy| !remedy.is_empty()) {
            let _ =
                writeln!(text, "    To do: {}", place.complete(&clean(remedy), &import.control_addresses));
        }
    }
    if more {
        let _ = writeln!(
            text,
            "  All of them (--findings-file FILE writes them as lines of JSON):\n  {}",
            place.command(["imports", "show", &import.import_id, "--findings"])
        );
    }
    text
}

fn all_findings(import: &Import, all: &[Finding], place: &CommandTarget) -> String {
    let mut text = format!("Findings ({})\n", all.len());
    for finding in all {
        let severity = severity_name(finding.severity());
        let one = one_finding(import, finding, place);
        let _ = writeln!(text, "  {} ({severity}): {one}", kind_name(finding));
    }
    text
}

/// The place of a finding in the file, and its reason. Parts of the place that it does not have are left out. Commands
/// in the reason go to `target`.
fn one_finding(import: &Import, finding: &Finding, target: &CommandTarget) -> String {
    let mut place = Vec::new();
    if !finding.model.is_empty() {
        place.push(finding.model.clone());
    }
    if finding.ordinal > 0 {
        place.push(format!("#{}", finding.ordinal));
    }
    if finding.source_pk != 0 {
        place.push(format!("pk {}", finding.source_pk));
    }
    if !finding.field.is_empty() {
        place.push(format!("field {}", finding.field));
    }
    let reason = target.complete(&clean(&finding.reason), &import.control_addresses);
    if place.is_empty() { reason } else { format!("{}: {reason}", clean(&place.join(" "))) }
}

/// The warning for stderr if the file has no record of a model that is imported.
pub(crate) fn nothing_imported(import: &Import) -> Option<String> {
    let nothing = |count: &FindingCount| count.kind() == FindingKind::NothingToImport && count.count > 0;
    let what = if import.dry_run { "would be imported" } else { "was imported" };
    import.finding_counts.iter().any(nothing).then(|| {
        format!("warning: nothing {what}: the file has no record of a model that is imported; the report says which it has")
    })
}

/// The text for stderr about a failed import: why it failed, and what to do. `again` is the command that imports the
/// same file once more, if it is known.
pub(crate) fn failure(import: &Import, place: &CommandTarget, again: Option<&str>) -> String {
    let id = &import.import_id;
    let Some(failure) = &import.failure else {
        return format!("import {id} is {}", state(import));
    };
    let message = place.complete(&clean(&failure.message), &import.control_addresses);
    let (at, why) = (state_name(failure.state), reason(failure.reason));
    let again = |what: &str| match again {
        Some(command) => format!("{what}, under a new import id:\n  {command}"),
        None => format!("{what}, under a new import id"),
    };
    if import.dry_run {
        let what = again("correct what is wrong, and try again");
        return format!("the import would fail, as dry run {id} did while {at}: {message} ({why})\n{what}");
    }
    let resume = place.command(["imports", "resume", id]);
    let revert = place.command(["imports", "revert", id]);
    let what_to_do = match ErrorReason::try_from(failure.reason) {
        Ok(ErrorReason::ExportInvalid) if failure.state() == ImportState::Planning => {
            again("mend the file and import it again")
        }
        Ok(ErrorReason::ExportInvalid) => {
            format!("take it back:\n  {revert}\n{}", again("then mend the file and import it again"))
        }
        Ok(ErrorReason::FilterMatchesNothing) => {
            again("correct --filter-org-slugs and import the file again")
        }
        Ok(ErrorReason::CountsDoNotAddUp) => format!(
            "this is a defect of Causeway: keep the file and the region's log, and report it. To take the import back:\n  \
             {revert}"
        ),
        _ => format!(
            "see to the cause, which the region's log tells more of; then go on with the import, or take it back:\n  \
             {resume}\n  {revert}"
        ),
    };
    format!("import {id} failed while {at}: {message} ({why})\nnothing of it is visible; {what_to_do}")
}

#[cfg(test)]
mod tests {
    use causeway_proto::{
        region::v1::{ImportFailure, ImportedOrganization, Waiting},
        relocation::v1::ModelCounts,
    };

    use super::*;

    fn place() -> CommandTarget {
        CommandTarget::Region("http://eu:1".to_owned())
    }

    fn import() -> Import {
        Import {
            import_id: "3b1f".to_owned(),
            region: "eu".to_owned(),
            state: ImportState::Succeeded.into(),
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

Of 19 records: 10 arrived as in the file; 2 arrived changed; 6 did not arrive (1 dropped, 5 of models that \
cannot be imported); 1 left out by the filter

Organizations (3)
  old id  new id  wanted slug  given slug
       1    4501  acme         acme
      22    4502  api          api-x7      changed
  and 1 more; all of them:
  causeway imports keys 3b1f --model sentry.organization --region http://eu:1

Records (19)
  model                seen  inserted  existing  out of scope  filtered  dropped  passed over  changed
  sentry.organization     4         3         0             0         1        0            0        2
  sentry.user            10         7         2             0         0        1            0        0
  sentry.nonsense         5         0         0             0         0        0            5        0
  total                  19        10         2             0         1        1            5        2

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
        assert_eq!(render(&import(), &Findings::First(vec![finding()]), &place()), REPORT);
    }

    #[test]
    fn all_findings_are_shown_on_demand() {
        let text = render(&import(), &Findings::All(vec![finding(), finding()]), &place());
        let line = "  SLUG_CHANGED (info): sentry.organization #2 pk 22 field slug: api is a reserved word\n";
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
                message: "record 7 is no object".to_owned(),
                state: ImportState::Planning.into(),
            }),
            ..Default::default()
        };
        assert_eq!(
            render(&import, &Findings::First(Vec::new()), &place()),
            "Import 3b1f in region eu: FAILED\n\n\
             Failed while PLANNING: record 7 is no object (EXPORT_INVALID)\n\n\
             Organizations (0)\n\nRecords (0)\n\nFindings (0)\n"
        );
        assert_eq!(
            failure(&import, &place(), Some("causeway import organizations x.json --region http://eu:1")),
            "import 3b1f failed while PLANNING: record 7 is no object (EXPORT_INVALID)\n\
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
        let text = failure(&import, &place(), None);
        let commands = "\n  causeway imports resume 3b1f --region http://eu:1\
                        \n  causeway imports revert 3b1f --region http://eu:1";
        assert!(text.ends_with(commands), "{text}");
    }

    #[test]
    fn organizations_that_are_left_hidden_are_shown_by_a_command() {
        let import = Import { hidden_organization_count: 2, ..import() };
        let text = render(&import, &Findings::First(Vec::new()), &place());
        let message = "2 organizations are hidden until somebody approves them:\n  \
                    causeway organizations approve --import 3b1f --region http://eu:1\n";
        assert!(text.ends_with(message), "{text}");
    }

    #[test]
    fn the_reasons_of_a_changed_slug_are_told_apart() {
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
            let text = render(&import, &Findings::First(Vec::new()), &place());
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
        let text = render(&import, &Findings::First(Vec::new()), &place());
        let expected = "\
Dry run 3b1f in region eu: PLANNED; nothing was written

Of 0 records: 0 would arrive as in the file; 0 would arrive changed; 0 would not arrive (0 dropped, 0 of \
models that cannot be imported)

Organizations that would be imported (4)
  old id  wanted slug  verdict        would become  taken by
       1  acme         taken          acme-?        organization 7 of us
       2  acme         taken          acme-?        another one of the file
       3  api          reserved word  api-?
       4  free         free           free
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
        let text = render(&import, &Findings::First(Vec::new()), &place());
        let line = "Waiting after 3 failed attempts: control does not answer (CONTROL_UNAVAILABLE)\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_state_of_a_newer_contract_is_a_number() {
        assert_eq!(state(&Import { state: 77, ..Default::default() }), "77");
        assert_eq!(reason(7777), "7777");
    }
}
