//! Why a server of PostgreSQL is not used.

use std::io::ErrorKind;

/// Why a server is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnusableServer {
    #[error("it is a standby")]
    Standby,
    #[error("it is not a standby")]
    NotStandby,
    #[error("it does not accept writes")]
    ReadOnly,
    #[error("it accepts writes")]
    ReadWrite,
    #[error(
        "it is a former primary on timeline {timeline}, and the database has been on timeline {seen} since: stop it, and \
         let it join again as a standby (pg_rewind)"
    )]
    Former { timeline: i64, seen: i64 },
    #[error(
        "it is another database: its system identifier is {system}, not {known}: take its host out of the URL, or make it \
         a standby (pg_basebackup); if the database was moved to a new server on purpose, restart this service"
    )]
    OtherSystem { system: i64, known: i64 },
    /// It has answered that it takes no connection now, so it is there.
    #[error("{0}")]
    Refused(String),
    /// This process could not even ask, so it does not know.
    #[error("{0}")]
    NotAsked(String),
    /// There was no answer, nothing listens there, or its name is gone.
    #[error("{0}")]
    Silent(String),
}

/// The outcome of a look that found no server.
#[derive(Debug, thiserror::Error)]
#[error("{NOWHERE}: {}", self.each())]
pub(super) struct Nowhere(pub(super) Vec<(String, UnusableServer)>);

/// How the text of [`Nowhere`] begins.
pub(super) const NOWHERE: &str = "none of its hosts can be used";

impl Nowhere {
    /// Each host, with the reason why it is not taken.
    pub(super) fn each(&self) -> String {
        self.0.iter().map(|(host, why)| format!("{host}: {why}")).collect::<Vec<_>>().join("; ")
    }
}

/// What it means that a server could not be asked. What a server that is gone leads to counts as silence, also that its name
/// cannot be looked up: where names come and go with machines, nothing else would end a statement on a lost connection. A
/// wrong certificate shows that somebody is there; too many open files, or a socket that may not be used, show nothing.
pub(super) fn not_reached(error: &sqlx::Error) -> UnusableServer {
    /// `EMFILE` and `ENFILE`: this process, or the machine, has too many open files.
    const TOO_MANY_FILES: [i32; 2] = [24, 23];
    let text = error.to_string();
    match error {
        sqlx::Error::Io(error)
            if error.kind() == ErrorKind::PermissionDenied
                || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code)) =>
        {
            UnusableServer::NotAsked(text)
        }
        sqlx::Error::Io(_) => UnusableServer::Silent(text),
        _ => UnusableServer::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_lost_server_leads_to_is_silence() {
        let io = |kind: ErrorKind| not_reached(&sqlx::Error::Io(kind.into()));
        for kind in [
            ErrorKind::TimedOut,
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::HostUnreachable,
            ErrorKind::UnexpectedEof,
            // There is no socket file.
            ErrorKind::NotFound,
        ] {
            assert!(matches!(io(kind), UnusableServer::Silent(_)), "{kind}");
        }
        let no_such_name = sqlx::Error::Io(std::io::Error::other("failed to lookup address information"));
        assert!(matches!(not_reached(&no_such_name), UnusableServer::Silent(_)));
        let too_many_files = std::io::Error::from_raw_os_error(24);
        for error in [too_many_files, ErrorKind::PermissionDenied.into()] {
            assert!(matches!(not_reached(&sqlx::Error::Io(error)), UnusableServer::NotAsked(_)));
        }
        let error = sqlx::Error::Tls("the certificate has expired".into());
        assert!(matches!(not_reached(&error), UnusableServer::Refused(_)), "{error}");
    }
}
