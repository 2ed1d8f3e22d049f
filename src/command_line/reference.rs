//! docs/configuration.md and docs/commands.md are generated from the definitions of the command line. These tests fail
//! if they are out of date, and rewrite them with `CAUSEWAY_BLESS=1 cargo test --bin causeway reference`.

use std::path::Path;

use clap::{Arg, Command, CommandFactory as _};

use crate::{
    commands::Cli,
    settings::{CLIENT, SERVERS, keys_of},
};

/// The text before the tables of settings.
const HEAD: &str = "\
# Configuration

Every setting of `causeway control` and `causeway region`, and of the commands that call them. This page is generated from the definitions of the command
line, and a test compares the two.

The value of a setting comes from the first of these that is given:

1. its option on the command line,
2. its environment variable,
3. its key in the TOML file that `--config FILE` or `CAUSEWAY_CONFIG` names,
4. its default.

One file may have a table for each server:

```toml
log_format = \"json\"

[control]
database_url = \"postgres:///causeway_control\"

[region]
name = \"us\"
control = \"http://127.0.0.1:50051\"
database_url = \"postgres:///causeway_us\"
```

An unknown key is an error that names its line and the most similar key; so is a value that the setting cannot have.
`causeway config check --config FILE` checks the whole file, and `causeway config check region --config FILE` checks
what `causeway region` would start with, options and variables included. Both print all settings as a file, with the
origin of each, and start nothing. A server logs the same when it starts. Neither shows passwords in URLs.

- TIME is a number of seconds, or numbers with units: `250ms`, `10s`, `1h 30m`.
- SIZE is a number of bytes, or a number with a unit: `64MiB`, `1GB`.
- In the file, values are strings, numbers or booleans as is convenient: `\"10s\"`, `10` and `\"10\"` are the same time.
";

/// The text after the tables.
const CLIENTS: &str = "
Commands that call a service read the file too. A context is a place with a name:

```toml
[client]
tls_ca = \"/etc/causeway/ca.pem\"

[contexts.prod-us]
region = \"https://us-1.example.com:50052,https://us-2.example.com:50052\"
control = \"https://control.example.com:50051\"
tls_cert = \"/etc/causeway/ann.pem\"
tls_key = \"/etc/causeway/ann-key.pem\"
```

`causeway imports list --context prod-us --config causeway.toml` asks that region; `CAUSEWAY_CONTEXT` and
`CAUSEWAY_CONFIG` do the same. Where a command goes is said by the first of these that says it:

1. `--region`, `--control` or `--data-dir` on the command line,
2. the context that `--context` names on the command line,
3. `CAUSEWAY_REGION`, `CAUSEWAY_CONTROL` and `CAUSEWAY_DATA_DIR`,
4. the context that `CAUSEWAY_CONTEXT` names,
5. the table `[client]`,
6. nothing: the embedded services, with their data in `./causeway-data`.

A command that may go to either service goes to the region, if that is known. If only the other of the two services is
known, a command is refused rather than run on local data. The first line of a command, on stderr, says where it goes
and what said so. Of several addresses, separated by commas, the first that can be reached is used.

`causeway doctor` and `causeway health` follow the same order. The doctor asks the control and the region that it finds
so, and each of several addresses; about a server that it is told to examine (`causeway doctor region`), it asks them only
if the line names a context. `causeway health` without a URL asks the region, or if none is known control. `CAUSEWAY_HEALTH_URL`
counts before the other variables, and like them only if the line names no context. Both need no local data.
";

/// Compares a page with the text that it should have, or writes it.
fn hold(name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
    if std::env::var_os("CAUSEWAY_BLESS").is_some() {
        std::fs::write(&path, wanted).expect("it can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/{name} is out of date; CAUSEWAY_BLESS=1 cargo test --bin causeway reference brings it up to date"
    );
}

/// The command line, with a help that does not show the values of environment variables.
fn without_environment(command: Command) -> Command {
    command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(without_environment)
}

/// The help of an argument in one line, and its default if only the help states it.
fn help(arg: &Arg) -> (String, Option<String>) {
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    match help.split_once(" [default: ").and_then(|(text, default)| Some((text, default.strip_suffix(']')?)))
    {
        Some((text, default)) => (text.to_owned(), Some(default.to_owned())),
        None => (help, None),
    }
}

fn row(arg: &Arg) -> String {
    let key = arg.get_id();
    let long = arg.get_long().unwrap_or_default();
    let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let unit = match arg.get_possible_values().as_slice() {
        [] => arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default(),
        values => values.iter().map(|value| value.get_name()).collect::<Vec<_>>().join(" or "),
    };
    let (meaning, default_in_help) = help(arg);
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    let default = match (defaults.as_slice(), default_in_help) {
        ([], Some(default_in_help)) => default_in_help,
        ([], None) if arg.is_required_set() => "(must be set)".to_owned(),
        ([], None) => String::new(),
        (defaults, _) => defaults.join(", "),
    };
    format!("| `{key}` | `--{long}` | `{variable}` | {unit} | {default} | {meaning} |\n")
}

fn configuration() -> String {
    let root = Cli::command();
    let mut page = HEAD.to_owned();
    for section in [None].into_iter().chain(SERVERS.map(Some)).chain([Some(CLIENT)]) {
        let title = match section {
            None => "The log and traces: top of the file".to_owned(),
            Some(CLIENT) => {
                "Commands that call a service: tables `[client]` and `[contexts.NAME]`".to_owned()
            }
            Some(server) => format!("`causeway {server}`: table `[{server}]`"),
        };
        page.push_str(&format!("\n## {title}\n\n"));
        page.push_str("| key | option | variable | value | default | meaning |\n");
        page.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for arg in keys_of(&root, section) {
            page.push_str(&row(&arg));
        }
    }
    page.push_str(CLIENTS);
    page
}

fn add_help(command: &Command, page: &mut String) {
    let mut shown = command.clone();
    let name = shown.get_bin_name().unwrap_or("causeway").to_owned();
    let help = shown.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        add_help(inner, page);
    }
}

fn commands() -> String {
    let mut root = without_environment(crate::command_line::root());
    root.build();
    let mut page = String::from(
        "# Commands\n\nWhat `--help` says, of every command. This page is made by a test; see [the README](../README.md).\n",
    );
    add_help(&root, &mut page);
    page
}

#[test]
fn every_setting_is_documented() {
    hold("configuration.md", &configuration());
}

#[test]
fn every_command_is_documented() {
    hold("commands.md", &commands());
}
