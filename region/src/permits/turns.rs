//! Turns: a process works on a limited number of imports at once, and the one that has waited longest is next. A turn
//! is a chunk, or another piece of work of that size. An import that has more to do gives its turn to those that wait,
//! and queues up again. So a small import does not wait for the end of a large one. While control reserves,
//! confirms or releases all slugs of an import, which may take minutes, the import has no turn.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{context::Context, error::Error};

/// The turns of a process for one kind of work. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// First come, first served.
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A turn. Dropping it ends the turn.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    place: Option<OwnedSemaphorePermit>,
}

/// Counts an import as waiting until this is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    pub(crate) fn new(at_once: usize) -> Self {
        Self(Arc::new(Inner { places: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0) }))
    }

    /// How many imports wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        let inner = &self.0;
        if let Ok(place) = Arc::clone(&inner.places).try_acquire_owned() {
            return Ok(place);
        }
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&inner.waiting);
        // Never an error: nothing closes the semaphore.
        Arc::clone(&inner.places).acquire_owned().await.map_err(|_| Error::Stopping)
    }
}

impl Turn {
    /// Whether another import is waiting for a turn.
    pub(crate) fn is_awaited(&self) -> bool {
        self.turns.waiting() > 0
    }
}

impl Turns {
    /// Waits for a turn.
    ///
    /// # Errors
    /// If the service stops.
    pub(crate) async fn turn(&self, context: &Context) -> Result<Turn, Error> {
        let place = tokio::select! {
            place = self.place() => place?,
            () = context.lifecycle.stopping() => return Err(Error::Stopping),
        };
        Ok(Turn { turns: self.clone(), place: Some(place) })
    }
}

impl Turn {
    /// Gives the turn to another import, if one waits, and waits for the next one. What was read of this import before
    /// may be outdated after that.
    ///
    /// # Errors
    /// If the service stops.
    pub(crate) async fn pass(&mut self, context: &Context) -> Result<(), Error> {
        if self.place.is_some() && !self.is_awaited() {
            return Ok(());
        }
        self.give_up();
        context.env.failpoint("region.turn.passed").await?;
        self.take(context).await
    }

    /// Ends the turn until the next [`Turn::take`].
    pub(crate) fn give_up(&mut self) {
        self.place = None;
    }

    /// Waits for the next turn after [`Turn::give_up`].
    ///
    /// # Errors
    /// If the service stops.
    pub(crate) async fn take(&mut self, context: &Context) -> Result<(), Error> {
        self.place = self.turns.turn(context).await?.place;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_longest_is_next_and_is_seen_to_wait() {
        let turns = Turns::new(1);
        let first = turns.place().await.unwrap();
        let turn = Turn { turns: turns.clone(), place: Some(first) };
        assert!(!turn.is_awaited());
        let mut waiting: Vec<_> = (0..3).map(|_| Box::pin(turns.place())).collect();
        for place in &mut waiting {
            assert!(futures::poll!(place).is_pending());
        }
        assert!(turn.is_awaited());
        drop(turn);
        for left in (0..3).rev() {
            let next = waiting.remove(0).await.unwrap();
            assert_eq!(turns.0.waiting.load(Ordering::Relaxed), left);
            for place in &mut waiting {
                assert!(futures::poll!(place).is_pending());
            }
            drop(next);
        }
        // A waiter that goes away is no longer counted.
        let held = turns.place().await.unwrap();
        let mut gone = Box::pin(turns.place());
        assert!(futures::poll!(&mut gone).is_pending());
        drop(gone);
        assert_eq!(turns.0.waiting.load(Ordering::Relaxed), 0);
        drop(held);
    }
}
