//! `causeway health`: what a service says about itself, for probes of containers, load balancers and operators.

use std::{fmt, time::Duration};

use causeway_client::{CallError, Client, Service, Timeouts};
use causeway_silo::env::Environment;
use serde_json::json;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    outcome::Outcome,
    target::{ContextArgs, service_url},
    tls::ClientTlsArgs,
};
use crate::{
    output::{self, Format},
    settings::units,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The service to ask: control or a region. Without it, the region of the context or of the table [client], or if that
    /// has none its control
    #[arg(value_name = "URL", env = "CAUSEWAY_HEALTH_URL", value_parser = service_url)]
    url: String,
    /// Ask for this gRPC service only, such as causeway.region.v1.ImportService; may be given several times. Without
    /// it, the server as a whole is asked for
    #[arg(long = "service", value_name = "NAME", value_parser = name)]
    services: Vec<String>,
    /// How long connecting and all answers may take together
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::nonzero_duration)]
    timeout: Duration,
    /// Exit code 0 also if the service answers NOT_SERVING: the process lives, and to start it again would not help.
    /// For a liveness probe
    #[arg(long)]
    alive: bool,
    #[command(flatten)]
    context: ContextArgs,
    #[command(flatten)]
    tls: ClientTlsArgs,
    /// A word for people, or one JSON object, which is printed also if the service cannot be reached
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// The name of a gRPC service. An empty one would mean the whole server, which no option is needed for.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err(
            "it must be the name of a gRPC service; without --service, the whole server is asked for"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// What is known of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Serving,
    NotServing,
    /// The server has no service of this name.
    Unknown,
}

impl Status {
    fn of(answer: ServingStatus) -> Self {
        match answer {
            ServingStatus::Serving => Self::Serving,
            ServingStatus::NotServing | ServingStatus::Unknown => Self::NotServing,
            ServingStatus::ServiceUnknown => Self::Unknown,
        }
    }

    /// Whether the caller got what it wanted. A name that does not exist is a mistake of the caller, also with
    /// `--alive`.
    fn is_good(self, alive: bool) -> bool {
        match self {
            Self::Serving => true,
            Self::NotServing => alive,
            Self::Unknown => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::Unknown => "SERVICE_UNKNOWN",
        })
    }
}

pub(super) async fn run(args: Args, env: Environment) -> anyhow::Result<Outcome> {
    // The empty name is that of the whole server.
    let names = if args.services.is_empty() { vec![String::new()] } else { args.services.clone() };
    // What is wrong with the files of certificates is not an answer about the service.
    let tls = args.tls.load(&args.url, &env)?;
    let asking = async {
        // Which of the two it is does not matter: `cause` of an error does not name it.
        let client =
            Client::connect_with_tls(Service::Control, &args.url, timeouts(args.timeout), tls).await?;
        let mut statuses = Vec::with_capacity(names.len());
        for name in &names {
            statuses.push(ask(&client, name).await?);
        }
        Ok::<_, CallError>(statuses)
    };
    let answered = match tokio::time::timeout(args.timeout, asking).await {
        Ok(Ok(statuses)) => Ok(statuses),
        Ok(Err(error)) if error.code() == Some(Code::DeadlineExceeded) => Err(too_late(args.timeout)),
        Ok(Err(error)) => Err(error.cause()),
        Err(_) => Err(too_late(args.timeout)),
    };
    match answered {
        Ok(statuses) => answer(&args, &names, &statuses),
        Err(why) => {
            if args.output == Format::Json {
                let object = json!({ "url": args.url, "status": "UNREACHABLE", "error": why });
                output::json(&[object.to_string()])?;
            }
            output::note(&format!("{} cannot be asked: {why}", args.url));
            Ok(Outcome::Failed)
        }
    }
}

/// Limits of single calls that are longer than what the command may take as a whole, so that this one ends it, with words
/// of its own.
fn timeouts(limit: Duration) -> Timeouts {
    let longer = limit + Duration::from_secs(1);
    Timeouts { connect: longer, call: longer, bulk: longer }
}

fn too_late(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}

/// Asks for one service. `name` is empty for the whole server.
async fn ask(client: &Client, name: &str) -> Result<Status, CallError> {
    let request = client.unary(HealthCheckRequest { service: name.to_owned() });
    let answer = client.answer(HealthClient::new(client.channel()).check(request)).await;
    match answer {
        Ok(answer) => Ok(Status::of(answer.status())),
        // A server that stops forgets its services at the very end.
        Err(error) if error.code() == Some(Code::NotFound) && name.is_empty() => Ok(Status::NotServing),
        Err(error) if error.code() == Some(Code::NotFound) => Ok(Status::Unknown),
        Err(error) => Err(error),
    }
}

/// Prints what the service has answered.
fn answer(args: &Args, names: &[String], statuses: &[Status]) -> anyhow::Result<Outcome> {
    let worst = statuses
        .iter()
        .find(|status| **status == Status::Unknown)
        .or_else(|| statuses.iter().find(|status| **status != Status::Serving));
    match args.output {
        Format::Text => {
            let lines = names.iter().zip(statuses).map(|(name, status)| match name.as_str() {
                "" => format!("{status}\n"),
                name => format!("{status}  {name}\n"),
            });
            output::text(&lines.collect::<String>())?;
        }
        Format::Json => {
            let services = names.iter().zip(statuses).filter(|(name, _)| !name.is_empty());
            let services: Vec<_> = services
                .map(|(name, status)| json!({ "service": name, "status": status.to_string() }))
                .collect();
            let status = worst.unwrap_or(&Status::Serving).to_string();
            let mut object = json!({ "url": args.url, "status": status });
            if let (false, Some(object)) = (services.is_empty(), object.as_object_mut()) {
                object.insert("services".to_owned(), services.into());
            }
            output::json(&[object.to_string()])?;
        }
    }
    match worst {
        Some(Status::Unknown) => output::note(&format!(
            "{} has no such service; names are those of the contract, e.g. causeway.control.v1.DirectoryService or \
             causeway.region.v1.ImportService",
            args.url
        )),
        Some(Status::NotServing) => output::note(&format!(
            "{} answers and does not serve: its database cannot be used, or it stops, or, for what needs control, the \
             region is not registered; its log has the reason",
            args.url
        )),
        Some(Status::Serving) | None => {}
    }
    let all_good = statuses.iter().all(|status| status.is_good(args.alive));
    Ok(if all_good { Outcome::Done } else { Outcome::Failed })
}
