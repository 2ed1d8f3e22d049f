//! Refuses a catalog that contradicts itself, and names model and field.

use super::{Catalog, ColumnType, Ids, IdsOf, Model, PathStep, Scope, Silo, Then};

/// A catalog that contradicts itself.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file is not JSON in the form of a catalog.
    #[error("the catalog is not in the form of one")]
    Form(#[from] serde_json::Error),
    /// The entry of a model contradicts itself or another entry.
    #[error("the catalog's model {model}: {what}")]
    Model {
        /// The name of the model; empty if the error is not about one model.
        model: String,
        /// What is wrong, with the field.
        what: String,
    },
}

pub(super) fn wrong(model: &str, what: impl Into<String>) -> CatalogError {
    CatalogError::Model { model: model.to_owned(), what: what.into() }
}

/// Runs the checks that need all models.
pub(super) fn check(catalog: &Catalog) -> Result<(), CatalogError> {
    for model in &catalog.models {
        check_releases(catalog, model)?;
        check_references(catalog, model)?;
        check_rules(catalog, model)?;
        check_scopes(model)?;
    }
    Ok(())
}

/// A release as numbers, e.g. `24.11`.
pub(crate) fn release(text: &str) -> Option<(u32, u32)> {
    let (year, month) = text.split_once('.')?;
    Some((year.parse().ok()?, month.parse().ok()?))
}

/// Releases must be in order: nothing ends before it begins, and nothing is newer than the newest release.
fn check_releases(catalog: &Catalog, model: &Model) -> Result<(), CatalogError> {
    let fields = model.columns.iter().map(|column| (&column.since, &column.until, column.field.as_str()));
    for (since, until, field) in std::iter::once((&model.since, &model.until, "")).chain(fields) {
        let [begin, end] = [since, until].map(|text| text.as_deref().map(release));
        let is_right = match (begin, end) {
            (Some(None), _) | (_, Some(None)) => false,
            (Some(Some(begin)), Some(Some(end))) => begin < end,
            _ => true,
        };
        if !is_right {
            let [since, until] = [since, until].map(|text| text.as_deref().unwrap_or("none"));
            let of = if field.is_empty() { String::new() } else { format!("field {field}: ") };
            let what = format!("{of}since ({since}) and until ({until}) must be releases, in this order");
            return Err(wrong(&model.name, what));
        }
        for release in [since, until].into_iter().flatten() {
            if !catalog.tables_version.knows(release) {
                let newest = &catalog.newest_release;
                let what = format!("{release} is newer than newest_release ({newest}): raise that");
                return Err(wrong(&model.name, what));
            }
        }
    }
    Ok(())
}

fn check_references(catalog: &Catalog, model: &Model) -> Result<(), CatalogError> {
    for column in &model.columns {
        let Some(target) = &column.references else { continue };
        if matches!(catalog.known(target), super::Known::Unknown) {
            return Err(wrong(
                &model.name,
                format!("field {} refers to {target}, of which nothing is known", column.field),
            ));
        }
        if !matches!(column.kind, ColumnType::BigInt | ColumnType::Integer) {
            return Err(wrong(
                &model.name,
                format!("field {} refers to {target} but is not an integer", column.field),
            ));
        }
    }
    Ok(())
}

