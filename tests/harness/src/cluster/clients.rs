//! Clients of the services of a cluster, and its databases.

use std::sync::Arc;

use causeway_client::ClientTls;
use causeway_silo::db::Db;

use super::{Cluster, ControlApi, RegionApi, Service, Silo, client_of};

impl Cluster {
    /// The URL of the first control. It stays the same when control is stopped and started.
    #[must_use]
    pub fn control_url(&self) -> String {
        self.controls[0].url()
    }

    /// The URL of the console of the first control; `None` if it has none. It changes when control is started again.
    #[must_use]
    pub fn console_url(&self) -> Option<String> {
        self.controls[0].console_url()
    }

    /// The URL of a service. It stays the same when the service is stopped and started.
    ///
    /// # Panics
    /// If there is no service of this number.
    #[must_use]
    pub fn url(&self, service: Service) -> String {
        self.node(service).url()
    }

    /// The certificate with which the test calls services; `None` in a cluster without TLS.
    ///
    /// # Errors
    /// If it cannot be issued.
    pub fn caller(&self) -> anyhow::Result<Option<Arc<ClientTls>>> {
        self.pki.as_ref().map(|pki| pki.operator()).transpose()
    }

    /// A client of the first control. Its calls go directly to control, without a link.
    #[must_use]
    pub fn control(&self) -> ControlApi {
        self.control_number(0)
    }

    /// A client of the control with this index. Its calls go directly to control, without a link.
    ///
    /// # Panics
    /// If there is no control of this number.
    #[must_use]
    pub fn control_number(&self, index: usize) -> ControlApi {
        ControlApi::new(self.controls[index].client())
    }

    /// A client of the region with this index. Its calls go directly to the region, without a link.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region(&self, index: usize) -> RegionApi {
        let node = &self.regions[index];
        RegionApi::new(node.name(), node.client(), self.env.clone())
    }

    /// A client of the region with this index, with these certificates.
    ///
    /// # Errors
    /// If it has no usable URL.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub fn region_as(&self, index: usize, caller: &Arc<ClientTls>) -> anyhow::Result<RegionApi> {
        let node = &self.regions[index];
        let client = client_of(causeway_client::Service::Region, &node.url(), caller)?;
        Ok(RegionApi::new(node.name(), client, self.env.clone()))
    }

    /// A client of the first control, with these certificates.
    ///
    /// # Errors
    /// If it has no usable URL.
    pub fn control_as(&self, caller: &Arc<ClientTls>) -> anyhow::Result<ControlApi> {
        Ok(ControlApi::new(client_of(causeway_client::Service::Control, &self.control_url(), caller)?))
    }

    /// A client of a region over a link, so that its calls meet the faults that are set for all links.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn region_by_link(&self, index: usize) -> RegionApi {
        let (node, client_link) = (&self.regions[index], &self.client_links[self.controls.len() + index]);
        RegionApi::new(node.name(), client_link.client(), self.env.clone())
    }

    /// A client of a control over a link, so that its calls meet the faults that are set for all links.
    ///
    /// # Panics
    /// If there is no control of this number.
    #[must_use]
    pub fn control_by_link(&self, index: usize) -> ControlApi {
        ControlApi::new(self.client_links[index].client())
    }

    /// The URL of a silo's database.
    ///
    /// # Panics
    /// If there is no region of this number.
    #[must_use]
    pub fn database_url(&self, silo: Silo) -> &str {
        self.database_of(silo).database_url()
    }

    /// Opens new connections to the database of a silo, separate from those of its service.
    ///
    /// # Errors
    /// If the database cannot be reached.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.database_of(silo).connect().await
    }

    /// Closes the connections of [`shared_db`](Self::shared_db), e.g. because the database is about to be replaced. The
    /// next call opens others.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn close_shared_db(&mut self, silo: Silo) {
        let node = match silo {
            Silo::Control => &mut self.controls[0],
            Silo::Region(index) => &mut self.regions[index],
        };
        node.close_db().await;
    }

    /// Like [`db`](Self::db), on connections that the cluster opens once and keeps. For callers that query often. The
    /// cluster owns the connections: do not close them.
    ///
    /// # Errors
    /// If the database cannot be reached.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn shared_db(&self, silo: Silo) -> anyhow::Result<Db> {
        self.database_of(silo).shared_db().await
    }
}
