//! An observer that asks all the time while a scenario runs: it asks control, the regions and a directory in memory
//! where slugs lead, and the regions which organizations they show. It compares each answer with the rows before and
//! after it, so that it notices an answer that is wrong only for a moment. It also notes changes of the rows in the
//! trace.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use causeway_client::{Client, Timeouts};
use causeway_directory::{Directory, Options};
use causeway_harness::cluster::{Cluster, Service, Silo};
use causeway_proto::{
    control::v1::{BatchResolveSlugsRequest, ResolveSlugRequest, ResolvedOrganization},
    failure::reason_of,
    region::v1::{
        GetOrganizationRequest, ResolveSlugRequest as ResolveInRegionRequest, get_organization_request::By,
    },
    relocation::v1::ErrorReason,
};
use causeway_silo::db::Statement;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use crate::{
    answers::{Led, Looks, SeenImports, Source, wrongly_shown},
    challenges,
    driver::{PATIENCE, PAUSE, passes},
    history::{self, Past},
    scenario::SeededRng,
};

/// The pause between two rounds of questions while the scenario runs.
const REST: Duration = Duration::from_millis(10);
/// The timeout of one call.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The number of slugs per round while the scenario runs, and how many of them go to one region.
const ASKED: usize = 16;
const ASKED_OF_REGION: usize = 3;
/// The number of slugs per request at the end, and how many of them go to each region.
const PAGE: usize = 1_000;
const PAGE_OF_REGION: usize = 100;
/// The most rows that one round notes in the trace.
const MOST_REPORTED: usize = 12;

/// The result of a check: a description of what is wrong, or `None`. The error reports that the rows could
/// not be read.
type Found = anyhow::Result<Option<String>>;

/// The observer of one cluster.
pub(crate) struct Observer {
    cluster: Arc<Cluster>,
    rng: SeededRng,
    directory: Directory,
    /// The sequence number of the last row of the history that it has read.
    seen: i64,
    /// Slugs to ask about, from the history.
    slugs: Vec<String>,
    /// The last known imports of each region, by region index.
    imports: Vec<SeenImports>,
}

/// The outcome of a call.
enum Asked<T> {
    Answered(T),
    /// The slug or organization does not exist.
    Nothing,
    /// The service could not be reached.
    Away,
}

/// Makes a call. The error is a refusal that the faults do not explain.
async fn ask<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> anyhow::Result<Asked<T>> {
    match timeout(ATTEMPT, call).await {
        Ok(Ok(answer)) => Ok(Asked::Answered(answer.into_inner())),
        Ok(Err(status)) => match reason_of(&status) {
            Some(ErrorReason::SlugNotFound | ErrorReason::OrganizationNotFound) => Ok(Asked::Nothing),
            _ if passes(&status) => Ok(Asked::Away),
            _ => bail!("refused: {status:?}"),
        },
        Err(_) => Ok(Asked::Away),
    }
}

fn led(organization: &ResolvedOrganization) -> Led {
    Led {
        region: organization.region.clone(),
        id: organization.organization_id,
        canonical: organization.canonical_slug.clone(),
    }
}

/// An answer about a slug: where it leads, and whether the source was up to date.
struct Answer {
    source: Source,
    slug: String,
    led: Option<Led>,
    up_to_date: bool,
}

impl Observer {
    /// Starts to record the history of slugs, and to follow the feeds of all regions.
    pub(crate) async fn of(cluster: &Arc<Cluster>, seed: u64) -> anyhow::Result<Self> {
        history::begin(cluster).await?;
        let controls = (0..cluster.control_count()).map(|index| cluster.url(Service::Control(index)));
        let controls: Vec<String> = controls.collect();
        let (service, timeouts) = (causeway_client::Service::Control, Timeouts::default());
        let control = Client::with_tls(service, &controls, timeouts, cluster.caller()?)?;
        let options = Options {
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(100),
            ..Options::default()
        };
        Ok(Self {
            cluster: Arc::clone(cluster),
            rng: SeededRng::new(seed),
            directory: Directory::follow(control, options),
            seen: 0,
            slugs: Vec::new(),
            imports: vec![SeenImports::new(); cluster.region_count()],
        })
    }

