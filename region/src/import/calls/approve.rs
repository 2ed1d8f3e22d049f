//! Makes organizations visible that an import has left hidden, after it has succeeded.
//!
//! One transaction gives them their status and marks the import as not reported. If the process dies after it, the
//! import has succeeded and is not reported, so it is continued at the next start.

use causeway_audit::Subject;
use causeway_relocation::finding::only_here;
use causeway_silo::{
    db::{DbError, count, is_refusal},
    transact,
};
use uuid::Uuid;

use super::Imports;
use crate::{error::Error, import::Approved, store};

/// The error of a status that breaks a constraint which only this database has.
fn refused(error: DbError) -> Error {
    if is_refusal(&error) {
        let broken = only_here("sentry_organization", error.kind(), error.constraint());
        Error::StatusRefused(broken)
    } else {
        error.into()
    }
}

impl Imports {
    /// Makes hidden organizations visible, all of these or none, and has them reported to control. Returns how many
    /// were hidden.
    ///
    /// # Errors
    /// If there is no such import or organization, or its import has not succeeded.
    pub(crate) async fn approve_organizations(&self, of: Approved) -> Result<u64, Error> {
        let subject = causeway_audit::about(self.approved(&of));
        if let Approved::Import(id) = of {
            self.import(id).await?;
        }
        let (shown, imports) = transact!(Error, self.context.db, |tx| {
            // This locks the imports: a call that begins to revert one of them waits for this transaction, or this one
            // for that call.
            let held = store::import::lock_succeeded(tx, &of).await?;
            let shown = store::organization::show(tx, &of).await.map_err(refused)?;
            self.context.announce_organizations(tx, shown.clone()).await?;
            let shown = count(shown.len())?.cast_unsigned();
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
                causeway_audit::append(tx, &subject, self.context.env.now()).await?;
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

    fn approved(&self, of: &Approved) -> Subject {
        match of {
            Approved::Import(id) => Subject::import(*id),
            Approved::Organizations(ids) => match ids.first() {
                Some(id) if ids.len() == 1 => Subject::organization(*id),
                _ => Subject::region(&self.context.region),
            },
        }
    }

    /// Lets this process report an import, unless another one does.
    fn report_again(&self, id: Uuid) {
        let engine = self.engine.clone();
        self.context.lifecycle.background(async move {
            let mut attempts = 0;
            loop {
                match store::import::get(&engine.context().db, id).await {
                    // Another process may have the lease and have seen no need to report. Then the next round runs the
                    // import here.
                    Ok(Some(import)) if !import.needs_no_process() => engine.spawn(id),
                    Ok(_) => return,
                    Err(error) => {
                        tracing::warn!(import_id = %id, %error, "cannot read whether an import has been reported; trying again");
                    }
                }
                attempts += 1;
                if engine.context().pause(attempts).await.is_err() {
                    return;
                }
            }
        });
    }
}
