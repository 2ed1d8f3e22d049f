//! `docs/models.md`, which is made from the catalog: each model, since when, where it lands, and its rules. The test
//! compares the page with the catalog, and writes it with
//! `CAUSEWAY_BLESS=1 cargo test -p causeway-relocation --lib page`.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use super::{
    Scope, Silo,
    file::{self, Rule},
};

const HEAD: &str = "# Models

This page is made from [the catalog](../relocation/catalog.json); `CAUSEWAY_BLESS=1 cargo test -p causeway-relocation
--lib page` brings it up to date. [design/catalog.md](design/catalog.md) explains the catalog, and
[adding-a-model.md](adding-a-model.md) how to change it.

The catalog knows the releases from 24.8 to NEWEST, and reads older ones. *Since* is the first release that has a model, if
it is later than 24.8; *gone in* is the first release that no longer has it.

";

const IMPORTED: &str = "## Imported with organizations

The default for every record: each reference gets the new primary key of what it refers to; a record with a reference to
something that is not imported is dropped with a warning, also if the reference may be null; the record gets a new
primary key and is inserted, with all other values as the file has them. Fields that are missing take their default.
*Rules* is where a model differs from that.

An import writes a row for a record, and few rows besides: where a rule says that a row is added, the product makes it when
it saves what the row is for, or older releases have its values in another record. Each is reported (`ROW_ADDED`).

| model | since | gone in | lands in | rules, and why |
| --- | --- | --- | --- | --- |
";

const OTHER_SCOPES: &str = "
## Of other scopes

An import of organizations does not take these. A record that belongs to something that is imported is a warning
(`OUT_OF_SCOPE`); for some models it says what the application lacks then.

| model | since | gone in | scope | what it says |
| --- | --- | --- | --- | --- |
";

