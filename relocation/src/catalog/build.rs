//! Builds the catalog from the file: resolves every name, derives what an entry leaves out, and computes the order of
//! writing.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    num::ParseIntError,
};

use serde_json::Value;

use super::{
    Actors, AddedFor, ArrayOf, Catalog, Column, ColumnType, Condition, Default, EachOf, FromActor,
    FromColumn, Generator, Hide, IdsOf, IfTaken, KnownOption, KnownOptions, MergeAlike, Model, Move,
    NeedsOne, NestedIds, PathStep, ReferenceByType, Replace, Rules, SkipWhen, SqlType, StandsFor,
    TablesVersion, TakenName, Then, UniqueSet, WhenText, With,
    check::{self, CatalogError, wrong},
    file,
};

pub(super) fn build(file: file::File) -> Result<Catalog, CatalogError> {
    let names: HashSet<String> = file.models.iter().map(|(name, _)| name.clone()).collect();
    let file_actors = file.actors;
    let excluded: HashSet<String> = file.excluded_models.into_iter().collect();
    let out_of_scope: HashSet<String> = file.out_of_scope_models.into_iter().collect();
    let removed: HashSet<String> = file.removed_models.into_iter().collect();
    if let Some(name) = out_of_scope.iter().find(|name| excluded.contains(*name) || removed.contains(*name)) {
        return Err(wrong(name, "cannot be out of scope and excluded or removed as well"));
    }
    if names.len() != file.models.len() {
        return Err(wrong("", "a model stands twice"));
    }
    let also: Vec<String> = file.models.iter().flat_map(|(_, model)| model.also.clone()).collect();
    let mut all = names.iter().chain(&also);
    let lists = [&excluded, &out_of_scope, &removed];
    if let Some(name) = all.find(|name| lists.iter().any(|list| list.contains(*name))) {
        return Err(wrong(name, "cannot be a model and excluded, out of scope or removed as well"));
    }

    let order = order(&file.models)?;
    let mut by_position: Vec<Option<(String, file::Model)>> = file.models.into_iter().map(Some).collect();
    let mut models = Vec::with_capacity(order.len());
    for (position, index) in order.into_iter().enumerate() {
        let Some((name, model)) = by_position.get_mut(index).and_then(Option::take) else {
            return Err(wrong("", "the order of writing has a model twice"));
        };
        let removed_fields = file.removed_fields.get(&name).cloned().unwrap_or_default();
        models.push(build_model(name, model, position, removed_fields)?);
    }
    let mut by_name: HashMap<String, usize> = HashMap::new();
    for model in &models {
        for name in std::iter::once(&model.name).chain(&model.also) {
            if by_name.insert(name.clone(), model.position).is_some() {
                return Err(wrong(name, "is the name of two models"));
            }
        }
    }
    for column in models.iter_mut().flat_map(|model| &mut model.columns) {
        column.target = column.references.as_ref().and_then(|name| by_name.get(name)).copied();
    }
    let actors =
        file_actors.map(|actors| build_actors(actors, &removed, &by_name, &mut models)).transpose()?;
    let tables_version = TablesVersion::of(&file.newest_release, file.revision)
        .ok_or_else(|| wrong("", format!("newest_release ({}) must be a release", file.newest_release)))?;
    let mut catalog = Catalog {
        newest_release: file.newest_release,
        tables_version,
        by_name,
        models,
        excluded,
        out_of_scope,
        removed,
        actors,
    };
    check::check(&catalog)?;
    catalog.note_added();
    Ok(catalog)
}

/// The order of writing, as indices. Each model comes after those that it refers to and those in its `after`. If
/// several models could come next, the first one in the file does.
fn order(models: &[(String, file::Model)]) -> Result<Vec<usize>, CatalogError> {
    let index: HashMap<&str, usize> =
        models.iter().enumerate().map(|(index, (name, _))| (name.as_str(), index)).collect();
    let mut waits_for: Vec<BTreeSet<usize>> = Vec::with_capacity(models.len());
    for (name, model) in models {
        let mut needs = BTreeSet::new();
        for target in &model.after {
            needs.insert(
                *index
                    .get(target.as_str())
                    .ok_or_else(|| wrong(name, format!("comes after {target}, which is not a model")))?,
            );
        }
        let references = model.columns.iter().filter_map(|column| column.references.as_deref());
        let by_rule = model.rules.iter().flat_map(file::Rule::targets);
        needs.extend(references.chain(by_rule).filter_map(|target| index.get(target)));
        waits_for.push(needs);
    }
    let mut order = Vec::with_capacity(models.len());
    let mut ready: BTreeSet<usize> =
        (0..models.len()).filter(|index| waits_for.get(*index).is_some_and(BTreeSet::is_empty)).collect();
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for (index, needs) in waits_for.iter_mut().enumerate() {
            if needs.remove(&next) && needs.is_empty() {
                ready.insert(index);
            }
        }
    }
    if order.len() < models.len() {
        let name = models
            .iter()
            .enumerate()
            .find(|(index, _)| !order.contains(index))
            .map_or("", |(_, (name, _))| name);
        return Err(wrong(name, "refers to itself through others, so there is no order of writing"));
    }
    Ok(order)
}

