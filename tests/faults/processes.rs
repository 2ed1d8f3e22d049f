//! The steps again with real processes, which end at a failpoint at once and without a message.

use std::sync::Arc;

use anyhow::ensure;
use causeway_harness::cluster::{Act, CallFaults, DatabaseServer, Failpoints, Store};

use crate::steps::{self, Steps};

const PROGRAM: &str = env!("CARGO_BIN_EXE_causeway");

async fn every_death(store: Store) -> anyhow::Result<()> {
    let database_server = Arc::new(DatabaseServer::new(store).await?);
    let nothing = Failpoints::default();
    let as_it_is = steps::undisturbed(&database_server, Steps::All).await?;
    let processes =
        steps::run(&database_server, Some(PROGRAM), Steps::All, 3, &nothing, CallFaults::default()).await;
    steps::compare("processes that live", processes, &as_it_is)?;
    steps::all_pass(Steps::All.failpoints().map(async |place| {
        let failpoints = Failpoints::default();
        failpoints.arm(place, Act::Kill, 0);
        let run =
            steps::run(&database_server, Some(PROGRAM), Steps::All, 3, &failpoints, CallFaults::default())
                .await;
        steps::compare(&format!("a process that died at {place}"), run, &as_it_is)?;
        // The reviver disarms the failpoint when it starts the dead service again.
        ensure!(!failpoints.is_armed(), "no process died at {place}");
        Ok(())
    }))
    .await
    .map(|_: Vec<()>| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_at_a_step_does_it_once_in_the_end() {
    every_death(Store::Sqlite).await.unwrap_or_else(|error| panic!("{error:#}"));
}
