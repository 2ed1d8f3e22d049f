//! PLANNING: one pass over the file. Nothing is written to a model table.

use std::{collections::HashSet, io, sync::Arc};

use causeway_proto::limits::MAX_ORGANIZATIONS;
use causeway_relocation::{
    catalog::{Model, USER},
    export::Limits,
    plan::{Checkpoint, Plan, Request, Watch},
};
use causeway_silo::db::count;
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::Error,
    import::{Engine, Import, ImportState, ModelCounts, engine::Run, fitted::Fitted, spool::spool_path},
    store,
};

/// How many users are looked up at once.
const USERS_AT_ONCE: usize = 1_000;

impl Engine {
    /// Plans the file and stores the result. If the process dies in between, planning continues where its log ends.
    pub(in crate::import) async fn plan_import(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        let stored = self.store_plan(import, run).await;
        if stored.is_err() {
            // When it is tried again, control's tables may be others than those that the plan was made for.
            run.plan = None;
        }
        stored
    }

    /// Makes the plan and stores its result.
    async fn store_plan(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        let (plan, planned_for) = loop {
            let plan = self.plan(import, run).await?;
            let Fitted { fingerprint, assumed, .. } = self.fitted(import, run).await?;
            self.refuse_undecided(import, run, &plan).await?;
            if !(assumed && plan.has_undecided()) {
                break (plan, fingerprint);
            }
            // Control has answered since, so its tables can be read.
            run.fitted = None;
            if self.fitted(import, run).await?.fingerprint == fingerprint {
                break (plan, fingerprint);
            }
            run.plan = None;
        };
        let counts = self.planned_counts(&plan)?;
        let next = if import.parameters.dry_run { ImportState::Checking } else { ImportState::Writing };
        self.context.env.failpoint("region.plan.made").await?;
        transact_leased!(self, import, |lease| {
            store::finding::forget(lease, ImportState::Planning).await?;
            self.add_findings(lease, ImportState::Planning, &plan.findings).await?;
            store::model_counts::replace(lease, &counts).await?;
            store::import::set_planned(lease, plan.records, &planned_for).await?;
            store::import::advance(lease, ImportState::Planning, next, self.context.env.now()).await?;
        })?;
        Ok(self.context.env.failpoint("region.plan.stored").await?)
    }

    /// The plan of an import. If this process does not have it yet, it loads the plan or continues to make it.
    pub(in crate::import) async fn plan(&self, import: &Import, run: &mut Run) -> Result<Arc<Plan>, Error> {
        if let Some(plan) = &run.plan {
            return Ok(Arc::clone(plan));
        }
        let Fitted { catalog, fingerprint: tables, .. } = self.fitted(import, run).await?;
        let env = self.context.env.clone();
        let spooled = self.spooled(spool_path(self.spool_dir(), import.id), import.encrypted);
        let scratch_dir = self.spool_dir().to_owned();
        let (filter, now) = (import.parameters.filter.clone(), import.created_at);
        let merge_users = import.parameters.merge_users;
        // What has been planned once is imported to its end, even if the service has stricter limits since.
        let of_region = &self.context.limits;
        let (limits, most_organizations) = match import.state {
            ImportState::Planning => (of_region.record, of_region.organizations.min(MAX_ORGANIZATIONS)),
            _ => (Limits::LARGEST, MAX_ORGANIZATIONS),
        };
        // The failpoint is reached in this task, and the planning thread waits for that, because it cannot wait for it
        // itself.
        let (steps, mut reached) = mpsc::channel::<oneshot::Sender<io::Result<()>>>(1);
        let stepped = move || {
            let (tell, told) = oneshot::channel();
            steps.blocking_send(tell).map_err(io::Error::other)?;
            told.blocking_recv().map_err(io::Error::other)?
        };
        let failing = async {
            while let Some(tell) = reached.recv().await {
                let passed = self.context.env.failpoint("region.plan.kept").await;
                // Planning may have been stopped meanwhile.
                let _told = tell.send(passed.map_err(io::Error::other));
            }
        };
        let keep = Checkpoint {
            stem: self.spool_dir().join(import.id.to_string()),
            identity: import.sha256.clone(),
            stepped: Some(Box::new(stepped)),
        };
        let pass = move |watch: &Watch| {
            let request = Request {
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
        let (plan, ()) = tokio::join!(self.unless_stopped(&run.live.planning, pass), failing);
        let plan = Arc::new(plan?);
        run.plan = Some(Arc::clone(&plan));
        Ok(plan)
    }

    /// Refuses the file for a record that breaks a rule and would be left out if its user existed, but the user does not.
    async fn refuse_undecided(&self, import: &Import, run: &mut Run, plan: &Arc<Plan>) -> Result<(), Error> {
        if !plan.has_undecided() {
            return Ok(());
        }
        let catalog = self.fitted(import, run).await?.catalog;
        let env = self.context.env.clone();
        let reading = {
            let (plan, catalog, env) = (Arc::clone(plan), Arc::clone(&catalog), env.clone());
            move |_: &Watch| Ok(plan.undecided_users(&catalog, &env)?)
        };
        let users = self.unless_stopped(&run.live.planning, reading).await?;
        self.context.register().await?;
        let mut existing = HashSet::new();
        for users in users.chunks(USERS_AT_ONCE) {
            let names = users.iter().map(|(_, name)| name.clone()).collect();
            let rows = self.context.control.find_rows(import.id, USER, "username", names);
            let rows = self.context.ask(rows).await?;
            existing.extend(users.iter().filter(|(_, name)| rows.contains_key(name)).map(|(pk, _)| *pk));
        }
        let plan = Arc::clone(plan);
        let refusing = move |_: &Watch| Ok(plan.refuse_undecided(&catalog, &env, &existing)?);
        self.unless_stopped(&run.live.planning, refusing).await
    }

    /// The counts that follow from the file alone.
    pub(in crate::import) fn planned_counts(&self, plan: &Plan) -> Result<Vec<ModelCounts>, Error> {
        let counts_of = |model: &Model| -> Result<ModelCounts, Error> {
            let seen = plan.seen(model);
            let out_of_scope = if model.in_organization_scope() { 0 } else { seen };
            let (model, position) = (model.name.clone(), count(model.position)?);
            Ok(ModelCounts { model, position, seen, out_of_scope, ..ModelCounts::default() })
        };
        let models = self.context.catalog.models();
        let behind = count(models.len())?;
        let known = models.iter().filter(|model| plan.seen(model) > 0).map(counts_of);
        let passed_over = plan.passed_over.iter().map(|(name, seen)| {
            Ok(ModelCounts {
                model: name.clone(),
                position: behind,
                seen: *seen,
                passed_over: *seen,
                ..ModelCounts::default()
            })
        });
        known.chain(passed_over).collect()
    }
}