fn build_model(
    name: String,
    model: file::Model,
    position: usize,
    removed_fields: Vec<String>,
) -> Result<Model, CatalogError> {
    let mut by_field = HashMap::new();
    let mut columns = Vec::with_capacity(model.columns.len());
    for (index, column) in model.columns.into_iter().enumerate() {
        for field in std::iter::once(&column.field).chain(&column.also).chain(&column.opposite_of) {
            if by_field.insert(field.clone(), index).is_some() {
                return Err(wrong(&name, format!("field {field} stands twice")));
            }
        }
        columns.push(build_column(&name, column)?);
    }
    let find = |field: &str| {
        by_field.get(field).copied().ok_or_else(|| wrong(&name, format!("there is no field {field}")))
    };
    let find_all = |fields: &[String]| fields.iter().map(|field| find(field)).collect::<Result<Vec<_>, _>>();

    let mut unique = Vec::with_capacity(model.unique.len());
    for set in model.unique {
        let condition = match set.condition {
            Some(condition) if condition.equals.is_some() == condition.is_null => {
                return Err(wrong(&name, "a condition says either what a field equals or that it is null"));
            }
            Some(condition) => Some(Condition { column: find(&condition.field)?, equals: condition.equals }),
            None => None,
        };
        unique.push(UniqueSet { columns: find_all(&set.fields)?, condition });
    }
    let mut rules = Rules::default();
    let by_rule: Vec<String> = model.rules.iter().flat_map(file::Rule::targets).map(str::to_owned).collect();
    for rule in model.rules {
        add_rule(&mut rules, &name, rule, &find, &find_all)?;
    }
    let table = table_of(&name);
    Ok(Model {
        returned_columns: find_all(&model.returned_columns)?,
        name,
        position,
        also: model.also,
        since: model.since,
        until: model.until,
        table: model.table.unwrap_or(table),
        has_table: true,
        not_importable: None,
        has_folded_index: true,
        id_type: SqlType::BigInt,
        silo: model.silo,
        scopes: model.scopes,
        columns,
        has_deferred_index: false,
        unique,
        ids: model.ids,
        rules,
        left_behind: model.left_behind.unwrap_or_default(),
        after: model.after.into_iter().chain(by_rule).collect(),
        actor_field: None,
        adds: Vec::new(),
        passed_on: HashSet::new(),
        removed_fields: removed_fields.into_iter().collect(),
        by_field,
    })
}

/// Resolves which models actors stand for, and stores in each model concerned which of its removed fields names an
/// actor.
fn build_actors(
    actors: file::Actors,
    removed: &HashSet<String>,
    by_name: &HashMap<String, usize>,
    models: &mut [Model],
) -> Result<Actors, CatalogError> {
    if !removed.contains(&actors.model) {
        return Err(wrong(&actors.model, "stands for others and is not a removed model"));
    }
    let mut stands_for = Vec::with_capacity(actors.stands_for.len());
    for target in actors.stands_for {
        let position = by_name.get(&target.model).copied();
        let Some((position, model)) = position.and_then(|at| Some((at, models.get_mut(at)?))) else {
            return Err(wrong(&actors.model, format!("stands for {}, which is not a model", target.model)));
        };
        if target.named_by.as_ref().is_some_and(|field| !model.removed_fields.contains(field)) {
            return Err(wrong(&target.model, "is to name an actor by a field that is not a removed one"));
        }
        model.actor_field = target.named_by;
        stands_for.push(StandsFor { position, kind: target.kind, field: target.field });
    }
    for model in models {
        let Some(FromActor { field, columns }) = model.rules.from_actor.clone() else { continue };
        let leads = |column: &usize| {
            let column = model.columns.get(*column);
            let target = column.filter(|column| column.null).and_then(|column| column.target);
            stands_for.iter().any(|actor| Some(actor.position) == target)
        };
        if !model.removed_fields.contains(&field) || !columns.iter().all(leads) {
            return Err(wrong(
                &model.name,
                "a removed field names an actor, which is one of some references that can be null",
            ));
        }
        model.actor_field = Some(field);
    }
    Ok(Actors { model: actors.model, stands_for })
}

