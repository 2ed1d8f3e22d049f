//! Which part of the catalog a database supports. A database of the product may be of an older or newer
//! release than the newest one that the catalog knows: tables and columns are missing in it, and its columns
//! have other types and lengths, and other rules about null. Everything that reads, checks and writes records
//! for it uses the catalog that is made here.

use std::collections::BTreeMap;

use super::compare::{Actual, Tables, UniqueIndex};
use crate::catalog::{
    ArrayOf, Catalog, Column, ColumnType, CopiedColumns, Default, Model, Move, Silo, SqlType, TakenName,
    UniqueSet,
};

impl Catalog {
    /// This catalog as far as the tables of a silo take it. Models and columns keep their positions.
    #[must_use]
    pub fn fitted(&self, silo: Silo, tables: &Tables) -> Self {
        let mut catalog = self.clone();
        catalog.change_written(silo, |model| fit(model, tables, self.newest_release()));
        catalog.note_added();
        catalog
    }

    /// This catalog with limits on the texts that rows of another model copy: they must fit there too. The other model may
    /// be in the other silo, so the catalog must have been fitted to the tables of both.
    #[must_use]
    pub fn with_copies_that_fit(mut self) -> Self {
        let limits = limits_of_copies(&self);
        for silo in [Silo::Control, Silo::Region] {
            self.change_written(silo, |model| {
                for (_, field, most) in limits.iter().filter(|(of, _, _)| *of == model.name) {
                    let position = model.column(field);
                    if let Some(column) = position.and_then(|position| model.columns.get_mut(position)) {
                        column.max_length = Some(column.max_length.map_or(*most, |length| length.min(*most)));
                    }
                }
            });
        }
        self
    }

    /// Why no import can write into the tables of a silo that belong to the product: a sentence for each reason. Empty if
    /// one can, and if Causeway created the tables.
    #[must_use]
    pub fn unfit(&self, silo: Silo, tables: &Tables) -> Vec<String> {
        let essential =
            self.written().filter(|model| tables.of_product && model.silo == silo && model.is_essential());
        let newest = self.newest_release();
        let of_model = |model: &Model| {
            let columns = tables.columns_of(&model.table);
            let mut model = model.clone();
            columns.inspect(|columns| take_other_names(&mut model, columns));
            misfits(&model, columns, newest)
        };
        essential.flat_map(of_model).collect()
    }
}

/// Fits a model to its table.
fn fit(model: &mut Model, tables: &Tables, newest: &str) {
    let Some(columns) = tables.columns_of(&model.table) else {
        model.has_table = false;
        let known = releases(model.since.as_deref(), model.until.as_deref());
        model.not_importable = Some(format!("the database has no table {}{known}", model.table));
        return;
    };
    if tables.of_product {
        take_other_names(model, columns);
    }
    let misfits = if tables.of_product { misfits(model, Some(columns), newest) } else { Vec::new() };
    if !misfits.is_empty() {
        model.not_importable = Some(misfits.join("; "));
    }
    // Causeway adds no index to a table of the product.
    model.has_folded_index = !tables.of_product;
    if let Some(id) = columns.get("id").and_then(|id| SqlType::parse(&id.sql)) {
        model.id_type = id;
    }
    for column in &mut model.columns {
        match columns.get(&column.column) {
            Some(actual) => fit_column(column, actual, tables.of_product),
            None => {
                column.is_stored = false;
                column.not_stored = releases(column.since.as_deref(), column.until.as_deref());
            }
        }
    }
    if let Some(TakenName { column, suffix_up_to: Some(most) }) = &mut model.rules.taken_name
        && let Some(length) = model.columns.get(*column).and_then(|column| column.max_length)
        && tables.of_product
    {
        *most = length;
    }
    let is_stored = |column: usize| model.columns.get(column).is_some_and(|column| column.is_stored);
    // A table without one of the columns does not have the set. Without the column of its condition, it holds
    // for every row.
    model.unique.retain(|set| set.columns.iter().all(|column| is_stored(*column)));
    for set in &mut model.unique {
        set.condition = set.condition.take().filter(|condition| is_stored(condition.column));
    }
    model.rules.if_taken.retain(|taken| is_stored(taken.column));
    if let Some(unique) = &tables.unique {
        let indexes = unique.get(&model.table);
        fit_unique(model, indexes.into_iter().flatten());
    }
}

