//! A control on a store of its own, and helpers for the behaviours.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use causeway_control::{
    Control, Error, Options, Page, PageRequest, feed,
    model::region::AcceptRegions,
    model::reservation::{ListFilter, Reservation, ResolvedSlug, WantedSlug},
    slug::bulk_intake,
};
use causeway_harness::postgres::Postgres;
use causeway_silo::{
    db::{self, Db},
    env::{Environment, Failpoints},
};
use chrono::{DateTime, TimeZone as _, Utc};
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

/// A database that goes when the test does, and a control on it. The PostgreSQL server, if any, goes too.
pub(crate) struct Fixture {
    pub(crate) control: Control,
    url: String,
    _server: Option<Postgres>,
    _directory: Option<TempDir>,
}

/// The time that each control's clock shows.
pub(crate) fn now() -> DateTime<Utc> {
    Utc.timestamp_micros(1_700_000_000_123_456).single().expect("a time")
}

/// The number of events of a feed that a control keeps here.
pub(crate) const RETAINED: i64 = 1_000;

/// The most bulk creations that a control accepts at once here, and how long it waits for their parts.
pub(crate) const CALLS: usize = 16;
pub(crate) const BULK_IDLE: Duration = Duration::from_secs(4);

/// The most readers of feeds that a control accepts at once here.
pub(crate) const WATCHES: usize = 8;

async fn control(url: &str, env: Environment) -> Control {
    control_with(url, env, feed::Options::default(), AcceptRegions::Any).await
}

async fn control_with(url: &str, env: Environment, feed: feed::Options, accept: AcceptRegions) -> Control {
    Control::start(options(url, feed, accept), env).await.expect("control starts")
}

fn options(url: &str, feed: feed::Options, accept: AcceptRegions) -> Options {
    Options {
        database_url: url.into(),
        database: db::Options::default(),
        address: "http://control.example.com".to_owned(),
        accept_regions: accept,
        feed: feed::Options { keep_events: RETAINED, watches: WATCHES, ..feed },
        bulk: bulk_intake::Options { calls: CALLS, idle: BULK_IDLE, ..bulk_intake::Options::default() },
        replica: None,
        audit: causeway_audit::Options::default(),
    }
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite:{}", directory.path().join("control.db").display());
        let control = control(&url, Environment::fixed(now(), 1)).await;
        Self { control, url, _server: None, _directory: Some(directory) }
    }

    pub(crate) async fn postgres() -> Self {
        Self::on_postgres("").await
    }

    pub(crate) async fn postgres_serializable() -> Self {
        Self::on_postgres("?options=-c%20default_transaction_isolation%3Dserializable").await
    }

    async fn on_postgres(options: &str) -> Self {
        let server = Postgres::start().await.expect("this test needs PostgreSQL");
        let url = server.create_database("control").await.expect("a database") + options;
        let control = control(&url, Environment::fixed(now(), 1)).await;
        Self { control, url, _server: Some(server), _directory: None }
    }

    /// Starts another control on the same database. Its random numbers start from `seed`; those of the first control
    /// start from 1.
    pub(crate) async fn another(&self, seed: u64) -> Control {
        control(&self.url, Environment::fixed(now(), seed)).await
    }

    /// The same with these failpoints.
    pub(crate) async fn another_with(&self, seed: u64, failpoints: Arc<Failpoints>) -> Control {
        control(&self.url, Environment::fixed(now(), seed).with_failpoints(failpoints)).await
    }

    /// The same with transactions of at most `most` changes.
    pub(crate) async fn another_in_parts(
        &self,
        seed: u64,
        most: usize,
        failpoints: Arc<Failpoints>,
    ) -> Control {
        let env = Environment::fixed(now(), seed).with_failpoints(failpoints);
        let feed = feed::Options { changes_a_transaction: most, ..feed::Options::default() };
        control_with(&self.url, env, feed, AcceptRegions::Any).await
    }

    /// Starts another control on the same database that registers only regions that were added. Its clock shows `now`,
    /// and its readers get heartbeats all the time.
    pub(crate) async fn another_for_added(&self, now: DateTime<Utc>) -> Control {
        let feed = feed::Options { heartbeat: Duration::from_millis(5), ..feed::Options::default() };
        control_with(&self.url, Environment::fixed(now, 2), feed, AcceptRegions::Added).await
    }

    /// Starts another control on the same database that has this many bytes for bulk creations.
    pub(crate) async fn another_with_bytes(&self, bytes: usize) -> Control {
        let mut options = options(&self.url, feed::Options::default(), AcceptRegions::Any);
        options.bulk.bytes = bytes;
        Control::start(options, Environment::fixed(now(), 2)).await.expect("control starts")
    }

    /// Opens connections to the database, separate from those of a control.
    pub(crate) async fn db(&self) -> Db {
        Db::connect(&self.url, &db::Options::default()).await.expect("a database")
    }

    /// Registers regions of these names.
    pub(crate) async fn with_regions(self, names: &[&str]) -> Self {
        for (number, name) in names.iter().enumerate() {
            let instance = Uuid::from_u128(1000 + number as u128);
            let address = format!("https://{name}.example.com");
            self.control.regions().register(name, &address, instance).await.expect("registered");
        }
        self
    }

    /// All reservations of all regions.
    pub(crate) async fn reservations(&self) -> Vec<Reservation> {
        let mut request = PageRequest { limit: 1000, after: None };
        let mut all = Vec::new();
        loop {
            let filter = ListFilter::default();
            let Page { items, next } =
                self.control.slug_reservations().list(&filter, &request).await.expect("a page");
            all.extend(items);
            match next {
                Some(key) => request.after = Some(key),
                None => return all,
            }
        }
    }
}