fn build_column(model: &str, column: file::Column) -> Result<Column, CatalogError> {
    let (kind, usual) = match column.kind.as_str() {
        "array" => {
            let sql = column.sql.as_deref().unwrap_or_default();
            let of = array_of(sql)
                .ok_or_else(|| wrong(model, format!("field {}: unknown array {sql}", column.field)))?;
            (ColumnType::Array(of), "")
        }
        other => usual(other)
            .ok_or_else(|| wrong(model, format!("field {}: unknown type {other}", column.field)))?,
    };
    let or_integer = column.kind == "text_or_integer";
    let sql = column.sql.unwrap_or_else(|| usual.to_owned());
    let longest = longest(&sql)
        .map_err(|_| wrong(model, format!("field {}: unknown length of {sql}", column.field)))?;
    let is_reference = column.references.is_some();
    let name = column.column.unwrap_or_else(|| column_of(&column.field, is_reference));
    let others = column.also.iter().map(|field| column_of(field, is_reference));
    let other_columns = others.filter(|other| *other != name).collect();
    let default = match column.default {
        Some(Value::Null) => Default::Null,
        Some(Value::String(text)) if text.ends_with("()") => match text.as_str() {
            "now()" => Default::Now,
            "get_secure_token()" => Default::Generated(Generator::SecureToken),
            // Only models of other scopes have other functions as defaults, and those models are never written.
            _ => Default::Required,
        },
        Some(value) => Default::Literal(value.to_string()),
        None if column.null => Default::Null,
        None if column.blank && kind == ColumnType::Text => Default::Literal("\"\"".to_owned()),
        None => Default::Required,
    };
    Ok(Column {
        field: column.field,
        column: name,
        other_columns,
        is_opposite: false,
        kind,
        sql,
        max_length: column.max_length.or(longest),
        or_integer,
        opposite_of: column.opposite_of,
        min: column.min,
        null: column.null,
        is_needed: false,
        default,
        choices: column.choices.iter().map(Value::to_string).collect(),
        references: column.references,
        has_foreign_key: column.has_foreign_key,
        since: column.since,
        until: column.until,
        is_stored: true,
        not_stored: String::new(),
        target: None,
    })
}

/// The table of a model if its entry names none: `sentry.project` is in `sentry_project`.
fn table_of(model: &str) -> String {
    model.replace('.', "_")
}

/// The column of a field if its entry names none: the name of the field, with `_id` for a reference.
fn column_of(field: &str, is_reference: bool) -> String {
    let suffix = if is_reference && !field.ends_with("_id") { "_id" } else { "" };
    format!("{field}{suffix}")
}

/// The data type for a type name of the file, and the SQL type of the column if its entry names none.
fn usual(kind: &str) -> Option<(ColumnType, &'static str)> {
    Some(match kind {
        "bigint" => (ColumnType::BigInt, "bigint"),
        "integer" => (ColumnType::Integer, "integer"),
        "smallint" => (ColumnType::SmallInt, "smallint"),
        "bitfield" => (ColumnType::BitField, "bigint"),
        "boolean" => (ColumnType::Boolean, "boolean"),
        "text" | "slug" | "email" | "url" | "text_or_integer" => (ColumnType::Text, "text"),
        "datetime" => (ColumnType::DateTime, "timestamp with time zone"),
        "json" => (ColumnType::Json, "text"),
        "uuid" => (ColumnType::Uuid, "uuid"),
        "inet" => (ColumnType::Inet, "inet"),
        "float" => (ColumnType::Float, "double precision"),
        _ => return None,
    })
}

/// The maximum number of characters of this SQL type, if it has one.
fn longest(sql: &str) -> Result<Option<usize>, ParseIntError> {
    sql.strip_prefix("varchar(").and_then(|rest| rest.strip_suffix(')')).map(str::parse).transpose()
}

fn array_of(sql: &str) -> Option<ArrayOf> {
    match sql {
        "text[]" => Some(ArrayOf::Text(None)),
        "double precision[][]" => Some(ArrayOf::FloatRows),
        _ => sql
            .strip_prefix("varchar(")?
            .strip_suffix(")[]")?
            .parse()
            .ok()
            .map(|length| ArrayOf::Text(Some(length))),
    }
}

