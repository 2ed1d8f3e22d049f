//! Reads an export as an import does, from bytes to what happens to each record, without a database: scanner, records,
//! decoder, plan, mapping.

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::LazyLock,
};

use causeway_relocation::{
    catalog::{Catalog, Model, ORGANIZATION, Silo},
    export::{ExportError, Limits, MAX_PK, Source},
    finding::{FindingKind, Tense},
    keys::{ChunkKeys, KeyMap},
    mapping::{Decision, Mapping},
    plan::{Plan, PlanRequest, PlanningProgress, Record},
    value::Value,
};
use causeway_silo::env::Environment;
use chrono::DateTime;
use serde::de::IgnoredAny;

/// More than any file in the tests has. The fuzz target compiles this file without the contract, which defines the
/// number that the services use.
const MOST_ORGANIZATIONS: usize = 1_000_000;

/// The slug that a filter selects here. It is defined here because the fuzz target includes this file alone.
const SLUG: &str = "acme";

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::load().expect("the catalog is sound"));

struct File {
    source: Source,
    dir: tempfile::TempDir,
    env: Environment,
}

impl File {
    fn new(bytes: &[u8]) -> Self {
        // In memory if possible: nothing of it has to outlive the process.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let path: PathBuf = dir.path().join("export.json");
        std::fs::write(&path, bytes).expect("it can be written");
        let source = Source::plain(&path).expect("it can be read");
        Self { source, dir, env: Environment::fixed(DateTime::UNIX_EPOCH, 1) }
    }

    fn plan(&self, filter: Option<&BTreeSet<String>>) -> Result<Plan, ExportError> {
        let request = PlanRequest {
            source: &self.source,
            scratch_dir: self.dir.path(),
            filter,
            limits: Limits::default(),
            merge_users: false,
            most_organizations: MOST_ORGANIZATIONS,
            now: self.env.now(),
            tables: "",
            keep: None,
        };
        Plan::make(&CATALOG, &self.env, &request, &PlanningProgress::default())
    }
}

