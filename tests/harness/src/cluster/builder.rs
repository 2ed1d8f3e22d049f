//! What a cluster is to be like.

use std::{path::PathBuf, sync::Arc};

use anyhow::ensure;
use causeway_silo::env::Environment;
use tokio::sync::Notify;

use super::{
    Cluster, DatabaseServer, Failpoints, Service, Store, Trace, link::Link, node::Node, options::Configure,
    trace::LastWords,
};

/// A cluster in the making.
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
    arguments: Vec<String>,
    failpoints: Failpoints,
    changes_a_transaction: Option<usize>,
    configure: Configure,
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
            arguments: Vec::new(),
            failpoints: Failpoints::default(),
            changes_a_transaction: None,
            configure: Configure(Box::new(|_| {})),
        }
    }

    /// Uses this database server, rather than one of its own.
    pub fn on(mut self, database_server: &Arc<DatabaseServer>) -> Self {
        self.store = database_server.store();
        self.database_server = Some(Arc::clone(database_server));
        self
    }

    /// Has so many controls on one database; 1 if nothing is said. More than one need PostgreSQL.
    pub fn controls(mut self, count: usize) -> Self {
        self.controls = count;
        self
    }

    /// Has a region of this name.
    pub fn region(mut self, name: &str) -> Self {
        self.regions.push(name.to_owned());
        self
    }

    /// A transaction of a control in this process changes so many reservations or events at most, so that few are done in
    /// parts as many are.
    pub fn changes_a_transaction(mut self, count: usize) -> Self {
        self.changes_a_transaction = Some(count);
        self
    }

    /// Regions in this process are set up so, from their first start on.
    pub fn configure_regions(
        mut self,
        configure: impl Fn(&mut causeway_region::Options) + Send + Sync + 'static,
    ) -> Self {
        self.configure = Configure(Box::new(configure));
        self
    }

    /// Every transaction on PostgreSQL is serializable. Those on SQLite are in any case.
    pub fn serializable(mut self) -> Self {
        self.serializable = true;
        self
    }

    /// All randomness of services and links begins with this number.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Services are processes of this program, the `causeway` command.
    pub fn processes(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Processes get these arguments too, e.g. `--shutdown-drain=2s`: such as a control has as well as a region.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Services have these failpoints. Processes do if they were built with the feature `failpoints`.
    pub fn failpoints(mut self, failpoints: &Failpoints) -> Self {
        self.failpoints = failpoints.clone();
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// If a service or PostgreSQL does not start.
    pub async fn start(self) -> anyhow::Result<Cluster> {
        ensure!(
            self.controls == 1 || self.store == Store::Postgres,
            "several controls need a database that several processes may use: PostgreSQL"
        );
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
        for index in 0..self.controls {
            let name = if index == 0 { "control".to_owned() } else { format!("control-{index}") };
            controls.push(Node::new(&name, database_url.clone(), Arc::clone(&killed))?);
        }
        let mut regions = Vec::new();
        let mut links = Vec::new();
        for name in &self.regions {
            let database_url = database_server.database(directory.path(), Some(name)).await? + isolation;
            regions.push(Node::new(name, database_url, Arc::clone(&killed))?);
            let mut ways = Vec::new();
            for control in &controls {
                let way = format!("{name} -> {}", control.name());
                ways.push(Link::open(way, control.address(), derived(&env), trace.clone()).await?);
            }
            links.push(ways);
        }
        let mut client_links = Vec::new();
        for node in controls.iter().chain(&regions) {
            let way = format!("client -> {}", node.name());
            client_links.push(Link::open(way, node.address(), derived(&env), trace.clone()).await?);
        }
        let cluster = Cluster {
            _last_words: LastWords::of(trace.clone()),
            regions,
            controls,
            links,
            client_links,
            env,
            failpoints: self.failpoints,
            changes_a_transaction: self.changes_a_transaction,
            trace,
            killed,
            program: self.program,
            arguments: self.arguments,
            configure: self.configure,
            directory,
            database_server,
        };
        let may_die = cluster.failpoints.is_armed();
        for service in cluster.services().collect::<Vec<Service>>() {
            match cluster.start_service(service).await {
                // A failpoint may be reached before all have started. What dies there is started again by whoever armed it.
                Err(error) if may_die && !cluster.is_running(service) => {
                    cluster.trace.note(format!("{service} does not start: {error:#}"));
                }
                started => started?,
            }
        }
        Ok(cluster)
    }
}

/// Randomness of its own, which follows from that of the cluster: what one service draws is nothing to the others.
pub(super) fn derived(env: &Environment) -> Environment {
    env.clone().seeded(u64::from_le_bytes(env.bytes()))
}
