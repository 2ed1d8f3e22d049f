//! Reads all rows that the promises are about.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context as _;
use causeway_proto::{organization_status, region::v1::ImportState, relocation::v1::OrganizationStatus};
use causeway_relocation::{
    catalog::{self, Catalog, Model},
    chunk::Chunk,
    keys::KeyKind,
};
use causeway_silo::db::{Db, Statement};
use uuid::Uuid;

use crate::{
    account::{Cell, Rows, rows},
    cluster::{Cluster, Silo},
};

pub(crate) const ORGANIZATION: &str = "sentry.organization";

/// Where a row is: control if `None`, otherwise the region with this index.
pub(crate) type Place = Option<usize>;

pub(crate) struct AllRows {
    pub(crate) catalog: Catalog,
    pub(crate) control: Control,
    pub(crate) regions: Vec<Region>,
    /// Rows that imports report as inserted, by place, model and id. Each has the import and the primary key in its
    /// file.
    pub(crate) inserted: BTreeMap<(Place, String, i64), Vec<(Uuid, i64)>>,
}

pub(crate) struct Control {
    pub(crate) region_names: BTreeSet<String>,
    pub(crate) reservations: Vec<Reservation>,
    pub(crate) operations: Vec<Operation>,
    /// The organizations in the directory, by organization id.
    pub(crate) directory: BTreeMap<i64, Listed>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) tables: HashMap<String, Rows>,
}

/// An organization as the directory lists it.
pub(crate) struct Listed {
    pub(crate) region: String,
    pub(crate) slug: String,
    pub(crate) status: OrganizationStatus,
}

pub(crate) struct Reservation {
    pub(crate) slug: String,
    pub(crate) organization_id: i64,
    pub(crate) region: String,
    pub(crate) kind: String,
    pub(crate) operation_id: Uuid,
}

impl Reservation {
    pub(crate) fn is_primary(&self) -> bool {
        self.kind == "primary"
    }

    pub(crate) fn is_temporary(&self) -> bool {
        self.kind == "temporary_rename_alias"
    }
}

pub(crate) struct Operation {
    pub(crate) region: String,
    pub(crate) id: Uuid,
    pub(crate) state: String,
    pub(crate) organization_count: i64,
}

/// A block of ids, or what is left of one.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) region: String,
    pub(crate) model: String,
    pub(crate) first: i64,
    /// The first id after the block.
    pub(crate) until: i64,
}

pub(crate) struct Region {
    pub(crate) name: String,
    pub(crate) imports: Vec<Import>,
    /// What is left of the region's last block of ids, by model.
    pub(crate) blocks: Vec<Lease>,
    /// The region's replica of its reservations, by slug: organization, type, canonical slug.
    pub(crate) replica: BTreeMap<String, (i64, String, Option<String>)>,
    pub(crate) tables: HashMap<String, Rows>,
}

pub(crate) struct Import {
    pub(crate) id: Uuid,
    pub(crate) state: ImportState,
    pub(crate) hides: bool,
    pub(crate) reported: bool,
    pub(crate) counts: Vec<Counts>,
    pub(crate) organizations: Vec<Organization>,
    pub(crate) chunks: Vec<Chunk>,
    /// Rows that stay although the import was reverted, as its findings report: model and id.
    pub(crate) preserved: BTreeSet<(String, i64)>,
}

impl Import {
    pub(crate) fn was_reverted(&self) -> bool {
        self.state == ImportState::Reverted
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.state == ImportState::Succeeded
    }
}

pub(crate) struct Counts {
    pub(crate) model: String,
    pub(crate) seen: i64,
    /// Counts of records: inserted, existing, out of scope, filtered, dropped, and of models that cannot be imported.
    pub(crate) parts: [i64; 6],
    /// Rows that were added without records.
    pub(crate) added: i64,
    /// Counts of inserted rows that the revert deleted, and that it left in place.
    pub(crate) reverted: [i64; 2],
}

