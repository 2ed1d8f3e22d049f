//! Finds out which of several PostgreSQL servers to use, and when another one must be used.
//!
//! Nothing informs a client that its server was replaced. That server may not answer any more, refuse connections, have
//! become a standby, or come back and still act as the primary. So the process looks for the right server at the start,
//! whenever a connection fails, and while a statement takes long. It asks all hosts at once. Among those that accept
//! writes, it uses the one with the highest timeline: a promotion increases it, so a former primary has a lower one. It
//! never uses a server with a timeline below the highest that it has seen.
//!
//! If it finds another server, or the same one after a restart, a new era begins. Connections of earlier eras are
//! closed, and statements under way on them end with an error that can be retried.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _, postgres::PgConnectOptions,
};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    hosts::{Hosts, TargetSession},
    place::place,
    unusable_server::{NOWHERE, Nowhere, UnusableServer, not_reached},
};

/// Whether a server accepts writes, its timeline, and what distinguishes it from others and from itself before a
/// restart. The timeline is that of the log that a primary writes, from the name of its current segment; the control
/// file has it only after the next checkpoint.
const WHICH: &str = "SELECT pg_is_in_recovery() AS standby, \
    current_setting('transaction_read_only') = 'on' AS read_only, \
    CASE WHEN pg_is_in_recovery() THEN NULL \
        ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint END AS timeline, \
    (SELECT system_identifier FROM pg_control_system()) AS system, \
    concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time()) AS identity";

/// Two looks are at least this far apart.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// While connections are used, several hosts are looked at this often without any other reason: a former primary that
/// comes back answers on its old connections as if nothing had happened.
const LOOK_REGULARLY: Duration = Duration::from_secs(5);

/// After so many looks in a row that nobody answered, the connections count as lost.
const SILENT_LOOKS: u32 = 3;

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Observed {
    standby: bool,
    read_only: bool,
    timeline: Option<i64>,
    system: Option<i64>,
    /// Empty if one server may stand for another, such as standbys behind a balancer.
    identity: String,
}

#[derive(Debug)]
struct State {
    /// The index of the host to connect to.
    current: usize,
    /// The server that was found there, if one was.
    identity: Option<String>,
    /// The highest timeline of any server that was taken.
    timeline: Option<i64>,
    system: Option<i64>,
    /// Connections made before this moment are closed.
    since: Instant,
    /// How many looks in a row have had no answer from the current host.
    silent: u32,
    looked: Option<Instant>,
    /// When to look without any other reason.
    regular_look: Instant,
    /// A connection has failed since the last look that found a server.
    doubted: bool,
    /// What the log says about hosts that cannot be used, so that it says it once.
    logged: String,
}

impl State {
    /// Whether something has to be said that the log does not say last. Nothing is said about hosts that are all right.
    fn is_news(&mut self, text: String) -> bool {
        if self.logged == text {
            return false;
        }
        self.logged = text;
        !self.logged.is_empty()
    }

    /// Warns that no host can be used, unless that was just said.
    fn warn_once(&mut self, nowhere: &Nowhere) {
        if self.is_news(nowhere.to_string()) {
            tracing::warn!("the database cannot be used, and is tried again: {nowhere}");
        }
    }

    /// Whether the last that the log says is that no host can be used.
    fn was_away(&self) -> bool {
        self.logged.starts_with(NOWHERE)
    }
}