    /// Checks continuously, and returns when something is wrong.
    pub(crate) async fn first_error(&mut self) -> anyhow::Error {
        loop {
            // Rows that cannot be read now are read in a later round.
            if let Ok(Some(wrong)) = self.check_once().await {
                return anyhow!("{wrong}");
            }
            sleep(REST).await;
        }
    }

    /// One round of checks while the scenario runs.
    async fn check_once(&mut self) -> Found {
        self.read_slug_history().await?;
        let region = self.rng.below(self.cluster.region_count());
        let mut asked = BTreeSet::new();
        for _ in 0..ASKED.min(self.slugs.len()) {
            asked.insert(self.rng.of(&self.slugs));
        }
        let of_region = asked.iter().take(ASKED_OF_REGION).cloned().collect();
        if let Some(wrong) = self.where_slugs_lead(&asked, &[(region, of_region)], false).await? {
            return Ok(Some(wrong));
        }
        if let Some(wrong) = self.what_is_shown(region).await? {
            return Ok(Some(wrong));
        }
        if self.rng.chance(20) { challenges::known_id(&self.cluster, &self.rng).await } else { Ok(None) }
    }

    /// Reads the new rows of the history, for the trace and for later rounds.
    async fn read_slug_history(&mut self) -> anyhow::Result<()> {
        let db = self.cluster.shared_db(Silo::Control).await?;
        let rows = "SELECT seq, slug, region, organization_id, type FROM test_slug_history \
                    WHERE seq > $1 ORDER BY seq";
        let rows = db.fetch_all(Statement::new(rows).with(self.seen)).await?;
        for (number, row) in rows.iter().enumerate() {
            let slug = row.text("slug")?;
            if number < MOST_REPORTED {
                let kind = row.opt_text("type")?.unwrap_or_else(|| "free".to_owned());
                let (id, region) = (row.int("organization_id")?, row.text("region")?);
                self.cluster
                    .trace()
                    .note(format!("control: `{slug}` is {kind} (organization {id} of {region})"));
            }
            if !self.slugs.contains(&slug) {
                self.slugs.push(slug);
            }
            self.seen = row.int("seq")?;
        }
        if rows.len() > MOST_REPORTED {
            self.cluster.trace().note(format!("control: and {} slugs more", rows.len() - MOST_REPORTED));
        }
        // Keep the newest slugs, and the oldest ones: the slugs that all imports want came first.
        if self.slugs.len() > 4 * ASKED {
            self.slugs.drain(ASKED..self.slugs.len() - ASKED);
        }
        Ok(())
    }

    /// Checks where these slugs lead. Each region is asked for some of them. At the end, every source must be up to
    /// date.
    async fn where_slugs_lead(
        &self,
        asked: &BTreeSet<String>,
        of_regions: &[(usize, BTreeSet<String>)],
        in_the_end: bool,
    ) -> Found {
        let db = self.cluster.shared_db(Silo::Control).await?;
        let before = history::read(&db, Some(asked)).await?;
        // The feeds up to these versions contain everything that the read above has seen.
        let feeds = db.fetch_all(Statement::new("SELECT region, version FROM causeway_feed")).await?;
        let feeds: BTreeMap<String, i64> = feeds
            .iter()
            .map(|row| Ok((row.text("region")?, row.int("version")?)))
            .collect::<anyhow::Result<_>>()?;
        let mut answers = Vec::new();
        if let Err(refused) = self.control_says(asked, &mut answers).await {
            return Ok(Some(format!("control: {refused:#}")));
        }
        for (region, asked) in of_regions {
            if let Err(refused) = self.region_says(*region, asked, &feeds, in_the_end, &mut answers).await? {
                return Ok(Some(format!("region {region}: {refused:#}")));
            }
        }
        self.directory_says(asked, &feeds, in_the_end, &mut answers)?;
        let canonical = answers.iter().filter_map(|answer| answer.led.as_ref());
        let slugs = asked.iter().cloned().chain(canonical.map(|led| led.canonical.clone())).collect();
        let after = history::read(&db, Some(&slugs)).await?;
        let wrong = |Answer { source, slug, led, up_to_date }: &Answer| {
            let looks = Looks { before: &before, after: &after, up_to_date: *up_to_date };
            looks.wrong(source, slug, led.as_ref())
        };
        Ok(answers.iter().find_map(wrong))
    }

