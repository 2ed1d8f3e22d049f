//! A development CA: it signs certificates whose one URI identifies their holder. For anything that matters,
//! use the CA that your organization has; docs/tls.md describes what its certificates need.

use std::net::IpAddr;

use causeway_silo::env::Environment;
use causeway_tls::{
    Identity, Role, TrustDomain,
    rustls::pki_types::{CertificateDer, pem::PemObject as _},
};
use chrono::{DateTime, TimeDelta, Utc};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// How far back the time of a certificate begins, for machines whose clocks are slow.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);
/// The length of a serial number, in bytes. With the first bit zero, it is at most the 20 bytes that are allowed.
const SERIAL_BYTES: usize = 16;

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// Something in it cannot be written into a certificate.
    #[error("a certificate cannot be made: {0}")]
    Rcgen(#[from] rcgen::Error),
    /// The CA's certificate is not one that this command has made.
    #[error(
        "the CA's certificate has no URI spiffe://TRUST_DOMAIN; `causeway certs init` makes one that has it"
    )]
    NotOurs,
    /// A time cannot be written into a certificate.
    #[error("a certificate cannot end on {0}")]
    Time(DateTime<Utc>),
}

/// A certificate with its private key, both in PEM form.
pub struct Issued {
    /// The certificate in PEM form, for everybody to see.
    pub cert: String,
    /// The private key in PEM form, which is overwritten when it is dropped.
    pub key: zeroize::Zeroizing<String>,
}

/// The content of a certificate.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Who its holder is.
    pub identity: &'a Identity,
    /// Under which names and addresses its holder is reached.
    pub hosts: &'a [String],
    /// The first moment at which it is valid, to the second.
    pub from: DateTime<Utc>,
    /// The moment at which it expires, to the second.
    pub until: DateTime<Utc>,
}

/// A certificate authority, with its key, for one trust domain.
pub struct Authority {
    trust_domain: TrustDomain,
    issuer: Issuer<'static, KeyPair>,
    ends: DateTime<Utc>,
}

fn moment(at: DateTime<Utc>) -> Result<OffsetDateTime, CertsError> {
    OffsetDateTime::from_unix_timestamp(at.timestamp()).map_err(|_| CertsError::Time(at))
}

fn serial(env: &Environment) -> SerialNumber {
    let mut serial = env.bytes::<SERIAL_BYTES>();
    // Positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&serial)
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn pem(cert: &rcgen::Certificate, key: &KeyPair) -> Issued {
    Issued { cert: cert.pem(), key: key.serialize_pem().into() }
}

/// The parameters of a certificate, for what [`Request`] has no field for. The key is that of
/// [`Authority::sign`].
///
/// # Errors
/// If a name or time cannot be written into a certificate.
pub fn parameters(request: &Request<'_>, env: &Environment) -> Result<CertificateParams, CertsError> {
    let Request { identity, hosts, from, until } = request;
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = named(&format!("{} {}", identity.role(), identity.name()));
    params.subject_alt_names.push(SanType::URI(identity.to_string().try_into()?));
    (params.not_before, params.not_after) = (moment(*from)?, moment(*until)?);
    params.serial_number = Some(serial(env));
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if matches!(identity.role(), Role::Control | Role::Region) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    Ok(params)
}

impl Authority {
    /// Makes a CA for a trust domain, valid from 5 minutes before `now`. The key comes from ring's own generator, which
    /// takes no other source of randomness.
    ///
    /// # Errors
    /// If the time cannot be written into a certificate.
    pub fn make(
        trust_domain: TrustDomain,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        env: &Environment,
    ) -> Result<(Self, Issued), CertsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Causeway development CA of {trust_domain}"));
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (moment(now - CLOCK_SKEW)?, moment(until)?);
        params.serial_number = Some(serial(env));
        let key = KeyPair::generate()?;
        let issued = pem(&params.self_signed(&key)?, &key);
        Ok((Self { trust_domain, issuer: Issuer::new(params, key), ends: until }, issued))
    }

    /// Reads a CA that [`make`](Self::make) has made, from its certificate and key in PEM form.
    ///
    /// # Errors
    /// If they cannot be parsed, or the certificate names no trust domain.
    pub fn read(cert: &str, key: &str) -> Result<Self, CertsError> {
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).map_err(|_| CertsError::NotOurs)?;
        let (_, parsed) = parse_x509_certificate(&der).map_err(|_| CertsError::NotOurs)?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("spiffe://"),
            _ => None,
        });
        let trust_domain = uris.filter_map(|name| name.parse().ok()).next().ok_or(CertsError::NotOurs)?;
        let ends = DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
            .ok_or(CertsError::NotOurs)?;
        let issuer = Issuer::from_ca_cert_der(&der, KeyPair::from_pem(key)?)?;
        Ok(Self { trust_domain, issuer, ends })
    }

    /// The trust domain of its certificates.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// When it ends. A certificate that ends later is of no use after that.
    #[must_use]
    pub fn ends(&self) -> DateTime<Utc> {
        self.ends
    }

    /// Makes a key, and a certificate for it.
    ///
    /// # Errors
    /// If a name or time cannot be written into a certificate.
    pub fn issue(&self, request: &Request<'_>, env: &Environment) -> Result<Issued, CertsError> {
        self.sign(&parameters(request, env)?)
    }

    /// Makes a key, and a certificate for it with any parameters.
    ///
    /// # Errors
    /// If the parameters cannot be written into a certificate.
    pub fn sign(&self, params: &CertificateParams) -> Result<Issued, CertsError> {
        let key = KeyPair::generate()?;
        Ok(pem(&params.signed_by(&key, &self.issuer)?, &key))
    }

    /// The issuer, to sign what is not a certificate, such as a revocation list.
    #[must_use]
    pub fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }
}

/// The first and last moment of a certificate that is valid for so long from now. It begins 5 minutes early, for machines
/// whose clocks are slow.
#[must_use]
pub fn valid_for(now: DateTime<Utc>, valid_for: TimeDelta) -> (DateTime<Utc>, DateTime<Utc>) {
    (now - CLOCK_SKEW, now + valid_for)
}

/// Whether a text can be a host in a certificate: an IP address or a name.
#[must_use]
pub fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || causeway_tls::rustls::pki_types::DnsName::try_from(text.trim_start_matches("*.")).is_ok()
}
