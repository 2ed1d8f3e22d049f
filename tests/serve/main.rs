//! Tests services on real ports, and the command as a process: its output and its exit codes.

#![expect(clippy::expect_used, reason = "all of this is test code, the helpers too")]

mod fake;
mod health;
mod registration;
#[cfg(unix)]
mod start;

use std::{
    collections::VecDeque,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use causeway::{
    embedded::Embedded,
    serve::{Running, Settings, serve_control},
};
use causeway_client::{Client, ExportFile, Service, Timeouts, Watch, WatchEvent};
use causeway_harness::process::{self, OwnPort, Process};
use causeway_proto::{
    failure::Failure,
    region::v1::{Import, ImportFailure, ImportHeader, ImportState, OrganizationFilter},
    relocation::v1::ErrorReason,
};
use causeway_silo::{db, env::Environment};
use fake::{FakeRegion, state, succeeded};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_blocking,
    time::timeout,
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{v1, v1alpha};

/// The longest that anything may take. Nothing here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);
const ID: &str = "3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11";

// ---- serving ----

fn control_options(directory: &Path) -> causeway_control::Options {
    causeway_control::Options {
        database_url: format!("sqlite:{}", directory.join("control.db").display()).into(),
        database: db::Options::default(),
        address: "http://control.example".to_owned(),
        accept_regions: causeway_control::model::region::AcceptRegions::Any,
        feed: causeway_control::feed::Options::default(),
        bulk: causeway_control::slug::bulk_intake::Options::default(),
        replica: None,
        audit: causeway_audit::Options::default(),
    }
}

async fn control(directory: &Path) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let options = control_options(directory);
    serve_control(listener, options, Settings::default(), Environment::system())
        .await
        .expect("control starts")
}

async fn channel(running: &Running) -> Channel {
    Channel::from_shared(running.url()).expect("a URL").connect().await.expect("it listens")
}

#[tokio::test]
async fn control_is_healthy_until_it_stops_and_then_gone() {
    let directory = TempDir::new().expect("a directory");
    let control = control(directory.path()).await;
    let mut health = HealthClient::new(channel(&control).await);
    for name in ["", "causeway.control.v1.DirectoryService", "causeway.control.v1.ControlImportService"] {
        let request = HealthCheckRequest { service: name.to_owned() };
        let answer = health.check(request).await.expect("it answers").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
    }

    let mut watch = health.watch(HealthCheckRequest::default()).await.expect("it answers").into_inner();
    let first = watch.message().await.expect("not broken").expect("not over");
    assert_eq!(first.status(), ServingStatus::Serving);
    let address = control.address;
    timeout(LIMIT, control.stop()).await.expect("it stops");
    let last = watch.message().await.expect("not broken").expect("not over");
    assert_eq!(last.status(), ServingStatus::NotServing);
    assert!(watch.message().await.expect("not broken").is_none());
    TcpStream::connect(address).await.expect_err("the port is closed");
}

#[tokio::test]
async fn an_error_of_reflection_is_short_however_long_the_question_was() {
    let directory = TempDir::new().expect("a directory");
    let control = control(directory.path()).await;
    let request = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::FileContainingSymbol(
            "x".repeat(50_000),
        )),
        ..Default::default()
    };
    let mut answers = v1::server_reflection_client::ServerReflectionClient::new(channel(&control).await)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("it answers")
        .into_inner();
    let answer = answers.message().await.expect("an answer").expect("one answer").message_response;
    let Some(v1::server_reflection_response::MessageResponse::ErrorResponse(error)) = answer else {
        panic!("there is no such symbol")
    };
    assert_eq!(error.error_code, Code::NotFound as i32, "{error:?}");
    assert!(error.error_message.ends_with("xxx…") && error.error_message.len() < 200, "{error:?}");
    drop(answers);
    timeout(LIMIT, control.stop()).await.expect("it stops");
}

#[tokio::test]
async fn both_reflections_list_all_services() {
    let directory = TempDir::new().expect("a directory");
    let control = control(directory.path()).await;
    let channel = channel(&control).await;

    let request = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers = v1::server_reflection_client::ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("it answers")
        .into_inner();
    let answer = answers.message().await.expect("not broken").expect("an answer").message_response;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}")
    };
    let new: Vec<_> = list.service.into_iter().map(|service| service.name).collect();

    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
        ),
        ..Default::default()
    };
    let mut answers = v1alpha::server_reflection_client::ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("it answers")
        .into_inner();
    let answer = answers.message().await.expect("not broken").expect("an answer").message_response;
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer
    else {
        panic!("{answer:?}")
    };
    let old: Vec<_> = list.service.into_iter().map(|service| service.name).collect();

    for names in [&new, &old] {
        for name in ["causeway.control.v1.SlugReservationService", "grpc.health.v1.Health"] {
            assert!(names.iter().any(|listed| listed == name), "{name} is not in {names:?}");
        }
    }
    drop(answers);
    timeout(LIMIT, control.stop()).await.expect("it stops");
}

