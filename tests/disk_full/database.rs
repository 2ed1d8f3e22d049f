//! The disk of a database is full, or the database is read-only, for a while: that of control, or that of a region.
//! Imports wait meanwhile and report what they wait for, health is NOT_SERVING, and everything continues by itself as
//! soon as it can.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use causeway_client::{Client, Service, Timeouts};
use causeway_harness::{
    postgres::Postgres,
    process::{self, Process},
};
use causeway_proto::{
    failure::reason_of,
    region::v1::{Import, ImportState, WatchImportRequest},
    relocation::v1::ErrorReason,
};
use causeway_silo::env::Environment;
use serde_json::json;
use tempfile::TempDir;
use tonic::{Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use crate::{ends, not_possible_here, send_parts};

/// The size of the small file systems: enough for a service's tables and an import, and hardly more.
const SIZE: &str = "64m";

/// Why a database accepts no more writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// SQLite on a file system in memory that only its service sees. The test fills it up.
    SqliteDisk,
    /// SQLite in a service that may not write to files any more. SQLite sees an unspecific disk error.
    SqliteLimit,
    /// PostgreSQL with a tablespace on a file system in memory. The test fills it up.
    PostgresDisk,
    /// PostgreSQL that is read-only, like a server that has become a standby.
    PostgresReadOnly,
}

impl Way {
    fn reason(self) -> ErrorReason {
        match self {
            Self::SqliteDisk | Self::PostgresDisk => ErrorReason::DatabaseFull,
            Self::SqliteLimit | Self::PostgresReadOnly => ErrorReason::DatabaseUnavailable,
        }
    }

    /// A part of the advice that a waiting import gives.
    fn advice(self) -> &'static str {
        match self {
            Self::SqliteDisk | Self::PostgresDisk => "make room there",
            Self::SqliteLimit => "disk I/O error",
            Self::PostgresReadOnly => "make it writable",
        }
    }
}

/// A database, and the disk or the server that it is on.
struct DatabaseServer {
    way: Way,
    url: String,
    /// The directory where the small file system is mounted.
    directory: TempDir,
    postgres: Option<Postgres>,
    _mounted: Option<Mounted>,
}

/// A file system in memory that every process sees. It is unmounted when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(directory: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={SIZE}"))
            .arg("causeway-test")
            .arg(directory)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(directory.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone_with_the_machine = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The command line of a service, on a disk of its own if the way needs one.
fn command(way: Way, directory: &Path) -> Command {
    let script = match way {
        Way::SqliteDisk => {
            // In a namespace of its own, so that nothing of it remains.
            let mut command = process::command("unshare");
            command.args(["--user", "--map-root-user", "--mount", "sh", "-c"]);
            command.arg(format!(
                r#"mount -t tmpfs -o size={SIZE} causeway-test "$1" || exit 7; shift; exec "$@""#
            ));
            command.arg("sh").arg(directory);
            return command;
        }
        // With the signal ignored, a write beyond the limit is an error instead of the end of the process.
        _ => r#"trap '' XFSZ; exec "$@""#,
    };
    let mut command = process::command("sh");
    command.args(["-c", script, "sh"]);
    command
}

impl DatabaseServer {
    /// Sets the database up. Returns `None` if this machine does not support the way and that is to be passed over.
    async fn new(way: Way) -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        // The PostgreSQL server may run under another account.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
        let path = directory.path().to_owned();
        let mut mounted = None;
        let works = match way {
            Way::SqliteDisk => {
                let tried = command(way, &path).arg("true").stderr(Stdio::null()).status();
                tried.is_ok_and(|status| status.success())
            }
            Way::SqliteLimit => {
                Command::new("prlimit").arg("--version").stdout(Stdio::null()).status().is_ok()
            }
            Way::PostgresDisk => {
                mounted = Mounted::at(&path);
                mounted.is_some()
            }
            Way::PostgresReadOnly => true,
        };
        if !works {
            not_possible_here(&way);
            return None;
        }
        let postgres = match way {
            Way::SqliteDisk | Way::SqliteLimit => None,
            _ => Some(Postgres::start().await.expect("PostgreSQL")),
        };
        let url = match (&postgres, way) {
            (None, _) => format!("sqlite:{}", path.join("x.db").display()),
            (Some(postgres), Way::PostgresDisk) => {
                postgres.create_database_in("small", &path).await.expect("a database")
            }
            (Some(postgres), _) => postgres.create_database("small").await.expect("a database"),
        };
        Some(Self { way, url, directory, postgres, _mounted: mounted })
    }

    /// Starts a service with this database.
    fn serve(&self, arguments: &[&str]) -> (Process, String) {
        let mut command = command(self.way, self.directory.path());
        command.arg(env!("CARGO_BIN_EXE_causeway")).args(arguments).args([
            "--listen",
            "127.0.0.1:0",
            "--health-interval",
            "50ms",
            "--database-url",
            &self.url,
        ]);
        let mut process = Process::start(command).expect("it runs");
        let url = process.served_at().expect("it serves");
        (process, url)
    }

    /// The path under which the test sees the directory as the service sees it.
    fn seen_by(&self, service: &Process) -> PathBuf {
        let own = self.directory.path();
        match self.way {
            Way::SqliteDisk => {
                let root = PathBuf::from(format!("/proc/{}/root", service.id()));
                root.join(own.strip_prefix("/").expect("it is absolute"))
            }
            _ => own.to_owned(),
        }
    }

    fn ballast(&self, service: &Process) -> PathBuf {
        self.seen_by(service).join("ballast")
    }

    /// Makes the database refuse further writes.
    async fn fill(&self, service: &Process) {
        match (self.way, &self.postgres) {
            (Way::SqliteLimit, _) => limit(service, "0:"),
            (Way::PostgresReadOnly, Some(postgres)) => {
                postgres.set_read_only(true).await.expect("it is reported");
            }
            _ => {
                let mut ballast = File::create(self.ballast(service)).expect("it can be made");
                for size in [1 << 20, 4096, 1] {
                    let block = vec![b'x'; size];
                    let full = loop {
                        match ballast.write(&block) {
                            Ok(0) => break io::ErrorKind::StorageFull,
                            Ok(_) => {}
                            Err(error) => break error.kind(),
                        }
                    };
                    assert_eq!(full, io::ErrorKind::StorageFull);
                }
            }
        }
    }

    /// Makes the database accept writes again.
    async fn free(&self, service: &Process) {
        match (self.way, &self.postgres) {
            (Way::SqliteLimit, _) => limit(service, "unlimited:"),
            (Way::PostgresReadOnly, Some(postgres)) => {
                postgres.set_read_only(false).await.expect("it is reported");
            }
            _ => fs::remove_file(self.ballast(service)).expect("it is there"),
        }
    }
}

