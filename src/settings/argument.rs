//! Which arguments of the command line are settings, and where they stand in the file.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

/// The commands that have settings as arguments. Each has a table of its name in the file.
pub(crate) const SERVERS: [&str; 2] = ["control", "region"];

/// The option that names the configuration file.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// The TOML configuration file. Settings of the log and of traces are at its top, those of a server in the table
    /// [control] or [region]. A key is the name of an option here, with underscores. Environment variables and options
    /// override the file
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// The id of [`FileArgs::config`], the only option that is not a setting.
const CONFIG: &str = "config";

/// Whether an argument is a setting of its command, and so a key of the file.
pub(crate) fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some()
        && arg.get_id() != CONFIG
        && !matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
}

/// The command that defines the keys of a server's table, or for `None` the keys at the top of the file.
pub(crate) fn command_of<'a>(root: &'a Command, server: Option<&str>) -> &'a Command {
    server.and_then(|name| root.find_subcommand(name)).unwrap_or(root)
}

/// The names of the subcommands down to the innermost one, and its matches.
pub(crate) fn innermost(matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut path, mut inner) = (Vec::new(), matches);
    while let Some((name, next)) = inner.subcommand() {
        path.push(name.to_owned());
        inner = next;
    }
    (path, inner)
}

/// The file that a line names, at any of its subcommands. The innermost one counts.
pub(crate) fn option_of_file(matches: &ArgMatches) -> Option<PathBuf> {
    let inner = matches.subcommand().and_then(|(_, inner)| option_of_file(inner));
    inner.or_else(|| matches.try_get_one::<PathBuf>(CONFIG).ok().flatten().cloned())
}

/// clap's message about a mistake, without usage and hints.
pub(crate) fn words(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// A path for a message, as the user wrote it.
pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
