//! Which service a command calls that is not told so on its line: what the environment, a context and the table
//! `[client]` of the file say about it.

use anyhow::bail;
use clap::{Arg, ArgMatches, Command, builder::Resettable, parser::ValueSource};

use super::{
    argument::{CLIENT, CLIENT_KEYS, CONTEXTS, innermost},
    file::File,
    nearest::nearest,
};

/// The id of the argument that names a context.
const CONTEXT: &str = "context";
/// The command that asks control and a region, and as many of each as there are.
const DOCTOR: &str = "doctor";
/// The argument of `causeway health` that says where it goes.
const URL: &str = "url";
/// The arguments that say where a command goes. One of them on the line makes the others irrelevant.
const PLACES: [&str; 3] = ["region", "control", "data_dir"];

/// What is added to the line of a command that calls a service.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Values of arguments, by id.
    defaults: Vec<(&'static str, Vec<String>)>,
    /// What said where the command goes, for its first line, e.g. `CAUSEWAY_REGION`. `None` if nothing did.
    pub(crate) origin: Option<String>,
}

/// One of the things that may say where a command goes: the values of an argument, and what says so.
type Layer<'a> = dyn Fn(&str) -> Option<(Vec<String>, String)> + 'a;

/// Whether a command calls a service: those that serve have no data directory.
pub(crate) fn calls_a_service(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_id() == CONTEXT)
}

/// The command, and all in it that call a service, without the variables of the arguments that are resolved here: clap
/// would take them for options, and so for conflicts with those on the line.
pub(crate) fn without_variables(command: Command) -> Command {
    let is_key = calls_a_service(&command);
    let is_resolved = |id: &str| is_key && (id == URL || CLIENT_KEYS.contains(&id));
    let command = command.mut_args(|arg| match is_resolved(arg.get_id().as_str()) {
        true => arg.env(Resettable::<clap::builder::OsStr>::Reset),
        false => arg,
    });
    command.mut_subcommands(without_variables)
}

