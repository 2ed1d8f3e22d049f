//! Scrapes services, and runs the programs of Prometheus.

use std::{
    collections::BTreeMap,
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use causeway_harness::{
    cluster::{Cluster, Service},
    process,
};

/// How long something may take that happens in the background.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A program of Prometheus, from where `.ci/install-prometheus` looks for it too.
pub(crate) fn program(name: &str) -> PathBuf {
    let chosen = env::var_os("CAUSEWAY_PROMETHEUS_BIN").map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let places = match chosen {
        Some(bin) => vec![bin],
        None => env::split_paths(&path).chain([root().join("target/prometheus/usr/bin")]).collect(),
    };
    places.into_iter().map(|bin| bin.join(name)).find(|program| program.is_file()).unwrap_or_else(|| {
        panic!(
            "NO PROMETHEUS TO TEST WITH was found ({name}): run .ci/install-prometheus, or set CAUSEWAY_PROMETHEUS_BIN \
             to the directory of prometheus and promtool"
        )
    })
}

/// Runs promtool, which must succeed.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = process::command(program("promtool"));
    command.args(arguments).current_dir(root());
    let output = with_input(command, input);
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {arguments:?}: {out}{error}");
    format!("{out}{error}")
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(input.as_bytes()).expect("it is written");
    std::io::Seek::rewind(&mut file).expect("it is rewound");
    command.stdin(file).output().expect("it runs")
}

/// Gets a page by HTTP: its status and its body.
pub(crate) fn get(address: SocketAddr, target: &str, accept: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = format!("GET {target} HTTP/1.0\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("headers and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Where the metrics of a service of a cluster of processes are, as soon as its log says it.
pub(crate) async fn metrics_of(cluster: &Cluster, service: Service) -> SocketAddr {
    let looking = async {
        loop {
            let log = cluster.log(service).expect("a log");
            let found = log.lines().rfind(|line| line.contains("metrics can be scraped at"));
            if let Some((_, url)) = found.and_then(|line| line.split_once("http://")) {
                return url.trim().trim_end_matches("/metrics").parse().expect("an address");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it says where")
}

/// What a service shows.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) text: String,
    /// By name and labels, as in the text.
    pub(crate) series: BTreeMap<String, f64>,
}

impl Scrape {
    /// Scrapes a service.
    pub(crate) async fn of(address: SocketAddr) -> Self {
        let scraping = tokio::task::spawn_blocking(move || get(address, "/metrics", OPEN_METRICS));
        let (status, text) = scraping.await.expect("it does not panic");
        assert_eq!(status, 200, "{text}");
        assert!(text.ends_with("# EOF\n"), "it is not complete");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        });
        Self { series: series.collect(), text }
    }

    /// Scrapes a service until it shows what is wanted.
    pub(crate) async fn until(address: SocketAddr, wanted: impl Fn(&Self) -> bool) -> Self {
        let mut last = Self::of(address).await;
        let scraping = async {
            while !wanted(&last) {
                tokio::time::sleep(Duration::from_millis(100)).await;
                last = Self::of(address).await;
            }
        };
        let is_shown = tokio::time::timeout(PATIENCE, scraping).await.is_ok();
        assert!(is_shown, "it does not come:\n{}", last.text);
        last
    }

    /// The value of a series; `None` if there is none.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The names of all families, as Prometheus knows them.
    pub(crate) fn families(&self) -> impl Iterator<Item = String> {
        self.text.lines().filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        })
    }
}
