//! Organizations without an owner after everything has been written. They stay as they are, and each gets a finding.

use causeway_relocation::{
    catalog::{Catalog, Model, NeedsOne, ORGANIZATION},
    finding::{Finding, FindingKind},
};

use super::{Import, ImportState, ImportedOrganization, context::ImportContext, run::ImportRun};
use crate::{error::Error, store};

/// The model that defines who is an owner, and the rule for its rows.
pub(super) fn owners(catalog: &Catalog) -> Option<(&Model, &NeedsOne)> {
    catalog.written().find_map(|model| Some((model, model.rules.needs_one.as_ref()?)))
}

/// The finding that an organization has no owner.
pub(super) fn without_owner(organization: &ImportedOrganization, is_dry_run: bool) -> Finding {
    let reason = if is_dry_run {
        "no member that would be imported is an owner of the organization"
    } else {
        "no member that was imported is an owner of the organization"
    };
    organization.place(Finding::new(FindingKind::OrganizationWithoutOwner, reason).model(ORGANIZATION))
}

/// Checks all organizations of an import, page by page. If the process dies in between, the check continues after
/// the last page whose findings were committed.
pub(super) async fn check_owners(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<(), Error> {
    let Some((model, needs)) = owners(&context.catalog) else { return Ok(()) };
    let mut after = store::import::owners_checked(&context.db, import.id).await?;
    loop {
        let page = store::imported::organizations(&context.db, import.id, after).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.id;
        let ids = page.iter().map(|organization| organization.id).collect();
        let without = store::imported::without_required_row(&context.db, model, needs, ids).await?;
        let findings: Vec<Finding> = page
            .iter()
            .filter(|organization| without.contains(&organization.id))
            .map(|organization| without_owner(organization, false))
            .collect();
        transact_leased!(context, import, |lease| {
            store::import::set_owners_checked(lease, after).await?;
            context.add_findings(lease, ImportState::Writing, &findings).await?;
        })?;
        run.pass_turn(context, import.id).await?;
    }
}
