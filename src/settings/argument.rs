//! Which arguments of the command line are settings, and where they stand in the file.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

/// The commands that have settings as arguments. Each has a table of its name in the file.
pub(crate) const SERVERS: [&str; 2] = ["control", "region"];

/// The table of the file with the settings of commands that call a service.
pub(crate) const CLIENT: &str = "client";
/// The table of the file with a table for each context.
pub(crate) const CONTEXTS: &str = "contexts";

/// The option that names the configuration file.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FileArgs {
    /// The TOML configuration file. Settings of the log and of traces are at its top, those of a server in the table
    /// [control] or [region], those of commands that call a service in [client] and [contexts.NAME]. A key is the name
    /// of an option here, with underscores. Environment variables and options override the file
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

/// The keys of `[client]` and of a context: the arguments that say which service a command calls, and how. They are the
/// same for all commands, and this one has all of them.
const OF_CLIENT: [&str; 2] = ["organizations", "list"];
/// The ids of those arguments.
pub(crate) const CLIENT_KEYS: [&str; 6] = ["region", "control", "data_dir", "tls_ca", "tls_cert", "tls_key"];

/// The arguments that are keys of a table: of a server, of `[client]`, of a context (`contexts.NAME`), or for `None` of
/// the top of the file.
pub(crate) fn keys_of(root: &Command, section: Option<&str>) -> Vec<Arg> {
    match section {
        Some(section) if section == CLIENT || section.starts_with(CONTEXTS) => {
            let list = OF_CLIENT.iter().try_fold(root, |command, name| command.find_subcommand(name));
            let args = list.into_iter().flat_map(Command::get_arguments);
            args.filter(|arg| CLIENT_KEYS.contains(&arg.get_id().as_str())).cloned().collect()
        }
        section => command_of(root, section).get_arguments().filter(|arg| is_setting(arg)).cloned().collect(),
    }
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
