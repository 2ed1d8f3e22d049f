//! Who asks for imports.

use super::Import;
use crate::error::Error;

/// Who asks for an import, and whether others' imports are hidden from them. By default somebody without an identity,
/// at a region whose callers need none: nothing is hidden.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    /// The URI of the identity.
    pub uri: Option<String>,
    /// Whether there are only their own imports for them.
    pub only_own: bool,
}

impl Requester {
    /// Whoever may see only own imports: whose those are.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        self.uri.as_deref().filter(|_| self.only_own)
    }

    /// Fails if the import is hidden from them.
    pub(crate) fn may_see(&self, import: &Import) -> Result<(), Error> {
        if self.only_own && import.begun_by != self.uri { Err(Error::NotOwnImport) } else { Ok(()) }
    }
}