pub(crate) struct Organization {
    pub(crate) id: i64,
    pub(crate) status: i64,
}

impl AllRows {
    pub(crate) async fn load(cluster: &Cluster) -> anyhow::Result<Self> {
        let catalog = Catalog::load()?;
        let control = Control::load(&cluster.shared_db(Silo::Control).await?, &catalog).await?;
        let mut regions = Vec::new();
        for index in 0..cluster.region_count() {
            let db = cluster.shared_db(Silo::Region(index)).await?;
            regions.push(Region::load(&db, &catalog, cluster.region_name(index)).await?);
        }
        let mut all = Self { catalog, control, regions, inserted: BTreeMap::new() };
        all.note_inserted();
        Ok(all)
    }

    fn note_inserted(&mut self) {
        let imports = self.regions.iter().enumerate().flat_map(|(index, region)| {
            region.imports.iter().map(move |import| ((region.name.clone(), import.id), (index, import)))
        });
        let imports: HashMap<(String, Uuid), (usize, &Import)> = imports.collect();
        let here = imports
            .values()
            .flat_map(|(index, import)| import.chunks.iter().map(move |chunk| (Some(*index), chunk)));
        let at_control = self.control.chunks.iter().map(|chunk| (None, chunk));
        let mut inserted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (place, chunk) in here.chain(at_control) {
            // For a model of control, the region only has a copy of what control noted.
            if self.place_of(&chunk.model, place) != place {
                continue;
            }
            let import = imports.get(&(chunk.region.clone(), chunk.import_id)).map(|(_, import)| *import);
            let reverted = import.filter(|import| import.was_reverted());
            for (old, new) in &chunk.keys.inserted {
                if reverted.is_some_and(|import| !import.preserved.contains(&(chunk.model.clone(), *new))) {
                    continue;
                }
                let rows: &mut Vec<_> = inserted.entry((place, chunk.model.clone(), *new)).or_default();
                rows.push((chunk.import_id, *old));
            }
        }
        self.inserted = inserted;
    }

    /// The place of the rows of a model, when a record of it was imported into a region.
    pub(crate) fn place_of(&self, model: &str, region: Place) -> Place {
        let silo = self.catalog.model(model).map(|model| model.silo);
        if silo == Some(catalog::Silo::Control) { None } else { region }
    }

    /// The place of the row that a row at `from` refers to. For a row of control, that is the region that has such a
    /// row.
    pub(crate) fn place_of_row(&self, model: &str, from: Place, id: i64) -> Place {
        match self.place_of(model, from.or(Some(0))) {
            Some(_) if from.is_none() => {
                (0..self.regions.len()).find(|index| self.has_row(Some(*index), model, id))
            }
            place => place,
        }
    }

    pub(crate) fn name_of(&self, place: Place) -> &str {
        place.and_then(|index| self.regions.get(index)).map_or("control", |region| region.name.as_str())
    }

    /// The tables at a place.
    pub(crate) fn tables(&self, place: Place) -> &HashMap<String, Rows> {
        place.and_then(|index| self.regions.get(index)).map_or(&self.control.tables, |region| &region.tables)
    }

    pub(crate) fn has_row(&self, place: Place, model: &str, id: i64) -> bool {
        self.tables(place).get(model).is_some_and(|rows| rows.contains_key(&id))
    }

    /// Every table: where it is, its model, its rows.
    pub(crate) fn all_tables(&self) -> impl Iterator<Item = (Place, &Model, &Rows)> {
        let places = [None].into_iter().chain((0..self.regions.len()).map(Some));
        places.flat_map(move |place| {
            let tables = self.tables(place);
            self.catalog.written().filter_map(move |model| Some((place, model, tables.get(&model.name)?)))
        })
    }

    /// The entries of the primary key map of an import.
    pub(crate) fn keys(import: &Import) -> HashMap<(&str, i64), (KeyKind, i64)> {
        let of = |chunk: &'_ Chunk| chunk.keys.mapped().collect::<Vec<_>>();
        import
            .chunks
            .iter()
            .flat_map(|chunk| {
                of(chunk).into_iter().map(|(kind, old, new)| ((chunk.model.as_str(), old), (kind, new)))
            })
            .collect()
    }
}

