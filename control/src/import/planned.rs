//! Which imports a region plans. Control answers its questions about rows and slugs only for these: what it asks for is
//! in the audit log then, and no id that somebody has made up is of use.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the commit, answer lost | the row | the region says it again, which changes nothing but the time |

use causeway_audit::Subject;
use causeway_silo::{db::DbError, transact};
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::write::ControlImports;
use crate::{
    Error,
    regions::{self, admission},
    store::{self, import_plan},
};

/// How long a region may plan an import after it has last said that it does. It says it again whenever it goes on.
const PLANNED_FOR: TimeDelta = TimeDelta::days(7);
/// The most imports that a region plans at once. Dry runs do not say when they end, so the oldest ones are forgotten.
const MOST: i64 = 1_000;

impl ControlImports {
    /// Notes that a region plans an import. The same call again only begins its time again.
    ///
    /// # Errors
    /// If the region is not registered or is suspended, or control has written something for the import, or closed it.
    pub async fn plan(&self, region: &str, import_id: Uuid) -> Result<(), Error> {
        let subject = causeway_audit::about(Subject::import(import_id));
        regions::writing(self.db(), "region", region).await?;
        let (now, horizon) = (self.env().now(), self.planned_since()?);
        transact!(Error, self.db(), |tx| {
            admission::may_write(tx, region).await?;
            if store::import::is_known(tx, region, import_id).await? {
                return Err(Error::ImportNotPlanning { import_id });
            }
            let is_new = import_plan::note(tx, region, import_id, now).await?;
            import_plan::forget(tx, region, horizon, MOST).await?;
            if is_new {
                causeway_audit::append(tx, &subject, now).await?;
            }
        })
    }

    /// Checks that an import of a region only plans: the region has said so, and control has written nothing for it and
    /// has not closed it.
    ///
    /// # Errors
    /// If it does not plan, or the region has not registered.
    pub async fn check_planning(&self, region: &str, import_id: Uuid) -> Result<(), Error> {
        let region = regions::registered(self.db(), "region", region).await?.name;
        match import_plan::is_planned(self.db(), &region, import_id, self.planned_since()?).await? {
            true => Ok(()),
            false => Err(Error::ImportNotPlanning { import_id }),
        }
    }

    /// Since when what regions have said counts.
    fn planned_since(&self) -> Result<DateTime<Utc>, DbError> {
        let since = self.env().now().checked_sub_signed(PLANNED_FOR);
        since.ok_or_else(|| DbError::inconsistent("the time of the clock is out of range"))
    }
}
