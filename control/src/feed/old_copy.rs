//! Control's database is an old copy, and nobody has run `causeway restored` before control served: a region shows it, because
//! it has read more of its feed than there is.
//!
//! | died after | what is left | what happens then |
//! | --- | --- | --- |
//! | the line in the log | nothing, or the era if the commit arrived | the region reads on; without the era, one begins |
//! | the commit | the era | the region gets a snapshot of it; `eras_begun` is empty, as after every start |

use causeway_audit::{Call, Subject, current_request_id, scope};
use causeway_proto::era::era_of;
use causeway_silo::transact;
use tracing::{Instrument as _, error};
use uuid::Uuid;

use super::Feeds;
use crate::{
    Error,
    regions::{self, admission},
    restored,
    store::{era, feed as store},
};

impl Feeds {
    /// Begins a new era if a region has read more of its feed than there is. A region does that once at most for each start
    /// of this control: a database is put back while control is stopped, so what comes later is most likely a mistake of
    /// the region, and each era costs ids.
    pub(super) async fn notice_old_copy(&self, region: &str, read: i64) -> Result<(), Error> {
        if read <= store::position(self.db(), region).await?.version {
            return Ok(());
        }
        regions::writing(self.db(), "region", region).await?;
        // A task of its own: whoever begins an era also counts and logs it, even if the region hangs up meanwhile.
        let (feeds, region) = (self.clone(), region.to_owned());
        // The audit log has the era under the request by which the region has shown what it has read.
        let request_id = current_request_id().unwrap_or_else(|| self.0.env.uuid());
        let beginning = async move { feeds.begin_era(&region, read, request_id).await };
        self.0.tasks.spawn(beginning.in_current_span()).await.unwrap_or_else(|ended| {
            if ended.is_panic() {
                error!(%ended, "what begins an era has failed by a defect");
            }
            Err(Error::ShuttingDown)
        })
    }

    async fn begin_era(&self, region: &str, read: i64, request_id: Uuid) -> Result<(), Error> {
        let mut begun_by = self.0.eras_begun.lock().await;
        let is_first = !begun_by.contains(region);
        let (catalog, now) = (&self.0.catalog, self.0.env.now());
        let call = Call::own(request_id, "control", restored::RESTORED);
        let mut tried = None;
        let begun: Result<bool, Error> = scope(call, async {
            let has_begun = transact!(Error, self.0.db, |tx| {
                admission::may_write(tx, region).await?;
                let era = era::lock(tx).await?;
                // Another process of the region, another region or another control may have begun one since.
                let Some(known) = store::version_in(tx, region).await?.filter(|known| read > *known) else {
                    return Ok(false);
                };
                if !is_first {
                    return Err(Error::invalid(
                        "after_version",
                        "is above the version of the feed, and control has begun an era for this region already since it \
                         started. If control's database was put back again, stop control and run `causeway restored`; \
                         if a standby that lacked commits was promoted, restart control; otherwise the region has a wrong version",
                    ));
                }
                let next = restored::next_era(era, era_of(read))
                    .map_err(|error| Error::invalid("after_version", error.to_string()))?;
                restored::begin(tx, catalog, era, next, &Subject::region(region), now).await?;
                // Before the commit: whatever becomes of this process and of the answer, an era that has begun has a line.
                error!(
                    region,
                    read,
                    known,
                    era = next,
                    "the region has read more of its feed than control has: control's database was put back from an old \
                     copy, and `causeway restored` was not run before control served. A new era begins; ids that were \
                     leased since control started may be those of other regions. docs/backup.md has what to do now"
                );
                tried = Some(next);
                true
            })?;
            if has_begun {
                self.0.env.failpoint("control.era.committed").await?;
            }
            Ok(has_begun)
        })
        .await;
        let has_begun = match (&begun, tried) {
            (Ok(has_begun), _) => *has_begun,
            // Whether the commit arrived is not known. If the database does not say it either, the region may begin one
            // more, which costs ids and nothing else.
            (Err(_), Some(era)) => {
                store::position(self.db(), region).await.is_ok_and(|now| era_of(now.version) >= era)
            }
            (Err(_), None) => false,
        };
        if has_begun {
            begun_by.insert(region.to_owned());
            self.0.changed.notify_one();
        }
        begun.map(|_| ())
    }
}
