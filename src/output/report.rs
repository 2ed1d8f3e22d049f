//! The report on one import, for people.

use std::fmt::Write as _;

use causeway_proto::{
    control::v1::SlugVerdict,
    failure::reason_name,
    region::v1::{Import, ImportState},
    relocation::v1::{ErrorReason, Finding, ModelCounts, Severity},
    time::from_proto,
};
use chrono::SecondsFormat;

use super::table::{
    Align::{Left, Right},
    Table, clean,
};

/// The findings that the report shows.
#[derive(Debug)]
pub(crate) enum Findings {
    /// The first ones of each kind.
    First(Vec<Finding>),
    /// All.
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
    ImportState::try_from(state)
        .map_or_else(|_| state.to_string(), |state| short(state.as_str_name(), "IMPORT_STATE_").to_owned())
}

/// The name of a reason; its number if it is of a newer contract.
pub(super) fn reason(reason: i32) -> String {
    ErrorReason::try_from(reason).map_or_else(|_| reason.to_string(), |reason| reason_name(reason).to_owned())
}

/// Everything about an import that fits on a few screens.
pub(crate) fn render(import: &Import, findings: &Findings) -> String {
    let (what, written) = if import.dry_run { ("Dry run", "; nothing was written") } else { ("Import", "") };
    let mut sections = vec![format!(
        "{what} {} in region {}: {}{written}\n",
        import.import_id,
        clean(&import.region),
        state(import)
    )];
    if let Some(waiting) = &import.waiting {
        sections.push(format!(
            "Waiting after {} failed attempts: {} ({})\n",
            waiting.attempts,
            clean(&waiting.message),
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
            clean(&failure.message),
            reason(failure.reason)
        ));
    }
    sections.push(if import.dry_run { slug_plans(import) } else { organizations(import) });
    sections.push(records(&import.models));
    sections.push(match findings {
        Findings::First(first) => findings_by_kind(import, first),
        Findings::All(all) => all_findings(all),
    });
    sections.join("\n")
}

fn organizations(import: &Import) -> String {
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
            if changed { "changed".to_owned() } else { String::new() },
        ]);
    }
    text.push_str(&table.render());
    let shown = i64::try_from(import.organizations.len()).unwrap_or(i64::MAX);
    if import.organization_count > shown {
        let more = import.organization_count - shown;
        // Writing to a string does not fail.
        let _ = writeln!(text, "  and {more} more; the region's ListMappedKeys has all");
    }
    text
}

/// What a dry run found out about each organization.
fn slug_plans(import: &Import) -> String {
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
        let _ = writeln!(text, "  and {more} more; each that would get another slug is a finding");
    }
    text
}

fn records(models: &[ModelCounts]) -> String {
    if models.is_empty() {
        return "Records (0)\n".to_owned();
    }
    let reverted = models.iter().any(|counts| counts.deleted + counts.kept > 0);
    let mut columns = vec![
        ("model", Left),
        ("seen", Right),
        ("inserted", Right),
        ("existing", Right),
        ("overwritten", Right),
        ("out of scope", Right),
        ("filtered", Right),
        ("dropped", Right),
    ];
    if reverted {
        columns.extend([("deleted", Right), ("kept", Right)]);
    }
    let mut table = Table::new(&columns);
    let mut total = ModelCounts { model: "total".to_owned(), ..Default::default() };
    for counts in models {
        table.row(counts_row(counts, reverted));
        total.seen += counts.seen;
        total.inserted += counts.inserted;
        total.existing += counts.existing;
        total.overwritten += counts.overwritten;
        total.out_of_scope += counts.out_of_scope;
        total.filtered += counts.filtered;
        total.dropped += counts.dropped;
        total.deleted += counts.deleted;
        total.kept += counts.kept;
    }
    table.row(counts_row(&total, reverted));
    format!("Records ({})\n{}", total.seen, table.render())
}

fn counts_row(counts: &ModelCounts, reverted: bool) -> Vec<String> {
    let numbers = [
        counts.seen,
        counts.inserted,
        counts.existing,
        counts.overwritten,
        counts.out_of_scope,
        counts.filtered,
        counts.dropped,
        counts.deleted,
        counts.kept,
    ];
    let shown = if reverted { 9 } else { 7 };
    std::iter::once(counts.model.clone()).chain(numbers.iter().take(shown).map(i64::to_string)).collect()
}

fn kind_name(finding: &Finding) -> String {
    short(finding.kind().as_str_name(), "FINDING_KIND_").to_owned()
}

fn severity_name(severity: Severity) -> String {
    short(severity.as_str_name(), "SEVERITY_").to_lowercase()
}

