//! FINISHING: the deferred models, then all organizations become visible in one transaction. After that, control's
//! directory is told.

use std::sync::PoisonError;

use causeway_proto::control::v1::ReportedOrganization;
use causeway_relocation::transact;
use uuid::Uuid;

use super::{Import, ImportState, Runner, mapped::SharedKeys, runner::Run};
use crate::{convert::directory_status, error::Error, store};

impl Runner {
    /// Writes the deferred models, checks that every record is accounted for, and shows the organizations.
    pub(super) async fn finish(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        self.register().await?;
        self.do_writes(import, run, true).await?;
        self.check_counts(import.id).await?;
        self.ambient().failpoint("region.finish.counted").await?;
        transact!(Error, self.db(), |tx| {
            self.hold(tx, import).await?;
            if !import.parameters.hide_organizations {
                store::organization::restore_status(tx, import.id).await?;
            }
            store::imported::forget_carried(tx, import.id).await?;
            store::import::advance(
                tx,
                import.id,
                ImportState::Finishing,
                ImportState::Succeeded,
                self.ambient().now(),
            )
            .await?;
        })?;
        let bytes = |keys: &SharedKeys| keys.read().unwrap_or_else(PoisonError::into_inner).bytes();
        let key_map_bytes = run.keys.as_ref().map_or(0, bytes);
        tracing::info!(import_id = %import.id, key_map_bytes, "an import has succeeded");
        Ok(self.ambient().failpoint("region.finish.visible").await?)
    }

    /// Refuses to end an import of which a record is not accounted for.
    pub(super) async fn check_counts(&self, import_id: Uuid) -> Result<(), Error> {
        let counts = store::model_counts::list(self.db(), import_id).await?;
        match counts.iter().find(|counts| !counts.add_up()) {
            Some(wrong) => Err(Error::CountsDoNotAddUp(format!(
                "the records of {} do not add up: {wrong:?}",
                wrong.model
            ))),
            None => Ok(()),
        }
    }

    /// Tells control's directory what the organizations are like. Told again, it changes nothing.
    pub(super) async fn report(&self, import: &Import) -> Result<(), Error> {
        self.remove_spool(import.id).await;
        self.register().await?;
        let hidden = import.parameters.hide_organizations.then_some(store::organization::HIDDEN);
        let mut after = 0;
        loop {
            let page = store::imported::organizations(self.db(), import.id, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let reported = page.into_iter().map(|organization| ReportedOrganization {
                organization_id: organization.id,
                slug: organization.slug.unwrap_or_default(),
                name: organization.name,
                status: directory_status(hidden.unwrap_or(organization.status)),
            });
            self.ask(self.control().report_organizations(reported.collect())).await?;
        }
        self.ambient().failpoint("region.report.told").await?;
        transact!(Error, self.db(), |tx| {
            self.hold(tx, import).await?;
            store::import::set_reported(tx, import.id).await?;
        })?;
        Ok(self.ambient().failpoint("region.report.noted").await?)
    }
}