impl Client {
    /// Resolves the place and the certificates of `command`. Its matches are those without variables and file.
    ///
    /// # Errors
    /// If there is no such context, or if it is known where the other of the two services is but not this one. It would
    /// be wrong to go to the local data directory then.
    pub(crate) fn resolve(
        command: &Command,
        matches: &ArgMatches,
        file: Option<&File>,
        variables: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let is_doctor = command.get_name() == DOCTOR;
        // The servers that it examines are subcommands, with settings of their own.
        let of_doctor = matches.subcommand_matches(DOCTOR).filter(|_| is_doctor);
        let examines_server = of_doctor.is_some_and(|doctor| doctor.subcommand().is_some());
        let matches = of_doctor.unwrap_or_else(|| innermost(matches).1);
        let source = |id: &str| matches.try_contains_id(id).ok().and_then(|_| matches.value_source(id));
        let is_on_line = |id: &str| source(id) == Some(ValueSource::CommandLine);
        let context = match matches.try_get_one::<String>(CONTEXT) {
            // A variable that is empty counts as not set.
            Ok(Some(name)) if name.is_empty() && !is_on_line(CONTEXT) => None,
            Ok(Some(name)) => Some(table_of(name, file)?),
            _ => None,
        };
        // Who names a context on the line means it, whatever variables are set.
        let is_strong = is_on_line(CONTEXT);
        let variable = |id: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_id() == id);
            let name = arg.and_then(Arg::get_env).map(|name| name.to_string_lossy().into_owned());
            // The command may have no argument about the other service.
            let name = name.unwrap_or_else(|| format!("CAUSEWAY_{}", id.to_uppercase()));
            let text = variables(&name)?;
            let values = match arg.and_then(Arg::get_value_delimiter) {
                Some(delimiter) => text.split(delimiter).map(str::to_owned).collect(),
                None => vec![text],
            };
            Some((values, name))
        };
        let table = |section: Option<&str>, id: &str| {
            let file = file?;
            let values = file.get(Some(section?), id)?.values.clone();
            Some((values, format!("[{}] of {}", section?, file.shown())))
        };
        let of_context = |id: &str| table(context.as_deref(), id);
        let of_client = |id: &str| table(Some(CLIENT), id);
        let layers: &[&Layer<'_>] =
            if is_strong { &[&of_context, &of_client] } else { &[&variable, &of_context, &of_client] };
        let value = |id: &str| layers.iter().find_map(|layer| layer(id));

        let has = |id: &str| command.get_arguments().any(|arg| arg.get_id() == id);
        let mut client = Self::default();
        for id in CLIENT_KEYS.into_iter().filter(|id| !PLACES.contains(id) && has(id) && !is_on_line(id)) {
            client.defaults.extend(value(id).map(|(values, _)| (id, values)));
        }
        if let Some(place) = PLACES.into_iter().find(|id| has(id) && is_on_line(id)) {
            client.origin = Some(format!("--{}", place.replace('_', "-")));
            return Ok(client);
        }
        let services = ["region", "control"];
        if is_doctor {
            // Who examines one server means that one, unless the line names a context.
            let asked = services.into_iter().filter(|_| is_strong || !examines_server);
            let found = asked.filter_map(|id| Some((id, value(id)?.0)));
            client.defaults.extend(found);
            return Ok(client);
        }
        if has(URL) {
            // Its own variable says more than those of other commands, but who names a context on the line means that.
            let own = variable(URL).filter(|_| !is_strong);
            let found = || layers.iter().find_map(|layer| services.into_iter().find_map(layer));
            if !is_on_line(URL)
                && let Some((values, _)) = own.or_else(found)
            {
                // Variables and lists of a file are taken apart by the argument of the service only.
                let first = values.iter().flat_map(|value| value.split(',')).next().map(str::to_owned);
                client.defaults.extend(first.map(|url| (URL, vec![url])));
            }
            return Ok(client);
        }
        // `--service` says which log is meant, where there are two.
        let control_first = matches.try_get_raw("service").ok().flatten().is_some_and(|mut raw| {
            is_on_line("service") && raw.next().is_some_and(|value| value == "control")
        });
        let mut needed: Vec<&'static str> = services.into_iter().filter(|id| has(id)).collect();
        if control_first {
            needed.retain(|id| *id == "control");
        } else if is_on_line("service") {
            needed.retain(|id| *id == "region");
        }
        let mut named_elsewhere = None;
        for layer in layers {
            for id in needed.iter().copied().chain(["data_dir"]) {
                if let Some((values, origin)) = layer(id) {
                    client.defaults.push((id, values));
                    client.origin = Some(origin);
                    return Ok(client);
                }
            }
            // Another layer may still say where the right one is.
            named_elsewhere =
                named_elsewhere.or_else(|| services.into_iter().find_map(|id| Some((id, layer(id)?.1))));
        }
        if let (Some((other, origin)), [missing, ..]) = (named_elsewhere, needed.as_slice()) {
            bail!(
                "{origin} says where {other} is, but nothing says where {missing} is: give --{missing} URL or \
                 CAUSEWAY_{}, or `{missing}` in the file; --data-dir DIR uses local data instead",
                missing.to_uppercase()
            );
        }
        Ok(client)
    }

    /// The command with the values as defaults of its arguments. Defaults conflict with nothing.
    pub(crate) fn apply(&self, command: Command) -> Command {
        command.mut_args(|arg| match self.defaults.iter().find(|(key, _)| arg.get_id() == key) {
            Some((_, values)) => arg.required(false).default_values(values.clone()),
            None => arg,
        })
    }
}

/// The value of an environment variable. One that is empty counts as not set.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The table of a context.
fn table_of(name: &str, file: Option<&File>) -> anyhow::Result<String> {
    let Some(file) = file else {
        bail!(
            "context {name:?} is in no file: name the file that has it by --config FILE or CAUSEWAY_CONFIG"
        );
    };
    let known = file.contexts();
    if known.iter().any(|known| known == name) {
        return Ok(format!("{CONTEXTS}.{name}"));
    }
    if known.is_empty() {
        bail!("{} has no contexts; a context is a table [contexts.NAME]", file.shown());
    }
    let hint = match nearest(known, name) {
        Some(nearest) => format!("is {nearest:?} meant? It has"),
        None => "it has".to_owned(),
    };
    bail!("{} has no context {name:?}; {hint} {}", file.shown(), known.join(", "));
}