#[tokio::test]
async fn the_embedded_default_is_there_once_and_again() {
    let directory = TempDir::new().expect("a directory");
    let data = directory.path().join("data ?%");
    let embedded = Embedded::start(&data, true, Environment::system()).await.expect("it starts");
    embedded.region().await.expect("it listens");
    embedded.control().await.expect("it listens");
    let second = Embedded::start(&data, true, Environment::system()).await.expect_err("it is locked");
    assert!(second.to_string().contains("another causeway command uses"), "{second}");
    timeout(LIMIT, embedded.stop()).await.expect("it stops");
    let again = Embedded::start(&data, false, Environment::system()).await.expect("its data is there");
    timeout(LIMIT, again.stop()).await.expect("it stops");
    for file in ["control.db", "region.db"] {
        assert!(data.join(file).is_file(), "{file}");
    }
}

// ---- calls to a region ----

fn export(directory: &TempDir, size: usize) -> String {
    let path = directory.path().join("export.json");
    std::fs::write(&path, vec![b' '; size]).expect("it is written");
    path.to_str().expect("UTF-8").to_owned()
}

#[tokio::test]
async fn a_file_arrives_whole_in_parts() {
    let directory = TempDir::new().expect("a directory");
    let size = 5 * 1024 * 1024 + 1;
    let path = export(&directory, size);
    let fake = FakeRegion::default();
    let region =
        Client::connect(Service::Region, &fake.serve().await, Timeouts::default()).await.expect("it listens");
    let file = ExportFile::read(Path::new(&path)).await.expect("it is there");
    let sent = Arc::new(AtomicU64::new(0));
    let header = ImportHeader { import_id: ID.to_owned(), ..Default::default() };
    file.upload(&region, &header, &sent).await.expect("it is taken");
    assert_eq!(sent.load(Ordering::Relaxed), file.size());
    let got = fake.script(|script| script.header.take()).expect("a header");
    assert_eq!(got.size_bytes, i64::try_from(size).ok());
    assert_eq!(got.sha256, file.sha256());
    assert_eq!(fake.script(|script| script.received), size);
}

#[tokio::test]
async fn an_import_that_is_there_is_joined_without_its_file() {
    let directory = TempDir::new().expect("a directory");
    let path = export(&directory, 5 * 1024 * 1024);
    let fake = FakeRegion::default();
    fake.script(|script| script.joins = true);
    let region =
        Client::connect(Service::Region, &fake.serve().await, Timeouts::default()).await.expect("it listens");
    let file = ExportFile::read(Path::new(&path)).await.expect("it is there");
    let header = ImportHeader { import_id: ID.to_owned(), ..Default::default() };
    // The region answers while parts are still being sent, so this must work whichever is first.
    for _ in 0..20 {
        let sent = Arc::new(AtomicU64::new(0));
        let answer = file.upload(&region, &header, &sent).await.expect("it is joined");
        assert!(answer.joined);
        assert!(sent.load(Ordering::Relaxed) < file.size(), "the whole file was sent");
    }
}

#[tokio::test]
async fn watching_goes_on_after_a_break_and_ends_where_it_makes_no_sense() {
    let fake = FakeRegion::default();
    let away = Failure::new(ErrorReason::ShuttingDown, "going down");
    fake.script(|script| {
        script.reports = VecDeque::from([
            vec![Ok(state(ImportState::Writing)), Err(away)],
            vec![],
            vec![Ok(state(ImportState::Succeeded))],
            vec![Err(Failure::new(ErrorReason::ImportNotFound, "unknown"))],
        ]);
    });
    let region =
        Client::connect(Service::Region, &fake.serve().await, Timeouts::default()).await.expect("it listens");
    let mut watch = Watch::new(region.clone(), ID.to_owned());
    let mut seen = Vec::new();
    for _ in 0..4 {
        match timeout(LIMIT, watch.next()).await.expect("it does not hang").expect("it goes on") {
            WatchEvent::Changed(import) => seen.push(Some(import.state())),
            WatchEvent::Lost(_) => seen.push(None),
        }
    }
    assert_eq!(seen, [Some(ImportState::Writing), None, None, Some(ImportState::Succeeded)]);
    let error = Watch::new(region, ID.to_owned()).next().await.expect_err("there is none");
    assert_eq!(error.reason(), Some(ErrorReason::ImportNotFound));
}