    /// Asks control for all of these slugs at once, and for one of them separately.
    async fn control_says(&self, asked: &BTreeSet<String>, answers: &mut Vec<Answer>) -> anyhow::Result<()> {
        let mut add = |slug: &str, found: Option<&ResolvedOrganization>| {
            let (source, slug) = (Source::Control, slug.to_owned());
            answers.push(Answer { source, slug, led: found.map(led), up_to_date: true });
        };
        let control = self.cluster.control_number(self.rng.below(self.cluster.control_count()));
        let request = BatchResolveSlugsRequest { slugs: asked.iter().cloned().collect() };
        let mut directory = control.directory();
        if let Asked::Answered(answer) = ask(directory.batch_resolve_slugs(request)).await? {
            let mut found = BTreeMap::new();
            for organization in &answer.organizations {
                let twice = found.insert(organization.slug.as_str(), organization);
                ensure!(twice.is_none(), "one answer has `{}` twice: {answer:?}", organization.slug);
                ensure!(asked.contains(&organization.slug), "nobody asked for {organization:?}");
            }
            for slug in asked {
                add(slug, found.get(slug.as_str()).copied());
            }
        }
        let Some(one) = asked.first() else { return Ok(()) };
        match ask(directory.resolve_slug(ResolveSlugRequest { slug: one.to_uppercase() })).await? {
            Asked::Answered(answer) => {
                let found = answer.organization.context("an answer without an organization")?;
                ensure!(found.slug == *one, "`{one}` was asked for, and `{}` answered", found.slug);
                add(one, Some(&found));
            }
            Asked::Nothing => add(one, None),
            Asked::Away => {}
        }
        Ok(())
    }

    /// Asks a region for one slug after the other. The outer error reports that rows could not be read; the
    /// inner one is a refusal that the faults do not explain.
    async fn region_says(
        &self,
        region: usize,
        asked: &BTreeSet<String>,
        feeds: &BTreeMap<String, i64>,
        in_the_end: bool,
        answers: &mut Vec<Answer>,
    ) -> anyhow::Result<anyhow::Result<()>> {
        let name = self.cluster.region_name(region);
        let db = self.cluster.shared_db(Silo::Region(region)).await?;
        let cursor = db.fetch_optional(Statement::new("SELECT version FROM causeway_feed_cursor")).await?;
        let heard = cursor.map_or(Ok(0), |row| row.int("version"))?;
        // A feed without a row has no events yet.
        let up_to_date = feeds.get(name).is_none_or(|version| heard >= *version);
        ensure!(up_to_date || !in_the_end, "{name} has not heard all");
        for slug in asked {
            let request = ResolveInRegionRequest { slug: slug.clone() };
            let led = match ask(self.cluster.region(region).organizations().resolve_slug(request)).await {
                Err(refused) => return Ok(Err(refused)),
                Ok(Asked::Away) if in_the_end => bail!("{name} does not answer"),
                Ok(Asked::Away) => break,
                Ok(Asked::Nothing) => None,
                Ok(Asked::Answered(found)) => Some(Led {
                    region: name.to_owned(),
                    id: found.organization_id,
                    canonical: found.canonical_slug,
                }),
            };
            answers.push(Answer {
                source: Source::Region(name.to_owned()),
                slug: slug.clone(),
                led,
                up_to_date,
            });
        }
        Ok(Ok(()))
    }

    /// Asks the directory in memory, which needs no call.
    fn directory_says(
        &self,
        asked: &BTreeSet<String>,
        feeds: &BTreeMap<String, i64>,
        in_the_end: bool,
        answers: &mut Vec<Answer>,
    ) -> anyhow::Result<()> {
        let known = self.directory.regions();
        let heard = |(region, version): (&String, &i64)| {
            known.iter().any(|known| *known.name == **region && known.version >= *version)
        };
        let up_to_date = feeds.iter().all(heard);
        ensure!(up_to_date || !in_the_end, "the directory has not heard all: {known:?}; {feeds:?}");
        for slug in asked {
            let found = self.directory.resolve(slug);
            let led = found.map(|found| Led {
                region: found.region.to_string(),
                id: found.organization_id,
                canonical: found.canonical_slug,
            });
            answers.push(Answer { source: Source::Directory, slug: slug.clone(), led, up_to_date });
        }
        Ok(())
    }

