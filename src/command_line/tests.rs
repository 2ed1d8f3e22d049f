//! Where settings come from, and what is reported about a wrong file.

use std::{ffi::OsString, path::PathBuf};

use clap::{CommandFactory as _, error::ErrorKind};
use tempfile::TempDir;

use super::{Line, Refusal, parse};
use crate::{
    commands::Cli,
    settings::{
        SERVERS,
        effective::{Setting, Source, render},
        keys_of,
    },
};

struct Config {
    directory: TempDir,
}

impl Config {
    fn new(text: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        std::fs::write(directory.path().join("causeway.toml"), text).expect("it is written");
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("causeway.toml")
    }

    /// Parses a line, in which `FILE` is replaced by the file.
    fn line(&self, line: &[&str]) -> Result<Line, Refusal> {
        let words = ["causeway"].iter().chain(line);
        let words: Vec<OsString> = words
            .map(|word| if *word == "FILE" { self.path().into_os_string() } else { OsString::from(word) })
            .collect();
        parse(&words)
    }

    /// The problems of the file, without its path.
    fn problems(&self, line: &[&str]) -> Vec<String> {
        let Err(Refusal::Settings(error)) = self.line(line) else { panic!("{line:?} is not refused") };
        let path = format!("{}:", self.path().display());
        format!("{error:#}").lines().skip(1).map(|line| line.replace(&path, "")).collect()
    }
}

fn setting<'a>(line: &'a Line, key: &str) -> &'a Setting {
    line.settings.iter().find(|setting| setting.key == key).expect("it has a value")
}

const GOOD: &str = r#"
log_format = "json"

[control]
database_url = "postgres://me:secret@db/control"

[region]
name = "us"
control = "http://127.0.0.1:50051"
database_url = "postgres://me:secret@db/us"
listen = "127.0.0.1:7"
imports_at_once = 3
max_record_size = "1MiB"
"#;

#[test]
fn options_are_stronger_than_the_file_and_the_file_than_defaults() {
    let config = Config::new(GOOD);
    let line = config.line(&["region", "--config", "FILE", "--listen", "127.0.0.1:8"]).expect("it is right");
    let file = |line| Source::File(config.path().display().to_string(), line);
    let said = |key: &str| (setting(&line, key).value.as_str(), setting(&line, key).source.clone());
    assert_eq!(said("listen"), ("127.0.0.1:8", Source::Option("listen".to_owned())));
    assert_eq!(said("name"), ("us", file(8)));
    assert_eq!(said("imports_at_once"), ("3", file(12)));
    assert_eq!(said("max_record_size"), ("1MiB", file(13)));
    assert_eq!(said("max_record_depth"), ("120", Source::Default));
    assert_eq!(said("log_format"), ("json", file(2)));
    assert_eq!(said("database_url"), ("postgres://me@db/us", file(10)));

    let line = config.line(&["control", "--config", "FILE"]).expect("it is right");
    assert_eq!(setting(&line, "database_url").value, "postgres://me@db/control");
    assert!(line.settings.iter().all(|setting| setting.key != "name"), "that is another server's");
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let config = Config::new(GOOD);
    let line = config.line(&["config", "check", "--config", "FILE"]).expect("it is right");
    let printed = render(&line.settings);
    assert!(!printed.contains("secret"), "{printed}");
    let again = Config::new(&printed);
    let line_again = again.line(&["config", "check", "--config", "FILE"]).expect("it is right");
    let values = |line: &Line| -> Vec<(Option<String>, String, String)> {
        line.settings.iter().map(|it| (it.section.clone(), it.key.clone(), it.value.clone())).collect()
    };
    assert_eq!(values(&line_again), values(&line));
    assert!(printed.contains("max_record_depth = 120  # default\n"), "{printed}");
    assert!(printed.contains(&format!("name = \"us\"  # {}:8\n", config.path().display())), "{printed}");
}

