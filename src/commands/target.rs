//! Which service a command asks: one at an address, or the embedded default's.

use std::{path::PathBuf, sync::Arc};

use causeway::{
    client::{Kind, Peer},
    embedded::Embedded,
};
use causeway_relocation::encrypted::PrivateKey;
use causeway_silo::env::Environment;

use crate::output::place::Place;

/// Where the embedded default keeps its data.
const DATA_DIR: &str = "./causeway-data";

/// A URL of a service, checked while the command line is read.
pub(super) fn http_url(text: &str) -> Result<String, String> {
    let Some(rest) = text.strip_prefix("http://") else {
        return Err("it must begin with http://, e.g. http://127.0.0.1:50052".to_owned());
    };
    match text.parse::<tonic::transport::Uri>() {
        Ok(uri) if uri.authority().is_some() && !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("it is not a URL, e.g. http://127.0.0.1:50052".to_owned()),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct RegionArgs {
    /// The region to ask; without it, the embedded one
    #[arg(long, value_name = "URL", value_parser = http_url, conflicts_with = "data_dir")]
    pub(super) region: Option<String>,
    #[command(flatten)]
    pub(super) data: DataArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ControlArgs {
    /// The control to ask; without it, the embedded one
    #[arg(long, value_name = "URL", value_parser = http_url, conflicts_with = "data_dir")]
    pub(super) control: Option<String>,
    #[command(flatten)]
    pub(super) data: DataArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct DataArgs {
    /// Where the embedded control and region keep their data
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(super) data_dir: PathBuf,
}

impl RegionArgs {
    /// Where commands go that say the same.
    pub(super) fn place(&self) -> Place {
        match &self.region {
            Some(url) => Place::Region(url.clone()),
            None => self.data.place(),
        }
    }
}

impl ControlArgs {
    /// Where commands go that say the same.
    pub(super) fn place(&self) -> Place {
        match &self.control {
            Some(url) => Place::Control(url.clone()),
            None => self.data.place(),
        }
    }
}

impl DataArgs {
    /// Where commands go that say the same.
    pub(super) fn place(&self) -> Place {
        Place::Data(self.data_dir.clone())
    }
}

/// A service to ask, and the embedded default if it is part of that.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) peer: Peer,
    embedded: Option<Embedded>,
}

impl Target {
    /// The service of this kind at `url` or, without one, the embedded one.
    pub(super) async fn open(
        kind: Kind,
        url: Option<&str>,
        data: &DataArgs,
        create: bool,
        env: Environment,
    ) -> anyhow::Result<Self> {
        if let Some(url) = url {
            return Ok(Self { peer: Peer::connect(kind, url).await?, embedded: None });
        }
        Self::embedded(kind, Embedded::start(&data.data_dir, create, env).await?).await
    }

    /// A region to import into. An embedded one opens encrypted exports with `key`.
    pub(super) async fn open_region(
        args: &RegionArgs,
        create: bool,
        key: Option<Arc<PrivateKey>>,
        env: Environment,
    ) -> anyhow::Result<Self> {
        if args.region.is_some() {
            let url = args.region.as_deref();
            return Self::open(Kind::Region, url, &args.data, create, env).await;
        }
        // A key that is too short for new exports still opens old ones, here; a region would not take it.
        let key = key.filter(|key| key.public_key().is_ok());
        let embedded = Embedded::start_with_key(&args.data.data_dir, create, key, env).await?;
        Self::embedded(Kind::Region, embedded).await
    }

    async fn embedded(kind: Kind, embedded: Embedded) -> anyhow::Result<Self> {
        let connected = match kind {
            Kind::Control => embedded.control().await,
            Kind::Region => embedded.region().await,
        };
        match connected {
            Ok(peer) => Ok(Self { peer, embedded: Some(embedded) }),
            Err(error) => {
                embedded.stop().await;
                Err(error.into())
            }
        }
    }

    /// Asks the service, and stops it afterwards if it is an embedded one.
    pub(super) async fn ask<T>(self, question: impl AsyncFnOnce(&Peer) -> T) -> T {
        let answer = question(&self.peer).await;
        self.close().await;
        answer
    }

    /// Stops an embedded service.
    pub(super) async fn close(self) {
        // The connection goes first, for the service waits until it is closed.
        drop(self.peer);
        if let Some(embedded) = self.embedded {
            embedded.stop().await;
        }
    }
}