/// The value of an integer column of a row.
pub(crate) fn int(row: &crate::account::Row, field: &str) -> Option<i64> {
    row.get(field).and_then(Cell::as_int)
}

async fn tables(db: &Db, catalog: &Catalog, silo: catalog::Silo) -> anyhow::Result<HashMap<String, Rows>> {
    let mut tables = HashMap::new();
    for model in catalog.written().filter(|model| model.silo == silo) {
        tables.insert(model.name.clone(), rows(db, model).await?);
    }
    Ok(tables)
}

async fn chunks(db: &Db, region: &str, import_id: Uuid) -> anyhow::Result<Vec<Chunk>> {
    Ok(Chunk::list(db, region, import_id, (-1, 0), i64::MAX).await?)
}

impl Control {
    async fn load(db: &Db, catalog: &Catalog) -> anyhow::Result<Self> {
        let mut all_chunks = Vec::new();
        let imports = Statement::new("SELECT DISTINCT region, import_id FROM causeway_import_chunk");
        for row in db.fetch_all(imports).await? {
            all_chunks.extend(chunks(db, &row.text("region")?, row.uuid("import_id")?).await?);
        }
        let names = db.fetch_all(Statement::new("SELECT name FROM causeway_region")).await?;
        let directory = "SELECT o.organization_id, o.region, o.status, COALESCE(p.slug, '') AS slug \
                         FROM causeway_organization o LEFT JOIN causeway_organization_slug_reservation p \
                         ON p.organization_id = o.organization_id AND p.region = o.region AND p.type = 'primary'";
        let directory = db.fetch_all(Statement::new(directory)).await?;
        Ok(Self {
            region_names: names.iter().map(|row| row.text("name")).collect::<Result<_, _>>()?,
            reservations: reservations(db).await?,
            operations: operations(db).await?,
            directory: directory
                .iter()
                .map(|row| {
                    let listed = Listed {
                        region: row.text("region")?,
                        slug: row.text("slug")?,
                        status: organization_status::from_stored(row.int("status")?),
                    };
                    Ok((row.int("organization_id")?, listed))
                })
                .collect::<anyhow::Result<_>>()?,
            leases: leases(db).await?,
            chunks: all_chunks,
            tables: tables(db, catalog, catalog::Silo::Control).await?,
        })
    }
}

async fn reservations(db: &Db) -> anyhow::Result<Vec<Reservation>> {
    let statement = Statement::new(
        "SELECT slug, organization_id, region, type, operation_id FROM causeway_organization_slug_reservation \
         ORDER BY slug",
    );
    let rows = db.fetch_all(statement).await?;
    rows.iter()
        .map(|row| {
            Ok(Reservation {
                slug: row.text("slug")?,
                organization_id: row.int("organization_id")?,
                region: row.text("region")?,
                kind: row.text("type")?,
                operation_id: row.uuid("operation_id")?,
            })
        })
        .collect()
}

async fn operations(db: &Db) -> anyhow::Result<Vec<Operation>> {
    let statement =
        Statement::new("SELECT region, operation_id, state, organization_count FROM causeway_slug_operation");
    let rows = db.fetch_all(statement).await?;
    rows.iter()
        .map(|row| {
            Ok(Operation {
                region: row.text("region")?,
                id: row.uuid("operation_id")?,
                state: row.text("state")?,
                organization_count: row.int("organization_count")?,
            })
        })
        .collect()
}

async fn leases(db: &Db) -> anyhow::Result<Vec<Lease>> {
    let statement = Statement::new(
        "SELECT region, model, first_id, count FROM causeway_id_lease ORDER BY model, first_id",
    );
    let rows = db.fetch_all(statement).await?;
    rows.iter()
        .map(|row| {
            let first = row.int("first_id")?;
            Ok(Lease {
                region: row.text("region")?,
                model: row.text("model")?,
                first,
                until: first + row.int("count")?,
            })
        })
        .collect()
}

