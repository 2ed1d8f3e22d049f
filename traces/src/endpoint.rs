//! The address of a collector.

use std::{fmt, str::FromStr};

use tonic::transport::Uri;

/// The URL of a collector that takes OTLP over gRPC, such as `http://127.0.0.1:4317`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

/// Why a text is not the URL of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    /// It begins with `https://`.
    #[error(
        "TLS to a collector is not supported: name a collector on this machine, which can pass the spans on with TLS"
    )]
    Tls,
    /// It is not a URL, or of something else.
    #[error(
        "it must be http://HOST:PORT of a collector that takes OTLP over gRPC, e.g. http://127.0.0.1:4317"
    )]
    NoUrl,
    /// It has a path, as that of OTLP over HTTP has.
    #[error("it must have no path: spans are sent over gRPC, for which most collectors listen on port 4317")]
    Path,
    /// It has a user or a password.
    #[error("it must have no user and no password, which would be logged")]
    User,
}

impl FromStr for OtlpEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint::NoUrl)?;
        let authority = uri.authority().ok_or(InvalidEndpoint::NoUrl)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(InvalidEndpoint::Tls),
            _ => return Err(InvalidEndpoint::NoUrl),
        }
        if authority.as_str().contains('@') {
            return Err(InvalidEndpoint::User);
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(InvalidEndpoint::Path);
        }
        if authority.port_u16().is_none_or(|port| port == 0) {
            return Err(InvalidEndpoint::NoUrl);
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl OtlpEndpoint {
    /// Host and port, with a space between them, for a command: an IPv6 address without its brackets.
    pub(crate) fn host_and_port(&self) -> String {
        let authority = self.0.strip_prefix("http://").unwrap_or(&self.0);
        authority
            .rsplit_once(':')
            .map(|(host, port)| (host.trim_start_matches('[').trim_end_matches(']'), port))
            .map_or_else(|| authority.to_owned(), |(host, port)| format!("{host} {port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_name_the_collector() {
        let named = |text: &str| text.parse::<OtlpEndpoint>().map(|endpoint| endpoint.host_and_port());
        assert_eq!(named("http://collector:4317/"), Ok("collector 4317".to_owned()));
        assert_eq!(named("http://[::1]:4317"), Ok("::1 4317".to_owned()));
    }

    #[test]
    fn only_the_address_of_a_collector_is_taken() {
        let parsed = |text: &str| text.parse::<OtlpEndpoint>().map(|endpoint| endpoint.to_string());
        assert_eq!(parsed("http://127.0.0.1:4317"), Ok("http://127.0.0.1:4317".to_owned()));
        assert_eq!(parsed("http://collector:4317/"), Ok("http://collector:4317".to_owned()));
        assert_eq!(parsed("https://127.0.0.1:4317"), Err(InvalidEndpoint::Tls));
        assert_eq!(parsed("http://127.0.0.1:4318/v1/traces"), Err(InvalidEndpoint::Path));
        assert_eq!(parsed("http://me:secret@127.0.0.1:4317"), Err(InvalidEndpoint::User));
        for text in
            ["", "127.0.0.1:4317", "http://", "http://collector", "http://collector:0", "grpc://c:4317"]
        {
            assert_eq!(parsed(text), Err(InvalidEndpoint::NoUrl), "{text}");
        }
    }
}
