//! What a report says of an import that was reverted, or is being reverted: most of what it found describes rows that are
//! gone.

use causeway_proto::{
    region::v1::{Import, ImportState},
    relocation::v1::{FindingCount, FindingKind},
    time::from_proto,
};

use crate::output::{
    numbers::{count, counted, moment},
    place::CommandTarget,
};

/// Whether an import was reverted, or is being reverted.
pub(super) fn is_reverted(import: &Import) -> bool {
    matches!(import.state(), ImportState::Reverting | ImportState::Reverted)
}

/// Whether findings of a kind are still about something that is there.
pub(super) fn still_holds(import: &Import, kind: FindingKind) -> bool {
    !is_reverted(import) || kind == FindingKind::RowKept
}

/// How many findings are about what the revert has deleted.
pub(super) fn outdated(import: &Import) -> i64 {
    let gone = |counted: &&FindingCount| !still_holds(import, counted.kind());
    import.finding_counts.iter().filter(gone).map(|counted| counted.count).sum()
}

/// When it was reverted, and what became of its rows. `None` for any other import.
pub(super) fn summary(import: &Import, place: &CommandTarget) -> Option<String> {
    let deleted: i64 = import.models.iter().map(|counts| counts.deleted).sum();
    let kept: i64 = import.models.iter().map(|counts| counts.kept).sum();
    let is_over = match import.state() {
        ImportState::Reverted => true,
        ImportState::Reverting => false,
        _ => return None,
    };
    let rows = match (deleted, kept) {
        (0, 0) if is_over => "it had written no rows".to_owned(),
        (_, 0) => format!("{} deleted", counted(deleted, "row")),
        (_, 1) => format!("{} deleted, 1 stays (see ROW_KEPT)", counted(deleted, "row")),
        _ => format!("{} deleted, {} stay (see ROW_KEPT)", counted(deleted, "row"), count(kept)),
    };
    let ended =
        import.end_time.as_ref().or(import.update_time.as_ref()).and_then(from_proto).filter(|_| is_over);
    Some(match ended {
        Some(at) => {
            let about = format!("import/{}", import.import_id);
            let who = place.command(["audit", "list", "--object", &about]);
            format!("Reverted at {}: {rows}. Who asked for it: `{who}`", moment(at))
        }
        None if is_over => format!("Reverted: {rows}"),
        None => format!("Being reverted: so far {rows}. Nothing of it is visible"),
    })
}
