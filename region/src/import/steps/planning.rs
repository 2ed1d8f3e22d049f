//! PLANNING: one pass over the file. Nothing is written to a model table.
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | part of the pass | its log, in the spool directory | continues where the log ends |
//! | the pass | the plan, in the spool directory | loads it, and asks control again which users exist |
//! | storing the plan | counts, findings and the next state | begins with the next state |

use std::{collections::HashSet, sync::Arc};

use causeway_proto::limits::{ORGANIZATION_IN_HAND, organization_in_hand};
use causeway_relocation::{
    catalog::USER,
    plan::{Plan, PlanningProgress},
};

use crate::{
    error::Error,
    import::{
        Import, ImportState, context::ImportContext, counts::planned_counts, fitted::Fitted, plan::plan,
        run::ImportRun,
    },
    store,
};

/// More bytes than slug and name of an organization usually take at control: fifty characters of a slug, and what
/// counts of a name.
const LONGEST_TEXTS: usize = 4 * 50 + 64;

/// How many users are looked up at once.
const USERS_AT_ONCE: usize = 1_000;

/// Plans the file and stores the result.
pub(crate) async fn run(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    let stored = store_plan(context, import, run).await;
    if stored.is_err() {
        // When it is tried again, control's tables may be others than those that the plan was made for.
        run.plan = None;
    }
    stored
}

/// Makes the plan and stores its result.
async fn store_plan(context: &ImportContext, import: &Import, run: &mut ImportRun) -> Result<(), Error> {
    let (plan, planned_for) = loop {
        let plan = plan(context, import, run).await?;
        let Fitted { fingerprint, assumed, .. } = context.fitted(import, &mut run.fitted).await?;
        refuse_undecided(context, import, run, &plan).await?;
        refuse_too_large(context, import, run, &plan).await?;
        if !(assumed && plan.has_undecided()) {
            break (plan, fingerprint);
        }
        // Control has answered since, so its tables can be read.
        run.fitted = None;
        if context.fitted(import, &mut run.fitted).await?.fingerprint == fingerprint {
            break (plan, fingerprint);
        }
        run.plan = None;
    };
    let counts = planned_counts(context, &plan)?;
    let next = if import.parameters.dry_run { ImportState::Checking } else { ImportState::Writing };
    context.env.failpoint("region.plan.made").await?;
    transact_leased!(context, import, |lease| {
        store::finding::forget(lease, ImportState::Planning).await?;
        context.add_findings(lease, ImportState::Planning, &plan.findings).await?;
        store::model_counts::replace(lease, &counts).await?;
        store::import::set_planned(lease, plan.records, &planned_for).await?;
        store::import::advance(lease, ImportState::Planning, next, context.env.now()).await?;
    })?;
    Ok(context.env.failpoint("region.plan.stored").await?)
}

/// Refuses the file for a record that breaks a rule and would be left out if its user existed, but the user does not.
async fn refuse_undecided(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
    plan: &Arc<Plan>,
) -> Result<(), Error> {
    if !plan.has_undecided() {
        return Ok(());
    }
    let catalog = context.fitted(import, &mut run.fitted).await?.catalog;
    let env = context.env.clone();
    let reading = {
        let (plan, catalog, env) = (Arc::clone(plan), Arc::clone(&catalog), env.clone());
        move |_: &PlanningProgress| Ok(plan.undecided_users(&catalog, &env)?)
    };
    let users = context.unless_stopped(&run.running_import.planning, reading).await?;
    context.register().await?;
    context.ask(context.control.plan_import(import.id)).await?;
    let mut existing = HashSet::new();
    for users in users.chunks(USERS_AT_ONCE) {
        let names = users.iter().map(|(_, name)| name.clone()).collect();
        let rows = context.control.find_rows(import.id, USER, "username", names);
        let rows = context.ask(rows).await?;
        existing.extend(users.iter().filter(|(_, name)| rows.contains_key(name)).map(|(pk, _)| *pk));
    }
    let plan = Arc::clone(plan);
    let refusing = move |_: &PlanningProgress| Ok(plan.refuse_undecided(&catalog, &env, &existing)?);
    context.unless_stopped(&run.running_import.planning, refusing).await
}

/// Refuses organizations whose slugs control could never reserve in one operation, before anything is written. If
/// control does not answer, or does not say what it takes, that shows when slugs are reserved.
async fn refuse_too_large(
    context: &ImportContext,
    import: &Import,
    run: &mut ImportRun,
    plan: &Arc<Plan>,
) -> Result<(), Error> {
    let Fitted { catalog, of_control, .. } = context.fitted(import, &mut run.fitted).await?;
    let Some(limit) = of_control.and_then(|tables| tables.most_operation_bytes) else { return Ok(()) };
    // Usually it is clear without reading them.
    let organizations = usize::try_from(plan.organization_count(&catalog)).unwrap_or(usize::MAX);
    if organizations.saturating_mul(ORGANIZATION_IN_HAND + LONGEST_TEXTS) <= limit {
        return Ok(());
    }
    let (plan, env) = (Arc::clone(plan), context.env.clone());
    let adding = move |_: &PlanningProgress| {
        let mut bytes: usize = 0;
        plan.each_organization(&catalog, &env, |slug, name| {
            bytes = bytes.saturating_add(organization_in_hand(slug, name));
        })?;
        Ok(bytes)
    };
    let bytes = context.unless_stopped(&run.running_import.planning, adding).await?;
    if bytes > limit { Err(Error::OrganizationsTooLarge { bytes, limit }) } else { Ok(()) }
}
