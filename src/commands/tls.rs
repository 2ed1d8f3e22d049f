//! The options about TLS: those of servers, of a region towards control, and of commands that call a service.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use causeway::serve::Tls;
use causeway_client::{ClientFiles, ClientTls, Clock, PairFiles};
use causeway_silo::env::Environment;
use causeway_tls::{ServerFiles, ServerTls, TableEntry, TrustDomain};
use tracing::warn;

/// The clock of an environment, for certificates.
fn clock(env: &Environment) -> Clock {
    let env = env.clone();
    Clock::new(move || env.now())
}

/// A certificate and its key, of which both or none must be given.
fn pair(cert: Option<&PathBuf>, key: Option<&PathBuf>, prefix: &str) -> anyhow::Result<Option<PairFiles>> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(PairFiles { cert: cert.clone(), key: key.clone() })),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("--{prefix}-cert needs --{prefix}-key, the private key of the certificate"),
        (None, Some(_)) => bail!("--{prefix}-key needs --{prefix}-cert, the certificate of the private key"),
    }
}

/// The options of a command that calls a service with these files.
fn words(ca: Option<&PathBuf>, cert: Option<&PathBuf>, key: Option<&PathBuf>) -> Vec<String> {
    let options = [("--tls-ca", ca), ("--tls-cert", cert), ("--tls-key", key)];
    let given = options.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.flat_map(|(name, value)| [name.to_owned(), value.display().to_string()]).collect()
}

/// TLS of a server.
#[derive(Debug, clap::Args)]
pub(super) struct ServerTlsArgs {
    /// The certificate of the server: a PEM file, followed by its intermediate certificates if it has any. With it, the port speaks
    /// only TLS. All files of certificates are read again when they change
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_TLS_CERT")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert: a PEM file, without a passphrase, that only the server's user can read
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_TLS_KEY")]
    pub(super) tls_key: Option<PathBuf>,
    /// The CAs of callers: a PEM file. With it, a caller without a certificate of one of them is refused
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_TLS_CLIENT_CA")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// Lists of the certificates that the CAs of --tls-client-ca have revoked: a PEM file. A CA without a list has
    /// revoked none
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_TLS_CLIENT_CRL")]
    tls_client_crl: Option<PathBuf>,
    /// The trust domain of callers. With it, the certificate of a caller must have one URI, of the form
    /// spiffe://NAME/ROLE/NAME_OF_CALLER, where ROLE is region, control, router, operator, importer or monitor. Needs
    /// --tls-client-ca
    #[arg(long, value_name = "NAME", env = "CAUSEWAY_TRUST_DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Another identity of callers whose certificate has this name: NAME=ROLE/NAME_OF_CALLER, where the first NAME is a
    /// URI, dns:HOST, email:ADDRESS or subject:CN=..., as in dns:us.regions.example.com=region/us. For certificates
    /// without a URI of --trust-domain, and for callers with several roles. May be given several times. Needs
    /// --trust-domain
    #[arg(long, value_name = "NAME=ROLE/NAME", env = "CAUSEWAY_IDENTITY", value_delimiter = ';')]
    identity: Vec<TableEntry>,
    /// Listen without TLS on an address that other machines can reach. Whoever reaches the port can then read and make
    /// every call, and whoever reaches the port of --metrics-listen can read the metrics
    #[arg(long, env = "CAUSEWAY_INSECURE")]
    insecure: bool,
}

impl ServerTlsArgs {
    /// The certificate that was given, with its key.
    fn pair(&self) -> anyhow::Result<Option<PairFiles>> {
        pair(self.tls_cert.as_ref(), self.tls_key.as_ref(), "tls")
    }

    /// Whether a port without TLS may be reached from other machines.
    pub(super) fn is_insecure(&self) -> bool {
        self.insecure
    }

    /// Whether the port speaks TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Whether callers must have an identity.
    pub(super) fn has_identities(&self) -> bool {
        self.trust_domain.is_some()
    }

    /// Checks the settings against each other, and against the address to listen on.
    pub(super) fn check(&self, listen: SocketAddr) -> anyhow::Result<()> {
        let is_tls = self.pair()?.is_some();
        for (option, is_set, needed, has) in [
            ("--tls-client-ca", self.tls_client_ca.is_some(), "--tls-cert and --tls-key", is_tls),
            (
                "--tls-client-crl",
                self.tls_client_crl.is_some(),
                "--tls-client-ca",
                self.tls_client_ca.is_some(),
            ),
            ("--trust-domain", self.trust_domain.is_some(), "--tls-client-ca", self.tls_client_ca.is_some()),
            ("--identity", !self.identity.is_empty(), "--trust-domain", self.trust_domain.is_some()),
        ] {
            if is_set && !has {
                bail!("{option} needs {needed}");
            }
        }
        if !is_tls && !self.insecure && !listen.ip().is_loopback() {
            bail!(
                "{listen} of --listen can be reached from other machines, and a server without TLS listens on loopback \
                 only: give --tls-cert and --tls-key (`causeway certs` makes some to try it with), or --insecure to \
                 let whoever reaches the port read and make every call"
            );
        }
        Ok(())
    }

