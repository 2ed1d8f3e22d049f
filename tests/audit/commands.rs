//! `causeway audit`: its output and exit codes.

use std::process::Output;

use causeway_harness::{
    cluster::{Act, Cluster, Failpoints, ImportOptions, Silo, Store},
    export, process,
};
use causeway_proto::region::v1::ImportState;
use causeway_silo::db::{Dialect, Statement};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::{PATIENCE, started};

/// Runs the command. Returns its exit code, standard output and standard error.
async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::from(process::command(env!("CARGO_BIN_EXE_causeway")));
    command.args(arguments).kill_on_drop(true);
    let Output { status, stdout, stderr } =
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Runs it, and expects it to succeed.
async fn done(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    stdout
}

pub(crate) async fn the_log_is_listed_by_command(store: Store) {
    let cluster = started(store).await;
    let region = cluster.region(0);
    let import =
        region.import(&export::large(1).to_bytes(), &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded);
    let (control, url, id) = (cluster.control_url(), region.url(), import.import_id);
    let about = format!("import/{id}");
    let shown = done(&["audit", "list", "--region", url, "--object", &about, "--since", "1h"]).await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[1].contains("  us   ") && lines[1].contains("import        "), "{shown}");
    assert!(lines[2].contains("127.0.0.1  ImportOrganizations  ") && lines[2].contains(&about), "{shown}");

    let json = ["audit", "list", "--control", &control, "--request", &id, "--output", "json"];
    let json: serde_json::Value = serde_json::from_str(&done(&json).await).expect("JSON");
    let entries = json["entries"].as_array().expect("entries");
    assert!(entries.len() >= 3 && entries.iter().all(|entry| entry["requestId"] == id.as_str()), "{json:#}");

    let headings = |shown: &str| shown.lines().count();
    let since = ["audit", "list", "--control", &control, "--since", "2999-01-01"];
    assert_eq!(headings(&done(&since).await), 1);
    let until = ["audit", "list", "--control", &control, "--until", "1h"];
    assert_eq!(headings(&done(&until).await), 1);
    let who = ["audit", "list", "--region", url, "--who", "us"];
    assert_eq!(headings(&done(&who).await), 2);

    // A refusal says all that there is to know: no log has more about it.
    let missing = Uuid::from_u128(7).to_string();
    let (code, _, stderr) = run(&["imports", "show", &missing, "--region", url]).await;
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains(&format!("`causeway imports list --region {url}` lists those that it has")),
        "{stderr}"
    );
    assert!(!stderr.contains("log of the service"), "{stderr}");
    for wrong in [&["--since", "soon"][..], &["--object", &"x".repeat(129)], &["--region", url]] {
        let all = [&["audit", "list", "--control", &control], wrong].concat();
        assert_ne!(run(&all).await.0, Some(0), "{wrong:?}");
    }
    cluster.stop().await;
}

/// The head of control's chain as the command prints it, once it has all entries.
async fn verified(cluster: &Cluster, arguments: &[&str]) -> String {
    verified_at(&["--control", &cluster.control_url()], arguments).await
}

async fn verified_at(service: &[&str], arguments: &[&str]) -> String {
    let all = [&["audit", "verify"], service, arguments].concat();
    let whole = async {
        loop {
            let (code, stdout, stderr) = run(&all).await;
            assert_eq!(code, Some(0), "{stderr}");
            if !stderr.contains("not in the chain yet") {
                return stdout;
            }
        }
    };
    let stdout = tokio::time::timeout(PATIENCE, whole).await.expect("entries get into the chain");
    stdout.split_once("\nhead ").expect("a head").1.trim_end().to_owned()
}

async fn broken(cluster: &Cluster, arguments: &[&str], why: &str) {
    let control = cluster.control_url();
    let (code, stdout, stderr) =
        run(&[&["audit", "verify", "--control", &control], arguments].concat()).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains(why), "{stderr}");
}

