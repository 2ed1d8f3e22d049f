//! Reverts what control has written for an import, chunk by chunk. Rows that something else needs by now stay: users
//! that another import has matched, all rows that belong to them, and rows that other rows refer to.

use std::collections::{BTreeSet, HashMap};

use causeway_audit::Subject;
use causeway_proto::limits::MAX_NEEDED_ROWS;
use causeway_relocation::{
    catalog::{Catalog, EMAIL, Model, Silo, USER, USER_EMAIL},
    chunk::{Chunk, Others, Reverted, SharedChunk},
    finding::{Finding, FindingKind},
    keys::KeyKind,
    revert::{self, Needed, References, RowsToDelete},
};
use causeway_silo::{
    db::{DbError, Tx, count},
    transact,
};
use uuid::Uuid;

use super::write::{AUTH_TOKEN, ControlImports, writable};
use crate::{
    Error,
    model::import::NeededRow,
    regions::{self, admission},
    store,
};

/// The most chunks that one query reads.
pub(super) const CHUNKS: i64 = 100;

/// A chunk that is being reverted, with what decides which of its rows stay.
struct Undoing<'a> {
    imports: &'a ControlImports,
    catalog: &'a Catalog,
    region: &'a str,
    import_id: Uuid,
    references: References,
    /// Rows of this import that are not reverted yet. They keep no row, because they will be deleted too.
    to_delete: RowsToDelete,
}

impl ControlImports {
    /// Closes an import for good: control writes no more chunks of it. Stores which of its rows the region still needs.
    /// The same call again changes nothing.
    ///
    /// # Errors
    /// If the region is not registered or is suspended, there are too many rows, or control does not write the model of
    /// one of them.
    pub async fn revert(&self, region: &str, import_id: Uuid, needed: &[NeededRow]) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::import(import_id));
        regions::writing(self.db(), "region", region).await?;
        if needed.len() > MAX_NEEDED_ROWS {
            return Err(Error::invalid("needed", format!("must be at most {MAX_NEEDED_ROWS}")));
        }
        let catalog = self.catalog().await?;
        for row in needed {
            writable(&catalog, &row.model)?;
        }
        transact!(Error, self.db(), |tx| {
            admission::may_write(tx, region).await?;
            let closed = store::import::close(tx, region, import_id).await?;
            let added = store::import::add_needed(tx, region, import_id, needed).await?;
            if closed || added > 0 {
                causeway_audit::append(tx, &subject, self.env().now()).await?;
            }
        })?;
        Ok(self.env().failpoint("control.revert.closed").await?)
    }

    /// Reverts a chunk in one transaction, or returns the former answer if it was reverted before. A chunk that control
    /// does not have had no rows.
    ///
    /// # Errors
    /// If the region is not registered or is suspended, or control does not write the model.
    pub async fn revert_chunk(
        &self,
        region: &str,
        import_id: Uuid,
        model: &str,
        min_ordinal: i64,
    ) -> Result<Reverted, Error> {
        let subject = causeway_audit::about(Subject::import(import_id));
        regions::writing(self.db(), "region", region).await?;
        let catalog = self.catalog().await?;
        let model = writable(&catalog, model)?;
        let find = async || Chunk::find(self.db(), region, import_id, &model.name, min_ordinal).await;
        let Some(chunk) = find().await? else { return Ok(Reverted::default()) };
        if let Some(reverted) = chunk.reverted {
            return Ok(reverted);
        }
        if !model.has_table {
            // The rows went with their table.
            let gone = Reverted { deleted: count(chunk.keys.inserted.len())?, ..Reverted::default() };
            transact!(Error, self.db(), |tx| {
                admission::may_write(tx, region).await?;
                store::import::close(tx, region, import_id).await?;
                if chunk.set_reverted(tx, &gone, self.env().now()).await? {
                    causeway_audit::append(tx, &subject, self.env().now()).await?;
                }
            })?;
            return Ok(gone);
        }
        let references = References::load(self.db(), &catalog, Silo::Control).await?;
        let to_delete = self.to_delete(region, import_id, &catalog, &references, model).await?;
        let undoing = Undoing { imports: self, region, import_id, catalog: &catalog, references, to_delete };
        let reverted = transact!(Error, self.db(), |tx| {
            admission::may_write(tx, region).await?;
            let reverted = undoing.undo(tx, model, &chunk).await?;
            if reverted.is_some() {
                causeway_audit::append(tx, &subject, self.env().now()).await?;
            }
            self.env().failpoint("control.revert_chunk.recorded").await?;
            reverted
        })?;
        self.env().failpoint("control.revert_chunk.committed").await?;
        match reverted {
            Some(reverted) => Ok(reverted),
            // Another call has reverted the chunk meanwhile.
            None => find().await?.and_then(|chunk| chunk.reverted).ok_or_else(|| {
                DbError::inconsistent("a chunk has been reverted and does not say with what result").into()
            }),
        }
    }

    /// The rows of an import that are not reverted yet and may refer to rows of a model, by table. A revert goes
    /// backwards, so they are few: whatever refers to a model was written after it. For rows that belong to users it is
    /// all that refer to users and is left, because rows of a user who stays also stay.
    async fn to_delete(
        &self,
        region: &str,
        import_id: Uuid,
        catalog: &Catalog,
        references: &References,
        to: &Model,
    ) -> Result<RowsToDelete, Error> {
        let of_users =
            to.is_user_scoped() && to.columns.iter().any(|column| column.references.as_deref() == Some(USER));
        let targets: Vec<&Model> = [to].into_iter().chain(catalog.model(USER).filter(|_| of_users)).collect();
        let tables: HashMap<&str, &str> = catalog
            .written()
            .filter(|model| targets.iter().any(|to| references.refers(&model.table, &to.table)))
            .map(|model| (model.name.as_str(), model.table.as_str()))
            .collect();
        let models: Vec<String> = tables.keys().map(|name| (*name).to_owned()).collect();
        let mut to_delete = RowsToDelete::new();
        let mut after = (-1, 0);
        loop {
            let chunks = Chunk::keys_of(self.db(), region, import_id, models.clone(), after, CHUNKS).await?;
            let Some((_, position, ordinal, _)) = chunks.last() else { return Ok(to_delete) };
            after = (*position, *ordinal);
            for (model, _, _, keys) in &chunks {
                let Some(table) = tables.get(model.as_str()) else { continue };
                let to_delete = to_delete.entry((*table).to_owned()).or_default();
                for (_, new) in &keys.inserted {
                    to_delete.insert(revert::unsigned(*new)?);
                }
            }
        }
    }
}

