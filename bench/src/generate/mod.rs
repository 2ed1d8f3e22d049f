//! Exports of any size from a seed, written as a stream. They look like those of an installation with many
//! organizations, a few of them large and most of them small.
//!
//! Nothing that was written stays in memory. The seed and the place of an organization determine all its
//! numbers, so each model's pass over all organizations computes the same numbers as the passes before.

mod records;
mod release;
mod shape;
mod text;

use std::io::{self, Write};

use records::Line;
pub use release::Release;
use shape::{Counts, MODELS, Model, Organization};

/// How large an export is to be. It always ends with a whole organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// This many organizations, and at least one.
    Organizations(u64),
    /// At least this many records.
    Records(u64),
    /// About this many bytes: within a few percent, from a few MB on.
    Bytes(u64),
}

/// The size of an export that was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Number of records of organizations.
    pub organizations: u64,
    /// Number of records of all models, organizations included.
    pub records: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// An export that is not written yet.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    seed: u64,
    release: Release,
    organizations: u64,
}

impl Export {
    /// An export of this extent, of release 24.8. `seed` determines everything in it.
    #[must_use]
    pub fn new(seed: u64, extent: Extent) -> Self {
        Self::of(Release::default(), seed, extent)
    }

    /// The same, of another release.
    #[must_use]
    pub fn of(release: Release, seed: u64, extent: Extent) -> Self {
        let organizations = match extent {
            Extent::Organizations(organizations) => organizations.max(1),
            Extent::Records(records) => until(seed, release, records as f64, &[1.0; MODELS]),
            Extent::Bytes(bytes) => until(seed, release, bytes as f64, &record_lengths(seed, release)),
        };
        Self { seed, release, organizations }
    }

    /// How many organizations it has.
    #[must_use]
    pub fn organizations(&self) -> u64 {
        self.organizations
    }

    /// Writes it, in many small pieces: `out` should be buffered.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(&self, out: &mut impl Write) -> io::Result<Written> {
        let mut written = Written { organizations: self.organizations, ..Written::default() };
        let mut line = Line::default();
        out.write_all(b"[\n")?;
        written.bytes += 2;
        for model in Model::ALL {
            let mut first = Counts::default();
            for index in 0..self.organizations {
                let organization = Organization::new(self.seed, self.release, index, first);
                for number in 0..organization.counts.of(model) {
                    if written.records > 0 {
                        out.write_all(b",\n")?;
                        written.bytes += 2;
                    }
                    let record = line.write(&organization, model, number);
                    out.write_all(record)?;
                    written.records += 1;
                    written.bytes += record.len() as u64;
                }
                first.add(&organization.counts);
            }
        }
        out.write_all(b"\n]\n")?;
        written.bytes += 3;
        Ok(written)
    }
}

/// How many organizations are needed to reach `target`, if a record of each model counts as much as `weights`
/// define.
fn until(seed: u64, release: Release, target: f64, weights: &[f64; MODELS]) -> u64 {
    let mut total = 0.0;
    let mut index = 0;
    while total < target {
        let counts = Counts::new(seed, release, index);
        total += Model::ALL
            .iter()
            .zip(weights)
            .map(|(model, weight)| counts.of(*model) as f64 * weight)
            .sum::<f64>();
        index += 1;
    }
    index.max(1)
}

/// How many bytes a record of each model takes on average, with the separator after it. Measured on the first
/// organizations, which are like all others.
fn record_lengths(seed: u64, release: Release) -> [f64; MODELS] {
    const SAMPLE: u64 = 50;
    const EACH: u64 = 20;
    let mut line = Line::default();
    let mut lengths = [0.0; MODELS];
    for (model, length) in Model::ALL.into_iter().zip(&mut lengths) {
        let (mut first, mut records, mut bytes) = (Counts::default(), 0_usize, 0_usize);
        for index in 0..SAMPLE {
            let organization = Organization::new(seed, release, index, first);
            for number in 0..organization.counts.of(model).min(EACH) {
                bytes += line.write(&organization, model, number).len() + 2;
                records += 1;
            }
            first.add(&organization.counts);
        }
        *length = bytes as f64 / records.max(1) as f64;
    }
    lengths
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use causeway_relocation::catalog::Catalog;
    use serde_json::Value;

    use super::*;

    fn bytes(seed: u64, extent: Extent) -> (Vec<u8>, Written) {
        let mut out = Vec::new();
        let written = Export::new(seed, extent).write(&mut out).unwrap();
        (out, written)
    }

    #[test]
    fn the_same_seed_gives_the_same_export_and_another_seed_another() {
        let (first, written) = bytes(1, Extent::Organizations(5));
        assert_eq!(first, bytes(1, Extent::Organizations(5)).0);
        assert_ne!(first, bytes(2, Extent::Organizations(5)).0);
        assert_eq!(written.bytes, first.len() as u64);
    }

    #[test]
    fn extents_are_kept() {
        let (_, written) = bytes(1, Extent::Records(10_000));
        assert!(written.records >= 10_000);
        for target in [5_000_000, 20_000_000] {
            let (_, written) = bytes(3, Extent::Bytes(target));
            let ratio = written.bytes as f64 / target as f64;
            assert!((0.95..1.2).contains(&ratio), "{target}: {ratio}");
        }
    }

    /// So an import of such an export meets every rule of the models that are still there.
    #[test]
    fn every_model_of_the_catalog_occurs_in_the_newest_release() {
        let catalog = Catalog::load().unwrap();
        let newest = *Release::ALL.last().unwrap();
        let mut out = Vec::new();
        Export::of(newest, 1, Extent::Organizations(40)).write(&mut out).unwrap();
        let records: Vec<Value> = serde_json::from_slice(&out).unwrap();
        let names = records.iter().map(|record| record["model"].as_str().unwrap());
        let found: HashSet<&str> =
            names.filter_map(|name| Some(catalog.model(name)?.name.as_str())).collect();
        let current = catalog.written().filter(|model| model.until.is_none());
        let missing: Vec<&str> =
            current.map(|model| model.name.as_str()).filter(|name| !found.contains(name)).collect();
        assert_eq!(missing, [] as [&str; 0]);
    }

    #[test]
    fn every_model_of_a_release_occurs_and_no_record_twice() {
        for release in Release::ALL {
            let mut out = Vec::new();
            let written = Export::of(release, 1, Extent::Organizations(40)).write(&mut out).unwrap();
            let records: Vec<Value> = serde_json::from_slice(&out).unwrap();
            assert_eq!(records.len() as u64, written.records);
            let mut models = HashSet::new();
            let mut keys = HashSet::new();
            for record in &records {
                models.insert(record["model"].as_str().unwrap());
                assert!(
                    keys.insert((record["model"].as_str().unwrap(), record["pk"].as_i64().unwrap())),
                    "{record}"
                );
            }
            let target = Model::ALL.into_iter().filter(|model| release.has(*model));
            assert_eq!(models, target.map(|model| release.name(model)).collect(), "{release:?}");
        }
    }
}
