//! A real Prometheus scrapes both services and evaluates the rules and the dashboard.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Service, Store},
    export::Export,
    process::{self, Process},
};
use causeway_proto::region::v1::ImportState;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    files::dashboard_queries,
    support::{PATIENCE, get, metrics_of, program, promtool, root},
};

/// A Prometheus that runs until this is dropped.
struct Prometheus {
    address: SocketAddr,
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    fn start(control: SocketAddr, region: SocketAddr) -> Self {
        let directory = TempDir::new().expect("a directory");
        let rules = root().join("deploy/prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs:\n\
             - job_name: causeway\n  static_configs:\n  - targets: [\"{control}\", \"{region}\"]\n",
            rules.display()
        );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("it is written");
        let mut command = process::command(program("prometheus"));
        command.arg("--config.file").arg(&file).arg("--storage.tsdb.path").arg(directory.path().join("data"));
        command.arg("--web.listen-address=127.0.0.1:0").current_dir(directory.path());
        let mut process = Process::start(command).expect("it starts");
        let line = process.logged("msg=\"Listening on\"").expect("it listens");
        let address = line.trim().rsplit_once("address=").expect("an address").1.parse().expect("an address");
        let until = Instant::now() + PATIENCE;
        while get(address, "/-/ready", "*/*").0 != 200 {
            assert!(Instant::now() < until, "it is not ready");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self { address, _process: process, _directory: directory }
    }

    /// What its API answers.
    fn api(&self, target: &str) -> Value {
        let (_, body) = get(self.address, &format!("/api/v1/{target}"), "application/json");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(answer["status"], "success", "{target}: {body}");
        answer["data"].clone()
    }

    /// The values of an expression.
    fn query(&self, expression: &str) -> Vec<f64> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            if byte.is_ascii_alphanumeric() {
                encoded.push(char::from(byte));
            } else {
                write!(encoded, "%{byte:02X}").expect("it is written into memory");
            }
        }
        let found = self.api(&format!("query?query={encoded}"));
        let series = found["result"].as_array().expect("series");
        series.iter().map(|one| one["value"][1].as_str().expect("text").parse().expect("a number")).collect()
    }

    /// The values of an expression, as soon as they are these.
    fn until(&self, expression: &str, values: &[f64]) {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.query(expression);
            if found == values {
                return;
            }
            assert!(Instant::now() < until, "{expression}: {found:?} and not {values:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// What queries of the dashboard have that show nothing while all is well, and why.
const WITHOUT_SERIES: [(&str, &str); 6] = [
    ("causeway_imports_waiting", "no import waits"),
    ("causeway_import_wait_seconds", "no import waits"),
    ("causeway_transaction_retries", "no transaction has lost against another one"),
    ("causeway_certificate_end", "the services of this test have no certificates"),
    ("causeway_region_certificate_end", "neither has the region"),
    ("causeway_throttle_limit", "no limit is set"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_prometheus_scrapes_both_services() {
    let cluster = Cluster::builder(Store::Sqlite)
        .region("us")
        .processes(env!("CARGO_BIN_EXE_causeway"))
        .arguments(&["--metrics-listen=127.0.0.1:0"])
        .start()
        .await
        .expect("a cluster");
    let (control, region) =
        (metrics_of(&cluster, Service::Control(0)).await, metrics_of(&cluster, Service::Region(0)).await);
    let mut export = Export::new();
    export.organization(1, "acme").user(1, "ada").member(1, 1, 1).team(1, 1, "engineers");
    let imported = cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await;
    assert_eq!(imported.expect("it is imported").state(), ImportState::Succeeded);
    // A call that fails, for the panel about these.
    let absent = cluster.region(0).watch("5d7e8f10-2b3c-4d5e-8f90-a1b2c3d4e5f7").await;
    absent.expect_err("there is no such import");
    let checking = tokio::task::spawn_blocking(move || check(control, region));
    checking.await.expect("all of it is there");
    cluster.stop().await;
}

fn check(control: SocketAddr, region: SocketAddr) {
    let prometheus = Prometheus::start(control, region);
    prometheus.until("sum(up)", &[2.0]);
    prometheus.until("count by (service) (causeway_build_info)", &[1.0, 1.0]);
    prometheus.until("causeway_imports{state=\"succeeded\"}", &[1.0]);
    prometheus.until("sum(causeway_import_records_total{outcome=\"inserted\"}) >= bool 4", &[1.0]);
    prometheus.until("causeway_slug_reservations{kind=\"primary\"}", &[1.0]);
    prometheus.until("causeway_feed_lag_changes{region=\"us\"}", &[0.0]);
    prometheus.until(
        "histogram_quantile(1, sum by (le) (causeway_chunk_duration_seconds_bucket)) < bool 60",
        &[1.0],
    );
    prometheus.until("sum(causeway_calls_total{rpc=~\".*/ImportOrganizations\",code=\"OK\"})", &[1.0]);

    // Prometheus takes both forms, and has nothing to say about names and helps.
    for address in [control, region] {
        let (status, text) = get(address, "/metrics", "*/*");
        assert_eq!(status, 200);
        promtool(&["check", "metrics"], &text);
    }

    let queries = dashboard_queries();
    assert!(queries.len() > 20, "{queries:?}");
    for (words, why) in WITHOUT_SERIES {
        assert!(queries.iter().any(|query| query.contains(words)), "no query needs {words}: {why}");
    }
    let (excepted, shown): (Vec<_>, Vec<_>) =
        queries.iter().partition(|query| WITHOUT_SERIES.iter().any(|(words, _)| query.contains(words)));
    let until = Instant::now() + PATIENCE;
    let mut empty = shown;
    while !empty.is_empty() {
        // A rate needs two scrapes.
        empty.retain(|query| prometheus.query(query).is_empty());
        assert!(empty.is_empty() || Instant::now() < until, "panels without anything: {empty:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    for query in excepted {
        prometheus.query(query);
    }

    // All rules are evaluated without an error, and nothing is wrong here.
    let until = Instant::now() + PATIENCE;
    let rules: Vec<Value> = loop {
        let groups = prometheus.api("rules")["groups"].as_array().expect("groups").clone();
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone()).collect();
        if rules.iter().all(|rule| rule["health"] != "unknown") {
            break rules;
        }
        assert!(Instant::now() < until, "{rules:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(rules.len() > 10, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "{rule}");
    }
}
