//! What happens in a run, as it follows from a seed: imports that want the same slugs and users, and faults.

use std::time::Duration;

use causeway_harness::{
    cluster::{ImportOptions, Road, Weather},
    export::Export,
};
use causeway_relocation::ambient::Ambient;
use serde_json::json;

/// Decisions that follow from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Ambient);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Ambient::system().seeded(seed))
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
    /// When it begins.
    pub(crate) after: Duration,
    /// When it is taken back, from when it has been taken; never if `None`.
    pub(crate) reverted_after: Option<Duration>,
}

/// A fault, or the end of one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    KillRegion(usize),
    KillControl,
    StopRegion(usize),
    StopControl,
    Revive,
    Road(usize, Road),
    Weather(Weather),
    /// Of 1,000 times that a failpoint is reached, how many fail and how many kill.
    Failpoints(u32, u32),
    CrashDatabase(Duration),
}

/// All that happens.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) regions: usize,
    pub(crate) imports: Vec<Planned>,
    /// Each with the pause before it.
    pub(crate) faults: Vec<(Duration, Fault)>,
}

const SLUGS: &[&str] = &["acme", "Acme", "initech", "größe", "settings", "", "7", "acme-corp", "hooli"];
const USERS: &[&str] = &["ann", "Ann", "bob", "carol", "dave"];

impl Story {
    pub(crate) fn of(seed: u64, with_database: bool) -> Self {
        let dice = Dice::new(seed);
        let regions = dice.between(1, 3);
        let imports: Vec<Planned> =
            (0..dice.between(2, 4)).map(|number| planned(&dice, number, regions)).collect();
        let faults = (0..dice.between(2, 12))
            .map(|_| (dice.up_to(15), fault(&dice, regions, with_database)))
            .collect();
        Self { regions, imports, faults }
    }
}

fn planned(dice: &Dice, number: usize, regions: usize) -> Planned {
    let mut options = ImportOptions { merge_users: dice.chance(50), ..ImportOptions::default() };
    options.hide_organizations = dice.chance(10);
    let id = dice.uuid();
    options.import_id = Some(id.clone());
    let after = if number == 0 { Duration::ZERO } else { dice.up_to(30) };
    let reverted_after = dice.chance(25).then(|| dice.up_to(60));
    let export = export(dice).to_bytes();
    Planned { region: dice.below(regions), id, options, export, after, reverted_after }
}

/// A few organizations and users, whose names are those of others too.
pub(crate) fn export(dice: &Dice) -> Export {
    let mut export = Export::new();
    let mut names: Vec<&str> = Vec::new();
    for _ in 0..dice.between(1, 3) {
        let name = dice.of(USERS);
        if names.iter().all(|known| !known.eq_ignore_ascii_case(name)) {
            names.push(name);
        }
    }
    // Primary keys of different files meet, or not.
    let base = i64::try_from(dice.below(3) * 10).unwrap_or(0);
    for (number, name) in (base + 1..).zip(&names) {
        let address = format!("{}@example.com", name.to_lowercase());
        export.user(number, name).email(number, &address).user_email(number, number, &address);
        export.user_option(number, number, "theme", &json!("dark"));
    }
    let users = i64::try_from(names.len()).unwrap_or(1);
    for number in base + 1..=base + i64::try_from(dice.between(1, 3)).unwrap_or(1) {
        export
            .organization(number, dice.of(SLUGS))
            .team(number, number, "team")
            .project(number, number, "project");
        export.project_key(number, number, dice.of(&["a", "b"])).auth_token(
            number,
            number,
            dice.of(&["x", "y"]),
        );
        for user in base + 1..=base + users {
            export.member(number * 10 + user, number, user);
        }
        if dice.chance(50) {
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

fn fault(dice: &Dice, regions: usize, with_database: bool) -> Fault {
    let region = dice.below(regions);
    match dice.below(if with_database { 23 } else { 22 }) {
        0..=3 => Fault::KillRegion(region),
        4..=5 => Fault::KillControl,
        6 => Fault::StopRegion(region),
        7 => Fault::StopControl,
        8..=11 => Fault::Revive,
        12..=14 => Fault::Road(region, dice.of(&[Road::Cut, Road::Silent])),
        15..=16 => Fault::Road(region, Road::Open),
        17..=18 => Fault::Weather(Weather::STORM),
        19 => Fault::Weather(Weather::default()),
        20..=21 => {
            dice.of(&[Fault::Failpoints(30, 30), Fault::Failpoints(100, 20), Fault::Failpoints(0, 60)])
        }
        _ => Fault::CrashDatabase(dice.up_to(50)),
    }
}
