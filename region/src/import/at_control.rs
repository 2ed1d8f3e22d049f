//! Whether control still has what imports have written there, and no longer what was reverted. Its database may have been
//! put back from a copy that is older than an import or a revert, or that of the region from one that is older than a
//! revert.

use std::collections::{BTreeMap, HashMap};

use causeway_proto::control::v1::ImportChunk;
use causeway_relocation::{
    catalog::Silo,
    chunk::{Chunk, ListedChunk},
};
use uuid::Uuid;

use crate::{context::Context, error::Error};

/// How many chunks are read at once.
const CHUNKS: i64 = 1_000;

/// Records of an import that are rows of control: how many of which model.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Records(BTreeMap<String, i64>);

impl Records {
    /// Whether no model has a record.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (model, rows)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{rows} of {model}")?;
        }
        Ok(())
    }
}

/// The records of an import, by model, that the region knows as rows of control, and that are in no chunk of control, or in
/// one that was reverted.
///
/// # Errors
/// If control or the database does not answer.
pub(crate) async fn lacking(context: &Context, import_id: Uuid) -> Result<Records, Error> {
    let mut theirs = None;
    let mut lacking = Records::default();
    let mut after = (-1, 0);
    loop {
        let (db, region) = (&context.db, &context.region);
        let chunks = Chunk::list_summaries(db, region, import_id, after, false, CHUNKS).await?;
        let Some(last) = chunks.last() else { return Ok(lacking) };
        after = (last.position, last.min_ordinal);
        for chunk in chunks.iter().filter(|chunk| is_at_control(context, chunk)) {
            let theirs = match &mut theirs {
                Some(theirs) => theirs,
                none => none.insert(chunks_of_control(context, import_id).await?),
            };
            let has = theirs.get(&(chunk.model.clone(), chunk.min_ordinal));
            if has != Some(&(chunk.inserted, chunk.existing)) {
                *lacking.0.entry(chunk.model.clone()).or_default() += chunk.inserted + chunk.existing;
            }
        }
    }
}

/// Whether a chunk has rows at control. The region sends nothing of a chunk without any.
fn is_at_control(context: &Context, chunk: &ListedChunk) -> bool {
    let is_of_control = context.catalog.model(&chunk.model).is_some_and(|model| model.silo == Silo::Control);
    is_of_control && !chunk.reverted && chunk.inserted + chunk.existing > 0
}

/// The records of an import, by model, that control has written and has not reverted, although the region has reverted the
/// import. Nothing if control is of a release that does not say what it has reverted.
///
/// # Errors
/// If control does not answer.
pub(crate) async fn left(context: &Context, import_id: Uuid) -> Result<Records, Error> {
    let mut left = Records::default();
    for chunk in all_of_control(context, import_id).await? {
        if chunk.reverted == Some(false) && chunk.inserted + chunk.existing > 0 {
            *left.0.entry(chunk.model).or_default() += chunk.inserted + chunk.existing;
        }
    }
    Ok(left)
}

/// How many records control has inserted and found in each chunk of an import that it has not reverted, by model and first
/// ordinal.
async fn chunks_of_control(
    context: &Context,
    import_id: Uuid,
) -> Result<HashMap<(String, i64), (i64, i64)>, Error> {
    let all = all_of_control(context, import_id).await?;
    let written = all.into_iter().filter(|chunk| chunk.reverted != Some(true));
    Ok(written.map(|chunk| ((chunk.model, chunk.min_ordinal), (chunk.inserted, chunk.existing))).collect())
}

/// All chunks of an import that control has written, without their keys.
async fn all_of_control(context: &Context, import_id: Uuid) -> Result<Vec<ImportChunk>, Error> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let page = context.ask(context.control.list_import_chunks(import_id, token, false)).await?;
        all.extend(page.chunks);
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(all);
        }
    }
}
