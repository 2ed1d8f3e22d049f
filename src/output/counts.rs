//! How many records of the file arrived, and how: as a sentence, and as a table by model.

use causeway_proto::{
    region::v1::{Import, ImportState},
    relocation::v1::ModelCounts,
};

use super::{
    numbers::{count, counted},
    report::Shown,
    table::{
        Align::{Left, Right},
        Table,
    },
    terminal::{HEADING, Width, styled},
    wrap::wrap,
};

/// How many records the file has.
pub(super) fn seen(import: &Import) -> i64 {
    import.models.iter().map(|counts| counts.seen).sum()
}

/// How many records arrived unchanged, changed, or not at all; for a dry run, how many would. `None` unless the import
/// succeeded or the dry run was planned.
pub(super) fn summary(import: &Import) -> Option<String> {
    if !matches!(import.state(), ImportState::Succeeded | ImportState::Planned) {
        return None;
    }
    let sum = |count: fn(&ModelCounts) -> i64| -> i64 { import.models.iter().map(count).sum() };
    let arrived = sum(|counts| counts.inserted + counts.existing);
    let changed = sum(|counts| counts.changed);
    let (dropped, passed_over) = (sum(|counts| counts.dropped), sum(|counts| counts.passed_over));
    let (would, not) =
        if import.dry_run { ("would arrive", "would not arrive") } else { ("arrived", "did not arrive") };
    let mut parts = vec![
        format!("{} {would} as in the file", count(arrived - changed)),
        format!("{} {would} changed", count(changed)),
        format!(
            "{} {not} ({} dropped, {} of models that cannot be imported)",
            count(dropped + passed_over),
            count(dropped),
            count(passed_over)
        ),
    ];
    let (filtered, out_of_scope) = (sum(|counts| counts.filtered), sum(|counts| counts.out_of_scope));
    if filtered > 0 {
        parts.push(format!("{} left out by the filter", count(filtered)));
    }
    if out_of_scope > 0 {
        parts.push(format!("{} of a scope that imports of organizations do not take", count(out_of_scope)));
    }
    let mut summary = format!("Of {}: {}", counted(seen(import), "record"), parts.join("; "));
    let added = sum(|counts| counts.added);
    if added > 0 {
        let were = match (import.dry_run, added) {
            (true, _) => "would be",
            (false, 1) => "was",
            (false, _) => "were",
        };
        summary
            .push_str(&format!(". {} {were} added for which the file has no record", counted(added, "row")));
    }
    Some(summary)
}

/// A column of the table: its heading, and its count of a model.
type Column = (&'static str, fn(&ModelCounts) -> i64);

/// The columns: what a person should look at comes first.
const COLUMNS: [Column; 11] = [
    ("dropped", |counts| counts.dropped),
    ("changed", |counts| counts.changed),
    ("passed over", |counts| counts.passed_over),
    ("kept", |counts| counts.kept),
    ("deleted", |counts| counts.deleted),
    ("filtered", |counts| counts.filtered),
    ("out of scope", |counts| counts.out_of_scope),
    ("added", |counts| counts.added),
    ("existing", |counts| counts.existing),
    ("inserted", |counts| counts.inserted),
    ("seen", |counts| counts.seen),
];

/// Whether nobody needs to look at a model: all its records are in the database, as new rows that are as in the file, and
/// no other rows were added; or a revert has deleted all rows of it.
fn is_plain(counts: &ModelCounts, is_gone: bool) -> bool {
    match is_gone {
        true => {
            let rows = counts.inserted + counts.added;
            rows > 0 && counts.deleted == rows && counts.kept == 0
        }
        false => {
            counts.seen > 0
                && counts.added == 0
                && counts.inserted == counts.seen
                && counts.changed == 0
                && counts.kept + counts.deleted == 0
        }
    }
}

/// Where a model stands in the table: those that lost something first, then those that changed.
fn rank(counts: &ModelCounts) -> u8 {
    match counts {
        counts if counts.dropped + counts.passed_over + counts.kept > 0 => 0,
        counts if counts.changed > 0 => 1,
        _ => 2,
    }
}

/// A table of what happened to the records, by model. Without `all`, the models whose records all arrived as in the file
/// are a count; `command` shows them.
pub(super) fn records(import: &Import, command: &str, shown: Shown) -> String {
    let (models, is_gone) = (&import.models, import.state() == ImportState::Reverted);
    let Shown { all, width, table_width } = shown;
    let mut total = ModelCounts { model: "total".to_owned(), ..Default::default() };
    for counts in models {
        total.seen += counts.seen;
        total.inserted += counts.inserted;
        total.added += counts.added;
        total.existing += counts.existing;
        total.out_of_scope += counts.out_of_scope;
        total.filtered += counts.filtered;
        total.dropped += counts.dropped;
        total.deleted += counts.deleted;
        total.kept += counts.kept;
        total.passed_over += counts.passed_over;
        total.changed += counts.changed;
    }
    let mut text = styled(&format!("Records ({})", count(total.seen)), HEADING) + "\n";
    let (plain, mut listed): (Vec<_>, Vec<_>) =
        models.iter().partition(|counts| !all && is_plain(counts, is_gone));
    listed.sort_by_key(|counts| rank(counts));
    if !listed.is_empty() {
        text.push_str(&table(&listed, &total, table_width));
    }
    if !plain.is_empty() {
        let records = plain.iter().map(|counts| counts.seen).sum::<i64>();
        let model = if listed.is_empty() { "model" } else { "other model" };
        let models = counted(i64::try_from(plain.len()).unwrap_or(i64::MAX), model);
        let (records, are) = (counted(records, "record"), if records == 1 { "is" } else { "are" });
        let what = match is_gone {
            true => format!("all rows of {models} were deleted (--all shows all):"),
            false => format!("{records} of {models} {are} as in the file (--all shows all):"),
        };
        text.push_str(&wrap(&what, width, "  ", 2));
        text.push_str(&format!("  {command}\n"));
    }
    text
}

fn table(shown: &[&ModelCounts], total: &ModelCounts, width: Width) -> String {
    let columns: Vec<Column> = COLUMNS.into_iter().filter(|(_, count)| count(total) > 0).collect();
    let headings: Vec<_> =
        [("model", Left)].into_iter().chain(columns.iter().map(|(heading, _)| (*heading, Right))).collect();
    // The others are why a model is listed at all.
    let mut table = Table::new(&headings).dispensable(&["seen", "inserted"]).naming_left_out();
    let sum = (shown.len() > 1).then_some(total);
    for counts in shown.iter().copied().chain(sum) {
        let numbers = columns.iter().map(|(_, number)| match number(counts) {
            // A person looks for what is there.
            0 => String::new(),
            number => count(number),
        });
        table.row(std::iter::once(counts.model.clone()).chain(numbers));
    }
    table.render(width)
}
