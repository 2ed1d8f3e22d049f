//! What a failed handshake means, in one line with what to do.

use std::{io, path::Path};

use chrono::DateTime;
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage,
    pki_types::{ServerName, UnixTime},
};

use crate::files::{day, shown};

/// For a client that speaks plaintext to a port where TLS is spoken.
pub const SERVER_SPEAKS_TLS: &str =
    "the server speaks TLS: use https:// and --tls-ca (of a region: --control-tls-ca)";

/// For a client that speaks TLS to a port where it is not spoken.
pub const SERVER_SPEAKS_NO_TLS: &str =
    "the server does not speak TLS: use http://, or start it with --tls-cert and --tls-key";

/// What a client without a certificate needs.
const GIVE_CERTIFICATE: &str =
    "give --tls-cert and --tls-key (of a region: --control-tls-cert and --control-tls-key)";

/// The TLS error inside an error of a connection, if it is one.
#[must_use]
pub fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn at(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, 0).map_or_else(|| "a far day".to_owned(), |at| day(&at))
}

/// A name as rustls lists it, such as `DnsName("localhost")`, without what surrounds it. `None` for names that are not
/// those of hosts.
fn host(name: &str) -> Option<&str> {
    let (kind, rest) = name.split_once('(')?;
    let inner = rest.strip_suffix(')')?.trim_matches('"');
    matches!(kind, "DnsName" | "IpAddress").then_some(inner)
}

/// What is wrong with a certificate, as the rest of a sentence that begins with the certificate.
fn wrong(error: &CertificateError) -> String {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => format!("has expired on {}", at(*not_after)),
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}", at(*not_before))
        }
        CertificateError::NotValidYet => "is not valid yet".to_owned(),
        CertificateError::Revoked => "has been revoked".to_owned(),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "is not signed by a CA that is accepted here".to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not for this side of a connection (its extended key usage)".to_owned()
        }
        error => format!("cannot be accepted: {error}"),
    }
}

/// What a server reports about a client's certificate, by the alert that it sends.
fn alert(alert: AlertDescription, has_certificate: bool) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            format!("the server wants a certificate: {GIVE_CERTIFICATE}")
        }
        // TLS 1.2 has no alert for a certificate that is absent.
        AlertDescription::HandshakeFailure | AlertDescription::BadCertificate if !has_certificate => {
            format!("the server may want a certificate: {GIVE_CERTIFICATE}")
        }
        AlertDescription::CertificateExpired => {
            "the server does not accept this certificate: it has expired, or its time has not come; issue a new one"
                .to_owned()
        }
        AlertDescription::CertificateRevoked => {
            "the server does not accept this certificate: it has been revoked; issue a new one".to_owned()
        }
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the server does not accept this certificate: it is not signed by a CA of its --tls-client-ca".to_owned()
        }
        AlertDescription::UnsupportedCertificate => {
            "the server does not accept this certificate: it is not one for callers; issue one with the extended key usage \
             clientAuth"
                .to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            "the server does not accept this certificate; its log says why".to_owned()
        }
        AlertDescription::ProtocolVersion => "the server speaks no TLS that this client speaks".to_owned(),
        AlertDescription::NoApplicationProtocol => "the server does not speak HTTP/2 there".to_owned(),
        alert => format!("the server ended the TLS handshake: {alert:?}"),
    }
}

/// What it means to a client that checks servers by the file `ca` and has a certificate or not.
#[must_use]
pub fn of_client(error: &Error, ca: &Path, has_certificate: bool) -> String {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => SERVER_SPEAKS_NO_TLS.to_owned(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            format!(
                "its certificate is not signed by a CA of {}: give the CA that signed it (--tls-ca, of a region \
                 --control-tls-ca)",
                shown(ca)
            )
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
            let names: Vec<&str> = presented.iter().filter_map(|name| host(name)).collect();
            let names = if names.is_empty() { "no host".to_owned() } else { names.join(", ") };
            format!(
                "its certificate is for {names} and not for {}: use a name of the certificate, or issue one for this name",
                name(expected)
            )
        }
        Error::InvalidCertificate(error) => format!("its certificate {}", wrong(error)),
        Error::AlertReceived(received) => alert(*received, has_certificate),
        error => format!("the TLS handshake failed: {error}"),
    }
}

fn name(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

/// What it means to a server.
#[must_use]
pub fn of_server(error: &Error) -> String {
    match error {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the client does not speak TLS; it must use https://".to_owned()
        }
        Error::NoCertificatesPresented => "the client has no certificate".to_owned(),
        Error::InvalidCertificate(error) => format!("the client's certificate {}", wrong(error)),
        Error::AlertReceived(alert) => {
            format!("the client does not accept the server's certificate: {alert:?}")
        }
        error => format!("the TLS handshake failed: {error}"),
    }
}
