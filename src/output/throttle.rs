//! What holds imports back, as text.

use std::time::Duration;

use causeway_proto::{
    region::v1::{Throttle, ThrottleKind, Throttled},
    throttle::limit as shown,
    time::from_proto,
};

use super::{
    numbers::{bytes, counted},
    table::{Align::Left, Table, clean, time},
    terminal::Width,
    wrap::wrap_lines,
};

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

fn latency(micros: i64) -> String {
    humantime::format_duration(Duration::from_micros(number(micros))).to_string()
}

/// The limits of a region, and what they do.
pub(crate) fn render(throttle: &Throttle, width: Width) -> String {
    let mut table = Table::new(&[("limit", Left), ("value", Left), ("from", Left)]);
    let limits = [
        ("rows", ThrottleKind::Rows, throttle.max_rows_per_second),
        ("bytes", ThrottleKind::Bytes, throttle.max_bytes_per_second),
        ("probe latency", ThrottleKind::Latency, throttle.max_probe_latency_ms),
    ];
    for (name, kind, limit) in limits {
        let set = throttle.set_by_call().any(|it| it == kind);
        table.row([
            name.to_owned(),
            limit.map_or_else(|| "none".to_owned(), |limit| shown(kind, limit)),
            if set { "throttle set" } else { "start of the region" }.to_owned(),
        ]);
    }
    let mut text = table.render(width);
    if throttle.set_time.is_some() {
        let by = if throttle.set_by.is_empty() { "somebody" } else { &throttle.set_by };
        let at = time(throttle.set_time.as_ref().and_then(from_proto));
        text.push_str(&wrap_lines(&format!("last set by {} at {at}\n", clean(by)), width));
    }
    if throttle.max_probe_latency_ms.is_some() {
        let probe = match throttle.probe_latency_us {
            Some(micros) => format!("the probe statement took {}", latency(micros)),
            None if throttle.probe_error.is_empty() => "the probe statement was not measured yet".to_owned(),
            None => format!("{}, so imports do not give way", clean(&throttle.probe_error)),
        };
        let line = format!("{probe}; imports write {}% of the time\n", throttle.write_percent);
        text.push_str(&wrap_lines(&line, width));
    }
    let since = format!(
        "since the start of this process: {}, {}, chunks have waited {}\n",
        counted(throttle.rows, "row"),
        bytes(number(throttle.bytes)),
        humantime::format_duration(Duration::from_millis(number(throttle.waited_ms)))
    );
    text + &wrap_lines(&since, width)
}

/// What holds an import back, in a line about its progress.
pub(super) fn slowed(throttled: &Throttled) -> String {
    causeway_proto::throttle::held(throttled.by(), throttled.limit, throttled.write_percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_shown_with_where_they_come_from() {
        let throttle = Throttle {
            max_rows_per_second: Some(1_000),
            max_bytes_per_second: Some(2 << 20),
            set_by_call: vec![ThrottleKind::Rows.into(), ThrottleKind::Latency.into()],
            set_time: Some(Default::default()),
            set_by: "spiffe://prod.example/operator/ann".to_owned(),
            write_percent: 100,
            rows: 1_007,
            bytes: 63_971,
            waited_ms: 1_500,
            ..Default::default()
        };
        let text = render(&throttle, Width::UNLIMITED);
        let words = |line: usize| {
            text.lines().nth(line).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(words(1), "rows 1,000 rows/s throttle set", "{text}");
        assert_eq!(words(2), "bytes 2MiB/s start of the region", "{text}");
        assert_eq!(words(3), "probe latency none throttle set", "{text}");
        assert!(text.contains("last set by spiffe://prod.example/operator/ann at 1970-01-01"), "{text}");
        assert!(text.ends_with("1,007 rows, 62.47 KiB, chunks have waited 1s 500ms\n"), "{text}");
        let narrow = render(&throttle, Width(40));
        assert!(narrow.contains("since the start of this process: 1,007\nrows, 62.47 KiB,"), "{narrow}");
        let slow = Throttle {
            max_probe_latency_ms: Some(20),
            probe_latency_us: Some(21_500),
            write_percent: 50,
            ..Default::default()
        };
        let text = render(&slow, Width::UNLIMITED);
        assert!(
            text.contains("the probe statement took 21ms 500us; imports write 50% of the time"),
            "{text}"
        );
        let failed = Throttle { probe_latency_us: None, probe_error: "no such table".to_owned(), ..slow };
        assert!(render(&failed, Width::UNLIMITED).contains("no such table, so imports do not give way"));
    }
}
