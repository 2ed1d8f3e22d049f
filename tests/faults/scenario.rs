//! What happens in a run, as it follows from a seed: imports that want the same slugs and users, renames of their
//! organizations, and faults.

use std::time::Duration;

use causeway_harness::{
    cluster::{CallFaults, ImportOptions, LinkState, Store},
    export::Export,
};
use causeway_silo::env::Environment;
use serde_json::json;

use crate::outsider::Outside;

/// Decisions that follow from a seed.
#[derive(Debug, Clone)]
pub(crate) struct SeededRng(Environment);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Environment::system().seeded(seed))
    }

    /// A number from 0 up to and without `bound`.
    pub(crate) fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or(0)
    }

    /// A number of a range, both ends included.
    pub(crate) fn between(&self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// Whether something with a chance of so many in 100 happens.
    pub(crate) fn chance(&self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn of<T: Clone>(&self, choice: &[T]) -> T {
        choice[self.below(choice.len())].clone()
    }

    fn up_to(&self, milliseconds: usize) -> Duration {
        Duration::from_micros(self.0.below(1 + milliseconds as u64 * 1000))
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.below(u64::MAX)
    }

    fn uuid(&self) -> String {
        self.0.uuid().to_string()
    }
}

/// One import.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) region: usize,
    pub(crate) id: String,
    pub(crate) options: ImportOptions,
    pub(crate) export: Vec<u8>,
    /// It has ended before the faults begin, and what follows is counted from then on.
    pub(crate) before: bool,
    /// When it begins, if not before.
    pub(crate) after: Duration,
    /// When it is sent once more, from when it has been taken; never if `None`.
    pub(crate) again_after: Option<Duration>,
    /// When something else is sent under its id, from when it has been taken: another file, or other flags.
    pub(crate) other_after: Option<(Duration, Other)>,
    /// When somebody resumes it, whether it has failed or not.
    pub(crate) resumed_after: Option<Duration>,
    /// When it is taken back.
    pub(crate) reverted_after: Option<Duration>,
    /// Nobody resumes it in the end if it has failed.
    pub(crate) left_alone: bool,
    /// What its organizations are to be called.
    pub(crate) wishes: Vec<Wish>,
}

/// What somebody sends under the id of an import that is another one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Other {
    File,
    Flags,
}

/// What one organization is to be called.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// When somebody wishes that, from when the import has been taken.
    pub(crate) after: Duration,
    /// Not before its import has ended.
    pub(crate) at_its_end: bool,
    /// Which one of the import.
    pub(crate) organization: usize,
    /// The region that is said to have it; none if `None`.
    pub(crate) region: Option<usize>,
    pub(crate) operation_id: String,
    pub(crate) slug: &'static str,
    pub(crate) require_exact: bool,
    pub(crate) keep_alias: bool,
    /// It is asked for twice at once.
    pub(crate) twice: bool,
    /// Something else is asked for under its operation when it is done.
    pub(crate) other: bool,
    /// When an operator gives it up, from when it is asked for.
    pub(crate) given_up_after: Option<Duration>,
    /// When the slug that it had before is released, from when the rename is done.
    pub(crate) alias_released_after: Option<Duration>,
}

/// A fault, or the end of one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    KillRegion(usize),
    KillControl(usize),
    StopRegion(usize),
    StopControl(usize),
    Revive,
    LinkState(usize, LinkState),
    /// From a region to one of the controls.
    RoadTo(usize, usize, LinkState),
    /// Whether the database of a region takes keys of projects: imports fail as long as it does not.
    Keys(usize, bool),
    CallFaults(CallFaults),
    /// The feed of a region is forgotten but for its last event.
    ForgetEvents(usize),
    /// Of 1,000 times that a failpoint is reached, how many fail and how many kill.
    Failpoints(u32, u32),
    CrashDatabase(Duration),
    /// Another process has the imports of a region for a while.
    TakeLeases(usize, Duration),
}

/// All that happens.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) regions: usize,
    pub(crate) controls: usize,
    /// How many reservations or events one transaction of control changes.
    pub(crate) changes_a_transaction: usize,
    pub(crate) imports: Vec<Planned>,
    /// The region whose database takes no keys until the faults begin.
    pub(crate) without_keys: Option<usize>,
    /// What a region does of which nothing is there but the test.
    pub(crate) outside: Option<Outside>,
    /// From what the randomness of those follows who look and listen.
    pub(crate) onlookers: u64,
    /// When a region is compared with control, from the first fault on, and whether that repairs.
    pub(crate) comparisons: Vec<(Duration, usize, bool)>,
    /// Each with the pause before it.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

