//! Failpoints: named places between two writes, at which a service of a cluster fails, waits or is killed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_silo::{db::DbError, env};
use tokio::sync::Notify;

use super::{Service, node::Life, trace::Trace};

/// What a service does at a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The service gets an error, as if the database had gone away.
    Fail,
    /// The service is killed; nothing after the failpoint happens.
    Kill,
    /// The service waits there until it is [released](Failpoints::release). Only for services in this process.
    Hold,
}

/// The failpoints of a cluster. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub struct Failpoints(Arc<Mutex<State>>, Arc<Held>);

/// Signals for [`Act::Hold`]: that a service waits at its failpoint, and that it may go on.
#[derive(Default)]
struct Held {
    there: Notify,
    go_on: Notify,
}

#[derive(Default)]
struct State {
    /// How often services have reached each place.
    reached: BTreeMap<&'static str, u64>,
    armed: Vec<Armed>,
    /// Of 1,000 times that a service reaches any place: how many times it fails, and how many times it is killed.
    chances: (u32, u32),
}

struct Armed {
    place: String,
    /// How often services pass the place before something happens.
    pass: u64,
    act: Act,
}

impl fmt::Debug for Failpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failpoints").field(&self.state().reached).finish()
    }
}

impl Failpoints {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms a place: it acts once, after services have passed it `pass` more times.
    pub fn arm(&self, place: &str, act: Act, pass: u64) {
        self.state().armed.push(Armed { place: place.to_owned(), pass, act });
    }

    /// Waits until a service waits at a failpoint with [`Act::Hold`].
    pub async fn held(&self) {
        self.1.there.notified().await;
    }

    /// Lets the service that waits at a failpoint go on.
    pub fn release(&self) {
        self.1.go_on.notify_one();
    }

    /// Sets how many of 1,000 times that a service reaches any place it fails, and how many times it is killed.
    pub fn set_chances(&self, fail: u32, kill: u32) {
        self.state().chances = (fail, kill);
    }

    /// Disarms everything: from now on nothing happens at any place.
    pub fn disarm(&self) {
        let mut state = self.state();
        state.armed.clear();
        state.chances = (0, 0);
    }

    /// How often services have reached a place.
    #[must_use]
    pub fn reached(&self, place: &str) -> u64 {
        self.state().reached.get(place).copied().unwrap_or(0)
    }

    /// All places that services have reached, and how often.
    #[must_use]
    pub fn all_reached(&self) -> BTreeMap<&'static str, u64> {
        self.state().reached.clone()
    }

    /// Whether a place is armed that has not acted yet.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        !self.state().armed.is_empty()
    }

    /// The armed places, written as in the environment of a process: see `docs/testing.md`.
    #[must_use]
    pub fn to_environment(&self) -> String {
        let acts: Vec<String> = self
            .state()
            .armed
            .iter()
            .map(|armed| {
                let act = match armed.act {
                    Act::Fail => "fail",
                    Act::Kill => "kill",
                    Act::Hold => "hold",
                };
                format!("{}={act}@{}", armed.place, armed.pass)
            })
            .collect();
        acts.join(",")
    }

    /// Counts that a service has reached a place, and decides what it does there. `chance` is random and below 1,000.
    fn decide(&self, place: &'static str, chance: u64) -> Option<Act> {
        let mut state = self.state();
        *state.reached.entry(place).or_default() += 1;
        let mut acting = None;
        for (index, armed) in state.armed.iter_mut().enumerate() {
            if armed.place == place {
                match armed.pass.checked_sub(1) {
                    Some(rest) => armed.pass = rest,
                    None => acting = acting.or(Some(index)),
                }
            }
        }
        if let Some(index) = acting {
            return Some(state.armed.remove(index).act);
        }
        let (fail, kill) = state.chances;
        match chance {
            chance if chance < fail.into() => Some(Act::Fail),
            chance if chance < (fail + kill).into() => Some(Act::Kill),
            _ => None,
        }
    }

    /// The function that a service in this process calls at its failpoints.
    pub(super) fn hook(
        &self,
        service: Service,
        life: Arc<Life>,
        env: env::Environment,
        trace: Trace,
    ) -> Arc<env::Failpoints> {
        let failpoints = self.clone();
        Arc::new(move |place| {
            let act = failpoints.decide(place, env.below(1000));
            if let Some(act) = act {
                trace.note(format!("{service}: {act:?} at {place}"));
            }
            if act == Some(Act::Kill) {
                life.kill_soon();
            }
            let held = Arc::clone(&failpoints.1);
            Box::pin(async move {
                match act {
                    None => Ok(()),
                    Some(Act::Fail) => Err(DbError::injected(place)),
                    Some(Act::Kill) => std::future::pending().await,
                    Some(Act::Hold) => {
                        held.there.notify_one();
                        held.go_on.notified().await;
                        Ok(())
                    }
                }
            })
        })
    }
}
