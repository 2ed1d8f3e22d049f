//! TLS of a server.

use std::{path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};
use rustls::{
    InconsistentKeys, ServerConfig,
    pki_types::CertificateDer,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    time_provider::TimeProvider as _,
};

use crate::{
    ALPN, Clock, Ends, FileError, PairFiles, Refreshed, VERSIONS,
    files::{self, Contents, shown},
    provider,
    reload::{Loaded, Reloading},
    validity::Dated,
};

/// The files of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// The server's own certificate, and its private key.
    pub pair: PairFiles,
    /// The CAs whose certificates clients must have. Without them, clients need no certificate.
    pub client_ca: Option<PathBuf>,
    /// Lists of certificates that these CAs have revoked.
    pub client_crl: Option<PathBuf>,
}

/// The certificates of a server.
#[derive(Debug)]
pub struct ServerTls {
    files: ServerFiles,
    clock: Clock,
    state: Reloading<Accepting>,
}

/// How connections are accepted.
#[derive(Debug)]
struct Accepting {
    config: Arc<ServerConfig>,
    /// What the certificates of clients are checked by; `None` if they need none.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

struct Read {
    cert: Contents,
    key: Contents,
    client_ca: Option<Contents>,
    client_crl: Option<Contents>,
}

impl Read {
    fn new(files: &ServerFiles) -> Result<Self, FileError> {
        Ok(Self {
            cert: Contents::read(&files.pair.cert)?,
            key: Contents::read(&files.pair.key)?,
            client_ca: files.client_ca.as_deref().map(Contents::read).transpose()?,
            client_crl: files.client_crl.as_deref().map(Contents::read).transpose()?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        files::digest([&self.cert, &self.key].into_iter().chain(&self.client_ca).chain(&self.client_crl))
    }

    fn verifier(&self, dated: &mut Vec<Dated>) -> Result<Option<Arc<dyn ClientCertVerifier>>, FileError> {
        let Some(client_ca) = &self.client_ca else { return Ok(None) };
        dated.extend(Dated::of_cas(client_ca)?);
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(client_ca.roots()?), provider());
        if let Some(client_crl) = &self.client_crl {
            let lists = client_crl.revocation_lists()?;
            dated.extend(Dated::of_revocation_lists(client_crl, &lists)?);
            // A CA without a list has revoked nothing: while one CA replaces another, the new one has no list yet.
            builder = builder.with_crls(lists).allow_unknown_revocation_status();
        }
        let path = self.client_crl.as_ref().unwrap_or(client_ca).path();
        match builder.build() {
            Ok(verifier) => Ok(Some(verifier)),
            Err(error) => Err(FileError::Malformed { path: shown(path), reason: error.to_string() }),
        }
    }

    fn build(&self, clock: &Clock) -> Result<Loaded<Accepting>, FileError> {
        let chain = self.cert.certificates()?;
        let mut dated = Dated::of_chain(&self.cert, &chain)?;
        dated.iter().try_for_each(|own| own.check(clock.now()))?;
        let unusable = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                FileError::Mismatch { cert: shown(self.cert.path()), key: shown(self.key.path()) }
            }
            error => FileError::Malformed { path: shown(self.cert.path()), reason: error.to_string() },
        };
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(&VERSIONS)
            .map_err(unusable)?;
        let verifier = self.verifier(&mut dated)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, self.key.key()?).map_err(unusable)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would keep a certificate that has been revoked or has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let accepting = Accepting { config: Arc::new(config), verifier };
        Ok(Loaded { config: Arc::new(accepting), digest: self.digest(), dated })
    }
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them cannot be used, or the server's certificate is not valid now.
    pub fn load(files: ServerFiles, clock: Clock) -> Result<Self, FileError> {
        let loaded = Read::new(&files)?.build(&clock)?;
        files::warn_if_readable_by_others(&files.pair.key);
        Ok(Self { files, clock, state: Reloading::new(loaded) })
    }

    /// What the next connection is accepted with.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.state.config().config)
    }

    /// Whether a certificate of a client, with its intermediate certificates, is accepted now. One that was
    /// accepted before is not any more when it has expired, was revoked, or its CA was removed.
    #[must_use]
    pub fn still_accepts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let accepting = self.state.config();
        match (&accepting.verifier, chain.split_first()) {
            (None, _) => true,
            (Some(verifier), Some((own, intermediates))) => match self.clock.current_time() {
                Some(now) => verifier.verify_client_cert(own, intermediates, now).is_ok(),
                None => false,
            },
            (Some(_), None) => false,
        }
    }

    /// A digest of all files, which changes when they do.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.state.digest()
    }

    /// Whether clients must have a certificate.
    #[must_use]
    pub fn needs_client_certificates(&self) -> bool {
        self.files.client_ca.is_some()
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
