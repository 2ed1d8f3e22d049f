//! The URL of a database, which may have a password.

use std::fmt;

use zeroize::Zeroizing;

use super::redact;

/// The URL of a database. Its memory is erased when it is dropped, and a message or log that formats it shows no
/// password. The pool of connections keeps the password, because it connects again.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Zeroizing<String>);

impl DatabaseUrl {
    /// The URL with its password.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl From<String> for DatabaseUrl {
    fn from(url: String) -> Self {
        Self(Zeroizing::new(url))
    }
}

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        url.to_owned().into()
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(self.secret()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let url = DatabaseUrl::from("postgres://me:secret@host/db");
        assert_eq!(format!("{url:?} {:?}", Some(&url)), "postgres://me@host/db Some(postgres://me@host/db)");
        assert_eq!(url.secret(), "postgres://me:secret@host/db");
    }
}
