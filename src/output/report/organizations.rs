//! The organizations of an import: those that got another slug one by one, and the others as a count.

use causeway_proto::{
    control::v1::SlugVerdict,
    region::v1::{Import, ImportedOrganization, SlugPlan},
};

use super::{Shown, reverted::is_reverted, short};
use crate::output::{
    numbers::{count, counted},
    place::CommandTarget,
    table::{
        Align::{Left, Right},
        Table, clean,
    },
    terminal::{HEADING, styled},
    wrap::wrap,
};

/// The model of organizations.
const ORGANIZATION: &str = "sentry.organization";

/// How many organizations without a slug are shown of an import that goes on.
const WITHOUT_A_SLUG: usize = 20;

/// Whether an organization has, or would have, another slug than it wanted.
fn is_changed(organization: &ImportedOrganization) -> bool {
    !organization.slug.is_empty() && organization.slug != organization.wanted_slug
}

/// The organizations that got their slugs, or in a dry run would get them.
pub(super) fn organizations(import: &Import, place: &CommandTarget, shown: Shown) -> String {
    let title = match import.dry_run {
        true => "Organizations that would be imported",
        false if is_reverted(import) => "Organizations it had",
        false => "Organizations",
    };
    let mut text = styled(&format!("{title} ({})", count(import.organization_count)), HEADING) + "\n";
    // Until control has picked the slugs, nothing is known about them.
    let (mut listed, unchanged): (Vec<_>, Vec<_>) = import
        .organizations
        .iter()
        .partition(|organization| shown.all || is_changed(organization) || organization.slug.is_empty());
    listed.sort_by_key(|organization| !is_changed(organization));
    // Those without a slug yet say nothing that the count does not.
    let changed = listed.iter().filter(|organization| is_changed(organization)).count();
    let waiting = if shown.all { 0 } else { listed.len().saturating_sub(changed + WITHOUT_A_SLUG) };
    listed.truncate(listed.len() - waiting);
    if !listed.is_empty() {
        text.push_str(&if import.dry_run {
            planned(&listed).render(shown.table_width)
        } else {
            imported(&listed).render(shown.table_width)
        });
    }
    if waiting > 0 {
        let number = i64::try_from(waiting).unwrap_or(i64::MAX);
        let what = format!("and {} more without a slug yet (--all shows all):", count(number));
        text.push_str(&wrap(&what, shown.width, "  ", 2));
        let all = ["imports", "show", &import.import_id, "--all"];
        text.push_str(&format!("  {}\n", place.command(all)));
    }
    if !unchanged.is_empty() {
        let number = i64::try_from(unchanged.len()).unwrap_or(i64::MAX);
        let has = match (import.dry_run, number) {
            (true, _) => "would get the slug wanted",
            (false, 1) if is_reverted(import) => "had the slug wanted",
            (false, _) if is_reverted(import) => "had the slugs wanted",
            (false, 1) => "has the slug wanted",
            (false, _) => "have the slugs wanted",
        };
        let more = if listed.is_empty() { "organization" } else { "other organization" };
        let of = match i64::try_from(import.organizations.len()) {
            Ok(known) if known < import.organization_count => format!("of the first {}, ", count(known)),
            _ => String::new(),
        };
        let what = format!("{of}{} {has} (--all shows all):", counted(number, more));
        text.push_str(&wrap(&what, shown.width, "  ", 2));
        let all = ["imports", "show", &import.import_id, "--all"];
        text.push_str(&format!("  {}\n", place.command(all)));
    }
    text.push_str(&further(import, place, shown));
    text
}

/// The message gives the first organizations only; where the others are.
fn further(import: &Import, place: &CommandTarget, shown: Shown) -> String {
    let listed = i64::try_from(import.organizations.len()).unwrap_or(i64::MAX);
    let more = import.organization_count.saturating_sub(listed);
    if more <= 0 || import.organizations.is_empty() {
        return String::new();
    }
    let more = count(more);
    let (what, command) = if import.dry_run {
        let command = place.command(["imports", "show", &import.import_id, "--findings"]);
        (format!("and {more} more; each that would get another slug is a finding:"), command)
    } else {
        let command = place.command(["imports", "keys", &import.import_id, "--model", ORGANIZATION]);
        (format!("and {more} more; all of them:"), command)
    };
    wrap(&what, shown.width, "  ", 2) + &format!("  {command}\n")
}

fn imported(organizations: &[&ImportedOrganization]) -> Table {
    let mut table = Table::new(&[
        ("old id", Right),
        ("new id", Right),
        ("wanted slug", Left),
        ("given slug", Left),
        ("", Left),
    ])
    .under(&[""]);
    for organization in organizations {
        let why = if is_changed(organization) {
            why_changed(organization.slug_plan.as_ref())
        } else {
            String::new()
        };
        table.row([
            organization.source_id.to_string(),
            organization.id.to_string(),
            organization.wanted_slug.clone(),
            organization.slug.clone(),
            why,
        ]);
    }
    table
}

/// Why an organization has another slug than it wanted, in a few words.
fn why_changed(plan: Option<&SlugPlan>) -> String {
    let plan = plan.cloned().unwrap_or_default();
    match (plan.verdict(), plan.taken_by_organization_id) {
        (SlugVerdict::Taken, 0) => "taken".to_owned(),
        (SlugVerdict::Taken, id) => format!("taken by organization {id} of {}", clean(&plan.taken_by_region)),
        (SlugVerdict::ReservedWord, _) => "reserved word".to_owned(),
        (SlugVerdict::Normalized | SlugVerdict::Invalid, _) => "no valid slug".to_owned(),
        (SlugVerdict::Free | SlugVerdict::Unspecified, _) => "changed".to_owned(),
    }
}

/// What a dry run found out about organizations.
fn planned(organizations: &[&ImportedOrganization]) -> Table {
    let mut table = Table::new(&[
        ("old id", Right),
        ("wanted slug", Left),
        ("verdict", Left),
        ("would become", Left),
        ("taken by", Left),
    ])
    .under(&["taken by"]);
    for organization in organizations {
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
    table
}
