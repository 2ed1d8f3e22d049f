//! The JSON form of `catalog.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Generator, Ids, Scope, Silo};

/// The whole file. `models` keeps the order of the JSON object: it decides which of several models is written first if
/// references allow either.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(rename = "about")]
    _about: String,
    pub(super) newest_release: String,
    /// How often tables that exist have changed since `newest_release` was raised.
    pub(super) revision: u32,
    #[serde(deserialize_with = "in_order")]
    pub(super) models: Vec<(String, Model)>,
    pub(super) removed_models: Vec<String>,
    pub(super) actors: Option<Actors>,
    pub(super) removed_fields: BTreeMap<String, Vec<String>>,
    pub(super) excluded_models: Vec<String>,
    /// Models of another scope of which the catalog knows no more than the name.
    #[serde(default)]
    pub(super) out_of_scope_models: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    /// Other names of the model, in exports of other releases.
    #[serde(default)]
    pub(super) also: Vec<String>,
    /// The first release that has the model, if that is later than the first release of the catalog.
    pub(super) since: Option<String>,
    /// The first release that no longer has the model.
    pub(super) until: Option<String>,
    /// Derived from the name if it is missing.
    pub(super) table: Option<String>,
    pub(super) silo: Silo,
    pub(super) scopes: Vec<Scope>,
    pub(super) unique: Vec<Unique>,
    #[serde(default)]
    pub(super) after: Vec<String>,
    pub(super) columns: Vec<Column>,
    #[serde(default)]
    pub(super) ids: Ids,
    #[serde(default)]
    pub(super) returned_columns: Vec<String>,
    #[serde(default)]
    pub(super) rules: Vec<Rule>,
    /// Why rules change a field or drop records by it, by field. For `docs/models.md`.
    #[serde(default)]
    #[cfg_attr(not(test), expect(dead_code, reason = "only the page of models has it"))]
    pub(super) why: BTreeMap<String, String>,
    /// A sentence for a finding: what is missing in the application if a record of this model is out of scope
    /// and is not imported.
    pub(super) left_behind: Option<String>,
}

