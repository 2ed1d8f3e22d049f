//! Derives from a seed what happens in a run: imports that want the same slugs and users, renames of their
//! organizations, and faults.

use std::time::Duration;

use causeway_harness::{
    cluster::{CallFaults, ImportOptions, LinkState, Store},
    export::Export,
};
use causeway_silo::env::Environment;
use serde_json::json;

use crate::outsider::SimulatedRegionPlan;

/// Random decisions that are determined by a seed.
#[derive(Debug, Clone)]
pub(crate) struct SeededRng(Environment);

impl SeededRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Environment::system().seeded(seed))
    }

    /// A number from 0 to `bound` - 1.
    pub(crate) fn below(&self, bound: usize) -> usize {
        usize::try_from(self.0.below(bound as u64)).unwrap_or(0)
    }

    /// A number from `least` to `most`, both included.
    pub(crate) fn between(&self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    /// True in `percent` of 100 cases.
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

/// One import of a scenario, and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) region: usize,
    pub(crate) id: String,
    pub(crate) options: ImportOptions,
    pub(crate) export: Vec<u8>,
    /// It must have ended before the faults begin. The times below then count from that moment.
    pub(crate) before: bool,
    /// When it starts, unless `before` is set.
    pub(crate) after: Duration,
    /// When the same upload is sent again, counted from when the region has accepted the import. Never if `None`.
    pub(crate) again_after: Option<Duration>,
    /// When other content is sent under its id, counted from when the region has accepted the import: another file, or
    /// other flags.
    pub(crate) other_after: Option<(Duration, Other)>,
    /// When somebody resumes it, whether it has failed or not.
    pub(crate) resumed_after: Option<Duration>,
    /// When somebody reverts it.
    pub(crate) reverted_after: Option<Duration>,
    /// If it has failed, nobody resumes it at the end.
    pub(crate) left_alone: bool,
    /// Rename requests for its organizations.
    pub(crate) rename_requests: Vec<RenameRequest>,
}

/// What differs when somebody sends other content under the id of an import.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Other {
    File,
    Flags,
}

/// A rename request for one organization.
#[derive(Debug, Clone)]
pub(crate) struct RenameRequest {
    /// When it is made, counted from when the region has accepted the import.
    pub(crate) after: Duration,
    /// Make it only after the import has ended.
    pub(crate) at_its_end: bool,
    /// The index of the organization within the import.
    pub(crate) organization: usize,
    /// The region that the request names; none if `None`.
    pub(crate) region: Option<usize>,
    pub(crate) operation_id: String,
    pub(crate) slug: &'static str,
    pub(crate) require_exact: bool,
    pub(crate) keep_alias: bool,
    /// Make the request twice at the same time.
    pub(crate) twice: bool,
    /// When the rename is done, send a request with other content under its operation.
    pub(crate) other: bool,
    /// When an operator cancels it, counted from the request.
    pub(crate) given_up_after: Option<Duration>,
    /// When the previous slug is released, counted from the end of the rename.
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
    /// The link from a region to one control.
    LinkTo(usize, usize, LinkState),
    /// Whether the database of a region accepts project keys. While it does not, imports fail.
    Keys(usize, bool),
    CallFaults(CallFaults),
    /// Control deletes the events of a region's feed, except the last one.
    ForgetEvents(usize),
    /// Of 1,000 times that a service reaches any failpoint: how many times it fails, and how many times it is killed.
    Failpoints(u32, u32),
    CrashDatabase(Duration),
    /// Another process has the leases of a region's imports for a while.
    TakeLeases(usize, Duration),
}

/// Everything that happens in a run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) regions: usize,
    pub(crate) controls: usize,
    /// How many reservations or events one transaction of control changes at most.
    pub(crate) changes_a_transaction: usize,
    pub(crate) imports: Vec<Planned>,
    /// The region whose database accepts no project keys until the faults begin.
    pub(crate) without_keys: Option<usize>,
    /// What the outsider, a simulated region, does. `None` if there is none.
    pub(crate) outside: Option<SimulatedRegionPlan>,
    /// The seed of the observer and the readers.
    pub(crate) observers: u64,
    /// Comparisons of regions with control: the time since the first fault, the region, and whether it repairs.
    pub(crate) comparisons: Vec<(Duration, usize, bool)>,
    /// The faults, each with the pause before it.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

