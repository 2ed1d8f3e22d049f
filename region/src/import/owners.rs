//! Organizations in which nobody is an owner when all has been written. They are written as they are, and somebody hears
//! of it.

use causeway_relocation::{
    catalog::{Catalog, Model, NeedsOne, ORGANIZATION},
    finding::{Finding, FindingKind},
};

use super::{Engine, Import, ImportState, ImportedOrganization};
use crate::{error::Error, store};

/// The model that says who is an owner, and how.
pub(super) fn owners(catalog: &Catalog) -> Option<(&Model, &NeedsOne)> {
    catalog.written().find_map(|model| Some((model, model.rules.needs_one.as_ref()?)))
}

/// That an organization has no owner.
pub(super) fn without_owner(organization: &ImportedOrganization, is_dry_run: bool) -> Finding {
    let reason = if is_dry_run {
        "no member that would be imported is an owner of the organization"
    } else {
        "no member that was imported is an owner of the organization"
    };
    organization.place(Finding::new(FindingKind::OrganizationWithoutOwner, reason).model(ORGANIZATION))
}

impl Engine {
    /// Looks at all organizations of an import, page by page. Dies in between: goes on behind the last page whose findings
    /// were committed.
    pub(super) async fn check_owners(&self, import: &Import) -> Result<(), Error> {
        let Some((model, needs)) = owners(&self.context.catalog) else { return Ok(()) };
        let mut after = store::import::owners_checked(&self.context.db, import.id).await?;
        loop {
            let page = store::imported::organizations(&self.context.db, import.id, after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            let ids = page.iter().map(|organization| organization.id).collect();
            let without = store::imported::without_one(&self.context.db, model, needs, ids).await?;
            let findings: Vec<Finding> = page
                .iter()
                .filter(|organization| without.contains(&organization.id))
                .map(|organization| without_owner(organization, false))
                .collect();
            transact_leased!(self, import, |lease| {
                store::import::set_owners_checked(lease, after).await?;
                self.add_findings(lease, ImportState::Writing, &findings).await?;
            })?;
        }
    }
}
