//! Makes organizations visible that an import has left hidden, after it has succeeded.
//!
//! A transaction gives them their status and marks the import as not reported. Those of a whole import are shown in parts
//! of at most as many as one transaction may change (20,000, or 1,000 in a database of the product).
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | a part | its organizations are visible, the import is not reported | the next start reports it; another call shows the others |
//! | the last part | all are visible, the import is not reported | the next start reports it |
//!
//! Each part looks whether the import has still succeeded, so that a revert between two parts ends the approval.

use std::collections::BTreeSet;

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

/// What an approval has done so far.
#[derive(Debug)]
struct Done {
    /// What its row in the audit log is about, until it is written.
    subject: Option<Subject>,
    /// How many organizations have become visible.
    shown: u64,
    /// The imports that are to be reported.
    imports: BTreeSet<Uuid>,
}

impl Imports {
    /// Makes hidden organizations visible and has them reported to control: those that are named together or not at all,
    /// those of an import in parts. Returns how many were hidden. What has begun goes on if the caller goes away.
    ///
    /// # Errors
    /// If there is no such import or organization, or its import has not succeeded. Organizations of an import that were
    /// shown before the error stay visible; another call continues.
    pub(crate) async fn approve_organizations(&self, of: Approved) -> Result<u64, Error> {
        let subject = causeway_audit::about(self.approved(&of));
        let imports = self.clone();
        let task = async move {
            let mut done = Done { subject: Some(subject), shown: 0, imports: BTreeSet::new() };
            let outcome = imports.approve(&of, &mut done).await;
            if done.shown > 0 {
                tracing::info!(organizations = done.shown, "hidden organizations are visible now");
            }
            for import in done.imports {
                imports.report_again(import);
            }
            outcome.map(|()| done.shown)
        };
        self.context.lifecycle.to_its_end(task).await
    }

    async fn approve(&self, of: &Approved, done: &mut Done) -> Result<(), Error> {
        let Approved::Import(id) = of else {
            self.approve_part(of, None, done).await?;
            return Ok(self.context.env.failpoint("region.approve.committed").await?);
        };
        self.import(*id).await?;
        let mut after = 0;
        loop {
            let (last, more) = self.context.organizations_after(*id, after).await?.unwrap_or((after, false));
            self.approve_part(of, Some((after, last)), done).await?;
            self.context.env.failpoint("region.approve.committed").await?;
            if !more {
                return Ok(());
            }
            // What is visible by now is reported at the next start, and another call shows the others.
            if self.context.lifecycle.is_stopping() {
                return Err(Error::Stopping);
            }
            after = last;
        }
    }

    /// Makes organizations visible in one transaction; of an import, those with ids above the first number of `within`, up
    /// to the second one.
    async fn approve_part(
        &self,
        of: &Approved,
        within: Option<(i64, i64)>,
        done: &mut Done,
    ) -> Result<(), Error> {
        let (shown, imports) = transact!(Error, self.context.db, |tx| {
            // This locks the imports: a call that begins to revert one of them waits for this transaction, or this one
            // for that call.
            let locked = store::import::lock_succeeded(tx, of).await?;
            let shown = store::organization::show(tx, of, within).await.map_err(refused)?;
            self.context.announce_organizations(tx, shown.clone()).await?;
            let shown = count(shown.len())?.cast_unsigned();
            match of {
                Approved::Import(id) if locked == 0 => {
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
                store::import::note_approval(tx, of, self.context.env.now()).await?;
                // The call has one row, which is written with its first change.
                if let Some(subject) = &done.subject {
                    causeway_audit::append(tx, subject, self.context.env.now()).await?;
                }
            }
            self.context.env.failpoint("region.approve.prepared").await?;
            (shown, store::import::succeeded(tx, of).await?)
        })?;
        if shown > 0 {
            done.subject = None;
        }
        done.shown += shown;
        done.imports.extend(imports);
        Ok(())
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
