//! The only way to move an import: a transaction that has asserted the import's lease.
//!
//! The assertion renews the lease and locks the import's row until the transaction ends, so no other process has the
//! import when this one commits. Functions that move an import, or write its counts, findings, organizations or slugs,
//! take this type instead of a plain transaction.
//!
//! These changes need no lease:
//!
//! | change | why |
//! | --- | --- |
//! | `import::begin`, `receive`, `forget_receiving` | nobody can have the lease of an import whose file is being sent |
//! | `import::resume` | only of an import that has failed, on which nobody works |
//! | `import::begin_revert` | takes the lease away: the new state refuses what its holder still wants to commit |
//! | `revert_again::begin` | only of an import that was reverted, on which nobody works |
//! | `organization::hide_for_request` | after `begin_revert`: what is being reverted must not be visible any more |
//! | `import::note_approval`, `organization::show` | only of imports that have succeeded, whose rows no step changes |
//! | `pause::pause` | takes the lease away, and nobody can take it: its former holder can commit nothing any more |
//! | `pause::unpause` | only of a paused import, on which nobody works |
//! | `import::set_waiting` | changes no state; names its holder in the statement |
//!
//! ```no_run
//! # use causeway_region::store::{import, lease_transaction::LeaseTransaction};
//! # use causeway_region::{holder::Holder, import::Import};
//! # use chrono::{DateTime, Utc};
//! # async fn note(db: causeway_silo::db::Db, mine: &Import, me: &Holder, now: DateTime<Utc>)
//! # -> Result<(), causeway_silo::db::DbError> {
//! let mut tx = db.begin().await?;
//! if let Some(mut lease) = LeaseTransaction::assert(&mut tx, mine, me, now).await? {
//!     import::set_planned(&mut lease, 7, "own").await?;
//!     tx.commit().await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With a transaction that has not asserted the lease, this does not compile:
//!
//! ```compile_fail
//! # use causeway_region::store::{import, lease_transaction::LeaseTransaction};
//! # use causeway_region::{holder::Holder, import::Import};
//! # use chrono::{DateTime, Utc};
//! # async fn note(db: causeway_silo::db::Db, mine: &Import, me: &Holder, now: DateTime<Utc>)
//! # -> Result<(), causeway_silo::db::DbError> {
//! let mut tx = db.begin().await?;
//! import::set_planned(&mut tx, 7, "own").await?;
//! tx.commit().await?;
//! # Ok(())
//! # }
//! ```

use std::ops::{Deref, DerefMut};

use causeway_silo::db::{DbError, Tx};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::lease;
use crate::{holder::Holder, import::Import};

/// A transaction in which this process has asserted its lease of an import.
#[derive(Debug)]
pub struct LeaseTransaction<'a> {
    tx: &'a mut Tx,
    import_id: Uuid,
}

impl<'a> LeaseTransaction<'a> {
    /// Asserts in a transaction that this process has the lease of an import, and that the import is still in the state
    /// in which it was read. `None` if another process has the lease or has moved the import.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn assert(
        tx: &'a mut Tx,
        import: &Import,
        holder: &Holder,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, DbError> {
        let is_mine = lease::assert(tx, import, holder, now).await?;
        Ok(is_mine.then_some(Self { tx, import_id: import.id }))
    }

    /// The id of the import whose lease is asserted.
    #[must_use]
    pub fn import_id(&self) -> Uuid {
        self.import_id
    }
}

impl Deref for LeaseTransaction<'_> {
    type Target = Tx;

    fn deref(&self) -> &Tx {
        self.tx
    }
}

impl DerefMut for LeaseTransaction<'_> {
    fn deref_mut(&mut self) -> &mut Tx {
        self.tx
    }
}
