//! Named places between two writes, where a service of a cluster fails or is killed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use causeway_silo::{db::DbError, env};
use tokio::sync::Notify;

use super::{Service, node::Life, trace::Trace};

/// What happens at a failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// An error, as if the database had gone away.
    Fail,
    /// The service is killed; nothing behind the failpoint happens.
    Kill,
    /// The service stands still there until it is [released](Failpoints::release). In this process only.
    Hold,
}

/// The failpoints of a cluster. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub struct Failpoints(Arc<Mutex<State>>, Arc<Held>);

/// A service that stands still, and the word that it may go on.
#[derive(Default)]
struct Held {
    there: Notify,
    go_on: Notify,
}

#[derive(Default)]
struct State {
    /// How often each place was reached.
    reached: BTreeMap<&'static str, u64>,
    armed: Vec<Armed>,
    /// Of 1,000 times that any place is reached: how many fail, and how many kill.
    chances: (u32, u32),
}

struct Armed {
    place: String,
    /// How often it is passed before something happens.
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

    /// Lets a place act once, when it is reached and has been passed `pass` times from now on.
    pub fn arm(&self, place: &str, act: Act, pass: u64) {
        self.state().armed.push(Armed { place: place.to_owned(), pass, act });
    }

    /// Waits until a service stands still.
    pub async fn held(&self) {
        self.1.there.notified().await;
    }

    /// Lets the service that stands still go on.
    pub fn release(&self) {
        self.1.go_on.notify_one();
    }

    /// Of 1,000 times that any place is reached, so many fail and so many kill.
    pub fn set_chances(&self, fail: u32, kill: u32) {
        self.state().chances = (fail, kill);
    }

    /// Nothing happens at any place from now on.
    pub fn disarm(&self) {
        let mut state = self.state();
        state.armed.clear();
        state.chances = (0, 0);
    }

    /// How often a place was reached.
    #[must_use]
    pub fn reached(&self, place: &str) -> u64 {
        self.state().reached.get(place).copied().unwrap_or(0)
    }

    /// The places that were reached, and how often.
    #[must_use]
    pub fn all_reached(&self) -> BTreeMap<&'static str, u64> {
        self.state().reached.clone()
    }

    /// Whether something is armed that has not acted yet.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        !self.state().armed.is_empty()
    }

    /// As the environment of a process says it: see `docs/testing.md`.
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

    /// What happens at this place now.
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

    /// What a service in this process does at its failpoints.
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