const SLUGS: &[&str] = &["acme", "Acme", "initech", "größe", "settings", "", "7", "acme-corp", "hooli"];
/// The slugs that rename requests ask for.
const REQUESTED_SLUGS: &[&str] =
    &["acme", "initech", "hooli", "umbrella", "Größe", "settings", "7", "acme-corp"];
const USERS: &[&str] = &["ann", "Ann", "bob", "carol", "dave"];

impl Scenario {
    pub(crate) fn of(seed: u64, store: Store) -> Self {
        let rng = SeededRng::new(seed);
        let regions = rng.between(1, 3);
        let controls = if store == Store::Postgres { rng.between(1, 2) } else { 1 };
        let before = rng.below(3);
        let count = rng.between(2, 4);
        // In some scenarios, one import has more organizations than a page.
        let large = rng.chance(20).then(|| rng.below(count));
        let imports: Vec<Planned> =
            (0..count).map(|number| planned(&rng, number < before, regions, large == Some(number))).collect();
        let outside = rng.chance(60).then(|| outside(&rng));
        let without_keys = rng.chance(15).then(|| rng.below(regions));
        let faults =
            (0..rng.between(2, 12)).map(|_| (rng.up_to(15), fault(&rng, regions, controls, store))).collect();
        let comparisons =
            (0..rng.below(3)).map(|_| (rng.up_to(120), rng.below(regions), rng.chance(50))).collect();
        let observers = rng.number();
        let many = outside.as_ref().is_some_and(|outside| outside.requested.len() > 100);
        // Small limits, so that work in parts really has several parts.
        let few: &[usize] = if many || large.is_some() { &[400, 10_000] } else { &[1, 2, 3, 10_000] };
        let changes_a_transaction = rng.of(few);
        Self {
            regions,
            controls,
            changes_a_transaction,
            imports,
            without_keys,
            outside,
            observers,
            comparisons,
            faults,
        }
    }

    /// Whether control may delete events of a region's feed, so that a reader gets everything from the start again.
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
    // A dry run has nothing to revert and nothing to rename.
    let dry = options.dry_run;
    let rename_requests = if dry { 0 } else { rng.below(4) };
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
        rename_requests: (0..rename_requests).map(|_| rename_request(rng, regions)).collect(),
    }
}

fn rename_request(rng: &SeededRng, regions: usize) -> RenameRequest {
    RenameRequest {
        after: rng.up_to(60),
        at_its_end: rng.chance(60),
        organization: rng.below(3),
        region: rng.chance(10).then(|| rng.below(regions)),
        operation_id: rng.uuid(),
        slug: rng.of(REQUESTED_SLUGS),
        require_exact: rng.chance(30),
        keep_alias: rng.chance(50),
        twice: rng.chance(20),
        other: rng.chance(50),
        given_up_after: rng.chance(20).then(|| rng.up_to(30)),
        alias_released_after: rng.chance(40).then(|| rng.up_to(20)),
    }
}

/// An outsider that reserves a few slugs that others want too, or more than one message of a feed can contain.
fn outside(rng: &SeededRng) -> SimulatedRegionPlan {
    let many = if rng.chance(25) { rng.between(2_001, 2_040) } else { 0 };
    let few = (0..rng.between(1, 4)).map(|_| rng.of(SLUGS).to_owned());
    SimulatedRegionPlan {
        after: rng.up_to(40),
        pause: rng.up_to(30),
        requested: few.chain((0..many).map(|number| format!("elsewhere-{number}"))).collect(),
        renamed: rng.chance(60).then(|| rng.of(REQUESTED_SLUGS).to_owned()),
        gives_up: rng.chance(25),
        releases_operation: rng.chance(50),
        ids: [(); 6].map(|()| rng.uuid()),
    }
}

/// A few organizations and users. Their names also occur in other exports.
pub(crate) fn export(rng: &SeededRng) -> Export {
    let mut export = Export::new();
    let mut names: Vec<&str> = Vec::new();
    for _ in 0..rng.between(1, 3) {
        let name = rng.of(USERS);
        if names.iter().all(|known| !known.eq_ignore_ascii_case(name)) {
            names.push(name);
        }
    }
    // Primary keys of different files may collide or not.
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

/// Removes repeated keys and tokens: duplicates within one file are a case for other tests.
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
        14 => Fault::LinkTo(region, control, rng.of(&[LinkState::Cut, LinkState::Silent])),
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
