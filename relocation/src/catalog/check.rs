//! From the file to the catalog: resolves every name, computes the order of writing, refuses contradictions.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::{
    Actors, ArrayOf, Catalog, Column, Condition, Default, Generator, Ids, Kind, KnownOption, Model, Rule,
    Scope, Silo, StandsFor, UniqueSet, file,
};

/// A catalog that contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// It is not in the form of a catalog.
    #[error("the catalog is not in the form of one")]
    Form(#[from] serde_json::Error),
    /// A model says something that cannot be.
    #[error("the catalog's model {model}: {what}")]
    Model {
        /// The model.
        model: String,
        /// What cannot be.
        what: String,
    },
}

fn wrong(model: &str, what: impl Into<String>) -> CatalogError {
    CatalogError::Model { model: model.to_owned(), what: what.into() }
}

pub(super) fn build(file: file::File) -> Result<Catalog, CatalogError> {
    let names: HashSet<String> = file.models.iter().map(|(name, _)| name.clone()).collect();
    let file_actors = file.actors;
    let excluded: HashSet<String> = file.excluded_models.into_iter().collect();
    let removed: HashSet<String> = file.removed_models.into_iter().collect();
    if names.len() != file.models.len() {
        return Err(wrong("", "a model stands twice"));
    }
    if let Some(name) = names.iter().find(|name| excluded.contains(*name) || removed.contains(*name)) {
        return Err(wrong(name, "cannot be a model and excluded or removed as well"));
    }

    let order = order(&file.models)?;
    let mut by_position: Vec<Option<(String, file::Model)>> = file.models.into_iter().map(Some).collect();
    let mut models = Vec::with_capacity(order.len());
    for (position, index) in order.into_iter().enumerate() {
        let Some((name, model)) = by_position.get_mut(index).and_then(Option::take) else { continue };
        let removed_fields = file.removed_fields.get(&name).cloned().unwrap_or_default();
        models.push(build_model(name, model, position, removed_fields)?);
    }
    let by_name: HashMap<String, usize> =
        models.iter().map(|model| (model.name.clone(), model.position)).collect();
    for column in models.iter_mut().flat_map(|model| &mut model.columns) {
        column.target = column.references.as_ref().and_then(|name| by_name.get(name)).copied();
    }
    let actors =
        file_actors.map(|actors| build_actors(actors, &removed, &by_name, &mut models)).transpose()?;
    let catalog = Catalog { by_name, models, excluded, removed, actors };
    check_references(&catalog)?;
    Ok(catalog)
}

/// The order of writing, as indices: each model after all that it refers to or must come after; among those that may
/// come next, the one that stands first in the file.
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
                    .ok_or_else(|| wrong(name, format!("comes after {target}, which is no model")))?,
            );
        }
        let references = model.columns.iter().filter_map(|column| column.references.as_deref());
        needs.extend(references.filter_map(|target| index.get(target)));
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
        if by_field.insert(column.field.clone(), index).is_some() {
            return Err(wrong(&name, format!("field {} stands twice", column.field)));
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
    let rules = model
        .rules
        .into_iter()
        .map(|rule| build_rule(&name, rule, &find, &find_all))
        .collect::<Result<_, _>>()?;
    Ok(Model {
        returned_columns: find_all(&model.returned_columns)?,
        name,
        position,
        table: model.table,
        silo: model.silo,
        scopes: model.scopes,
        columns,
        unique,
        ids: model.ids,
        rules,
        left_behind: model.left_behind.unwrap_or_default(),
        after: model.after,
        actor_field: None,
        removed_fields: removed_fields.into_iter().collect(),
        by_field,
    })
}