pub(crate) async fn a_log_that_was_changed_is_noticed_by_command(store: Store) {
    let cluster = started(store).await;
    let bytes = export::large(1).to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded);
    cluster.quiet(PATIENCE).await.expect("quiet");
    let head = verified(&cluster, &[]).await;
    assert_eq!(verified(&cluster, &["--expect", &head]).await, head);

    let db = cluster.db(Silo::Control).await.expect("a database");
    let unguarded = match db.dialect() {
        Dialect::Postgres => ["causeway_audit", "causeway_audit_seal"]
            .map(|table| Statement::new("ALTER TABLE ").push(table).push(" DISABLE TRIGGER USER"))
            .to_vec(),
        Dialect::Sqlite => ["", "_seal"]
            .iter()
            .flat_map(|table| {
                ["update", "delete"].map(|what| format!("DROP TRIGGER causeway_audit{table}_{what}"))
            })
            .map(|drop| Statement::new("").push(&drop))
            .collect(),
    };
    db.close().await;
    cluster.change(Silo::Control, &unguarded).await.expect("changed");
    let change = async |sql: &'static str| {
        cluster.change(Silo::Control, &[Statement::new(sql)]).await.expect("changed");
    };
    let first = "(SELECT audit_id FROM causeway_audit_seal WHERE position = 1)";
    let who = |name: &str| {
        let statement = Statement::new("UPDATE causeway_audit SET who = ").arg(name);
        [statement.push(" WHERE id = ").push(first)]
    };
    cluster.change(Silo::Control, &who("somebody")).await.expect("changed");
    broken(&cluster, &[], "the hash at position 1 is not that of entry").await;
    cluster.change(Silo::Control, &who("")).await.expect("changed");
    assert_eq!(verified(&cluster, &["--expect", &head]).await, head);

    change("UPDATE causeway_audit_seal SET hash = 'none' WHERE position = 2").await;
    broken(&cluster, &[], "the hash at position 2").await;
    change(
        "DELETE FROM causeway_audit WHERE id IN (SELECT audit_id FROM causeway_audit_seal WHERE position >= 2)",
    )
    .await;
    change("DELETE FROM causeway_audit_seal WHERE position >= 2").await;
    verified(&cluster, &[]).await;
    broken(&cluster, &["--expect", &head], "the chain ends at position 1").await;
    change(
        "INSERT INTO causeway_audit (time, request_id, who, address, call, object, outcome, reason, left_out) \
         SELECT time, request_id, who, address, call, object, outcome, reason, left_out FROM causeway_audit",
    )
    .await;
    broken(&cluster, &[], "were added in the database: 1").await;
    cluster.stop().await;
}

/// What somebody does who has seen how retention deletes entries. No trigger has to be switched off for it.
pub(crate) async fn a_log_whose_beginning_was_cut_off_is_noticed_by_command(store: Store) {
    let cluster = started(store).await;
    let bytes = export::large(1).to_bytes();
    let import = cluster.region(0).import(&bytes, &ImportOptions::default()).await.expect("it ends");
    assert_eq!(import.state(), ImportState::Succeeded);
    cluster.quiet(PATIENCE).await.expect("quiet");
    let head = verified(&cluster, &[]).await;
    let cut = [
        "UPDATE causeway_audit_state SET base_position = 2, \
         base_hash = (SELECT hash FROM causeway_audit_seal WHERE position = 2)",
        "DELETE FROM causeway_audit WHERE id IN (SELECT audit_id FROM causeway_audit_seal WHERE position <= 2)",
        "DELETE FROM causeway_audit_seal WHERE position <= 2",
    ]
    .map(Statement::new);
    cluster.change(Silo::Control, &cut).await.expect("changed");
    let why = "begins after position 2, and the last entry that says where it begins names position 0";
    broken(&cluster, &[], why).await;
    broken(&cluster, &["--expect", &head], "its beginning is gone").await;
    cluster.stop().await;
}

/// Services that die between a commit and what follows it, and while they add to the chain.
pub(crate) async fn a_log_is_whole_after_services_were_killed(store: Store) {
    let failpoints = Failpoints::default();
    let built = Cluster::builder(store).region("us").failpoints(&failpoints).start().await;
    let cluster = built.expect("a cluster; on PostgreSQL this test needs one installed");
    let (bytes, id) = (export::large(3).to_bytes(), Uuid::from_u128(7).to_string());
    let places = [
        "region.receive.accepted",
        "region.chunk.recorded",
        "region.chunk.committed",
        "control.import_models.recorded",
        "control.import_models.committed",
        "control.bulk_create.committed",
        "control.confirm.prepared",
        "region.finish.visible",
    ];
    for place in places {
        failpoints.arm(place, Act::Kill, 0);
    }
    let options = ImportOptions::default().import_id(&id);
    let ended = async {
        loop {
            cluster.heal().await.expect("healed");
            let region = cluster.region(0);
            // A service that dies takes the answer with it.
            if region.begin(&bytes, &options).await.is_ok()
                && let Ok(import) = region.wait(&id).await
            {
                assert_eq!(import.state(), ImportState::Succeeded, "{:?}", import.failure);
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the import survives it");
    cluster.heal().await.expect("healed");
    cluster.quiet(PATIENCE).await.expect("quiet");
    for place in places {
        assert!(failpoints.reached(place) > 0, "{place} was not reached");
    }
    verified(&cluster, &[]).await;
    verified_at(&["--region", cluster.region(0).url()], &[]).await;
    // Each chunk has one row, however often it was sent.
    let chunks = Statement::new(
        "SELECT (SELECT count(*) FROM causeway_import_chunk) AS chunks, (SELECT count(*) FROM causeway_audit \
         WHERE call = 'causeway.control.v1.ControlImportService/ImportModels' AND outcome = 'OK') AS entries",
    );
    let db = cluster.db(Silo::Control).await.expect("a database");
    let row = db.fetch_optional(chunks).await.expect("it answers").expect("a row");
    assert_eq!(row.int("chunks").expect("a count"), row.int("entries").expect("a count"));
    db.close().await;
    cluster.stop().await;
}