/// Gives columns the names that they have in a database of another release: where it lacks the column of a field and has
/// one for another name of the field. Of releases that have two fields where the newest one has one, each has its column.
fn take_other_names(model: &mut Model, columns: &BTreeMap<String, Actual>) {
    for column in &mut model.columns {
        if columns.contains_key(&column.column) {
            continue;
        }
        let find = |names: &[String]| names.iter().find(|name| columns.contains_key(*name)).cloned();
        if let Some(other) = find(&column.other_columns) {
            column.column = other;
        } else if let Some(opposite) = find(&column.opposite_of) {
            column.column = opposite;
            column.is_opposite = true;
        }
    }
    for Move { from, to, if_contains } in model.rules.moves.clone() {
        let of = model.columns.get(to).filter(|_| if_contains.is_none() && columns.contains_key(&from));
        if let Some(of) = of {
            let column = Column {
                field: from.clone(),
                column: from.clone(),
                default: Default::SameAs(to),
                null: true,
                other_columns: Vec::new(),
                opposite_of: Vec::new(),
                ..of.clone()
            };
            model.keep_moved(&from, column);
        }
    }
}

/// Which releases have a model or field, as the end of a sentence; empty if all of the catalog have it.
fn releases(since: Option<&str>, until: Option<&str>) -> String {
    match (since, until) {
        (None, None) => String::new(),
        (Some(since), None) => format!(", which releases from {since} on have"),
        (None, Some(until)) => format!(", which releases before {until} had"),
        (Some(since), Some(until)) => format!(", which releases from {since} on and before {until} had"),
    }
}

/// Fits the unique sets of a model to the unique indexes of its table. A release may have more of them than the newest one
/// of the catalog, or fewer. Sets that a rule is about stay in any case.
fn fit_unique<'a>(model: &mut Model, indexes: impl Iterator<Item = &'a UniqueIndex> + Clone) {
    model.has_deferred_index = indexes.clone().any(|index| index.deferred);
    let name = |column: &usize| model.columns.get(*column).map(|column| column.column.as_str());
    let is_within = |index: &UniqueIndex, set: &UniqueSet| {
        index.columns.iter().all(|wanted| set.columns.iter().any(|column| name(column) == Some(wanted)))
    };
    let mut sets: Vec<UniqueSet> = model
        .unique
        .iter()
        .filter(|set| model.has_rule_about(set) || indexes.clone().any(|index| is_within(index, set)))
        .cloned()
        .collect();
    for index in indexes.filter(|index| !index.conditional) {
        let position = |wanted: &String| {
            model.columns.iter().position(|column| &column.column == wanted && column.is_stored)
        };
        // Nothing is written into a column that the catalog does not know.
        let Some(columns) = index.columns.iter().map(position).collect::<Option<Vec<usize>>>() else {
            continue;
        };
        for set in sets.iter_mut().filter(|set| is_within(index, set)) {
            set.condition = None;
        }
        if !sets.iter().any(|set| set.columns.iter().all(|column| columns.contains(column))) {
            sets.push(UniqueSet { columns, condition: None });
        }
    }
    model.unique = sets;
}

/// Fits a column to what the database takes.
fn fit_column(column: &mut Column, actual: &Actual, of_product: bool) {
    column.is_needed = column.null && !actual.null;
    let Some(sql) = SqlType::parse(&actual.sql) else { return };
    let length = |known: Option<usize>| match (known, sql.max_length()) {
        // The product may have made its column longer than any release that the catalog knows.
        (_, actual) if of_product => actual,
        (Some(known), Some(actual)) => Some(known.min(actual)),
        (known, actual) => known.or(actual),
    };
    match &mut column.kind {
        ColumnType::Array(ArrayOf::Text(most)) => *most = length(*most),
        _ => column.max_length = length(column.max_length),
    }
    // A reference gets a new primary key in any case.
    if let (ColumnType::BigInt | ColumnType::Integer, Some(kind), None) =
        (column.kind, sql.integer(), &column.references)
    {
        column.kind = kind;
    }
    if column.fits(&sql) {
        column.sql.clone_from(&actual.sql);
    }
}

/// The models and fields that rows of other models copy, each with the length of a column that gets the copy.
fn limits_of_copies(catalog: &Catalog) -> Vec<(String, String, usize)> {
    let mut limits = Vec::new();
    for model in catalog.written() {
        for CopiedColumns { reference, copies } in &model.rules.copied_columns {
            let of = model.columns.get(*reference).and_then(|column| column.references.as_ref());
            for (column, from) in copies {
                let copy = model.columns.get(*column).filter(|column| column.is_stored);
                if let (Some(of), Some(most)) = (of, copy.and_then(|column| column.max_length)) {
                    limits.push((of.clone(), from.clone(), most));
                }
            }
        }
    }
    limits
}

