//! `METRICS.md`, written from the table.

use crate::{
    metric::{Entry, On},
    table,
};

const HEAD: &str = "# Metrics

All metrics that `causeway control` and `causeway region` show with `--metrics-listen ADDR`, at `http://ADDR/metrics`.
This page is written from `metrics/src/table.rs`; a test compares the two, and another one compares the table with what
both services show. [docs/metrics.md](docs/metrics.md) says how to scrape them, what the alerts mean
and what to do then.

Times are in seconds, sizes in bytes. A counter begins with 0 when the process starts. A histogram has the series
`_bucket`, `_sum` and `_count`. No label has a value that a caller can choose; the last table says what bounds each.
";

fn section(title: &str, on: On, text: &mut String) {
    text.push_str(&format!(
        "\n## {title}\n\n| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n"
    ));
    for Entry { definition, labels } in table::ALL.iter().filter(|entry| entry.definition.on == on) {
        let labels = labels.iter().map(|label| format!("`{}`", label.name)).collect::<Vec<_>>().join(", ");
        let (name, kind, help) = (definition.name(), definition.kind.word(), definition.help);
        text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
}

/// The page.
#[must_use]
pub fn metrics_page() -> String {
    let mut text = HEAD.to_owned();
    section("Both services", On::Both, &mut text);
    section("Control", On::Control, &mut text);
    section("Regions", On::Region, &mut text);
    text.push_str("\n## Labels\n\n| label | of | values |\n| --- | --- | --- |\n");
    for entry in table::ALL {
        for label in entry.labels {
            let (name, of, values) = (label.name, entry.definition.name(), label.values);
            text.push_str(&format!("| `{name}` | `{of}` | {values} |\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn the_page_of_metrics_is_that_of_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../METRICS.md");
        let page = metrics_page();
        if std::env::var_os("CAUSEWAY_BLESS").is_some() {
            fs::write(&path, &page).expect("it is written");
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == page,
            "METRICS.md is not that of metrics/src/table.rs: run \
             CAUSEWAY_BLESS=1 cargo test -p causeway-metrics --lib page"
        );
    }

    #[test]
    fn names_are_those_that_prometheus_advises() {
        let mut names = BTreeSet::new();
        for Entry { definition, labels } in table::ALL {
            let name = definition.name();
            assert!(name.starts_with("causeway_"), "{name}");
            assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{name}");
            for suffix in ["_total", "_seconds", "_bytes", "_sum", "_count", "_bucket"] {
                assert!(!definition.base_name.ends_with(suffix), "{name}: the suffix is added");
            }
            assert!(!definition.help.ends_with('.') && !definition.help.contains('|'), "{name}");
            for label in *labels {
                assert!(!["le", "job", "instance"].contains(&label.name), "{name} has {}", label.name);
            }
            assert!(names.insert(name.clone()), "{name} stands twice");
        }
    }
}
