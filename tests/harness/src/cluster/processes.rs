//! Starts, stops and kills the services of a cluster.

use std::{
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use causeway::serve::{ConsolePort, Settings, Tls, serve_control, serve_control_with_console, serve_region};
use causeway_control::model::region::AcceptRegions;
use causeway_tls::{IdentityTable, Role, TableEntry};
use tokio::net::TcpListener;

use super::{
    Cluster, POLL_INTERVAL, Service, builder,
    options::{self, Configure},
};
use crate::{pki::TRUST_DOMAIN, process};

/// How often regions report to a control with a console.
const REPORT_EVERY: Duration = Duration::from_millis(20);

impl Cluster {
    /// Whether a service runs at this moment.
    ///
    /// # Panics
    /// If there is no service of this number.
    #[must_use]
    pub fn is_running(&self, service: Service) -> bool {
        self.node(service).is_alive()
    }

    /// Starts a service. Does nothing if it runs already.
    ///
    /// # Errors
    /// If the port of the service is in use, its database cannot be used, or the service is killed before it
    /// serves.
    ///
    /// # Panics
    /// If there is no service of this number.
    pub async fn start_service(&self, service: Service) -> anyhow::Result<()> {
        let node = self.node(service);
        if node.is_alive() {
            return Ok(());
        }
        self.trace.note(format!("{service}: start"));
        let env = builder::derived(&self.env);
        let hook =
            self.failpoints.hook(service, Arc::clone(&node.life), builder::derived(&env), self.trace.clone());
        let env = env.with_failpoints(hook);
        match (&self.program, service) {
            (Some(program), _) => {
                node.start_process(self.command(program, service)?, self.log_file(service)).await
            }
            (None, Service::Control(_)) => {
                let mut options = options::control(node.database_url().to_owned(), node.url());
                options.feed.product_interval = self.product_interval;
                if let Some(count) = self.changes_a_transaction {
                    options.feed.changes_a_transaction = count;
                }
                (self.configure_control.0)(&mut options);
                let settings = self.settings(Role::Control, node.name())?;
                if self.console && service == Service::Control(0) {
                    let listener = TcpListener::bind("127.0.0.1:0").await?;
                    let console = ConsolePort { listener, hosts: Vec::new() };
                    return node
                        .start(move |listener| {
                            serve_control_with_console(listener, console, options, settings, env)
                        })
                        .await;
                }
                node.start(move |listener| serve_control(listener, options, settings, env)).await
            }
            (None, Service::Region(index)) => {
                let url = node.database_url().to_owned();
                let mut options = options::region(
                    node.name(),
                    url,
                    node.url(),
                    self.control_urls(index),
                    self.spool_dir(index),
                );
                if let Some(pki) = &self.pki {
                    options.control_tls = Some(pki.client(Some(pki.pair(Role::Region, node.name())?))?);
                }
                if self.console {
                    options.report_every = REPORT_EVERY;
                }
                (self.configure.0)(&mut options);
                let settings = self.settings(Role::Region, node.name())?;
                node.start(move |listener| serve_region(listener, options, settings, env)).await
            }
        }
    }

    /// Whether the controls in this process accept only regions that were added.
    pub(super) fn accepts_only_added(&self) -> bool {
        let mut options = options::control(String::new(), String::new());
        (self.configure_control.0)(&mut options);
        options.accept_regions == AcceptRegions::Added
    }

    /// How a service in this process is served.
    pub(super) fn settings(&self, role: Role, name: &str) -> anyhow::Result<Settings> {
        let tls = match &self.pki {
            Some(pki) => {
                let identities = Arc::new(self.identities()?);
                Some(Tls { look_every: POLL_INTERVAL, identities, ..pki.server(pki.pair(role, name)?)? })
            }
            None => None,
        };
        Ok(Settings { tls, ..Settings::default() })
    }

    /// What the operator of the tests is in addition to that: whatever it takes to make every call.
    pub(super) fn identity_entries(&self) -> impl Iterator<Item = String> {
        let regions = self.regions.iter().map(|region| format!("region/{}", region.name()));
        let simulated = self.simulated_regions.iter().map(|name| format!("region/{name}"));
        let roles = regions.chain(simulated).chain(["router/me".to_owned(), "importer/me".to_owned()]);
        roles.map(|role| format!("spiffe://{TRUST_DOMAIN}/operator/me={role}"))
    }

    pub(super) fn identities(&self) -> anyhow::Result<IdentityTable> {
        self.identity_entries().map(|entry| entry.parse::<TableEntry>().map_err(anyhow::Error::msg)).collect()
    }

    pub(super) fn control_urls(&self, region: usize) -> Vec<String> {
        self.links[region].iter().map(|link| link.url().to_owned()).collect()
    }

    /// Changes the options with which regions in this process are started from now on. A running region keeps its
    /// options until it is stopped and started again.
    pub fn configure_regions(
        &mut self,
        configure: impl Fn(&mut causeway_region::Options) + Send + Sync + 'static,
    ) {
        self.configure = Configure(Box::new(configure));
    }

    pub(super) fn log_file(&self, service: Service) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.node(service).name()))
    }

    /// Everything that the processes of a service have logged so far, over all restarts.
    ///
    /// # Errors
    /// If the service has never been a process.
    ///
    /// # Panics
    /// If there is no service of this number.
    pub fn log(&self, service: Service) -> std::io::Result<String> {
        std::fs::read_to_string(self.log_file(service))
    }

    /// Sends a signal to the process of a service, e.g. `TERM`.
    ///
    /// # Errors
    /// If the service is not a process, or does not run.
    ///
    /// # Panics
    /// If there is no service of this number.
    pub fn signal(&self, service: Service, signal: &str) -> anyhow::Result<()> {
        self.trace.note(format!("{service}: SIG{signal}"));
        self.node(service).signal(signal)
    }

    /// Waits until the process of a service has ended, without ending it, and returns its exit status.
    ///
    /// # Errors
    /// If the service is not a process, or has not ended after 30 seconds.
    ///
    /// # Panics
    /// If there is no service of this number.
    pub async fn ended(&self, service: Service) -> anyhow::Result<ExitStatus> {
        self.node(service).ended().await
    }

    /// Runs a service with another program, e.g. that of another release, from its next start on. Only for a cluster of
    /// processes.
    pub fn run_with(&mut self, service: Service, program: impl Into<PathBuf>) {
        self.programs.insert(service, program.into());
    }

    /// The command line that starts a service as a process.
    pub(super) fn command(&self, program: &PathBuf, service: Service) -> anyhow::Result<Command> {
        let node = self.node(service);
        let mut command = process::command(self.programs.get(&service).unwrap_or(program));
        command.env("CAUSEWAY_FAILPOINTS", self.failpoints.to_environment());
        match service {
            Service::Control(_) => command.arg("control"),
            Service::Region(index) => command
                .args(["region", "--name", node.name(), "--spool-dir"])
                .arg(self.spool_dir(index))
                .args(["--control", &self.control_urls(index).join(",")]),
        };
        command.args(["--database-url", node.database_url(), "--listen", &node.address().to_string()]);
        if let Some(pki) = &self.pki {
            let role = match service {
                Service::Control(_) => Role::Control,
                Service::Region(_) => Role::Region,
            };
            let pair = pki.pair(role, node.name())?;
            command.arg("--tls-cert").arg(pair.cert).arg("--tls-key").arg(pair.key);
            command.arg("--tls-client-ca").arg(pki.ca()).args(["--trust-domain", TRUST_DOMAIN]);
            for entry in self.identity_entries() {
                command.args(["--identity", &entry]);
            }
            if matches!(service, Service::Control(_)) {
                command.args(["--accept-regions", "any"]);
            }
        }
        command.args(&self.arguments);
        Ok(command)
    }

    /// Stops a service gracefully: it finishes the current chunk. Everything that is not in its database is lost.
    ///
    /// # Panics
    /// If there is no service of this number.
    pub async fn stop_service(&self, service: Service) {
        self.trace.note(format!("{service}: stop"));
        self.node(service).stop().await;
    }

    /// Kills a service. A process gets SIGKILL; for a service in this process see the [module](super).
    ///
    /// # Panics
    /// If there is no service of this number.
    pub async fn kill(&self, service: Service) {
        self.trace.note(format!("{service}: kill"));
        self.node(service).kill().await;
    }

    /// Waits until [`kill`](Self::kill) or a failpoint kills a service. Returns at once if one was killed since the
    /// last call.
    pub async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Starts all services that do not run at the moment.
    ///
    /// # Errors
    /// If a service does not start, or is killed while it starts.
    pub async fn revive(&self) -> anyhow::Result<()> {
        for service in self.services() {
            self.start_service(service).await?;
        }
        Ok(())
    }

    /// Starts the first control. Does nothing if it runs already.
    ///
    /// # Errors
    /// As [`start_service`](Self::start_service).
    pub async fn start_control(&mut self) -> anyhow::Result<()> {
        self.start_service(Service::Control(0)).await
    }

    /// Stops the first control gracefully. Until it is started again, nobody listens on its port.
    pub async fn stop_control(&mut self) {
        self.stop_service(Service::Control(0)).await;
    }

    /// Starts a region. Does nothing if it runs already.
    ///
    /// # Errors
    /// As [`start_service`](Self::start_service).
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn start_region(&mut self, index: usize) -> anyhow::Result<()> {
        self.start_service(Service::Region(index)).await
    }

    /// Stops a region gracefully.
    ///
    /// # Panics
    /// If there is no region of this number.
    pub async fn stop_region(&mut self, index: usize) {
        self.stop_service(Service::Region(index)).await;
    }
}