/// What happens by a rule, and why.
fn sentence(rule: &Rule) -> String {
    let all = |fields: &[String]| fields.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ");
    match rule {
        Rule::Set { field, to } if to == "now()" => format!("`{field}` becomes the time of the import"),
        Rule::Set { field, to } => format!("`{field}` becomes `{to}`"),
        Rule::Regenerate { field, if_set: true, .. } => {
            format!("`{field}` gets a new value if it has one")
        }
        Rule::Regenerate { field, .. } => format!("`{field}` gets a new value"),
        Rule::RegenerateIfTaken { field, .. } => format!(
            "`{field}` gets a new value if it is missing or another row has it: no two rows may have the same"
        ),
        Rule::ClearIfTaken { field, also, ignores_case } if also.is_empty() => format!(
            "`{field}` becomes null if another row has the value{}: no two rows may have the same",
            if *ignores_case { ", in any case of its letters" } else { "" }
        ),
        Rule::ClearIfTaken { field, also, .. } => format!(
            "`{field}`, and with it {}, becomes null if another row has the value: no two rows may have the same",
            all(also)
        ),
        Rule::MergeOrSuffix { field, max_length } => format!(
            "if another row has the `{field}`, in any case of its letters: the user is merged into that row if the import \
             merges users, and otherwise gets a suffix (at most {max_length} characters), because a name signs in one person"
        ),
        Rule::ReuseExisting { field } => {
            format!("if a row has the `{field}`, the record becomes that row: it says no more than that")
        }
        Rule::SkipWhen { field, equals } => format!("dropped if `{field}` is `{equals}`"),
        Rule::SkipWhenExisting { reference } => format!(
            "dropped if `{reference}` is a user who was here before: what that user has is not touched"
        ),
        Rule::ReferenceByType { field, kind, targets, keeps_other_types: true, .. } => {
            let targets: Vec<String> = targets.iter().map(|(kind, of)| format!("{kind}: `{of}`")).collect();
            format!(
                "`{field}` is mapped if it is a primary key, as `{kind}` says ({}); dropped if it leads to nothing imported",
                targets.join(", ")
            )
        }
        Rule::IdsIn { field, at, forgets: true, .. } => format!(
            "ids in `{field}` at {} become null: nothing reads them, and their new ids are not known then",
            all(at)
        ),
        Rule::IdsIn { field, when, at, of, targets, terms, removes_element, .. } => {
            let models: BTreeSet<String> = of
                .iter()
                .chain(targets.values().flatten())
                .chain(terms.values())
                .map(|it| format!("`{it}`"))
                .collect();
            let models = models.into_iter().collect::<Vec<_>>().join(" or ");
            let whose = when.as_ref().map_or(String::new(), |when| {
                let is: Vec<String> = when.is.iter().map(|is| format!("`{is}`")).collect();
                format!(" of a record whose `{}` is {}", when.field, is.join(" or "))
            });
            let places: Vec<String> = at.iter().map(|at| format!("`{at}`")).collect();
            let places = if at.is_empty() { String::new() } else { format!(" at {}", places.join(", ")) };
            let what = if terms.is_empty() { "ids" } else { "ids in searches, as `project.id:5`," };
            let lost = if *removes_element {
                "what has one of nothing imported is taken out"
            } else {
                "cleared if not imported"
            };
            format!("{what} of {models} in `{field}`{whose}{places} are mapped; {lost}")
        }
        Rule::ReferenceByType { field, kind, targets, .. } => {
            let targets: Vec<String> = targets.iter().map(|(kind, of)| format!("{kind}: `{of}`")).collect();
            format!(
                "`{field}` is the primary key of a record whose model `{kind}` names ({}); dropped if the type is another \
                 one, because nobody could say where it leads",
                targets.join(", ")
            )
        }
        Rule::HashOf { field, of } => {
            format!("`{field}` is the hash of `{of}`, and follows if primary keys in that change")
        }
        Rule::ClearIfUnmapped { field } => {
            format!("`{field}` becomes null if it leads to nothing imported: the record is of use without it")
        }
        Rule::CopyColumns { reference, copies } => {
            let copies: Vec<String> =
                copies.iter().map(|(field, from)| format!("`{field}` (from `{from}`)")).collect();
            format!(
                "copies from the row of `{reference}`, which may have existed before: {}",
                copies.join(", ")
            )
        }
        Rule::ExactlyOne { fields, or_none: false } => format!("exactly one of {} is set", all(fields)),
        Rule::ExactlyOne { fields, .. } => format!("at most one of {} is set", all(fields)),
        Rule::AtMostOne { fields } => {
            format!("if several of {} are set, the first one stays: the application allows one", all(fields))
        }
        Rule::ScopeWhenSet { fields, .. } => {
            format!("of another scope if one of {} is set: that leads to what is not imported", all(fields))
        }
        Rule::ScopeFollows { reference } => format!("of the same scope as its `{reference}`"),
        Rule::KeepFirst { fields } => {
            format!("the first record with the same {} is written: the application reads one", all(fields))
        }
        Rule::Defer { .. } => "written when slugs are final: a new token names the slug".to_owned(),
        Rule::HideUntilFinished { field, hidden, .. } => format!(
            "`{field}` is {hidden} until the import has finished, so that nobody sees half an organization"
        ),
        Rule::OnlyIfReferred {} => "dropped if nothing imported refers to it: of no use by itself".to_owned(),
        Rule::GlobalSlug { field, from } => {
            format!(
                "control decides `{field}`, which is unique over all regions; made of `{from}` if it is empty"
            )
        }
        Rule::MergeAlike { fields: (one, other), highest } => format!(
            "rows with the same `{one}` and `{other}`, which a merge of users can make, become one, with the highest \
             `{}` ({})",
            highest.field,
            highest.order.join(", ")
        ),
        Rule::NeedsOne { of, condition, .. } => format!(
            "a warning for an `{of}` without a record whose `{}` is {}: nobody could change its settings",
            condition.field,
            condition.equals.clone().unwrap_or_default()
        ),
        Rule::SlugFrom { field, from } => {
            format!("a missing `{field}` is made of `{from}`: newer releases need one")
        }
        Rule::FromActor { field, to } => format!(
            "the `{field}` of exports up to 24.4 names an actor; the one of {} that fits is set to what it stands for",
            all(to)
        ),
        Rule::Moves { from, to, if_contains: None } => {
            format!("`{to}` gets the text that older releases have in `{from}`")
        }
        Rule::Moves { from, to, if_contains: Some(number) } => {
            format!("`{to}` becomes true if older releases have {number} in `{from}`")
        }
        Rule::WarnOfAddress { field, .. } => format!(
            "a warning if the `{field}` is the e-mail address of somebody else: whoever signs in may be taken for either"
        ),
        Rule::AddedFor { reference, copies, each_of, .. } => {
            let from: Vec<&String> = copies.values().chain(each_of.iter().map(|each| &each.field)).collect();
            let where_set = match from.as_slice() {
                [] => String::new(),
                from => {
                    let from: Vec<String> = from.iter().map(|field| format!("`{field}`")).collect();
                    format!(", if that has {}", from.join(", "))
                }
            };
            let how_many = match each_of {
                Some(each) => format!("a row for each number in `{}`", each.field),
                None => "a row".to_owned(),
            };
            format!(
                "{how_many} is added for each new `{reference}` to which no record of the file refers{where_set}"
            )
        }
        Rule::KnownOptions { key, .. } => {
            format!("left out if the application does not accept the value of this `{key}`")
        }
    }
}