impl Undoing<'_> {
    /// Deletes the rows of a chunk that nothing needs, and marks the chunk as reverted. `None` if it is marked already.
    async fn undo(&self, tx: &mut Tx, model: &Model, chunk: &Chunk) -> Result<Option<Reverted>, Error> {
        let (now, users) = (self.imports.env().now(), self.catalog.model(USER));
        // Imports that merge users or reuse addresses hold the same locks while they check and write.
        for model in users.into_iter().chain(Some(model).filter(|model| model.name != USER)) {
            revert::lock_table(tx, &model.table, now).await?;
        }
        store::import::close(tx, self.region, self.import_id).await?;
        let sources: HashMap<i64, i64> =
            chunk.keys.inserted.iter().map(|(source, new)| (*new, *source)).collect();
        let ids: Vec<i64> = chunk.keys.inserted.iter().map(|(_, new)| *new).collect();
        let mut needed = self.needed(tx, model, &ids).await?;
        if let Some(users) = users {
            needed.extend(self.of_users_who_stay(tx, model, users, &ids).await?);
        }
        let deleting: Vec<i64> = ids.into_iter().filter(|id| !needed.contains_key(id)).collect();
        if let Some(product_db) = self.imports.product_db()
            && model.name == AUTH_TOKEN
        {
            product_db.announce_tokens(tx, self.region, deleting.clone()).await?;
        }
        let deleted = revert::delete(tx, model, deleting).await?;
        let findings: Vec<Finding> = needed
            .iter()
            .map(|(id, why)| Finding {
                source_pk: sources.get(id).copied(),
                ..Finding::new(FindingKind::RowKept, format!("row {id} of {} stays: {why}", model.table))
                    .model(&model.name)
            })
            .collect();
        let reverted = Reverted { deleted: count(deleted)?, kept: count(needed.len())?, findings };
        Ok(chunk.set_reverted(tx, &reverted, now).await?.then_some(reverted))
    }

    /// Those of these rows that something needs, apart from users who stay.
    async fn needed(&self, tx: &mut Tx, model: &Model, ids: &[i64]) -> Result<Needed, Error> {
        let mut needed = self.references.needed(tx, &model.table, ids, &self.to_delete).await?;
        let asked = store::import::needed(tx, self.region, self.import_id, &model.name, ids.to_vec()).await?;
        for (id, by) in asked {
            needed.entry(id).or_insert(by);
        }
        self.used_by_others(tx, model, ids, &mut needed).await?;
        if model.name == EMAIL
            && let Some(addresses) = self.catalog.model(USER_EMAIL).filter(|model| model.has_table)
        {
            for id in store::import::addresses_in_use(tx, model, addresses, ids.to_vec()).await? {
                needed.entry(id).or_insert_with(|| "a user has the address".to_owned());
            }
        }
        Ok(needed)
    }

    /// Adds those of these rows that other imports found there and use. The chunks of those imports are read in pages,
    /// because there may be many, each with thousands of keys.
    async fn used_by_others(
        &self,
        tx: &mut Tx,
        model: &Model,
        ids: &[i64],
        needed: &mut Needed,
    ) -> Result<(), Error> {
        let wanted: BTreeSet<i64> = ids.iter().copied().collect();
        let others = Others::Imports { region: self.region, import_id: self.import_id };
        let mut page: Vec<SharedChunk> = Vec::new();
        loop {
            let after = page.last().map(|last| (last.region.as_str(), last.import_id, last.min_ordinal));
            page = Chunk::on_existing(tx, others, &model.name, after, CHUNKS).await?;
            if page.is_empty() {
                return Ok(());
            }
            for chunk in &page {
                let found = chunk.keys.mapped().filter(|(kind, ..)| *kind != KeyKind::Inserted);
                for (_, _, id) in found.filter(|(_, _, id)| wanted.contains(id)) {
                    needed.entry(id).or_insert_with(|| {
                        format!(
                            "import {} into region {} found it there and uses it",
                            chunk.import_id, chunk.region
                        )
                    });
                }
            }
        }
    }

    /// Those of these rows that belong to users who stay.
    async fn of_users_who_stay(
        &self,
        tx: &mut Tx,
        model: &Model,
        users: &Model,
        ids: &[i64],
    ) -> Result<Needed, Error> {
        let mut hanging = Needed::new();
        let to_users = model.columns.iter().filter(|column| column.references.as_deref() == Some(USER));
        for column in to_users.filter(|_| model.is_user_scoped()) {
            let owners = store::import::column(tx, model, column, ids.to_vec()).await?;
            let distinct: BTreeSet<i64> = owners.iter().map(|(_, user)| *user).collect();
            let staying = self.needed(tx, users, &Vec::from_iter(distinct)).await?;
            for (id, user) in owners {
                if staying.contains_key(&user) {
                    hanging.insert(id, format!("it belongs to user {user}, who stays"));
                }
            }
        }
        Ok(hanging)
    }
}
