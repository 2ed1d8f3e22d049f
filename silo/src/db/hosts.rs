//! URLs of PostgreSQL with several hosts, as libpq reads them: `postgres://a:5432,b:5433/db?target_session_attrs=...`.
//! sqlx knows one host only, so such a URL becomes one URL for each host.

use std::{str::FromStr as _, time::Duration};

use sqlx::postgres::PgConnectOptions;

use super::ConnectError;

/// How long connecting to one host may take if the URL has no `connect_timeout`. All hosts are tried at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest `connect_timeout` that is taken.
const LONGEST_CONNECT_TIMEOUT: u64 = 600;

/// Which of the hosts may be used: `target_session_attrs` of the URL, with the meaning that libpq gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetSession {
    /// Any host that answers. The default of a URL with one host.
    Any,
    /// One that accepts writes. The default of a URL with several hosts.
    ReadWrite,
    /// One that does not accept writes.
    ReadOnly,
    /// One that is not in recovery.
    Primary,
    /// One that is in recovery.
    Standby,
}

/// The servers that a URL names.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    /// How to connect to each, in the order of the URL. There is at least one.
    pub(super) each: Vec<PgConnectOptions>,
    pub(super) target: TargetSession,
    /// How long connecting to one of them may take.
    pub(super) connect_timeout: Duration,
}

const MALFORMED: ConnectError = ConnectError::Url("the database URL is malformed");

impl Hosts {
    /// Reads a URL that begins with `postgres://` or `postgresql://`.
    pub(super) fn of(url: &str) -> Result<Self, ConnectError> {
        let (scheme, rest) = url.split_once("://").ok_or(MALFORMED)?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        let hosts: Vec<&str> = hosts.split(',').collect();
        if hosts.len() > 1 && hosts.iter().any(|host| host.is_empty() || host.starts_with(':')) {
            return Err(ConnectError::Url("the database URL has an empty host between its commas"));
        }
        let default = if hosts.len() > 1 { TargetSession::ReadWrite } else { TargetSession::Any };
        let (query, target, connect_timeout) = own_parameters(query, hosts.len() > 1)?;
        let each = hosts
            .into_iter()
            .map(|host| {
                let user = user.map_or_else(String::new, |user| format!("{user}@"));
                let path = path.map_or_else(String::new, |path| format!("/{path}"));
                let query = if query.is_empty() { String::new() } else { format!("?{query}") };
                PgConnectOptions::from_str(&format!("{scheme}://{user}{host}{path}{query}"))
                    .map_err(|_| MALFORMED)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            each,
            target: target.unwrap_or(default),
            connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        })
    }
}

/// The parameters that sqlx knows, and the values of those that it does not know.
fn own_parameters(
    query: Option<&str>,
    several: bool,
) -> Result<(String, Option<TargetSession>, Option<Duration>), ConnectError> {
    let (mut of_sqlx, mut target, mut timeout) = (Vec::new(), None, None);
    for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("target_session_attrs", value)) => target = Some(attributes(value)?),
            Some(("connect_timeout", value)) => {
                let seconds = value
                    .parse()
                    .ok()
                    .filter(|seconds| (1..=LONGEST_CONNECT_TIMEOUT).contains(seconds))
                    .ok_or(ConnectError::Url(
                        "connect_timeout of the database URL must be 1 to 600 seconds",
                    ))?;
                timeout = Some(Duration::from_secs(seconds));
            }
            // libpq also takes lists there. sqlx would look for one host of that name.
            Some(("host" | "hostaddr" | "port", value)) if several || value.contains([',']) => {
                return Err(ConnectError::Url(
                    "several hosts of a database URL stand before its path, as in postgres://a:5432,b:5432/NAME",
                ));
            }
            _ => of_sqlx.push(parameter),
        }
    }
    Ok((of_sqlx.join("&"), target, timeout))
}

fn attributes(value: &str) -> Result<TargetSession, ConnectError> {
    Ok(match value {
        "any" => TargetSession::Any,
        "read-write" => TargetSession::ReadWrite,
        "read-only" => TargetSession::ReadOnly,
        "primary" => TargetSession::Primary,
        "standby" => TargetSession::Standby,
        _ => {
            return Err(ConnectError::Url(
                "target_session_attrs of the database URL must be any, read-write, read-only, primary or standby",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(url: &str) -> Vec<(String, u16)> {
        let hosts = Hosts::of(url).unwrap();
        hosts.each.iter().map(|host| (host.get_host().to_owned(), host.get_port())).collect()
    }

    #[test]
    fn several_hosts_share_user_database_and_parameters() {
        let url = "postgres://me:p%40ss@a:5432,b:5433,[::1]:5434/db?target_session_attrs=primary&connect_timeout=7\
                   &application_name=x";
        let hosts = Hosts::of(url).unwrap();
        assert_eq!((hosts.target, hosts.connect_timeout), (TargetSession::Primary, Duration::from_secs(7)));
        assert_eq!(places(url), [("a".into(), 5432), ("b".into(), 5433), ("[::1]".into(), 5434)]);
        for host in &hosts.each {
            assert_eq!((host.get_username(), host.get_database()), ("me", Some("db")));
            assert_eq!(host.get_application_name(), Some("x"));
        }
        assert_eq!(places("postgres://a,b:1/db"), [("a".into(), 5432), ("b".into(), 1)]);
    }

    #[test]
    fn one_host_may_be_any_and_several_must_accept_writes() {
        assert_eq!(Hosts::of("postgres://a/db").unwrap().target, TargetSession::Any);
        assert_eq!(Hosts::of("postgres://a,b/db").unwrap().target, TargetSession::ReadWrite);
        assert_eq!(
            Hosts::of("postgres://a,b/db?target_session_attrs=any").unwrap().target,
            TargetSession::Any
        );
        for (name, target) in [
            ("read-write", TargetSession::ReadWrite),
            ("read-only", TargetSession::ReadOnly),
            ("standby", TargetSession::Standby),
        ] {
            let url = format!("postgresql://a/db?target_session_attrs={name}");
            assert_eq!(Hosts::of(&url).unwrap().target, target);
        }
        let socket = Hosts::of("postgres:///db?host=/run/postgresql").unwrap();
        assert!(socket.each[0].get_socket().is_some());
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused_without_its_password() {
        for url in [
            "postgres://me:secret@a,/db",
            "postgres://me:secret@a,:5432/db",
            "postgres://me:secret@a:x,b/db",
            "postgres://me:secret@a/db?target_session_attrs=master",
            "postgres://me:secret@a/db?target_session_attrs=prefer-standby",
            "postgres://me:secret@a/db?connect_timeout=0",
            "postgres://me:secret@a/db?connect_timeout=soon",
            "postgres://me:secret@/db?host=a,b",
            "postgres://me:secret@a,b/db?port=1",
        ] {
            let error = Hosts::of(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