/// Reads a file as an import does, without a filter and with one. If the plan accepts the file, it must agree with what
/// another parser sees, and the mapping must decide about each record. If the plan refuses the file, the refusal must
/// name its place.
///
/// # Panics
/// If one of these conditions does not hold.
pub fn read(bytes: &[u8]) {
    let file = File::new(bytes);
    let plan = match file.plan(None) {
        Ok(plan) => plan,
        Err(ExportError::Invalid(finding) | ExportError::OverLimit { finding, .. }) => {
            let offset = finding.byte_offset.expect("a refusal names its place");
            assert!(usize::try_from(offset).is_ok_and(|offset| offset <= bytes.len()), "{finding}");
            assert!(!finding.reason.is_empty());
            // The filter may exclude the record that is wrong.
            let filter = BTreeSet::from([SLUG.to_owned()]);
            if let Ok(plan) = file.plan(Some(&filter)) {
                follow(&file, &plan, bytes);
            }
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let seen: Vec<IgnoredAny> = serde_json::from_slice(text).expect("what is taken is JSON");
    assert_eq!(i64::try_from(seen.len()).ok(), Some(plan.records));
    let models: i64 = CATALOG.models().iter().map(|model| plan.record_count(model)).sum();
    assert_eq!(models + plan.passed_over.values().sum::<i64>(), plan.records);

    let slug = follow(&file, &plan, bytes);
    let filter = BTreeSet::from([slug.unwrap_or_default(), "nobody".to_owned()]);
    match file.plan(Some(&filter)) {
        Ok(plan) => drop(follow(&file, &plan, bytes)),
        Err(ExportError::FilterMatchesNothing(_)) => {}
        Err(other) => panic!("a filter makes a valid file invalid: {other}"),
    }
}

/// Maps every record. Returns the slug of an organization.
fn follow(file: &File, plan: &Plan, bytes: &[u8]) -> Option<String> {
    let mut keys = KeyMap::new(&CATALOG);
    let mut slug = None;
    let mut next_id = 1;
    for model in CATALOG.written() {
        let mut chunk = ChunkKeys::default();
        let mut reader = plan.reader(model, &file.env, 1).expect("it can be read");
        let (mut pks, mut ordinal, mut end) = (HashSet::new(), 0, 0);
        while let Some(record) = reader.next_record().expect("what was planned can be read") {
            ordinal += 1;
            assert_eq!(record.ordinal, ordinal);
            assert!((1..=MAX_PK).contains(&record.source_pk));
            let is_left_out = !pks.insert(record.source_pk) || record.defect.is_some();
            let offset = usize::try_from(record.offset).expect("an offset");
            assert!(offset >= end, "records must not overlap");
            end = offset + record.length;
            assert!(bytes[offset] == b'{' && bytes[end - 1] == b'}');
            check_values(model, &record);
            assert!(!is_left_out || plan.selection.is_some(), "it breaks a rule, but nothing excludes it");
            if model.name == ORGANIZATION && slug.is_none() {
                let column = model.rules.global_slug.expect("it has a slug").column;
                slug = record.values.get(column).and_then(Value::as_text).map(str::to_owned);
            }
            let mut notes = Vec::new();
            let pk = record.source_pk;
            // Each record is treated as the start of a chunk of its own.
            let (tense, chunk_begins) = (Tense::Happened, record.offset);
            let mapping = Mapping { catalog: &CATALOG, plan, keys: &keys, tense, chunk_begins };
            let decision = mapping.map(model, record, &mut notes).expect("it can be mapped");
            match decision {
                _ if is_left_out && !matches!(decision, Decision::Filtered | Decision::OutOfScope) => {
                    panic!("the record breaks a rule and is {decision:?}")
                }
                Decision::Write(record) => {
                    assert!(record.fields.is_some() || model.silo == Silo::Region);
                    next_id += 1;
                    chunk.inserted.push((pk, next_id));
                }
                Decision::Filtered => chunk.filtered.push(pk),
                Decision::OutOfScope => chunk.out_of_scope.push(pk),
                Decision::NotAdded => panic!("it is a record of the file"),
                Decision::NotInDatabase => panic!("the catalog was not fitted to a database"),
                Decision::Dropped(finding) => {
                    assert!(finding.source_pk == Some(pk) && finding.ordinal == Some(ordinal));
                }
            }
            for note in notes {
                let is_placed = note.field.is_some() || note.kind == FindingKind::DefectFiltered;
                assert!(note.source_pk == Some(pk) && is_placed);
            }
        }
        assert_eq!(ordinal, plan.record_count(model), "{} has other records the second time", model.name);
        // Read the second half again, as after a restart.
        let half = ordinal / 2 + 1;
        let mut again = plan.reader(model, &file.env, half).expect("it can be read");
        if let Some(record) = again.next_record().expect("it can be read again") {
            assert_eq!(record.ordinal, half);
        }
        let packed = chunk.pack().expect("it can be packed");
        let unpacked = ChunkKeys::unpack(&packed).expect("it can be read");
        keys.add_chunk(model.position, &unpacked).expect("the keys are consistent");
    }
    slug
}

/// Checks that no value reaches this point that a database could not store.
fn check_values(model: &Model, record: &Record) {
    assert_eq!(record.values.len(), model.columns.len());
    for (column, value) in model.columns.iter().zip(&record.values) {
        let text = |text: &str| {
            assert!(!text.contains('\0'), "{}.{} has a NUL", model.name, column.field);
            text.chars().count()
        };
        match value {
            Value::Text(value) => {
                let length = text(value);
                let is_slug = model
                    .rules
                    .global_slug
                    .is_some_and(|slug| model.column(&column.field) == Some(slug.column));
                assert!(is_slug || column.max_length.is_none_or(|most| length <= most));
            }
            Value::Texts(values) => values.iter().flatten().for_each(|value| {
                text(value);
            }),
            Value::Float(value) => assert!(value.is_finite()),
            Value::FloatRows(rows) => assert!(rows.iter().flatten().all(|value| value.is_finite())),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Time(_)
            | Value::Uuid(_)
            | Value::Inet(..) => {}
        }
    }
}
