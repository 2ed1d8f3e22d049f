//! A region whose disk is full while it spools an upload. The disk is small for that region alone: by a limit on the
//! size of files, which every user may set, and by a file system of 4 MiB, where the test may mount one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use causeway_client::{Client, Service, Timeouts};
use causeway_harness::{
    cluster::{Cluster, Store},
    postgres::Postgres,
    process::{self, Process},
};
use causeway_proto::{
    region::v1::{GetImportRequest, ImportState},
    relocation::v1::ErrorReason,
};
use causeway_silo::env::Environment;
use tempfile::TempDir;

use crate::{ends, not_possible_here, send};

/// The limit on the size of files, in bytes. The region's own files stay smaller, because its database is almost empty.
const LIMIT: usize = 16 << 20;
/// The size of the small file system, in bytes.
const MOUNTED: usize = 4 << 20;

/// How the test makes the disk small. `$1` is the spool directory; the arguments after it are the region's command.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Files may have only so many blocks of 512 bytes. A write beyond that is an error, because the signal is ignored.
    FileSize,
    /// The spool directory is a small file system in memory.
    Mount,
}

impl Way {
    fn command(self) -> Command {
        let (shell, script) = match self {
            Self::FileSize => {
                (vec!["sh", "-c"], r#"trap '' XFSZ; ulimit -f 32768 || exit 7; shift; exec "$@""#)
            }
            // In a namespace of its own, so that nothing of it remains.
            Self::Mount => (
                vec!["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"],
                r#"mkdir -p "$1" && mount -t tmpfs -o size=4m causeway-test "$1" || exit 7; shift; exec "$@""#,
            ),
        };
        let mut command = process::command(shell[0]);
        command.args(&shell[1..]).args([script, "sh"]);
        command
    }

    /// A size in bytes that does not fit.
    fn too_many(self) -> usize {
        match self {
            Self::FileSize => LIMIT + (1 << 20),
            Self::Mount => MOUNTED + (1 << 20),
        }
    }

    fn advice(self) -> &'static str {
        match self {
            Self::FileSize => "may not write a file of this size",
            Self::Mount => "spool directory is full",
        }
    }

    /// Whether this machine supports it.
    fn works(self, directory: &Path) -> bool {
        let status = self.command().arg(directory.join("try")).arg("true").status();
        status.is_ok_and(|status| status.success())
    }
}

/// A region as a process that ends when the test does.
struct Region {
    process: Process,
    spool: PathBuf,
}

impl Region {
    /// Starts the region, and waits until it serves.
    async fn start(way: Way, directory: &Path, database_url: &str, control: &str) -> (Self, Client) {
        let spool = directory.join("spool");
        let mut command = way.command();
        command
            .arg(&spool)
            .arg(env!("CARGO_BIN_EXE_causeway"))
            .args(["region", "--name", "us", "--listen", "127.0.0.1:0", "--control", control])
            .args(["--database-url", database_url, "--spool-dir"])
            .arg(&spool);
        let mut process = Process::start(command).expect("it runs");
        let url = process.served_at().expect("it serves");
        (
            Self { process, spool },
            Client::connect(Service::Region, &url, Timeouts::default()).await.expect("it listens"),
        )
    }

    /// The names of the uploads in its spool directory, as the process sees it.
    fn spooled(&self) -> Vec<String> {
        let root = PathBuf::from(format!("/proc/{}/root", self.process.id()));
        let spool = if root.exists() {
            root.join(self.spool.strip_prefix("/").expect("it is absolute"))
        } else {
            self.spool.clone()
        };
        let names = fs::read_dir(spool).expect("it is there");
        let names = names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".part") || name.ends_with(".json")).collect()
    }
}

async fn a_full_disk_is_an_error_of_that_upload_alone(store: Store) {
    for way in [Way::FileSize, Way::Mount] {
        let directory = TempDir::new().expect("a directory");
        if !way.works(directory.path()) {
            not_possible_here(&way);
            continue;
        }
        let cluster = Cluster::start(store, &[]).await.expect("a control");
        let postgres = match store {
            Store::Sqlite => None,
            Store::Postgres => Some(Postgres::start().await.expect("PostgreSQL")),
        };
        let url = match &postgres {
            Some(postgres) => postgres.create_database("us").await.expect("a database"),
            None => format!("sqlite:{}", directory.path().join("us.db").display()),
        };
        let (served, region) = Region::start(way, directory.path(), &url, &cluster.control_url()).await;
        let env = Environment::system();
        let [big, before, small, after] = [(); 4].map(|()| env.uuid().to_string());

        send(&region, &before, 1_000).await.expect("there is room");
        assert_eq!(ends(&region, &before).await, ImportState::Succeeded, "{way:?}");
        let (refused, other) =
            tokio::join!(send(&region, &big, way.too_many()), send(&region, &small, 1_000));
        let error = refused.expect_err("there is no room");
        assert_eq!(error.reason(), Some(ErrorReason::SpoolFailed), "{way:?}: {error}");
        assert!(error.to_string().contains(way.advice()), "{way:?}: {error}");
        other.unwrap_or_else(|error| panic!("{way:?}: it was sent in parallel: {error}"));
        assert_eq!(ends(&region, &small).await, ImportState::Succeeded, "{way:?}");

        // Nothing of the upload remains: neither a file nor an import, and its id may be used again.
        // The file of an import that has succeeded goes soon after.
        let gone = async {
            while !served.spooled().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
        gone.unwrap_or_else(|_| panic!("{way:?}: {:?} stays", served.spooled()));
        let request = GetImportRequest { import_id: big.clone() };
        let asked = region.answer(region.imports().get_import(request)).await;
        assert_eq!(asked.expect_err("there is none").reason(), Some(ErrorReason::ImportNotFound), "{way:?}");
        send(&region, &big, 1_000).await.expect("there is room");
        send(&region, &after, 1_000).await.expect("there is room");
        for id in [&big, &after] {
            assert_eq!(ends(&region, id).await, ImportState::Succeeded, "{way:?}");
        }
        let log = served.process.kill().expect("it runs");
        assert!(log.contains("an upload cannot be spooled"), "{way:?}: {log}");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_error_of_that_upload_alone_on_sqlite() {
    a_full_disk_is_an_error_of_that_upload_alone(Store::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_error_of_that_upload_alone_on_postgres() {
    a_full_disk_is_an_error_of_that_upload_alone(Store::Postgres).await;
}