/// The servers of one database.
#[derive(Debug)]
pub(super) struct Servers {
    hosts: Hosts,
    state: Mutex<State>,
    /// Counts the times that the connections were lost.
    era: watch::Sender<u64>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

impl Servers {
    pub(super) fn new(hosts: Hosts) -> Self {
        let state = State {
            current: 0,
            identity: None,
            timeline: None,
            system: None,
            since: Instant::now(),
            silent: 0,
            looked: None,
            regular_look: Instant::now() + LOOK_REGULARLY,
            doubted: false,
            logged: String::new(),
        };
        Self {
            hosts,
            state: Mutex::new(state),
            era: watch::Sender::new(0),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// The same servers with other options for each connection. What is known about them stays.
    pub(super) fn with(&self, change: impl Fn(PgConnectOptions) -> PgConnectOptions) -> Self {
        let mut hosts = self.hosts.clone();
        hosts.each = hosts.each.into_iter().map(change).collect();
        let new = Self::new(hosts);
        {
            let (old, mut state) = (self.state(), new.state());
            state.current = old.current;
            state.identity.clone_from(&old.identity);
            (state.timeline, state.system) = (old.timeline, old.system);
        }
        new
    }

    /// Nothing panics while it holds the lock, and each change is complete, so a poisoned lock is fine.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is more than one host.
    pub(super) fn are_several(&self) -> bool {
        self.hosts.each.len() > 1
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.hosts.connect_timeout
    }

    /// How to connect to the server that is used at the moment.
    pub(super) fn current(&self) -> Option<PgConnectOptions> {
        self.hosts.each.get(self.state().current).cloned()
    }

    /// The number of the era, which changes when all connections are lost.
    pub(super) fn era(&self) -> u64 {
        *self.era.borrow()
    }

    /// Returns when the era is no longer this one.
    pub(super) async fn era_after(&self, era: u64) {
        let mut eras = self.era.subscribe();
        // It cannot be closed: its sender is `self`.
        let _open = eras.wait_for(|now| *now != era).await;
    }

    /// Whether a connection of this age was made before the era began.
    pub(super) fn is_before_era(&self, age: Duration) -> bool {
        Instant::now().checked_sub(age).is_none_or(|made| made < self.state().since)
    }

    /// A connection has failed. The next caller who needs one looks for the server first.
    pub(super) fn doubt(&self) {
        self.state().doubted = true;
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.state().doubted
    }

    /// Whether it is time to look without any other reason. Only one caller gets `true`.
    pub(super) fn is_look_due(&self) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        let is_due = self.are_several() && now >= state.regular_look;
        if is_due {
            state.regular_look = now + LOOK_REGULARLY;
        }
        is_due
    }

    /// Checks the server of a new connection.
    pub(super) async fn check(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let observed = observe(connection, self.hosts.target).await?;
        let mut state = self.state();
        if let Err(why) = judge(&observed, self.hosts.target, &state) {
            state.doubted = true;
            // Several hosts are looked at then, and the look says it.
            if !self.are_several() {
                let host = self.name(state.current);
                state.warn_once(&Nowhere(vec![(host, why.clone())]));
            }
            return Err(sqlx::Error::Io(std::io::Error::other(why)));
        }
        if !self.are_several() && state.was_away() {
            state.logged.clear();
            tracing::info!(host = self.name(state.current), "the database can be used again");
        }
        // The server was restarted, or a proxy leads to another one. This connection belongs to the new era, because the
        // pool counts its age from the end of this check.
        if state.identity.as_ref() != Some(&observed.identity) {
            state.identity = Some(observed.identity);
            self.begin_era(&mut state);
        }
        state.timeline = state.timeline.max(observed.timeline);
        state.system = state.system.or(observed.system);
        Ok(())
    }

    /// Looks for the server to use, unless that was just done. If it is another one, new connections of the pool go there
    /// and a new era begins.
    pub(super) async fn look(&self, pool: Option<&PgPool>) -> Result<(), Nowhere> {
        let _alone = self.looking.lock().await;
        if pool.is_some() && self.state().looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let mut asked = JoinSet::new();
        for (index, options) in self.hosts.each.iter().cloned().enumerate() {
            let (target, patience) = (self.hosts.target, self.hosts.connect_timeout);
            asked.spawn(async move { (index, ask(options, target, patience).await) });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asked.join_next().await {
            // A task ends early only if the runtime stops.
            answers.extend(answer.ok());
        }
        answers.sort_by_key(|(index, _)| *index);
        self.take(answers, pool)
    }

    fn take(
        &self,
        answers: Vec<(usize, Result<Observed, UnusableServer>)>,
        pool: Option<&PgPool>,
    ) -> Result<(), Nowhere> {
        let mut state = self.state();
        let named = |(index, why)| (self.name(index), why);
        state.looked = Some(Instant::now());
        let of_current = answers.iter().find(|(index, _)| *index == state.current);
        let silent = match of_current {
            Some((_, Err(UnusableServer::Silent(_)))) => state.silent + 1,
            // That says nothing, so what was counted stays.
            Some((_, Err(UnusableServer::NotAsked(_)))) => state.silent,
            _ => 0,
        };
        let is_silent = silent > state.silent;
        let is_other = matches!(of_current, Some((_, Ok(_))));
        let (mut best, mut others): (Option<(usize, Observed)>, Vec<_>) = (None, Vec::new());
        for (index, answer) in answers {
            match answer.and_then(|observed| judge(&observed, self.hosts.target, &state).map(|()| observed)) {
                Ok(observed) => {
                    let rank =
                        |index: usize, observed: &Observed| (observed.timeline, index == state.current);
                    if best.as_ref().is_none_or(|(at, best)| rank(index, &observed) > rank(*at, best)) {
                        best = Some((index, observed));
                    }
                }
                Err(why) => others.push((index, why)),
            }
        }
        let Some((index, observed)) = best else {
            state.silent = silent;
            // It does not answer for long, or says that it is not what it was: nobody will answer on its connections.
            if (is_silent && silent == SILENT_LOOKS) || (is_other && state.identity.is_some()) {
                tracing::warn!("the database does not answer any more: its connections are closed");
                state.identity = None;
                self.begin_era(&mut state);
            }
            let nowhere = Nowhere(others.into_iter().map(named).collect());
            // At the start there is no pool, and the caller says why the service does not start.
            if pool.is_some() {
                state.warn_once(&nowhere);
            }
            return Err(nowhere);
        };
        if pool.is_some() {
            // The others may be away, but these two look like the database and are not.
            others.retain(|(_, why)| {
                matches!(why, UnusableServer::Former { .. } | UnusableServer::OtherSystem { .. })
            });
            let wrong = Nowhere(others.into_iter().map(named).collect());
            let was_away = state.was_away();
            let text = if wrong.0.is_empty() { String::new() } else { wrong.each() };
            if state.is_news(text) {
                tracing::warn!("a host of the database must not be used: {}", wrong.each());
            }
            if was_away {
                tracing::info!(host = self.name(index), "the database can be used again");
            }
        }
        (state.silent, state.doubted) = (0, false);
        state.timeline = state.timeline.max(observed.timeline);
        state.system = state.system.or(observed.system);
        if state.identity.as_deref() != Some(&*observed.identity) || state.current != index {
            if pool.is_some() {
                tracing::warn!(
                    host = self.name(index),
                    timeline = observed.timeline,
                    "the database is on another server, or was restarted: reconnecting"
                );
            }
            state.current = index;
            state.identity = Some(observed.identity);
            if let (Some(pool), Some(options)) = (pool, self.hosts.each.get(index)) {
                pool.set_connect_options(options.clone());
            }
            self.begin_era(&mut state);
        }
        Ok(())
    }

    fn begin_era(&self, state: &mut State) {
        state.since = Instant::now();
        self.era.send_modify(|era| *era += 1);
    }

    fn name(&self, index: usize) -> String {
        self.hosts.each.get(index).map_or_else(String::new, place)
    }
}

/// Whether a server may be used.
fn judge(observed: &Observed, target: TargetSession, state: &State) -> Result<(), UnusableServer> {
    match target {
        TargetSession::Any => return Ok(()),
        TargetSession::ReadWrite | TargetSession::Primary if observed.standby => {
            return Err(UnusableServer::Standby);
        }
        TargetSession::ReadWrite if observed.read_only => return Err(UnusableServer::ReadOnly),
        TargetSession::Standby if !observed.standby => return Err(UnusableServer::NotStandby),
        TargetSession::ReadOnly if !(observed.standby || observed.read_only) => {
            return Err(UnusableServer::ReadWrite);
        }
        TargetSession::ReadWrite
        | TargetSession::ReadOnly
        | TargetSession::Primary
        | TargetSession::Standby => {}
    }
    if let (Some(system), Some(known)) = (observed.system, state.system)
        && system != known
    {
        return Err(UnusableServer::OtherSystem { system, known });
    }
    if let (Some(timeline), Some(known)) = (observed.timeline, state.timeline)
        && timeline < known
    {
        return Err(UnusableServer::Former { timeline, seen: known });
    }
    Ok(())
}

/// Asks a server what it is. It asks nothing if any server will do: such a server may not even have these functions.
async fn observe(connection: &mut PgConnection, target: TargetSession) -> Result<Observed, sqlx::Error> {
    if target == TargetSession::Any {
        let identity = String::new();
        return Ok(Observed { standby: false, read_only: false, timeline: None, system: None, identity });
    }
    let row = sqlx::query(WHICH).fetch_one(connection).await?;
    let identity: String = row.try_get("identity")?;
    let is_one = matches!(target, TargetSession::ReadWrite | TargetSession::Primary);
    Ok(Observed {
        standby: row.try_get("standby")?,
        read_only: row.try_get("read_only")?,
        timeline: row.try_get("timeline")?,
        system: row.try_get("system")?,
        identity: if is_one { identity } else { String::new() },
    })
}

async fn ask(
    options: PgConnectOptions,
    target: TargetSession,
    patience: Duration,
) -> Result<Observed, UnusableServer> {
    let asked = timeout(patience, async {
        let mut connection = options.disable_statement_logging().connect().await?;
        let observed = observe(&mut connection, target).await;
        // An error on closing does not matter.
        let _closed = connection.close().await;
        observed
    });
    match asked.await {
        Ok(answer) => answer.map_err(|error| not_reached(&error)),
        Err(_) => Err(UnusableServer::Silent(format!("no answer within {patience:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Servers {
        Servers::new(Hosts::of("postgres://a,b,c/db").unwrap())
    }

    fn primary(timeline: i64, identity: &str) -> Result<Observed, UnusableServer> {
        let (timeline, identity) = (Some(timeline), identity.to_owned());
        Ok(Observed { standby: false, read_only: false, timeline, system: Some(7), identity })
    }

    fn standby() -> Result<Observed, UnusableServer> {
        let identity = "standby".to_owned();
        Ok(Observed { standby: true, read_only: true, timeline: None, system: Some(7), identity })
    }

    fn silent() -> Result<Observed, UnusableServer> {
        Err(UnusableServer::Silent("no answer".to_owned()))
    }

    type Answers = [Result<Observed, UnusableServer>; 3];

    fn take(servers: &Servers, answers: Answers) -> Result<usize, Nowhere> {
        servers.take(answers.into_iter().enumerate().collect(), None)?;
        Ok(servers.state().current)
    }

    #[test]
    fn of_several_primaries_the_one_on_the_highest_timeline_is_taken() {
        let servers = servers();
        assert_eq!(take(&servers, [primary(1, "a"), standby(), standby()]).unwrap(), 0);
        let era = servers.era();
        assert_eq!(take(&servers, [primary(1, "a"), standby(), standby()]).unwrap(), 0);
        assert_eq!(servers.era(), era, "nothing has changed");
        assert_eq!(take(&servers, [primary(1, "a"), primary(2, "b"), standby()]).unwrap(), 1);
        assert_ne!(servers.era(), era, "connections to a are closed");
        // The old one is never taken again, even alone.
        let error = take(&servers, [primary(1, "a"), silent(), standby()]).unwrap_err().to_string();
        assert!(error.contains("a:5432: it is a former primary on timeline 1"), "{error}");
        assert!(error.contains("on timeline 2 since"), "{error}");
        assert_eq!(take(&servers, [primary(3, "a"), standby(), standby()]).unwrap(), 0);
    }

    #[test]
    fn another_database_is_not_taken() {
        let servers = servers();
        assert_eq!(take(&servers, [primary(1, "a"), standby(), standby()]).unwrap(), 0);
        let other = primary(9, "b").map(|observed| Observed { system: Some(8), ..observed });
        let error = take(&servers, [silent(), other, standby()]).unwrap_err().to_string();
        assert!(
            error.contains(
                "b:5432: it is another database: its system identifier is 8, not 7: take its host out"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_restart_ends_the_connections_and_so_does_a_long_silence() {
        let servers = servers();
        take(&servers, [primary(1, "a"), standby(), standby()]).unwrap();
        let era = servers.era();
        take(&servers, [primary(1, "a, again"), standby(), standby()]).unwrap();
        assert_eq!(servers.era(), era + 1);
        for _ in 1..SILENT_LOOKS {
            take(&servers, [silent(), standby(), standby()]).unwrap_err();
            assert_eq!(servers.era(), era + 1, "it may be slow");
        }
        take(&servers, [silent(), standby(), standby()]).unwrap_err();
        assert_eq!(servers.era(), era + 2);
        // Somebody who has no connection left for a question is not silent.
        take(&servers, [primary(1, "a, again"), standby(), standby()]).unwrap();
        let era = servers.era();
        for _ in 0..2 * SILENT_LOOKS {
            let full = Err(UnusableServer::Refused("too many connections".to_owned()));
            take(&servers, [full, standby(), standby()]).unwrap_err();
        }
        assert_eq!(servers.era(), era);
        // A look for which this process had no file left counts for nothing, and takes nothing back.
        let not_asked = || Err(UnusableServer::NotAsked("too many open files".to_owned()));
        for _ in 1..SILENT_LOOKS {
            take(&servers, [silent(), standby(), standby()]).unwrap_err();
            take(&servers, [not_asked(), standby(), standby()]).unwrap_err();
        }
        assert_eq!(servers.era(), era);
        take(&servers, [silent(), standby(), standby()]).unwrap_err();
        assert_eq!(servers.era(), era + 1);
        take(&servers, [primary(1, "a, again"), standby(), standby()]).unwrap();
        let era = servers.era();
        // One that says that it is not the primary any more has closed its connections.
        take(&servers, [standby(), standby(), standby()]).unwrap_err();
        assert_eq!(servers.era(), era + 1);
    }

    #[tokio::test]
    async fn the_log_says_once_why_no_host_can_be_used_and_again_when_that_changes() {
        let servers = servers();
        let pool = PgPool::connect_lazy("postgres://a/db").unwrap();
        let logged = |answers: Answers| {
            let before = servers.state().logged.clone();
            let _whether = servers.take(answers.into_iter().enumerate().collect(), Some(&pool));
            let after = servers.state().logged.clone();
            (before != after).then_some(after)
        };
        assert_eq!(logged([primary(1, "a"), silent(), standby()]), None, "the database is there");
        let away = logged([silent(), silent(), standby()]).unwrap();
        assert!(away.contains("a:5432: no answer; b:5432: no answer; c:5432: it is a standby"), "{away}");
        assert_eq!(logged([silent(), silent(), standby()]), None, "it is said already");
        let full = Err(UnusableServer::Refused("too many connections".to_owned()));
        let other = logged([silent(), full, standby()]).unwrap();
        assert!(other.contains("b:5432: too many connections"), "{other}");
        assert_eq!(logged([silent(), primary(2, "b"), standby()]).unwrap(), "", "it is there again");
        // A former primary is named even if the database is there, because somebody has to stop it.
        let former = logged([primary(1, "a"), primary(2, "b"), standby()]).unwrap();
        assert!(former.starts_with("a:5432: it is a former primary on timeline 1"), "{former}");
        assert_eq!(logged([primary(1, "a"), primary(2, "b"), standby()]), None);
        assert_eq!(logged([standby(), primary(2, "b"), standby()]).unwrap(), "");
    }

    #[test]
    fn a_standby_is_kept_while_it_answers() {
        let servers = Servers::new(Hosts::of("postgres://a,b,c/db?target_session_attrs=standby").unwrap());
        assert_eq!(take(&servers, [primary(1, "a"), silent(), standby()]).unwrap(), 2);
        let era = servers.era();
        assert_eq!(take(&servers, [primary(1, "a"), standby(), standby()]).unwrap(), 2);
        assert_eq!(servers.era(), era);
        assert_eq!(take(&servers, [primary(1, "a"), standby(), silent()]).unwrap(), 1);
    }
}
