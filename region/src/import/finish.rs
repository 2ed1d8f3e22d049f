//! FINISHING: the deferred models, then all organizations become visible. After that, the region reports them to control's directory.
//!
//! Organizations become visible in the transaction that ends the import. More than that may change, 20,000, become visible
//! in parts right before it, when nothing can fail any more:
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | adding up, or forgetting some of what was kept of control's rows | everything, hidden | adds up again, forgets the rest, and shows everything |
//! | showing some of many | those are visible, and all is confirmed | shows the others |
//! | the import's end | everything is visible | tells the directory |
//!
//! One that is reverted in between is hidden again first of all.

use std::{collections::HashMap, sync::PoisonError};

use causeway_proto::control::v1::ReportedOrganization;
use causeway_relocation::{
    catalog::ORGANIZATION,
    finding::{Finding, FindingKind},
};
use uuid::Uuid;

use super::{Import, ImportState, Runner, mapped::SharedKeys, runner::Run};
use crate::{convert::directory_status, error::Error, store};

/// Values of rows of control that one transaction forgets.
const CARRIED: i64 = 20_000;

impl Runner {
    /// Writes the deferred models, checks that every record is accounted for, and shows the organizations.
    pub(super) async fn finish(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        self.register().await?;
        self.do_writes(import, run, true).await?;
        self.check_counts(import.id).await?;
        self.ambient().failpoint("region.finish.counted").await?;
        self.forget_carried(import).await?;
        let mut after = 0;
        loop {
            let part = match import.parameters.hide_organizations {
                true => None,
                false => self.organizations_after(import.id, after).await?,
            };
            let (last, more) = part.unwrap_or((after, false));
            transact_leased!(self, import, |lease| {
                store::organization::restore_status(lease, after, last).await?;
                if !more {
                    let (from, to) = (ImportState::Finishing, ImportState::Succeeded);
                    store::import::advance(lease, from, to, self.ambient().now()).await?;
                }
            })?;
            if !more {
                break;
            }
            self.ambient().failpoint("region.finish.part_shown").await?;
            after = last;
        }
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

    /// Forgets what was kept of rows of control for as long as rows were written.
    pub(super) async fn forget_carried(&self, import: &Import) -> Result<(), Error> {
        loop {
            let forgotten = transact_leased!(self, import, |lease| {
                store::imported::forget_carried(lease, CARRIED).await?
            })?;
            if forgotten == 0 {
                return Ok(());
            }
        }
    }

    /// Tells control's directory what the organizations are like. Told again, it changes nothing. Those that it refuses
    /// are findings, and keep no other one out.
    pub(super) async fn report(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        self.remove_spool(import.id).await;
        self.register().await?;
        let mut after = 0;
        let mut findings = Vec::new();
        loop {
            let page = store::imported::organizations(self.db(), import.id, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            // As they are by now: some may have been left hidden, and shown later. One that is gone has been deleted by the
            // application.
            let ids = page.iter().map(|organization| organization.id).collect();
            let reported =
                store::organization::by_ids(self.db(), ids).await?.into_iter().map(|organization| {
                    ReportedOrganization {
                        organization_id: organization.id,
                        slug: organization.slug,
                        name: organization.name,
                        status: directory_status(organization.status),
                    }
                });
            let refused = self.ask(self.control().report_organizations(reported.collect())).await?;
            let refused: HashMap<i64, String> =
                refused.into_iter().map(|refused| (refused.organization_id, refused.message)).collect();
            findings.extend(page.iter().filter_map(|organization| {
                let message = refused.get(&organization.id)?;
                let reason = format!("control's directory does not take it: {message}");
                Some(
                    organization.place(Finding::new(FindingKind::NotInDirectory, reason).model(ORGANIZATION)),
                )
            }));
            run.pass_turn(self).await?;
        }
        self.ambient().failpoint("region.report.told").await?;
        transact_leased!(self, import, |lease| {
            // Asked again, control would say the same: what is to be done stands in the findings, and a comparison shows it.
            self.add_findings(lease, ImportState::Succeeded, &findings).await?;
            store::import::set_reported(lease, import.approvals).await?;
        })?;
        Ok(self.ambient().failpoint("region.report.noted").await?)
    }
}
