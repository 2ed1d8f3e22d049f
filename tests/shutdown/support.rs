//! Helpers: services as processes, an import in progress, and watchers.

use std::time::{Duration, Instant};

use causeway_harness::{
    account::{Audit, RowsSnapshot},
    cluster::{Cluster, ImportOptions, Service, Silo, Store},
    export::large,
};
use causeway_proto::region::v1::{Import, ImportState};
use causeway_silo::db::{Db, Statement, Tx};
use tokio::{task::JoinHandle, time::timeout};
use tonic::{Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// The longest that anything may take. Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The organizations of the export, which has about 80,000 records.
const ORGANIZATIONS: i64 = 800;
pub(crate) const REGION: Service = Service::Region(0);

/// A control and a region as processes, with these arguments.
pub(crate) async fn processes(store: Store, arguments: &[&str]) -> Cluster {
    let cluster = Cluster::builder(store).region("us").processes(env!("CARGO_BIN_EXE_causeway"));
    cluster
        .arguments(arguments)
        .start()
        .await
        .expect("a cluster; on PostgreSQL this test needs one installed")
}

/// Waits until `is_so` returns true.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("timed out while waiting for: {what}"));
}

/// An import in progress.
pub(crate) struct Begun {
    before: RowsSnapshot,
    file: Vec<u8>,
    pub(crate) id: String,
}

impl Begun {
    /// Starts an import, and waits until some of its records are written and most are not.
    pub(crate) async fn half_written(cluster: &Cluster) -> Self {
        let before = RowsSnapshot::at(cluster, 0).await.expect("the databases can be read");
        let (file, region) = (large(ORGANIZATIONS).to_bytes(), cluster.region(0));
        let begun = region.begin(&file, &ImportOptions::default()).await.expect("it begins").import;
        let id = begun.unwrap_or_default().import_id;
        let writes = |import: &Import| {
            let done = import.progress.as_ref().map_or(0, |progress| progress.records_done);
            import.state() == ImportState::Writing && done > 0
        };
        region.wait_until(&id, writes).await.expect("it writes");
        Self { before, file, id }
    }

    /// Checks that the import succeeds, and that every record has been written once.
    pub(crate) async fn arrives(self, cluster: &Cluster) {
        let import = cluster.region(0).wait(&self.id).await.expect("it ends");
        assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
        let options = ImportOptions::default();
        let audit = Audit::new(cluster, 0, &self.before, &self.file, &options, &import).run().await;
        audit.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// The state of the region's only import, and the number of records that its chunks cover, for the models that match
/// the SQL pattern `model`.
pub(crate) async fn covered(cluster: &Cluster, model: &str) -> (String, i64) {
    let db = cluster.db(Silo::Region(0)).await.expect("a database");
    let chunks = Statement::new(
        "SELECT state, (SELECT CAST(coalesce(sum(max_ordinal - min_ordinal + 1), 0) AS bigint) \
         FROM causeway_import_chunk WHERE model LIKE $1) AS covered FROM causeway_import",
    );
    let row = db.fetch_optional(chunks.with(model)).await.expect("it answers").expect("an import");
    db.close().await;
    (row.text("state").expect("a state"), row.int("covered").expect("a sum"))
}

/// The stream of a service's health, and its client.
pub(crate) async fn health(
    url: &str,
) -> (HealthClient<Channel>, tonic::Streaming<tonic_health::pb::HealthCheckResponse>) {
    let channel = Channel::from_shared(url.to_owned()).expect("a URL").connect().await.expect("it listens");
    let mut client = HealthClient::new(channel);
    let stream = client.watch(HealthCheckRequest::default()).await.expect("it answers").into_inner();
    (client, stream)
}

pub(crate) async fn reported(
    stream: &mut tonic::Streaming<tonic_health::pb::HealthCheckResponse>,
) -> Option<ServingStatus> {
    let message = timeout(PATIENCE, stream.message()).await.expect("something is told");
    message.expect("it is not broken").map(|message| message.status())
}

/// Watches an import until the stream ends. Returns the last state received, the reason for the end, and its time.
pub(crate) async fn watch(cluster: &Cluster, id: &str) -> JoinHandle<(Import, Status, Instant)> {
    let mut stream = cluster.region(0).watch(id).await.expect("it is there");
    tokio::spawn(async move {
        let mut last = Import::default();
        loop {
            match stream.message().await {
                Ok(Some(message)) => last = message.import.expect("an import"),
                Ok(None) => panic!("it ends with a reason: {last:?}"),
                Err(status) => return (last, status, Instant::now()),
            }
        }
    })
}

/// Stops a region in the middle of a chunk. On PostgreSQL it is a chunk of projects; on SQLite, which has one writer,
/// it is whichever chunk comes next.
pub(crate) struct Hold {
    db: Db,
    tx: Option<Tx>,
}

impl Hold {
    pub(crate) async fn projects(cluster: &Cluster, store: Store) -> Self {
        let db = cluster.db(Silo::Region(0)).await.expect("a database");
        if store == Store::Sqlite {
            return Self { db, tx: None };
        }
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(Statement::new("LOCK TABLE sentry_project IN SHARE MODE"))
            .await
            .expect("nobody writes it");
        Self { db, tx: Some(tx) }
    }

    /// Waits until the region has reached that chunk. On SQLite, stops the region here.
    pub(crate) async fn reached(&mut self) {
        if self.tx.is_none() {
            self.tx = Some(self.db.begin().await.expect("the region lets others write now and then"));
            return;
        }
        eventually("a chunk is in hand", async || {
            let waiting = Statement::new("SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND relation = 'sentry_project'::regclass");
            let row = self.db.fetch_optional(waiting).await.expect("it answers").expect("a row");
            row.int("n").expect("a number") > 0
        })
        .await;
    }

    pub(crate) async fn let_go(self) {
        if let Some(tx) = self.tx {
            tx.commit().await.expect("it is let go");
        }
        self.db.close().await;
    }
}
