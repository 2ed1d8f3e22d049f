//! FINISHING: the region writes the deferred models, then makes all organizations visible.
//!
//! Organizations become visible in the transaction that ends the import. If there are more than one transaction may
//! change (20,000), the first ones become visible in parts right before it, when nothing can fail any more:
//!
//! | died after | what is left | what the restarted region does |
//! | --- | --- | --- |
//! | adding up, or deleting returned columns | everything, hidden | adds up again, deletes the rest, shows all |
//! | making some of many visible | those are visible, and all is confirmed | makes the others visible |
//! | the import's end | everything is visible | reports to the directory |
//!
//! In a database of the product, they and all that belongs to them are announced to its workers in these transactions.
//!
//! An import that is reverted in between is hidden again before anything else.

use std::sync::PoisonError;

use causeway_audit::Subject;
use uuid::Uuid;

use crate::{
    error::Error,
    import::{Engine, Import, ImportState, engine::Run, mapped::SharedKeys},
    store,
};

/// How many rows' returned columns one transaction deletes.
const RETURNED: i64 = 20_000;

impl Engine {
    /// Writes the deferred models, checks that every record is accounted for, and makes the organizations visible.
    pub(in crate::import) async fn finish(&self, import: &Import, run: &mut Run) -> Result<(), Error> {
        self.context.register().await?;
        self.do_writes(import, run, true).await?;
        self.check_counts(import.id).await?;
        self.context.env.failpoint("region.finish.counted").await?;
        self.forget_returned(import).await?;
        let mut after = 0;
        loop {
            let (hides, books) = (import.parameters.hide_organizations, self.context.books.as_ref());
            let part = match hides && books.is_none() {
                true => None,
                false => self.organizations_after(import.id, after).await?,
            };
            let (last, more) = part.unwrap_or((after, false));
            transact_leased!(self, import, |lease| {
                if !hides {
                    store::organization::restore_status(lease, after, last).await?;
                }
                if let Some(books) = books {
                    // Also of hidden ones: the product keeps them in its books with their status.
                    books.announce_import(lease, import.id, after, last).await?;
                }
                if !more {
                    let (from, to) = (ImportState::Finishing, ImportState::Succeeded);
                    store::import::advance(lease, from, to, self.context.env.now()).await?;
                    causeway_audit::append(lease, &Subject::import(import.id), self.context.env.now())
                        .await?;
                }
            })?;
            if !more {
                break;
            }
            self.context.env.failpoint("region.finish.part_shown").await?;
            after = last;
        }
        let bytes = |keys: &SharedKeys| keys.read().unwrap_or_else(PoisonError::into_inner).bytes();
        let key_map_bytes = run.keys.as_ref().map_or(0, bytes);
        tracing::info!(import_id = %import.id, key_map_bytes, "an import has succeeded");
        Ok(self.context.env.failpoint("region.finish.visible").await?)
    }

    /// Refuses to end an import if a record is not accounted for.
    pub(in crate::import) async fn check_counts(&self, import_id: Uuid) -> Result<(), Error> {
        let counts = store::model_counts::list(&self.context.db, import_id).await?;
        match counts.iter().find(|counts| !counts.add_up()) {
            Some(wrong) => Err(Error::CountsDoNotAddUp(format!(
                "the records of {} do not add up: {wrong:?}",
                wrong.model
            ))),
            None => Ok(()),
        }
    }

    /// Deletes the returned columns of an import, which only writing needs.
    pub(in crate::import) async fn forget_returned(&self, import: &Import) -> Result<(), Error> {
        loop {
            let forgotten = transact_leased!(self, import, |lease| {
                store::imported::forget_returned(lease, RETURNED).await?
            })?;
            if forgotten == 0 {
                return Ok(());
            }
        }
    }
}