    /// Checks that a region shows the organizations that it must and no others: in the list of all, and one separately.
    async fn what_is_shown(&mut self, region: usize) -> Found {
        let before = self.imports(region).await?;
        let name = self.cluster.region_name(region);
        for (id, import) in &before {
            let was = self.imports[region].get(id).map_or("not there", |import| import.state.as_str());
            if was != import.state {
                self.cluster.trace().note(format!("import {id} of {name} is {}", import.state));
            }
        }
        let of_imports: Vec<i64> =
            before.values().flat_map(|import| import.organizations.iter().copied()).collect();
        self.imports[region].clone_from(&before);
        let api = self.cluster.region(region);
        let listed = match timeout(ATTEMPT, api.visible_organizations()).await {
            Ok(Ok(listed)) => Some(listed),
            Ok(Err(status)) if !passes(&status) => return Ok(Some(format!("{name}: refused: {status:?}"))),
            _ => None,
        };
        let one = (!of_imports.is_empty()).then(|| self.rng.of(&of_imports));
        let mut got = None;
        if let Some(id) = one {
            let request = GetOrganizationRequest { by: Some(By::Id(id)) };
            got = match ask(api.organizations().get_organization(request)).await {
                Err(refused) => return Ok(Some(format!("{name}: {refused:#}"))),
                Ok(Asked::Away) => None,
                Ok(Asked::Nothing) => Some((id, BTreeSet::new())),
                Ok(Asked::Answered(answer)) => {
                    Some((id, answer.organization.map(|organization| organization.id).into_iter().collect()))
                }
            };
        }
        let after = self.imports(region).await?;
        let all = listed.and_then(|listed| {
            let shown: BTreeSet<i64> = listed.iter().map(|organization| organization.id).collect();
            if shown.len() < listed.len() {
                return Some("an organization is listed twice".to_owned());
            }
            wrongly_shown(&before, &after, None, &shown)
        });
        let wrong =
            all.or_else(|| got.and_then(|(id, shown)| wrongly_shown(&before, &after, Some(id), &shown)));
        Ok(wrong.map(|wrong| format!("{name}: {wrong}")))
    }

    /// Reads the imports of a region and their organizations from its rows.
    async fn imports(&self, region: usize) -> anyhow::Result<SeenImports> {
        let db = self.cluster.shared_db(Silo::Region(region)).await?;
        let statement = "SELECT i.import_id, i.state, i.hide_organizations, COALESCE(o.organization_id, 0) AS id FROM causeway_import i \
                         LEFT JOIN causeway_import_organization o ON o.import_id = i.import_id AND NOT i.dry_run";
        let mut imports = SeenImports::new();
        for row in db.fetch_all(Statement::new(statement)).await? {
            let import = imports.entry(row.uuid("import_id")?.to_string()).or_default();
            (import.state, import.hides) = (row.text("state")?, row.bool("hide_organizations")?);
            import.organizations.extend(Some(row.int("id")?).filter(|id| *id > 0));
        }
        Ok(imports)
    }

    /// Checks the answers of every source when nothing is in progress: about all slugs that any organization ever had,
    /// and all organizations.
    async fn check_all(&mut self) -> Found {
        let db = self.cluster.shared_db(Silo::Control).await?;
        let past: Past = history::read(&db, None).await?;
        let slugs: Vec<String> = past.slugs().cloned().collect();
        for page in slugs.chunks(PAGE) {
            let page: BTreeSet<String> = page.iter().cloned().collect();
            let some: BTreeSet<String> = page.iter().take(PAGE_OF_REGION).cloned().collect();
            let of_regions: Vec<_> =
                (0..self.cluster.region_count()).map(|region| (region, some.clone())).collect();
            if let Some(wrong) = self.where_slugs_lead(&page, &of_regions, true).await? {
                return Ok(Some(wrong));
            }
        }
        let known: usize = self.directory.regions().iter().map(|region| region.slugs).sum();
        let leading = past.leading();
        if known != leading.len() {
            return Ok(Some(format!("the directory knows {known} slugs; {leading:?} lead somewhere")));
        }
        for region in 0..self.cluster.region_count() {
            if let Some(wrong) = self.what_is_shown(region).await? {
                return Ok(Some(wrong));
            }
        }
        Ok(None)
    }