// ---- the command ----

fn command(arguments: &[&str]) -> Command {
    let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
    command.args(arguments);
    command
}

async fn run(arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::from(command(arguments));
    timeout(LIMIT, command.kill_on_drop(true).output()).await.expect("it ends").expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it is text")
}

#[tokio::test]
async fn an_import_is_reported_as_text_and_json() {
    let directory = TempDir::new().expect("a directory");
    let file = export(&directory, 300_000);
    let fake = FakeRegion::default();
    let busy = Failure::new(ErrorReason::DatabaseUnavailable, "not now");
    fake.script(|script| {
        script.refusals.push_back(busy);
        script.refusals.push_back(Failure::new(ErrorReason::TooManyUploads, "no place"));
        script.reports =
            VecDeque::from([vec![Ok(state(ImportState::Writing)), Ok(succeeded())], vec![Ok(succeeded())]]);
    });
    let url = fake.serve().await;
    let import =
        ["import", "organizations", &file, "--region", &url, "--import-id", ID, "--filter-org-slugs", "api"];

    let output = run(&import).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stdout.starts_with(&format!("Import {ID} in region fake: SUCCEEDED\n")), "{stdout}");
    assert!(stdout.contains("1    4501  api          api-x7      changed\n"), "{stdout}");
    assert!(stdout.contains("    sentry.organization: api is a reserved word\n"), "{stdout}");
    for line in [
        "starts again: not now",
        "starts again: no place",
        ": PLANNING  ",
        ": WRITING  ",
        ": SUCCEEDED 100%  ",
    ] {
        assert!(stderr.contains(line), "{line} is not in {stderr}");
    }
    let header = fake.script(|script| script.header.take()).expect("a header");
    assert_eq!(header.import_id, ID);
    assert_eq!(header.filter, Some(OrganizationFilter { slugs: vec!["api".to_owned()] }));

    let output = run(&[&import[..], &["--output", "json"]].concat()).await;
    assert_eq!(output.status.code(), Some(0));
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("it is JSON and nothing else");
    assert_eq!(json["importId"], ID);
    assert_eq!(json["organizations"][0]["slug"], "api-x7");
}

#[tokio::test]
async fn a_failed_import_is_printed_too_and_fails_the_command() {
    let directory = TempDir::new().expect("a directory");
    let file = export(&directory, 10);
    let fake = FakeRegion::default();
    let failed = Import {
        failure: Some(ImportFailure {
            reason: ErrorReason::ExportInvalid.into(),
            message: "record 1 is not an object".to_owned(),
            state: ImportState::Planning.into(),
        }),
        ..state(ImportState::Failed)
    };
    fake.script(|script| script.reports = VecDeque::from([vec![Ok(failed)]]));
    let url = fake.serve().await;
    let output = run(&["import", "organizations", &file, "--region", &url, "--output", "json"]).await;
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("it is JSON and nothing else");
    assert_eq!(json["failure"]["reason"], "ERROR_REASON_EXPORT_INVALID");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("record 1 is not an object (EXPORT_INVALID)"), "{stderr}");
    assert!(stderr.contains("mend the file"), "{stderr}");
}

