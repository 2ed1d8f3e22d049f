//! The certificates of a service: they are read again when they change, and their end is warned of.

use std::{sync::Arc, time::Duration};

use causeway_client::ClientTls;
use causeway_tls::{IdentityTable, ServerTls, TrustDomain};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::sleep;
use tracing::{debug, warn};

/// Time between two warnings of the same certificate.
const WARN_EVERY: TimeDelta = TimeDelta::days(1);

/// TLS of the port of a service.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The certificates of the service and of the CAs of its callers.
    pub certificates: Arc<ServerTls>,
    /// The trust domain that callers must be of. With it, a certificate without an identity of this domain is refused.
    /// It needs certificates of callers.
    pub trust_domain: Option<TrustDomain>,
    /// Which identities certificates have in addition to that of their own URI, if there is a trust domain.
    pub identities: Arc<IdentityTable>,
    /// Time between two checks of the files.
    pub look_every: Duration,
}

impl Tls {
    /// With these certificates, whose files are checked every 5 s.
    #[must_use]
    pub fn new(certificates: Arc<ServerTls>, trust_domain: Option<TrustDomain>) -> Self {
        let identities = Arc::new(IdentityTable::default());
        Self { certificates, trust_domain, identities, look_every: Duration::from_secs(5) }
    }

    /// The trust domain and the table of identities, if callers must have an identity.
    pub(super) fn identities(&self) -> Option<(&TrustDomain, &IdentityTable)> {
        let trust_domain = self.trust_domain.as_ref()?;
        self.certificates.needs_client_certificates().then_some((trust_domain, self.identities.as_ref()))
    }
}

/// When certificates were last warned of.
#[derive(Debug, Default)]
struct Warned(Option<DateTime<Utc>>);

impl Warned {
    /// Whether it is time to warn: at first, and then each day. Notes that it is done.
    fn is_due(&mut self, now: DateTime<Utc>) -> bool {
        let due = self.0.is_none_or(|warned| now - warned >= WARN_EVERY);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// All certificates that one service uses: for its port, and for calls to control.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    pub(super) server: Option<Tls>,
    pub(super) client: Option<Arc<ClientTls>>,
}

impl Certificates {
    fn now(&self) -> Option<DateTime<Utc>> {
        let client = || self.client.as_ref().map(|client| client.now());
        self.server.as_ref().map(|server| server.certificates.now()).or_else(client)
    }

    fn refresh(&self) {
        if let Some(server) = &self.server {
            server.certificates.refresh();
        }
        // A client also checks before each connection. This check logs a problem when it begins.
        if let Some(client) = &self.client {
            client.refresh();
        }
    }

    fn warn(&self) {
        let server = self.server.iter().flat_map(|server| server.certificates.warnings());
        let mut warnings: Vec<String> =
            server.chain(self.client.iter().flat_map(|client| client.warnings())).collect();
        warnings.sort();
        // Both sides may use the same files.
        warnings.dedup();
        warnings.iter().for_each(|warning| warn!("{warning}"));
    }

    /// Follows the files for ever, and warns at once and then daily. Returns at once if there are none.
    pub(super) async fn follow(self) {
        let mut warned = Warned::default();
        let pause = self.server.as_ref().map_or(Duration::from_secs(5), |server| server.look_every);
        while let Some(now) = self.now() {
            if warned.is_due(now) {
                self.warn();
            }
            sleep(pause).await;
            let looking = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || looking.refresh()).await {
                debug!(%error, "the certificates could not be looked at");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_warned_of_at_first_and_then_daily() {
        let begun: DateTime<Utc> = "2030-06-15T12:00:00Z".parse().expect("a time");
        let mut warned = Warned::default();
        let due: Vec<i64> =
            (0..=72).filter(|hours| warned.is_due(begun + TimeDelta::hours(*hours))).collect();
        assert_eq!(due, [0, 24, 48, 72]);
    }
}