fn add_rule(
    rules: &mut Rules,
    model: &str,
    rule: file::Rule,
    find: &impl Fn(&str) -> Result<usize, CatalogError>,
    find_all: &impl Fn(&[String]) -> Result<Vec<usize>, CatalogError>,
) -> Result<(), CatalogError> {
    use file::Rule as F;
    let once = |is_new: bool| {
        if is_new { Ok(()) } else { Err(wrong(model, "has two rules of which a model can have one")) }
    };
    match rule {
        F::Set { field, to } => rules.replace.push(Replace {
            column: find(&field)?,
            with: match to {
                Value::String(text) if text == "now()" => With::Now,
                to => With::Literal(to.to_string()),
            },
        }),
        F::Regenerate { field, with, if_set } => {
            rules.replace.push(Replace { column: find(&field)?, with: With::Generated { by: with, if_set } })
        }
        F::RegenerateIfTaken { field, with, last_characters } => rules.if_taken.push(IfTaken {
            column: find(&field)?,
            ignores_case: false,
            then: Then::Regenerate {
                by: with,
                last_characters: last_characters.map(|field| find(&field)).transpose()?,
            },
        }),
        F::ClearIfTaken { field, ignores_case, also } => rules.if_taken.push(IfTaken {
            column: find(&field)?,
            ignores_case,
            then: Then::Clear { also: find_all(&also)? },
        }),
        F::MergeOrSuffix { field, max_length } => {
            let name = TakenName { column: find(&field)?, suffix_up_to: Some(max_length) };
            once(rules.taken_name.replace(name).is_none())?;
        }
        F::ReuseExisting { field } => {
            let name = TakenName { column: find(&field)?, suffix_up_to: None };
            once(rules.taken_name.replace(name).is_none())?;
        }
        F::SkipWhen { field, equals } => {
            rules.skip_when.push(SkipWhen { column: find(&field)?, equals: equals.to_string() });
        }
        F::SkipWhenExisting { reference } => rules.skip_when_existing.push(find(&reference)?),
        F::ReferenceByType { field, kind, targets, older_types, keeps_other_types } => {
            let (column, kind) = (find(&field)?, find(&kind)?);
            let reference = ReferenceByType { column, kind, targets, keeps_other_types, older_types };
            rules.references_by_type.push(reference);
        }
        F::IdsIn { field, when, at, of, by, targets, terms, forgets, keeps_other_types, removes_element } => {
            let of = match (of, by, terms.is_empty(), forgets) {
                (Some(of), None, true, false) => IdsOf::Model(of),
                (None, Some(key), true, false) => IdsOf::ByKey { key, targets },
                (None, None, false, false) => IdsOf::Terms(terms),
                (None, None, true, true) => IdsOf::Nothing,
                _ => {
                    return Err(wrong(
                        model,
                        format!("ids in {field} are of one model, by a key, in terms, or forgotten"),
                    ));
                }
            };
            let when = match when {
                Some(when) => Some(WhenText { column: find(&when.field)?, is: when.is }),
                None => None,
            };
            let paths = if at.is_empty() { vec![Vec::new()] } else { at.iter().map(|at| path(at)).collect() };
            rules.nested_ids.push(NestedIds {
                column: find(&field)?,
                when,
                paths,
                of,
                keeps_other_types,
                removes_element,
            });
        }
        F::HashOf { field, of } => rules.hashes.push((find(&field)?, find(&of)?)),
        F::ClearIfUnmapped { field } => rules.clear_if_unmapped.push(find(&field)?),
        F::CopyColumns { reference, copies } => rules.copied_columns.push(super::CopiedColumns {
            reference: find(&reference)?,
            copies: copies
                .into_iter()
                .map(|(field, from)| Ok((find(&field)?, from)))
                .collect::<Result<_, CatalogError>>()?,
        }),
        F::ExactlyOne { fields, or_none } => {
            rules.exactly_one.push(super::ExactlyOne { columns: find_all(&fields)?, or_none });
        }
        F::AtMostOne { fields } => rules.at_most_one.push(find_all(&fields)?),
        F::ScopeWhenSet { fields, scope } => {
            if scope.in_organization_scope() {
                return Err(wrong(model, "a rule names a scope that takes no record away"));
            }
            rules.other_scope_when_set.extend(find_all(&fields)?);
        }
        F::ScopeFollows { reference } => {
            once(rules.scope_follows.replace(find(&reference)?).is_none())?;
        }
        F::KeepFirst { fields } => rules.keep_first.push(find_all(&fields)?),
        F::Defer { until: file::Until::SlugsAreFinal } => rules.deferred = true,
        F::HideUntilFinished { field, hidden, shown } => {
            once(rules.hide.replace(Hide { column: find(&field)?, hidden, shown }).is_none())?;
        }
        F::OnlyIfReferred {} => rules.only_if_referred = true,
        F::GlobalSlug { field, from } => {
            let slug = FromColumn { column: find(&field)?, from: find(&from)? };
            once(rules.global_slug.replace(slug).is_none())?;
        }
        F::MergeAlike { fields: (one, other), highest } => {
            let alike = MergeAlike {
                columns: [find(&one)?, find(&other)?],
                highest: find(&highest.field)?,
                order: highest.order,
            };
            once(rules.merge_alike.replace(alike).is_none())?;
        }
        F::NeedsOne { of, condition, set } => {
            let Some(Value::String(equals)) = condition.equals else {
                return Err(wrong(model, "what one is needed of is said by a text"));
            };
            let needs =
                NeedsOne { of: find(&of)?, column: find(&condition.field)?, equals, set: find(&set)? };
            once(rules.needs_one.replace(needs).is_none())?;
        }
        F::SlugFrom { field, from } => {
            let slug = FromColumn { column: find(&field)?, from: find(&from)? };
            once(rules.generated_slug.replace(slug).is_none())?;
        }
        F::FromActor { field, to } => {
            let actor = FromActor { field, columns: find_all(&to)? };
            once(rules.from_actor.replace(actor).is_none())?;
        }
        F::Moves { from, to, if_contains } => {
            rules.moves.push(Move { from, to: find(&to)?, if_contains });
        }
        F::WarnOfAddress { field, address } => {
            once(rules.warn_of_address.replace((find(&field)?, find(&address)?)).is_none())?;
        }
        F::AddedFor { reference, set, copies, each_of } => {
            for field in set.keys().chain(copies.keys()).chain(each_of.iter().map(|each| &each.to)) {
                find(field)?;
            }
            let added = AddedFor {
                reference: find(&reference)?,
                set: set.into_iter().map(|(field, to)| (field, to.to_string())).collect(),
                copies: copies.into_iter().collect(),
                each_of: each_of.map(|each| EachOf { list: each.field, to: each.to }),
            };
            once(rules.added_for.replace(added).is_none())?;
        }
        F::KnownOptions { key, value, options } => {
            let options = options
                .into_iter()
                .map(|(name, option)| known_option(model, name, option))
                .collect::<Result<_, _>>()?;
            let known = KnownOptions { key: find(&key)?, value: find(&value)?, options };
            once(rules.known_options.replace(known).is_none())?;
        }
    }
    Ok(())
}