#[tokio::test]
async fn a_refused_upload_says_why() {
    let directory = TempDir::new().expect("a directory");
    let file = export(&directory, 10);
    let fake = FakeRegion::default();
    fake.script(|script| {
        script.refusals.push_back(Failure::new(ErrorReason::SpoolFailed, "the disk is full"))
    });
    let output = run(&["import", "organizations", &file, "--region", &fake.serve().await]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let stderr = text(&output.stderr);
    assert!(stderr.contains("the disk is full (SPOOL_FAILED)"), "{stderr}");
}

#[tokio::test]
async fn lists_are_read_to_their_last_page() {
    let url = FakeRegion::default().serve().await;
    let output = run(&["imports", "list", "--region", &url, "--output", "json"]).await;
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("it is JSON and nothing else");
    assert_eq!(json["imports"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["nextPageToken"], "");
    let output = run(&["imports", "show", ID, "--region", &url]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        format!(
            "causeway: asking the region at {url} (--region)\n\
             causeway: there is no import of that id (IMPORT_NOT_FOUND)\n"
        )
    );
}

#[tokio::test]
async fn exit_codes_tell_a_wrong_line_from_a_failure() {
    let directory = TempDir::new().expect("a directory");
    let absent = directory.path().join("absent").to_str().expect("UTF-8").to_owned();

    let output = run(&["import", "organizations", "x.json", "--import-id", "seven"]).await;
    assert_eq!(output.status.code(), Some(2));
    let output = run(&["import", "organizations", &absent, "--data-dir", &absent]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot be read"), "{}", text(&output.stderr));
    let output = run(&["slugs", "list", "--data-dir", &absent]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no data in"), "{}", text(&output.stderr));
    assert!(!Path::new(&absent).exists(), "a command that only reads creates nothing");

    let own = OwnPort::new().expect("a free port");
    let url = format!("http://{}", own.address);
    let output = run(&["organizations", "list", "--region", &url]).await;
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.contains(&format!("\ncauseway: the region at {url} cannot be reached: ")), "{stderr}");
}

/// Starts this command, and waits until it has logged a line with `mark`. The command runs on.
async fn start(arguments: &[&str], mark: &'static str) -> Process {
    let mut process = Process::start(command(arguments)).expect("it runs");
    let waiting = spawn_blocking(move || {
        process.logged(mark).expect("it goes on");
        process
    });
    waiting.await.expect("it is logged")
}

/// Sends a signal, and waits for the end: the exit code and the log.
#[cfg(unix)]
async fn signal(process: Process, signal: &str) -> (Option<i32>, String) {
    process.signal(signal).expect("it runs");
    let (status, log) = spawn_blocking(|| process.ended().expect("it stops")).await.expect("it has ended");
    (status.code(), log)
}

/// Starts a service, and waits until it reports where it serves.
fn serving(arguments: &[&str]) -> (Process, String) {
    let mut process = Process::start(command(arguments)).expect("it runs");
    let url = process.served_at().expect("it serves");
    (process, url)
}

#[cfg(unix)]
#[tokio::test]
async fn a_server_says_where_it_is_and_stops_when_told() {
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let database = format!("sqlite:{}", path("control.db"));
    let arguments = ["control", "--listen", "127.0.0.1:0", "--database-url", &database];
    let (control, url) = serving(&arguments);
    Client::connect(Service::Control, &url, Timeouts::default()).await.expect("it listens");

    let (database, spool) = (format!("sqlite:{}", path("region.db")), path("spool"));
    let arguments = [
        &["region", "--name", "eu", "--control", &url, "--spool-dir", &spool],
        &["--listen", "127.0.0.1:0", "--database-url", &database][..],
    ];
    let (region, _) = serving(&arguments.concat());
    assert!(region.log().contains(&url), "{}", region.log());
    assert_eq!(signal(region, "TERM").await.0, Some(0));
    assert_eq!(signal(control, "INT").await.0, Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn who_is_interrupted_is_told_that_the_import_goes_on() {
    let directory = TempDir::new().expect("a directory");
    let file = export(&directory, 10);
    let fake = FakeRegion::default();
    fake.script(|script| {
        script.reports = VecDeque::from([vec![Ok(state(ImportState::Writing))]]);
        script.stays_open = true;
    });
    let url = fake.serve().await;
    let arguments = ["import", "organizations", &file, "--region", &url, "--import-id", ID];
    let import = start(&arguments, "WRITING").await;
    let (code, log) = signal(import, "INT").await;
    assert_eq!(code, Some(130));
    assert!(log.contains(&format!("causeway imports show {ID} --region {url}\n")), "{log}");
}

#[tokio::test]
async fn a_server_without_its_port_or_database_fails() {
    let directory = TempDir::new().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let listen = taken.local_addr().expect("it is bound").to_string();
    let url = format!("sqlite:{}", directory.path().join("control.db").display());
    let output = run(&["control", "--listen", &listen, "--database-url", &url]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("cannot listen on"), "{}", text(&output.stderr));
    assert!(!directory.path().join("control.db").exists(), "the port comes before the database");

    let url = "mysql://me:secret@nowhere/db";
    let output = run(&["control", "--listen", "127.0.0.1:0", "--database-url", url]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(!text(&output.stderr).contains("secret"), "{}", text(&output.stderr));
}