fn check_rules(catalog: &Catalog, model: &Model) -> Result<(), CatalogError> {
    let rules = &model.rules;
    let require = |holds: bool, what: &str| if holds { Ok(()) } else { Err(wrong(&model.name, what)) };
    let refers = |column: usize| model.columns.get(column).and_then(|column| column.references.as_deref());
    let may_be_null = |column: &usize| model.columns.get(*column).is_some_and(|column| column.null);

    let references = rules
        .skip_when_existing
        .iter()
        .chain(&rules.clear_if_unmapped)
        .chain(&rules.scope_follows)
        .chain(rules.copied_columns.iter().map(|copied| &copied.reference))
        .chain(rules.needs_one.as_ref().map(|needs| &needs.of));
    for reference in references {
        require(
            refers(*reference).is_some(),
            "a rule about a reference names a field that is not a reference",
        )?;
    }
    for copied in &rules.copied_columns {
        let target = refers(copied.reference).and_then(|target| catalog.model(target));
        for (_, from) in &copied.copies {
            let returned = target.is_some_and(|target| {
                target.column(from).is_some_and(|column| target.returned_columns.contains(&column))
            });
            require(returned, &format!("copies {from}, which the model it refers to does not return"))?;
        }
    }
    let cleared_if_taken: Vec<usize> = rules
        .if_taken
        .iter()
        .filter_map(|taken| match &taken.then {
            Then::Clear { also } => Some(also.iter().copied().chain([taken.column])),
            Then::Regenerate { .. } => None,
        })
        .flatten()
        .collect();
    let cleared = rules.clear_if_unmapped.iter().chain(&cleared_if_taken);
    require(cleared.clone().all(may_be_null), "a rule clears a field that cannot be null")?;
    let is_optional = |column: &usize| refers(*column).is_some() && may_be_null(column);
    require(
        rules.at_most_one.iter().flatten().all(is_optional),
        "at most one of some references that can be null is set",
    )?;
    // `exactly_one` is checked before references are mapped and must hold afterwards too, so no rule may clear these
    // columns.
    let actor = rules.from_actor.iter().flat_map(|actor| &actor.columns);
    let mut cleared = cleared.chain(rules.at_most_one.iter().flatten()).chain(actor);
    require(
        !cleared.any(|column| rules.exactly_one.iter().any(|one| one.columns.contains(column))),
        "exactly one field is set, and another rule clears one of them",
    )?;
    for ids in &rules.nested_ids {
        let column = model.columns.get(ids.column);
        let is_search = matches!(ids.of, IdsOf::Terms(_)) && ids.paths.iter().all(Vec::is_empty);
        let holds = column.is_some_and(|column| {
            column.kind == ColumnType::Json
                || (column.kind == ColumnType::Text && column.max_length.is_none() && is_search)
        });
        require(holds, "ids are in JSON, or in a search, which is a text of any length")?;
        let in_list = |path: &Vec<PathStep>| path.contains(&PathStep::Each);
        require(
            !ids.removes_element || ids.paths.iter().all(in_list),
            "an element is taken out of a list, and a path has none",
        )?;
        let ends_in_list = |path: &Vec<PathStep>| path.last() == Some(&PathStep::Each);
        require(
            !(matches!(ids.of, IdsOf::Nothing) && ids.paths.iter().any(ends_in_list)),
            "an id that is forgotten becomes null, and is not an element of a list",
        )?;
        for name in ids.of.models() {
            if matches!(catalog.known(name), super::Known::Unknown) {
                return Err(wrong(&model.name, format!("ids are of {name}, of which nothing is known")));
            }
        }
    }
    for target in rules.references_by_type.iter().flat_map(|rule| rule.targets.values()) {
        require(catalog.model(target).is_some(), &format!("refers to {target}, which is not a model"))?;
    }
    for moves in &rules.moves {
        let kind = model.columns.get(moves.to).map(|column| column.kind);
        let wanted = if moves.if_contains.is_some() { ColumnType::Boolean } else { ColumnType::Text };
        require(
            model.is_removed_field(&moves.from) && kind == Some(wanted),
            "the value of a removed field moves to a text, or makes a boolean true",
        )?;
        let others = rules.moves.iter().filter(|other| other.to == moves.to || other.from == moves.from);
        require(others.count() == 1, "a removed field moves once, and to a field of its own")?;
    }
    if let Some(alike) = &rules.merge_alike {
        let is_set = model.unique.iter().any(|set| set.columns == alike.columns);
        require(
            model.silo == Silo::Region
                && alike.columns.iter().all(|column| refers(*column).is_some())
                && is_set,
            "what is merged is a unique set of references in a region",
        )?;
    }
    if let Some(needs) = &rules.needs_one {
        require(
            refers(needs.of) == Some(super::ORGANIZATION),
            "only an organization needs one of something",
        )?;
    }
    if let Some(added) = &rules.added_for {
        let of = refers(added.reference).and_then(|of| catalog.model(of));
        let is_field =
            |field: &str| of.is_some_and(|of| of.column(field).is_some() || of.is_removed_field(field));
        require(
            of.is_some_and(|of| of.silo == model.silo && of.in_organization_scope())
                && added.passed_on().all(is_field),
            "rows are added for records of a model of the same silo, with values of its fields",
        )?;
        let replaces_global = rules.global_slug.is_some() || rules.generated_slug.is_some();
        require(
            !replaces_global && model.returned_columns.is_empty(),
            "rows are added of a model with a slug",
        )?;
    }
    if let Some(slug) = rules.generated_slug {
        let sets = model.unique.iter().filter(|set| set.columns.contains(&slug.column)).count();
        require(sets == 1, "a generated slug is in one unique set")?;
        let most = model.columns.get(slug.column).and_then(|column| column.max_length);
        require(most.is_some(), "a generated slug has a greatest length")?;
    }
    if rules.global_slug.is_some() {
        require(
            model.silo == Silo::Region && model.ids == Ids::Leased,
            "a model with a global slug lives in regions and leases its ids",
        )?;
    }
    Ok(())
}

