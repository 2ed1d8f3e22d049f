//! Writes all metrics of a service as text, in the form that the scraper asks for.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, prometheus_text, text},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    metric::{Kind, Sample},
    readings::Readings,
};

/// The content type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A form of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0, which Prometheus asks for.
    OpenMetrics,
    /// The older text format of Prometheus, 0.0.4, for everybody who does not ask for the other.
    Prometheus,
}

impl Form {
    /// The form that a header `Accept` asks for.
    #[must_use]
    pub fn of_accept(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// Its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => OPEN_METRICS,
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// What is known at once when somebody scrapes, without asking anybody.
pub type Now = dyn Fn() -> Vec<Sample> + Send + Sync;

/// All metrics of one service. Cheap to clone.
#[derive(Clone)]
pub struct Exposition(Arc<Inner>);

struct Inner {
    counted: Registry,
    now: Box<Now>,
    readings: Readings,
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").field("counted", &self.0.counted).finish_non_exhaustive()
    }
}

impl Exposition {
    /// Shows what is counted, what is known at once, and what is read.
    pub fn new(
        counted: Registry,
        now: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
        readings: Readings,
    ) -> Self {
        Self(Arc::new(Inner { counted, now: Box::new(now), readings }))
    }

    /// All metrics as text. Waits for readings, but not for long; see [`Readings`].
    ///
    /// # Errors
    /// Never, as long as text can be written into memory.
    pub async fn text(&self, form: Form) -> Result<String, fmt::Error> {
        let mut samples = self.0.readings.collect().await;
        samples.extend((self.0.now)());
        let mut read = Registry::default();
        read.register_collector(Box::new(Read::new(samples)));
        let mut written = String::new();
        for registry in [&self.0.counted, &read] {
            match form {
                Form::OpenMetrics => text::encode_registry(&mut written, registry)?,
                Form::Prometheus => prometheus_text::encode(&mut written, registry)?,
            }
        }
        if form == Form::OpenMetrics {
            text::encode_eof(&mut written)?;
        }
        Ok(written)
    }
}

/// Samples, those of one metric together.
#[derive(Debug)]
struct Read(Vec<Sample>);

impl Read {
    fn new(mut samples: Vec<Sample>) -> Self {
        samples.sort_by(|one, other| {
            let key = |sample: &Sample| sample.entry.definition.base_name;
            key(one).cmp(key(other)).then_with(|| one.labels.cmp(&other.labels))
        });
        Self(samples)
    }
}

impl Collector for Read {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.0.chunk_by(|one, other| one.entry == other.entry) {
            let Some(definition) = family.first().map(|sample| sample.entry.definition) else { continue };
            let is_counter = definition.kind == Kind::Counter;
            let kind = if is_counter { MetricType::Counter } else { MetricType::Gauge };
            let (help, unit) = (format!("{}.", definition.help), definition.base.unit());
            let mut metric = encoder.encode_descriptor(definition.base_name, &help, unit.as_ref(), kind)?;
            for sample in family {
                let mut one = metric.encode_family(sample)?;
                if is_counter {
                    one.encode_counter::<NoLabelSet, _, f64>(&sample.value, None)?;
                } else {
                    one.encode_gauge(&sample.value)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{areas::CallMetrics, table};

    fn exposition() -> Exposition {
        let calls = CallMetrics::default();
        calls.ended("a.B/C", "OK", "", Some(std::time::Duration::from_millis(3)));
        let mut registry = Registry::default();
        calls.register(&mut registry);
        let now = || {
            vec![
                table::IMPORTS.sample(["writing"], 2_i64),
                table::RETRIES.sample(["40001"], 7_u64),
                table::IMPORTS.sample(["odd \"state\"\n\\"], 1_i64),
                table::SPOOL.sample([], 5_u64),
            ]
        };
        Exposition::new(registry, now, Readings::default())
    }

    #[tokio::test]
    async fn what_is_counted_and_what_is_read_stands_in_one_text() {
        let text = exposition().text(Form::OpenMetrics).await.expect("text");
        for line in [
            "# TYPE causeway_calls counter",
            "causeway_calls_total{rpc=\"a.B/C\",code=\"OK\",reason=\"\"} 1",
            "causeway_call_duration_seconds_bucket{le=\"0.005\",rpc=\"a.B/C\"} 1",
            "# UNIT causeway_spool_bytes bytes",
            "causeway_spool_bytes 5.0",
            "causeway_imports{state=\"writing\"} 2.0",
            "causeway_imports{state=\"odd \\\"state\\\"\\n\\\\\"} 1.0",
            "causeway_transaction_retries_total{sqlstate=\"40001\"} 7.0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# TYPE causeway_imports gauge").count(), 1, "{text}");
    }

    #[tokio::test]
    async fn who_does_not_ask_for_openmetrics_gets_the_older_format() {
        assert_eq!(Form::of_accept(None), Form::Prometheus);
        assert_eq!(Form::of_accept(Some("*/*")), Form::Prometheus);
        let asked = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
        assert_eq!(Form::of_accept(Some(asked)), Form::OpenMetrics);
        let text = exposition().text(Form::Prometheus).await.expect("text");
        assert!(text.contains("# TYPE causeway_calls_total counter\n"), "{text}");
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }
}
