//! The settings of a server: flags over environment over a file over defaults.
//!
//! clap's definition of an argument is the only one that a setting has: its name, variable, default, help and parser
//! serve the command line, the keys of the file, what is printed, and docs/configuration.md. A value of the file becomes
//! the default of its argument, so that whatever clap prefers to a default it prefers to the file.

pub(crate) mod effective;
mod file;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
pub(crate) mod units;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, error::ErrorKind};

use crate::commands::Cli;
use effective::{Setting, settings_of};
use file::File;

/// The commands whose arguments are settings. Each has a table of its name in the file.
pub(crate) const SERVERS: [&str; 2] = ["control", "region"];

/// Where the file is, if there is one.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// A TOML file with settings: those of the log at its top, those of a server in the table [control] or [region],
    /// under their names here with underscores. Variables and options override it
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

/// The id of [`FileArgs::config`], the one option that is no setting.
const CONFIG: &str = "config";

/// A command line that has been understood, with what the file adds to it.
#[derive(Debug)]
pub(crate) struct Line {
    /// What to do.
    pub(crate) cli: Cli,
    /// The settings of the server that it is about, and where each comes from.
    pub(crate) settings: Vec<Setting>,
}

/// Why a command line cannot be carried out.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is wrong, or asks for help.
    Usage(clap::Error),
    /// The file, or what it comes to, is wrong.
    Settings(anyhow::Error),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::Settings(error)
    }
}

/// Whether an argument is a setting of its command, and so a key of the file.
fn is_setting(arg: &Arg) -> bool {
    arg.get_long().is_some()
        && arg.get_id() != CONFIG
        && !matches!(
            arg.get_action(),
            ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
        )
}

/// What the file may say about a server, or for `None` at its top.
fn command_of<'a>(root: &'a Command, server: Option<&str>) -> &'a Command {
    server.and_then(|name| root.find_subcommand(name)).unwrap_or(root)
}

/// The names of the subcommands down to the innermost one, and its matches.
fn innermost(matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut path, mut inner) = (Vec::new(), matches);
    while let Some((name, next)) = inner.subcommand() {
        path.push(name.to_owned());
        inner = next;
    }
    (path, inner)
}

/// The file that a line names, at any of its subcommands. The innermost one counts.
fn file_of(matches: &ArgMatches) -> Option<PathBuf> {
    let inner = matches.subcommand().and_then(|(_, inner)| file_of(inner));
    inner.or_else(|| matches.try_get_one::<PathBuf>(CONFIG).ok().flatten().cloned())
}

fn nothing_required(command: Command) -> Command {
    command.mut_args(|arg| arg.required(false)).mut_subcommands(nothing_required)
}

/// Changes the command at the end of a path of subcommands.
fn change(command: Command, path: &[String], with: &dyn Fn(Command) -> Command) -> Command {
    match path.split_first() {
        Some((name, rest)) => command.mut_subcommand(name, |inner| change(inner, rest, with)),
        None => with(command),
    }
}

/// The command with the values of the file as defaults, of the log at its root and of a server at `path`.
fn with_file(root: Command, file: &File, server: Option<&str>, path: &[String]) -> Command {
    let filled = |command: Command, section: Option<&str>| {
        command.mut_args(|arg| match file.get(section, arg.get_id().as_str()) {
            Some(entry) if is_setting(&arg) => arg.required(false).default_values(entry.values.clone()),
            _ => arg,
        })
    };
    let root = filled(root, None);
    match server {
        Some(_) => change(root, path, &|command| filled(command, server)),
        None => root,
    }
}

/// Understands a command line, whose first word is the name of the program.
///
/// # Errors
/// If it is wrong or asks for help, or if the file that it names cannot be used.
pub(crate) fn parse(line: &[OsString]) -> Result<Line, Refusal> {
    let root = Cli::command();
    // What is required may stand in the file, and which file it is stands here.
    let first = match nothing_required(root.clone()).try_get_matches_from(line) {
        Ok(matches) => matches,
        // In the words of the real one.
        Err(error) => return Err(root.try_get_matches_from(line).err().unwrap_or(error).into()),
    };
    let (path, _) = innermost(&first);
    let checks = path.first().is_some_and(|name| name == "config");
    let server = path.last().and_then(|name| SERVERS.into_iter().find(|server| server == name));
    let file = match file_of(&first) {
        Some(path) if checks || server.is_some() => Some(File::read(&path, &root)?),
        _ => None,
    };
    let filled = match &file {
        Some(file) => with_file(root.clone(), file, server, &path),
        None => root.clone(),
    };
    let matches = filled.try_get_matches_from(line).map_err(|error| match error.kind() {
        // Whoever checks a configuration has made no mistake in the line that checks it.
        ErrorKind::MissingRequiredArgument if checks => anyhow!("{}", words(&error)).into(),
        _ => Refusal::Usage(error),
    })?;
    let mut settings = settings_of(&root, server, &matches, file.as_ref());
    if checks && server.is_none() {
        settings.extend(each_server(&root, file.as_ref())?);
    }
    Ok(Line { cli: Cli::from_arg_matches(&matches)?, settings })
}

/// The settings of each server that the file has a table for.
fn each_server(root: &Command, file: Option<&File>) -> anyhow::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let Some(file) = file else { return Ok(settings) };
    for server in file.servers() {
        let path = [server.to_owned()];
        let filled = with_file(root.clone(), file, Some(server), &path);
        let matches = filled
            .try_get_matches_from([root.get_name(), server])
            .map_err(|error| anyhow!("[{server}]: {}", words(&error)))?;
        let cli =
            Cli::from_arg_matches(&matches).map_err(|error| anyhow!("[{server}]: {}", words(&error)))?;
        crate::commands::check(&cli).map_err(|error| error.context(format!("[{server}]")))?;
        let of_server = settings_of(root, Some(server), &matches, Some(file));
        settings.extend(of_server.into_iter().filter(|setting| setting.server.is_some()));
    }
    Ok(settings)
}

/// What clap says of a mistake, without usage and hints.
fn words(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("error: ").to_owned()
}

/// A path as a person wrote it.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
