//! Parses a command line together with the file that it names.

pub(crate) mod examples;
#[cfg(test)]
mod place_tests;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, ffi::OsString};

use anyhow::anyhow;
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, ValueEnum as _, error::ErrorKind};

use crate::{
    commands::{self, Cli, doctor::FileServer},
    output::terminal::Color,
    settings::{
        File, SERVERS,
        client::{self, Client},
        effective::{Setting, settings_of, settings_of_clients},
        innermost, is_setting, option_of_file, words,
    },
};

/// A parsed command line, with what the file adds to it.
#[derive(Debug)]
pub(crate) struct Line {
    /// The command and its arguments.
    pub(crate) cli: Cli,
    /// The settings of the log, of traces and of the servers that the command is about, each with its source.
    pub(crate) settings: Vec<Setting>,
    /// The servers that `causeway doctor` finds in the file, each as it would be started.
    pub(crate) servers: Vec<FileServer>,
    /// What said where the command goes, if it calls a service and something said so.
    pub(crate) origin: Option<String>,
}

/// The command with all its subcommands, each with its examples.
pub(crate) fn root() -> Command {
    examples::added(Cli::command(), &mut Vec::new())
}

/// The command at the end of a path of subcommands.
fn inner<'a>(root: &'a Command, path: &[String]) -> &'a Command {
    path.iter().fold(root, |command, name| command.find_subcommand(name).unwrap_or(command))
}

/// Why a command line cannot be run.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The line is wrong, or asks for help or the version.
    Usage(clap::Error),
    /// The file is wrong, or a value that follows from it.
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

/// The command with the values of the file as defaults: those of the log and of traces at its root, those of a server at `path`.
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

/// The colors that a command line asks for, before it is parsed: what is wrong with it, and helps, follow it too.
pub(crate) fn color(line: &[OsString]) -> Color {
    let mut words = line.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let mut asked = client::variable("CAUSEWAY_COLOR");
    while let Some(word) = words.next() {
        match word.strip_prefix("--color") {
            Some("") => asked = words.next().map(Cow::into_owned).or(asked),
            Some(value) => asked = value.strip_prefix('=').map(str::to_owned).or(asked),
            None => {}
        }
    }
    asked.and_then(|asked| Color::from_str(&asked, false).ok()).unwrap_or(Color::Auto)
}

/// Parses a command line. Its first word is the name of the program.
///
/// # Errors
/// If it is wrong or asks for help, or if the file that it names cannot be used.
pub(crate) fn parse(line: &[OsString]) -> Result<Line, Refusal> {
    parse_with(line, &client::variable)
}

/// The same, with these variables about the service that a command calls.
fn parse_with(line: &[OsString], variables: &dyn Fn(&str) -> Option<String>) -> Result<Line, Refusal> {
    let whole = root();
    let root = client::without_variables(whole.clone());
    // A required argument may be in the file, and only the line names the file. So nothing is required at
    // first.
    let first = match nothing_required(root.clone()).try_get_matches_from(line) {
        Ok(matches) => matches,
        // The error must be that of the real command, and a help names the variables too.
        Err(error) => {
            let real = if error.kind() == ErrorKind::DisplayHelp { whole } else { root };
            return Err(real.try_get_matches_from(line).err().unwrap_or(error).into());
        }
    };
    let (path, _) = innermost(&first);
    let examines = path.first().is_some_and(|name| name == "doctor");
    let checks = examines || path.first().is_some_and(|name| name == "config");
    let server = path.last().and_then(|name| SERVERS.into_iter().find(|server| server == name));
    // The doctor also asks running services, whichever server it examines.
    let calling = if examines { &path[..1] } else { &path[..] };
    let calls = client::calls_a_service(inner(&root, calling));
    let mut servers = Vec::new();
    let mut examined = None;
    let file = match option_of_file(&first) {
        Some(path) if examines && server.is_none() => match File::read(&path, &root) {
            Ok(file) => {
                servers = servers_to_examine(&root, &file);
                examined = Some(file);
                None
            }
            // What is wrong with the file is a finding like others.
            Err(error) => {
                servers.push(FileServer { name: path.display().to_string(), command: Err(error) });
                None
            }
        },
        Some(path) if checks || server.is_some() || calls => Some(File::read(&path, &root)?),
        _ => None,
    };
    let filled = match &file {
        Some(file) => with_file(root.clone(), file, server, &path),
        None => root.clone(),
    };
    let client = match calls {
        true => {
            let file = file.as_ref().or(examined.as_ref());
            Client::resolve(inner(&whole, calling), &first, file, variables)?
        }
        false => Client::default(),
    };
    let filled = if calls { change(filled, calling, &|command| client.apply(command)) } else { filled };
    let matches = filled.try_get_matches_from(line).map_err(|error| match error.kind() {
        // The configuration is incomplete. The line that checks it is not wrong.
        ErrorKind::MissingRequiredArgument if checks => anyhow!("{}", words(&error)).into(),
        _ => Refusal::Usage(error),
    })?;
    let mut settings = settings_of(&root, server, &matches, file.as_ref());
    if checks && !examines && server.is_none() {
        settings.extend(each_server(&root, file.as_ref())?);
    }
    Ok(Line { cli: Cli::from_arg_matches(&matches)?, settings, servers, origin: client.origin })
}

/// The command that would start a server with what the file has for it, and its arguments.
fn start_of(root: &Command, file: &File, server: &str) -> anyhow::Result<(Cli, ArgMatches)> {
    let wrong = |error: clap::Error| anyhow!("[{server}]: {}", words(&error));
    let filled = with_file(root.clone(), file, Some(server), &[server.to_owned()]);
    let matches = filled.try_get_matches_from([root.get_name(), server]).map_err(wrong)?;
    Ok((Cli::from_arg_matches(&matches).map_err(wrong)?, matches))
}

/// The servers that the file has a table for.
fn servers_to_examine(root: &Command, file: &File) -> Vec<FileServer> {
    let start = |server: &str| start_of(root, file, server).map(|(cli, _)| cli);
    file.servers().map(|server| FileServer { name: server.to_owned(), command: start(server) }).collect()
}

/// The settings of each server that the file has a table for.
fn each_server(root: &Command, file: Option<&File>) -> anyhow::Result<Vec<Setting>> {
    let mut settings = Vec::new();
    let Some(file) = file else { return Ok(settings) };
    for server in file.servers() {
        let (cli, matches) = start_of(root, file, server)?;
        commands::check(&cli, true).map_err(|error| error.context(format!("[{server}]")))?;
        let of_server = settings_of(root, Some(server), &matches, Some(file));
        settings.extend(of_server.into_iter().filter(|setting| setting.section.is_some()));
    }
    settings.extend(settings_of_clients(root, file));
    Ok(settings)
}