/// Sets the greatest size of files that a service may write.
fn limit(service: &Process, limit: &str) {
    let set = Command::new("prlimit")
        .args(["--pid", &service.id().to_string(), &format!("--fsize={limit}")])
        .status();
    assert!(set.expect("it can be run").success());
}

/// The health of a service from now on, as a stream.
async fn health(url: &str) -> Streaming<HealthCheckResponse> {
    let channel = Channel::from_shared(url.to_owned()).expect("a URL").connect().await.expect("it listens");
    HealthClient::new(channel).watch(HealthCheckRequest::default()).await.expect("it answers").into_inner()
}

async fn becomes(health: &mut Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    while let Some(now) = health.message().await.expect("the watch does not break") {
        if now.status() == wanted {
            return;
        }
    }
    panic!("it has ended, and was not {wanted:?}");
}

/// Waits until an import reports that it waits for this reason.
async fn waits(region: &Client, id: &str, reason: ErrorReason) -> Import {
    let request = WatchImportRequest { import_id: id.to_owned() };
    let mut watch = region.answer(region.imports().watch_import(request)).await.expect("it is there");
    while let Some(message) = watch.message().await.expect("the watch does not break") {
        let import = message.import.unwrap_or_default();
        if import.waiting.as_ref().is_some_and(|waiting| waiting.reason() == reason) {
            return import;
        }
    }
    panic!("it has ended, and did not wait for {reason:?}");
}

/// An export with more than a mebibyte of rows for each silo.
fn export() -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let organizations = (1..=20).map(|pk| {
        let fields = json!({"name": format!("name {pk}"), "slug": format!("slug-{pk}")});
        json!({"model": "sentry.organization", "pk": pk, "fields": fields})
    });
    let options = (1..=300).map(|pk| {
        let fields =
            json!({"organization": pk % 20 + 1, "key": format!("key-{pk}"), "value": "v".repeat(10_000)});
        json!({"model": "sentry.organizationoption", "pk": pk, "fields": fields})
    });
    let users = (1..=300).map(|pk| {
        let fields = json!({
            "username": format!("user-{pk}"), "email": format!("user-{pk}@example.com"), "name": "n".repeat(190),
            "password": "", "is_active": true
        });
        json!({"model": "sentry.user", "pk": pk, "fields": fields})
    });
    let records: Vec<String> =
        organizations.chain(options).chain(users).map(|record| record.to_string()).collect();
    [format!("[{}]", records.join(",\n")).into_bytes()].into_iter()
}

/// Checks that the log reports nothing as a failure, because everything continues by itself.
fn says_that_it_waits(log: &str, way: Way) {
    for line in log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
        assert!(!line.contains("failed") && !line.contains(" ERROR "), "{way:?}: {line}");
    }
    assert!(log.contains("health is NOT_SERVING until it can"), "{way:?}: {log}");
}

