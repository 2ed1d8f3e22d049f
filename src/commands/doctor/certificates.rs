//! The certificates with which the doctor itself calls services.

use std::sync::Arc;

use causeway_client::ClientTls;
use causeway_silo::env::Environment;

use crate::{
    commands::tls::ClientTlsArgs,
    output::diagnosis::{About, Check},
};

/// The certificates of the options. Their files are read once, for the first URL that needs them.
#[derive(Debug)]
pub(super) struct Certificates<'a> {
    args: &'a ClientTlsArgs,
    env: &'a Environment,
    read: Option<Arc<ClientTls>>,
}

impl<'a> Certificates<'a> {
    /// Reads nothing yet.
    pub(super) fn new(args: &'a ClientTlsArgs, env: &'a Environment) -> Self {
        Self { args, env, read: None }
    }

    /// What a call to this URL needs. What will be wrong with the files soon is a finding when they are read.
    ///
    /// # Errors
    /// If the URL needs certificates and there are none that can be used; the text says what to do.
    pub(super) fn for_url(
        &mut self,
        about: &mut About<'_>,
        url: &str,
    ) -> Result<Option<Arc<ClientTls>>, String> {
        if self.read.is_none() {
            self.read = self.args.read(url, self.env).map_err(|error| format!("{error:#}"))?;
            for warning in self.read.iter().flat_map(|tls| tls.warnings()) {
                about.warning(Check::Certificates, warning, "docs/tls.md says how to renew certificates");
            }
        }
        Ok(self.read.clone())
    }

    /// The options, for commands that go to the same services.
    pub(super) fn words(&self) -> Vec<String> {
        self.args.words()
    }
}
