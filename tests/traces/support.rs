//! A cluster of processes with a collector, and commands that send their traces to it.

use std::{path::Path, process::Output, time::Duration};

use causeway_harness::{
    cluster::{Cluster, Failpoints, Service, Store},
    process,
};
use tokio::process::Command;

/// The longest that anything may take. Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const REGION: Service = Service::Region(0);
/// The id of the import of a test.
pub(crate) const ID: &str = "5d7e8f10-2b3c-4d5e-8f90-a1b2c3d4e5f7";

/// A control and a region as processes that send their traces to `collector`.
pub(crate) async fn cluster(store: Store, collector: &str, failpoints: &Failpoints) -> Cluster {
    let processes = Cluster::builder(store).region("us").processes(env!("CARGO_BIN_EXE_causeway"));
    let processes = processes.arguments(&[collector, "--shutdown-drain=0s"]).failpoints(failpoints);
    processes.start().await.expect("a cluster; on PostgreSQL this test needs one installed")
}

pub(crate) fn example() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.json").display().to_string()
}

/// Imports the example into the region, with these arguments besides.
pub(crate) async fn import(region: &str, arguments: &[&str]) -> Output {
    let line = ["import", "organizations", &example(), "--import-id", ID, "--region", region];
    run(&[&line, arguments].concat()).await
}

pub(crate) async fn run(arguments: &[&str]) -> Output {
    run_with(&[], arguments).await
}

/// Runs the command with these variables in its environment.
pub(crate) async fn run_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::from(process::command(env!("CARGO_BIN_EXE_causeway")));
    // Variables of OpenTelemetry change nothing: no header, no compression, no sampling, no other name.
    for (name, value) in [
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_SERVICE_NAME", "other"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
    ] {
        command.env(name, value);
    }
    command.envs(variables.iter().copied()).args(arguments).kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until `is_so` returns true.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| unreachable!("timed out while waiting for: {what}"));
}
