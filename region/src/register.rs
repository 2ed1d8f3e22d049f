//! Registers this region with control, and reports the ids in its tables: ids of organizations, teams and projects are
//! unique across regions, and rows may be older than Causeway.

use std::sync::atomic::Ordering;

use causeway_proto::control::v1::{HeldIds, IdConflict, IdConflictKind};

use crate::{
    context::Context,
    error::Error,
    store::{id_block, product_db},
};

impl Context {
    /// Registers this region with control in the background, trying until that works or the region stops.
    pub(crate) fn register_in_background(&self) {
        let context = self.clone();
        self.lifecycle.background(async move {
            let mut attempts = 0;
            while context.register().await.is_err() {
                attempts += 1;
                if context.pause(attempts).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Registers this region with control, unless control already knows it and its ids.
    pub(crate) async fn register(&self) -> Result<(), Error> {
        let registration = &self.registration;
        // If several tasks wait, the first one registers.
        let _registering = registration.registering.lock().await;
        // Set before the ids are read. A task that finds more ids meanwhile resets it, and all ids are reported again.
        let ids_are_known = registration.ids_are_known.swap(true, Ordering::Relaxed);
        if ids_are_known && registration.is_known() {
            return Ok(());
        }
        let (control, instance_id) = (self.control.urls().join(","), self.instance_id);
        let registered = self.register_with_ids().await;
        if registered.is_err() {
            registration.report_ids_again();
        }
        match &registered {
            Ok(()) => {
                registration.known.send_if_modified(|known| !std::mem::replace(known, true));
                registration.note_outcome(None);
                tracing::info!(
                    region = self.region,
                    address = self.address,
                    control,
                    %instance_id,
                    "registered with control"
                );
            }
            Err(error) if error.is_stop() => {}
            // Logged once for each reason, however many tasks wait for the registration.
            Err(error) if registration.note_outcome(Some(error.reason())) => tracing::warn!(
                control, %instance_id, %error,
                "the region cannot register with control yet and tries again; imports wait for it"
            ),
            Err(error) => tracing::debug!(control, %error, "the region cannot register with control yet"),
        }
        registered
    }

    /// Registers, and logs which rows have ids that also belong to another region.
    async fn register_with_ids(&self) -> Result<(), Error> {
        let mut held_ids = Vec::new();
        for model in self.catalog.models().iter().filter(|model| model.leases_ids()) {
            let (ranges, exact) = id_block::ids_in_use(&self.db, model).await?;
            held_ids.push(HeldIds { model: model.name.clone(), ranges, exact });
        }
        let product_name = match (&self.product_name, &self.product_db) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => product_db::name_of_region(&self.db, &self.region).await?,
            (None, None) => self.region.clone(),
        };
        let registering = self.control.register(&self.address, self.instance_id, product_name, held_ids);
        let conflicts = self.ask(registering).await?;
        for conflict in conflicts {
            self.log_conflict(&conflict).await?;
        }
        Ok(())
    }

    /// Logs that rows have ids of another region, if there are such rows.
    async fn log_conflict(&self, conflict: &IdConflict) -> Result<(), Error> {
        let Some(model) = self.catalog.model(&conflict.model) else {
            tracing::warn!(
                model = conflict.model,
                "control reports ids of a model that this release does not know"
            );
            return Ok(());
        };
        let Some(ids) = conflict.ids else {
            tracing::warn!(model = conflict.model, "control does not say which ids belong to another region");
            return Ok(());
        };
        let rows = id_block::rows_between(&self.db, model, ids.first_id, ids.last_id).await?;
        if rows == 0 {
            return Ok(());
        }
        let why = match conflict.kind() {
            IdConflictKind::Leased => "control has leased these ids to that region",
            IdConflictKind::Held => "that region has rows of these ids too",
            IdConflictKind::Reserved | IdConflictKind::Unspecified => {
                "that region has reserved slugs for organizations of these ids"
            }
        };
        tracing::error!(
            model = conflict.model,
            first_id = ids.first_id,
            last_id = ids.last_id,
            rows,
            other_region = conflict.region,
            why,
            "rows of this region have ids that belong to another region as well; control's directory refuses such \
             organizations. Give them other ids: export their organizations, import them again, delete the old ones"
        );
        Ok(())
    }
}