    /// Checks until every source is up to date. When nothing is in progress, every answer must then be right.
    pub(crate) async fn has_seen_all(&mut self) -> anyhow::Result<()> {
        let wait = self.cluster.trace().wait("that everybody says the same in the end");
        let until = Instant::now() + PATIENCE;
        loop {
            match self.check_all().await {
                Ok(None) => return Ok(()),
                Ok(Some(wrong)) => bail!("in the end, {wrong}"),
                Err(error) => {
                    wait.tried(format!("{error:#}"));
                    ensure!(Instant::now() < until, "everybody does not say the same in the end: {error:#}");
                }
            }
            sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use causeway_harness::{
        cluster::{ImportOptions, Store},
        export::Export,
    };

    use super::*;

    const CONTROL: Silo = Silo::Control;
    const US: Silo = Silo::Region(0);

    /// The database, the change, how to undo it, and a part of the message with which the observer reports the wrong
    /// answers.
    const TAMPERING: &[(Silo, &str, &str, &str)] = &[
        (
            CONTROL,
            "UPDATE causeway_organization_slug_reservation SET organization_id = 99 WHERE slug = 'one'",
            "UPDATE causeway_organization_slug_reservation SET organization_id = 1 WHERE slug = 'one'",
            "Control has heard all and says that `one` leads to",
        ),
        (
            US,
            "UPDATE causeway_slug_replica SET organization_id = 99 WHERE slug = 'one'",
            "UPDATE causeway_slug_replica SET organization_id = 1 WHERE slug = 'one'",
            "Region(\"us\") has heard all and says that `one` leads to Some",
        ),
        (
            US,
            "UPDATE causeway_slug_replica SET slug = 'gone' WHERE slug = 'two'",
            "UPDATE causeway_slug_replica SET slug = 'two' WHERE slug = 'gone'",
            "Region(\"us\") has heard all and says that `two` leads to None",
        ),
        (
            US,
            "UPDATE sentry_organization SET status = 3 WHERE slug = 'one'",
            "UPDATE sentry_organization SET status = 0 WHERE slug = 'one'",
            "which has succeeded, is not shown",
        ),
        (
            US,
            "UPDATE causeway_import SET state = 'reverted'",
            "UPDATE causeway_import SET state = 'succeeded'",
            "is shown; its import",
        ),
        (
            US,
            "UPDATE causeway_import SET hide_organizations = true",
            "UPDATE causeway_import SET hide_organizations = false",
            "leaves its organizations hidden",
        ),
    ];

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_wrong_answer_is_noticed() {
        let cluster = Arc::new(Cluster::start(Store::Sqlite, &["us"]).await.expect("a cluster"));
        let mut observer = Observer::of(&cluster, 1).await.expect("an observer");
        let mut export = Export::new();
        export.organization(1, "one").organization(2, "two");
        cluster.region(0).import(&export.to_bytes(), &ImportOptions::default()).await.expect("it succeeds");
        cluster.quiet(PATIENCE).await.expect("it ends");
        observer.has_seen_all().await.expect("nothing is wrong");
        // From now on, no trigger records changes of slugs.
        let blind = Statement::new("DROP TRIGGER test_slug_changed");
        cluster.change(CONTROL, &[blind]).await.expect("no trigger");
        for (silo, tamper, undo, words) in TAMPERING {
            cluster.change(*silo, &[Statement::new(tamper)]).await.expect("it is done");
            let seen = observer.check_all().await.expect("a look");
            assert!(seen.as_ref().is_some_and(|seen| seen.contains(words)), "{tamper}: {words}: {seen:?}");
            cluster.change(*silo, &[Statement::new(undo)]).await.expect("it is undone");
            assert_eq!(observer.check_all().await.expect("a look"), None, "{undo}");
        }
    }
}
