//! Mutations and seeds of plain exports. The code that reads one is in the tests, which read them too.

use std::collections::BTreeSet;

pub use crate::reading::read;
use crate::{Numbers, mutation, put};

/// Changes records rather than bytes, if there are any.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut numbers = Numbers::new(seed);
    let records = if numbers.below(3) == 0 { None } else { serde_json::from_slice(&data[..size]).ok() };
    let Some(mut records) = records else {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    };
    for _ in 0..=numbers.below(3) {
        mutation::mutate(&mut records, &mut |bound| numbers.below(bound));
    }
    let bytes = if numbers.below(8) == 0 {
        serde_json::to_vec_pretty(&records)
    } else {
        serde_json::to_vec(&records)
    };
    put(&bytes.unwrap_or_default(), data, size, max_size)
}

/// Small files that together have every model and field of a good export, and one that is nested deeper than
/// is accepted.
#[must_use]
pub fn seeds(export: &[u8]) -> Vec<Vec<u8>> {
    let records: Vec<serde_json::Value> = serde_json::from_slice(export).expect("a good export");
    let name = |record: &serde_json::Value| record["model"].as_str().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = records.iter().map(name).collect();
    let mut seeds = vec![b"[]".to_vec(), b"\xef\xbb\xbf[\n]\n".to_vec(), export.to_vec()];
    seeds.push(mutation::nested(1_000));
    for wanted in names {
        let few: Vec<_> = records.iter().filter(|record| name(record) == wanted).take(2).collect();
        seeds.push(serde_json::to_vec(&few).expect("JSON"));
    }
    // Records that refer to each other.
    for part in records.chunks(12) {
        seeds.push(serde_json::to_vec_pretty(part).expect("JSON"));
    }
    seeds
}
