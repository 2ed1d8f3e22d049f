//! Output that nobody reads or that cannot be written, and signals.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use causeway_control::model::region::AcceptRegions;
use causeway_harness::{
    cluster::{Cluster, Store},
    process,
};

use crate::{ID, Place, example};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A reader that closes the pipe has seen enough.
#[test]
fn output_to_a_closed_pipe_is_no_failure_and_says_nothing() {
    let place = Place::new();
    assert_eq!(place.run(&["import", "organizations", &example(), "--import-id", ID]).status.code(), Some(0));
    fs::write(place.path("x.txt"), "x").expect("it is written");
    for line in [
        &["imports", "list"][..],
        &["imports", "show", ID, "--findings"],
        &["imports", "keys", ID],
        &["imports", "keys", ID, "--output", "json"],
        &["export", "inspect", &example()],
        &["audit", "list"],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
    ] {
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        let command = command.args(line).current_dir(place.path("."));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line:?}: {stderr}");
        assert!(!stderr.contains("cannot") && !stderr.contains("roken"), "{line:?}: {stderr}");
    }
}

#[test]
fn output_to_a_full_disk_is_an_error() {
    let place = Place::new();
    assert_eq!(place.run(&["import", "organizations", &example(), "--import-id", ID]).status.code(), Some(0));
    for line in [
        &["imports", "list"][..],
        &["imports", "list", "--output", "json"],
        &["imports", "show", ID],
        &["imports", "keys", ID],
        &["export", "inspect", &example()],
        &["completions", "bash"],
        &["--help"],
        &["--version"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        let output = command.args(line).current_dir(place.path(".")).stdout(full).output().expect("it runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {stderr}");
        assert!(stderr.contains("stdout cannot be written: No space left on device"), "{line:?}: {stderr}");
    }
    let man = place.run(&["man", "--out", "/dev/full/pages"]);
    assert_eq!(man.status.code(), Some(1));
    assert!(
        text(&man.stderr).contains("the directory /dev/full/pages cannot be made"),
        "{}",
        text(&man.stderr)
    );
}

/// Reads what a process says until it has said this.
fn said(path: &std::path::Path, what: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.contains(what))
}

/// A command that watches says what goes on without it, and ends as a command that the signal has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_ends_a_watch_with_its_own_exit_code() {
    let place = Place::new();
    // Control registers no region that nobody has added, so the import waits.
    let cluster = Cluster::builder(Store::Sqlite)
        .region("us")
        .configure_control(|options| options.accept_regions = AcceptRegions::Added)
        .start()
        .await
        .expect("a cluster");
    let url = cluster.region(0).url().to_owned();
    let file = example();
    let import = ["import", "organizations", &file, "--import-id", ID];
    for (number, (line, signal, code)) in [
        (&import[..], "INT", 130),
        (&["imports", "watch", ID], "INT", 130),
        (&["imports", "watch", ID], "TERM", 143),
    ]
    .into_iter()
    .enumerate()
    {
        let stderr = place.path(&format!("stderr-{number}"));
        let mut command = process::command(env!("CARGO_BIN_EXE_causeway"));
        let command = command.args(line).args(["--region", &url]).current_dir(place.path("."));
        let file = fs::File::create(&stderr).expect("a file");
        let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("it runs");
        let waits = async {
            while !said(&stderr, "waiting: ") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waits).await.expect("it waits");
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        let status =
            tokio::task::spawn_blocking(move || child.wait()).await.expect("it ends").expect("it ran");
        let text = fs::read_to_string(&stderr).expect("a file");
        assert_eq!(status.code(), Some(code), "{text}");
        let look = format!("\n  causeway imports show {ID} --region {url}\n");
        assert!(text.contains("interrupted; the import goes on") && text.contains(&look), "{text}");
    }
    cluster.stop().await;
}
