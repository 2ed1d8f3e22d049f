//! Describes a cluster before it starts.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::ensure;
use causeway_client::Service as Called;
use causeway_silo::{
    db::{Db, DbError, Options, Statement},
    env::Environment,
    transact,
};
use causeway_tls::{Role, ServerTls};
use tokio::sync::Notify;

use super::{
    Cluster, DatabaseServer, Failpoints, Service, Store, Trace,
    link::{Link, LinkTls},
    node::Node,
    options::{Configure, ConfigureControl},
    trace::PrintOnPanic,
};
use crate::pki::Pki;

/// The description of a cluster. Nothing runs until [`start`](Self::start).
#[derive(Debug)]
#[must_use = "it does nothing until it is started"]
pub struct ClusterBuilder {
    database_server: Option<Arc<DatabaseServer>>,
    store: Store,
    controls: usize,
    regions: Vec<String>,
    serializable: bool,
    seed: Option<u64>,
    program: Option<PathBuf>,
    programs: BTreeMap<Service, PathBuf>,
    arguments: Vec<String>,
    failpoints: Failpoints,
    changes_a_transaction: Option<usize>,
    product_interval: Duration,
    configure_control: ConfigureControl,
    one_database: bool,
    tables_of_control: Vec<String>,
    tables_of_regions: Vec<String>,
    configure: Configure,
    pki: Option<Arc<Pki>>,
    simulated_regions: Vec<String>,
    console: bool,
}

impl ClusterBuilder {
    pub(super) fn new(store: Store) -> Self {
        Self {
            database_server: None,
            store,
            controls: 1,
            regions: Vec::new(),
            serializable: false,
            seed: None,
            program: None,
            programs: BTreeMap::new(),
            arguments: Vec::new(),
            failpoints: Failpoints::default(),
            changes_a_transaction: None,
            product_interval: Duration::from_millis(100),
            configure_control: ConfigureControl(Box::new(|_| {})),
            one_database: false,
            tables_of_control: Vec::new(),
            tables_of_regions: Vec::new(),
            configure: Configure(Box::new(|_| {})),
            pki: None,
            simulated_regions: Vec::new(),
            console: false,
        }
    }

    /// Lets the first control serve its console, and regions report to it all the time. Not for processes.
    pub fn console(mut self) -> Self {
        self.console = true;
        self
    }

    /// Lets the test call control in the name of a region that does not exist.
    pub fn simulated_region(mut self, name: &str) -> Self {
        self.simulated_regions.push(name.to_owned());
        self
    }

    /// Gives every service and link a certificate of this CA, and lets all of them speak mutual TLS. The test calls
    /// them as an operator who may make every call. [`Cluster::rotate_certificates`] replaces all certificates.
    pub fn tls(mut self, pki: &Arc<Pki>) -> Self {
        self.pki = Some(Arc::clone(pki));
        self
    }

    /// Uses this database server, and its kind of store, instead of starting one for this cluster.
    pub fn on(mut self, database_server: &Arc<DatabaseServer>) -> Self {
        self.store = database_server.store();
        self.database_server = Some(Arc::clone(database_server));
        self
    }

    /// Sets the number of controls, which share one database. The default is 1. More than one needs PostgreSQL.
    pub fn controls(mut self, count: usize) -> Self {
        self.controls = count;
        self
    }

    /// Adds a region with this name.
    pub fn region(mut self, name: &str) -> Self {
        self.regions.push(name.to_owned());
        self
    }

    /// Sets how many reservations or events a transaction of a control in this process changes at most. With a small
    /// number, a few changes already take several transactions, as many changes do.
    pub fn changes_a_transaction(mut self, count: usize) -> Self {
        self.changes_a_transaction = Some(count);
        self
    }

    /// Changes the options of regions in this process, from their first start on.
    pub fn configure_regions(
        mut self,
        configure: impl Fn(&mut causeway_region::Options) + Send + Sync + 'static,
    ) -> Self {
        self.configure = Configure(Box::new(configure));
        self
    }

    /// Makes every transaction on PostgreSQL serializable. Transactions on SQLite always are.
    pub fn serializable(mut self) -> Self {
        self.serializable = true;
        self
    }

    /// Sets how often control checks for renames of the product by itself. The default is short.
    pub fn product_interval(mut self, interval: Duration) -> Self {
        self.product_interval = interval;
        self
    }

    /// Changes the options of controls in this process.
    pub fn configure_control(
        mut self,
        configure: impl Fn(&mut causeway_control::Options) + Send + Sync + 'static,
    ) -> Self {
        self.configure_control = ConfigureControl(Box::new(configure));
        self
    }

    /// Gives the first region control's database, which must be the product's.
    pub fn one_database(mut self) -> Self {
        self.one_database = true;
        self
    }

    /// Executes these statements in control's database before control uses it, such as those of [`crate::product`].
    pub fn tables_of_control(mut self, statements: &[String]) -> Self {
        self.tables_of_control = statements.to_vec();
        self
    }

    /// The same in the database of each region.
    pub fn tables_of_regions(mut self, statements: &[String]) -> Self {
        self.tables_of_regions = statements.to_vec();
        self
    }

