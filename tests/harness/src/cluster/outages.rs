//! Cuts links and stops databases of a cluster, and mends them.

use std::time::Duration;

use super::{CallFaults, Cluster, LinkState, link::Link};

impl Cluster {
    /// Sets the state of the links from a region to all controls.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub fn set_link_state(&self, region: usize, link_state: LinkState) {
        for link in &self.links[region] {
            link.set_link_state(link_state);
        }
    }

    /// Sets the state of the link from a region to one control.
    ///
    /// # Panics
    /// If there is no region or control of this number.
    pub fn set_link_state_to(&self, region: usize, control: usize, link_state: LinkState) {
        self.links[region][control].set_link_state(link_state);
    }

    pub(super) fn all_links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten().chain(&self.client_links)
    }

    /// Sets the faults that calls on all links meet.
    pub fn set_call_faults(&self, call_faults: CallFaults) {
        self.trace.note(format!("{call_faults:?}"));
        for link in self.all_links() {
            link.set_call_faults(call_faults);
        }
    }

    /// Crashes the database server and starts it again after `down`. Does nothing on SQLite.
    ///
    /// # Errors
    /// If the server does not start again.
    pub async fn crash_database(&self, down: Duration) -> anyhow::Result<()> {
        self.trace.note(format!("the database crashes, and is down for {down:?}"));
        self.database_server.crash_database(down).await
    }

    /// Shuts the database server down cleanly. It stays down until [`start_database`](Self::start_database). Does
    /// nothing on SQLite.
    ///
    /// # Errors
    /// If the server cannot be stopped.
    pub async fn stop_database(&self) -> anyhow::Result<()> {
        self.trace.note("the database stops");
        self.database_server.stop_database().await
    }

    /// Starts the database server again. Does nothing on SQLite.
    ///
    /// # Errors
    /// If the server does not start.
    pub async fn start_database(&self) -> anyhow::Result<()> {
        self.trace.note("the database starts");
        self.database_server.start_database().await
    }

    /// Ends all faults: disarms all failpoints, opens all links, removes all call faults, and starts all services that
    /// do not run.
    ///
    /// # Errors
    /// If a service does not start.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.failpoints.disarm();
        for link in self.all_links() {
            link.set_call_faults(CallFaults::default());
            link.set_link_state(LinkState::Open);
        }
        self.trace.note("all is healed");
        self.revive().await
    }
}
