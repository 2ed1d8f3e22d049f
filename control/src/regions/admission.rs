//! Which regions may register, and which are suspended: what operators decide.
//!
//! A suspension holds for every commit after its answer. Each transaction that writes for a region has a lock on the
//! region, for reading ([`may_write`], and each [transaction of its feed](crate::store::feed_transaction)); a
//! suspension needs that lock for writing.

use causeway_audit::Subject;
use causeway_proto::limits::MAX_SUSPENSION_BYTES;
use causeway_silo::{db::Tx, transact};
use chrono::{DateTime, Utc};

use super::{Regions, valid_name};
use crate::{
    Error,
    model::region::{AcceptRegions, Caller, KnownRegion, Suspension},
    store::{self, added_region},
    validate,
};

/// Begins a transaction that writes for a region and does not change its reservations. Until the transaction ends,
/// nobody suspends the region.
///
/// # Errors
/// If the region is suspended.
pub(crate) async fn may_write(tx: &mut Tx, region: &str) -> Result<(), Error> {
    Ok(added_region::lock_to_write(tx, region).await?)
}

/// Lets a region register: locks it for reading, and adds it first if control takes any.
pub(super) async fn admit(
    tx: &mut Tx,
    name: &str,
    accept: AcceptRegions,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if accept == AcceptRegions::Any {
        added_region::insert(tx, name, caller.identity.as_deref(), now).await?;
    }
    match added_region::lock_shared(tx, name).await? {
        Some(None) => Ok(()),
        Some(Some(suspension)) => Err(Error::RegionSuspended { region: name.to_owned(), suspension }),
        None => Err(Error::RegionNotAdded { region: name.to_owned() }),
    }
}

impl Regions {
    /// Adds a region, so that one of this name may register. Returns it, and whether that has changed anything.
    ///
    /// # Errors
    /// If the name is malformed.
    pub async fn add(&self, name: &str, caller: &Caller) -> Result<(KnownRegion, bool), Error> {
        let subject = causeway_audit::about(Subject::region(name));
        let name = valid_name("name", name)?;
        let now = self.env.now();
        transact!(Error, self.db, |tx| {
            let added = added_region::insert(tx, name, caller.identity.as_deref(), now).await?;
            if added {
                causeway_audit::append(tx, &subject, now).await?;
            }
            (known(tx, name).await?, added)
        })
    }

    /// Removes a region that has never registered. Returns whether there was one.
    ///
    /// # Errors
    /// If the name is malformed, or the region has registered.
    pub async fn remove(&self, name: &str) -> Result<bool, Error> {
        let subject = causeway_audit::about(Subject::region(name));
        let name = valid_name("name", name)?;
        transact!(Error, self.db, |tx| {
            // A registration needs this lock too. So it has ended by now, or has not begun.
            if !added_region::lock(tx, name).await? {
                return Ok(false);
            }
            if known(tx, name).await?.registered.is_some() {
                return Err(Error::RegionHasRegistered { region: name.to_owned() });
            }
            added_region::delete(tx, name).await?;
            causeway_audit::append(tx, &subject, self.env.now()).await?;
            true
        })
    }

    /// Suspends a region: when this returns, nothing more is written for it. Returns it, and whether that has changed
    /// anything.
    ///
    /// # Errors
    /// If nobody has added it, or the text is too long.
    pub async fn suspend(
        &self,
        name: &str,
        text: &str,
        caller: &Caller,
    ) -> Result<(KnownRegion, bool), Error> {
        let subject = causeway_audit::about(Subject::region(name));
        let name = valid_name("name", name)?;
        validate::text(|| "text".to_owned(), text, MAX_SUSPENSION_BYTES)?;
        if text.chars().any(char::is_control) {
            return Err(Error::invalid("text", "must be one line, without control characters"));
        }
        let suspension = Suspension {
            suspended_at: self.env.now(),
            suspended_by: caller.identity.clone(),
            text: Some(text.to_owned()).filter(|text| !text.is_empty()),
        };
        transact!(Error, self.db, |tx| {
            let suspended = added_region::suspend(tx, name, &suspension).await?;
            if suspended {
                causeway_audit::append(tx, &subject, suspension.suspended_at).await?;
            }
            (known(tx, name).await?, suspended)
        })
    }

    /// Ends the suspension of a region. Returns it, and whether that has changed anything.
    ///
    /// # Errors
    /// If nobody has added it.
    pub async fn resume(&self, name: &str) -> Result<(KnownRegion, bool), Error> {
        let subject = causeway_audit::about(Subject::region(name));
        let name = valid_name("name", name)?;
        transact!(Error, self.db, |tx| {
            let resumed = added_region::resume(tx, name).await?;
            if resumed {
                causeway_audit::append(tx, &subject, self.env.now()).await?;
            }
            (known(tx, name).await?, resumed)
        })
    }
}

/// Reads a region that must exist: [`Error::RegionNotFound`] if it does not.
async fn known(tx: &mut Tx, name: &str) -> Result<KnownRegion, Error> {
    let region = store::region::get_in(tx, name).await?;
    region.ok_or_else(|| Error::RegionNotFound { region: name.to_owned() })
}