    /// Seeds all randomness of services and links with this number.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Runs the services as processes of this program, the `causeway` command.
    pub fn processes(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Runs one of the processes with another program, e.g. that of another release.
    pub fn process_of(mut self, service: Service, program: impl Into<PathBuf>) -> Self {
        self.programs.insert(service, program.into());
        self
    }

    /// Adds these arguments to every process, e.g. `--shutdown-drain=2s`. Both `control` and `region` must accept them.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Gives the services these failpoints. Processes have them if they were built with the feature `failpoints`.
    pub fn failpoints(mut self, failpoints: &Failpoints) -> Self {
        self.failpoints = failpoints.clone();
        self
    }

    /// Starts the database server, the links, the controls and then the regions, and waits until the regions are
    /// registered, unless control accepts only added ones or a failpoint is armed.
    ///
    /// # Errors
    /// If a service or PostgreSQL does not start, or a region does not register.
    pub async fn start(self) -> anyhow::Result<Cluster> {
        ensure!(
            self.controls == 1 || self.store == Store::Postgres,
            "several controls need a database that several processes may use: PostgreSQL"
        );
        let tls = self.pki.as_ref().map(|pki| pki.operator()).transpose()?;
        let database_server = match self.database_server {
            Some(database_server) => database_server,
            None => Arc::new(DatabaseServer::for_one(self.store).await?),
        };
        let directory = database_server.directory()?;
        let (trace, killed) = (Trace::default(), Arc::new(Notify::new()));
        let env = match self.seed {
            Some(seed) => Environment::system().seeded(seed),
            None => Environment::system(),
        };
        let mut controls = Vec::new();
        let isolation = match (database_server.store(), self.serializable) {
            (Store::Postgres, true) => "?options=-c%20default_transaction_isolation%3Dserializable",
            _ => "",
        };
        let database_url = database_server.database(directory.path(), None).await? + isolation;
        execute(&database_url, &self.tables_of_control).await?;
        for index in 0..self.controls {
            let name = if index == 0 { "control".to_owned() } else { format!("control-{index}") };
            let killed = Arc::clone(&killed);
            let database_url = database_server.url_of_control(&database_url, index);
            controls.push(Node::new(Called::Control, &name, database_url, killed, tls.clone())?);
        }
        let mut regions = Vec::new();
        let mut links = Vec::new();
        for name in &self.regions {
            let database_url = if self.one_database && regions.is_empty() {
                database_url.clone()
            } else {
                let own = database_server.database(directory.path(), Some(name)).await? + isolation;
                execute(&own, &self.tables_of_regions).await?;
                own
            };
            regions.push(Node::new(Called::Region, name, database_url, Arc::clone(&killed), tls.clone())?);
            let mut ways = Vec::new();
            for control in &controls {
                let way = format!("{name} -> {}", control.name());
                let tls = self.pki.as_ref().map(|pki| link_tls(pki, Role::Region, name)).transpose()?;
                let address = control.address();
                ways.push(
                    Link::open(Called::Control, way, address, tls, derived(&env), trace.clone()).await?,
                );
            }
            links.push(ways);
        }
        let mut client_links = Vec::new();
        let called = controls.iter().map(|node| (Called::Control, node));
        for (called, node) in called.chain(regions.iter().map(|node| (Called::Region, node))) {
            let way = format!("client -> {}", node.name());
            let tls = self.pki.as_ref().map(|pki| link_tls(pki, Role::Operator, "me")).transpose()?;
            let (address, env) = (node.address(), derived(&env));
            client_links.push(Link::open(called, way, address, tls, env, trace.clone()).await?);
        }
        let cluster = Cluster {
            _print_on_panic: PrintOnPanic::of(trace.clone()),
            regions,
            controls,
            links,
            client_links,
            env,
            failpoints: self.failpoints,
            changes_a_transaction: self.changes_a_transaction,
            product_interval: self.product_interval,
            configure_control: self.configure_control,
            trace,
            killed,
            program: self.program,
            programs: self.programs,
            arguments: self.arguments,
            configure: self.configure,
            pki: self.pki,
            simulated_regions: self.simulated_regions,
            console: self.console,
            directory,
            database_server,
        };
        let may_die = cluster.failpoints.is_armed();
        for service in cluster.services().collect::<Vec<Service>>() {
            match cluster.start_service(service).await {
                // A failpoint may kill a service before all have started. The test that armed it starts the service
                // again.
                Err(error) if may_die && !cluster.is_running(service) => {
                    cluster.trace.note(format!("{service} does not start: {error:#}"));
                }
                started => started?,
            }
        }
        if !may_die {
            cluster.registered().await?;
        }
        Ok(cluster)
    }
}

/// The certificates of a link, which calls a service with those of its client.
fn link_tls(pki: &Pki, role: Role, name: &str) -> anyhow::Result<LinkTls> {
    let server = ServerTls::load(pki.server_files(pki.pair(Role::Control, "link")?), pki.clock())?;
    Ok(LinkTls {
        server: Arc::new(server),
        client: pki.client(Some(pki.pair(role, name)?))?,
        test: pki.operator()?,
    })
}

/// An environment with its own random numbers, seeded from those of the cluster, so that what one service draws does
/// not affect the others.
pub(super) fn derived(env: &Environment) -> Environment {
    env.clone().seeded(u64::from_le_bytes(env.bytes()))
}

/// Executes statements in a database.
async fn execute(database_url: &str, statements: &[String]) -> anyhow::Result<()> {
    if statements.is_empty() {
        return Ok(());
    }
    let db = Db::connect(database_url, &Options::default()).await?;
    let executed: Result<(), DbError> = transact!(DbError, db, |tx| {
        for statement in statements {
            let done = tx.execute(Statement::new("").push(statement)).await;
            done.map_err(|error| error.doing(statement))?;
        }
    });
    db.close().await;
    Ok(executed?)
}
