//! What a metric is, and a value of it.

use std::{
    fmt::Write as _,
    hash::{Hash, Hasher},
    sync::Arc,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    registry::Unit,
};

/// What kind of number a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// It only grows, from 0 when the process starts.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many values were at most so large, for each of these bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// The unit of a metric, which its name ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// It counts things.
    Things,
    /// Seconds; of a time, those since 1970 in UTC.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Base {
    /// As it stands in the name; empty for things.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Things => "",
            Self::Seconds => "_seconds",
            Self::Bytes => "_bytes",
        }
    }

    /// As the library takes it.
    pub(crate) fn unit(self) -> Option<Unit> {
        match self {
            Self::Things => None,
            Self::Seconds => Some(Unit::Seconds),
            Self::Bytes => Some(Unit::Bytes),
        }
    }
}

/// Which services have a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// Control and regions.
    Both,
    /// Control only.
    Control,
    /// Regions only.
    Region,
}

/// A label of a metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Which values it has, and what bounds their number. A caller must not be able to add any.
    pub values: &'static str,
}

/// What is the same for all metrics, whatever their labels.
#[derive(Debug, PartialEq)]
pub struct Definition {
    /// Its name without unit and `_total`, which begins with `causeway_`.
    pub base_name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its unit.
    pub base: Base,
    /// Which services have it.
    pub on: On,
    /// What it says, as a sentence without its full stop.
    pub help: &'static str,
}

impl Definition {
    /// The name under which Prometheus finds it. That of a histogram has no `_bucket`, `_sum` or `_count` yet.
    #[must_use]
    pub fn name(&self) -> String {
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{}{total}", self.base_name, self.base.suffix())
    }
}

/// A metric with `N` labels.
#[derive(Debug, PartialEq)]
pub struct Metric<const N: usize> {
    /// What it is.
    pub definition: Definition,
    /// Its labels.
    pub labels: [&'static Label; N],
}

/// A metric with any number of labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entry {
    /// What it is.
    pub definition: &'static Definition,
    /// Its labels.
    pub labels: &'static [&'static Label],
}

impl<const N: usize> Metric<N> {
    /// The same, with any number of labels.
    #[must_use]
    pub const fn entry(&'static self) -> Entry {
        Entry { definition: &self.definition, labels: &self.labels }
    }

    /// A value that was read. Numbers above 2^53 are rounded.
    pub fn sample(&'static self, values: [&str; N], value: impl Into<Number>) -> Sample {
        let labels = values.into_iter().map(Arc::from).collect();
        Sample { entry: self.entry(), labels, value: value.into().0 }
    }
}

/// A number as Prometheus has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(f64);

macro_rules! numbers {
    ($($type:ty),*) => {
        $(impl From<$type> for Number {
            fn from(number: $type) -> Self {
                Self(number as f64)
            }
        })*
    };
}

numbers!(f64, i64, u64, u32, usize);

impl From<bool> for Number {
    fn from(is_so: bool) -> Self {
        Self(if is_so { 1.0 } else { 0.0 })
    }
}

/// A value of a metric that is not counted as things happen, but read.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub(crate) entry: Entry,
    /// As many values as the metric has labels.
    pub(crate) labels: Vec<Arc<str>>,
    pub(crate) value: f64,
}

impl EncodeLabelSet for Sample {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encode(self.entry.labels, &self.labels, encoder)
    }
}

/// The values of the labels of one series. Only those of the same metric are ever compared.
#[derive(Debug, Clone)]
pub(crate) struct Labels<const N: usize> {
    pub(crate) names: &'static [&'static Label; N],
    pub(crate) values: [Arc<str>; N],
}

impl<const N: usize> PartialEq for Labels<N> {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values
    }
}

impl<const N: usize> Eq for Labels<N> {}

impl<const N: usize> Hash for Labels<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.values.hash(state);
    }
}

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        encode(self.names, &self.values, encoder)
    }
}

fn encode(
    names: &[&'static Label],
    values: &[Arc<str>],
    encoder: &mut LabelSetEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    for (label, value) in names.iter().zip(values) {
        let mut one = encoder.encode_label();
        let mut key = one.encode_label_key()?;
        key.write_str(label.name)?;
        let mut shown = key.encode_label_value()?;
        shown.write_str(value)?;
        shown.finish()?;
    }
    Ok(())
}
