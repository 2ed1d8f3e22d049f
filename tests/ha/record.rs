//! What was answered, and when.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use causeway_harness::cluster::Cluster;
use causeway_proto::{
    control::v1::{BatchResolveSlugsRequest, ReleaseOrganizationsRequest},
    failure::{reason_of, retry_after},
};
use tonic::{Code, Status};

/// How long anything may take that has to happen at some time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(400);
/// So many writes must have been answered after the fault before a round goes on.
const ANSWERS: usize = 200;
const BATCH: usize = 1_000;
/// The pause between two looks at what was answered.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// When calls of one kind were answered, in a round.
#[derive(Debug, Default)]
struct Answers {
    count: usize,
    last: Option<Instant>,
    longest: Duration,
    all: usize,
    longest_of_all: Vec<Duration>,
}

impl Answers {
    fn answered(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now - last);
        }
        self.count += 1;
        self.all += 1;
    }

    fn begin_round(&mut self) {
        (self.count, self.longest, self.last) = (0, Duration::ZERO, Some(Instant::now()));
    }
}

#[derive(Debug, Default)]
struct Inner {
    writes: Answers,
    resolves: Answers,
    /// When writes began that were answered since the round began.
    begun: Vec<Instant>,
    /// Who has a slug, by the last answer about it.
    slugs: HashMap<String, i64>,
    /// The organizations of each region.
    organizations: BTreeMap<String, BTreeSet<i64>>,
    /// First and last id of each lease.
    leases: BTreeMap<i64, i64>,
    errors: BTreeMap<String, usize>,
}

/// All that callers were told.
#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<Inner>);

impl Record {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody has panicked")
    }

    pub(crate) fn begin_round(&self) {
        let mut inner = self.inner();
        inner.writes.begin_round();
        inner.resolves.begin_round();
        inner.begun.clear();
    }

    /// A call that writes, begun then, was answered.
    pub(crate) fn wrote(&self, begun: Instant) {
        let mut inner = self.inner();
        inner.writes.answered();
        inner.begun.push(begun);
    }

    pub(crate) fn resolved(&self) {
        self.inner().resolves.answered();
    }

    pub(crate) fn leased(&self, first: i64, last: i64) {
        let mut inner = self.inner();
        let before = inner.leases.range(..=last).next_back().map(|(first, last)| (*first, *last));
        assert!(
            before.is_none_or(|(_, end)| end < first),
            "ids {first} to {last} were given twice: {before:?}"
        );
        inner.leases.insert(first, last);
    }

    /// An organization of a region has this slug, and control has said so.
    pub(crate) fn has(&self, region: &str, slug: &str, organization: i64) {
        let mut inner = self.inner();
        let other = inner.slugs.insert(slug.to_owned(), organization);
        assert!(
            other.is_none_or(|other| other == organization),
            "{slug} was given to {organization} and to {other:?}"
        );
        inner.organizations.entry(region.to_owned()).or_default().insert(organization);
    }

    /// A call failed. It must be an error after which a caller tries again.
    pub(crate) fn failed(&self, call: &str, status: &Status) {
        let passes = match reason_of(status) {
            Some(reason) => retry_after(reason).is_some(),
            None => {
                matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
            }
        };
        assert!(passes, "{call} failed with an error that does not pass: {status:?}");
        let name =
            reason_of(status).map_or_else(|| format!("{:?}", status.code()), |reason| format!("{reason:?}"));
        *self.inner().errors.entry(name).or_default() += 1;
    }

    /// Waits until enough writes were answered that had begun after this.
    pub(crate) async fn answered_since(&self, began: Instant) {
        let waits = Instant::now();
        while self.inner().begun.iter().filter(|begun| **begun > began).count() < ANSWERS {
            assert!(waits.elapsed() < PATIENCE, "writes are not answered");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The figures of the round.
    pub(crate) fn round(&self) -> String {
        let mut inner = self.inner();
        let (writes, resolves) = (inner.writes.longest, inner.resolves.longest);
        inner.writes.longest_of_all.push(writes);
        inner.resolves.longest_of_all.push(resolves);
        format!(
            "no write for {:5.1} s | no resolve for {:5.1} s | {} writes, {} resolves",
            writes.as_secs_f64(),
            resolves.as_secs_f64(),
            inner.writes.count,
            inner.resolves.count
        )
    }

    /// The figures of all rounds.
    pub(crate) fn all(&self) -> String {
        let inner = self.inner();
        let mut text = format!(
            "{} writes and {} resolves were answered, {} organizations, {} slugs, {} leases\n",
            inner.writes.all,
            inner.resolves.all,
            inner.organizations.values().map(BTreeSet::len).sum::<usize>(),
            inner.slugs.len(),
            inner.leases.len()
        );
        for (what, answers) in [("write", &inner.writes), ("resolve", &inner.resolves)] {
            let mut longest = answers.longest_of_all.clone();
            longest.sort();
            let seconds = |at: usize| longest.get(at).map_or(0.0, Duration::as_secs_f64);
            let (half, end) = (longest.len() / 2, longest.len().saturating_sub(1));
            let _ = writeln!(
                text,
                "no {what} was answered for {:.1} s (median of the rounds), {:.1} s (longest)",
                seconds(half),
                seconds(end)
            );
        }
        let _ = write!(text, "errors, all of which pass: {:?}", inner.errors);
        text
    }

    /// Checks that everything that was answered is there, at each control.
    pub(crate) async fn check(&self, cluster: &Cluster) {
        let slugs: Vec<(String, i64)> =
            self.inner().slugs.iter().map(|(slug, organization)| (slug.clone(), *organization)).collect();
        for control in 0..cluster.control_count() {
            for batch in slugs.chunks(BATCH) {
                let request =
                    BatchResolveSlugsRequest { slugs: batch.iter().map(|(slug, _)| slug.clone()).collect() };
                let mut directory = cluster.control_number(control).directory();
                let answer = directory.batch_resolve_slugs(request).await.expect("it answers").into_inner();
                let found: HashMap<String, i64> = answer
                    .organizations
                    .into_iter()
                    .map(|organization| (organization.slug, organization.organization_id))
                    .collect();
                for (slug, organization) in batch {
                    assert_eq!(found.get(slug), Some(organization), "{slug} was answered and is lost");
                }
            }
        }
    }

    /// Releases all organizations, which no region has.
    pub(crate) async fn release(&self, cluster: &Cluster) {
        let organizations = self.inner().organizations.clone();
        for (region, organizations) in organizations {
            let organizations: Vec<i64> = organizations.into_iter().collect();
            for batch in organizations.chunks(BATCH) {
                let request =
                    ReleaseOrganizationsRequest { region: region.clone(), organization_ids: batch.to_vec() };
                let mut reservations = cluster.control().reservations();
                reservations.release_organizations(request).await.expect("they are released");
            }
        }
    }
}