fn check_scopes(model: &Model) -> Result<(), CatalogError> {
    let rules = &model.rules;
    let all_in = model.scopes.iter().all(|scope| scope.in_organization_scope());
    if !rules.other_scope_when_set.is_empty() && all_in {
        return Err(wrong(&model.name, "a rule names a scope that the model has not"));
    }
    let is_decided = !rules.other_scope_when_set.is_empty() || rules.scope_follows.is_some();
    if model.in_organization_scope() && !all_in && (!is_decided || model.scopes.contains(&Scope::User)) {
        return Err(wrong(
            &model.name,
            "has scopes of both kinds, and no rule says which records have which",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"about": "", "newest_release": "26.6", "revision": 0, "removed_models": [], "removed_fields": {}, "excluded_models": ["x.gone"], "models": {
        "x.b": {"silo": "region", "scopes": ["organization"], "unique": [{"fields": ["a"]}],
          "columns": [{"field": "a", "type": "bigint", "references": "x.a"}]},
        "x.a": {"silo": "region", "scopes": ["organization"], "unique": [],
          "columns": [{"field": "n", "type": "text", "null": true}], "rules": [{"clear_if_taken": {"field": "n"}}]}}}"#;

    #[test]
    fn the_order_follows_the_references_not_the_file() {
        let catalog = Catalog::parse(GOOD).unwrap();
        let names: Vec<&str> = catalog.models().iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["x.a", "x.b"]);
    }

    #[test]
    fn nothing_is_newer_than_the_newest_release() {
        let since = |release: &str| {
            GOOD.replace(r#""unique": [],"#, &format!(r#""unique": [], "since": "{release}","#))
        };
        Catalog::parse(&since("26.6")).unwrap();
        let error = Catalog::parse(&since("26.10")).unwrap_err().to_string();
        assert!(
            error.contains("x.a") && error.contains("26.10 is newer than newest_release (26.6)"),
            "{error}"
        );
        let error = Catalog::parse(&GOOD.replace("26.6", "soon")).unwrap_err().to_string();
        assert!(error.contains("newest_release (soon) must be a release"), "{error}");
    }

    #[test]
    fn what_is_not_said_follows_from_what_is() {
        let catalog = GOOD.replace(
            r#"{"field": "n", "type": "text", "null": true}"#,
            r#"{"field": "n", "type": "text", "sql": "varchar(7)", "null": true}, {"field": "owner_id", "type": "bigint",
              "references": "x.gone", "null": true}, {"field": "at", "type": "datetime"}"#,
        );
        let catalog = Catalog::parse(&catalog).unwrap();
        let columns = |model: &str| -> Vec<(String, String, Option<usize>)> {
            let columns = &catalog.model(model).unwrap().columns;
            columns.iter().map(|it| (it.column.clone(), it.sql.clone(), it.max_length)).collect()
        };
        assert_eq!(catalog.model("x.b").unwrap().table, "x_b");
        assert_eq!(columns("x.b"), [("a_id".to_owned(), "bigint".to_owned(), None)]);
        let expected = [
            ("n".to_owned(), "varchar(7)".to_owned(), Some(7)),
            ("owner_id".to_owned(), "bigint".to_owned(), None),
            ("at".to_owned(), "timestamp with time zone".to_owned(), None),
        ];
        assert_eq!(columns("x.a"), expected);
    }

    #[test]
    fn a_catalog_that_contradicts_itself_is_refused_by_name() {
        for (from, to, problem) in [
            (r#""references": "x.a""#, r#""references": "x.z""#, "x.z"),
            (r#"{"fields": ["a"]}"#, r#"{"fields": ["q"]}"#, "no field q"),
            (r#"{"field": "n"}"#, r#"{"field": "m"}"#, "no field m"),
            (r#""null": true"#, r#""null": false"#, "cannot be null"),
            (r#""type": "text""#, r#""type": "txt""#, "unknown type txt"),
            (
                r#""scopes": ["organization"], "unique": []"#,
                r#""scopes": ["organization", "global"], "unique": []"#,
                "no rule says which records",
            ),
            (r#""unique": [],"#, r#""unique": [], "after": ["x.b"],"#, "no order"),
        ] {
            assert!(GOOD.contains(from));
            let error = Catalog::parse(&GOOD.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error} should speak of {problem}");
        }
        assert!(Catalog::parse(&GOOD.replace("clear_if_taken", "no_such_verb")).is_err());
        let both = r#"[{"clear_if_taken": {"field": "n"}}, {"exactly_one": {"fields": ["n"]}}]"#;
        for (rules, problem) in [
            (both, "another rule clears one of them"),
            (r#"[{"at_most_one": {"fields": ["n"]}}]"#, "references that can be null"),
            (r#"[{"moves": {"from": "o", "to": "n"}}]"#, "a removed field moves to a text"),
        ] {
            let with = GOOD.replace(r#"[{"clear_if_taken": {"field": "n"}}]"#, rules);
            let error = Catalog::parse(&with).unwrap_err().to_string();
            assert!(error.contains(problem), "{error} should speak of {problem}");
        }
    }
}
