//! SUCCEEDED: the region reports the organizations to control's directory, until control has answered.
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | reporting some or all | the directory has them, the import is not marked as reported | reports again, which changes nothing |
//! | marking the import | everything | nothing |

use std::collections::HashMap;

use causeway_proto::control::v1::ReportedOrganization;
use causeway_relocation::{
    catalog::ORGANIZATION,
    finding::{Finding, FindingKind},
};

use crate::{
    convert::directory_status,
    error::Error,
    import::{Import, ImportState, ImportedOrganization, context::ImportContext, run::ImportRun},
    store,
};

/// Reports the organizations to control's directory. Repeating that changes nothing. Those that control refuses
/// become findings, and do not keep the others out.
pub(crate) async fn run(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    context.remove_spool(import.id).await;
    context.register().await?;
    let mut after = 0;
    let mut is_first = true;
    loop {
        let page = store::imported::organizations(&context.db, import.id, after).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        // The rows are read again: organizations may have been made visible since, and the application has deleted
        // those that have no row.
        let number = context.next_report_number().await?;
        let ids = page.iter().map(|organization| organization.id).collect();
        let reported = store::organization::by_ids(&context.db, ids).await?.into_iter().map(|organization| {
            ReportedOrganization {
                organization_id: organization.id,
                slug: organization.slug,
                name: organization.name,
                status: directory_status(organization.status).into(),
            }
        });
        let refused = context.report_organizations(number, reported.collect(), false).await?;
        let refused: HashMap<i64, String> =
            refused.into_iter().map(|refused| (refused.organization_id, refused.message)).collect();
        let finding = |organization: &ImportedOrganization| {
            let message = refused.get(&organization.id)?;
            let reason = format!("control's directory does not take it: {message}");
            Some(organization.place(Finding::new(FindingKind::NotInDirectory, reason).model(ORGANIZATION)))
        };
        let findings: Vec<Finding> = page.iter().filter_map(finding).collect();
        if is_first || !findings.is_empty() {
            transact_leased!(context, import, |lease| {
                if is_first {
                    // An import may be reported several times, and control answers the same again: the findings of an
                    // earlier report are replaced. They contain what to do, and a comparison reports these organizations.
                    store::finding::forget(lease, ImportState::Succeeded).await?;
                }
                context.add_findings(lease, ImportState::Succeeded, &findings).await?;
            })?;
            is_first = false;
        }
        run.pass_turn(context, import.id).await?;
    }
    context.env.failpoint("region.report.answered").await?;
    transact_leased!(context, import, |lease| {
        store::import::set_reported(lease, import.approvals, context.env.now()).await?;
    })?;
    Ok(context.env.failpoint("region.report.noted").await?)
}
