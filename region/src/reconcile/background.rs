//! What a region does by itself: it compares soon after it starts, and regularly after that.

use std::time::Duration;

use causeway_audit::{Call, scope};
use tokio::{sync::mpsc, time::sleep};

use super::{Difference, Mode, Reconciler, Summary};
use crate::error::Error;

/// How many differences of one comparison are logged one by one. Further ones are only counted.
const LOGGED: usize = 100;

/// How long the first comparison waits, because a starting region has other work first: imports to continue, and the
/// feed. It would also be wasted on a region that is killed again and again.
const AFTER_START: Duration = Duration::from_secs(10);

impl Reconciler {
    /// Compares once every `every` until the service stops, for the first time after [`AFTER_START`] at the latest.
    /// Never if `every` is zero.
    pub(crate) fn start(&self, every: Duration) {
        if every.is_zero() {
            return;
        }
        let reconciler = self.clone();
        self.context().lifecycle.background(async move {
            let mut pause = every.min(AFTER_START);
            loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = reconciler.context().lifecycle.stopping() => return,
                }
                if reconciler.once().await.is_err() {
                    return;
                }
                // Regions that were started together should not compare at the same time forever.
                let tenth = u64::try_from((every / 10).as_millis()).unwrap_or(u64::MAX).max(1);
                pause = every + Duration::from_millis(reconciler.context().env.below(tenth));
            }
        });
    }

    /// Compares, and tries again until a comparison comes to its end.
    async fn once(&self) -> Result<(), Error> {
        let mut attempts = 0;
        loop {
            let (told, found) = mpsc::channel(1);
            let call = Call::own(self.context().env.uuid(), &self.context().region, "reconcile");
            let (outcome, ()) = tokio::join!(scope(call, self.run(Mode::SafeRepairs, told)), log_all(found));
            let error = match outcome {
                Ok(Summary { compared, differences, repaired, moving }) => {
                    let left = differences - repaired;
                    if left > 0 {
                        tracing::warn!(
                            compared,
                            differences,
                            repaired,
                            moving,
                            left,
                            "region and control differ; `causeway reconcile --check` shows in what"
                        );
                    } else {
                        tracing::info!(compared, repaired, moving, "region and control agree");
                    }
                    return Ok(());
                }
                Err(error) if error.is_stop() => return Err(error),
                Err(error) => error,
            };
            attempts += 1;
            // A failed registration has already been logged.
            if attempts == 1 && self.context().registration.is_known() {
                tracing::warn!(%error, "the region cannot be compared with control yet, and tries again");
            } else {
                tracing::debug!(%error, attempts, "the region cannot be compared with control yet");
            }
            self.context().pause(attempts).await?;
        }
    }
}

async fn log_all(mut found: mpsc::Receiver<Vec<Difference>>) {
    let mut left = LOGGED;
    while let Some(differences) = found.recv().await {
        for difference in differences.iter().take(left) {
            log(difference);
        }
        left = left.saturating_sub(differences.len());
    }
}

fn log(difference: &Difference) {
    let Difference { kind, organization_id, message, remedy, repaired, .. } = difference;
    let kind = kind.as_str_name().trim_start_matches("DIFFERENCE_KIND_");
    if *repaired {
        tracing::info!(kind, organization_id, message, "a difference from control was repaired");
    } else {
        tracing::warn!(kind, organization_id, message, remedy, "region and control differ");
    }
}
