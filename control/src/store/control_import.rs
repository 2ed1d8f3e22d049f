//! Rows of model tables, as far as regions need to know them.

use causeway_relocation::{
    catalog::{Kind, Model},
    db::{Column, Db, DbError, Statement},
};

/// The carried values of rows, as JSON objects by field, with their ids.
pub(crate) async fn carried(db: &Db, model: &Model, ids: Vec<i64>) -> Result<Vec<(i64, String)>, DbError> {
    let columns: Vec<_> = model.carry.iter().filter_map(|column| model.columns.get(*column)).collect();
    let names: String = columns.iter().map(|column| format!(", t.\"{}\"", column.column)).collect();
    let statement = Statement::new("SELECT t.id AS id")
        .push(&names)
        .push(" FROM ")
        .rows(db.dialect(), "r", [("id", Column::Ints(ids))])
        .push(&format!(" JOIN \"{}\" t ON t.id = r.id ORDER BY t.id", model.table));
    let mut carried = Vec::new();
    for row in db.fetch_all(statement).await? {
        let mut fields = serde_json::Map::new();
        for column in &columns {
            let value: serde_json::Value = match column.kind {
                Kind::Boolean => row.opt_bool(&column.column)?.into(),
                Kind::Text => row.opt_text(&column.column)?.into(),
                _ => return Err(DbError::inconsistent(format!("{} cannot be carried", column.field))),
            };
            fields.insert(column.field.clone(), value);
        }
        carried.push((row.int("id")?, serde_json::Value::Object(fields).to_string()));
    }
    Ok(carried)
}
