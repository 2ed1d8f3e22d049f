//! The options of the services of a cluster.

use std::{fmt, path::PathBuf, time::Duration};

use causeway_client::Backoff;

use super::database_server::pool;

/// Short delays, because a test waits for all of them.
fn backoff() -> Backoff {
    Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(100) }
}

/// Changes the options of regions before they start.
pub(super) struct Configure(pub(super) Box<dyn Fn(&mut causeway_region::Options) + Send + Sync>);

impl fmt::Debug for Configure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Configure")
    }
}

/// Changes the options of controls before they start.
pub(super) struct ConfigureControl(pub(super) Box<dyn Fn(&mut causeway_control::Options) + Send + Sync>);

impl fmt::Debug for ConfigureControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfigureControl")
    }
}

pub(super) fn control(database_url: String, address: String) -> causeway_control::Options {
    causeway_control::Options {
        database_url: database_url.into(),
        database: pool(),
        address,
        accept_regions: causeway_control::model::region::AcceptRegions::Any,
        feed: causeway_control::feed::Options::default(),
        bulk: causeway_control::slug::bulk_intake::Options::default(),
        replica: None,
        audit: causeway_audit::Options::default(),
    }
}

pub(super) fn region(
    name: &str,
    database_url: String,
    address: String,
    control_urls: Vec<String>,
    spool_dir: PathBuf,
) -> causeway_region::Options {
    causeway_region::Options {
        database: pool(),
        backoff: backoff(),
        // Off: a test that wants comparisons starts them itself.
        reconcile_every: Duration::ZERO,
        // Off: they would be calls that a test of calls does not expect.
        report_every: Duration::ZERO,
        ..causeway_region::Options::new(name.to_owned(), address, database_url, control_urls, spool_dir)
    }
}