/// A failpoint at which a control stops each time that it reaches it.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    there: Notify,
    go_on: Notify,
    reached: AtomicUsize,
    is_open: AtomicBool,
}

impl Gate {
    /// Creates it, together with the failpoints for a control.
    pub(crate) fn at(place: &'static str) -> (Arc<Self>, Arc<Failpoints>) {
        let gate = Arc::new(Self::default());
        let holding = Arc::clone(&gate);
        let failpoints: Arc<Failpoints> = Arc::new(move |reached| {
            let gate = Arc::clone(&holding);
            Box::pin(async move {
                if reached == place {
                    gate.reached.fetch_add(1, Ordering::Relaxed);
                    if !gate.is_open.load(Ordering::Relaxed) {
                        gate.there.notify_one();
                        gate.go_on.notified().await;
                    }
                }
                Ok(())
            })
        });
        (gate, failpoints)
    }

    /// Waits until the control has reached the failpoint.
    pub(crate) async fn there(&self) {
        let there = tokio::time::timeout(Duration::from_secs(60), self.there.notified()).await;
        there.expect("the place is reached in time");
    }

    /// Lets the control go on, up to the next time.
    pub(crate) fn go_on(&self) {
        self.go_on.notify_one();
    }

    /// Lets the control go on, now and every time from now on.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
        self.go_on();
    }

    /// How often the control has reached the failpoint.
    pub(crate) fn reached(&self) -> usize {
        self.reached.load(Ordering::Relaxed)
    }
}

/// The operation id with this number.
pub(crate) fn operation(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(crate) fn wanted(organization_id: i64, slug: &str) -> WantedSlug {
    WantedSlug { organization_id, slug: slug.to_owned(), name: String::new(), taken_in_region: false }
}

/// Makes a complete bulk creation, in batches of 10,000.
pub(crate) async fn bulk_create(
    control: &Control,
    region: &str,
    operation_id: Uuid,
    mut wanted: Vec<WantedSlug>,
) -> Result<Vec<ResolvedSlug>, Error> {
    let reservations = control.slug_reservations();
    let mut incoming = reservations.begin(region, operation_id).await?;
    while wanted.len() > 10_000 {
        let rest = wanted.split_off(10_000);
        incoming.add(wanted)?;
        wanted = rest;
    }
    incoming.add(wanted)?;
    reservations.bulk_create(incoming).await
}

/// The slugs of an answer, in order.
pub(crate) fn slugs(answers: &[ResolvedSlug]) -> Vec<&str> {
    answers.iter().map(|answer| answer.slug.as_str()).collect()
}

/// Whether `slug` is `base` with a random suffix.
pub(crate) fn is_suffixed(slug: &str, base: &str) -> bool {
    slug.strip_prefix(base).and_then(|rest| rest.strip_prefix('-')).is_some_and(|suffix| {
        (2..=5).contains(&suffix.len()) && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// The request field that a refusal names.
pub(crate) fn refused_field<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::InvalidArgument { field, .. }) => field,
        other => panic!("not refused for a field: {other:?}"),
    }
}
