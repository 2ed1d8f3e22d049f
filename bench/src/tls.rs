//! `tls`: how fast control resolves slugs over mutual TLS with identities, compared with plaintext: the same program on
//! the same database, in turns.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use causeway_client::{Client, ClientTls, Timeouts};
use causeway_harness::pki::{Pki, TRUST_DOMAIN};
use causeway_proto::relocation::v1::{GetVersionRequest, version_service_client::VersionServiceClient};
use causeway_silo::env::Environment;
use causeway_tls::Role;
use serde_json::json;
use tonic::transport::Channel;

use crate::{
    report::{Report, median, percentile},
    resolve::{CONNECTIONS, IN_FLIGHT, Kind, Options, load, prepare},
    rig::{Rig, Store},
};

const COLUMNS: &[&str] = &["ResolveSlug of control", "calls/s", "p50", "p99", "p99.9", "ratio"];
/// How long the control with TLS may take to serve.
const START_WITHIN: Duration = Duration::from_secs(30);

/// A control with TLS. Dropping it kills it.
struct Control {
    child: Child,
    url: String,
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Control {
    async fn start(
        causeway: &Path,
        database_url: &str,
        pki: &Pki,
        caller: &Arc<ClientTls>,
    ) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let pair = pki.pair(Role::Control, "main")?;
        let mut command = Command::new(causeway);
        command.args(["control", "--listen", &format!("127.0.0.1:{port}"), "--database-url", database_url]);
        command.arg("--tls-cert").arg(&pair.cert).arg("--tls-key").arg(&pair.key);
        command.arg("--tls-client-ca").arg(pki.ca()).args(["--trust-domain", TRUST_DOMAIN]);
        // What is measured is not to be limited.
        command.args(["--max-call-rate", "10000000"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let control = Self { child, url: format!("https://127.0.0.1:{port}") };
        let began = Instant::now();
        while version(&control.client(caller)?).await.is_err() {
            ensure!(began.elapsed() < START_WITHIN, "the control with TLS does not serve");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(control)
    }

    fn client(&self, caller: &Arc<ClientTls>) -> anyhow::Result<Channel> {
        let (service, urls) = (causeway_client::Service::Control, [self.url.clone()]);
        let client = Client::with_tls(service, &urls, Timeouts::default(), Some(Arc::clone(caller)))?;
        Ok(client.channel())
    }
}

async fn version(channel: &Channel) -> anyhow::Result<()> {
    VersionServiceClient::new(channel.clone()).get_version(GetVersionRequest::default()).await?;
    Ok(())
}

/// Measures, and returns the results.
///
/// # Errors
/// If a call fails.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    let rig = Rig::start(Store::Postgres, &options.causeway).await?;
    let database = rig.named("empty").control;
    prepare(&database, options).await?;
    let pki = Pki::new(Environment::system())?;
    let caller = pki.client(Some(pki.pair(Role::Router, "bench")?))?;
    let plain = rig.control(&database).await?;
    let secure = Control::start(&options.causeway, &database, &pki, &caller).await?;
    let plain_urls = [plain.url()];
    let mut channels = [Vec::new(), Vec::new()];
    for _ in 0..CONNECTIONS {
        let client = Client::new(causeway_client::Service::Control, &plain_urls, Timeouts::default())?;
        channels[0].push(client.channel());
        channels[1].push(secure.client(&caller)?);
    }
    let (mut rates, mut times) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..=options.rounds {
        for (index, channels) in channels.iter().enumerate() {
            let (calls, took, mut measured) = load(channels, Kind::Resolve, options).await?;
            // The first round warms up.
            if round > 0 {
                rates[index].push(calls / took);
                times[index].append(&mut measured);
            }
        }
    }
    drop(secure);
    plain.stop()?;

    let mut report = Report::new("Resolving over TLS", COLUMNS);
    let first = median(rates[0].clone());
    let names = ["plaintext", "mutual TLS, identities and rules"];
    for ((name, rates), mut times) in names.into_iter().zip(rates).zip(times) {
        times.sort_by(f64::total_cmp);
        let rate = median(rates);
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| percentile(&times, percent));
        let milliseconds = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        report.add(
            vec![
                name.to_owned(),
                format!("{rate:.0}"),
                milliseconds(p50),
                milliseconds(p99),
                milliseconds(p999),
                format!("{:.2}", rate / first),
            ],
            json!({
                "over": name, "calls_per_second": rate, "p50_seconds": p50, "p99_seconds": p99,
                "p999_seconds": p999, "ratio": rate / first,
            }),
        );
    }
    report.note(format!(
        "{} slugs on PostgreSQL; {CONNECTIONS} connections with {IN_FLIGHT} calls in flight on each, from another process; \
         medians of {} rounds, in turns.",
        options.slugs, options.rounds
    ));
    Ok(report)
}
