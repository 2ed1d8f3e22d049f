//! The command line.

use std::path::Path;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::{Cli, Command, Outcome, import, imports, slugs};

fn parse(line: &[&str]) -> Result<Command, clap::Error> {
    Cli::try_parse_from([&["causeway"], line].concat()).map(|cli| cli.command)
}

fn import_args(line: &[&str]) -> import::Args {
    let line = [&["import", "organizations"], line].concat();
    match parse(&line).expect("it is right") {
        Command::Import(import::Command::Organizations(args)) => args,
        other => panic!("{other:?}"),
    }
}

/// The error of a line that is wrong. Every one ends the command with exit code 2.
fn wrong(line: &[&str]) -> ErrorKind {
    let error = parse(line).expect_err("it is wrong");
    assert_eq!(error.exit_code(), 2);
    error.kind()
}

#[test]
fn the_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_control_listens_on_loopback_by_default() {
    let Command::Control(args) = parse(&["control", "--database-url", "sqlite:x.db"]).expect("it is right")
    else {
        panic!("another command")
    };
    assert_eq!(args.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(args.server.database_url, "sqlite:x.db");
    assert_eq!(args.server.advertise, None);
    assert_eq!(wrong(&["control"]), ErrorKind::MissingRequiredArgument);
    assert_eq!(wrong(&["control", "--database-url", "x", "--listen", "nowhere"]), ErrorKind::ValueValidation);
}

#[test]
fn a_region_needs_a_name_that_the_contract_allows() {
    let line = |name| {
        ["region", "--name", name, "--control", "http://127.0.0.1:50051", "--database-url", "sqlite:x.db"]
    };
    let Command::Region(args) = parse(&line("eu-1")).expect("it is right") else { panic!("another command") };
    assert_eq!(args.name, "eu-1");
    assert_eq!(args.listen.to_string(), "127.0.0.1:50052");
    assert_eq!(args.control, ["http://127.0.0.1:50051"]);
    assert_eq!(args.spool_dir, None);
    let long = "x".repeat(33);
    for name in ["EU", "a_b", "a b", long.as_str()] {
        assert_eq!(wrong(&line(name)), ErrorKind::ValueValidation, "{name}");
    }
    assert_eq!(
        wrong(&["region", "--name", "eu", "--control", "127.0.0.1:50051", "--database-url", "x"]),
        ErrorKind::ValueValidation
    );
}

#[test]
fn a_filter_is_a_list_and_may_be_empty() {
    assert_eq!(import_args(&["x.json"]).filter_org_slugs, None);
    let slugs = |line: &[&str]| import_args(line).filter_org_slugs.expect("there is one").slugs;
    assert_eq!(slugs(&["x.json", "--filter-org-slugs", "acme, api,"]), ["acme", "api"]);
    assert!(slugs(&["x.json", "--filter-org-slugs", ""]).is_empty());
    assert!(slugs(&["x.json", "--filter-org-slugs="]).is_empty());
}

#[test]
fn an_import_goes_to_a_region_or_to_the_data_directory() {
    let args = import_args(&["x.json"]);
    assert_eq!(args.region.region, None);
    assert_eq!(args.region.data.data_dir, Path::new("./causeway-data"));
    let args = import_args(&["x.json", "--region", "http://eu.example:50052"]);
    assert_eq!(args.region.region.as_deref(), Some("http://eu.example:50052"));
    let import = ["import", "organizations", "x.json"];
    let wrong = |more: &[&str]| wrong(&[&import, more].concat());
    assert_eq!(wrong(&["--region", "http://eu:1", "--data-dir", "d"]), ErrorKind::ArgumentConflict);
    assert_eq!(wrong(&["--region", "https://eu:1"]), ErrorKind::ValueValidation);
    assert_eq!(wrong(&["--region", "http://"]), ErrorKind::ValueValidation);
    assert_eq!(wrong(&["--import-id", "7"]), ErrorKind::ValueValidation);
    assert_eq!(wrong(&["--output", "yaml"]), ErrorKind::InvalidValue);
}

#[test]
fn looking_commands_take_what_they_look_for() {
    let Command::Slugs(slugs::Command::Resolve(args)) =
        parse(&["slugs", "resolve", "acme", "api"]).expect("it is right")
    else {
        panic!("another command")
    };
    assert_eq!(args.slugs, ["acme", "api"]);
    let Command::Slugs(slugs::Command::List(args)) =
        parse(&["slugs", "list", "--for-region", "eu"]).expect("it is right")
    else {
        panic!("another command")
    };
    assert_eq!(args.for_region.as_deref(), Some("eu"));
    let id = "3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11";
    let Command::Imports(imports::Command::Show(args)) =
        parse(&["imports", "show", id, "--findings", "--output", "json"]).expect("it is right")
    else {
        panic!("another command")
    };
    assert_eq!(args.import_id.to_string(), id);

    assert_eq!(wrong(&["slugs", "resolve"]), ErrorKind::MissingRequiredArgument);
    assert_eq!(wrong(&["imports", "show", "seven"]), ErrorKind::ValueValidation);
    let both = ["organizations", "list", "--region", "http://a:1", "--control", "http://b:1"];
    assert_eq!(wrong(&both), ErrorKind::ArgumentConflict);
    parse(&["imports", "list", "--data-dir", "d"]).expect("it is right");
}

#[test]
fn help_never_shows_a_database_password() {
    let mut command = Cli::command();
    let control = command.find_subcommand_mut("control").expect("it is there");
    let url =
        control.get_arguments().find(|argument| argument.get_id() == "database_url").expect("it is there");
    assert!(url.is_hide_env_values_set());
}

#[test]
fn outcomes_are_exit_codes() {
    use std::process::ExitCode;
    assert_eq!(ExitCode::from(Outcome::Done), ExitCode::SUCCESS);
    assert_eq!(ExitCode::from(Outcome::Failed), ExitCode::from(1));
}
