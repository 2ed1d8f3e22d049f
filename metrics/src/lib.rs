//! The metrics of both services, and the port that Prometheus scrapes. Uses nothing else of this repository.
//!
//! - [`table`]: every metric, with its labels and what bounds their values. `METRICS.md` is written from it ([`page`]).
//! - [`areas`]: what a part of a service counts with. Each part gets its handles passed in. Counting costs a lookup of
//!   the series, under a lock that is written only for a new one, and an addition, whether anybody scrapes or not.
//! - [`readings`]: what is read, such as from the database, only when somebody scrapes.
//! - [`exposition`]: writes all of that as text.
//! - [`http`]: the port.

pub mod areas;
pub mod counted;
pub mod exposition;
pub mod http;
pub mod metric;
pub mod page;
pub mod readings;
pub mod table;

pub use exposition::Exposition;
pub use metric::{Metric, Sample};
pub use prometheus_client::registry::Registry;
pub use readings::{Reading, Readings};
