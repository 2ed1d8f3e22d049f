//! A time on a command line: a moment, or how long ago it is.

use std::time::Duration;

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

/// A time on a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// This time.
    At(DateTime<Utc>),
    /// So long ago.
    Ago(Duration),
}

/// Reads a time, or how long ago it is.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.to_utc()));
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(Moment::At(day.and_time(NaiveTime::MIN).and_utc()));
    }
    humantime::parse_duration(text).map(Moment::Ago).map_err(|_| {
        "it must be a time such as 2026-11-30 or 2026-11-30T08:00:00Z, or how long ago, such as 2h or 7d"
            .to_owned()
    })
}

impl Moment {
    /// The time that it is, seen from `now`.
    pub(super) fn time(self, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
        match self {
            Self::At(time) => Ok(time),
            Self::Ago(ago) => {
                let ago = chrono::TimeDelta::from_std(ago).ok();
                ago.and_then(|ago| now.checked_sub_signed(ago)).context("no time is that long ago")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let at = |text: &str| Moment::At(text.parse().expect("a time"));
        assert_eq!(moment("2026-11-30T08:00:00+01:00"), Ok(at("2026-11-30T07:00:00Z")));
        assert_eq!(moment("2026-11-30"), Ok(at("2026-11-30T00:00:00Z")));
        assert_eq!(moment("7d"), Ok(Moment::Ago(Duration::from_secs(7 * 86_400))));
        for text in ["", "yesterday", "2026-13-01", "7", "-2h"] {
            assert!(moment(text).is_err(), "{text}");
        }
        let now = "2026-11-30T08:00:00Z".parse().expect("a time");
        let ago = moment("2h").expect("a moment").time(now).expect("a time");
        assert_eq!(ago.to_rfc3339(), "2026-11-30T06:00:00+00:00");
    }
}
