//! Defects: decides from the rules of the format which records break a rule, so that a filter leaves them out.

use std::collections::HashSet;

use causeway_proto::relocation::v1::FindingKind;
use causeway_relocation::catalog::{ArrayOf, Column, ColumnType, Default, Model, UniqueSet};
use serde_json::Value;

use super::{case::AuditCase, cell, file::FileRecord, taken::Certainty};

/// Fields that may be missing although they have no default, because the import makes a value for them.
const MADE: &[(&str, &str)] = &[
    ("sentry.organization", "slug"),
    ("sentry.team", "slug"),
    ("sentry.project", "slug"),
    ("sentry.monitor", "slug"),
    ("sentry.projectkey", "public_key"),
    ("sentry.projectkey", "secret_key"),
    ("sentry.orgauthtoken", "token_hashed"),
];
/// The most bytes of text that an index takes for one row.
const INDEXED: usize = 2_600;

/// Whether a field has a value that cannot be written. `Perhaps` if the audit cannot decide.
fn is_broken(model: &Model, column: &Column, value: Option<&Value>) -> Certainty {
    let is_made = MADE.contains(&(model.name.as_str(), column.field.as_str()));
    let Some(value) = value else {
        return if column.default == Default::Required && !is_made { Certainty::Yes } else { Certainty::No };
    };
    if value.is_null() && (column.null || is_made) {
        return Certainty::No;
    }
    if column.references.is_some() {
        let is_pk = value.as_i64().is_some_and(|pk| (1..1 << 53).contains(&pk));
        return if is_pk { Certainty::No } else { Certainty::Yes };
    }
    if value.is_null() && column.kind != ColumnType::Json {
        return Certainty::Yes;
    }
    let least = |bits: u32| column.min.unwrap_or(-(1 << (bits - 1)));
    let fits = |number: Option<i64>, bits: u32| {
        number.is_some_and(|number| number >= least(bits) && number < 1 << (bits - 1))
    };
    let text = value.as_str();
    let right = match column.kind {
        ColumnType::BigInt => value.as_i64().is_some_and(|number| column.min.is_none_or(|min| number >= min)),
        ColumnType::Integer => fits(value.as_i64(), 32),
        ColumnType::SmallInt => fits(value.as_i64(), 16),
        ColumnType::Boolean => value.is_boolean(),
        ColumnType::Float => value.is_number(),
        ColumnType::Text if model.name == "sentry.organization" && column.field == "slug" => text.is_some(),
        ColumnType::Text if column.or_integer && value.is_i64() => true,
        ColumnType::Text => text.is_some_and(|text| {
            let length = text.replace('\0', "").chars().count();
            column.max_length.is_none_or(|most| length <= most)
        }),
        ColumnType::Json => text.is_none_or(|text| {
            let looks_so = text.trim_start().starts_with(['{', '[', '"']);
            !looks_so || serde_json::from_str::<Value>(text).is_ok()
        }),
        // The importer accepts more notations than the audit knows.
        ColumnType::DateTime | ColumnType::Array(ArrayOf::FloatRows)
            if cell::of_file(column, value).is_err() =>
        {
            return Certainty::Perhaps;
        }
        ColumnType::Array(ArrayOf::Text(_)) => return Certainty::Perhaps,
        _ => cell::of_file(column, value).is_ok(),
    };
    if right { Certainty::No } else { Certainty::Yes }
}

/// The values of a record in each unique set, as one text per set. Sets in which a value is missing do not count.
fn keys_of(model: &Model, record: &FileRecord) -> Vec<String> {
    let key = |(number, set): (usize, &UniqueSet)| {
        let values: Option<Vec<String>> = set
            .columns
            .iter()
            .map(|column| Some(record.set(&model.columns.get(*column)?.field)?.to_string()))
            .collect();
        Some(format!("{number} {}", values?.join(" ")))
    };
    model.unique.iter().enumerate().filter_map(key).collect()
}

impl AuditCase<'_> {
    /// Whether a record breaks a rule by itself.
    fn is_defective(&self, model: &Model, record: &FileRecord) -> Certainty {
        let fields =
            model.columns.iter().map(|column| is_broken(model, column, record.fields.get(&column.field)));
        let mut perhaps = false;
        for field in fields {
            match field {
                Certainty::Yes => return Certainty::Yes,
                Certainty::Perhaps => perhaps = true,
                Certainty::No => {}
            }
        }
        let is_set = |field: &&&str| record.set(field).is_some_and(|value| value.as_str() != Some(""));
        // Newer releases have members with neither: an invitation has their address.
        if model.name == "sentry.organizationmember" && ["user_id", "email"].iter().filter(is_set).count() > 1
        {
            return Certainty::Yes;
        }
        let too_long = model.unique.iter().any(|set| {
            let fields = set.columns.iter().filter_map(|column| model.columns.get(*column));
            let texts = fields
                .filter(|column| column.field != "subscription_id")
                .filter_map(|column| record.text(&column.field));
            texts.map(str::len).sum::<usize>() > INDEXED
        });
        match (too_long, perhaps) {
            (true, _) => Certainty::Yes,
            (_, true) => Certainty::Perhaps,
            _ => Certainty::No,
        }
    }

    /// Expects a finding for each record that is left out although it would fail an import without a filter, and notes
    /// those that break a rule by themselves in `defective`. The import has succeeded, so no record that the filter
    /// takes has a defect.
    pub(super) fn expect_defects(&mut self) {
        if self.options.filter.is_none() {
            return;
        }
        let reported: HashSet<(&str, i64)> = self
            .findings
            .iter()
            .filter(|finding| finding.kind() == FindingKind::DefectFiltered)
            .map(|finding| (finding.model.as_str(), finding.ordinal))
            .collect();
        for model in self.catalog.models().iter().filter(|model| model.in_organization_scope()) {
            let (mut pks, mut keys) = (HashSet::new(), HashSet::new());
            for record in self.records_of(&model.name) {
                let is_second = !pks.insert(record.pk);
                // A rule resolves conflicts in some unique sets, so a conflict alone is not a defect.
                let agrees =
                    keys_of(model, &record).into_iter().filter(|key| !keys.insert(key.clone())).count() > 0;
                let is_reported = reported.contains(&(model.name.as_str(), record.ordinal));
                let broken = self.is_defective(model, &record);
                let wrong = is_second
                    || broken == Certainty::Yes
                    || (is_reported && (agrees || broken == Certainty::Perhaps));
                if wrong {
                    self.expect(&record, &[FindingKind::DefectFiltered], &[]);
                    if broken != Certainty::No {
                        self.defective.insert((record.model.clone(), record.ordinal));
                    }
                }
            }
        }
    }
}
