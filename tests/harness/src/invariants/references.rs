//! Checks references: I7.

use std::collections::HashMap;

use causeway_relocation::keys::KeyKind;
use uuid::Uuid;

use super::{
    Found,
    all_rows::{AllRows, Import, int},
};
use crate::account::{FileRecord, Owner, owner};

pub(super) fn check(all: &AllRows, exports: &[(Uuid, Vec<FileRecord>)], found: &mut Found) {
    references_lead_somewhere(all, found);
    for (import_id, records) in exports {
        for (index, region) in all.regions.iter().enumerate() {
            let import = region.imports.iter().find(|import| import.id == *import_id);
            if let Some(import) = import.filter(|import| import.succeeded()) {
                references_are_those_of_the_file(all, index, import, records, found);
            }
        }
    }
}

fn references_lead_somewhere(all: &AllRows, found: &mut Found) {
    for (place, model, rows) in all.all_tables() {
        for column in &model.columns {
            let Some(target) = &column.references else { continue };
            for (id, row) in rows {
                let Some(pk) = int(row, &column.field) else { continue };
                let to = all.place_of_row(target, place, pk);
                if !all.has_row(to, target, pk) {
                    found.add(
                        7,
                        format!(
                            "row {id} of {} of {}: {} leads to {target} {pk}, which is not there",
                            model.name,
                            all.name_of(place),
                            column.field
                        ),
                    );
                }
            }
        }
    }
}

/// Each reference of an inserted row leads to the row of the record that the file's reference leads to.
fn references_are_those_of_the_file(
    all: &AllRows,
    region: usize,
    import: &Import,
    records: &[FileRecord],
    found: &mut Found,
) {
    let keys: HashMap<(&str, i64), (KeyKind, i64)> = AllRows::keys(import);
    for record in records {
        let Some(model) = all.catalog.model(&record.model) else { continue };
        let Some((KeyKind::Inserted, id)) = keys.get(&(model.name.as_str(), record.pk)) else { continue };
        let place = all.place_of(&model.name, Some(region));
        let Some(row) = all.tables(place).get(&model.name).and_then(|rows| rows.get(id)) else { continue };
        for column in &model.columns {
            let Some(target) = &column.references else { continue };
            let by_actor = match owner(records.iter(), record) {
                Owner::Known(field, _, pk) if field == column.field => Some(pk),
                _ => None,
            };
            let old = by_actor.or(record.pk_in(&column.field));
            let wanted = old.and_then(|old| keys.get(&(target.as_str(), old))).map(|(_, new)| *new);
            let has = int(row, &column.field);
            if has != wanted {
                found.add(
                    7,
                    format!(
                        "import {} of {}: {} {} is row {id}, whose {} is {has:?}; the file has {old:?}, which is {wanted:?}",
                        import.id,
                        all.name_of(Some(region)),
                        model.name,
                        record.pk,
                        column.field
                    ),
                );
            }
        }
    }
}
