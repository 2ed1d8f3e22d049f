//! Owners in exports up to 24.4: a rule names an actor. The actor's record, or the team that names the actor too, shows
//! which team or user it stands for. While the file is read, this is collected for all actors, on disk beyond a budget.
//! At the end, only the actors that a rule names are stored.

use std::{io, path::Path};

use roaring::RoaringTreemap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{duplicates::Duplicates, entry::Entry};
use crate::{
    catalog::Catalog,
    export::{MAX_PK, each_field},
};

/// How many actors stay in memory while the file is read: 24 bytes each, 1.5 MiB together.
const BUDGET: usize = 64 * 1024;

/// What an actor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Actor {
    /// The primary key of the actor.
    pk: i64,
    /// The position of the model that it stands for.
    position: usize,
    /// The primary key of the record that it stands for.
    stands_for: i64,
}

/// The actors that records name, by primary key: 24 bytes each.
#[derive(Debug, Default)]
pub(super) struct Actors(Vec<Actor>);

impl Actors {
    /// The model, by its position, and the record that an actor stands for.
    pub(super) fn get(&self, pk: i64) -> Option<(usize, i64)> {
        let at = self.0.binary_search_by_key(&pk, |actor| actor.pk).ok()?;
        self.0.get(at).map(|actor| (actor.position, actor.stands_for))
    }

    pub(super) fn all(&self) -> &[Actor] {
        &self.0
    }

    /// Adds stored actors, in their order.
    pub(super) fn restore(&mut self, actors: Vec<Actor>) {
        self.0.extend(actors);
    }
}

/// Collects actors while the file is read.
#[derive(Debug)]
pub(super) struct Seen {
    entries: Duplicates,
    named: RoaringTreemap,
}

impl Seen {
    pub(super) fn new(scratch_dir: &Path) -> Self {
        Self { entries: Duplicates::new(BUDGET, scratch_dir), named: RoaringTreemap::new() }
    }

    /// Adds the actors of a segment.
    pub(super) fn add(&mut self, entries: Vec<Entry>, named: &[u64]) -> io::Result<()> {
        self.named.extend(named.iter().copied());
        entries.into_iter().try_for_each(|entry| self.entries.add(entry))
    }

    /// The actors that are named. An actor's own record has priority over other records.
    pub(super) fn end(self, catalog: &Catalog) -> io::Result<Actors> {
        let Some(known) = catalog.actors() else { return Ok(Actors::default()) };
        let (mut actors, named): (Vec<Actor>, _) = (Vec::new(), self.named);
        if named.is_empty() {
            return Ok(Actors::default());
        }
        self.entries.each(|entry| {
            if !named.contains(entry.hash) {
                return Ok(());
            }
            let number = usize::try_from(entry.set).map_err(io::Error::other)?;
            let target = number.checked_rem(known.stands_for.len()).and_then(|at| known.stands_for.get(at));
            let target =
                target.ok_or_else(|| io::Error::other("an actor stands for no model of the catalog"))?;
            let pk = i64::try_from(entry.hash).map_err(io::Error::other)?;
            let stands_for = i64::try_from(entry.offset).map_err(io::Error::other)?;
            if actors.last().is_none_or(|last| last.pk != pk) {
                actors.push(Actor { pk, position: target.position, stands_for });
            }
            Ok::<(), io::Error>(())
        })?;
        Ok(Actors(actors))
    }
}

/// An entry for an actor and the record that it stands for. The entry of the actor's own record comes first
/// in sorted order.
fn entry(number: usize, actor: i64, stands_for: i64) -> Option<Entry> {
    Some(Entry {
        hash: u64::try_from(actor).ok()?,
        set: u32::try_from(number).ok()?,
        offset: u64::try_from(stands_for).ok()?,
    })
}

/// The entry from an actor's own record; `None` if the record cannot be interpreted.
pub(super) fn of_actor(catalog: &Catalog, pk: i64, fields: &RawValue) -> Option<Entry> {
    let known = catalog.actors()?;
    let (mut kind, mut pks) = (None, vec![None; known.stands_for.len()]);
    each_field(fields.get(), |name, raw| {
        let number = || raw.get().parse::<i64>().ok();
        if name == "type" {
            kind = number();
        }
        for (target, pk) in known.stands_for.iter().zip(&mut pks) {
            if target.field == name {
                *pk = number().filter(|pk| (1..=MAX_PK).contains(pk));
            }
        }
        Ok(())
    })
    .ok()?;
    let (number, _) = known.stands_for.iter().enumerate().find(|(_, target)| Some(target.kind) == kind)?;
    entry(number, pk, pks.get(number).copied().flatten()?)
}

/// The entry from a record that names its own actor, by the position of the record's model.
pub(super) fn of_named(catalog: &Catalog, position: usize, pk: i64, actor: i64) -> Option<Entry> {
    let known = catalog.actors()?;
    let number = known.stands_for.iter().position(|target| target.position == position)?;
    entry(known.stands_for.len() + number, actor, pk)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Option<(u32, u64)> {
        let fields: &RawValue = serde_json::from_str(json).unwrap();
        of_actor(&Catalog::load().unwrap(), 7, fields).map(|entry| (entry.set, entry.offset))
    }

    #[test]
    fn the_type_of_an_actor_says_which_field_counts() {
        assert_eq!(of(r#"{"type": 0, "team": 11, "user_id": 12}"#), Some((0, 11)));
        assert_eq!(of(r#"{"user_id": 12, "type": 1}"#), Some((1, 12)));
        for nothing in [r#"{"type": 0, "user_id": 12}"#, r#"{"team": 11}"#, r#"{"type": 0, "team": "x"}"#] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn only_actors_that_are_named_are_kept_and_their_own_record_comes_first() {
        let (catalog, dir) = (Catalog::load().unwrap(), tempfile::tempdir().unwrap());
        let team = catalog.position("sentry.team").unwrap();
        let mut seen = Seen::new(dir.path());
        for actor in [9, 8, 7] {
            let of_team = of_named(&catalog, team, 10 + actor, actor);
            seen.add(of_team.into_iter().collect(), &[]).unwrap();
        }
        let own: &RawValue = serde_json::from_str(r#"{"type": 1, "user_id": 3}"#).unwrap();
        seen.add(of_actor(&catalog, 9, own).into_iter().collect(), &[7, 9, 5]).unwrap();
        let actors = seen.end(&catalog).unwrap();
        assert_eq!(actors.get(7), Some((team, 17)));
        assert_eq!(actors.get(9), Some((catalog.position("sentry.user").unwrap(), 3)));
        assert_eq!([actors.get(8), actors.get(5)], [None, None]);
    }
}
