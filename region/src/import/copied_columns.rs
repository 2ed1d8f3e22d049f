//! Columns that control returns of the rows that it writes, for the records of the region that copy them.

use std::collections::HashMap;

use causeway_relocation::{
    catalog::{ColumnType, CopiedColumns, Model},
    plan::Record,
    value::Value,
};

use super::{Import, context::ImportContext};
use crate::{error::Error, store};

/// How many rows' returned columns one transaction deletes.
const RETURNED: i64 = 20_000;

/// Copies returned columns of rows of control into the records that refer to these rows.
pub(super) async fn copy_columns(
    context: &ImportContext,
    import: &Import,
    model: &Model,
    records: &mut [Record],
) -> Result<(), Error> {
    for CopiedColumns { reference, copies } in &model.rules.copied_columns {
        let Some(target) = model.columns.get(*reference).and_then(|column| column.references.as_deref())
        else {
            return Err(Error::Internal(format!(
                "a rule of {} copies by a column that is no reference",
                model.name
            )));
        };
        let ids: Vec<i64> =
            records.iter().filter_map(|record| record.values.get(*reference)?.as_int()).collect();
        if ids.is_empty() {
            continue;
        }
        let returned = store::imported::returned(&context.db, import.id, target, ids).await?;
        for record in records.iter_mut() {
            let Some(id) = record.values.get(*reference).and_then(Value::as_int) else { continue };
            let fields = returned
                .get(&id)
                .ok_or_else(|| Error::Internal(format!("control did not say what {target} {id} is like")))?;
            let fields: HashMap<String, serde_json::Value> =
                serde_json::from_str(fields).map_err(|error| Error::Internal(error.to_string()))?;
            for (column, from) in copies {
                let (Some(slot), Some(kind)) =
                    (record.values.get_mut(*column), model.columns.get(*column).map(|column| column.kind))
                else {
                    return Err(Error::Internal(format!(
                        "a rule of {} is about a column that there is not",
                        model.name
                    )));
                };
                *slot = match (fields.get(from), kind) {
                    (Some(serde_json::Value::Bool(value)), ColumnType::Boolean) => Value::Bool(*value),
                    (Some(serde_json::Value::String(value)), ColumnType::Text) => Value::Text(value.clone()),
                    (Some(serde_json::Value::Null), _) => Value::Null,
                    _ => {
                        return Err(Error::Internal(format!(
                            "control did not say the {from} of {target} {id}"
                        )));
                    }
                };
            }
        }
    }
    Ok(())
}

/// Deletes the returned columns of an import, which only writing needs.
pub(super) async fn forget_returned(context: &ImportContext, import: &Import) -> Result<(), Error> {
    loop {
        let forgotten = transact_leased!(context, import, |lease| {
            store::imported::forget_returned(lease, RETURNED).await?
        })?;
        if forgotten == 0 {
            return Ok(());
        }
    }
}