const SLUGS: &[&str] = &["acme", "Acme", "initech", "größe", "settings", "", "7", "acme-corp", "hooli"];
/// What somebody may want an organization to be called.
const WISHES: &[&str] = &["acme", "initech", "hooli", "umbrella", "Größe", "settings", "7", "acme-corp"];
const USERS: &[&str] = &["ann", "Ann", "bob", "carol", "dave"];

impl Scenario {
    pub(crate) fn of(seed: u64, store: Store) -> Self {
        let rng = SeededRng::new(seed);
        let regions = rng.between(1, 3);
        let controls = if store == Store::Postgres { rng.between(1, 2) } else { 1 };
        let before = rng.below(3);
        let count = rng.between(2, 4);
        // More organizations than a page has, in one of the imports of some stories.
        let large = rng.chance(20).then(|| rng.below(count));
        let imports: Vec<Planned> =
            (0..count).map(|number| planned(&rng, number < before, regions, large == Some(number))).collect();
        let outside = rng.chance(60).then(|| outside(&rng));
        let without_keys = rng.chance(15).then(|| rng.below(regions));
        let faults =
            (0..rng.between(2, 12)).map(|_| (rng.up_to(15), fault(&rng, regions, controls, store))).collect();
        let comparisons =
            (0..rng.below(3)).map(|_| (rng.up_to(120), rng.below(regions), rng.chance(50))).collect();
        let onlookers = rng.number();
        let many = outside.as_ref().is_some_and(|outside| outside.wanted.len() > 100);
        // So that what is done in parts has several of them.
        let few: &[usize] = if many || large.is_some() { &[400, 10_000] } else { &[1, 2, 3, 10_000] };
        let changes_a_transaction = rng.of(few);
        Self {
            regions,
            controls,
            changes_a_transaction,
            imports,
            without_keys,
            outside,
            onlookers,
            comparisons,
            faults,
        }
    }

    /// Whether a reader of the feed of a region may be told everything anew.
    pub(crate) fn may_forget(&self, region: usize) -> bool {
        self.faults.iter().any(|(_, fault)| matches!(fault, Fault::ForgetEvents(it) if *it == region))
    }

    /// Whether an import into a region may fail.
    pub(crate) fn may_fail(&self, region: usize) -> bool {
        let refused = |fault: &Fault| matches!(fault, Fault::Keys(it, false) if *it == region);
        self.without_keys == Some(region) || self.faults.iter().any(|(_, fault)| refused(fault))
    }
}

fn planned(rng: &SeededRng, before: bool, regions: usize, large: bool) -> Planned {
    let mut options = ImportOptions { merge_users: rng.chance(50), ..ImportOptions::default() };
    options.hide_organizations = rng.chance(10);
    options.dry_run = rng.chance(12);
    let id = rng.uuid();
    options.import_id = Some(id.clone());
    // Of a dry run there is nothing to take back, and nothing to rename.
    let dry = options.dry_run;
    let wishes = if dry { 0 } else { rng.below(4) };
    let mut export = export(rng);
    if large {
        let first = 1_001;
        for number in first..=first + i64::try_from(rng.between(1_001, 1_040)).unwrap_or(first) {
            export.organization(number, &format!("tenant-{}", number / 2));
        }
    }
    Planned {
        region: rng.below(regions),
        id,
        options,
        export: export.to_bytes(),
        before,
        after: rng.up_to(30),
        again_after: rng.chance(25).then(|| rng.up_to(60)),
        other_after: rng.chance(25).then(|| (rng.up_to(60), rng.of(&[Other::File, Other::Flags]))),
        resumed_after: rng.chance(40).then(|| rng.up_to(60)),
        reverted_after: (rng.chance(25) && !dry).then(|| rng.up_to(60)),
        left_alone: rng.chance(20),
        wishes: (0..wishes).map(|_| wish(rng, regions)).collect(),
    }
}

