//! Certificates for tests: a CA of its own in a temporary directory, by the clock of the test.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use causeway::{
    certs::{Authority, Issued, Request, parameters, valid_for},
    serve::Tls,
};
use causeway_client::{ClientFiles, ClientTls, Clock, PairFiles};
use causeway_silo::env::Environment;
use causeway_tls::{Identity, Role, ServerFiles, ServerTls, TrustDomain};
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber,
};
use tempfile::TempDir;
use time::OffsetDateTime;

/// The trust domain of all certificates for which a test names no other one.
pub const TRUST_DOMAIN: &str = "test.example";

/// A CA, and the directory with all that it has issued.
pub struct Pki {
    directory: TempDir,
    authority: Authority,
    env: Environment,
}

impl std::fmt::Debug for Pki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pki").field("directory", &self.directory.path()).finish_non_exhaustive()
    }
}

/// Writes a private key that only its owner can read.
fn write_key(path: &Path, key: &str) -> anyhow::Result<()> {
    std::fs::write(path, key)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn moment(at: DateTime<Utc>) -> anyhow::Result<OffsetDateTime> {
    Ok(OffsetDateTime::from_unix_timestamp(at.timestamp())?)
}

impl Pki {
    /// Makes a CA for ten years. It and its certificates begin 5 minutes before the time of `env`.
    ///
    /// # Errors
    /// If there is no temporary directory.
    pub fn new(env: Environment) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let trust_domain: TrustDomain = TRUST_DOMAIN.parse().map_err(anyhow::Error::msg)?;
        let until = env.now() + TimeDelta::days(3_650);
        let (authority, issued) = Authority::make(trust_domain, env.now(), until, &env)?;
        std::fs::write(directory.path().join("ca.pem"), issued.cert)?;
        Ok(Self { directory, authority, env })
    }

    /// The file with the CA's certificate, in PEM form.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file in its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The clock of all that is made here.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let env = self.env.clone();
        Clock::new(move || env.now())
    }

    /// The parameters of a certificate for 90 days and for loopback.
    ///
    /// # Errors
    /// If the name is not one.
    pub fn parameters(&self, role: Role, name: &str) -> anyhow::Result<CertificateParams> {
        let domain = self.authority.trust_domain().clone();
        let identity = Identity::new(domain, role, name).context("no name")?;
        let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let (from, until) = valid_for(self.env.now(), TimeDelta::days(90));
        Ok(parameters(&Request { identity: &identity, hosts: &hosts, from, until }, &self.env)?)
    }

    /// Sets the time of a certificate, in days from now.
    ///
    /// # Errors
    /// If a certificate cannot have such a time.
    pub fn set_days(&self, params: &mut CertificateParams, from: i64, until: i64) -> anyhow::Result<()> {
        let now = self.env.now();
        params.not_before = moment(now + TimeDelta::days(from))?;
        params.not_after = moment(now + TimeDelta::days(until))?;
        Ok(())
    }

    /// Makes a key and a certificate, without writing files.
    ///
    /// # Errors
    /// If the parameters cannot be those of a certificate.
    pub fn sign(&self, params: &CertificateParams) -> anyhow::Result<Issued> {
        Ok(self.authority.sign(params)?)
    }

    /// Issues a certificate into files that begin with `file`. Files that are there are replaced: first the key.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn issue(&self, file: &str, params: &CertificateParams) -> anyhow::Result<PairFiles> {
        let issued = self.sign(params)?;
        let pair =
            PairFiles { cert: self.path(&format!("{file}.pem")), key: self.path(&format!("{file}-key.pem")) };
        write_key(&pair.key, &issued.key)?;
        std::fs::write(&pair.cert, issued.cert)?;
        Ok(pair)
    }

    /// Issues a certificate for 90 days and for loopback, into files that are named for the role and name.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn pair(&self, role: Role, name: &str) -> anyhow::Result<PairFiles> {
        self.issue(&format!("{role}-{name}"), &self.parameters(role, name)?)
    }

    /// Writes a list of revoked certificates.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn revoke(&self, serials: &[SerialNumber]) -> anyhow::Result<PathBuf> {
        let now = moment(self.env.now())?;
        let revoked = |serial: &SerialNumber| RevokedCertParams {
            serial_number: serial.clone(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: now,
            next_update: moment(self.env.now() + TimeDelta::days(7))?,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.path("crl.pem");
        std::fs::write(&path, list.signed_by(self.authority.issuer())?.pem()?)?;
        Ok(path)
    }

    /// The files of a server that wants certificates of this CA.
    #[must_use]
    pub fn server_files(&self, pair: PairFiles) -> ServerFiles {
        ServerFiles { pair, client_ca: Some(self.ca()), client_crl: None }
    }

    /// TLS of a server that wants certificates of this CA with identities of its trust domain.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn server(&self, pair: PairFiles) -> anyhow::Result<Tls> {
        let certificates = ServerTls::load(self.server_files(pair), self.clock())?;
        Ok(Tls::new(Arc::new(certificates), Some(self.authority.trust_domain().clone())))
    }

    /// TLS of a client that checks servers by this CA.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn client(&self, pair: Option<PairFiles>) -> anyhow::Result<Arc<ClientTls>> {
        Ok(Arc::new(ClientTls::load(ClientFiles { ca: self.ca(), pair }, self.clock())?))
    }

    /// TLS of a client with the identity of an operator.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn operator(&self) -> anyhow::Result<Arc<ClientTls>> {
        self.client(Some(self.pair(Role::Operator, "me")?))
    }
}
