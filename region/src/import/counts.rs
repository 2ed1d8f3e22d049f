//! The counts of an import: those that follow from its plan, and whether they add up at its end.

use causeway_relocation::{catalog::Model, plan::Plan};
use causeway_silo::db::count;
use uuid::Uuid;

use super::{ModelCounts, context::ImportContext};
use crate::{error::Error, store};

/// The counts that follow from the file alone.
pub(super) fn planned_counts(context: &ImportContext, plan: &Plan) -> Result<Vec<ModelCounts>, Error> {
    let counts_of = |model: &Model| -> Result<ModelCounts, Error> {
        let seen = plan.record_count(model);
        let out_of_scope = if model.in_organization_scope() { 0 } else { seen };
        let (model, position) = (model.name.clone(), count(model.position)?);
        Ok(ModelCounts { model, position, seen, out_of_scope, ..ModelCounts::default() })
    };
    let models = context.catalog.models();
    let after_all = count(models.len())?;
    let known = models.iter().filter(|model| plan.last_ordinal(model) > 0).map(counts_of);
    let passed_over = plan.passed_over.iter().map(|(name, seen)| {
        Ok(ModelCounts {
            model: name.clone(),
            position: after_all,
            seen: *seen,
            passed_over: *seen,
            ..ModelCounts::default()
        })
    });
    known.chain(passed_over).collect()
}

/// Refuses to end an import if a record is not accounted for.
pub(super) async fn check_counts(context: &ImportContext, import_id: Uuid) -> Result<(), Error> {
    let counts = store::model_counts::list(&context.db, import_id).await?;
    match counts.iter().find(|counts| !counts.add_up()) {
        Some(wrong) => {
            Err(Error::CountsDoNotAddUp(format!("the records of {} do not add up: {wrong:?}", wrong.model)))
        }
        None => Ok(()),
    }
}
