//! `causeway completions`.

use clap_complete::Shell;

use super::outcome::Outcome;
use crate::{command_line, output};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell that is to complete the command
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

/// Prints the script that the shell has to read.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut root = command_line::root();
    let name = root.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut root, name, &mut script);
    output::text(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
