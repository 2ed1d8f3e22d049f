//! Makes this region known to control, and tells which ids its tables hold: ids of organizations, teams and projects are
//! unique across regions, and rows may be older than Causeway.

use causeway_proto::control::v1::{HeldIds, IdConflict, IdConflictKind};
use uuid::Uuid;

use crate::{error::Error, import::Runner, store::id_block};

impl Runner {
    /// Registers, and writes into the log which rows have ids that belong to another region as well.
    pub(crate) async fn register_with_ids(&self, address: &str, instance_id: Uuid) -> Result<(), Error> {
        let mut held = Vec::new();
        for model in self.catalog().models().iter().filter(|model| model.leases_ids()) {
            let (ranges, exact) = id_block::held(self.db(), model).await?;
            held.push(HeldIds { model: model.name.clone(), ranges, exact });
        }
        let conflicts = self.ask(self.control().register(address, instance_id, held)).await?;
        for conflict in conflicts {
            self.tell_conflict(&conflict).await?;
        }
        Ok(())
    }

    /// Writes into the log that rows have ids of another region, if there are such rows.
    async fn tell_conflict(&self, conflict: &IdConflict) -> Result<(), Error> {
        let Some(model) = self.catalog().model(&conflict.model) else {
            return Err(Error::Internal(format!(
                "control knows a model {}, which is not in the catalog",
                conflict.model
            )));
        };
        let ids = conflict.ids.unwrap_or_default();
        let rows = id_block::rows_between(self.db(), model, ids.first_id, ids.last_id).await?;
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
