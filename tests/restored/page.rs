//! The commands of docs/backup.md, and how tests run them.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use causeway_harness::{
    cluster::{Cluster, Service, Silo, Store},
    postgres, process,
};
use tempfile::TempDir;

/// The longest that commands may take, in seconds. Nothing here takes this long unless it hangs.
const LIMIT: &str = "60";

/// The commands that follow these words on the page.
pub(crate) fn commands(after: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backup.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let (_, rest) = page.split_once(after).unwrap_or_else(|| panic!("the page has no {after:?}"));
    let (_, rest) = rest.split_once("```sh\n").expect("commands follow");
    rest.split_once("```").expect("they end").0.to_owned()
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) log: String,
}

impl Ended {
    fn of(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: status.code(), output: text(stdout), log: text(stderr) }
    }

    #[track_caller]
    pub(crate) fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.output, self.log);
        self.output
    }

    /// The printed commands that begin with these words, each as it can be pasted.
    pub(crate) fn printed(&self, words: &str) -> Vec<String> {
        let parts = self.output.split('`').skip(1).step_by(2);
        let mut found: Vec<String> = parts.filter(|it| it.starts_with(words)).map(str::to_owned).collect();
        found.sort();
        found.dedup();
        found
    }
}

/// A place for copies, and the variables of the page.
pub(crate) struct Operator {
    directory: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Operator {
    /// The operator of one database of a cluster.
    pub(crate) fn of(cluster: &Cluster, silo: Silo) -> Self {
        let directory = tempfile::Builder::new().prefix("causeway-copies-").tempdir().expect("a directory");
        let copies = directory.path().to_str().expect("UTF-8").to_owned();
        let archive = format!("{copies}/wal");
        std::fs::create_dir(&archive).expect("a directory");
        let url = cluster.database_url(silo);
        let mut variables = vec![("COPIES", copies.clone()), ("ARCHIVE", archive)];
        match cluster.store() {
            Store::Sqlite => {
                variables.push(("FILE", url.trim_start_matches("sqlite:").to_owned()));
                variables.push(("NAME", "copy".to_owned()));
            }
            Store::Postgres => {
                // The server writes there.
                postgres::command("true", Path::new(&format!("{copies}/wal"))).expect("PostgreSQL");
                let (server, name) = url.rsplit_once('/').expect("a name");
                variables.push(("SERVER", server.to_owned()));
                variables.push(("NAME", name.split('?').next().expect("a name").to_owned()));
            }
        }
        Self { directory, variables }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn set(&mut self, name: &'static str, value: String) {
        self.variables.push((name, value));
    }

    fn run(&self, command: Command, script: &str) -> Ended {
        self.run_in_shell(command, &["-euo", "pipefail"], script)
    }

    fn run_in_shell(&self, mut command: Command, shell: &[&str], script: &str) -> Ended {
        let program = Path::new(env!("CARGO_BIN_EXE_causeway")).parent().expect("a directory");
        let path = command
            .get_envs()
            .find(|(name, _)| *name == "PATH")
            .and_then(|(_, path)| path.map(std::ffi::OsStr::to_os_string))
            .or_else(|| std::env::var_os("PATH"))
            .expect("a path");
        let paths = [program.to_owned()].into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths).expect("a path"));
        command.args(["--kill-after=5", LIMIT, "bash"]).args(shell).args(["-c", script]);
        command.envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())));
        Ended::of(command.stdin(Stdio::null()).output().expect("it runs"))
    }

    /// Runs commands as an operator does who calls services.
    pub(crate) fn calls(&self, script: &str) -> Ended {
        let mut command = process::command("timeout");
        command.current_dir(self.path());
        self.run(command, script)
    }

    /// Pastes commands into a shell, which goes on after a line that fails.
    pub(crate) fn pastes(&self, script: &str) -> Ended {
        let mut command = postgres::command("timeout", self.path()).expect("PostgreSQL");
        command.current_dir(self.path());
        self.run_in_shell(command, &[], script)
    }

    /// Runs commands as the user of the database server.
    pub(crate) fn on_server(&self, script: &str) -> Ended {
        self.run(postgres::command("timeout", self.path()).expect("PostgreSQL"), script)
    }

    /// Takes a copy while the services serve.
    pub(crate) fn copy(&self, store: Store) {
        let ended = match store {
            Store::Postgres => self.on_server(&commands("**A dump of PostgreSQL:**")),
            Store::Sqlite => self.calls(&commands("**SQLite.** Do not copy")),
        };
        ended.well();
    }

    /// Puts the copy back. The service must be stopped.
    pub(crate) fn put_back(&self, store: Store) {
        let ended = match store {
            Store::Postgres => self.on_server(&commands("**From a dump.**")),
            Store::Sqlite => self.calls(&commands("**SQLite:**")),
        };
        ended.well();
    }

    /// Says that control's database is an old copy.
    pub(crate) fn say_restored(&self, store: Store) -> Ended {
        let step = commands("## After control was put back");
        self.calls(&match store {
            Store::Postgres => step,
            // As the page says.
            Store::Sqlite => step.replace("\"$SERVER/$NAME\"", "\"sqlite:$FILE\""),
        })
    }

    /// Says that control's database is a copy that is older than the era `last`.
    pub(crate) fn say_restored_again(&self, store: Store, last: i64) -> Ended {
        let step = format!("ERA={last}\n{}", commands("what was given out in that:"));
        self.calls(&match store {
            Store::Postgres => step,
            Store::Sqlite => step.replace("\"$SERVER/$NAME\"", "\"sqlite:$FILE\""),
        })
    }

    /// Follows the steps of the page for one region, after control was put back.
    pub(crate) fn follow_steps(&mut self, cluster: &Cluster, region: usize) {
        let found = self.reconcile(cluster, region, CHECK);
        assert!(matches!(found.code, Some(0 | 10)), "{found:?}");
        for command in found.printed("causeway slugs rename ") {
            self.calls(&command).well();
        }
        for command in found.printed("causeway imports revert ") {
            self.calls(&format!("{command} --yes")).well();
        }
        let repaired = self.reconcile(cluster, region, REPAIR);
        assert!(matches!(repaired.code, Some(0 | 10)), "{repaired:?}");
    }

    /// Compares a region with control, with a command of the page.
    pub(crate) fn reconcile(&mut self, cluster: &Cluster, region: usize, after: &str) -> Ended {
        self.set("REGION", cluster.url(Service::Region(region)));
        self.calls(&commands(after))
    }
}

/// Before the steps of both sections: what differs.
pub(crate) const CHECK: &str = "1. See what differs:";
/// Before the step that repairs after control was put back.
pub(crate) const REPAIR: &str = "4. Have the rest repaired:";
/// Before the step that repairs after a region was put back.
pub(crate) const REPAIR_REGION: &str = "is lost. Its slugs are freed by";
/// Before the last step.
pub(crate) const CHECK_AGAIN: &str = "6. When all regions are done";

/// Checks that a region and control agree.
pub(crate) fn agree(operator: &mut Operator, cluster: &Cluster, region: usize) {
    let printed = operator.reconcile(cluster, region, CHECK_AGAIN).well();
    assert!(printed.contains(" 0 differences"), "{printed}");
}
