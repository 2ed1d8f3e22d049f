//! Reads the examples in `docs/grpcurl.md`, and provides a shell in which its commands run with a fake `grpcurl` that
//! records its arguments.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
    process::Stdio,
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const TEXT: &str = include_str!("../../docs/grpcurl.md");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// The content of one code fence.
#[derive(Debug, Clone)]
pub(crate) enum Fence {
    /// A function that later commands use.
    Function(String),
    /// Commands that the test runs.
    Commands(String),
    /// Messages of a type, as JSON.
    Messages(String, Vec<Value>),
    /// What grpcurl prints for a failed call.
    Failure(String),
}

/// All fences of the page, in order.
pub(crate) fn fences() -> Vec<Fence> {
    let mut found = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in TEXT.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(info), None) => open = Some((info.trim(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take().map(|(info, text)| fence(info, text))),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

fn fence(info: &str, text: String) -> Fence {
    match info.split_once(' ') {
        Some(("json", name)) => Fence::Messages(name.to_owned(), json(text.as_bytes())),
        None if info == "text" => Fence::Failure(text),
        None if info == "sh" && text.starts_with("messages()") => Fence::Function(text),
        None if info == "sh" => Fence::Commands(text),
        _ => panic!("a fence of another kind: {info:?}"),
    }
}

/// Parses JSON values that follow each other.
fn json(text: &[u8]) -> Vec<Value> {
    let values = serde_json::Deserializer::from_slice(text).into_iter();
    values.collect::<Result<_, _>>().unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(text));
    })
}

/// The rows of the page's table of mistakes: reason and code.
pub(crate) fn mistakes() -> Vec<(String, String)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let bare = |cell: &str| cell.strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        Some((bare(cells.get(2)?)?, bare(cells.get(1)?)?))
    };
    TEXT.lines().filter(|line| line.starts_with('|')).filter_map(row).collect()
}

/// One recorded run of grpcurl.
#[derive(Debug)]
pub(crate) struct Run {
    /// The arguments, without the options that this test understands.
    pub(crate) words: Vec<String>,
    /// The messages that grpcurl is to send, as JSON.
    pub(crate) requests: Vec<Value>,
    /// Whether the run ends by itself after some time.
    pub(crate) timed: bool,
}

impl Run {
    fn new(arguments: Vec<String>, stdin: &[u8]) -> Self {
        let mut run =
            Self { words: Vec::new(), requests: vec![Value::Object(Default::default())], timed: false };
        let mut arguments = arguments.into_iter();
        let mut plaintext = false;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "-plaintext" => plaintext = true,
                "-max-time" => run.timed = arguments.next().is_some_and(|it| it.parse::<u32>().is_ok()),
                "-d" => {
                    let data = arguments.next().expect("-d has a value");
                    run.requests = if data == "@" { json(stdin) } else { json(data.as_bytes()) };
                }
                option if option.starts_with('-') => panic!("{option} is not understood"),
                _ => run.words.push(argument),
            }
        }
        assert!(plaintext, "the services speak plain text: {:?}", run.words);
        run
    }
}

/// A shell in a directory of its own, with the repository's examples.
pub(crate) struct Shell {
    directory: TempDir,
    functions: String,
}

impl Shell {
    /// Creates a shell that knows all functions of the page.
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let functions = fences().into_iter().filter_map(|fence| match fence {
            Fence::Function(text) => Some(text),
            _ => None,
        });
        let functions = functions.collect();
        symlink(EXAMPLES, directory.path().join("examples")).expect("a link");
        let noting = directory.path().join("bin");
        fs::create_dir(&noting).expect("a directory");
        let noting = noting.join("grpcurl");
        let script = "#!/bin/sh\ncall=\"$CALLS/$(ls \"$CALLS\" | wc -l)\"\nmkdir \"$call\"\n\
                      printf '%s\\0' \"$@\" > \"$call/arguments\"\ncat > \"$call/stdin\"\n";
        fs::write(&noting, script).expect("it is written");
        fs::set_permissions(&noting, fs::Permissions::from_mode(0o755)).expect("it can be run");
        Self { directory, functions }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn output(&self, commands: &str, arguments: &[&str], calls: &Path) -> Vec<u8> {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = tokio::process::Command::new("sh")
            .args(["-e", "-c", &format!("{}\n{commands}", self.functions), "sh"])
            .args(arguments)
            .current_dir(self.path())
            .env("PATH", format!("{}:{path}", self.path().join("bin").display()))
            .env("CALLS", calls)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .await
            .expect("there is a shell");
        assert!(output.status.success(), "this fails: {commands}");
        output.stdout
    }

    /// Runs these commands, and returns the runs of grpcurl that they make.
    pub(crate) async fn runs(&self, commands: &str) -> Vec<Run> {
        let calls = TempDir::new().expect("a directory");
        self.output(commands, &[], calls.path()).await;
        let count = fs::read_dir(calls.path()).expect("it is there").count();
        let read = |number: usize, name: &str| {
            fs::read(calls.path().join(number.to_string()).join(name)).expect("it was noted")
        };
        let run = |number| {
            let arguments = String::from_utf8(read(number, "arguments")).expect("UTF-8");
            let arguments = arguments.split_terminator('\0').map(str::to_owned).collect();
            Run::new(arguments, &read(number, "stdin"))
        };
        (0..count).map(run).collect()
    }

    /// The messages of an upload, made by the function that the page shows.
    pub(crate) async fn messages(&self, file: &str, header: &Value) -> Vec<Value> {
        let calls = TempDir::new().expect("a directory");
        json(&self.output("messages \"$1\" \"$2\"", &[file, &header.to_string()], calls.path()).await)
    }
}
