//! The plan of an import: made, continued after an interruption, or loaded.

use std::{io, sync::Arc};

use causeway_proto::limits::MAX_ORGANIZATIONS;
use causeway_relocation::{
    export::Limits,
    plan::{Checkpoint, Plan, PlanRequest, PlanningProgress},
};
use tokio::sync::{mpsc, oneshot};

use super::{Import, ImportState, context::ImportContext, fitted::Fitted, run::ImportRun, spool::spool_path};
use crate::error::Error;

/// The plan of an import. If this process does not have it yet, it loads the plan or continues to make it.
pub(super) async fn plan(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
) -> Result<Arc<Plan>, Error> {
    if let Some(plan) = &run.plan {
        return Ok(Arc::clone(plan));
    }
    let Fitted { catalog, fingerprint: tables, .. } = context.fitted(import, &mut run.fitted).await?;
    let env = context.env.clone();
    let spooled = context.spooled(spool_path(context.spool_dir(), import.id), import.encrypted);
    let scratch_dir = context.spool_dir().to_owned();
    let (filter, now) = (import.parameters.filter.clone(), import.created_at);
    let merge_users = import.parameters.merge_users;
    // What has been planned once is imported to its end, even if the service has stricter limits since.
    let of_region = &context.limits;
    let (limits, most_organizations) = match import.state {
        ImportState::Planning => (of_region.record, of_region.organizations.min(MAX_ORGANIZATIONS)),
        _ => (Limits::LARGEST, MAX_ORGANIZATIONS),
    };
    // The failpoint is reached in this task, and the planning thread waits for that, because it cannot wait for it
    // itself.
    let (steps, mut reached) = mpsc::channel::<oneshot::Sender<io::Result<()>>>(1);
    let stepped = move || {
        let (answer, answered) = oneshot::channel();
        steps.blocking_send(answer).map_err(io::Error::other)?;
        answered.blocking_recv().map_err(io::Error::other)?
    };
    let failing = async {
        while let Some(answer) = reached.recv().await {
            let passed = context.env.failpoint("region.plan.logged").await;
            // Planning may have been stopped meanwhile.
            let _told = answer.send(passed.map_err(io::Error::other));
        }
    };
    let keep = Checkpoint {
        stem: context.spool_dir().join(import.id.to_string()),
        identity: import.sha256.clone(),
        stepped: Some(Box::new(stepped)),
    };
    let pass = move |watch: &PlanningProgress| {
        let request = PlanRequest {
            source: &spooled.open(&watch.stop)?,
            scratch_dir: &scratch_dir,
            filter: filter.as_ref(),
            limits,
            merge_users,
            most_organizations,
            now,
            tables: &tables,
            keep: Some(&keep),
        };
        Ok(Plan::make(&catalog, &env, &request, watch)?)
    };
    let (plan, ()) = tokio::join!(context.unless_stopped(&run.running_import.planning, pass), failing);
    let plan = Arc::new(plan?);
    run.plan = Some(Arc::clone(&plan));
    Ok(plan)
}