fn wish(rng: &SeededRng, regions: usize) -> Wish {
    Wish {
        after: rng.up_to(60),
        at_its_end: rng.chance(60),
        organization: rng.below(3),
        region: rng.chance(10).then(|| rng.below(regions)),
        operation_id: rng.uuid(),
        slug: rng.of(WISHES),
        require_exact: rng.chance(30),
        keep_alias: rng.chance(50),
        twice: rng.chance(20),
        other: rng.chance(50),
        given_up_after: rng.chance(20).then(|| rng.up_to(30)),
        alias_released_after: rng.chance(40).then(|| rng.up_to(20)),
    }
}

/// A region that reserves a few slugs that others want too, or more than one message of a feed has.
fn outside(rng: &SeededRng) -> Outside {
    let many = if rng.chance(25) { rng.between(2_001, 2_040) } else { 0 };
    let few = (0..rng.between(1, 4)).map(|_| rng.of(SLUGS).to_owned());
    Outside {
        after: rng.up_to(40),
        pause: rng.up_to(30),
        wanted: few.chain((0..many).map(|number| format!("elsewhere-{number}"))).collect(),
        renamed: rng.chance(60).then(|| rng.of(WISHES).to_owned()),
        gives_up: rng.chance(25),
        releases_operation: rng.chance(50),
        ids: [(); 6].map(|()| rng.uuid()),
    }
}

/// A few organizations and users, whose names are those of others too.
pub(crate) fn export(rng: &SeededRng) -> Export {
    let mut export = Export::new();
    let mut names: Vec<&str> = Vec::new();
    for _ in 0..rng.between(1, 3) {
        let name = rng.of(USERS);
        if names.iter().all(|known| !known.eq_ignore_ascii_case(name)) {
            names.push(name);
        }
    }
    // Primary keys of different files meet, or not.
    let base = i64::try_from(rng.below(3) * 10).unwrap_or(0);
    for (number, name) in (base + 1..).zip(&names) {
        let address = format!("{}@example.com", name.to_lowercase());
        export.user(number, name).email(number, &address).user_email(number, number, &address);
        export.user_option(number, number, "theme", &json!("dark"));
    }
    let users = i64::try_from(names.len()).unwrap_or(1);
    for number in base + 1..=base + i64::try_from(rng.between(1, 3)).unwrap_or(1) {
        export
            .organization(number, rng.of(SLUGS))
            .team(number, number, "team")
            .project(number, number, "project");
        export.project_key(number, number, rng.of(&["a", "b"])).auth_token(
            number,
            number,
            rng.of(&["x", "y"]),
        );
        for user in base + 1..=base + users {
            export.member(number * 10 + user, number, user);
        }
        if rng.chance(50) {
            export.invite(number * 10, number, "new@example.com");
        }
    }
    keys_once(export)
}

/// Keys and tokens that stand twice in one file are another matter.
fn keys_once(mut export: Export) -> Export {
    let mut seen = std::collections::BTreeSet::new();
    export.records.retain(|record| {
        let key = ["public_key", "token_hashed"].iter().find_map(|field| record.fields.get(*field));
        key.is_none_or(|key| seen.insert(key.to_string()))
    });
    export
}

fn fault(rng: &SeededRng, regions: usize, controls: usize, store: Store) -> Fault {
    let (region, control) = (rng.below(regions), rng.below(controls));
    match rng.below(if store == Store::Postgres { 31 } else { 30 }) {
        0..=3 => Fault::KillRegion(region),
        4..=5 => Fault::KillControl(control),
        6 => Fault::StopRegion(region),
        7 => Fault::StopControl(control),
        8..=11 => Fault::Revive,
        12..=13 => Fault::LinkState(region, rng.of(&[LinkState::Cut, LinkState::Silent])),
        14 => Fault::RoadTo(region, control, rng.of(&[LinkState::Cut, LinkState::Silent])),
        15..=16 => Fault::LinkState(region, LinkState::Open),
        17..=18 => Fault::CallFaults(CallFaults::STORM),
        19 => Fault::CallFaults(CallFaults::default()),
        20..=21 => rng.of(&[Fault::Failpoints(30, 30), Fault::Failpoints(100, 20), Fault::Failpoints(0, 60)]),
        22 => Fault::Keys(region, false),
        23..=24 => Fault::Keys(region, true),
        25..=26 => Fault::ForgetEvents(region),
        27..=29 => Fault::TakeLeases(region, rng.up_to(40)),
        _ => Fault::CrashDatabase(rng.up_to(50)),
    }
}
