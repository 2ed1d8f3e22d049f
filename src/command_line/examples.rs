//! The examples that the help of each command ends with.

use clap::Command;

/// The commands, each with lines that can be pasted.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "causeway import organizations export.json --dry-run",
            "causeway imports list --region http://127.0.0.1:50052",
            "causeway organizations show --slug acme --context prod-us",
        ],
    ),
    ("import", &["causeway import organizations export.json --region http://127.0.0.1:50052"]),
    ("export", &["causeway export inspect export.json"]),
    (
        "slugs",
        &[
            "causeway slugs resolve acme --control http://127.0.0.1:50051",
            "causeway slugs rename acme acme-inc --control http://127.0.0.1:50051",
        ],
    ),
    ("regions", &["causeway regions list --control http://127.0.0.1:50051"]),
    ("organizations", &["causeway organizations list --region http://127.0.0.1:50052"]),
    (
        "imports",
        &[
            "causeway imports list --region http://127.0.0.1:50052",
            "causeway imports show 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --region http://127.0.0.1:50052",
        ],
    ),
    ("audit", &["causeway audit list --since 1d --region http://127.0.0.1:50052"]),
    ("config", &["causeway config check --config causeway.toml"]),
    ("certs", &["causeway certs init", "causeway certs issue region us --host us.internal"]),
    ("certs init", &["causeway certs init --dir ./causeway-certs"]),
    (
        "certs issue",
        &[
            "causeway certs issue control control --host control.internal",
            "causeway certs issue operator ann --valid-for 8h",
        ],
    ),
    (
        "control",
        &["causeway control --database-url sqlite:control.db", "causeway control --config causeway.toml"],
    ),
    (
        "region",
        &[
            "causeway region --name us --control http://127.0.0.1:50051 --database-url sqlite:us.db",
            "causeway region --config causeway.toml",
        ],
    ),
    (
        "import organizations",
        &[
            "causeway import organizations export.json --dry-run",
            "causeway import organizations export.json --region http://127.0.0.1:50052",
            "causeway import organizations export.json --filter-org-slugs acme,globex --context prod-us",
            "causeway import organizations export.tar --decrypt-with private.pem",
        ],
    ),
    (
        "export inspect",
        &[
            "causeway export inspect export.json",
            "causeway export inspect export.tar --decrypt-with private.pem",
        ],
    ),
    ("slugs resolve", &["causeway slugs resolve acme globex --control http://127.0.0.1:50051"]),
    ("slugs list", &["causeway slugs list --for-region us --control http://127.0.0.1:50051"]),
    (
        "slugs rename",
        &[
            "causeway slugs rename acme acme-inc --keep-alias --control http://127.0.0.1:50051",
            "causeway slugs rename 4507110000000001 acme --exact --context prod-us",
        ],
    ),
    ("slugs release-alias", &["causeway slugs release-alias acme --control http://127.0.0.1:50051"]),
    (
        "slugs release-operation",
        &[
            "causeway slugs list --for-region us --control http://127.0.0.1:50051",
            "causeway slugs release-operation 0d6a5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --control http://127.0.0.1:50051",
        ],
    ),
    ("regions add", &["causeway regions add us --control http://127.0.0.1:50051"]),
    ("regions remove", &["causeway regions remove su --control http://127.0.0.1:50051"]),
    ("regions suspend", &["causeway regions suspend us --reason 'moved to new hardware' --context prod-us"]),
    ("regions resume", &["causeway regions resume us --control http://127.0.0.1:50051"]),
    ("regions list", &["causeway regions list --control http://127.0.0.1:50051"]),
    ("regions take-over", &["causeway regions take-over us --control http://127.0.0.1:50051"]),
    (
        "organizations list",
        &[
            "causeway organizations list --region http://127.0.0.1:50052",
            "causeway organizations list --control http://127.0.0.1:50051",
        ],
    ),
    (
        "organizations show",
        &[
            "causeway organizations show 4507110000000001 --region http://127.0.0.1:50052",
            "causeway organizations show --slug acme --context prod-us",
        ],
    ),
    (
        "organizations approve",
        &[
            "causeway organizations approve 4507110000000001 4507110000000002 --region http://127.0.0.1:50052",
            "causeway organizations approve --import 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --context prod-us",
        ],
    ),
    (
        "imports list",
        &[
            "causeway imports list --region http://127.0.0.1:50052",
            "causeway imports list --state failed --since 2d --limit 20 --context prod-us",
        ],
    ),
    (
        "imports show",
        &[
            "causeway imports show 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --findings",
            "causeway imports show 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --all --context prod-us",
        ],
    ),
    ("imports watch", &["causeway imports watch 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --context prod-us"]),
    (
        "imports keys",
        &[
            "causeway imports keys 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --model sentry.project --context prod-us",
        ],
    ),
    (
        "imports resume",
        &[
            "causeway imports resume 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --context prod-us",
            "causeway imports resume --all-paused --region http://127.0.0.1:50052",
        ],
    ),
    ("imports revert", &["causeway imports revert 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --context prod-us"]),
    (
        "reconcile",
        &[
            "causeway reconcile --check --region http://127.0.0.1:50052",
            "causeway reconcile --repair --region http://127.0.0.1:50052",
        ],
    ),
    (
        "audit list",
        &[
            "causeway audit list --since 1d --region http://127.0.0.1:50052",
            "causeway audit list --object region/us --control http://127.0.0.1:50051",
        ],
    ),
    ("audit verify", &["causeway audit verify --region http://127.0.0.1:50052"]),
    (
        "config check",
        &[
            "causeway config check --config causeway.toml",
            "causeway config check region --config causeway.toml --listen 127.0.0.1:0",
        ],
    ),
    ("config check control", &["causeway config check control --config causeway.toml"]),
    ("config check region", &["causeway config check region --config causeway.toml"]),
    ("encrypt", &["causeway encrypt export.json --with region.pub.pem"]),
    ("decrypt", &["causeway decrypt export.json.tar --with private.pem --to export.json"]),
    (
        "completions",
        &[
            "causeway completions bash > /etc/bash_completion.d/causeway",
            "causeway completions zsh > _causeway",
        ],
    ),
    ("man", &["causeway man --out ./man"]),
    (
        "doctor",
        &[
            "causeway doctor --config causeway.toml",
            "causeway doctor --control http://127.0.0.1:50051 --region http://127.0.0.1:50052",
        ],
    ),
    ("doctor control", &["causeway doctor control --database-url sqlite:control.db"]),
    ("doctor region", &["causeway doctor region --config causeway.toml"]),
    ("health", &["causeway health http://127.0.0.1:50051"]),
    ("throttle", &["causeway throttle show --region http://127.0.0.1:50052"]),
    ("throttle show", &["causeway throttle show --region http://127.0.0.1:50052"]),
    ("throttle set", &["causeway throttle set --max-rows-per-second 5000 --region http://127.0.0.1:50052"]),
    (
        "imports pause",
        &[
            "causeway imports pause 3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11 --context prod-us",
            "causeway imports pause --all --region http://127.0.0.1:50052",
        ],
    ),
    ("restored", &["causeway restored --database-url postgres:///causeway_control"]),
];