impl Region {
    async fn load(db: &Db, catalog: &Catalog, name: &str) -> anyhow::Result<Self> {
        let statement = "SELECT import_id, state, hide_organizations, reported FROM causeway_import \
                         ORDER BY created_at, import_id";
        let mut imports = Vec::new();
        for row in db.fetch_all(Statement::new(statement)).await? {
            let id = row.uuid("import_id")?;
            let state = row.text("state")?;
            imports.push(Import {
                id,
                state: ImportState::from_short_name(&state).with_context(|| format!("no state: {state}"))?,
                hides: row.bool("hide_organizations")?,
                reported: row.bool("reported")?,
                counts: counts(db, id).await?,
                organizations: organizations(db, id).await?,
                chunks: chunks(db, name, id).await?,
                preserved: preserved_rows(db, id).await?,
            });
        }
        let blocks = db.fetch_all(Statement::new("SELECT model, next, until FROM causeway_id_block")).await?;
        let blocks = blocks.iter().map(|row| {
            Ok(Lease {
                region: name.to_owned(),
                model: row.text("model")?,
                first: row.int("next")?,
                until: row.int("until")?,
            })
        });
        Ok(Self {
            name: name.to_owned(),
            imports,
            blocks: blocks.collect::<anyhow::Result<_>>()?,
            replica: replica(db).await?,
            tables: tables(db, catalog, catalog::Silo::Region).await?,
        })
    }
}

async fn replica(db: &Db) -> anyhow::Result<BTreeMap<String, (i64, String, Option<String>)>> {
    let statement =
        Statement::new("SELECT slug, organization_id, type, canonical_slug FROM causeway_slug_replica");
    let rows = db.fetch_all(statement).await?;
    rows.iter()
        .map(|row| {
            let known = (row.int("organization_id")?, row.text("type")?, row.opt_text("canonical_slug")?);
            Ok((row.text("slug")?, known))
        })
        .collect()
}

async fn counts(db: &Db, import_id: Uuid) -> anyhow::Result<Vec<Counts>> {
    let statement =
        Statement::new("SELECT * FROM causeway_import_model WHERE import_id = $1").with(import_id);
    let rows = db.fetch_all(statement).await?;
    rows.iter()
        .map(|row| {
            let parts = ["inserted", "existing", "out_of_scope", "filtered", "dropped", "passed_over"];
            let mut counts = Counts {
                model: row.text("model")?,
                seen: row.int("seen")?,
                parts: [0; 6],
                added: row.int("added")?,
                reverted: [row.int("deleted")?, row.int("kept")?],
            };
            for (slot, part) in counts.parts.iter_mut().zip(parts) {
                *slot = row.int(part)?;
            }
            Ok(counts)
        })
        .collect()
}

async fn organizations(db: &Db, import_id: Uuid) -> anyhow::Result<Vec<Organization>> {
    let statement = Statement::new(
        "SELECT organization_id, status FROM causeway_import_organization WHERE import_id = $1",
    );
    let rows = db.fetch_all(statement.with(import_id)).await?;
    rows.iter()
        .map(|row| Ok(Organization { id: row.int("organization_id")?, status: row.int("status")? }))
        .collect()
}

async fn preserved_rows(db: &Db, import_id: Uuid) -> anyhow::Result<BTreeSet<(String, i64)>> {
    let statement = Statement::new(
        "SELECT model, reason FROM causeway_import_finding WHERE import_id = $1 AND kind = 'row_kept'",
    );
    let rows = db.fetch_all(statement.with(import_id)).await?;
    rows.iter()
        .map(|row| {
            let reason = row.text("reason")?;
            let id = reason.split(' ').nth(1).and_then(|id| id.parse().ok());
            Ok((row.text("model")?, id.with_context(|| format!("no row is named in: {reason}"))?))
        })
        .collect()
}
