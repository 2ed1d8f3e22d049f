//! Callers that wait until something has ended. All who wait for the same thing share one task that queries it: when
//! the first of them begins to wait, whenever this control reports that it may have ended, and about once a second,
//! because another control may have ended it. Only the end wakes the callers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use causeway_silo::env::Environment;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use uuid::Uuid;

/// The longest time between two queries for a result that nobody has reported. Each wait is shorter by a random part,
/// up to half of it, so that the queries do not all run at the same moment.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What callers wait for, by its id. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Waiting<T>(Arc<Mutex<HashMap<Uuid, Arc<Awaited<T>>>>>);

#[derive(Debug)]
struct Awaited<T> {
    /// How it has ended; `None` until then.
    ended: watch::Sender<Option<T>>,
    /// Notified when it may have ended.
    woken: Notify,
}

impl<T> Clone for Waiting<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Waiting<T> {
    fn all(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Awaited<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports that something may have ended, so that it is queried at once.
    pub(crate) fn wake(&self, id: Uuid) {
        if let Some(awaited) = self.all().get(&id) {
            awaited.woken.notify_one();
        }
    }

    /// Begins to wait. The receiver gets the result when the thing has ended. `query` queries the result; it returns
    /// `None` if the thing has not ended. If nobody waits for the same thing already, `run` gets the future that calls
    /// `query`.
    pub(crate) fn wait_for<F, L>(
        &self,
        id: Uuid,
        env: &Environment,
        query: L,
        run: impl FnOnce(futures::future::BoxFuture<'static, ()>),
    ) -> watch::Receiver<Option<T>>
    where
        L: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Option<T>> + Send,
    {
        let mut all = self.all();
        if let Some(awaited) = all.get(&id) {
            return awaited.ended.subscribe();
        }
        let (ended, receiver) = watch::channel(None);
        let awaited = Arc::new(Awaited { ended, woken: Notify::new() });
        all.insert(id, Arc::clone(&awaited));
        drop(all);
        let (waiting, env) = (self.clone(), env.clone());
        run(Box::pin(async move { waiting.watch(id, &awaited, &env, query).await }));
        receiver
    }

    async fn watch<F: Future<Output = Option<T>>>(
        &self,
        id: Uuid,
        awaited: &Awaited<T>,
        env: &Environment,
        query: impl Fn() -> F,
    ) {
        loop {
            if let Some(ended) = query().await {
                self.all().remove(&id);
                awaited.ended.send_replace(Some(ended));
                return;
            }
            let jitter =
                Duration::from_millis(env.below(u64::try_from(POLL_INTERVAL.as_millis() / 2).unwrap_or(1)));
            tokio::select! {
                () = awaited.woken.notified() => {}
                () = sleep(POLL_INTERVAL - jitter) => {}
                () = awaited.ended.closed() => {
                    let mut all = self.all();
                    if awaited.ended.receiver_count() == 0 {
                        all.remove(&id);
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use chrono::DateTime;

    use super::*;

    struct Fixture {
        waiting: Waiting<&'static str>,
        env: Environment,
        checks: Arc<AtomicUsize>,
        ended: Arc<AtomicBool>,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                waiting: Waiting::default(),
                env: Environment::fixed(DateTime::UNIX_EPOCH, 1),
                checks: Arc::default(),
                ended: Arc::default(),
            }
        }

        fn wait_for(&self, id: u128) -> watch::Receiver<Option<&'static str>> {
            let (checks, ended) = (Arc::clone(&self.checks), Arc::clone(&self.ended));
            let query = move || {
                checks.fetch_add(1, Ordering::Relaxed);
                let ended = ended.load(Ordering::Relaxed).then_some("ended");
                async move { ended }
            };
            self.waiting.wait_for(Uuid::from_u128(id), &self.env, query, |watching| {
                tokio::spawn(watching);
            })
        }

        fn checks(&self) -> usize {
            self.checks.load(Ordering::Relaxed)
        }
    }

    /// Runs all tasks that are ready, without advancing the clock.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_thousand_who_wait_for_one_thing_look_once_and_wake_once() {
        let fixture = Fixture::new();
        let mut waiting: Vec<_> = (0..3_000).map(|_| fixture.wait_for(1)).collect();
        settle().await;
        assert_eq!(fixture.checks(), 1);
        // Other things end all the time.
        for other in 2..1_000 {
            fixture.waiting.wake(Uuid::from_u128(other));
        }
        settle().await;
        assert_eq!(fixture.checks(), 1);
        assert!(waiting.iter().all(|it| !it.has_changed().unwrap()));
        // It may have ended but has not, so nobody is woken.
        fixture.waiting.wake(Uuid::from_u128(1));
        settle().await;
        assert_eq!(fixture.checks(), 2);
        assert!(waiting.iter().all(|it| !it.has_changed().unwrap()));
        fixture.ended.store(true, Ordering::Relaxed);
        fixture.waiting.wake(Uuid::from_u128(1));
        for receiver in &mut waiting {
            assert_eq!(*receiver.wait_for(Option::is_some).await.unwrap(), Some("ended"));
        }
        assert_eq!(fixture.checks(), 3);
        assert!(fixture.waiting.all().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_control_has_ended_is_seen_soon() {
        let fixture = Fixture::new();
        let mut receiver = fixture.wait_for(1);
        settle().await;
        tokio::time::advance(POLL_INTERVAL * 10).await;
        settle().await;
        let checks = fixture.checks();
        assert_eq!(checks, 2, "one look for each time that the clock is read");
        fixture.ended.store(true, Ordering::Relaxed);
        assert_eq!(*receiver.wait_for(Option::is_some).await.unwrap(), Some("ended"));
        assert_eq!(fixture.checks(), checks + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_looks_when_nobody_waits() {
        let fixture = Fixture::new();
        let (one, other) = (fixture.wait_for(1), fixture.wait_for(1));
        settle().await;
        drop(one);
        settle().await;
        assert_eq!(fixture.waiting.all().len(), 1);
        drop(other);
        settle().await;
        assert!(fixture.waiting.all().is_empty());
        tokio::time::advance(POLL_INTERVAL * 10).await;
        settle().await;
        assert_eq!(fixture.checks(), 1);
    }
}
