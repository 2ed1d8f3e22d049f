//! A control that speaks TLS, and what a caller learns from it.

use std::{path::Path, sync::Arc, time::Duration};

use causeway::serve::{Running, Settings, Tls, serve_control};
use causeway_client::{CallError, Client, ClientTls, Service, Timeouts};
use causeway_harness::{
    cluster::{Cluster, Store},
    pki::Pki,
};
use causeway_proto::relocation::v1::{GetVersionRequest, version_service_client::VersionServiceClient};
use causeway_silo::{db, env::Environment};
use causeway_tls::Role;
use chrono::{DateTime, Utc};
use tempfile::TempDir;
use tokio::{net::TcpListener, time::Instant};

/// The longest that anything may take. Nothing here takes this long unless it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The time by all clocks of a test. Nothing here depends on when it runs.
pub(crate) fn now() -> DateTime<Utc> {
    "2030-06-15T12:00:00Z".parse().expect("a time")
}

/// A CA at [`now`].
pub(crate) fn pki() -> Pki {
    Pki::new(Environment::fixed(now(), 7)).expect("a CA")
}

/// What a caller with this identity presents.
pub(crate) fn caller(pki: &Pki, role: Role, name: &str) -> Arc<ClientTls> {
    pki.client(Some(pki.pair(role, name).expect("issued"))).expect("it can be used")
}

/// The small export in `examples/acme.json`.
pub(crate) fn example() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.json")).expect("it is there")
}

/// A cluster with two regions, `us` and `eu`, that speak mutual TLS.
pub(crate) async fn two_regions() -> (Arc<Pki>, Cluster) {
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let cluster = Cluster::builder(Store::Sqlite).region("us").region("eu").tls(&pki).start().await;
    (pki, cluster.expect("it starts"))
}

/// The default settings, but with TLS.
pub(crate) fn settings(tls: Tls) -> Settings {
    Settings { tls: Some(tls), ..Settings::default() }
}

/// A control with a database in this directory.
pub(crate) async fn control(directory: &Path, settings: Settings) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let options = causeway_control::Options {
        database_url: format!("sqlite:{}", directory.join("control.db").display()).into(),
        database: db::Options::default(),
        address: "https://control.example".to_owned(),
        accept_regions: causeway_control::model::region::AcceptRegions::Any,
        feed: causeway_control::feed::Options::default(),
        bulk: causeway_control::slug::bulk_intake::Options::default(),
        replica: None,
        audit: causeway_audit::Options::default(),
    };
    serve_control(listener, options, settings, Environment::system()).await.expect("control starts")
}

/// A control that wants certificates of a CA, and its directory.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) pki: Pki,
    _directory: TempDir,
}

impl Server {
    /// A control with a good certificate.
    pub(crate) async fn start() -> Self {
        let pki = pki();
        let tls = pki.server(pki.pair(Role::Control, "main").expect("issued")).expect("it can be used");
        Self::with(pki, settings(tls)).await
    }

    pub(crate) async fn with(pki: Pki, settings: Settings) -> Self {
        let directory = TempDir::new().expect("a directory");
        Self { running: control(directory.path(), settings).await, pki, _directory: directory }
    }

    /// What a caller with these certificates gets: nothing, or an error.
    pub(crate) async fn asked_with(&self, tls: Arc<ClientTls>) -> Result<(), CallError> {
        ask(&self.running.url(), Some(tls)).await
    }
}

/// Asks a control for its version. Connects first, as commands do.
pub(crate) async fn ask(url: &str, tls: Option<Arc<ClientTls>>) -> Result<(), CallError> {
    let client = Client::connect_with_tls(Service::Control, url, Timeouts::default(), tls).await?;
    version(&client).await
}

/// Asks a control for its version on a connection that is made for the call, as services do.
pub(crate) async fn ask_lazily(url: &str, tls: Option<Arc<ClientTls>>) -> Result<(), CallError> {
    let urls = [url.to_owned()];
    let client = Client::with_tls(Service::Control, &urls, Timeouts::default(), tls).expect("a URL");
    version(&client).await
}

pub(crate) async fn version(client: &Client) -> Result<(), CallError> {
    let request = GetVersionRequest::default();
    let ask = client.call(LIMIT, request, async |channel, request| {
        VersionServiceClient::new(channel).get_version(request).await
    });
    ask.await.map(|_| ())
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what} is not so after {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Checks that a message is one short line that contains all of this.
pub(crate) fn says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(message.lines().count() == 1 && message.len() < 400, "{message}");
    for noise in ["Error", "{", "InvalidCertificate", "transport error", "h2 "] {
        assert!(!message.contains(noise), "{noise:?} is in {message:?}");
    }
}
