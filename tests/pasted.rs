//! Checks that every command that Causeway prints works when a user pastes it into a shell.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is test code, the helpers too")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use causeway_harness::{
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
    process,
};
use causeway_silo::db::{Db, Options, Statement};
use tempfile::TempDir;
use tokio::process::Command;

/// The longest that anything may take. Nothing here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// How a command ended, and what it printed.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// All printed commands: those in backticks, and those on a line of their own.
    fn commands(&self) -> Vec<String> {
        let mut commands = Vec::new();
        for line in self.stdout.lines().chain(self.stderr.lines()) {
            let alone = line.trim_start();
            if alone.len() < line.len() && alone.starts_with("causeway ") {
                commands.push(alone.to_owned());
                continue;
            }
            let spans = line.split('`').skip(1).step_by(2);
            commands.extend(spans.filter(|span| span.starts_with("causeway ")).map(str::to_owned));
        }
        commands
    }

    /// The one printed command that contains these words.
    fn command(&self, words: &str) -> String {
        let commands = self.commands();
        let found: Vec<&String> = commands.iter().filter(|command| command.contains(words)).collect();
        let [command] = found.as_slice() else { panic!("not one command with {words:?} in {self:#?}") };
        (*command).clone()
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// A shell in a directory of its own. It finds the command by its name.
struct Shell(TempDir);

impl Shell {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn write(&self, name: &str, text: &[u8]) {
        fs::write(self.0.path().join(name), text).expect("it is written");
    }

    /// Changes the database of the embedded region in [`DATA`] directly.
    async fn change_region(&self, sql: &'static str) {
        let path = self.0.path().join("it's my data").join("region.db");
        let url = format!("sqlite:{}", path.display());
        let db = Db::connect(&url, &Options::default()).await.expect("the database of the region");
        let mut tx = db.begin().await.expect("a transaction");
        tx.execute(Statement::new(sql)).await.expect("it is changed");
        tx.commit().await.expect("a commit");
        db.close().await;
    }

    async fn run(&self, line: &str) -> Ended {
        let bin = Path::new(env!("CARGO_BIN_EXE_causeway")).parent().expect("a directory");
        let path = env::var_os("PATH").unwrap_or_default();
        let paths = [PathBuf::from(bin)].into_iter().chain(env::split_paths(&path));
        let mut command = Command::from(process::command("sh"));
        command.arg("-c").arg(line).current_dir(self.0.path()).kill_on_drop(true);
        command.env("PATH", env::join_paths(paths).expect("a path")).stdin(std::process::Stdio::null());
        let Output { status, stdout, stderr } =
            tokio::time::timeout(LIMIT, command.output()).await.expect("it ends").expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

/// Organizations that all want the same slug, one after the other.
fn many(count: i64) -> Vec<u8> {
    let mut export = Export::new();
    for pk in 1..=count {
        export.organization(pk, "wanted");
    }
    export.to_bytes()
}

/// The option for a data directory with a name that a shell would split, quoted for a shell.
const DATA: &str = "--data-dir \"it's my data\"";

#[tokio::test]
async fn what_an_import_prints_can_be_pasted() {
    let shell = Shell::new();
    shell.write("an export.json", &many(1_001));
    let dry = shell.run(&format!("causeway import organizations 'an export.json' --dry-run {DATA}")).await;
    let dry = dry.ends_with(11);
    // The commands are for all findings of the dry run, and for the import itself.
    let findings = shell.run(&dry.commands()[0]).await.ends_with(0);
    assert_eq!(findings.stdout.matches("SLUG_CHANGED (warning)").count(), 1_000, "{:?}", dry.commands());
    let line = dry.command("causeway import organizations");
    assert!(!line.contains("--dry-run"), "{line}");
    let import = shell.run(&line).await.ends_with(0);
    let keys = shell.run(&import.command("imports keys")).await.ends_with(0);
    assert_eq!(keys.stdout.lines().count(), 1 + 1_001);
    assert!(keys.stdout.contains("inserted  wanted       wanted\n"), "{}", &keys.stdout[..400]);
    let findings = shell.run(&import.command("imports show")).await.ends_with(0);
    assert_eq!(findings.stdout.matches("SLUG_CHANGED (info)").count(), 1_000);
}

#[tokio::test]
async fn what_an_import_of_hidden_organizations_prints_can_be_pasted() {
    let shell = Shell::new();
    shell.write("export.json", &many(3));
    let line = format!("causeway import organizations export.json --hide-organizations {DATA}");
    let hidden = shell.run(&line).await.ends_with(0);
    let list = format!("causeway organizations list {DATA}");
    let visible = async || shell.run(&list).await.ends_with(0).stdout.matches("wanted").count();
    assert_eq!(visible().await, 0);
    let approve = hidden.command("organizations approve");
    let approved = shell.run(&approve).await.ends_with(0);
    assert_eq!(approved.stdout, "3 organizations are visible now\n");
    assert_eq!(visible().await, 3);
    let again = shell.run(&approve).await.ends_with(0);
    assert!(again.stdout.contains("nothing changed"), "{again:?}");
}

#[tokio::test]
async fn what_a_refused_file_prints_can_be_pasted() {
    let shell = Shell::new();
    shell.write("bad.json", br#"[{"model": "sentry.user", "pk": 7, "fields": {"username": 1}}]"#);
    for (options, code, told) in
        [("", 1, "EXPORT_INVALID"), (" --dry-run --merge-users", 10, "EXPORT_INVALID")]
    {
        let line = format!("causeway import organizations bad.json{options} {DATA}");
        let failed = shell.run(&line).await.ends_with(code);
        let again = failed.command("import organizations");
        assert_eq!(again.contains("--merge-users"), options.contains("--merge-users"), "{again}");
        let again = shell.run(&again).await.ends_with(code);
        assert!(again.stderr.contains(told), "{again:?}");
    }
    let line = format!("causeway import organizations bad.json --filter-org-slugs '' {DATA}");
    shell.run(&line).await.ends_with(2);
}

/// Makes the embedded region's database refuse organizations, so that an import fails.
const BREAK: &str =
    "CREATE TRIGGER broken BEFORE INSERT ON sentry_organization BEGIN SELECT RAISE(ABORT, 'broken'); END";
/// Makes the database accept organizations again.
const MEND: &str = "DROP TRIGGER broken";

/// A failed import prints commands to resume and to revert it.
#[tokio::test]
async fn what_a_failed_import_prints_can_be_pasted() {
    let shell = Shell::new();
    shell.write("export.json", &many(2));
    let line = format!("causeway import organizations export.json {DATA}");
    // The dry run creates the databases.
    shell.run(&format!("{line} --dry-run")).await.ends_with(11);
    shell.change_region(BREAK).await;
    let failed = shell.run(&line).await.ends_with(1);
    shell.change_region(MEND).await;
    let resumed = shell.run(&failed.command("imports resume")).await.ends_with(0);
    assert!(resumed.stdout.contains("SUCCEEDED"), "{resumed:?}");

    shell.change_region(BREAK).await;
    let failed = shell.run(&line).await.ends_with(1);
    shell.change_region(MEND).await;
    // Nobody is there to confirm the revert, so the command prints what to run instead.
    let asked = shell.run(&failed.command("imports revert")).await.ends_with(1);
    let reverted = shell.run(&asked.command("imports revert")).await.ends_with(0);
    assert!(reverted.stdout.contains("REVERTED"), "{reverted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_rename_prints_can_be_pasted() {
    let shell = Shell::new();
    let mut cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let import = cluster.region(0).import(&many(1), &ImportOptions::default()).await.expect("it ends");
    let id = import.organizations[0].id;
    let control = format!("--control {}", cluster.control_url());
    cluster.stop_region(0).await;
    let pending =
        shell.run(&format!("causeway slugs rename wanted new --wait 0 {control}")).await.ends_with(1);
    let (again, release) = (pending.command("slugs rename"), pending.command("slugs release-operation"));
    // Another rename prints how to cancel the first one.
    let other = shell.run(&format!("causeway slugs rename {id} other --wait 0 {control}")).await.ends_with(1);
    assert!(release.starts_with(&other.command("release-operation").replace(&format!(" {control}"), "")));
    cluster.start_region(0).await.expect("it starts");
    let done = shell.run(&again).await.ends_with(0);
    assert_eq!(done.stdout, format!("organization {id} of us, wanted, is now new\n"));
    // The rename is done, so there is nothing to cancel.
    shell.run(&release).await.ends_with(1);

    cluster.stop_region(0).await;
    let pending =
        shell.run(&format!("causeway slugs rename {id} third --wait 0 {control}")).await.ends_with(1);
    shell.run(&pending.command("slugs release-operation")).await.ends_with(0);
    cluster.start_region(0).await.expect("it starts");
    let listed = shell.run(&format!("causeway slugs resolve new {control}")).await.ends_with(0);
    assert!(listed.stdout.contains("new   new"), "{listed:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_comparison_prints_can_be_pasted() {
    let shell = Shell::new();
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let import = cluster.region(0).import(&many(2), &ImportOptions::default()).await.expect("it ends");
    cluster.quiet(LIMIT).await.expect("quiet");
    let id = import.organizations[0].id;
    let set =
        |slug| Statement::new("UPDATE sentry_organization SET slug = $2 WHERE id = $1").with(id).with(slug);
    let check = format!("causeway reconcile --check --region {}", cluster.region(0).url());

    // Control takes over the region's slug.
    cluster.change(Silo::Region(0), &[set("by-hand")]).await.expect("changed");
    let differs = shell.run(&check).await.ends_with(10);
    shell.run(&differs.command("slugs rename")).await.ends_with(0);
    cluster.quiet(LIMIT).await.expect("quiet");
    shell.run(&check).await.ends_with(0);

    // The region takes over control's slug.
    cluster.change(Silo::Region(0), &[set("once-more")]).await.expect("changed");
    let differs = shell.run(&check).await.ends_with(10);
    let repaired = shell.run(&differs.command("reconcile --repair")).await.ends_with(0);
    assert!(repaired.stdout.contains("repaired"), "{repaired:?}");
    cluster.quiet(LIMIT).await.expect("quiet");
    shell.run(&check).await.ends_with(0);
    cluster.stop().await;
}