fn findings_by_kind(import: &Import, first: &[Finding]) -> String {
    let total: i64 = import.finding_counts.iter().map(|count| count.count).sum();
    let mut text = format!("Findings ({total})\n");
    let mut more = false;
    for count in &import.finding_counts {
        let kind = short(count.kind().as_str_name(), "FINDING_KIND_");
        let _ = writeln!(text, "  {kind} ({}): {}", severity_name(count.severity()), count.count);
        let mut shown = 0;
        for finding in first.iter().filter(|finding| finding.kind == count.kind) {
            let _ = writeln!(text, "    {}", one_finding(finding));
            shown += 1;
        }
        if count.count > shown {
            let _ = writeln!(text, "    and {} more", count.count - shown);
            more = true;
        }
        let remedy = first.iter().find(|finding| finding.kind == count.kind).map(|it| it.remedy.as_str());
        if let Some(remedy) = remedy.filter(|remedy| !remedy.is_empty()) {
            let _ = writeln!(text, "    To do: {}", clean(remedy));
        }
    }
    if more {
        let _ = writeln!(
            text,
            "  All of them: causeway imports show {} --findings, or with --findings-file FILE as lines of JSON",
            import.import_id
        );
    }
    text
}

fn all_findings(all: &[Finding]) -> String {
    let mut text = format!("Findings ({})\n", all.len());
    for finding in all {
        let severity = severity_name(finding.severity());
        let _ = writeln!(text, "  {} ({severity}): {}", kind_name(finding), one_finding(finding));
    }
    text
}

/// Where it is and what it says, with nothing for what it is not about.
fn one_finding(finding: &Finding) -> String {
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
    let reason = clean(&finding.reason);
    if place.is_empty() { reason } else { format!("{}: {reason}", clean(&place.join(" "))) }
}

/// What to say on stderr about an import that failed: why, and what to do.
pub(crate) fn failure(import: &Import) -> String {
    let id = &import.import_id;
    let Some(failure) = &import.failure else {
        return format!("import {id} is {}", state(import));
    };
    if import.dry_run {
        return format!(
            "the import would fail, as dry run {id} did while {}: {} ({})\n\
             correct what is wrong, and try again under a new import id",
            state_name(failure.state),
            clean(&failure.message),
            reason(failure.reason)
        );
    }
    let what_to_do = match ErrorReason::try_from(failure.reason) {
        Ok(ErrorReason::ExportInvalid) => {
            "mend the file and import it again, under a new import id".to_owned()
        }
        Ok(ErrorReason::FilterMatchesNothing) => {
            "correct --filter-org-slugs and import the file again, under a new import id".to_owned()
        }
        Ok(ErrorReason::CountsDoNotAddUp) => {
            "this is a defect of Causeway: keep the file and the region's log, and report it".to_owned()
        }
        _ => format!(
            "see to the cause, which the region's log tells more of, then: causeway imports resume {id}"
        ),
    };
    format!(
        "import {id} failed while {}: {} ({})\n\
         nothing of it is visible; {what_to_do}",
        state_name(failure.state),
        clean(&failure.message),
        reason(failure.reason)
    )
}

#[cfg(test)]
mod tests {
    use causeway_proto::{
        region::v1::{ImportFailure, ImportedOrganization, SlugPlan, Waiting},
        relocation::v1::{FindingCount, FindingKind},
    };

    use super::*;

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

Organizations (3)
  old id  new id  wanted slug  given slug
       1    4501  acme         acme
      22    4502  api          api-x7      changed
  and 1 more; the region's ListMappedKeys has all

Records (14)
  model                seen  inserted  existing  overwritten  out of scope  filtered  dropped
  sentry.organization     4         3         0            0             0         1        0
  sentry.user            10         7         2            0             0         0        1
  total                  14        10         2            0             0         1        1

Findings (2)
  SLUG_CHANGED (info): 2
    sentry.organization #2 pk 22 field slug: api is a reserved word
    and 1 more
    To do: Tell somebody.
  All of them: causeway imports show 3b1f --findings, or with --findings-file FILE as lines of JSON
";

    #[test]
    fn the_report_on_an_import_that_succeeded() {
        assert_eq!(render(&import(), &Findings::First(vec![finding()])), REPORT);
    }

    #[test]
    fn all_findings_are_shown_on_demand() {
        let text = render(&import(), &Findings::All(vec![finding(), finding()]));
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
            render(&import, &Findings::First(Vec::new())),
            "Import 3b1f in region eu: FAILED\n\n\
             Failed while PLANNING: record 7 is no object (EXPORT_INVALID)\n\n\
             Organizations (0)\n\nRecords (0)\n\nFindings (0)\n"
        );
        assert_eq!(
            failure(&import),
            "import 3b1f failed while PLANNING: record 7 is no object (EXPORT_INVALID)\n\
             nothing of it is visible; mend the file and import it again, under a new import id"
        );
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
        let text = render(&import, &Findings::First(Vec::new()));
        let expected = "\
Dry run 3b1f in region eu: PLANNED; nothing was written

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
        let text = render(&import, &Findings::First(Vec::new()));
        let line = "Waiting after 3 failed attempts: control does not answer (CONTROL_UNAVAILABLE)\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_state_of_a_newer_contract_is_a_number() {
        assert_eq!(state(&Import { state: 77, ..Default::default() }), "77");
        assert_eq!(reason(7777), "7777");
    }
}
