//! What callers can see of imports.

use causeway_relocation::{
    catalog::ORGANIZATION,
    chunk::Chunk,
    finding::{Finding, FindingKind, Severity, Tense},
    keys::KeyKind,
};
use causeway_silo::page::{Page, PageRequest};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Imports, Requester};
use crate::{
    error::Error,
    import::{Import, ImportState, ImportedOrganization, ModelCounts, Progress},
    store,
};

/// An import with its progress, counts and organizations.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportView {
    /// The import as the database has it.
    pub import: Import,
    /// Its progress; all zero if it does not run in this process.
    pub progress: Progress,
    /// What happened to its records, by model.
    pub models: Vec<ModelCounts>,
    /// Its first organizations, ordered by id.
    pub organizations: Vec<ImportedOrganization>,
    /// How many findings were made of each kind.
    pub finding_counts: Vec<(FindingKind, i64)>,
    /// How many of its organizations are still hidden; 0 unless it has succeeded.
    pub hidden_organizations: i64,
}

/// One line of the primary key map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelKey {
    /// The name of the model.
    pub model: String,
    /// The primary key in the export.
    pub source_pk: i64,
    /// The primary key of the row that the record became.
    pub new_pk: i64,
    /// Whether that row is new or existed before.
    pub kind: KeyKind,
    /// The organization, if the row is one.
    pub organization: Option<ImportedOrganization>,
    /// The place of the line: position and first ordinal of its chunk, and the number of the line in the chunk, from 1.
    pub place: (i64, i64, usize),
}

impl Imports {
    pub(super) async fn import(&self, id: Uuid) -> Result<Import, Error> {
        match store::import::get(&self.context.db, id).await? {
            Some(import) if import.state != ImportState::Receiving => Ok(import),
            _ => Err(Error::ImportNotFound(id)),
        }
    }

    /// One import with all that belongs to it.
    pub(crate) async fn view(&self, id: Uuid) -> Result<ImportView, Error> {
        let import = self.with_unstored(self.import(id).await?);
        let progress = match self.engine.running(id) {
            Some(running_import) => running_import.progress(import.state == ImportState::Planning),
            None => Progress::default(),
        };
        let hidden_organizations = match import.state {
            ImportState::Succeeded => store::imported::hidden(&self.context.db, id).await?,
            _ => 0,
        };
        Ok(ImportView {
            hidden_organizations,
            progress,
            models: store::model_counts::list(&self.context.db, id).await?,
            // Only the first page; `ListMappedKeys` has all.
            organizations: store::imported::organizations(&self.context.db, id, 0).await?,
            finding_counts: store::finding::counts(&self.context.db, id).await?,
            import,
        })
    }

    /// Checks that an import is there for a requester. The access layer has checked this too, but the import may have
    /// been begun since.
    ///
    /// # Errors
    /// If there is no such import, or somebody else began it.
    pub(crate) async fn check_seen(&self, id: Uuid, requester: &Requester) -> Result<(), Error> {
        match requester.own() {
            Some(_) => match store::import::begun_by(&self.context.db, id).await? {
                Some(begun_by) => requester.may_see(begun_by.as_deref()),
                None => Err(Error::ImportNotFound(id)),
            },
            None => Ok(()),
        }
    }

    /// Adds what the import waits for, if that could not be stored.
    pub(crate) fn with_unstored(&self, mut import: Import) -> Import {
        if let Some(waiting) =
            self.engine.running(import.id).and_then(|running_import| running_import.waiting())
        {
            import.waiting = Some(waiting);
        }
        import
    }

    /// A page of imports, the newest first.
    pub(crate) async fn list(
        &self,
        requester: &Requester,
        page: &PageRequest<(DateTime<Utc>, Uuid)>,
    ) -> Result<Page<Import, (DateTime<Utc>, Uuid)>, Error> {
        let imports = store::import::list(&self.context.db, requester.own(), page).await?;
        let imports = imports.into_iter().map(|import| self.with_unstored(import)).collect();
        Ok(Page::cut(imports, page, |import| (import.created_at, import.id)))
    }

    /// A page of findings of an import, and whether they say what has happened or what would happen.
    pub(crate) async fn findings(
        &self,
        id: Uuid,
        kind: Option<FindingKind>,
        severity: Option<Severity>,
        page: &PageRequest<i64>,
    ) -> Result<(Page<(i64, Finding), i64>, Tense), Error> {
        let tense = self.import(id).await?.tense();
        let severity = severity.map(|severity| (severity, tense));
        let findings = store::finding::list(&self.context.db, id, kind, severity, page).await?;
        Ok((Page::cut(findings, page, |(key, _)| *key), tense))
    }

    /// A page of the primary key map of an import. The page key names a chunk and how many of its lines came before.
    pub(crate) async fn mapped_keys(
        &self,
        id: Uuid,
        model: Option<&str>,
        page: &PageRequest<(i64, i64, usize)>,
    ) -> Result<Page<ModelKey, (i64, i64, usize)>, Error> {
        self.import(id).await?;
        let (mut position, mut min_ordinal, mut skip) = page.after.unwrap_or((-1, 0, 0));
        if page.after.is_some() {
            // Begin with this chunk again: some of its lines are still to come.
            min_ordinal = min_ordinal.saturating_sub(1);
        }
        let limit = usize::from(page.limit);
        let mut keys: Vec<ModelKey> = Vec::new();
        loop {
            let chunks =
                Chunk::list(&self.context.db, &self.context.region, id, (position, min_ordinal), 1).await?;
            let Some(chunk) = chunks.into_iter().next() else {
                return Ok(Page { items: self.with_organizations(id, keys).await?, next: None });
            };
            (position, min_ordinal) = (chunk.position, chunk.min_ordinal);
            if model.is_some_and(|model| !model.eq_ignore_ascii_case(&chunk.model)) {
                skip = 0;
                continue;
            }
            let mut taken = skip;
            let of_records = chunk.keys.mapped().filter(|_| !chunk.keys.are_added());
            let mut lines = of_records.skip(skip).peekable();
            while let Some((kind, source_pk, new_pk)) = lines.next_if(|_| keys.len() < limit) {
                keys.push(ModelKey {
                    model: chunk.model.clone(),
                    source_pk,
                    new_pk,
                    kind,
                    organization: None,
                    place: (position, min_ordinal, taken + 1),
                });
                taken += 1;
            }
            if lines.peek().is_some() {
                return Ok(Page {
                    items: self.with_organizations(id, keys).await?,
                    next: Some((position, min_ordinal, taken)),
                });
            }
            skip = 0;
        }
    }

    async fn with_organizations(&self, id: Uuid, mut keys: Vec<ModelKey>) -> Result<Vec<ModelKey>, Error> {
        let ids: Vec<i64> =
            keys.iter().filter(|key| key.model == ORGANIZATION).map(|key| key.new_pk).collect();
        if !ids.is_empty() {
            let mut organizations = store::imported::organizations_by_id(&self.context.db, id, ids).await?;
            for key in keys.iter_mut().filter(|key| key.model == ORGANIZATION) {
                key.organization = organizations.remove(&key.new_pk);
            }
        }
        Ok(keys)
    }
}
