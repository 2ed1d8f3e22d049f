//! The effective settings of a server, and the source of each.

use std::fmt;

use causeway_silo::db;
use clap::{Arg, ArgMatches, Command, parser::ValueSource};
use tracing::{info, warn};

use super::{
    argument::{CLIENT, CONTEXTS, command_of, innermost, is_setting, keys_of},
    file::File,
    nearest::nearest,
};

/// Where a value comes from. An earlier variant overrides a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A command line option, by its name without dashes.
    Option(String),
    /// An environment variable, by its name.
    Variable(String),
    /// The configuration file: its path, and the line, counted from 1.
    File(String, usize),
    /// The default, because nothing else sets it.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option(option) => write!(f, "--{option}"),
            Self::Variable(variable) => f.write_str(variable),
            Self::File(path, line) => write!(f, "{path}:{line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting that has a value. Secrets are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Its table in the file: `control`, `region`, `client` or `contexts.NAME`; `None` for a setting of the log or of
    /// traces.
    pub(crate) section: Option<String>,
    /// Its key in the file.
    pub(crate) key: String,
    /// Its value without secrets. The values of a list are joined with commas.
    pub(crate) value: String,
    /// Where the value comes from.
    pub(crate) source: Source,
}

/// The settings of the log, of traces and of `server`, in the order of the help.
pub(crate) fn settings_of(
    root: &Command,
    server: Option<&'static str>,
    matches: &ArgMatches,
    file: Option<&File>,
) -> Vec<Setting> {
    let (_, inner) = innermost(matches);
    let sections = [None].into_iter().chain(server.map(Some));
    let of_section = |section: Option<&'static str>| {
        let args = command_of(root, section).get_arguments().filter(|arg| is_setting(arg));
        args.filter_map(move |arg| setting(arg, section, inner, file))
    };
    sections.flat_map(of_section).collect()
}

fn setting(
    arg: &Arg,
    server: Option<&'static str>,
    matches: &ArgMatches,
    file: Option<&File>,
) -> Option<Setting> {
    let key = arg.get_id().as_str();
    let raw = matches.try_get_raw(key).ok()??;
    let value = raw.map(|value| redact(arg, &value.to_string_lossy())).collect::<Vec<_>>().join(",");
    let source = match matches.value_source(key)? {
        ValueSource::CommandLine => Source::Option(arg.get_long()?.to_owned()),
        ValueSource::EnvVariable => Source::Variable(arg.get_env()?.to_string_lossy().into_owned()),
        _ => match file.and_then(|file| Some((file, file.get(server, key)?))) {
            Some((file, entry)) => Source::File(file.shown(), entry.line),
            None => Source::Default,
        },
    };
    Some(Setting { section: server.map(str::to_owned), key: key.to_owned(), value, source })
}

/// A value without its secrets. Only URLs and arguments that hide their variable's value in the help may have secrets.
fn redact(arg: &Arg, value: &str) -> String {
    if arg.is_hide_env_values_set() || value.contains("://") { db::redact(value) } else { value.to_owned() }
}

/// The settings that the file has for commands that call a service, and for its contexts.
pub(crate) fn settings_of_clients(root: &Command, file: &File) -> Vec<Setting> {
    let contexts = file.contexts().iter().map(|name| format!("{CONTEXTS}.{name}"));
    let of_section = |section: String| {
        let args = keys_of(root, Some(&section)).into_iter();
        args.filter_map(move |arg| {
            let key = arg.get_id().as_str();
            let entry = file.get(Some(&section), key)?;
            let value = redact(&arg, &entry.values.join(","));
            let source = Source::File(file.shown(), entry.line);
            Some(Setting { section: Some(section.clone()), key: key.to_owned(), value, source })
        })
    };
    [CLIENT.to_owned()].into_iter().chain(contexts).flat_map(of_section).collect()
}

/// Logs the settings in one line.
pub(crate) fn log(settings: &[Setting]) {
    info!("settings: {}", in_one_line(settings));
}

/// First the settings that somebody has set, each with its source, then the defaults.
fn in_one_line(settings: &[Setting]) -> String {
    let (defaults, said): (Vec<_>, Vec<_>) =
        settings.iter().partition(|setting| setting.source == Source::Default);
    let said = said.iter().map(|it| format!("{}={} ({})", it.key, it.value, it.source));
    let defaults = defaults.iter().map(|it| format!("{}={}", it.key, it.value));
    let defaults = format!("defaults: {}", defaults.collect::<Vec<_>>().join(" "));
    said.chain([defaults]).collect::<Vec<_>>().join(", ")
}

/// The settings as a TOML file with the same meaning, apart from secrets.
pub(crate) fn render(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut last = &None;
    for Setting { section, key, value, source } in settings {
        if section != last {
            last = section;
            if let Some(section) = section {
                text.push_str(&format!("\n[{section}]\n"));
            }
        }
        text.push_str(&format!("{key} = {}  # {source}\n", quoted(value)));
    }
    text
}

/// A value in TOML: whole numbers and booleans bare, anything else as a quoted string.
fn quoted(value: &str) -> String {
    let is_plain = value.parse::<i64>().is_ok_and(|number| number.to_string() == value)
        || matches!(value, "true" | "false");
    if is_plain {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            character if character.is_control() => text.push_str(&format!("\\u{:04X}", u32::from(character))),
            character => text.push(character),
        }
    }
    text.push('"');
    text
}

/// Warns of environment variables that look like settings but are not: mostly misspelt, and so without effect.
pub(crate) fn warn_of_unknown_variables(root: &Command) {
    let known = variables(root);
    #[cfg(feature = "failpoints")]
    let known = [known, vec![crate::failpoints::VARIABLE.to_owned()]].concat();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| name.starts_with("CAUSEWAY_") && !known.contains(name)) {
        warn!(
            name,
            nearest = nearest(&known, &name),
            "an environment variable is not a setting and has no effect"
        );
    }
}

/// The environment variables that `command` and its subcommands read.
fn variables(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}
