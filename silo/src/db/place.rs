//! Database URLs, and how messages name a database.

use std::{path::PathBuf, str::FromStr as _};

use sqlx::{postgres::PgConnectOptions, sqlite::SqliteConnectOptions};

use super::{ConnectError, hosts::Hosts};

/// A URL without its password, fit for a log. A text that is not a URL is hidden, because all of it may be secret.
#[must_use]
pub fn redact(url: &str) -> String {
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let Some((scheme, rest)) = url.split_once("://") else { return "(hidden)".to_owned() };
    // A password may contain any character, also those that end it in a correct URL.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let user = user
        .map_or(String::new(), |user| format!("{}@", user.split([':', '/', '?']).next().unwrap_or_default()));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?..."));
    format!("{scheme}://{user}{rest}{query}")
}

/// Checks that a URL is the URL of a database, without connecting to it.
///
/// # Errors
/// If it is not. The message does not repeat the URL.
pub fn check_url(url: &str) -> Result<(), ConnectError> {
    Target::of(url).map(|_| ())
}

/// The database that a URL names.
pub(super) enum Target {
    Postgres(Box<Hosts>),
    Sqlite(Box<SqliteConnectOptions>),
}

impl Target {
    pub(super) fn of(url: &str) -> Result<Self, ConnectError> {
        let malformed = |_| ConnectError::Url("the database URL is malformed");
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(Box::new(Hosts::of(url)?)));
        }
        if url.starts_with("sqlite:") {
            return Ok(Self::Sqlite(Box::new(SqliteConnectOptions::from_str(url).map_err(malformed)?)));
        }
        Err(ConnectError::Url("the database URL must begin with postgres:// or sqlite:"))
    }

    /// The name of the database for logs and errors, without anything secret.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Postgres(hosts) => {
                let places: Vec<String> = hosts.each.iter().map(place).collect();
                let user = hosts.each.first().map_or("", PgConnectOptions::get_username);
                // PostgreSQL's default is the name of the user.
                let database = hosts.each.first().and_then(PgConnectOptions::get_database).unwrap_or(user);
                format!("the database {database} of PostgreSQL at {} (user {user})", places.join(" or "))
            }
            Self::Sqlite(options) => format!("the database {}", options.get_filename().display()),
        }
    }
}

/// Where a server of PostgreSQL listens.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let (host, port) = (options.get_host(), options.get_port());
    match options.get_socket() {
        Some(socket) => format!("the socket {}", socket.display()),
        None if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        None => format!("{host}:{port}"),
    }
}

/// The path of a SQLite database; `None` if it is in memory or given as a `file:` URI.
pub(super) fn file_of(options: &SqliteConnectOptions) -> Option<PathBuf> {
    let path = options.get_filename();
    let is_none =
        path.to_str().is_some_and(|path| path.is_empty() || path.starts_with("file:") || path == ":memory:");
    (!is_none).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_password_never_shows() {
        for url in [
            "postgres://me:secret@host:5432/db",
            "postgres://me:se@cret@host/db?password=secret",
            "sqlite:/var/x.db",
        ] {
            let shown = super::redact(url);
            assert!(!shown.contains("secret") && !shown.contains("cret@"), "{shown}");
        }
        assert_eq!(super::redact("postgres://me:secret@host:5432/db"), "postgres://me@host:5432/db");
        for broken in [
            "postgres:me:secret@host/db",
            "me:secret",
            "postgres://me:secret?x@host/db",
            "postgres://me:x?secret@host/db",
            "postgres://me:x/secret@host/db",
            "postgres://host/db?password=secret&x=1",
        ] {
            assert!(!super::redact(broken).contains("secret"), "{}", super::redact(broken));
        }
    }
}
