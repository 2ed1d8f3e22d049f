//! Tests `examples/region.py`, the region in Python that `docs/write-a-region.md` explains, against a real control: two
//! regions that want one slug, renames, kills between any two steps, a control that goes away, a snapshot, a refusal.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a region that does not do what it should ends the test"
)]

use std::{collections::BTreeMap, path::Path, process::Stdio, sync::Arc, time::Duration};

use causeway_harness::{
    cluster::{Cluster, Store},
    pki::Pki,
};
use causeway_proto::{
    control::v1::{
        GetSlugRenameRequest, ListOrganizationsRequest, RenameState, ReservationType,
        UpdateOrganizationSlugRequest, UpdateOrganizationSlugResponse,
    },
    failure::reason_of,
    relocation::v1::{ErrorReason, OrganizationStatus},
    time,
};
use causeway_silo::{
    db::{Db, DbError, Options, Statement},
    env::Environment,
    transact,
};
use causeway_tls::Role;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tonic::Status;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Installs Python with gRPC and generates the code from the contract, unless both exist already.
async fn install() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/install-grpcio");
    let installed = Command::new("bash").arg(script).status().await.expect("there is bash");
    assert!(
        installed.success(),
        "this test needs Python with gRPC, and .ci/install-grpcio could not install it"
    );
}

/// The regions in Python, with their files and the cluster that they belong to.
struct Example<'c> {
    cluster: &'c Cluster,
    directory: TempDir,
    /// The options about TLS.
    tls: Vec<String>,
}

/// A running process of a region.
struct Running {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Reads its events up to the first one with this name.
    async fn says(&mut self, name: &str) -> Value {
        let reading = async {
            loop {
                let line = self.events.next_line().await.expect("it can be read");
                let line = line.unwrap_or_else(|| panic!("it ended before it said {name}"));
                let event: Value = serde_json::from_str(&line).expect("a line of JSON");
                if event["event"] == name {
                    return event;
                }
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("it does not say {name}"))
    }

    async fn kill(mut self) {
        self.child.kill().await.expect("it is killed");
    }
}

impl Example<'_> {
    fn database(&self, region: &str) -> std::path::PathBuf {
        self.directory.path().join(format!("{region}.db"))
    }

    fn start(&self, region: &str, arguments: &[&str]) -> Running {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let control = self.cluster.control_url();
        let mut child = Command::new(root.join("target/ci-python/bin/python"))
            .arg(root.join("examples/region.py"))
            .arg("--stubs")
            .arg(root.join("target/ci-python/stubs"))
            .args(&self.tls)
            .args(["--control", control.trim_start_matches("http://"), "--name", region, "--database"])
            .arg(self.database(region))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        Running { child, events: BufReader::new(stdout).lines() }
    }

    fn run(&self, region: &str) -> Running {
        self.start(region, &["run"])
    }

    fn create(&self, region: &str, slug: &str, id: &str) -> Running {
        self.start(region, &["create", "Acme Inc", slug, "--id", id])
    }

    async fn created(&self, region: &str, slug: &str, id: &str) {
        let mut creating = self.create(region, slug, id);
        let _done = creating.says("creation_done").await;
        let ended = timeout(PATIENCE, creating.child.wait()).await.expect("it ends").expect("it ended");
        assert!(ended.success(), "{ended}");
    }

    /// Everything that a region has stored.
    async fn list(&self, region: &str) -> Value {
        let mut listing = self.start(region, &["list"]);
        let mut text = String::new();
        while let Some(line) = listing.events.next_line().await.expect("it can be read") {
            text.push_str(&line);
        }
        serde_json::from_str(&text).expect("JSON")
    }

    async fn slugs(&self, region: &str) -> Vec<String> {
        let all = self.list(region).await;
        let organizations = all["organization"].as_array().expect("a list");
        organizations.iter().map(|row| row["slug"].as_str().expect("it has one").to_owned()).collect()
    }