/// Resolves what actors stand for, and says of the models concerned which of their removed fields names one.
fn build_actors(
    actors: file::Actors,
    removed: &HashSet<String>,
    by_name: &HashMap<String, usize>,
    models: &mut [Model],
) -> Result<Actors, CatalogError> {
    if !removed.contains(&actors.model) {
        return Err(wrong(&actors.model, "stands for others and is no removed model"));
    }
    let mut stands_for = Vec::with_capacity(actors.stands_for.len());
    for target in actors.stands_for {
        let position = by_name.get(&target.model).copied();
        let Some((position, model)) = position.and_then(|at| Some((at, models.get_mut(at)?))) else {
            return Err(wrong(&actors.model, format!("stands for {}, which is no model", target.model)));
        };
        if target.named_by.as_ref().is_some_and(|field| !model.removed_fields.contains(field)) {
            return Err(wrong(&target.model, "is to name an actor by a field that is not a removed one"));
        }
        model.actor_field = target.named_by;
        stands_for.push(StandsFor { position, kind: target.kind, field: target.field });
    }
    for model in models {
        let Some((field, columns)) = model.rules.iter().find_map(|rule| match rule {
            Rule::FromActor { field, columns } => Some((field.clone(), columns.clone())),
            _ => None,
        }) else {
            continue;
        };
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
    let sql = column.sql.unwrap_or_else(|| column.kind.clone());
    let kind = match column.kind.as_str() {
        "bigint" => Kind::BigInt,
        "integer" => Kind::Integer,
        "smallint" => Kind::SmallInt,
        "bitfield" => Kind::BitField,
        "boolean" => Kind::Boolean,
        "text" | "slug" | "email" | "url" => Kind::Text,
        "datetime" => Kind::DateTime,
        "json" => Kind::Json,
        "uuid" => Kind::Uuid,
        "inet" => Kind::Inet,
        "float" => Kind::Float,
        "array" => Kind::Array(
            array_of(&sql)
                .ok_or_else(|| wrong(model, format!("field {}: unknown array {sql}", column.field)))?,
        ),
        other => return Err(wrong(model, format!("field {}: unknown type {other}", column.field))),
    };
    let default = match column.default {
        Some(Value::Null) => Default::Null,
        Some(Value::String(text)) if text.ends_with("()") => match text.as_str() {
            "now()" => Default::Now,
            "get_secure_token()" => Default::Generated(Generator::SecureToken),
            // Only models of other scopes have further functions, and those are never written.
            _ => Default::Required,
        },
        Some(value) => Default::Literal(value.to_string()),
        None if column.null => Default::Null,
        None if column.blank && kind == Kind::Text => Default::Literal("\"\"".to_owned()),
        None => Default::Required,
    };
    Ok(Column {
        field: column.field,
        column: column.column,
        kind,
        sql,
        // Some say 32 for a UUID, which is its length without hyphens.
        max_length: column.max_length.filter(|_| kind == Kind::Text),
        min: column.min,
        null: column.null,
        default,
        choices: column.choices.iter().map(Value::to_string).collect(),
        references: column.references,
        constrained: column.constrained,
        target: None,
    })
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

fn build_rule(
    model: &str,
    rule: file::Rule,
    find: &impl Fn(&str) -> Result<usize, CatalogError>,
    find_all: &impl Fn(&[String]) -> Result<Vec<usize>, CatalogError>,
) -> Result<Rule, CatalogError> {
    use file::Rule as F;
    Ok(match rule {
        F::Set { field, to: Value::String(text) } if text == "now()" => {
            Rule::SetNow { column: find(&field)? }
        }
        F::Set { field, to } => Rule::Set { column: find(&field)?, to: to.to_string() },
        F::Regenerate { field, with, if_set } => Rule::Regenerate { column: find(&field)?, with, if_set },
        F::RegenerateIfTaken { field, with, last_characters } => Rule::RegenerateIfTaken {
            column: find(&field)?,
            with,
            last_characters: last_characters.map(|field| find(&field)).transpose()?,
        },
        F::ClearIfTaken { field, also } => {
            Rule::ClearIfTaken { column: find(&field)?, also: find_all(&also)? }
        }
        F::MergeOrSuffix { field, max_length } => Rule::MergeOrSuffix { column: find(&field)?, max_length },
        F::ReuseExisting { field } => Rule::ReuseExisting { column: find(&field)? },
        F::SkipWhen { field, equals } => Rule::SkipWhen { column: find(&field)?, equals: equals.to_string() },
        F::SkipWhenExisting { reference } => Rule::SkipWhenExisting { reference: find(&reference)? },
        F::ClearIfUnmapped { field } => Rule::ClearIfUnmapped { column: find(&field)? },
        F::Follow { reference, copies } => Rule::Follow {
            reference: find(&reference)?,
            copies: copies
                .into_iter()
                .map(|(field, from)| Ok((find(&field)?, from)))
                .collect::<Result<_, CatalogError>>()?,
        },
        F::ExactlyOne { fields } => Rule::ExactlyOne { columns: find_all(&fields)? },
        F::AtMostOne { fields } => Rule::AtMostOne { columns: find_all(&fields)? },
        F::ScopeWhenSet { fields, scope } => Rule::ScopeWhenSet { columns: find_all(&fields)?, scope },
        F::ScopeFollows { reference } => Rule::ScopeFollows { reference: find(&reference)? },
        F::KeepFirst { fields } => Rule::KeepFirst { columns: find_all(&fields)? },
        F::Defer { until: file::Until::SlugsAreFinal } => Rule::Defer,
        F::HideUntilFinished { field, hidden, shown } => {
            Rule::HideUntilFinished { column: find(&field)?, hidden, shown }
        }
        F::OnlyIfReferred {} => Rule::OnlyIfReferred,
        F::GlobalSlug { field, from } => Rule::GlobalSlug { column: find(&field)?, from: find(&from)? },
        F::MergeAlike { fields: (one, other), highest } => Rule::MergeAlike {
            columns: [find(&one)?, find(&other)?],
            highest: find(&highest.field)?,
            order: highest.order,
        },
        F::NeedsOne { of, condition, set } => match condition.equals {
            Some(Value::String(equals)) => {
                Rule::NeedsOne { of: find(&of)?, column: find(&condition.field)?, equals, set: find(&set)? }
            }
            _ => return Err(wrong(model, "what one is needed of is said by a text")),
        },
        F::SlugFrom { field, from } => Rule::SlugFrom { column: find(&field)?, from: find(&from)? },
        F::FromActor { field, to } => Rule::FromActor { field, columns: find_all(&to)? },
        F::WarnOfAddress { field, address } => {
            Rule::WarnOfAddress { column: find(&field)?, address: find(&address)? }
        }
        F::KnownOptions { key, value, options } => {
            let mut known = Vec::with_capacity(options.len());
            for (name, option) in options {
                let option = match (option.is, option.one_of) {
                    (Some(file::Is::Timezone), None) => KnownOption::TimeZone,
                    (Some(file::Is::Language), None) => KnownOption::Language,
                    (Some(file::Is::Boolean), None) => KnownOption::Boolean,
                    (None, Some(values)) => KnownOption::OneOf(values),
                    _ => {
                        return Err(wrong(
                            model,
                            format!("option {name} says either what it is or what it is one of"),
                        ));
                    }
                };
                known.push((name, option));
            }
            Rule::KnownOptions { key: find(&key)?, value: find(&value)?, options: known }
        }
    })
}

/// What can only be checked with all models at hand.
fn check_references(catalog: &Catalog) -> Result<(), CatalogError> {
    for model in &catalog.models {
        let name = &model.name;
        let refers =
            |column: usize| model.columns.get(column).and_then(|column| column.references.as_deref());
        let is_optional =
            |column: usize| refers(column).is_some() && model.columns.get(column).is_some_and(|it| it.null);
        // What decides about a record before its references are mapped must hold after that too.
        let is_cleared = |index: usize| {
            model.rules.iter().any(|rule| match rule {
                Rule::ClearIfUnmapped { column } => *column == index,
                Rule::ClearIfTaken { column, also } => *column == index || also.contains(&index),
                Rule::AtMostOne { columns } | Rule::FromActor { columns, .. } => columns.contains(&index),
                _ => false,
            })
        };
        for column in &model.columns {
            let Some(target) = &column.references else { continue };
            if matches!(catalog.known(target), super::Known::Unknown) {
                return Err(wrong(
                    name,
                    format!("field {} refers to {target}, of which nothing is known", column.field),
                ));
            }
            if !matches!(column.kind, Kind::BigInt | Kind::Integer) {
                return Err(wrong(
                    name,
                    format!("field {} refers to {target} but is no integer", column.field),
                ));
            }
        }
        for rule in &model.rules {
            let needs_reference = match rule {
                Rule::SkipWhenExisting { reference }
                | Rule::ScopeFollows { reference }
                | Rule::Follow { reference, .. } => Some(*reference),
                Rule::NeedsOne { of, .. } => Some(*of),
                Rule::ClearIfUnmapped { column } => Some(*column),
                _ => None,
            };
            if needs_reference.is_some_and(|column| refers(column).is_none()) {
                return Err(wrong(name, "a rule about a reference names a field that is none"));
            }
            match rule {
                Rule::Follow { reference, copies } => {
                    let target = refers(*reference).and_then(|target| catalog.model(target));
                    for (_, from) in copies {
                        let returned = target.is_some_and(|target| {
                            target
                                .column(from)
                                .is_some_and(|column| target.returned_columns.contains(&column))
                        });
                        if !returned {
                            return Err(wrong(
                                name,
                                format!("follows {from}, which the model it refers to does not return"),
                            ));
                        }
                    }
                }
                Rule::ClearIfUnmapped { column } | Rule::ClearIfTaken { column, .. }
                    if !model.columns.get(*column).is_some_and(|column| column.null) =>
                {
                    return Err(wrong(name, "a rule clears a field that cannot be null"));
                }
                Rule::AtMostOne { columns } if !columns.iter().all(|column| is_optional(*column)) => {
                    return Err(wrong(name, "at most one of some references that can be null is set"));
                }
                Rule::ExactlyOne { columns } if columns.iter().any(|column| is_cleared(*column)) => {
                    return Err(wrong(name, "exactly one field is set, and another rule clears one of them"));
                }
                Rule::MergeAlike { columns, .. }
                    if model.silo != Silo::Region
                        || !columns.iter().all(|column| refers(*column).is_some())
                        || !model.unique.iter().any(|set| set.columns == *columns) =>
                {
                    return Err(wrong(name, "what is merged is a unique set of references in a region"));
                }
                Rule::NeedsOne { of, .. } if refers(*of) != Some(super::ORGANIZATION) => {
                    return Err(wrong(name, "only an organization needs one of something"));
                }
                Rule::SlugFrom { column, .. }
                    if model.unique.iter().filter(|set| set.columns.contains(column)).count() != 1 =>
                {
                    return Err(wrong(name, "a slug that is made is in one unique set"));
                }
                Rule::GlobalSlug { .. } if model.silo != Silo::Region || model.ids != Ids::Leased => {
                    return Err(wrong(
                        name,
                        "a model with a global slug lives in regions and leases its ids",
                    ));
                }
                Rule::ScopeWhenSet { scope, .. }
                    if !model.scopes.contains(scope) || scope.in_organization_scope() =>
                {
                    return Err(wrong(name, "a rule names a scope that takes no record away"));
                }
                _ => {}
            }
        }
        if model.in_organization_scope() && !model.scopes.iter().all(|scope| scope.in_organization_scope()) {
            let decided = model
                .rules
                .iter()
                .any(|rule| matches!(rule, Rule::ScopeWhenSet { .. } | Rule::ScopeFollows { .. }));
            if !decided || model.scopes.contains(&Scope::User) {
                return Err(wrong(name, "has scopes of which nothing says when"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"about": "", "removed_models": [], "removed_fields": {}, "excluded_models": ["x.gone"], "models": {
        "x.b": {"table": "b", "silo": "region", "scopes": ["organization"], "unique": [{"fields": ["a"]}],
          "columns": [{"field": "a", "column": "a_id", "type": "bigint", "references": "x.a"}]},
        "x.a": {"table": "a", "silo": "region", "scopes": ["organization"], "unique": [],
          "columns": [{"field": "n", "column": "n", "type": "text", "null": true}], "rules": [{"clear_if_taken": {"field": "n"}}]}}}"#;

    #[test]
    fn the_order_follows_the_references_not_the_file() {
        let catalog = Catalog::parse(GOOD).unwrap();
        let names: Vec<&str> = catalog.models().iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["x.a", "x.b"]);
    }

    #[test]
    fn a_catalog_that_contradicts_itself_is_refused_by_name() {
        for (from, to, complaint) in [
            (r#""references": "x.a""#, r#""references": "x.z""#, "x.z"),
            (r#"{"fields": ["a"]}"#, r#"{"fields": ["q"]}"#, "no field q"),
            (r#"{"field": "n"}"#, r#"{"field": "m"}"#, "no field m"),
            (r#""null": true"#, r#""null": false"#, "cannot be null"),
            (r#""type": "text""#, r#""type": "txt""#, "unknown type txt"),
            (
                r#""scopes": ["organization"], "unique": []"#,
                r#""scopes": ["organization", "global"], "unique": []"#,
                "nothing says when",
            ),
            (r#""unique": [],"#, r#""unique": [], "after": ["x.b"],"#, "no order"),
        ] {
            assert!(GOOD.contains(from));
            let error = Catalog::parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error} should speak of {complaint}");
        }
        assert!(Catalog::parse(&GOOD.replace("clear_if_taken", "no_such_verb")).is_err());
        let both = r#"[{"clear_if_taken": {"field": "n"}}, {"exactly_one": {"fields": ["n"]}}]"#;
        for (rules, complaint) in [
            (both, "another rule clears one of them"),
            (r#"[{"at_most_one": {"fields": ["n"]}}]"#, "references that can be null"),
        ] {
            let with = GOOD.replace(r#"[{"clear_if_taken": {"field": "n"}}]"#, rules);
            let error = Catalog::parse(&with).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error} should speak of {complaint}");
        }
    }
}
