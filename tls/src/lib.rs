//! TLS for both sides of a call, by rustls: TLS 1.3, and 1.2 for peers that have no newer one.
//!
//! - [`ServerTls`]: the certificate of a server, and the certificates that it accepts from clients.
//! - [`ClientTls`]: the CA that a client checks servers by, and its own certificate.
//! - [`Identity`]: who the holder of a certificate is; [`Caller`]: all that its holder is.
//! - [`CertificateEnd`]: until when a certificate is valid.
//! - [`words`]: what a failed handshake means, for the person who has to do something about it.
//!
//! Both sides read their files again when they change, and keep what they had if the new files cannot be used.
//! Connections that are open stay open. Links no database and no gRPC.

mod caller;
mod client;
mod clock;
mod files;
mod identity;
mod reload;
mod server;
mod validity;
pub mod words;

pub use caller::{Caller, IdentityTable, TableEntry};
pub use client::{ClientFiles, ClientTls};
pub use clock::Clock;
pub use files::{FileError, PairFiles, warn_if_readable_by_others};
pub use identity::{Identity, IdentityError, Role, TrustDomain};
pub use reload::Refreshed;
pub use server::{ServerFiles, ServerTls};
pub use validity::{CertificateEnd, Ends, WARN_BEFORE};

/// Re-exported so that both sides use the same one.
pub use rustls;

use std::sync::Arc;

use rustls::{
    SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

/// The versions of TLS that are spoken.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// The protocol that is spoken inside TLS, as ALPN names it: HTTP/2.
const ALPN: &[u8] = b"h2";

/// The cryptography: ring, which needs no more than a C compiler.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
