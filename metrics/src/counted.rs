//! What is counted while it happens. Clones share their numbers.

use std::sync::Arc;

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric as Registered, Registry},
};

use crate::metric::{Kind, Labels, Metric};

fn labels<const N: usize>(metric: &'static Metric<N>, values: [&str; N]) -> Labels<N> {
    Labels { names: &metric.labels, values: values.map(Arc::from) }
}

fn register<const N: usize>(registry: &mut Registry, metric: &'static Metric<N>, numbers: impl Registered) {
    let definition = &metric.definition;
    match definition.base.unit() {
        Some(unit) => registry.register_with_unit(definition.base_name, definition.help, unit, numbers),
        None => registry.register(definition.base_name, definition.help, numbers),
    }
}

/// A metric that only grows.
#[derive(Debug, Clone)]
pub struct Counts<const N: usize> {
    metric: &'static Metric<N>,
    family: Family<Labels<N>, Counter>,
}

impl<const N: usize> Counts<N> {
    /// Nothing has been counted yet.
    #[must_use]
    pub fn new(metric: &'static Metric<N>) -> Self {
        Self { metric, family: Family::default() }
    }

    /// Adds to the series with these values of the labels. It begins, with 0, when something is first added to it.
    pub fn add(&self, values: [&str; N], count: u64) {
        self.family.get_or_create(&labels(self.metric, values)).inc_by(count);
    }

    /// Shows it to whoever scrapes.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, self.metric, self.family.clone());
    }
}

/// A metric that counts what is there now.
#[derive(Debug, Clone)]
pub struct Levels<const N: usize> {
    metric: &'static Metric<N>,
    family: Family<Labels<N>, Gauge>,
}

/// Something that counts as being there until this is dropped.
#[derive(Debug)]
pub struct There(Gauge);

impl Drop for There {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl<const N: usize> Levels<N> {
    /// Nothing is there yet.
    #[must_use]
    pub fn new(metric: &'static Metric<N>) -> Self {
        Self { metric, family: Family::default() }
    }

    /// Counts one more until the guard is dropped.
    #[must_use]
    pub fn enter(&self, values: [&str; N]) -> There {
        let gauge = self.family.get_or_create_owned(&labels(self.metric, values));
        gauge.inc();
        There(gauge)
    }

    /// Sets the number.
    pub fn set(&self, values: [&str; N], number: i64) {
        self.family.get_or_create(&labels(self.metric, values)).set(number);
    }

    /// Shows it to whoever scrapes.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, self.metric, self.family.clone());
    }
}

/// Makes histograms with these bounds.
#[derive(Debug, Clone, Copy)]
struct Bounds(&'static [f64]);

impl MetricConstructor<Histogram> for Bounds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// A metric that counts values by their size.
#[derive(Debug, Clone)]
pub struct Sizes<const N: usize> {
    metric: &'static Metric<N>,
    family: Family<Labels<N>, Histogram, Bounds>,
}

impl<const N: usize> Sizes<N> {
    /// Nothing has been observed yet. A metric that is not a histogram has no bounds but infinity.
    #[must_use]
    pub fn new(metric: &'static Metric<N>) -> Self {
        let bounds = match metric.definition.kind {
            Kind::Histogram(bounds) => bounds,
            Kind::Counter | Kind::Gauge => &[],
        };
        Self { metric, family: Family::new_with_constructor(Bounds(bounds)) }
    }

    /// Adds a value, in the unit of the metric, to the series with these values of the labels.
    pub fn observe(&self, values: [&str; N], value: f64) {
        self.family.get_or_create(&labels(self.metric, values)).observe(value);
    }

    /// Shows it to whoever scrapes.
    pub fn register(&self, registry: &mut Registry) {
        register(registry, self.metric, self.family.clone());
    }
}