async fn a_region_goes_on_when_there_is_room_again(way: Way) {
    let Some(database_server) = DatabaseServer::new(way).await else { return };
    let directory = TempDir::new().expect("a directory");
    let spool = directory.path().join("spool");
    let control_database = format!("sqlite:{}", directory.path().join("control.db").display());
    let control = |listen: &str| {
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        command.args(["control", "--listen", listen, "--database-url", &control_database]);
        let mut control = Process::start(command).expect("it runs");
        let url = control.served_at().expect("it serves");
        (control, url)
    };
    let (first, control_url) = control("127.0.0.1:0");
    let (served, url) = database_server.serve(&[
        "region",
        "--name",
        "us",
        "--control",
        &control_url,
        "--spool-dir",
        spool.to_str().expect("UTF-8"),
    ]);
    let region = Client::connect(Service::Region, &url, Timeouts::default()).await.expect("it listens");
    let mut health = health(&url).await;
    becomes(&mut health, ServingStatus::Serving).await;
    let env = Environment::system();
    let [id, other] = [(); 2].map(|()| env.uuid().to_string());

    // The import has to wait for control until the disk is full.
    first.kill().expect("it runs");
    send_parts(&region, &id, export()).await.expect("it is taken");
    waits(&region, &id, ErrorReason::ControlUnavailable).await;
    database_server.fill(&served).await;
    let (_second, _) = control(control_url.trim_start_matches("http://"));

    let waiting = waits(&region, &id, way.reason()).await.waiting.expect("it waits");
    assert!(waiting.message.contains(way.advice()), "{way:?}: {}", waiting.message);
    becomes(&mut health, ServingStatus::NotServing).await;
    // A limit of the process also affects the spool directory. Otherwise that is on another disk. In PostgreSQL, a small
    // row may still fit next to another one.
    if matches!(way, Way::SqliteDisk | Way::PostgresReadOnly) {
        let error = send_parts(&region, &other, export()).await.expect_err("there is no room");
        assert_eq!(error.reason(), Some(way.reason()), "{way:?}: {error}");
    }

    database_server.free(&served).await;
    becomes(&mut health, ServingStatus::Serving).await;
    assert_eq!(ends(&region, &id).await, ImportState::Succeeded, "{way:?}");
    send_parts(&region, &other, export()).await.expect("there is room");
    assert_eq!(ends(&region, &other).await, ImportState::Succeeded, "{way:?}");
    says_that_it_waits(&served.kill().expect("it is the same process"), way);
}

async fn an_import_waits_until_control_has_room_again(way: Way) {
    let Some(database_server) = DatabaseServer::new(way).await else { return };
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (served, control_url) = database_server.serve(&["control"]);
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.args(["region", "--name", "us", "--listen", "127.0.0.1:0", "--control", &control_url]).args([
        "--database-url",
        &format!("sqlite:{}", path("us.db")),
        "--spool-dir",
        &path("spool"),
    ]);
    let mut process = Process::start(command).expect("it runs");
    let url = process.served_at().expect("it serves");
    if !process.log().contains("registered with control") {
        process.logged("registered with control").expect("it registers");
    }
    let region = Client::connect(Service::Region, &url, Timeouts::default()).await.expect("it listens");
    let mut health = health(&control_url).await;
    becomes(&mut health, ServingStatus::Serving).await;
    let id = Environment::system().uuid().to_string();

    database_server.fill(&served).await;
    send_parts(&region, &id, export()).await.expect("the region has room");
    let waiting = waits(&region, &id, way.reason()).await.waiting.expect("it waits");
    if way != Way::SqliteLimit {
        assert!(waiting.message.contains(way.advice()), "{way:?}: {}", waiting.message);
    }
    becomes(&mut health, ServingStatus::NotServing).await;
    // A caller gets the same reason.
    let request = causeway_proto::control::v1::LeaseIdsRequest {
        region: "us".to_owned(),
        operation_id: id.clone(),
        model: "sentry.team".to_owned(),
        count: 1,
        above: 0,
    };
    let channel = Channel::from_shared(control_url).expect("a URL").connect().await.expect("it listens");
    let mut regions = causeway_proto::control::v1::region_service_client::RegionServiceClient::new(channel);
    if way != Way::PostgresDisk {
        // In PostgreSQL, a small row may still fit next to another one.
        let status = regions.lease_ids(request.clone()).await.expect_err("there is no room");
        assert_eq!(reason_of(&status), Some(way.reason()), "{way:?}: {status}");
    }

    database_server.free(&served).await;
    becomes(&mut health, ServingStatus::Serving).await;
    regions.lease_ids(request).await.expect("there is room");
    assert_eq!(ends(&region, &id).await, ImportState::Succeeded, "{way:?}");
    says_that_it_waits(&served.kill().expect("it is the same process"), way);
}

macro_rules! ways {
    ($($way:ident: $region:ident, $control:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $region() {
            a_region_goes_on_when_there_is_room_again(Way::$way).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $control() {
            an_import_waits_until_control_has_room_again(Way::$way).await;
        }
    )*};
}

ways! {
    SqliteDisk: a_region_on_sqlite_outlives_a_full_disk, a_control_on_sqlite_outlives_a_full_disk;
    SqliteLimit: a_region_on_sqlite_outlives_errors_of_its_disk, a_control_on_sqlite_outlives_errors_of_its_disk;
    PostgresDisk: a_region_on_postgres_outlives_a_full_disk, a_control_on_postgres_outlives_a_full_disk;
    PostgresReadOnly: a_region_on_postgres_outlives_that_it_can_only_be_read,
        a_control_on_postgres_outlives_that_it_can_only_be_read;
}