/// Actors: records of older releases, each of which stands for a record of another model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Actors {
    pub(super) model: String,
    pub(super) stands_for: Vec<StandsFor>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StandsFor {
    pub(super) model: String,
    #[serde(rename = "type")]
    pub(super) kind: i64,
    pub(super) field: String,
    pub(super) named_by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unique {
    pub(super) fields: Vec<String>,
    #[serde(rename = "where")]
    pub(super) condition: Option<Where>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Where {
    pub(super) field: String,
    pub(super) equals: Option<Value>,
    #[serde(default)]
    pub(super) is_null: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub(super) field: String,
    /// If it is missing: the field, with `_id` added for a reference.
    pub(super) column: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// If it is missing: the usual SQL type for `kind`.
    pub(super) sql: Option<String>,
    /// Derived from `sql` if it is missing.
    pub(super) max_length: Option<usize>,
    pub(super) min: Option<i64>,
    #[serde(default)]
    pub(super) null: bool,
    #[serde(default)]
    pub(super) blank: bool,
    #[serde(default, deserialize_with = "present")]
    pub(super) default: Option<Value>,
    #[serde(default)]
    pub(super) choices: Vec<Value>,
    pub(super) references: Option<String>,
    #[serde(default = "yes")]
    pub(super) has_foreign_key: bool,
    /// The first release that has the field, if that is later than the first release of the catalog.
    pub(super) since: Option<String>,
    /// The first release that no longer has the field.
    pub(super) until: Option<String>,
    /// Other names of the field, in exports of other releases.
    #[serde(default)]
    pub(super) also: Vec<String>,
    /// Names of fields of older releases with the opposite meaning.
    #[serde(default)]
    pub(super) opposite_of: Vec<String>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Rule {
    Set {
        field: String,
        to: Value,
    },
    Regenerate {
        field: String,
        with: Generator,
        #[serde(default)]
        if_set: bool,
    },
    RegenerateIfTaken {
        field: String,
        with: Generator,
        last_characters: Option<String>,
    },
    ClearIfTaken {
        field: String,
        /// Whether the same letters in another case are the same value.
        #[serde(default)]
        ignores_case: bool,
        #[serde(default)]
        also: Vec<String>,
    },
    MergeOrSuffix {
        field: String,
        max_length: usize,
    },
    ReuseExisting {
        field: String,
    },
    SkipWhen {
        field: String,
        equals: Value,
    },
    SkipWhenExisting {
        reference: String,
    },
    ReferenceByType {
        field: String,
        #[serde(rename = "type")]
        kind: String,
        targets: BTreeMap<String, String>,
        #[serde(default)]
        older_types: BTreeMap<String, String>,
        #[serde(default)]
        keeps_other_types: bool,
    },
    IdsIn {
        field: String,
        when: Option<WhenText>,
        /// Missing if the value itself is the primary key, or a search.
        #[serde(default)]
        at: Vec<String>,
        of: Option<String>,
        by: Option<String>,
        #[serde(default)]
        targets: BTreeMap<String, Option<String>>,
        #[serde(default)]
        terms: BTreeMap<String, String>,
        /// The record of the primary key is written later, or never again, so nothing can take its place.
        #[serde(default)]
        forgets: bool,
        #[serde(default)]
        keeps_other_types: bool,
        #[serde(default)]
        removes_element: bool,
    },
    HashOf {
        field: String,
        of: String,
    },
    ClearIfUnmapped {
        field: String,
    },
    CopyColumns {
        reference: String,
        copies: BTreeMap<String, String>,
    },
    ExactlyOne {
        fields: Vec<String>,
        #[serde(default)]
        or_none: bool,
    },
    AtMostOne {
        fields: Vec<String>,
    },
    ScopeWhenSet {
        fields: Vec<String>,
        scope: Scope,
    },
    ScopeFollows {
        reference: String,
    },
    KeepFirst {
        fields: Vec<String>,
    },
    Defer {
        until: Until,
    },
    HideUntilFinished {
        field: String,
        hidden: i64,
        shown: i64,
    },
    OnlyIfReferred {},
    GlobalSlug {
        field: String,
        from: String,
    },
    MergeAlike {
        fields: (String, String),
        highest: Highest,
    },
    NeedsOne {
        of: String,
        #[serde(rename = "where")]
        condition: Where,
        set: String,
    },
    SlugFrom {
        field: String,
        from: String,
    },
    FromActor {
        field: String,
        to: Vec<String>,
    },
    Moves {
        from: String,
        to: String,
        if_contains: Option<i32>,
    },
    WarnOfAddress {
        field: String,
        address: String,
    },
    AddedFor {
        reference: String,
        #[serde(default)]
        set: BTreeMap<String, Value>,
        #[serde(default)]
        copies: BTreeMap<String, String>,
        each_of: Option<EachOf>,
    },
    KnownOptions {
        key: String,
        value: String,
        options: BTreeMap<String, OptionEntry>,
    },
}

impl Rule {
    /// The models that a rule refers to, although no column does.
    pub(super) fn targets(&self) -> Vec<&str> {
        match self {
            Self::ReferenceByType { targets, .. } => targets.values().map(String::as_str).collect(),
            Self::IdsIn { of, targets, terms, .. } => {
                let targets = targets.values().flatten();
                of.iter().chain(targets).chain(terms.values()).map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A condition on a text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhenText {
    pub(super) field: String,
    pub(super) is: Vec<String>,
}

/// The field with a list of the record that rows are added for, and the field that gets one element of it in each row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EachOf {
    pub(super) field: String,
    pub(super) to: String,
}

/// The field that keeps the highest value, and the order of its values, highest first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Highest {
    pub(super) field: String,
    pub(super) order: Vec<String>,
}

/// What a deferred model waits for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Until {
    SlugsAreFinal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OptionEntry {
    pub(super) is: Option<Is>,
    pub(super) one_of: Option<Vec<Value>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Is {
    Timezone,
    Language,
    Boolean,
}

/// Distinguishes a default of null from no default: serde calls it only if the key is present.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, Model)>, D::Error> {
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Vec<(String, Model)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of models")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut models = Vec::new();
            while let Some(entry) = map.next_entry()? {
                models.push(entry);
            }
            Ok(models)
        }
    }
    deserializer.deserialize_map(Visitor)
}
