//! The command line.

use std::path::Path;

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::{Cli, Command, import, imports, outcome::Outcome, slugs};

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
    assert_eq!(args.server.database_url().expect("it is a URL").secret(), "sqlite:x.db");
    assert_eq!(args.server.advertise, None);
    let Command::Control(args) = parse(&["control"]).expect("the database may be in a file") else {
        panic!("another command")
    };
    let error = args.server.database_url().expect_err("it is nowhere");
    assert!(error.to_string().contains("give --database-url or --database-url-file"), "{error}");
    assert_eq!(wrong(&["control", "--database-url", "x", "--listen", "nowhere"]), ErrorKind::ValueValidation);
}

#[test]
fn a_replica_has_one_url_and_that_is_of_postgres() {
    let options = |more: &[&str]| {
        let line = [&["control", "--database-url", "postgres:///x"], more].concat();
        let Command::Control(args) = parse(&line).expect("it is right") else { panic!("another command") };
        args.read_database.options()
    };
    assert!(options(&[]).expect("none is needed").is_none());
    let url = "postgres://me:secret@a,b/x?target_session_attrs=standby";
    let replica = options(&["--read-database-url", url, "--read-max-lag", "30s"]).expect("it is right");
    let replica = replica.expect("there is one");
    assert_eq!((replica.url.secret(), replica.max_lag.as_secs()), (url, 30));
    let error = options(&["--read-database-url", url, "--read-database-url-file", "x"]).expect_err("two");
    assert!(error.to_string().contains("not both"), "{error}");
    for wrong_url in
        ["mysql://me:secret@a/x", "postgres://me:secret@a,/x", "postgres://a/x?connect_timeout=0"]
    {
        let error = options(&["--read-database-url", wrong_url]).expect_err("it is none");
        assert!(format!("{error:#}").contains("--read-database-url"), "{error:#}");
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }
    assert_eq!(
        wrong(&["control", "--database-url", "x", "--read-max-lag", "0s"]),
        ErrorKind::ValueValidation
    );
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
fn a_filter_is_a_list_that_names_something() {
    assert_eq!(import_args(&["x.json"]).filter_org_slugs, None);
    let slugs = |line: &[&str]| import_args(line).filter_org_slugs.expect("there is one").slugs;
    assert_eq!(slugs(&["x.json", "--filter-org-slugs", "acme, api,"]), ["acme", "api"]);
    for empty in [&["--filter-org-slugs", ""][..], &["--filter-org-slugs="], &["--filter-org-slugs", " , "]] {
        let line = [&["import", "organizations", "x.json"], empty].concat();
        assert_eq!(wrong(&line), ErrorKind::ValueValidation, "{empty:?}");
    }
}

#[test]
fn an_import_goes_to_a_region_or_to_the_data_directory() {
    let args = import_args(&["x.json"]);
    assert!(args.region.region.is_empty());
    assert_eq!(args.region.data.data_dir, Path::new("./causeway-data"));
    let args = import_args(&["x.json", "--region", "http://eu.example:50052"]);
    assert_eq!(args.region.region, ["http://eu.example:50052"]);
    let args = import_args(&["x.json", "--region", "https://eu.example:50052", "--tls-ca", "ca.pem"]);
    let place = "causeway imports list --region https://eu.example:50052 --tls-ca ca.pem";
    assert_eq!(args.region.place().command(["imports", "list"]), place);
    let import = ["import", "organizations", "x.json"];
    let wrong = |more: &[&str]| wrong(&[&import, more].concat());
    assert_eq!(wrong(&["--region", "http://eu:1", "--data-dir", "d"]), ErrorKind::ArgumentConflict);
    assert_eq!(wrong(&["--region", "ftp://eu:1"]), ErrorKind::ValueValidation);
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
    // What the console prints does nothing until somebody has put a slug in its place.
    assert_eq!(wrong(&["slugs", "rename", "7", "NEW-SLUG"]), ErrorKind::ValueValidation);
    assert!(parse(&["slugs", "rename", "7", "new-slug", "--exact", "--keep-alias"]).is_ok());
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

/// Checks that the command of a line exists and has each option of the line.
fn is_known(line: &str) -> Result<(), String> {
    let words = shlex::split(line).ok_or("it is not a line of a shell")?;
    let mut root = Cli::command();
    root.build();
    let mut command = &root;
    let mut words = words.iter().skip(1).peekable();
    while let Some(inner) = words.peek().and_then(|word| command.find_subcommand(word.as_str())) {
        command = inner;
        words.next();
    }
    // A text may name `causeway slugs` alone and mean all its subcommands.
    if let Some(word) = words.peek()
        && command.has_subcommands()
        && !word.starts_with('-')
    {
        return Err(format!("{} has no command {word}", command.get_name()));
    }
    for word in words.filter_map(|word| word.strip_prefix("--")) {
        let name = word.split('=').next().unwrap_or_default();
        if !command.get_arguments().any(|argument| argument.get_long() == Some(name)) {
            return Err(format!("{} has no option --{name}", command.get_name()));
        }
    }
    Ok(())
}

/// Checks that a line has all that its command needs. What stands in braces is filled in when the text is made.
fn is_complete(line: &str) -> Result<(), String> {
    let words = shlex::split(line).ok_or("it is not a line of a shell")?;
    // Whichever of these is a value of the right kind, clap looks next whether something is missing.
    for filled in ["1", "us", "00000000-0000-0000-0000-000000000001"] {
        let words = words.iter().map(|word| if word.contains('{') { filled } else { word.as_str() });
        let missing = Cli::command().try_get_matches_from(words).err().filter(|error| {
            // A text may name a command alone, and what a file of settings has need not be in the line.
            let names_none = line.split(" ").count() == 2 || line.contains("--config");
            error.kind() == clap::error::ErrorKind::MissingRequiredArgument && !names_none
        });
        if let Some(missing) = missing {
            return Err(missing.to_string());
        }
    }
    Ok(())
}

/// The commands in a text: lines of a code block, and spans in backticks.
fn commands_in(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ");
    let mut commands = Vec::new();
    for line in text.lines() {
        let alone = line.trim_start_matches("//").trim();
        if alone.starts_with("causeway ") && !line.contains('`') {
            commands.push(alone.to_owned());
        }
    }
    // A span may continue on the next line.
    let flat = text.replace("\n//", " ").replace("```", "").split_whitespace().collect::<Vec<_>>().join(" ");
    let spans = flat.split('`').skip(1).step_by(2);
    commands.extend(spans.filter(|span| span.starts_with("causeway ")).map(str::to_owned));
    commands
}

/// The texts that people read in addition to the help: path and content of each.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    let dirs = [
        "docs",
        "docs/design",
        "proto/causeway/relocation/v1",
        "proto/causeway/control/v1",
        "proto/causeway/region/v1",
    ];
    for dir in dirs {
        let entries = std::fs::read_dir(root.join(dir)).expect("it is there");
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.retain(|file| file.is_file() && !file.ends_with("docs/commands.md"));
    files
        .into_iter()
        .map(|file| (file.display().to_string(), std::fs::read_to_string(&file).expect("text")))
        .collect()
}

#[test]
fn every_command_that_people_are_told_of_is_one() {
    let remedies = causeway_relocation::finding::FindingKind::ALL.iter().flat_map(|kind| {
        use causeway_relocation::finding::Tense;
        [Tense::Happened, Tense::Would].map(|tense| ("a remedy".to_owned(), kind.remedy_in(tense).to_owned()))
    });
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (name, text) in pages().into_iter().chain(remedies) {
        for command in commands_in(&text) {
            seen += 1;
            if let Err(why) = is_known(&command) {
                wrong.push(format!("{name}: {command}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 40, "only {seen} commands were found");
    for remedy in causeway_relocation::finding::FindingKind::ALL {
        for command in commands_in(remedy.remedy()) {
            is_complete(&command).unwrap_or_else(|why| panic!("{command}: {why}"));
        }
    }
    is_complete("causeway organizations approve").expect_err("it needs to know which");
    is_complete("causeway slugs rename {id}").expect_err("it needs a slug");
    is_complete("causeway slugs rename {id} {slug} --exact").expect("that is all");
    is_complete("causeway imports revert {id}").expect("that is all");
    is_known("causeway imports nothing 7").expect_err("there is no such command");
    is_known("causeway imports show 7 --everything").expect_err("there is no such option");
}

/// The texts in the sources that somebody may see: path and code, without comments and tests.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates =
        ["audit", "client", "control", "directory", "proto", "region", "relocation", "silo", "tls", "."];
    let mut files = Vec::new();
    let mut dirs: Vec<_> = crates.iter().map(|name| root.join(name).join("src")).collect();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("it is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == "rs")
                && !path.ends_with("tests.rs")
                // Its own tests check the examples of the helps.
                && !path.ends_with("command_line/examples.rs")
                // It speaks of commands by their names.
                && !path.ends_with("command_line/reference.rs")
            {
                files.push(path);
            }
        }
    }
    let code = |path: &Path| {
        let text = std::fs::read_to_string(path).expect("text");
        let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().to_owned();
        let mut code = String::new();
        for line in shipped.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
            // A text may continue on the next line.
            match line.strip_suffix('\\') {
                Some(begun) => code.push_str(begun),
                None => code = code + line + "\n",
            }
        }
        code
    };
    files.iter().map(|path| (path.display().to_string(), code(path))).collect()
}

/// The commands in the texts of a source, and whether it is clear where each ends: it is in backticks, or on
/// a line of its own.
fn commands_of_texts(code: &str) -> Vec<(String, bool)> {
    let mut root = Cli::command();
    root.build();
    let is_command = |rest: &str| {
        let name = rest.split(|letter: char| !letter.is_ascii_lowercase()).next().unwrap_or_default();
        root.find_subcommand(name).is_some() && rest[name.len()..].starts_with([' ', '`'])
    };
    let mut found = Vec::new();
    for (at, name) in code.match_indices("causeway ") {
        let rest = &code[at + name.len()..];
        if is_command(rest) {
            let line = rest.split(['`', '\n', '"']).next().unwrap_or_default();
            let line = line.split("\\n").next().unwrap_or_default().trim_end();
            let alone = code[..at].trim_end_matches(' ').ends_with("\\n");
            found.push((format!("causeway {line}"), code[..at].ends_with('`') || alone));
        }
    }
    found
}

#[test]
fn every_command_in_a_text_of_a_service_is_one_and_can_be_completed() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for (name, code) in sources() {
        for (command, is_marked) in commands_of_texts(&code) {
            seen += 1;
            let known = is_known(&command).and_then(|()| is_complete(&command));
            if !is_marked || known.is_err() {
                wrong.push(format!("{name}: {command}: marked {is_marked}, {known:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 15, "only {seen} commands were found");
    let texts = r#""ask: causeway audit verify", "`causeway slugs list`; \n  causeway regions list", "a causeway control""#;
    assert_eq!(
        commands_of_texts(texts),
        [("audit verify", false), ("slugs list", true), ("regions list", true)]
            .map(|(words, is_marked)| (format!("causeway {words}"), is_marked))
    );
}

#[test]
fn every_call_that_the_contract_speaks_of_is_in_it() {
    let pool = causeway_proto::json::pool().expect("the contract can be read");
    let mut known: std::collections::BTreeSet<String> =
        pool.all_messages().map(|message| message.name().to_owned()).collect();
    for service in pool.services() {
        known.insert(service.name().to_owned());
        for method in service.methods() {
            known.extend([method.name().to_owned(), format!("{}.{}", service.name(), method.name())]);
        }
    }
    let is_name = |span: &&str| {
        span.starts_with(|first: char| first.is_ascii_uppercase())
            && span.chars().all(|letter| letter.is_ascii_alphabetic() || letter == '.')
            && span.chars().any(|letter| letter.is_ascii_lowercase())
    };
    let mut seen = 0;
    for (name, text) in pages().into_iter().filter(|(name, _)| name.ends_with(".proto")) {
        let flat = text.replace("//", " ");
        for span in flat.split('`').skip(1).step_by(2).filter(is_name) {
            seen += 1;
            assert!(known.contains(span), "{name}: there is no {span}");
        }
    }
    assert!(seen > 5, "only {seen} were found");
}

#[test]
fn the_command_that_imports_again_says_the_same() {
    let line = [
        "an export.json",
        "--filter-org-slugs",
        "acme,it's",
        "--merge-users",
        "--hide-organizations",
        "--decrypt-with",
        "my key.pem",
        "--data-dir",
        "$HOME",
    ];
    let words = import_args(&line);
    let id = "3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11".parse().expect("an id");
    let again = shlex::split(&words.command(true, Some(id))).expect("a line of a shell");
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let again = import_args(&again[3..]);
    assert_eq!((again.dry_run, again.import_id), (true, Some(id)));
    let mut again = again;
    (again.dry_run, again.import_id) = (false, None);
    assert_eq!(format!("{again:?}"), format!("{words:?}"));
}

#[test]
fn all_paused_imports_are_not_reported_one_by_one() {
    assert_eq!(wrong(&["imports", "resume", "--all-paused", "--all"]), ErrorKind::ArgumentConflict);
    parse(&["imports", "resume", "3b1f5c0e-0000-4000-8000-000000000001", "--all"]).expect("it is right");
}

#[test]
fn an_import_that_was_interrupted_does_not_say_where_it_went() {
    let local = import_args(&["x.json"]);
    assert!(
        local.went_into(Outcome::Done).is_some_and(|note| note.starts_with("this went into the local data"))
    );
    for outcome in [Outcome::Interrupted, Outcome::Terminated] {
        assert_eq!(local.went_into(outcome), None);
    }
    assert_eq!(import_args(&["x.json", "--region", "http://127.0.0.1:1"]).went_into(Outcome::Done), None);
}

#[test]
fn the_url_of_a_replica_is_checked_before_anything_starts() {
    for (option, value) in [("--read-database-url", "mysql://x"), ("--read-database-url-file", "/absent/url")]
    {
        let line = ["control", "--database-url", "postgres:///x", option, value];
        let Command::Control(args) = parse(&line).expect("it is right") else { panic!("another command") };
        let error = args.check(true).expect_err("it is wrong");
        assert!(
            format!("{error:#}").contains(if option.ends_with("file") { "/absent/url" } else { option }),
            "{error:#}"
        );
    }
}
