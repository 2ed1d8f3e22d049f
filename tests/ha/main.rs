//! Control and a region on a highly available PostgreSQL whose primary is killed, cut off, stopped for a while and
//! switched over, again and again, while 64 callers reserve, rename and resolve. `.ci/ha` starts the servers
//! (`deploy/ha/ha`) and this test.

#![expect(clippy::expect_used, clippy::panic, reason = "a behaviour that is not there ends its test")]

mod callers;
mod faults;
mod record;

use std::{env, fs, path::PathBuf, sync::Arc, time::Instant};

use causeway_harness::{
    cluster::{Cluster, DatabaseServer, ImportOptions, Store},
    export::Export,
};
use causeway_proto::region::v1::ImportState;

use self::{
    callers::Callers,
    faults::{Fault, Servers},
    record::{PATIENCE, Record},
};

const CALLERS: usize = 64;

/// A URL of the file `env` that `deploy/ha/ha` writes.
fn url(directory: &std::path::Path, name: &str) -> String {
    let file = fs::read_to_string(directory.join("env")).expect("the file env of deploy/ha/ha");
    let line = file.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='")?.strip_suffix('\''));
    line.expect("its URL").to_owned()
}

fn export(slug: &str) -> Vec<u8> {
    let mut export = Export::new();
    export.organization(1, slug).user(1, "ann").member(1, 1, 1).project(1, 1, "website");
    export.to_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the servers that .ci/ha starts, and takes a quarter of an hour"]
async fn nothing_that_was_answered_is_lost_when_the_primary_is() {
    let directory = PathBuf::from(env::var_os("CAUSEWAY_HA_DIRECTORY").expect("CAUSEWAY_HA_DIRECTORY"));
    let rounds = env::var("CAUSEWAY_HA_ROUNDS").map_or(20, |rounds| rounds.parse().expect("a number"));
    let (proxy, hosts) = (url(&directory, "HA_PROXY_URL"), url(&directory, "HA_HOSTS_URL"));
    // The first control and the region know all hosts, and the second control knows the proxy.
    let server = DatabaseServer::elsewhere(&proxy.replace("{}", "postgres"), &[hosts, proxy.clone()]);
    let cluster = Cluster::builder(Store::Postgres)
        .on(&Arc::new(server.expect("a server")))
        .controls(2)
        .region("us")
        .start()
        .await
        .expect("it starts");
    let cluster = Arc::new(cluster);
    let servers = Servers::new(directory);
    let record = Arc::new(Record::default());
    let callers = Callers::start(&cluster, &record, CALLERS).await;
    let region = cluster.region(0);

    println!("what happened to the primary, and how long nobody was answered");
    for round in 0..rounds {
        let fault = Fault::ALL[round % Fault::ALL.len()];
        let primary = servers.settled().await;
        let began = Instant::now();
        record.begin_round();
        servers.do_harm(fault, &primary).await;
        let successor = servers.another_primary(&primary).await;
        // Under load, and while an import goes on, the old primary comes back.
        let import = format!("imported-{round}");
        let id = loop {
            match region.begin(&export(&import), &ImportOptions::default()).await {
                Ok(begun) => break begun.import.expect("an import").import_id,
                Err(status) => record.failed("ImportOrganizations", &status),
            }
            assert!(began.elapsed() < PATIENCE, "the import is not taken within {PATIENCE:?}");
        };
        record.answered_since(began).await;
        servers.heal(fault, &primary).await;
        servers.settled().await;
        let healed = Instant::now();
        let state = loop {
            match region.wait(&id).await {
                Ok(import) => break import.state(),
                Err(status) => record.failed("WatchImport", &status),
            }
            assert!(healed.elapsed() < PATIENCE, "the import has not ended within {PATIENCE:?}");
        };
        assert_eq!(state, ImportState::Succeeded, "round {round}: {import}");
        callers.check().await;
        println!(
            "{round:5} {:10} | {} ({primary} to {successor}, {:.1} s in all)",
            fault.name(),
            record.round(),
            began.elapsed().as_secs_f64()
        );
    }

    callers.stop().await;
    println!("{}", record.all());
    record.check(&cluster).await;
    record.release(&cluster).await;
    cluster.quiet(PATIENCE).await.expect("it is quiet");
    cluster.assert_invariants().await.expect("no promise is broken");
    let visible = region.visible_organizations().await.expect("it answers");
    assert_eq!(visible.len(), rounds, "each import was made once");
    let Some(cluster) = Arc::into_inner(cluster) else { panic!("somebody still has the cluster") };
    cluster.stop().await;
}
