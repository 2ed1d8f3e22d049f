//! What keeps the throttle of this process up to date: the limits that operators have set, perhaps at another process of
//! the region, and the latency of the probe statement.

use std::time::Duration;

use causeway_silo::db::Probe;
use tokio::time::sleep;

use crate::{context::Context, store};

/// A statement that takes so many times the bound is cancelled: what it takes longer than that changes nothing.
const TIMES_THE_BOUND: u32 = 4;
/// The least and the most after which a statement is cancelled.
const LEAST_LIMIT: Duration = Duration::from_secs(1);
const MOST_LIMIT: Duration = Duration::from_secs(30);

/// After how long the probe statement is cancelled.
fn limit(bound: Duration) -> Duration {
    bound.saturating_mul(TIMES_THE_BOUND).clamp(LEAST_LIMIT, MOST_LIMIT.max(bound))
}

/// Follows the stored limits and measures the probe statement, in the background, until the region stops.
pub(crate) fn start(context: &Context) {
    let probe = Probe::new(&context.db, &context.throttle.options().probe_statement);
    context.lifecycle.background(follow(context.clone()));
    context.lifecycle.background(measure(context.clone(), probe));
}

/// Takes over what operators have set.
async fn follow(context: Context) {
    let mut fails = false;
    loop {
        let read = async {
            let _alone = context.throttle.choosing().await;
            store::throttle::get(&context.db).await.map(|chosen| context.throttle.choose(chosen))
        };
        let read = tokio::select! {
            read = read => read,
            () = context.lifecycle.stopping() => return,
        };
        match read {
            Ok(()) => fails = false,
            Err(error) if !fails => {
                fails = true;
                tracing::warn!(%error, "the limits on writing cannot be read; those that were read last still hold");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = sleep(context.throttle.options().look_interval) => {}
            () = context.lifecycle.stopping() => return,
        }
    }
}

/// Measures as long as there is a bound, and has a connection only then.
async fn measure(context: Context, mut probe: Probe) {
    loop {
        match context.throttle.bound() {
            Some(bound) => tokio::select! {
                outcome = probe.measure(limit(bound)) => context.throttle.measured(outcome),
                () = context.lifecycle.stopping() => {}
            },
            None => probe.close().await,
        }
        tokio::select! {
            () = sleep(context.throttle.options().probe_interval) => {}
            () = context.lifecycle.stopping() => break,
        }
    }
    probe.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_cancelled_when_it_is_much_slower_than_the_bound() {
        for (bound, cancelled) in [(1, 1_000), (250, 1_000), (500, 2_000), (10_000, 30_000), (60_000, 60_000)]
        {
            assert_eq!(limit(Duration::from_millis(bound)), Duration::from_millis(cancelled));
        }
    }
}