    /// Reads the certificates, and warns of what the settings leave open.
    pub(super) fn load(&self, listen: SocketAddr, env: &Environment) -> anyhow::Result<Option<Tls>> {
        let Some(pair) = self.pair()? else {
            if !listen.ip().is_loopback() {
                warn!(%listen, "--insecure: whoever reaches the port can read and make every call");
            }
            return Ok(None);
        };
        let files = ServerFiles {
            pair,
            client_ca: self.tls_client_ca.clone(),
            client_crl: self.tls_client_crl.clone(),
        };
        let certificates = ServerTls::load(files, clock(env)).context("the server cannot speak TLS")?;
        if self.tls_client_ca.is_none() && !listen.ip().is_loopback() {
            warn!(%listen, "without --tls-client-ca, whoever reaches the port can make every call");
        }
        let identities = Arc::new(self.identity.iter().cloned().collect());
        Ok(Some(Tls { identities, ..Tls::new(Arc::new(certificates), self.trust_domain.clone()) }))
    }
}

/// TLS of a region towards control.
#[derive(Debug, clap::Args)]
pub(super) struct ControlTlsArgs {
    /// The CAs that may have signed the certificate of control, if its URL begins with https://: a PEM file
    /// [default: that of --tls-client-ca]
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_CONTROL_TLS_CA")]
    control_tls_ca: Option<PathBuf>,
    /// The certificate that the region shows to control: a PEM file [default: that of --tls-cert]
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_CONTROL_TLS_CERT")]
    control_tls_cert: Option<PathBuf>,
    /// The private key of --control-tls-cert: a PEM file, without a passphrase [default: that of --tls-key]
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_CONTROL_TLS_KEY")]
    control_tls_key: Option<PathBuf>,
}

impl ControlTlsArgs {
    /// The files, with the defaults of the server. `None` if no URL needs them.
    fn files(&self, server: &ServerTlsArgs, urls: &[String]) -> anyhow::Result<Option<ClientFiles>> {
        let own = pair(self.control_tls_cert.as_ref(), self.control_tls_key.as_ref(), "control-tls")?;
        let Some(url) = urls.iter().find(|url| url.starts_with("https://")) else { return Ok(None) };
        let Some(ca) = self.control_tls_ca.as_ref().or(server.tls_client_ca.as_ref()) else {
            bail!(
                "{url} of --control needs --control-tls-ca (or --tls-client-ca), the CA that signed the certificate of control"
            );
        };
        Ok(Some(ClientFiles { ca: ca.clone(), pair: own.or(server.pair()?) }))
    }

    /// Checks the settings against each other.
    pub(super) fn check(&self, server: &ServerTlsArgs, urls: &[String]) -> anyhow::Result<()> {
        self.files(server, urls).map(|_| ())
    }

    /// The options of a command of an operator that calls control: the CA is the same, and the certificate of a region
    /// does not give the rights of an operator, so its place is left open. Empty if no URL needs them.
    pub(super) fn operator_words(&self, server: &ServerTlsArgs, urls: &[String]) -> Vec<String> {
        // What is wrong with the files was reported when they were loaded.
        let files = self.files(server, urls).ok().flatten();
        let Some(ClientFiles { ca, pair }) = &files else { return Vec::new() };
        let open = pair.as_ref().map(|_| (PathBuf::from("OPERATOR.pem"), PathBuf::from("OPERATOR-key.pem")));
        words(Some(ca), open.as_ref().map(|(cert, _)| cert), open.as_ref().map(|(_, key)| key))
    }

    /// Reads the certificates, if a URL needs them.
    pub(super) fn load(
        &self,
        server: &ServerTlsArgs,
        urls: &[String],
        env: &Environment,
    ) -> anyhow::Result<Option<Arc<ClientTls>>> {
        let Some(files) = self.files(server, urls)? else { return Ok(None) };
        let tls = ClientTls::load(files, clock(env)).context("the region cannot speak TLS with control")?;
        Ok(Some(Arc::new(tls)))
    }
}

/// TLS of a command that calls a service.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct ClientTlsArgs {
    /// The CAs that may have signed the certificate of a service whose URL begins with https://: a PEM file
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_TLS_CA")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show to the service, if it wants one: a PEM file
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert: a PEM file, without a passphrase
    #[arg(long, value_name = "FILE", env = "CAUSEWAY_TLS_KEY")]
    tls_key: Option<PathBuf>,
}

impl ClientTlsArgs {
    /// Reads the certificates, if the URL needs them, and prints what will be wrong with them soon.
    pub(super) fn load(&self, url: &str, env: &Environment) -> anyhow::Result<Option<Arc<ClientTls>>> {
        let tls = self.read(url, env)?;
        for warning in tls.iter().flat_map(|tls| tls.warnings()) {
            crate::output::note(&warning);
        }
        Ok(tls)
    }

    /// Reads the certificates, if the URL needs them, and prints nothing.
    pub(super) fn read(&self, url: &str, env: &Environment) -> anyhow::Result<Option<Arc<ClientTls>>> {
        if !url.starts_with("https://") {
            return Ok(None);
        }
        let pair = pair(self.tls_cert.as_ref(), self.tls_key.as_ref(), "tls")?;
        let Some(ca) = &self.tls_ca else {
            bail!("{url} needs --tls-ca, the CA that signed the certificate of the service");
        };
        Ok(Some(Arc::new(ClientTls::load(ClientFiles { ca: ca.clone(), pair }, clock(env))?)))
    }

    /// The options, for a command that somebody pastes.
    pub(super) fn words(&self) -> Vec<String> {
        words(self.tls_ca.as_ref(), self.tls_cert.as_ref(), self.tls_key.as_ref())
    }
}
