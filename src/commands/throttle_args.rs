//! What holds the imports of a region back, as settings of a region, and the forms of the limits on a command line.

use std::{num::NonZeroU64, time::Duration};

use causeway_proto::limits::{MAX_BYTES_PER_SECOND, MAX_PROBE_LATENCY_MS, MAX_ROWS_PER_SECOND};
use causeway_region::throttle::{self, ThrottleLimits};

use crate::settings::units::{self, Size};

/// What to do instead of a limit of 0.
const INSTEAD_OF_ZERO: &str = "with a limit of 0, nothing would ever be written; to stop imports, pause them \
     (`causeway imports pause --all`)";

#[derive(Debug, clap::Args)]
pub(super) struct ThrottleArgs {
    /// The most rows that imports write in a second, all imports of this process together; no limit if it is not set. `causeway
    /// throttle set` changes it while the region runs, and what was set there overrides this
    #[arg(long, value_name = "N", value_parser = rows, env = "CAUSEWAY_MAX_ROWS_PER_SECOND")]
    max_rows_per_second: Option<NonZeroU64>,
    /// The most bytes of the file that imports write in a second, all imports of this process together; no limit if it is not
    /// set. `causeway throttle set` changes it while the region runs
    #[arg(long, value_name = "SIZE", value_parser = bytes, env = "CAUSEWAY_MAX_BYTES_PER_SECOND")]
    max_bytes_per_second: Option<Size>,
    /// The latency of the probe statement above which imports give way to the application; they never do if it is not set.
    /// `causeway throttle set` changes it while the region runs
    #[arg(long, value_name = "TIME", value_parser = latency, env = "CAUSEWAY_MAX_PROBE_LATENCY")]
    max_probe_latency: Option<Duration>,
    /// The statement whose latency is measured for --max-probe-latency: one that is like the application's own and only reads.
    /// It runs in a read only transaction on a connection of its own, and is cancelled when it takes too long
    #[arg(
        long,
        value_name = "SQL",
        default_value = throttle::PROBE_STATEMENT,
        value_parser = statement,
        env = "CAUSEWAY_PROBE_STATEMENT"
    )]
    probe_statement: String,
    /// The pause between two measurements of the probe statement
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        value_parser = units::nonzero_duration,
        env = "CAUSEWAY_PROBE_INTERVAL"
    )]
    probe_interval: Duration,
}

impl ThrottleArgs {
    /// The options of the region.
    pub(super) fn options(self) -> throttle::Options {
        throttle::Options {
            limits: ThrottleLimits {
                rows_per_second: self.max_rows_per_second,
                bytes_per_second: self.max_bytes_per_second.and_then(|size| NonZeroU64::new(size.0)),
                probe_latency: self.max_probe_latency,
            },
            probe_statement: self.probe_statement,
            probe_interval: self.probe_interval,
            ..throttle::Options::default()
        }
    }
}

/// A number of rows in a second.
pub(super) fn rows(text: &str) -> Result<NonZeroU64, String> {
    let malformed = || format!("it must be a number from 1 to {MAX_ROWS_PER_SECOND}");
    match text.parse::<u64>().map(NonZeroU64::new) {
        Ok(None) => Err(INSTEAD_OF_ZERO.to_owned()),
        Ok(Some(rows)) if rows.get() <= MAX_ROWS_PER_SECOND => Ok(rows),
        Ok(Some(_)) | Err(_) => Err(malformed()),
    }
}

/// A number of bytes in a second.
pub(super) fn bytes(text: &str) -> Result<Size, String> {
    match text.parse::<Size>()? {
        Size(0) => Err(INSTEAD_OF_ZERO.to_owned()),
        _ => units::size(1, MAX_BYTES_PER_SECOND)(text),
    }
}

/// A latency in whole milliseconds.
pub(super) fn latency(text: &str) -> Result<Duration, String> {
    let longest = Duration::from_millis(MAX_PROBE_LATENCY_MS);
    match units::duration(text)? {
        Duration::ZERO => {
            Err("with a bound of 0, every answer would be too slow; to stop imports, pause them \
             (`causeway imports pause --all`)"
                .to_owned())
        }
        latency if latency < Duration::from_millis(1) || latency > longest => {
            Err(format!("it must be from 1ms to {}s", longest.as_secs()))
        }
        latency if latency.subsec_nanos() % 1_000_000 != 0 => {
            Err("it must be whole milliseconds, e.g. 50ms".to_owned())
        }
        latency => Ok(latency),
    }
}

fn statement(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("it must be a statement that reads".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_none_is_refused_and_the_refusal_says_what_to_do() {
        assert_eq!(rows("1000").map(NonZeroU64::get), Ok(1_000));
        assert_eq!(rows("1000000000").map(NonZeroU64::get), Ok(1_000_000_000));
        assert_eq!(bytes("2MiB"), Ok(Size(2 << 20)));
        assert_eq!(bytes("1TiB"), Ok(Size(1 << 40)));
        assert_eq!(latency("250ms"), Ok(Duration::from_millis(250)));
        for zero in
            [rows("0").err(), bytes("0").err(), bytes("0KiB").err(), latency("0").err(), latency("0ms").err()]
        {
            let zero = zero.expect("refused");
            assert!(zero.contains("causeway imports pause --all"), "{zero}");
        }
        for text in ["-1", "", "many", "1.5", "1000000001", "99999999999999999999", "0x10", "1e3"] {
            let wrong = rows(text).expect_err(text);
            assert!(wrong.contains("from 1 to 1000000000"), "{text}: {wrong}");
        }
        for text in ["-1", "", "many", "2TiB", "99999999999999999999GiB"] {
            bytes(text).expect_err(text);
        }
        for text in ["-1", "", "soon", "61s", "10us", "1000h", "1ms 500us", "1500us"] {
            latency(text).expect_err(text);
        }
        for text in ["", " ", "\n"] {
            statement(text).expect_err("refused");
        }
    }
}
