//! The TOML configuration file. All its problems are reported at once, each with its line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::{Arg, ArgAction, Command, builder::Resettable};
use toml::de::{DeTable, DeValue};

use super::{
    argument::{CLIENT, CONTEXTS, SERVERS, keys_of, shown, words},
    nearest::nearest,
};

/// What a file contains about one setting.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its value; several values if it is a list.
    pub(crate) values: Vec<String>,
    /// The line of its key, counted from 1.
    pub(super) line: usize,
}

/// A file that was checked: each key is a setting, and each value is valid for it.
#[derive(Debug)]
pub(crate) struct File {
    pub(super) path: PathBuf,
    /// By table and key. The table is `None` for keys at the top of the file, and `contexts.NAME` for those of a context.
    entries: BTreeMap<(Option<String>, String), Entry>,
    servers: Vec<&'static str>,
    contexts: Vec<String>,
}

impl File {
    /// Reads a file and checks it against the settings that exist.
    ///
    /// # Errors
    /// If it cannot be read, or anything in it is wrong.
    pub(crate) fn read(path: &Path, root: &Command) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration file {} cannot be read", shown(path)))?;
        let mut reader = Reader { path, text: &text, root, problems: Vec::new() };
        let (entries, servers, contexts) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut file = Self { path: path.to_owned(), entries, servers, contexts };
        match DeTable::parse(&text) {
            Ok(table) => reader.top(table.get_ref(), &mut file),
            Err(error) => reader.problem(error.span().map_or(0, |span| span.start), error.message()),
        }
        if !reader.problems.is_empty() {
            reader.problems.sort();
            let problems: Vec<String> = reader.problems.into_iter().map(|(_, problem)| problem).collect();
            bail!("the configuration file is wrong\n{}", problems.join("\n"));
        }
        Ok(file)
    }

    /// The entry of a key of a table; `None` if the file does not set it.
    pub(crate) fn get(&self, section: Option<&str>, key: &str) -> Option<&Entry> {
        self.entries.get(&(section.map(str::to_owned), key.to_owned()))
    }

    /// The names of its contexts.
    pub(crate) fn contexts(&self) -> &[String] {
        &self.contexts
    }

    /// Its path, as the user wrote it.
    pub(crate) fn shown(&self) -> String {
        shown(&self.path)
    }

    /// The servers that it has a table for.
    pub(crate) fn servers(&self) -> impl Iterator<Item = &'static str> {
        self.servers.iter().copied()
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    root: &'a Command,
    /// Each with its line.
    problems: Vec<(usize, String)>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
    }

    fn problem(&mut self, offset: usize, what: &str) {
        let line = self.line(offset);
        self.problems.push((line, format!("{}:{line}: {what}", shown(self.path))));
    }

    fn top(&mut self, table: &DeTable<'_>, file: &mut File) {
        for (key, value) in table {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let server = SERVERS.into_iter().find(|server| *server == name);
            match (name, value.get_ref()) {
                (_, DeValue::Table(inner)) if server.is_some() || name == CLIENT => {
                    file.servers.extend(server);
                    self.table(name, inner, file);
                }
                (CONTEXTS, DeValue::Table(contexts)) => self.contexts(contexts, file),
                (CONTEXTS, _) => {
                    self.problem(at, "`contexts` must have a table for each context: [contexts.NAME]");
                }
                _ if server.is_some() || name == CLIENT => {
                    self.problem(at, &format!("`{name}` must be a table: [{name}]"));
                }
                (_, value) => self.entry(None, name, at, value, file),
            }
        }
    }

    /// The keys of one table.
    fn table(&mut self, section: &str, table: &DeTable<'_>, file: &mut File) {
        for (key, value) in table {
            self.entry(Some(section), key.get_ref(), key.span().start, value.get_ref(), file);
        }
    }

    fn contexts(&mut self, contexts: &DeTable<'_>, file: &mut File) {
        for (key, value) in contexts {
            let name = key.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(inner) => {
                    file.contexts.push(name.to_owned());
                    self.table(&format!("{CONTEXTS}.{name}"), inner, file);
                }
                _ => self.problem(key.span().start, &format!("`{name}` must be a table: [contexts.{name}]")),
            }
        }
    }

    fn entry(&mut self, section: Option<&str>, key: &str, at: usize, value: &DeValue<'_>, file: &mut File) {
        let args = keys_of(self.root, section);
        let Some(arg) = args.iter().find(|arg| arg.get_id() == key) else {
            return self.problem(at, &self.unknown(section, key));
        };
        let Some(values) = values(value) else {
            let what = format!("`{key}` must be a string, a number, true, false, or a list of those");
            return self.problem(at, &what);
        };
        match refused(&args, arg, &values) {
            Some(what) => self.problem(at, &what),
            None => {
                let entry = Entry { values, line: self.line(at) };
                file.entries.insert((section.map(str::to_owned), key.to_owned()), entry);
            }
        }
    }

    /// The message that there is no such key, and which key may be meant.
    fn unknown(&self, section: Option<&str>, key: &str) -> String {
        let place = |section: Option<&str>| match section {
            Some(section) => format!("in [{section}]"),
            None => "at the top of the file".to_owned(),
        };
        let keys = |section: Option<&str>| {
            let args = keys_of(self.root, section);
            let mut keys: Vec<String> = args.iter().map(|arg| arg.get_id().to_string()).collect();
            if section.is_none() {
                keys.extend(SERVERS.into_iter().chain([CLIENT, CONTEXTS]).map(str::to_owned));
            }
            keys
        };
        let what = format!("`{key}` is not a setting {}", place(section));
        let places = [None].into_iter().chain(SERVERS.map(Some)).chain([Some(CLIENT)]);
        let elsewhere: Vec<String> = places
            .filter(|other| *other != section && keys(*other).iter().any(|known| known == key))
            .map(place)
            .collect();
        if !elsewhere.is_empty() {
            return format!("{what}; its place is {}", elsewhere.join(" or "));
        }
        let known = keys(section);
        match nearest(&known, &key.replace('-', "_")) {
            Some(nearest) => format!("{what}; is `{nearest}` meant?"),
            None => format!("{what}; there are {}", known.join(", ")),
        }
    }
}

/// A value as text, as on the command line; a list as several. `None` if a setting cannot have such a value.
fn values(value: &DeValue<'_>) -> Option<Vec<String>> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(items) if items.is_empty() => None,
        DeValue::Array(items) => items.iter().map(|item| one(item.get_ref())).collect(),
        value => one(value).map(|value| vec![value]),
    }
}

/// Why the argument refuses the values; `None` if it accepts them. Tries them on a command line with nothing else.
fn refused(args: &[Arg], arg: &Arg, values: &[String]) -> Option<String> {
    if matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse) {
        let one = matches!(values, [value] if matches!(value.as_str(), "true" | "false"));
        return (!one).then(|| format!("`{}` must be true or false", arg.get_id()));
    }
    let long = arg.get_long()?;
    let values: Vec<String> = match arg.get_value_delimiter() {
        Some(delimiter) => vec![values.join(&delimiter.to_string())],
        None => values.to_vec(),
    };
    let alone =
        args.iter().map(|arg| arg.clone().required(false).env(Resettable::<clap::builder::OsStr>::Reset));
    let alone = Command::new("causeway").no_binary_name(true).args(alone);
    let line = values.iter().map(|value| format!("--{long}={value}"));
    alone.try_get_matches_from(line).err().map(|error| words(&error))
}
