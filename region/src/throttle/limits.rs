//! Limits on writing: those that a process was started with, and those that an operator has set since.

use std::{num::NonZeroU64, time::Duration};

use causeway_proto::limits::{MAX_BYTES_PER_SECOND, MAX_PROBE_LATENCY_MS, MAX_ROWS_PER_SECOND};
use chrono::{DateTime, Utc};

/// What a process is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The limits, until an operator sets others.
    pub limits: ThrottleLimits,
    /// The statement whose latency is measured. It runs in a transaction that cannot write.
    pub probe_statement: String,
    /// The pause between two measurements, 1 s by default.
    pub probe_interval: Duration,
    /// How often the process looks for limits that were set, and for pauses that were ended, at another process of the
    /// region; 5 s by default.
    pub look_interval: Duration,
}

/// The probe statement of a region that is started without one. It reads one row that the application reads too, and
/// works on a region of any size.
pub const PROBE_STATEMENT: &str = "SELECT id FROM sentry_organization ORDER BY id LIMIT 1";

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: ThrottleLimits::default(),
            probe_statement: PROBE_STATEMENT.to_owned(),
            probe_interval: Duration::from_secs(1),
            look_interval: Duration::from_secs(5),
        }
    }
}

/// Limits on what the imports of one process write together. `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Rows that chunks write, or that a revert deletes, in a second.
    pub rows_per_second: Option<NonZeroU64>,
    /// Bytes in the file of the records that chunks write, in a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// The latency of the probe statement above which imports give way.
    pub probe_latency: Option<Duration>,
}

/// One of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleKind {
    /// Rows in a second.
    Rows,
    /// Bytes in a second.
    Bytes,
    /// The latency of the probe statement.
    Latency,
}

impl ThrottleKind {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Rows, Self::Bytes, Self::Latency];

    /// The largest value: rows or bytes in a second, or milliseconds.
    fn most(self) -> u64 {
        match self {
            Self::Rows => MAX_ROWS_PER_SECOND,
            Self::Bytes => MAX_BYTES_PER_SECOND,
            Self::Latency => MAX_PROBE_LATENCY_MS,
        }
    }

    /// The value as a limit.
    ///
    /// # Errors
    /// If it cannot be one: what is wrong with it, and what to do instead.
    pub(crate) fn check(self, value: i64) -> Result<NonZeroU64, String> {
        let most = self.most();
        match u64::try_from(value).map(NonZeroU64::new) {
            Ok(Some(value)) if value.get() <= most => Ok(value),
            Ok(Some(_)) => Err(format!("must be at most {most}; to lift the limit, name it in `unlimited`")),
            Ok(None) => {
                Err("must not be 0, with which nothing would ever be written; to stop imports, pause them \
                 (`causeway imports pause --all`), and to lift the limit, name it in `unlimited`"
                    .to_owned())
            }
            Err(_) => Err("must not be negative".to_owned()),
        }
    }
}

/// What an operator has chosen for a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The limit with which each process was started.
    #[default]
    AsStarted,
    /// No limit.
    Unlimited,
    /// This limit: rows or bytes in a second, or milliseconds.
    Limit(NonZeroU64),
}

impl Choice {
    fn over(self, started: Option<NonZeroU64>) -> Option<NonZeroU64> {
        match self {
            Self::AsStarted => started,
            Self::Unlimited => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}

/// Changes of limits; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Rows in a second.
    pub rows: Option<Choice>,
    /// Bytes in a second.
    pub bytes: Option<Choice>,
    /// The latency of the probe statement, in milliseconds.
    pub latency: Option<Choice>,
}

/// What operators have chosen, as the database has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Rows in a second.
    pub rows: Choice,
    /// Bytes in a second.
    pub bytes: Choice,
    /// The latency of the probe statement, in milliseconds.
    pub latency: Choice,
    /// When a limit was last set; `None` if none ever was.
    pub at: Option<DateTime<Utc>>,
    /// Who has set it, as the URI of an identity; `None` if callers needed no identity.
    pub by: Option<String>,
}

impl Chosen {
    /// What was chosen for this limit.
    #[must_use]
    pub fn of(&self, kind: ThrottleKind) -> Choice {
        match kind {
            ThrottleKind::Rows => self.rows,
            ThrottleKind::Bytes => self.bytes,
            ThrottleKind::Latency => self.latency,
        }
    }

    /// The limits of a process that was started with these.
    #[must_use]
    pub fn over(&self, started: ThrottleLimits) -> ThrottleLimits {
        let latency = match self.latency {
            // As precise as it was given.
            Choice::AsStarted => started.probe_latency,
            Choice::Unlimited => None,
            Choice::Limit(millis) => Some(Duration::from_millis(millis.get())),
        };
        ThrottleLimits {
            rows_per_second: self.rows.over(started.rows_per_second),
            bytes_per_second: self.bytes.over(started.bytes_per_second),
            probe_latency: latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: u64) -> NonZeroU64 {
        NonZeroU64::new(value).expect("it is not zero")
    }

    #[test]
    fn what_an_operator_chose_is_over_what_the_process_was_started_with() {
        let started = ThrottleLimits {
            rows_per_second: Some(number(10)),
            bytes_per_second: Some(number(20)),
            probe_latency: Some(Duration::from_micros(1_500)),
        };
        assert_eq!(Chosen::default().over(started), started);
        let chosen = Chosen {
            rows: Choice::Unlimited,
            bytes: Choice::Limit(number(7)),
            latency: Choice::Limit(number(30)),
            ..Chosen::default()
        };
        let limits = ThrottleLimits {
            rows_per_second: None,
            bytes_per_second: Some(number(7)),
            probe_latency: Some(Duration::from_millis(30)),
        };
        assert_eq!(chosen.over(started), limits);
        assert_eq!(chosen.over(ThrottleLimits::default()), limits);
    }

    #[test]
    fn a_limit_is_a_positive_number_that_is_not_absurd() {
        for kind in ThrottleKind::ALL {
            let most = i64::try_from(kind.most()).expect("it fits");
            assert_eq!(kind.check(1), Ok(number(1)));
            assert_eq!(kind.check(most), Ok(number(kind.most())));
            let zero = kind.check(0).expect_err("refused");
            assert!(zero.contains("causeway imports pause --all") && zero.contains("`unlimited`"), "{zero}");
            for value in [most + 1, i64::MAX] {
                let large = kind.check(value).expect_err("refused");
                assert!(large.contains(&format!("at most {most}")), "{large}");
            }
            for value in [-1, i64::MIN] {
                assert_eq!(kind.check(value), Err("must not be negative".to_owned()));
            }
        }
    }
}
