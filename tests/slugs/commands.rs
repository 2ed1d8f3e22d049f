//! Tests `causeway slugs rename`, `release-alias` and `release-operation`: their output and exit codes.

use std::process::Output;

use causeway_harness::{
    cluster::{Cluster, Store},
    process,
};
use tokio::process::Command;

use crate::support::{PATIENCE, imported, leads};

/// Runs the command. Returns its exit code, standard output and standard error.
pub(crate) async fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::from(process::command(env!("CARGO_BIN_EXE_causeway")));
    command.args(arguments).kill_on_drop(true);
    let Output { status, stdout, stderr } =
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

async fn slugs(cluster: &Cluster, arguments: &[&str]) -> (Option<i32>, String, String) {
    run(&[&["slugs"], arguments, &["--control", &cluster.control_url()]].concat()).await
}

/// Checks that the command is refused, and that the reason contains `why`.
async fn refused(cluster: &Cluster, arguments: &[&str], why: &str) {
    let (code, stdout, stderr) = slugs(cluster, arguments).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}: {stderr}");
    assert!(stderr.contains(why), "{arguments:?}: {stderr}");
}

pub(crate) async fn slugs_are_renamed_and_aliases_released_by_command(store: Store) {
    const FIRST: &str = "00000000-0000-4000-8000-000000000001";
    const PENDING: &str = "00000000-0000-4000-8000-000000000002";
    let mut cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let [(id, old), (other, taken)] = imported(&cluster, 0).await;
    let (id, other) = (id.to_string(), other.to_string());

    // By the organization's slug, and again by its id with the same operation id: the same answer.
    let rename = ["rename", &id, "dune", "--exact", "--keep-alias", "--operation-id", FIRST];
    let by_slug = ["rename", &old, "dune", "--exact", "--keep-alias", "--operation-id", FIRST];
    for arguments in [by_slug, rename] {
        let (code, stdout, stderr) = slugs(&cluster, &arguments).await;
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(stdout, format!("organization {id} of us, {old}, is now dune\n"));
        assert!(!stderr.contains("does not lead"), "the old slug is kept: {stderr}");
    }
    let (code, stdout, _) = slugs(&cluster, &[&rename[..], &["--output", "json"]].concat()).await;
    let answer: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((code, &answer["state"]), (Some(0), &"RENAME_STATE_CONFIRMED".into()));
    assert_eq!((&answer["slug"], &answer["previousSlug"]), (&"dune".into(), &old.as_str().into()));

    refused(&cluster, &["rename", "nobody", "elm"], "no organization has the slug \"nobody\"").await;
    refused(&cluster, &["rename", "1234567", "elm"], "an organization 1234567").await;
    refused(&cluster, &["rename", &id, &taken, "--exact"], &format!("the slug {taken} is taken")).await;
    refused(&cluster, &["rename", &id, "settings", "--exact"], "reserved word").await;
    refused(&cluster, &["rename", &id, "A B", "--exact"], "is not a slug").await;
    refused(&cluster, &["rename", &id, "elm", "--operation-id", FIRST], "use a new id").await;
    refused(&cluster, &["rename", &id, "elm", "--operation-id", PENDING, "--for-region", "de"], "").await;
    refused(&cluster, &["release-alias", "dune"], "dune is not an alias").await;
    let control = cluster.control();
    assert_eq!(leads(&control, &old).await, Some((id.parse().expect("an id"), "dune".to_owned())));

    let (code, stdout, stderr) = slugs(&cluster, &["release-alias", &old]).await;
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.contains(&format!("{old} leads to organization {id} no more")), "{stderr}");
    assert_eq!(leads(&control, &old).await, None);
    refused(&cluster, &["release-alias", &old], &format!("no organization has the slug {old:?}")).await;
    // The old slug leads nowhere any more, but repeating the rename still gives the same answer.
    for (asked, shown) in [(old.as_str(), "is now dune"), ("dune", "is now dune")] {
        let again = ["rename", asked, "dune", "--exact", "--keep-alias", "--operation-id", FIRST];
        let (code, stdout, stderr) = slugs(&cluster, &again).await;
        assert_eq!(code, Some(0), "{asked}: {stderr}");
        assert_eq!(stdout, format!("organization {id} of us, {old}, {shown}\n"));
    }
    let unknown = ["rename", &old, "dune", "--operation-id", PENDING];
    refused(&cluster, &unknown, &format!("no organization has the slug {old:?}")).await;

    // A region that is down executes the rename when it is back.
    cluster.stop_region(0).await;
    let rename = ["rename", &other, "elm", "--operation-id", PENDING];
    let (code, stdout, stderr) = slugs(&cluster, &[&rename[..], &["--wait", "0"]].concat()).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert_eq!(stdout, format!("organization {other} of us, {taken}, will be elm\n"));
    assert!(stderr.contains(&format!("--operation-id {PENDING} --control ")), "{stderr}");
    // What went wrong comes before what to do about it.
    let (code, _, stderr) = slugs(&cluster, &["rename", &other, "fir"]).await;
    let parts =
        [format!("operation {PENDING} is renaming"), format!("causeway slugs release-operation {PENDING}")];
    let places = parts.map(|part| stderr.find(&part));
    assert!(code == Some(1) && places[0].is_some() && places[0] < places[1], "{stderr}");
    cluster.start_region(0).await.expect("it starts");
    let (code, stdout, stderr) = slugs(&cluster, &[&rename[..], &["--wait", "60"]].concat()).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains(&format!("{taken} does not lead to it any more")), "{stderr}");
    assert_eq!(stdout, format!("organization {other} of us, {taken}, is now elm\n"));
    let (code, stdout, stderr) = slugs(&cluster, &["rename", &taken, "elm", "--operation-id", PENDING]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout, format!("organization {other} of us, {taken}, is now elm\n"));
    // A rename with another result than the requested slug reports that. The other organization has the first
    // slug; the second one is not a valid slug.
    for (asked, why) in [("elm", "elm-"), ("Fir", "fir")] {
        let (code, stdout, stderr) = slugs(&cluster, &["rename", &id, asked]).await;
        assert_eq!(code, Some(11), "{stderr}");
        assert!(stdout.contains(&format!("is now {why}")), "{stdout}");
        assert!(stderr.contains(&format!("has another slug than {asked:?}")), "{stderr}");
    }
    cluster.stop().await;
}

