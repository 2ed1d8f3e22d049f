//! Which service a command asks: one at an address, or the embedded default's.

use std::{path::PathBuf, sync::Arc};

use causeway::embedded::Embedded;
use causeway_client::{Client, Service, Timeouts};
use causeway_relocation::encrypted::PrivateKey;
use causeway_silo::env::Environment;

use super::tls::ClientTlsArgs;
use crate::{
    output::{self, place::CommandTarget},
    settings::FileArgs,
};

/// Where the embedded default keeps its data.
const DATA_DIR: &str = "./causeway-data";

/// A URL of a service, checked while the command line is read.
pub(super) fn service_url(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")) else {
        return Err("it must begin with http:// or https://, e.g. http://127.0.0.1:50052".to_owned());
    };
    match text.parse::<tonic::transport::Uri>() {
        Ok(uri) if uri.authority().is_some() && !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("it is not a URL, e.g. http://127.0.0.1:50052".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct RegionArgs {
    /// The region to ask; without it, the embedded one. Of several, separated by commas, the first that can be reached
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',', conflicts_with = "data_dir",
        env = "CAUSEWAY_REGION")]
    pub(super) region: Vec<String>,
    #[command(flatten)]
    pub(super) data: DataArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ControlArgs {
    /// The control to ask; without it, the embedded one. Of several, separated by commas, the first that can be reached
    #[arg(long, value_name = "URL", value_parser = service_url, value_delimiter = ',', conflicts_with = "data_dir",
        env = "CAUSEWAY_CONTROL")]
    pub(super) control: Vec<String>,
    #[command(flatten)]
    pub(super) data: DataArgs,
}

/// What says where services are, apart from the line: the file and its contexts. They have been resolved before a command
/// sees these.
#[derive(Debug, clap::Args)]
pub(super) struct ContextArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Go where this context of the file says, a table [contexts.NAME] with the keys region, control, data_dir, tls_ca,
    /// tls_cert and tls_key. Named here, it overrides environment variables about them
    #[arg(long, value_name = "NAME", env = "CAUSEWAY_CONTEXT")]
    context: Option<String>,
}

/// How to get at a service: in a data directory, or at a URL with TLS.
#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    #[command(flatten)]
    context: ContextArgs,
    /// Where the embedded control and region keep their data
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, env = "CAUSEWAY_DATA_DIR")]
    pub(super) data_dir: PathBuf,
    #[command(flatten)]
    pub(super) tls: ClientTlsArgs,
}

impl RegionArgs {
    /// Where commands with the same arguments go.
    pub(super) fn place(&self) -> CommandTarget {
        either_place(&[], &self.region, &self.data)
    }
}

impl ControlArgs {
    /// Where commands with the same arguments go.
    pub(super) fn place(&self) -> CommandTarget {
        either_place(&self.control, &[], &self.data)
    }
}

/// Where commands go that ask control at `control` or the region at `region`, or with neither the embedded services.
pub(super) fn either_place(control: &[String], region: &[String], data: &DataArgs) -> CommandTarget {
    let url = match (control, region) {
        ([], []) => return data.place(),
        ([], urls) => CommandTarget::Region(urls.join(",")),
        (urls, _) => CommandTarget::Control(urls.join(",")),
    };
    url.with_tls(data.tls.words())
}

impl DataArgs {
    /// Where commands with the same arguments go.
    pub(super) fn place(&self) -> CommandTarget {
        CommandTarget::Data(self.data_dir.clone())
    }
}

/// A service to ask, with the embedded control and region if it is one of them.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) client: Client,
    embedded: Option<Embedded>,
}

impl Target {
    /// The service of this kind at the first of `urls` that can be reached or, without any, the embedded one.
    pub(super) async fn open(
        service: Service,
        urls: &[String],
        data: &DataArgs,
        create: bool,
        env: Environment,
    ) -> anyhow::Result<Self> {
        let mut rest = urls.iter().peekable();
        while let Some(url) = rest.next() {
            let tls = data.tls.load(url, &env)?;
            match Client::connect_with_tls(service, url, Timeouts::default(), tls).await {
                Ok(client) => {
                    let client = client.with_trace_context(causeway_traces::current_trace_parent);
                    return Ok(Self { client, embedded: None });
                }
                Err(error) => match rest.peek() {
                    Some(next) => output::note(&format!("{error}; trying {next}")),
                    None => return Err(error.into()),
                },
            }
        }
        Self::embedded(service, Embedded::start(&data.data_dir, create, env).await?).await
    }

    /// A region to import into. An embedded one opens encrypted exports with `key`.
    pub(super) async fn open_region(
        args: &RegionArgs,
        create: bool,
        key: Option<Arc<PrivateKey>>,
        env: Environment,
    ) -> anyhow::Result<Self> {
        if !args.region.is_empty() {
            return Self::open(Service::Region, &args.region, &args.data, create, env).await;
        }
        // A key that is too short for new exports still opens old ones here, but a region would not accept it.
        let key = key.filter(|key| key.public_key().is_ok());
        let embedded = Embedded::start_with_key(&args.data.data_dir, create, key, env).await?;
        Self::embedded(Service::Region, embedded).await
    }

    async fn embedded(service: Service, embedded: Embedded) -> anyhow::Result<Self> {
        let connected = match service {
            Service::Control => embedded.control().await,
            Service::Region => embedded.region().await,
        };
        match connected {
            Ok(client) => Ok(Self {
                client: client.with_trace_context(causeway_traces::current_trace_parent),
                embedded: Some(embedded),
            }),
            Err(error) => {
                embedded.stop().await;
                Err(error.into())
            }
        }
    }

    /// Asks the service, and stops it afterwards if it is an embedded one.
    pub(super) async fn ask<T>(self, question: impl AsyncFnOnce(&Client) -> T) -> T {
        let answer = question(&self.client).await;
        self.close().await;
        answer
    }

    /// Stops an embedded service.
    pub(super) async fn close(self) {
        // The connection must be dropped first, because the service waits until it is closed.
        drop(self.client);
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}
