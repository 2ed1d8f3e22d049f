//! Checks that every command that Causeway prints works when a user pastes it into a shell.

#![expect(clippy::expect_used, clippy::panic, reason = "all of this is test code, the helpers too")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use causeway_control::model::region::AcceptRegions;
use causeway_harness::{
    cluster::{Cluster, ImportOptions, Silo, Store},
    export::Export,
    process,
};
use causeway_silo::db::{Db, Options, Statement};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use uuid::Uuid;

/// The longest that anything may take. Nothing here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// How a command ended, and what it printed.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// The subcommands that a text may suggest.
const SUBCOMMANDS: [&str; 18] = [
    "import",
    "export",
    "imports",
    "slugs",
    "regions",
    "organizations",
    "reconcile",
    "audit",
    "config",
    "certs",
    "throttle",
    "doctor",
    "health",
    "restored",
    "encrypt",
    "decrypt",
    "completions",
    "man",
];

/// All commands in a printed text: those in backticks, and those on a line of their own. A command anywhere
/// else is an error, because it is unclear where it ends.
fn commands_in(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for line in text.lines() {
        let alone = line.trim_start();
        if alone.len() < line.len() && alone.starts_with("causeway ") {
            commands.push(alone.to_owned());
            continue;
        }
        for (index, part) in line.split('`').enumerate() {
            if index % 2 == 1 && part.starts_with("causeway ") {
                commands.push(part.to_owned());
                continue;
            }
            let bare = |name: &&str| part.contains(&format!("causeway {name} "));
            assert_eq!(SUBCOMMANDS.into_iter().find(bare), None, "a command outside backticks: {line}");
        }
    }
    commands
}

/// The one of these commands that contains the words; several times the same is one.
fn one_of(commands: &[String], words: &str) -> Option<String> {
    let mut found: Vec<&String> = commands.iter().filter(|command| command.contains(words)).collect();
    found.dedup();
    match found.as_slice() {
        [command] => Some((*command).clone()),
        [] => None,
        several => panic!("several commands with {words:?}: {several:#?}"),
    }
}

impl Ended {
    /// All commands that it printed, on standard output and then on standard error.
    fn commands(&self) -> Vec<String> {
        [commands_in(&self.stdout), commands_in(&self.stderr)].concat()
    }

    /// The one printed command that contains these words.
    fn command(&self, words: &str) -> String {
        one_of(&self.commands(), words).unwrap_or_else(|| panic!("no command with {words:?} in {self:#?}"))
    }

    #[track_caller]
    fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// Changes a database on SQLite directly.
async fn change(path: &Path, statement: Statement) {
    let url = format!("sqlite:{}", path.display());
    let db = Db::connect(&url, &Options::default()).await.expect("the database");
    let mut tx = db.begin().await.expect("a transaction");
    tx.execute(statement).await.expect("it is changed");
    tx.commit().await.expect("a commit");
    db.close().await;
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
        change(&self.0.path().join("it's my data").join("region.db"), Statement::new(sql)).await;
    }

    fn command(&self, line: &str) -> Command {
        let bin = Path::new(env!("CARGO_BIN_EXE_causeway")).parent().expect("a directory");
        let path = env::var_os("PATH").unwrap_or_default();
        let paths = [PathBuf::from(bin)].into_iter().chain(env::split_paths(&path));
        let mut command = Command::from(process::command("sh"));
        command.arg("-c").arg(line).current_dir(self.0.path()).kill_on_drop(true);
        command.env("PATH", env::join_paths(paths).expect("a path")).stdin(Stdio::null());
        command
    }

    async fn run(&self, line: &str) -> Ended {
        let mut command = self.command(line);
        let Output { status, stdout, stderr } =
            tokio::time::timeout(LIMIT, command.output()).await.expect("it ends").expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }
}

