//! How many records of the file arrived, and how: as a sentence, and as a table by model.

use causeway_proto::{
    region::v1::{Import, ImportState},
    relocation::v1::ModelCounts,
};

use super::table::{
    Align::{Left, Right},
    Table,
};

/// A number of records, in words.
fn of_records(count: i64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
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
        format!("{} {would} as in the file", arrived - changed),
        format!("{changed} {would} changed"),
        format!(
            "{} {not} ({dropped} dropped, {passed_over} of models that cannot be imported)",
            dropped + passed_over
        ),
    ];
    let (filtered, out_of_scope) = (sum(|counts| counts.filtered), sum(|counts| counts.out_of_scope));
    if filtered > 0 {
        parts.push(format!("{filtered} left out by the filter"));
    }
    if out_of_scope > 0 {
        parts.push(format!("{out_of_scope} of a scope that imports of organizations do not take"));
    }
    let seen = sum(|counts| counts.seen);
    Some(format!("Of {}: {}\n", of_records(seen), parts.join("; ")))
}

/// A table of what happened to the records, by model.
pub(super) fn records(models: &[ModelCounts]) -> String {
    if models.is_empty() {
        return "Records (0)\n".to_owned();
    }
    let some = |count: fn(&ModelCounts) -> i64| models.iter().any(|counts| count(counts) > 0);
    let reverted = some(|counts| counts.deleted + counts.kept);
    let (passed_over, changed) = (some(|counts| counts.passed_over), some(|counts| counts.changed));
    let mut columns = vec![
        ("model", Left),
        ("seen", Right),
        ("inserted", Right),
        ("existing", Right),
        ("out of scope", Right),
        ("filtered", Right),
        ("dropped", Right),
    ];
    if passed_over {
        columns.push(("passed over", Right));
    }
    if changed {
        columns.push(("changed", Right));
    }
    if reverted {
        columns.extend([("deleted", Right), ("kept", Right)]);
    }
    let row = |counts: &ModelCounts| {
        let mut numbers = vec![
            counts.seen,
            counts.inserted,
            counts.existing,
            counts.out_of_scope,
            counts.filtered,
            counts.dropped,
        ];
        if passed_over {
            numbers.push(counts.passed_over);
        }
        if changed {
            numbers.push(counts.changed);
        }
        if reverted {
            numbers.extend([counts.deleted, counts.kept]);
        }
        std::iter::once(counts.model.clone()).chain(numbers.iter().map(i64::to_string)).collect::<Vec<_>>()
    };
    let mut table = Table::new(&columns);
    let mut total = ModelCounts { model: "total".to_owned(), ..Default::default() };
    for counts in models {
        table.row(row(counts));
        total.seen += counts.seen;
        total.inserted += counts.inserted;
        total.existing += counts.existing;
        total.out_of_scope += counts.out_of_scope;
        total.filtered += counts.filtered;
        total.dropped += counts.dropped;
        total.deleted += counts.deleted;
        total.kept += counts.kept;
        total.passed_over += counts.passed_over;
        total.changed += counts.changed;
    }
    table.row(row(&total));
    format!("Records ({})\n{}", total.seen, table.render())
}