/// The fields that a rule changes.
fn fields(rule: &Rule) -> Vec<&String> {
    match rule {
        Rule::Set { field, .. } | Rule::Regenerate { field, .. } | Rule::SkipWhen { field, .. } => {
            vec![field]
        }
        Rule::Moves { to, .. } => vec![to],
        Rule::AddedFor { reference, .. } => vec![reference],
        _ => Vec::new(),
    }
}

fn page(file: &file::File) -> String {
    let mut page = HEAD.replace("NEWEST", &file.newest_release);
    page.push_str(IMPORTED);
    let mut others = String::new();
    for (name, model) in &file.models {
        let also: Vec<String> = model.also.iter().map(|name| format!("`{name}`")).collect();
        let also = if also.is_empty() { String::new() } else { format!(", also {}", also.join(", ")) };
        let since = model.since.as_deref().unwrap_or_default();
        let until = model.until.as_deref().unwrap_or_default();
        let silo = match model.silo {
            Silo::Control => "control",
            Silo::Region => "region",
        };
        if !model.scopes.iter().any(|scope| scope.in_organization_scope()) {
            let scopes: Vec<&str> = model.scopes.iter().map(|scope| name_of(*scope)).collect();
            let left = model.left_behind.as_deref().unwrap_or_default();
            let _ =
                writeln!(others, "| `{name}`{also} | {since} | {until} | {} | {left} |", scopes.join(", "));
            continue;
        }
        let table = model.table.clone().unwrap_or_else(|| name.replace('.', "_"));
        let mut remarks = Vec::new();
        for rule in &model.rules {
            let why = fields(rule).into_iter().find_map(|field| model.why.get(field));
            remarks.push(match why {
                Some(why) => format!("{}: {why}", sentence(rule)),
                None => sentence(rule),
            });
        }
        if model.ids == super::Ids::Leased {
            remarks.push("control hands out the primary keys: they are unique over all regions".to_owned());
        }
        let remarks = remarks.join("; ").replace('|', "\\|");
        let _ = writeln!(page, "| `{name}`{also} | {since} | {until} | {silo}, `{table}` | {remarks} |");
    }
    page.push_str(OTHER_SCOPES);
    page.push_str(&others);
    list(
        &mut page,
        "Of other scopes, by name only",
        "These are of the whole installation too, and no more of them is known than their names. A file that has them gets a \
         warning (`OUT_OF_SCOPE`).",
        file.out_of_scope_models.iter(),
    );
    list(
        &mut page,
        "Never imported",
        "The application exports these in no import of organizations. A file that has them all the same gets a note \
         (`UNEXPECTED_MODEL`).",
        file.excluded_models.iter(),
    );
    list(
        &mut page,
        "Of older releases",
        "Nothing takes their place. A file that has them gets a note (`REMOVED_MODEL`).",
        file.removed_models.iter(),
    );
    page
}

fn name_of(scope: Scope) -> &'static str {
    match scope {
        Scope::User => "user",
        Scope::Organization => "organization",
        Scope::Config => "config",
        Scope::Global => "global",
    }
}

/// A section with a list of models, in lines of at most 120 characters.
fn list<'a>(page: &mut String, title: &str, about: &str, names: impl Iterator<Item = &'a String>) {
    let _ = write!(page, "\n## {title}\n\n");
    let names: Vec<String> =
        names.map(|name| format!("`{name}`")).collect::<BTreeSet<_>>().into_iter().collect();
    for text in [about.to_owned(), format!("{}.", names.join(", "))] {
        let mut width = 0;
        for word in text.split(' ') {
            if width > 0 && width + 1 + word.len() > 120 {
                page.push('\n');
                width = 0;
            } else if width > 0 {
                page.push(' ');
                width += 1;
            }
            page.push_str(word);
            width += word.len();
        }
        page.push_str("\n\n");
    }
    page.pop();
}

#[test]
fn the_page_of_models_is_that_of_the_catalog() {
    let file: file::File = serde_json::from_str(include_str!("../../catalog.json")).unwrap();
    for (name, model) in &file.models {
        let known: BTreeSet<&String> = model.rules.iter().flat_map(fields).collect();
        let unknown: Vec<&String> = model.why.keys().filter(|field| !known.contains(field)).collect();
        assert!(unknown.is_empty(), "{name} says why of fields that no such rule changes: {unknown:?}");
        let silent: Vec<&&String> = known.iter().filter(|field| !model.why.contains_key(**field)).collect();
        assert!(silent.is_empty(), "{name} does not say why a rule changes {silent:?}");
    }
    let wanted = page(&file);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/models.md");
    if std::env::var_os("CAUSEWAY_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == wanted,
        "docs/models.md is out of date; CAUSEWAY_BLESS=1 cargo test -p causeway-relocation --lib page brings it up to date"
    );
}
