//! TLS of a client.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use rustls::{
    ClientConfig, InconsistentKeys,
    client::{Resumption, WebPkiServerVerifier},
};

use crate::{
    ALPN, Clock, Ends, FileError, PairFiles, Refreshed, VERSIONS,
    files::{self, Contents, shown},
    provider,
    reload::{Loaded, Reloading},
    validity::Dated,
};

/// The files of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The CAs that servers are checked by.
    pub ca: PathBuf,
    /// Its own certificate, for servers that want one.
    pub pair: Option<PairFiles>,
}

/// The certificates of a client.
#[derive(Debug)]
pub struct ClientTls {
    files: ClientFiles,
    clock: Clock,
    state: Reloading<ClientConfig>,
}

struct Read {
    ca: Contents,
    pair: Option<(Contents, Contents)>,
}

impl Read {
    fn new(files: &ClientFiles) -> Result<Self, FileError> {
        let pair = match &files.pair {
            Some(pair) => Some((Contents::read(&pair.cert)?, Contents::read(&pair.key)?)),
            None => None,
        };
        Ok(Self { ca: Contents::read(&files.ca)?, pair })
    }

    fn digest(&self) -> [u8; 32] {
        let pair = self.pair.iter().flat_map(|(cert, key)| [cert, key]);
        files::digest([&self.ca].into_iter().chain(pair))
    }

    fn build(&self, clock: &Clock) -> Result<Loaded<ClientConfig>, FileError> {
        let mut dated = Dated::of_cas(&self.ca)?;
        let of_ca = |reason: String| FileError::Malformed { path: shown(self.ca.path()), reason };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(self.ca.roots()?), provider())
            .build()
            .map_err(|error| of_ca(error.to_string()))?;
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(&VERSIONS)
            .map_err(|error| of_ca(error.to_string()))?
            .with_webpki_verifier(verifier);
        let mut config = match &self.pair {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = cert.certificates()?;
                let own = Dated::of_chain(cert, &chain)?;
                own.iter().try_for_each(|own| own.check(clock.now()))?;
                dated.extend(own);
                builder.with_client_auth_cert(chain, key.key()?).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                        FileError::Mismatch { cert: shown(cert.path()), key: shown(key.path()) }
                    }
                    error => FileError::Malformed { path: shown(cert.path()), reason: error.to_string() },
                })?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Each connection shows the certificate that the client has now.
        config.resumption = Resumption::disabled();
        Ok(Loaded { config: Arc::new(config), digest: self.digest(), dated })
    }
}

impl ClientTls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them cannot be used, or the client's certificate is not valid now.
    pub fn load(files: ClientFiles, clock: Clock) -> Result<Self, FileError> {
        let loaded = Read::new(&files)?.build(&clock)?;
        if let Some(pair) = &files.pair {
            files::warn_if_readable_by_others(&pair.key);
        }
        Ok(Self { files, clock, state: Reloading::new(loaded) })
    }

    /// What was read last.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        self.state.config()
    }

    /// The file with the CAs that servers are checked by, for messages.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.files.ca
    }

    /// Whether the client has a certificate of its own.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.files.pair.is_some()
    }

    /// Reads the files again, and uses what they have now if they have changed. Blocks.
    pub fn refresh(&self) -> Refreshed {
        self.state.refresh(|| Read::new(&self.files), Read::digest, |read| read.build(&self.clock))
    }

    /// The time by its clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// When the first certificate of each kind ends, in the files that are in use.
    #[must_use]
    pub fn ends(&self) -> Ends {
        self.state.ends()
    }

    /// What to warn of now: certificates that end within [`WARN_BEFORE`](crate::WARN_BEFORE), and those that are over.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.state.warnings(self.clock.now())
    }
}