pub(crate) async fn an_operation_that_is_not_done_can_be_released_by_command(store: Store) {
    const GIVEN_UP: &str = "00000000-0000-4000-8000-000000000003";
    let mut cluster = Cluster::start(store, &["us"]).await.expect("a cluster");
    let [(id, old), (other, taken)] = imported(&cluster, 0).await;
    let (id, other) = (id.to_string(), other.to_string());
    let control = cluster.control();
    let import = control.all_reservations().await.expect("a list")[0].operation_id.clone();
    // Confirmed reservations are left alone, because organizations use those slugs.
    refused(&cluster, &["release-operation", &import], "has no temporary reservation").await;
    assert!(leads(&control, &old).await.is_some());

    cluster.stop_region(0).await;
    let rename = ["rename", &id, "dune", "--operation-id", GIVEN_UP, "--wait", "0"];
    let (code, ..) = slugs(&cluster, &rename).await;
    assert_eq!(code, Some(1));
    let (code, stdout, _) = slugs(&cluster, &["list"]).await;
    assert_eq!(code, Some(0));
    let line = stdout.lines().find(|line| line.contains("dune")).expect("it is listed");
    assert!(line.contains("temporary") && line.ends_with(GIVEN_UP), "{line}");
    // It cannot be released for another region (control does not even know this one).
    let elsewhere = ["release-operation", GIVEN_UP, "--for-region", "de"];
    refused(&cluster, &elsewhere, "REGION_NOT_REGISTERED").await;
    let (code, stdout, stderr) = slugs(&cluster, &["release-operation", GIVEN_UP]).await;
    assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(stderr.contains("region us is released; dune"), "{stderr}");
    refused(&cluster, &["release-operation", GIVEN_UP], "has no temporary reservation").await;
    // Another organization can get the slug, and the first one keeps its own.
    cluster.start_region(0).await.expect("it starts");
    let (code, _, stderr) = slugs(&cluster, &["rename", &other, "dune", "--exact", "--wait", "60"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(leads(&control, &old).await, Some((id.parse().expect("an id"), old.clone())));
    assert_eq!(leads(&control, &taken).await, None);
    cluster.stop().await;
}
