//! `causeway config check`.

use clap::Subcommand;

use super::{control, outcome::Outcome, region};
use crate::{
    output,
    settings::{
        FileArgs,
        effective::{Setting, render},
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a configuration without starting anything, and print each effective value and where it comes from
    Check(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// The server to check; without it, each server that the file has a table for
    #[command(subcommand)]
    pub(super) server: Option<Server>,
}

/// A server, with the options that it would be started with.
#[derive(Debug, Subcommand)]
pub(super) enum Server {
    /// Check the settings with which `causeway control` and the same options would start
    Control(Box<control::Args>),
    /// Check the settings with which `causeway region` and the same options would start
    Region(Box<region::Args>),
}

/// Prints the settings. They have been checked by now.
pub(super) fn run(settings: &[Setting]) -> anyhow::Result<Outcome> {
    output::text(&render(settings))?;
    Ok(Outcome::Done)
}
