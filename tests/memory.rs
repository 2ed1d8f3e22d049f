//! Measures how much memory a region takes for an import. The region is a process of its own, so that the kernel's
//! figures are about the region alone.

#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "all of this is test code, the helpers too")]

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use causeway_bench::{
    generate::{Export, Extent},
    machine,
};
use causeway_client::{Client, ExportFile, Service, Timeouts, Watch, WatchEvent};
use causeway_harness::{
    cluster::{Cluster, Store},
    postgres::Postgres,
    process::{self, Process},
};
use causeway_proto::region::v1::{Import, ImportHeader, ImportState};
use causeway_silo::env::Environment;
use tempfile::TempDir;

/// The size of the export in bytes: large enough that every model with many records has many chunks.
const SIZE: u64 = 16_000_000;
/// The most memory in KiB that a dry run and an import of that size may take beyond the region's initial
/// memory. They take 18 to 28 MiB. Prepared statements of 500 rows, which each connection stored, once needed
/// 11 MiB more.
const BEYOND_IDLE: u64 = 32 << 10;

/// Starts a region, and waits until it serves.
async fn start(directory: &Path, database_url: &str, control: &str) -> (Process, Client) {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command
        // With several arenas, the amount of memory that threads have freed differs from run to run.
        .env("_RJEM_MALLOC_CONF", "narenas:1")
        .args(["region", "--name", "us", "--listen", "127.0.0.1:0", "--control", control])
        .args(["--database-url", database_url, "--spool-dir"])
        .arg(directory.join("spool"));
    let mut region = Process::start(command).expect("it runs");
    let url = region.served_at().expect("it serves");
    (region, Client::connect(Service::Region, &url, Timeouts::default()).await.expect("it listens"))
}

fn memory(region: &Process) -> machine::Memory {
    machine::memory(region.id()).expect("it runs")
}

async fn import(region: &Client, file: &ExportFile, dry_run: bool) -> Import {
    let id = Environment::system().uuid().to_string();
    let header = ImportHeader { import_id: id.clone(), dry_run, ..ImportHeader::default() };
    file.upload(region, &header, &Arc::new(AtomicU64::new(0))).await.expect("it is taken");
    let mut watch = Watch::new(region.clone(), id);
    loop {
        match watch.next().await.expect("the watch goes on") {
            WatchEvent::Changed(import) if import.state().is_final() => return *import,
            _ => {}
        }
    }
}

async fn an_import_takes_little_memory(store: Store) {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("export.json");
    let mut out = BufWriter::new(File::create(&path).expect("a file"));
    let written = Export::new(1, Extent::Bytes(SIZE)).write(&mut out).expect("there is room");
    out.flush().expect("there is room");
    let file = ExportFile::read(&path).await.expect("it was written");

    let cluster = Cluster::start(store, &[]).await.expect("a control");
    let postgres = match store {
        Store::Sqlite => None,
        Store::Postgres => Some(Postgres::start().await.expect("PostgreSQL")),
    };
    let url = match &postgres {
        Some(postgres) => postgres.create_database("us").await.expect("a database"),
        None => format!("sqlite:{}", directory.path().join("us.db").display()),
    };
    let (region, peer) = start(directory.path(), &url, &cluster.control_url()).await;
    let idle = memory(&region).resident;
    for (dry_run, end) in [(true, ImportState::Planned), (false, ImportState::Succeeded)] {
        let imported = import(&peer, &file, dry_run).await;
        assert_eq!(imported.state(), end, "{:?}", imported.failure);
        let beyond = memory(&region).peak - idle;
        assert!(
            beyond <= BEYOND_IDLE,
            "{store:?}, dry run {dry_run}: {} bytes and {} records took {beyond} KiB beyond the {idle} before",
            written.bytes,
            written.records
        );
    }
    drop(region);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_takes_little_memory_on_sqlite() {
    an_import_takes_little_memory(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_takes_little_memory_on_postgres() {
    an_import_takes_little_memory(Store::Postgres).await;
}