/// The command, and all commands in it, with their examples. `path` is the command's.
pub(crate) fn added(command: Command, path: &mut Vec<String>) -> Command {
    let name = path.join(" ");
    let lines = EXAMPLES.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, lines)| lines);
    let command = if lines.is_empty() {
        command
    } else {
        let lines = lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
        let before = command.get_after_help().map_or_else(String::new, |text| format!("{text}\n\n"));
        command.after_help(format!("{before}Examples:\n{lines}"))
    };
    command.mut_subcommands(|inner| {
        path.push(inner.get_name().to_owned());
        let inner = added(inner, path);
        path.pop();
        inner
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;
    use crate::commands::Cli;

    /// The paths of a command and of all in it.
    fn paths(command: &Command, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        for inner in command.get_subcommands() {
            paths(inner, format!("{path} {}", inner.get_name()).trim_start(), found);
        }
    }

    #[test]
    fn every_command_has_an_example() {
        let mut found = Vec::new();
        paths(&Cli::command(), "", &mut found);
        let mut known: Vec<&str> = EXAMPLES.iter().map(|(path, _)| *path).collect();
        known.sort_unstable();
        found.sort_unstable();
        assert!(found.len() > 30, "{found:?}");
        assert_eq!(found, known, "the commands, and those that have examples");
    }

    #[test]
    fn every_example_can_be_pasted() {
        for (path, lines) in EXAMPLES {
            assert!(!lines.is_empty(), "{path}");
            for line in *lines {
                assert!(line.starts_with("causeway "), "{line}");
                // What comes after a redirection is the shell's.
                let words =
                    shlex::split(line.split(" > ").next().unwrap_or_default()).expect("words of a shell");
                let mut command = crate::command_line::root();
                // The file of an example is not there, so what is in it is not either.
                if words.iter().any(|word| word == "--config") {
                    command = crate::command_line::nothing_required(command);
                }
                if let Err(error) = command.try_get_matches_from(words) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_help_ends_with_the_examples() {
        let line = ["causeway", "imports", "keys", "--help"];
        let help = crate::command_line::root().try_get_matches_from(line).expect_err("a help");
        assert_eq!(help.kind(), ErrorKind::DisplayHelp);
        let (_, examples) = help
            .to_string()
            .rsplit_once("Examples:\n")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .expect("examples");
        assert!(examples.starts_with("  causeway imports keys "), "{examples}");
    }
}