#[test]
fn everything_that_is_wrong_with_a_file_is_reported_with_its_line() {
    let config = Config::new(
        "log_formt = \"json\"\nname = \"us\"\n[region]\nname = \"US\"\ndatabase-url = \"sqlite:x\"\n\
         listen = 7\nimports_at_once = []\nmax_record_depth = 121\nspool_dir = {a = 1}\n[contro]\n[control]\n\
         max_record_size = \"1MiB\"\nzzzzzzzzzzzzzzzz = 1\n",
    );
    let problems = config.problems(&["config", "check", "--config", "FILE"]);
    let expected = [
        "1: `log_formt` is not a setting at the top of the file; is `log_format` meant?",
        "2: `name` is not a setting at the top of the file; its place is in [region]",
        "4: invalid value 'US' for '--name <NAME>': a region's name is ",
        "5: `database-url` is not a setting in [region]; is `database_url` meant?",
        "6: invalid value '7' for '--listen <ADDR>': invalid socket address syntax",
        "7: `imports_at_once` must be a string, ",
        "8: invalid value '121' for '--max-record-depth <N>': 121 is not in 3..=120",
        "9: `spool_dir` must be a string, a number, true, false, or a list of those",
        "10: `contro` is not a setting at the top of the file; is `control` meant?",
        "12: `max_record_size` is not a setting in [control]; its place is in [region]",
        "13: `zzzzzzzzzzzzzzzz` is not a setting in [control]; there are listen, ",
    ];
    let at = |line: &str| problems.iter().find(|problem| problem.starts_with(line));
    for expected in expected {
        let line = expected.split(' ').next().expect("a line");
        assert!(at(line).is_some_and(|problem| problem.starts_with(expected)), "{expected}: {problems:#?}");
    }
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
}

#[test]
fn a_file_that_is_no_toml_is_reported_with_its_line() {
    let config = Config::new("log_format = \"json\"\n[region\n");
    let problems = config.problems(&["region", "--config", "FILE"]);
    assert!(problems[0].starts_with("2: "), "{problems:?}");
    let twice =
        Config::new("[region]\nname = \"a\"\nname = \"b\"\n").problems(&["region", "--config", "FILE"]);
    assert!(twice[0].starts_with("3: duplicate key"), "{twice:?}");
}

#[test]
fn a_secret_is_not_in_what_is_said_about_a_wrong_file() {
    let config = Config::new("[control]\ndatabase_url = \"mysql://me:secret@db/x\"\n");
    let Err(Refusal::Settings(error)) = config.line(&["config", "check", "--config", "FILE"]) else {
        panic!("it is wrong")
    };
    let error = format!("{error:#}");
    assert!(error.contains("--database-url: the database URL must begin with"), "{error}");
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn what_is_still_missing_is_named() {
    let config = Config::new("[region]\nname = \"us\"\ndatabase_url = \"sqlite:x\"\n");
    let Err(Refusal::Usage(error)) = config.line(&["region", "--config", "FILE"]) else {
        panic!("a region without control is started")
    };
    assert_eq!(error.kind(), ErrorKind::MissingRequiredArgument);
    assert!(
        error.to_string().contains("--control <URL>") && !error.to_string().contains("--name <"),
        "{error}"
    );
    for line in
        [&["config", "check", "--config", "FILE"][..], &["config", "check", "region", "--config", "FILE"]]
    {
        let Err(Refusal::Settings(error)) = config.line(line) else { panic!("{line:?}") };
        assert!(format!("{error:#}").contains("--control <URL>"), "{error:#}");
    }
    let Err(Refusal::Settings(error)) = config.line(&["region", "--config", "/nowhere/at/all"]) else {
        panic!("there is no such file")
    };
    assert!(format!("{error:#}").contains("/nowhere/at/all cannot be read"), "{error:#}");
}

#[test]
fn help_and_wrong_lines_are_those_of_the_real_command() {
    let config = Config::new("");
    for (line, kind) in [
        (&["region", "--help"][..], ErrorKind::DisplayHelp),
        (&["--version"], ErrorKind::DisplayVersion),
        (&["region", "--nonsense"], ErrorKind::UnknownArgument),
        (&["slugs", "resolve"], ErrorKind::MissingRequiredArgument),
        (&["config", "check", "--config", "FILE", "nonsense"], ErrorKind::InvalidSubcommand),
    ] {
        let Err(Refusal::Usage(error)) = config.line(line) else { panic!("{line:?}") };
        assert_eq!(error.kind(), kind, "{line:?}");
    }
    let Err(Refusal::Usage(help)) = config.line(&["region", "--help"]) else { panic!("help") };
    assert!(help.to_string().contains("Usage: causeway region [OPTIONS] --name <NAME>"), "{help}");
}

/// docs/configuration.md has a column for each of these.
#[test]
fn every_setting_has_a_variable_a_help_and_a_unit() {
    let root = Cli::command();
    for server in [None].into_iter().chain(SERVERS.map(Some)) {
        for arg in keys_of(&root, server) {
            let id = arg.get_id();
            let variable = arg.get_env().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(variable.starts_with("CAUSEWAY_"), "{id}");
            assert!(arg.get_help().is_some(), "{id}");
            assert_eq!(arg.get_long(), Some(id.as_str().replace('_', "-").as_str()), "{id}");
        }
    }
}
