//! Who asks for imports.

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
    /// The identity whose imports are all that they may see; `None` if they may see every import.
    #[must_use]
    pub fn own(&self) -> Option<&str> {
        self.uri.as_deref().filter(|_| self.only_own)
    }

    /// Fails if the import that this identity began is hidden from them.
    pub(crate) fn may_see(&self, begun_by: Option<&str>) -> Result<(), Error> {
        let is_hidden = self.only_own && begun_by != self.uri.as_deref();
        if is_hidden { Err(Error::NotOwnImport) } else { Ok(()) }
    }
}
