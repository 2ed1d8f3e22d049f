//! Runs a transaction again if it lost against another one. No other code does that.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{DbError, DbErrorKind};

/// How many transactions have been run again in this process.
static RETRIED: AtomicU64 = AtomicU64::new(0);

/// The same by the code of the database. Only the codes of contention occur, and they are few. [`retried`] is asked much
/// more often, so it has a number of its own.
static BY_CODE: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

/// How many transactions this process has run again since it began, by the SQLSTATE of PostgreSQL or the result code of
/// SQLite; `none` for those that waited for their turn to write for too long.
#[must_use]
pub fn retried_by_code() -> BTreeMap<String, u64> {
    BY_CODE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn count(code: Option<&str>) {
    let mut counts = BY_CODE.lock().unwrap_or_else(PoisonError::into_inner);
    *counts.entry(code.unwrap_or("none").to_owned()).or_default() += 1;
}

/// How many transactions this process has run again because they had lost against others, since it began.
#[must_use]
pub fn retried() -> u64 {
    RETRIED.load(Ordering::Relaxed)
}

/// An error that may contain a database error.
pub trait HasDbError {
    /// The database error, if it contains one.
    fn db_error(&self) -> Option<&DbError>;
}

impl HasDbError for DbError {
    fn db_error(&self) -> Option<&DbError> {
        Some(self)
    }
}

/// Counts the attempts of one transaction and decides whether there is another.
#[derive(Debug, Default)]
pub struct Attempts {
    lost: u32,
}

impl Attempts {
    /// How often one transaction is tried. Contention that lasts longer is an overload, and the caller gets the error.
    pub const MOST: u32 = 12;

    /// If the transaction should be run again after this error, waits and returns `true`.
    pub async fn should_retry(&mut self, error: &impl HasDbError) -> bool {
        let contended = error.db_error().filter(|error| error.kind() == DbErrorKind::Contention);
        let Some(contended) = contended else { return false };
        if self.lost + 1 >= Self::MOST {
            tracing::warn!(
                attempts = Self::MOST,
                retried = retried(),
                "a transaction lost against others too often and is not tried again"
            );
            return false;
        }
        self.lost += 1;
        count(contended.code());
        let retried = RETRIED.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(
            attempt = self.lost,
            retried,
            "a transaction lost against another one and is retried"
        );
        // 2 ms, 4 ms, ... up to half a second, and a random time of up to as much again, so that transactions that met
        // once do not meet again. Only the pause depends on the random number, so it need not come from the
        // environment.
        let pause = 1_000_u64 << self.lost.min(9);
        let jitter = RandomState::new().hash_one(self.lost) % pause;
        tokio::time::sleep(Duration::from_micros(pause + jitter)).await;
        true
    }
}

/// Runs a block in a transaction and commits it. Runs it again from the start if it lost against another transaction.
///
/// `transact!(Error, db, |tx| { ...; value })` is a `Result<_, Error>`. `?` inside leaves the block, which rolls back.
#[macro_export]
macro_rules! transact {
    ($error:ty, $db:expr, |$tx:ident| $body:block) => {{
        let mut attempts = $crate::db::Attempts::default();
        loop {
            let outcome: ::std::result::Result<_, $error> = async {
                let mut transaction = $db.begin().await?;
                let value = {
                    let $tx = &mut transaction;
                    $body
                };
                transaction.commit().await?;
                Ok(value)
            }
            .await;
            match outcome {
                Ok(value) => break Ok(value),
                Err(error) => {
                    if !attempts.should_retry(&error).await {
                        break Err(error);
                    }
                }
            }
        }
    }};
}
