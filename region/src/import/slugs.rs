//! RESOLVING_SLUGS: control gives every organization its slug, the region writes them, control hears that it did.
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | choosing the operation | nothing at control | asks |
//! | control's answer | temporary reservations | asks again: same operation, same answer |
//! | writing the slugs | temporary reservations, slugs in hidden organizations | confirms |
//! | control's confirmation | primary reservations | confirms again, which changes nothing |
//!
//! What is asked for under an operation id never changes: it is stored before the first call.

use std::collections::{HashMap, HashSet};

use causeway_proto::{
    control::v1::{OrganizationSlugRequest, OrganizationSlugRequestBatch},
    relocation::v1::ErrorReason,
};
use causeway_relocation::{
    catalog::ORGANIZATION,
    db::Tx,
    finding::{Finding, FindingKind},
    generate::derived_uuid,
    transact,
};
use uuid::Uuid;

use super::{Import, ImportState, ImportedOrganization, Runner, runner::Run};
use crate::{error::Error, store};

/// The most bytes of a name that the contract takes; a name of 64 characters may have one more.
const MAX_NAME: usize = 255;
/// Slugs that are looked up by one statement.
const SLUGS: usize = 1_000;

/// The operation under which slugs are asked for the n-th time.
pub(super) fn operation_id(import_id: Uuid, attempt: i64) -> Uuid {
    derived_uuid(import_id, &format!("organization slugs {attempt}"))
}

impl Runner {
    /// One step towards confirmed slugs.
    pub(super) async fn resolve_org_slugs(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        self.register().await?;
        run.live.begin(0);
        if import.organization_count == 0 {
            return self.slugs_are_final(import).await;
        }
        if import.slug_attempt == 0 {
            return self.choose_operation(import).await;
        }
        let operation = operation_id(import.id, import.slug_attempt);
        match self.ask_or_confirm(import, operation).await {
            // An operator has released what nobody had confirmed for long: the slugs are asked for anew.
            Err(Error::Control(error)) if error.reason() == ErrorReason::OperationReleased => {
                transact!(Error, self.db(), |tx| {
                    self.hold(tx, import).await?;
                    store::import::next_slug_attempt(tx, import.id, import.slug_attempt + 1).await?;
                })
            }
            outcome => outcome,
        }
    }

    async fn ask_or_confirm(&self, import: &Import, operation: Uuid) -> Result<(), Error> {
        if !import.slugs_written {
            if import.slug_attempt > 1 {
                self.ask(self.control().release_slugs(operation_id(import.id, import.slug_attempt - 1)))
                    .await?;
            }
            return self.ask_and_write(import, operation).await;
        }
        self.ask(self.control().confirm_slugs(operation)).await?;
        self.ambient().failpoint("region.slugs.confirmed").await?;
        self.slugs_are_final(import).await
    }

    async fn slugs_are_final(&self, import: &Import) -> Result<(), Error> {
        transact!(Error, self.db(), |tx| {
            self.hold(tx, import).await?;
            store::import::advance(
                tx,
                import.id,
                ImportState::ResolvingSlugs,
                ImportState::Finishing,
                self.ambient().now(),
            )
            .await?;
        })?;
        Ok(self.ambient().failpoint("region.slugs.final").await?)
    }

    /// Stores what is asked for first: control may not know of organizations that were here before Causeway.
    async fn choose_operation(&self, import: &Import) -> Result<(), Error> {
        transact!(Error, self.db(), |tx| {
            self.hold(tx, import).await?;
            store::imported::find_taken_in_region(tx, import.id).await?;
            store::import::next_slug_attempt(tx, import.id, 1).await?;
        })?;
        Ok(self.ambient().failpoint("region.slugs.chosen").await?)
    }

