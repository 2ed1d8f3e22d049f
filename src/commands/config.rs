//! `causeway config check`.

use clap::Subcommand;

use super::{Outcome, control, region};
use crate::{
    output,
    settings::{
        FileArgs,
        effective::{Setting, render},
    },
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a configuration without starting anything, and print what it comes to and where each value comes from
    Check(Args),
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// What to check; without it, each server that the file has a table for
    #[command(subcommand)]
    pub(super) server: Option<Server>,
}

/// A server as it would be started.
#[derive(Debug, Subcommand)]
pub(super) enum Server {
    /// As `causeway control` with the same options would be started
    Control(Box<control::Args>),
    /// As `causeway region` with the same options would be started
    Region(Box<region::Args>),
}

/// All that could be wrong has been looked at by now.
pub(super) fn run(settings: &[Setting]) -> anyhow::Result<Outcome> {
    output::text(&render(settings))?;
    Ok(Outcome::Done)
}
