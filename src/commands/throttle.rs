//! `causeway throttle`.

use std::{num::NonZeroU64, time::Duration};

use anyhow::Context as _;
use causeway_client::{Client, Service};
use causeway_proto::{
    json::to_json,
    region::v1::{
        GetThrottleRequest, GetThrottleResponse, SetThrottleRequest, SetThrottleResponse, ThrottleKind,
    },
};
use causeway_silo::env::Environment;
use clap::Subcommand;

use super::{
    outcome::Outcome,
    target::{RegionArgs, Target},
    throttle_args,
};
use crate::{
    output::{self, Format, place::CommandTarget, terminal::Width, throttle},
    settings::units::Size,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the limits on what imports write, and what they do now
    Show(Show),
    /// Set limits on what imports write, for all processes of the region. They are stored, so they also hold after a restart
    Set(Set),
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("limits").required(true).multiple(true))]
pub(super) struct Set {
    /// The most rows in a second, for all imports of a process together: a number, none, or default for what the region was
    /// started with
    #[arg(long, value_name = "N", value_parser = rows, group = "limits", allow_hyphen_values = true)]
    pub(super) max_rows_per_second: Option<Limit<NonZeroU64>>,
    /// The most bytes of the file in a second: a size such as 2MiB, none, or default for what the region was started with
    #[arg(long, value_name = "SIZE", value_parser = bytes, group = "limits", allow_hyphen_values = true)]
    pub(super) max_bytes_per_second: Option<Limit<Size>>,
    /// The latency of the probe statement above which imports give way to the application: a time such as 50ms, none, or
    /// default for what the region was started with
    #[arg(long, value_name = "TIME", value_parser = latency, group = "limits", allow_hyphen_values = true)]
    pub(super) max_probe_latency: Option<Limit<Duration>>,
    #[command(flatten)]
    region: RegionArgs,
    /// Text for people, or the answer as proto3 JSON
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// What becomes of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit<T> {
    /// It is this.
    To(T),
    /// It is lifted.
    None,
    /// It is what the region was started with.
    Default,
}

fn limit<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Limit<T>, String> {
    match text {
        "none" => Ok(Limit::None),
        "default" => Ok(Limit::Default),
        text => match parse(text) {
            Ok(value) => Ok(Limit::To(value)),
            Err(wrong) => Err(format!(
                "{wrong}; none lifts the limit, and default takes the one that the region was started with"
            )),
        },
    }
}

fn rows(text: &str) -> Result<Limit<NonZeroU64>, String> {
    limit(text, throttle_args::rows)
}

fn bytes(text: &str) -> Result<Limit<Size>, String> {
    limit(text, throttle_args::bytes)
}

fn latency(text: &str) -> Result<Limit<Duration>, String> {
    limit(text, throttle_args::latency)
}

impl Command {
    /// Where suggested commands go.
    pub(super) fn place(&self) -> CommandTarget {
        match self {
            Self::Show(Show { region, .. }) | Self::Set(Set { region, .. }) => region.place(),
        }
    }
}

pub(super) async fn run(command: Command, env: Environment) -> anyhow::Result<Outcome> {
    let open = async |args: &RegionArgs, env| {
        Target::open(Service::Region, &args.region, &args.data, false, env).await
    };
    match &command {
        Command::Show(args) => {
            open(&args.region, env).await?.ask(async |region| show(region, args).await).await
        }
        Command::Set(args) => {
            open(&args.region, env).await?.ask(async |region| set(region, args).await).await
        }
    }
}

async fn show(region: &Client, args: &Show) -> anyhow::Result<Outcome> {
    let request = GetThrottleRequest {};
    let answer: GetThrottleResponse =
        region.ask(request, async |it, request| it.throttle().get_throttle(request).await).await?;
    match args.output {
        Format::Json => output::json(&[to_json(&answer, "causeway.region.v1.GetThrottleResponse")?])?,
        Format::Text => {
            let limits = answer.throttle.context("the region's answer has no limits")?;
            output::text(&throttle::render(&limits, Width::of_report()))?;
        }
    }
    Ok(Outcome::Done)
}

async fn set(region: &Client, args: &Set) -> anyhow::Result<Outcome> {
    let request = request(args)?;
    let answer: SetThrottleResponse =
        region.ask(request, async |it, request| it.throttle().set_throttle(request).await).await?;
    match args.output {
        Format::Json => output::json(&[to_json(&answer, "causeway.region.v1.SetThrottleResponse")?])?,
        Format::Text => {
            let limits = answer.throttle.context("the region's answer has no limits")?;
            output::text(&throttle::render(&limits, Width::of_report()))?;
        }
    }
    Ok(Outcome::Done)
}

/// The request for the limits of a command line.
fn request(args: &Set) -> anyhow::Result<SetThrottleRequest> {
    let mut request = SetThrottleRequest::default();
    let limits = [
        (ThrottleKind::Rows, args.max_rows_per_second.map(|limit| of(limit, NonZeroU64::get))),
        (ThrottleKind::Bytes, args.max_bytes_per_second.map(|limit| of(limit, |size| size.0))),
        (
            ThrottleKind::Latency,
            args.max_probe_latency
                .map(|limit| of(limit, |it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX))),
        ),
    ];
    for (kind, limit) in limits {
        match limit {
            None => {}
            Some(Limit::None) => request.unlimited.push(kind.into()),
            Some(Limit::Default) => request.as_started.push(kind.into()),
            Some(Limit::To(value)) => {
                let value = Some(i64::try_from(value).context("a limit is too large")?);
                match kind {
                    ThrottleKind::Rows => request.max_rows_per_second = value,
                    ThrottleKind::Bytes => request.max_bytes_per_second = value,
                    ThrottleKind::Latency => request.max_probe_latency_ms = value,
                    ThrottleKind::Unspecified => {}
                }
            }
        }
    }
    Ok(request)
}

fn of<T>(limit: Limit<T>, number: impl Fn(T) -> u64) -> Limit<u64> {
    match limit {
        Limit::To(value) => Limit::To(number(value)),
        Limit::None => Limit::None,
        Limit::Default => Limit::Default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_value_or_one_of_two_words() {
        assert_eq!(rows("none"), Ok(Limit::None));
        assert_eq!(bytes("default"), Ok(Limit::Default));
        assert_eq!(latency("50ms"), Ok(Limit::To(Duration::from_millis(50))));
        let zero = rows("0").expect_err("refused");
        assert!(
            zero.contains("causeway imports pause --all") && zero.contains("none lifts the limit"),
            "{zero}"
        );
        for text in ["-1", "None", "many", "1000000001"] {
            rows(text).expect_err(text);
        }
    }
}