    /// Asks control, and writes what it answers. Rows are read and written by pages: of all organizations at once, only
    /// what is asked and what is given is in memory.
    async fn ask_and_write(&self, import: &Import, operation: Uuid) -> Result<(), Error> {
        let batches = self.what_is_asked(import).await?;
        let answer =
            self.ask(self.control().bulk_create_organization_slug_reservations(operation, batches)).await?;
        self.ambient().failpoint("region.slugs.answered").await?;
        let given: HashMap<i64, String> =
            answer.into_iter().map(|slug| (slug.organization_id, slug.slug)).collect();
        let slugs: Vec<&String> = given.values().collect();
        transact!(Error, self.db(), |tx| {
            self.hold(tx, import).await?;
            let mut taken: HashSet<String> = HashSet::new();
            for slugs in slugs.chunks(SLUGS) {
                let slugs = slugs.iter().map(|slug| (*slug).clone()).collect();
                taken.extend(store::organization::taken_by_others(tx, import.id, slugs).await?);
            }
            if taken.is_empty() {
                self.write_slugs(tx, import, &given).await?;
                store::import::set_slugs_written(tx, import.id, self.ambient().now()).await?;
            } else {
                // Asked again, under another operation, for something else in place of these.
                let again =
                    given.iter().filter(|(_, slug)| taken.contains(*slug)).map(|(id, _)| *id).collect();
                store::imported::set_taken_in_region(tx, import.id, again).await?;
                store::import::next_slug_attempt(tx, import.id, import.slug_attempt + 1).await?;
            }
        })?;
        Ok(self.ambient().failpoint("region.slugs.written").await?)
    }

    /// What control is asked for each organization.
    async fn what_is_asked(&self, import: &Import) -> Result<Vec<OrganizationSlugRequestBatch>, Error> {
        let mut batches = Vec::new();
        let mut after = 0;
        loop {
            let page = store::imported::organizations(self.db(), import.id, after).await?;
            let Some(last) = page.last() else { return Ok(batches) };
            after = last.id;
            let requests = page.into_iter().map(|organization| OrganizationSlugRequest {
                organization_id: organization.id,
                slug: organization.wanted_slug,
                name: name_for_control(&organization.name),
                taken_in_region: organization.taken_in_region,
            });
            batches.push(OrganizationSlugRequestBatch { requests: requests.collect() });
        }
    }

    /// Writes the slugs that control gave.
    async fn write_slugs(
        &self,
        tx: &mut Tx,
        import: &Import,
        given: &HashMap<i64, String>,
    ) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let page = store::imported::organizations_within(tx, import.id, after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            let (mut ids, mut slugs, mut findings) = (Vec::new(), Vec::new(), Vec::new());
            for organization in &page {
                let slug = given.get(&organization.id).ok_or_else(|| {
                    Error::Internal(format!("control gave organization {} no slug", organization.id))
                })?;
                ids.push(organization.id);
                slugs.push(slug.clone());
                findings.extend(changed(organization, slug));
            }
            store::organization::set_slugs(tx, ids.clone(), slugs.clone()).await?;
            store::imported::set_slugs(tx, import.id, ids, slugs).await?;
            self.add_findings(tx, import.id, ImportState::ResolvingSlugs, &findings).await?;
        }
    }
}

/// A name as control takes it.
pub(super) fn name_for_control(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_NAME)].to_owned()
}

impl ImportedOrganization {
    /// A finding about the record that it was.
    pub(super) fn place(&self, mut finding: Finding) -> Finding {
        finding.source_pk = Some(self.source_id);
        finding.ordinal = self.ordinal;
        finding.byte_offset = self.byte_offset;
        finding
    }
}

/// That an organization got another slug than it wanted.
fn changed(organization: &ImportedOrganization, given: &str) -> Option<Finding> {
    if organization.wanted_slug == given {
        return None;
    }
    let reason = if organization.wanted_slug.is_empty() {
        format!("the organization had no slug and is `{given}` now")
    } else {
        format!(
            "`{}` is taken, reserved or no valid slug; the organization is `{given}` now",
            organization.wanted_slug
        )
    };
    Some(organization.place(Finding::new(FindingKind::SlugChanged, reason).model(ORGANIZATION).field("slug")))
}
