//! Shows organizations that an import has left hidden, after it has succeeded.
//!
//! One transaction gives them their status and says that the import is to be reported again. If the process dies behind
//! it, the import is one that has succeeded and is not reported, which is taken up at the next start.

use std::collections::BTreeSet;

use causeway_silo::transact;
use uuid::Uuid;

use super::Engine;
use crate::{error::Error, store};

/// Which hidden organizations are to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Approved {
    /// All of this import.
    Import(Uuid),
    /// These.
    Organizations(BTreeSet<i64>),
}

impl Engine {
    /// Shows hidden organizations, all of these or none, and has control told of it. How many were hidden.
    ///
    /// # Errors
    /// If there is no such import or organization, or its import has not succeeded.
    pub(crate) async fn approve_organizations(&self, of: Approved) -> Result<u64, Error> {
        if let Approved::Import(id) = of {
            self.import(id).await?;
        }
        let (shown, imports) = transact!(Error, self.context.db, |tx| {
            // Whoever begins to revert one of them waits for this transaction, or this one for that.
            let held = store::import::hold_succeeded(tx, &of).await?;
            let shown = store::organization::show(tx, &of).await?;
            match &of {
                Approved::Import(id) if held == 0 => {
                    return Err(Error::OrganizationsNotReady(format!("import {id}")));
                }
                Approved::Import(_) => {}
                Approved::Organizations(ids) => {
                    let visible = store::organization::visible(tx, ids).await?;
                    if let Some(hidden) = ids.difference(&visible).next() {
                        let ready = store::organization::ready(tx, vec![*hidden]).await?;
                        return Err(match ready.get(hidden) {
                            Some(false) => {
                                Error::OrganizationsNotReady(format!("the import of organization {hidden}"))
                            }
                            _ => Error::OrganizationNotFound(hidden.to_string()),
                        });
                    }
                }
            }
            if shown > 0 {
                store::import::note_approval(tx, &of, self.context.env.now()).await?;
            }
            self.context.env.failpoint("region.approve.prepared").await?;
            (shown, store::import::succeeded(tx, &of).await?)
        })?;
        self.context.env.failpoint("region.approve.committed").await?;
        if shown > 0 {
            tracing::info!(organizations = shown, "hidden organizations are visible now");
        }
        for import in imports {
            self.report_again(import);
        }
        Ok(shown)
    }

    /// Has an import reported by this process, unless another one does.
    fn report_again(&self, id: Uuid) {
        let engine = self.clone();
        self.context.lifecycle.background(async move {
            let mut attempts = 0;
            loop {
                match store::import::get(&engine.context.db, id).await {
                    // If another process has its lease and sees no need any more, this one takes it up in the next round.
                    Ok(Some(import)) if !import.needs_nobody() => engine.spawn(id),
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(import_id = %id, %error, "whether an import has been reported cannot be seen");
                    }
                }
                attempts += 1;
                if engine.context.pause(attempts).await.is_err() {
                    return;
                }
            }
        });
    }
}