/// Why no record of a model can be written into its table of the product, which is in PostgreSQL: a sentence
/// for each reason. `None` is a table that does not exist.
fn misfits(model: &Model, columns: Option<&BTreeMap<String, Actual>>, newest: &str) -> Vec<String> {
    let table = &model.table;
    let Some(columns) = columns else { return vec![format!("table {table} is missing")] };
    let mut found = Vec::new();
    match columns.get("id") {
        None => found.push(format!("table {table} has no column id")),
        Some(id) if !matches!(id.sql.as_str(), "bigint" | "integer") => {
            found.push(format!("column {table}.id is {} and not bigint or integer", id.sql));
        }
        Some(id) if !model.leases_ids() && !id.has_default => {
            found.push(format!("column {table}.id has no sequence of its own"));
        }
        Some(_) => {}
    }
    for column in &model.columns {
        match columns.get(&column.column) {
            None if model.is_essential() && column.since.is_none() => {
                found.push(format!("table {table} has no column {}", column.column));
            }
            None => {}
            Some(actual) if SqlType::parse(&actual.sql).is_some_and(|sql| column.fits(&sql)) => {}
            Some(actual) => found.push(format!(
                "column {table}.{} is {}, which takes no value of type {}",
                column.column, actual.sql, column.sql
            )),
        }
    }
    for (name, actual) in columns {
        let known = name == "id" || model.columns.iter().any(|column| &column.column == name);
        if !known && !actual.null && !actual.has_default {
            found.push(format!(
                "column {table}.{name} needs a value and the catalog, which knows the releases up to {newest}, does not know it"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(of_product: bool, change: impl Fn(&str, &str, &mut Actual) -> bool) -> Tables {
        let catalog = Catalog::load().unwrap();
        let mut columns: BTreeMap<String, BTreeMap<String, Actual>> = BTreeMap::new();
        for model in catalog.written() {
            let table = columns.entry(model.table.clone()).or_default();
            let id = Actual { sql: "bigint".to_owned(), null: false, has_default: true };
            let known = model.columns.iter().map(|column| {
                let actual = Actual { sql: column.sql.clone(), null: column.null, has_default: false };
                (column.column.clone(), actual)
            });
            for (name, mut actual) in std::iter::once(("id".to_owned(), id)).chain(known) {
                if change(&model.table, &name, &mut actual) {
                    table.insert(name, actual);
                }
            }
        }
        Tables { columns, unique: None, of_product }
    }

    fn column<'a>(catalog: &'a Catalog, model: &str, field: &str) -> &'a Column {
        let model = catalog.model(model).unwrap();
        &model.columns[model.column(field).unwrap()]
    }

    #[test]
    fn a_catalog_that_fits_stays_as_it_is() {
        let catalog = Catalog::load().unwrap();
        let whole = tables(false, |_, _, _| true);
        let fitted = catalog.fitted(Silo::Region, &whole).fitted(Silo::Control, &whole);
        assert_eq!(format!("{fitted:?}").len(), format!("{catalog:?}").len());
        assert_eq!(catalog.unfit(Silo::Region, &tables(true, |_, _, _| true)), [] as [String; 0]);
    }

    #[test]
    fn a_column_is_narrowed_to_what_the_database_takes() {
        let catalog = Catalog::load().unwrap();
        let narrower = tables(true, |table, name, actual| {
            match (table, name) {
                ("sentry_groupsearchview", "position") => actual.null = false,
                ("sentry_groupsearchview", "visibility") => return false,
                ("sentry_project", "slug") => actual.sql = "varchar(50)".to_owned(),
                ("sentry_snubaquery", "group_by") => actual.sql = "varchar(9)[]".to_owned(),
                ("sentry_snubaquery", "time_window") => actual.sql = "smallint".to_owned(),
                ("sentry_projectownership", "schema") => actual.sql = "jsonb".to_owned(),
                ("sentry_organizationmember_teams", "id") => actual.sql = "integer".to_owned(),
                _ => {}
            }
            true
        });
        let fitted = catalog.fitted(Silo::Region, &narrower);
        assert!(!column(&catalog, "sentry.groupsearchview", "position").is_needed);
        assert!(column(&fitted, "sentry.groupsearchview", "position").is_needed);
        assert!(!column(&fitted, "sentry.groupsearchview", "name").is_needed);
        let visibility = column(&fitted, "sentry.groupsearchview", "visibility");
        assert!(!visibility.is_stored);
        assert_eq!(visibility.not_stored, ", which releases from 25.2 on have");
        assert_eq!(column(&fitted, "sentry.project", "slug").max_length, Some(50));
        let texts = ColumnType::Array(ArrayOf::Text(Some(9)));
        assert_eq!(column(&fitted, "sentry.snubaquery", "group_by").kind, texts);
        assert_eq!(column(&fitted, "sentry.snubaquery", "time_window").kind, ColumnType::SmallInt);
        assert_eq!(column(&fitted, "sentry.projectownership", "schema").sql, "jsonb");
        assert_eq!(fitted.model("sentry.organizationmemberteam").unwrap().id_type, SqlType::Integer);
        assert_ne!(narrower.fingerprint(), tables(true, |_, _, _| true).fingerprint());
    }

    #[test]
    fn columns_have_the_names_of_the_database() {
        let catalog = Catalog::load().unwrap();
        let (source, condition) = ("workflow_engine.datasource", "workflow_engine.datacondition");
        let fitted = |of_product: bool, lacks: [&str; 2]| {
            let mut tables = tables(of_product, |_, name, _| !lacks.contains(&name));
            for (table, name, sql) in [
                ("workflow_engine_datasource", "query_id", "bigint"),
                ("sentry_dashboardpermissions", "is_creator_only_editable", "boolean"),
                ("workflow_engine_datacondition", "condition", "varchar(200)"),
            ] {
                let actual = Actual { sql: sql.to_owned(), null: false, has_default: false };
                tables.columns.get_mut(table).unwrap().insert(name.to_owned(), actual);
            }
            catalog.fitted(Silo::Region, &tables)
        };
        let older = fitted(true, ["source_id", "is_editable_by_everyone"]);
        for name in [source, condition, "sentry.dashboardpermissions"] {
            assert_eq!(older.model(name).unwrap().not_importable, None, "{name}");
        }
        let query = column(&older, source, "source_id");
        assert_eq!(
            (query.column.as_str(), query.sql.as_str(), query.is_stored),
            ("query_id", "bigint", true)
        );
        let set = &older.model(source).unwrap().unique[0];
        let kind = older.model(source).unwrap().column("type").unwrap();
        assert!(set.columns.contains(&kind), "the set stays");
        let permissions = column(&older, "sentry.dashboardpermissions", "is_editable_by_everyone");
        assert!(permissions.is_opposite && permissions.column == "is_creator_only_editable");
        // What moves elsewhere has a place of its own here, and is not left out.
        let model = older.model(condition).unwrap();
        assert_eq!(
            column(&older, condition, "condition").default,
            Default::SameAs(model.column("type").unwrap())
        );
        assert!(column(&older, condition, "condition").is_needed && !model.is_removed_field("condition"));
        assert_eq!(model.rules.moves.len(), 0);
        // A column of the newest name is the one, and tables that Causeway created have no other.
        let both = fitted(true, ["", ""]);
        assert_eq!(column(&both, source, "source_id").column, "source_id");
        assert!(!column(&both, "sentry.dashboardpermissions", "is_editable_by_everyone").is_opposite);
        assert!(
            both.model(source).unwrap().not_importable.as_ref().unwrap().contains("query_id needs a value")
        );
        let own = fitted(false, ["source_id", "is_editable_by_everyone"]);
        assert!(!column(&own, source, "source_id").is_stored);
        assert_eq!(own.model(condition).unwrap().rules.moves.len(), 1);
    }

    #[test]
    fn lengths_are_those_of_the_products_columns() {
        let catalog = Catalog::load().unwrap();
        let change = |table: &str, name: &str, actual: &mut Actual| {
            match (table, name) {
                ("sentry_team", "name") => actual.sql = "varchar(300)".to_owned(),
                ("sentry_team", "slug") => actual.sql = "text".to_owned(),
                ("sentry_snubaquery", "group_by") => actual.sql = "varchar(900)[]".to_owned(),
                ("sentry_organizationmember", "user_email") => actual.sql = "varchar(90)".to_owned(),
                ("auth_user", "email") => actual.sql = "varchar(250)".to_owned(),
                ("auth_user", "username") => actual.sql = "varchar(100)".to_owned(),
                _ => {}
            }
            true
        };
        let product = tables(true, change);
        let fitted = |tables: &Tables| catalog.fitted(Silo::Region, tables).fitted(Silo::Control, tables);
        let (of_product, own) = (fitted(&product), fitted(&tables(false, change)));
        let known = |model: &str, field: &str| column(&catalog, model, field).max_length;
        for (field, length) in [("name", Some(300)), ("slug", None)] {
            assert_eq!(column(&of_product, "sentry.team", field).max_length, length, "{field}");
            assert_eq!(column(&own, "sentry.team", field).max_length, known("sentry.team", field), "{field}");
        }
        let group_by = |catalog: &Catalog| column(catalog, "sentry.snubaquery", "group_by").kind;
        assert_eq!(group_by(&of_product), ColumnType::Array(ArrayOf::Text(Some(900))));
        assert_eq!(group_by(&own), group_by(&catalog));
        // A member copies the address.
        assert_eq!(column(&of_product, "sentry.user", "email").max_length, Some(250));
        let limited = of_product.clone().with_copies_that_fit();
        assert_eq!(column(&limited, "sentry.user", "email").max_length, Some(90));
        let email = known("sentry.user", "email");
        assert_eq!(column(&catalog.clone().with_copies_that_fit(), "sentry.user", "email").max_length, email);
        let suffix =
            |catalog: &Catalog| catalog.model("sentry.user").unwrap().rules.taken_name.unwrap().suffix_up_to;
        assert_eq!((suffix(&of_product), suffix(&own)), (Some(100), Some(128)));
    }

    /// Without its column there is no set, and nothing to look up.
    #[test]
    fn sets_and_rules_of_missing_columns_are_gone() {
        let catalog = Catalog::load().unwrap();
        let without =
            tables(true, |_, name, _| !matches!(name, "email_unique" | "prebuilt_id" | "external_id"));
        let fitted = catalog.fitted(Silo::Region, &without).fitted(Silo::Control, &without);
        let rules = |catalog: &Catalog| catalog.model("sentry.user").unwrap().rules.if_taken.len();
        assert_eq!(rules(&fitted) + 1, rules(&catalog));
        let sets = |catalog: &Catalog, model: &str| catalog.model(model).unwrap().unique.len();
        assert_eq!(sets(&fitted, "sentry.project") + 1, sets(&catalog, "sentry.project"));
        let dashboard = fitted.model("sentry.dashboard").unwrap();
        assert!(dashboard.unique.iter().all(|set| set.condition.is_none()), "{:?}", dashboard.unique);
    }

    /// Sets that are missing in the database are gone, unless a rule is about them; those that only the
    /// database has are there.
    #[test]
    fn unique_sets_are_those_of_the_database() {
        let catalog = Catalog::load().unwrap();
        let sets = |unique: &[(&str, &[&str], bool)], model: &str| {
            let mut tables = tables(true, |_, _, _| true);
            let mut indexes: BTreeMap<String, std::collections::BTreeSet<UniqueIndex>> = BTreeMap::new();
            for (table, columns, conditional) in unique {
                let columns = columns.iter().map(|column| (*column).to_owned()).collect();
                let index = UniqueIndex { columns, conditional: *conditional, deferred: false };
                indexes.entry((*table).to_owned()).or_default().insert(index);
            }
            tables.unique = Some(indexes);
            let fitted = catalog.fitted(Silo::Region, &tables);
            let model = fitted.model(model).unwrap();
            let named = |set: &UniqueSet| {
                let mut names: Vec<String> =
                    set.columns.iter().map(|column| model.columns[*column].column.clone()).collect();
                names.sort_unstable();
                (names.join(" "), set.condition.is_some())
            };
            model.unique.iter().map(named).collect::<Vec<_>>()
        };
        let views = "sentry.groupsearchview";
        assert_eq!(sets(&[], views), []);
        let positions: &[&str] = &["organization_id", "position", "user_id"];
        let table = "sentry_groupsearchview";
        let whole = [("organization_id position user_id".to_owned(), false)];
        assert_eq!(sets(&[(table, positions, false)], views), whole);
        // A condition that is not known would refuse what the database takes.
        assert_eq!(sets(&[(table, positions, true)], views), []);
        // Of columns that nothing is written into.
        assert_eq!(sets(&[(table, &["organization_id", "unknown"], false)], views), []);
        let dashboard = "sentry.dashboard";
        let title = ("organization_id title".to_owned(), false);
        let prebuilt = "organization_id prebuilt_id";
        assert_eq!(sets(&[("sentry_dashboard", &["organization_id", "title"], false)], dashboard), [title]);
        let both: [(&str, &[&str], bool); 2] = [
            ("sentry_dashboard", &["organization_id", "title"], false),
            ("sentry_dashboard", &["organization_id", "prebuilt_id"], true),
        ];
        assert_eq!(sets(&both, dashboard).len(), 2);
        assert!(sets(&both, dashboard).iter().any(|(columns, _)| columns == prebuilt));
        // A rule makes slugs of projects that are unique in an organization.
        assert_eq!(sets(&[], "sentry.project"), [("organization_id slug".to_owned(), false)]);
        let without = tables(true, |_, _, _| true).fingerprint();
        let mut with = tables(true, |_, _, _| true);
        let index = UniqueIndex { columns: vec!["slug".to_owned()], conditional: false, deferred: false };
        with.unique = Some([("sentry_team".to_owned(), [index].into())].into());
        assert_ne!(with.fingerprint(), without);
    }

    #[test]
    fn a_table_into_which_nothing_can_be_written_is_named() {
        let catalog = Catalog::load().unwrap();
        for (sought, change) in [
            ("table sentry_organization is missing", ("sentry_organization", "*", "")),
            ("table sentry_organization has no column id", ("sentry_organization", "id", "")),
            ("column sentry_organization.id is text", ("sentry_organization", "id", "text")),
            ("table sentry_organization has no column slug", ("sentry_organization", "slug", "")),
            ("column sentry_organization.slug is bytea", ("sentry_organization", "slug", "bytea")),
            (
                "column sentry_organizationmember.id has no sequence",
                ("sentry_organizationmember", "id", "no sequence"),
            ),
        ] {
            let (table, name, sql) = change;
            let mut broken = tables(true, |of, column, actual| {
                if of == table && column == name && sql == "no sequence" {
                    actual.has_default = false;
                } else if of == table && column == name {
                    sql.clone_into(&mut actual.sql);
                    return !sql.is_empty();
                }
                true
            });
            if name == "*" {
                broken.columns.remove(table);
            }
            let unfit = catalog.unfit(Silo::Region, &broken);
            assert!(unfit.iter().any(|reason| reason.starts_with(sought)), "{sought}: {unfit:?}");
        }
        let mut unknown = tables(true, |_, _, _| true);
        let needed = Actual { sql: "integer".to_owned(), null: false, has_default: false };
        for table in ["sentry_organization", "sentry_dashboard"] {
            unknown.columns.get_mut(table).unwrap().insert("newer".to_owned(), needed.clone());
        }
        let newest = catalog.newest_release();
        let named = format!(
            "needs a value and the catalog, which knows the releases up to {newest}, does not know it"
        );
        let unfit = catalog.unfit(Silo::Region, &unknown);
        assert_eq!(unfit, [format!("column sentry_organization.newer {named}")]);
        // A model that an import does not need is left out instead. Its rows are still there for a revert.
        let fitted = catalog.fitted(Silo::Region, &unknown);
        let dashboard = fitted.model("sentry.dashboard").unwrap();
        assert_eq!(dashboard.not_importable, Some(format!("column sentry_dashboard.newer {named}")));
        assert!(dashboard.has_table);
        assert_eq!(fitted.model("sentry.team").unwrap().not_importable, None);
        unknown.columns.remove("sentry_dashboard");
        let fitted = catalog.fitted(Silo::Region, &unknown);
        let dashboard = fitted.model("sentry.dashboard").unwrap();
        assert_eq!(dashboard.not_importable.as_deref(), Some("the database has no table sentry_dashboard"));
        assert!(!dashboard.has_table);
        for (model, known) in [
            ("workflow_engine.detector", ", which releases from 24.9 on have"),
            ("sentry.projecttemplate", ", which releases before 26.4 had"),
        ] {
            let table = catalog.model(model).unwrap().table.clone();
            unknown.columns.remove(&table);
            let fitted = catalog.fitted(Silo::Region, &unknown);
            let reason = fitted.model(model).unwrap().not_importable.clone();
            assert_eq!(reason, Some(format!("the database has no table {table}{known}")));
        }
    }
}