/// A command that runs while others do.
struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    /// Starts a line of a shell.
    fn start(shell: &Shell, line: &str) -> Self {
        let stderr = shell.0.path().join("stderr");
        let file = fs::File::create(&stderr).expect("a file");
        let mut command = shell.command(line);
        let child = command.stdout(Stdio::null()).stderr(file).spawn().expect("it runs");
        Self { child, stderr }
    }

    /// The printed command that contains these words, as soon as there is one.
    async fn command(&self, words: &str) -> String {
        let printed = async {
            loop {
                let text = fs::read_to_string(&self.stderr).expect("a file");
                // The last line may not be whole yet.
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                if let Some(command) = one_of(&commands_in(whole), words) {
                    return command;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, printed)
            .await
            .unwrap_or_else(|_| panic!("no command with {words:?} in {:?}", fs::read_to_string(&self.stderr)))
    }

    async fn succeeds(mut self) {
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends").expect("it ran");
        assert!(status.success(), "{:?}", fs::read_to_string(&self.stderr));
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
    // The commands are for all findings of the dry run, for all that it shows, and for the import itself.
    let findings = shell.run(&dry.command("--findings")).await.ends_with(0);
    let all = shell.run(&dry.command("--all")).await.ends_with(0);
    assert!(all.stdout.contains("free"), "{}", &all.stdout[..400]);
    assert_eq!(findings.stdout.matches("SLUG_CHANGED (warning)").count(), 1_000, "{:?}", dry.commands());
    let line = dry.command("causeway import organizations");
    assert!(!line.contains("--dry-run"), "{line}");
    let import = shell.run(&line).await.ends_with(0);
    let keys = shell.run(&import.command("imports keys")).await.ends_with(0);
    assert_eq!(keys.stdout.lines().count(), 1 + 1_001);
    assert!(keys.stdout.contains("inserted  wanted       wanted\n"), "{}", &keys.stdout[..400]);
    let all = shell.run(&import.command("--all")).await.ends_with(0);
    assert!(all.stdout.contains("  wanted       wanted\n"), "{}", &all.stdout[..400]);
    let findings = shell.run(&import.command("--findings")).await.ends_with(0);
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
    for (options, code, expected) in
        [("", 1, "EXPORT_INVALID"), (" --dry-run --merge-users", 10, "EXPORT_INVALID")]
    {
        let line = format!("causeway import organizations bad.json{options} {DATA}");
        let failed = shell.run(&line).await.ends_with(code);
        let again = failed.command("import organizations");
        assert_eq!(again.contains("--merge-users"), options.contains("--merge-users"), "{again}");
        let again = shell.run(&again).await.ends_with(code);
        assert!(again.stderr.contains(expected), "{again:?}");
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

/// An import that waits for an operator prints what the operator has to run, in its progress and in its report.
async fn waits_for(cluster: &Cluster, shell: &Shell, import_id: u128, words: &str) {
    let (id, region) = (Uuid::from_u128(import_id), cluster.region(0).url().to_owned());
    let line = format!("causeway import organizations export.json --import-id {id} --region {region}");
    let import = Running::start(shell, &line);
    let expected = import.command(words).await;
    let shown = shell.run(&format!("causeway imports show {id} --region {region}")).await.ends_with(0);
    assert_eq!(shown.command(words), expected, "the report says the same");
    shell.run(&expected).await.ends_with(0);
    import.succeeds().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_import_of_an_unknown_suspended_or_replaced_region_prints_can_be_pasted() {
    let shell = Shell::new();
    shell.write("export.json", &many(2));
    let mut cluster = Cluster::builder(Store::Sqlite)
        .region("us")
        .configure_control(|options| options.accept_regions = AcceptRegions::Added)
        .start()
        .await
        .expect("a cluster");
    let control = format!("--control {}", cluster.control_url());
    waits_for(&cluster, &shell, 1, "regions add us").await;
    // It cannot be removed any more; what is printed suspends it instead.
    let refused = shell.run(&format!("causeway regions remove us {control}")).await.ends_with(1);
    let suspended = shell.run(&refused.command("regions suspend us")).await.ends_with(0);
    let listed = shell.run(&format!("causeway regions list {control}")).await.ends_with(0);
    assert_eq!(listed.command("regions resume"), suspended.command("regions resume"));
    waits_for(&cluster, &shell, 2, "regions resume us").await;

    // Another database has the name now.
    cluster.stop_region(0).await;
    let taken = Statement::new("UPDATE causeway_region SET instance_id = $1 WHERE name = 'us'");
    let other = Uuid::from_u128(7);
    cluster.change(Silo::Control, &[taken.with(other)]).await.expect("changed");
    cluster.start_region(0).await.expect("it starts");
    waits_for(&cluster, &shell, 3, "regions take-over us").await;
    let line = format!("causeway regions take-over us {control}");
    let over = shell.run(&line).await.ends_with(0);
    cluster.quiet(LIMIT).await.expect("quiet");
    let listed = shell.run(&over.command("regions list")).await.ends_with(0);
    assert!(listed.stdout.contains(cluster.region(0).url()), "{listed:?}");
    cluster.stop().await;
}

/// A region says in its log what an operator has to run, with the address of control, or its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_region_logs_can_be_pasted() {
    let shell = Shell::new();
    let cluster = Cluster::builder(Store::Sqlite)
        .configure_control(|options| options.accept_regions = AcceptRegions::Added)
        .start()
        .await
        .expect("a cluster");
    let control = cluster.control_url();
    for (name, format) in [("eu", "text"), ("us", "json")] {
        let line = format!(
            "exec causeway region --name {name} --listen 127.0.0.1:0 --control {control} --database-url sqlite:{name}.db \
             --spool-dir {name} --log-format {format}"
        );
        let mut region = Running::start(&shell, &line);
        let add = region.command(&format!("regions add {name}")).await;
        assert_eq!(add, format!("causeway regions add {name} --control {control}"));
        shell.run(&add).await.ends_with(0);
        let known = async {
            loop {
                let listed =
                    shell.run(&format!("causeway regions list --control {control}")).await.ends_with(0);
                if listed.stdout.contains(name) {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, known).await.expect("it registers");
        region.child.kill().await.expect("it is killed");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_import_with_an_organization_that_the_directory_refuses_prints_can_be_pasted() {
    let shell = Shell::new();
    let mut cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    let import = cluster.region(0).import(&many(2), &ImportOptions::default()).await.expect("it ends");
    let id = import.organizations[0].id;
    cluster.quiet(LIMIT).await.expect("quiet");
    cluster.stop_region(0).await;
    let delete = |table| Statement::new("DELETE FROM ").push(table).push(" WHERE organization_id = ").arg(id);
    let gone = ["causeway_organization_slug_reservation", "causeway_organization"].map(delete);
    cluster.change(Silo::Control, &gone).await.expect("changed");
    let unreported = Statement::new("UPDATE causeway_import SET reported = $1").with(false);
    cluster.change(Silo::Region(0), &[unreported]).await.expect("changed");
    cluster.start_region(0).await.expect("it starts");
    cluster.quiet(LIMIT).await.expect("quiet");
    let (id, region) = (import.import_id, cluster.region(0).url().to_owned());
    for findings in ["", " --findings"] {
        let line = format!("causeway imports show {id}{findings} --region {region}");
        let shown = shell.run(&line).await.ends_with(0);
        assert!(shown.stdout.contains("NOT_IN_DIRECTORY"), "{shown:?}");
        let repair = shown.command("reconcile --repair");
        assert_eq!(repair, format!("causeway reconcile --repair --region {region}"));
        shell.run(&repair).await.ends_with(0);
    }
    shell.run(&format!("causeway reconcile --check --region {region}")).await.ends_with(0);
    cluster.stop().await;
}

/// Entries that somebody has added in the database are shown by a printed command, of whichever service it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_check_of_an_audit_log_prints_can_be_pasted() {
    let add = Statement::new(
        "INSERT INTO causeway_audit (time, request_id, who, address, call, object, outcome, reason, left_out) \
         SELECT time, request_id, 'mallory', address, call, object, outcome, reason, left_out FROM causeway_audit LIMIT 1",
    );
    let shell = Shell::new();
    let cluster = Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster");
    cluster.region(0).import(&many(1), &ImportOptions::default()).await.expect("it ends");
    cluster.quiet(LIMIT).await.expect("quiet");
    for (silo, service) in [
        (Silo::Control, format!("--control {}", cluster.control_url())),
        (Silo::Region(0), format!("--region {}", cluster.region(0).url())),
    ] {
        cluster.change(silo, std::slice::from_ref(&add)).await.expect("changed");
        let loose = shell.run(&format!("causeway audit verify {service}")).await.ends_with(1);
        let listed = shell.run(&loose.command("audit list")).await.ends_with(0);
        assert!(listed.stdout.contains("mallory"), "{listed:?}");
    }
    cluster.stop().await;
    // Of the embedded services, the option defines which one is meant.
    shell.write("export.json", &many(1));
    shell.run(&format!("causeway import organizations export.json {DATA}")).await.ends_with(0);
    let path = shell.0.path().join("it's my data").join("control.db");
    change(&path, add).await;
    let loose = shell.run(&format!("causeway audit verify --service control {DATA}")).await.ends_with(1);
    let listed = shell.run(&loose.command("audit list")).await.ends_with(0);
    assert!(listed.stdout.contains("mallory"), "{listed:?}");

    // An error of the embedded control names its own log.
    for broken in
        ["DROP TRIGGER causeway_audit_state_update", "UPDATE causeway_audit_state SET base_hash = 'nonsense'"]
    {
        change(&path, Statement::new(broken)).await;
    }
    let broken = shell.run(&format!("causeway audit verify --service control {DATA}")).await;
    let verify = broken.ends_with(1).command("audit verify");
    assert!(verify.contains("--service control --data-dir"), "{verify}");
    shell.run(&verify).await.ends_with(1);
}