    /// Changes a region's database directly.
    async fn change(&self, region: &str, sql: &'static str) {
        let url = format!("sqlite:{}", self.database(region).display());
        let db = Db::connect(&url, &Options::default()).await.expect("a database");
        let changed: Result<u64, DbError> =
            transact!(DbError, db, |tx| { tx.execute(Statement::new(sql)).await? });
        assert_eq!(changed.expect("changed"), 1);
    }

    async fn rename(
        &self,
        number: u32,
        organization_id: i64,
        slug: &str,
        wait: u32,
    ) -> Result<UpdateOrganizationSlugResponse, Status> {
        let request = UpdateOrganizationSlugRequest {
            organization_id,
            desired_slug: slug.to_owned(),
            require_exact: true,
            operation_id: operation(number),
            keep_alias: number == 1,
            region: "py".to_owned(),
            wait: Some(time::seconds(wait)),
        };
        let renamed = self.cluster.control().reservations().update_organization_slug(request).await;
        renamed.map(tonic::Response::into_inner)
    }

    async fn is_renamed(&self, number: u32) {
        let asking = async {
            loop {
                let request = GetSlugRenameRequest { operation_id: operation(number) };
                let rename = self.cluster.control().reservations().get_slug_rename(request).await;
                if rename.expect("it is there").get_ref().state() == RenameState::Confirmed {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, asking).await.expect("it is renamed in time");
    }

    /// Checks that control and the region agree on the region's slugs: each with its organization and whether it is an
    /// alias.
    async fn agree(&self, region: &str) {
        let held = self.cluster.control().all_reservations().await.expect("all reservations");
        let held: BTreeMap<String, (i64, i32)> = held
            .into_iter()
            .filter(|it| it.region == region)
            .map(|it| (it.slug.clone(), (it.organization_id, it.r#type)))
            .collect();
        let all = self.list(region).await;
        let number = |row: &Value, column: &str| row[column].as_i64().expect("a number");
        let replica: BTreeMap<String, (i64, i32)> = all["replica"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| {
                let kind = i32::try_from(number(row, "type")).expect("a type");
                (row["slug"].as_str().expect("a slug").to_owned(), (number(row, "organization_id"), kind))
            })
            .collect();
        assert_eq!(replica, held);
        for row in all["organization"].as_array().expect("a list") {
            let own = (number(row, "id"), i32::from(ReservationType::Primary));
            assert_eq!(held.get(row["slug"].as_str().expect("a slug")), Some(&own), "{row}");
        }
        let request = ListOrganizationsRequest { region: region.to_owned(), ..Default::default() };
        let listed =
            self.cluster.control().directory().list_organizations(request).await.expect("the directory");
        let listed = listed.into_inner().organizations;
        assert_eq!(listed.len(), all["organization"].as_array().expect("a list").len());
        assert!(listed.iter().all(|it| it.status() == OrganizationStatus::Active), "{listed:?}");
    }
}

fn operation(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_in_python_agrees_with_control_whatever_happens() {
    install().await;
    let mut cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let example = Example { cluster: &cluster, directory, tls: Vec::new() };

    example.created("py", "acme", "1").await;
    example.created("pz", "acme", "1").await;
    assert_eq!(example.slugs("py").await, ["acme"]);
    let other = example.slugs("pz").await;
    assert!(other[0].starts_with("acme-"), "{other:?}");

    // Killed between any two steps, it continues when the caller asks again, or when it runs again.
    for (number, step) in ["creation_begun", "organization_inserted", "slug_written", "organization_visible"]
        .into_iter()
        .enumerate()
    {
        let (slug, id) = (format!("bolt-{number}"), format!("killed {number}"));
        let mut creating = example.create("py", &slug, &id);
        let _said = creating.says(step).await;
        creating.kill().await;
        if number % 2 == 0 {
            example.created("py", &slug, &id).await;
        } else {
            let mut running = example.run("py");
            let _done = running.says("creation_done").await;
            running.kill().await;
        }
    }
    assert_eq!(example.slugs("py").await, ["acme", "bolt-0", "bolt-1", "bolt-2", "bolt-3"]);

    let mut running = example.run("py");
    let _compared = running.says("compared").await;
    example.agree("py").await;
    let id = example.list("py").await["organization"][0]["id"].as_i64().expect("an id");
    let renamed = example.rename(1, id, "cord", 30).await.expect("renamed");
    assert_eq!((renamed.state(), renamed.previous_slug.as_str()), (RenameState::Confirmed, "acme"));
    running.kill().await;
    assert_eq!(example.slugs("py").await[0], "cord");

    // A request from while the region was down is executed when the region is back, even if it is killed
    // before it has answered.
    let pending = example.rename(2, id, "dune", 0).await.expect("asked for");
    assert_eq!(pending.state(), RenameState::Pending);
    let mut running = example.run("py");
    let _written = running.says("renamed").await;
    running.kill().await;
    let mut running = example.run("py");
    let _answered = running.says("compared").await;
    example.is_renamed(2).await;
    // `cord` is gone, and `acme` is an alias from before.
    let aliases = example.cluster.control().all_reservations().await.expect("all reservations");
    let aliases: Vec<&str> = aliases
        .iter()
        .filter(|it| it.r#type() == ReservationType::VanityAlias)
        .map(|it| it.slug.as_str())
        .collect();
    assert_eq!(aliases, ["acme"]);
    example.agree("py").await;

    // The region uses the slug for an organization that control does not know.
    let by_hand = "INSERT INTO organization (id, slug, name, status) VALUES (900000001, 'elm', 'By hand', 1)";
    example.change("py", by_hand).await;
    let refused = example.rename(3, id, "elm", 30).await.expect_err("refused");
    assert_eq!(reason_of(&refused), Some(ErrorReason::SlugTakenInRegion), "{refused:?}");

    // Control goes away and comes back.
    let Example { directory, .. } = example;
    cluster.stop_control().await;
    let _gone = running.says("disconnected").await;
    cluster.start_control().await.expect("it starts");
    let example = Example { cluster: &cluster, directory, tls: Vec::new() };
    let _back = running.says("following").await;
    assert_eq!(example.rename(4, id, "fir", 30).await.expect("renamed").state(), RenameState::Confirmed);
    running.kill().await;

    // Without its position in the feed, the region takes a snapshot. The organization that was created
    // manually gets its slug reserved.
    example.change("py", "UPDATE region SET version = 0").await;
    let mut running = example.run("py");
    let _taken = running.says("snapshot_taken").await;
    let _compared = running.says("compared").await;
    running.kill().await;
    let mut running = example.run("py");
    let _compared = running.says("compared").await;
    example.agree("py").await;
    assert!(example.slugs("py").await.contains(&"elm".to_owned()));
    running.kill().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_in_python_speaks_tls_and_acts_for_itself_only() {
    install().await;
    let pki = Arc::new(Pki::new(Environment::system()).expect("a CA"));
    let cluster = Cluster::builder(Store::Sqlite).region("us").tls(&pki).start().await.expect("a cluster");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pair = pki.pair(Role::Region, "py").expect("issued");
    let files = [("--tls-ca", pki.ca()), ("--tls-cert", pair.cert), ("--tls-key", pair.key)];
    let tls = files.map(|(option, path)| [option.to_owned(), path.display().to_string()]).concat();
    let example = Example { cluster: &cluster, directory, tls };
    example.created("py", "acme", "1").await;
    assert_eq!(example.slugs("py").await, ["acme"]);
    let mut other = example.create("pz", "bolt", "1");
    assert_eq!(other.says("failed").await["reason"], "NOT_OWN_REGION");
    other.kill().await;
    cluster.stop().await;
}