/// A path as the catalog writes it, e.g. `actions[].targetIdentifier`.
fn path(text: &str) -> Vec<PathStep> {
    let mut steps = Vec::new();
    for part in text.split('.') {
        let name = part.trim_end_matches("[]");
        if !name.is_empty() {
            steps.push(PathStep::Key(name.to_owned()));
        }
        steps.extend(std::iter::repeat_n(PathStep::Each, part.len().abs_diff(name.len()) / 2));
    }
    steps
}

fn known_option(
    model: &str,
    name: String,
    option: file::OptionEntry,
) -> Result<(String, KnownOption), CatalogError> {
    let known = match (option.is, option.one_of) {
        (Some(file::Is::Timezone), None) => KnownOption::TimeZone,
        (Some(file::Is::Language), None) => KnownOption::Language,
        (Some(file::Is::Boolean), None) => KnownOption::Boolean,
        (None, Some(values)) => KnownOption::OneOf(values),
        _ => {
            return Err(wrong(model, format!("option {name} says either what it is or what it is one of")));
        }
    };
    Ok((name, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The catalog states every fact once.
    #[test]
    fn no_entry_says_what_follows_from_the_rest() {
        let file: file::File = serde_json::from_str(include_str!("../../catalog.json")).unwrap();
        for (name, model) in file.models {
            assert_ne!(model.table, Some(table_of(&name)), "{name}");
            for column in model.columns {
                let usual_sql = usual(&column.kind).map_or("", |(_, sql)| sql);
                let sql = column.sql.as_deref();
                assert_ne!(sql, Some(usual_sql), "{name}.{}", column.field);
                let is_said = column.max_length.is_some()
                    && column.max_length == sql.and_then(|sql| longest(sql).unwrap());
                assert!(!is_said, "{name}.{}", column.field);
                let usual = column_of(&column.field, column.references.is_some());
                assert_ne!(column.column, Some(usual), "{name}.{}", column.field);
            }
        }
    }
}
