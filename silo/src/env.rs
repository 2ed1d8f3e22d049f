//! The parts of the environment that code depends on: the time, random bytes, new ids. They are passed in, so that a
//! test can fix them.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, SubsecRound as _, Utc};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use uuid::Uuid;

use crate::db::DbError;

type Clock = dyn Fn() -> DateTime<Utc> + Send + Sync;

/// What a failpoint does when it is reached: nothing, fail like a lost database, or never return.
pub type Failpoints =
    dyn Fn(&'static str) -> Pin<Box<dyn Future<Output = Result<(), DbError>> + Send>> + Send + Sync;

/// Clock and randomness. Cheap to clone; clones share both.
#[derive(Clone)]
pub struct Environment {
    clock: Arc<Clock>,
    rng: Arc<Mutex<StdRng>>,
    /// `None` except in tests.
    failpoints: Option<Arc<Failpoints>>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

impl Environment {
    /// The machine's clock and a generator seeded by the operating system.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where the real ones come in")]
    pub fn system() -> Self {
        Self {
            clock: Arc::new(Utc::now),
            rng: Arc::new(Mutex::new(StdRng::from_rng(&mut rand::rng()))),
            failpoints: None,
        }
    }

    /// A clock that always shows `now`, and a generator that repeats itself. For tests.
    #[must_use]
    pub fn fixed(now: DateTime<Utc>, seed: u64) -> Self {
        Self {
            clock: Arc::new(move || now),
            rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))),
            failpoints: None,
        }
    }

    /// The same with a generator that repeats itself. For tests.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { rng: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))), ..self }
    }

    /// The same with failpoints. For tests.
    #[must_use]
    pub fn with_failpoints(self, failpoints: Arc<Failpoints>) -> Self {
        Self { failpoints: Some(failpoints), ..self }
    }

    /// A named place between two writes, where a test can make the process die or fail. Does nothing otherwise. Names
    /// are `SILO.STEP.PLACE`, such as `region.confirm.answered`.
    ///
    /// # Errors
    /// The error that the test chose, as a temporary error.
    pub async fn failpoint(&self, place: &'static str) -> Result<(), DbError> {
        match &self.failpoints {
            Some(failpoints) => failpoints(place).await,
            None => Ok(()),
        }
    }

    /// The current time, to the microsecond, which both databases can store.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        (self.clock)().trunc_subsecs(6)
    }

    /// Random bytes, fit for secrets.
    #[must_use]
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        bytes
    }

    /// A new random UUID (version 4).
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// `length` random characters from `alphabet`, each equally likely as long as the alphabet has at most 256.
    #[must_use]
    pub fn characters(&self, alphabet: &[u8], length: usize) -> String {
        let size = alphabet.len().clamp(1, 256);
        let limit = 256 - 256 % size;
        let mut text = String::with_capacity(length);
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        while text.len() < length {
            let mut byte = [0];
            rng.fill_bytes(&mut byte);
            let byte = usize::from(u8::from_le_bytes(byte));
            if byte < limit
                && let Some(character) = alphabet.get(byte % size)
            {
                text.push(char::from(*character));
            }
        }
        text
    }

    /// A random number from 0 up to but not including `bound`; 0 if `bound` is 0. Not exactly uniform, so only for
    /// jitter.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        u64::from_le_bytes(self.bytes()).checked_rem(bound).unwrap_or(0)
    }
}

/// Lowercase letters and digits.
pub const BASE36: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Letters of both cases and digits, for [`Environment::characters`].
pub const ALPHANUMERIC: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Lowercase hex digits, for [`Environment::characters`].
pub const HEX: &[u8] = b"0123456789abcdef";
