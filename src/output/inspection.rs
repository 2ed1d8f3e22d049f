//! What is in an export, for people and as JSON.

use causeway_relocation::inspect::{Imported, Inspection, Releases};
use serde_json::{Value, json as object};

use super::{
    numbers::{bytes, count, counted},
    report::Shown,
    table::{
        Align::{Left, Right},
        Table, clean,
    },
    terminal::{HEADING, styled},
    wrap::wrap,
};

/// How many organizations are shown without `--all`.
const SHOWN: usize = 20;

/// An export that was looked into.
#[derive(Debug)]
pub(crate) struct Inspected {
    /// Whether it is encrypted.
    pub(crate) encrypted: bool,
    /// The size of the file in bytes.
    pub(crate) bytes: u64,
    /// What is in it; `None` if it is encrypted and there was no key.
    pub(crate) contents: Option<Inspection>,
}

/// The releases in words.
fn releases(releases: &Releases) -> String {
    match (&releases.at_least, &releases.before) {
        (Some(at_least), Some(before)) => format!("{at_least} or later, and older than {before}"),
        (Some(at_least), None) => format!("{at_least} or later"),
        (None, Some(before)) => format!("older than {before}"),
        (None, None) => "unknown: nothing in the file shows it".to_owned(),
    }
}

fn imported(imported: Imported) -> &'static str {
    match imported {
        Imported::Yes => "yes",
        Imported::OutOfScope => "no, another scope",
        Imported::Never => "never",
        Imported::Unknown => "unknown model",
    }
}

/// The text for people. `file` is the path as the user wrote it.
pub(crate) fn text(file: &str, inspected: &Inspected, shown: Shown) -> String {
    let Inspected { encrypted, bytes: size, contents } = inspected;
    let kind = if *encrypted { "an encrypted export" } else { "a plain export" };
    let mut head = format!("{}: {kind} of {}", clean(file), bytes(*size));
    let Some(contents) = contents else { return wrap(&head, shown.width, "", 2) };
    head.push_str(&format!(
        ", {}, {}",
        counted(contents.records, "record"),
        counted(contents.organization_count, "organization")
    ));
    let mut sections = vec![
        wrap(&head, shown.width, "", 2)
            + &wrap(
                &format!("Release, by its models and fields: {}", releases(&contents.releases)),
                shown.width,
                "",
                2,
            ),
    ];
    sections.push(organizations(contents, shown));
    let mut table = Table::new(&[("model", Left), ("records", Right), ("imported", Left)]);
    for model in &contents.models {
        table.row([model.name.clone(), count(model.records), imported(model.imported).to_owned()]);
    }
    let heading = styled(
        &format!("Models ({})", count(i64::try_from(contents.models.len()).unwrap_or(i64::MAX))),
        HEADING,
    );
    let rows = if table.is_empty() { String::new() } else { table.render(shown.table_width) };
    sections.push(format!("{heading}\n{rows}"));
    sections.join("\n")
}

fn organizations(contents: &Inspection, shown: Shown) -> String {
    let mut text = styled(&format!("Organizations ({})", count(contents.organization_count)), HEADING) + "\n";
    let limit = if shown.all { usize::MAX } else { SHOWN };
    let mut table = Table::new(&[("id", Right), ("slug", Left), ("name", Left)]);
    for organization in contents.organizations.iter().take(limit) {
        table.row([organization.id.to_string(), organization.slug.clone(), organization.name.clone()]);
    }
    if table.is_empty() {
        return text;
    }
    text.push_str(&table.render(shown.table_width));
    let listed = contents.organizations.len().min(limit);
    let more = contents.organization_count - i64::try_from(listed).unwrap_or(i64::MAX);
    if more > 0 {
        let known = i64::try_from(contents.organizations.len()).unwrap_or(i64::MAX);
        let all = match shown.all {
            true => String::new(),
            // No more are known one by one.
            false if known < contents.organization_count => {
                format!("; --all shows the first {}", count(known))
            }
            false => "; --all shows them".to_owned(),
        };
        text.push_str(&wrap(&format!("and {} more{all}", count(more)), shown.width, "  ", 2));
    }
    text
}

/// One JSON object. Numbers that may be large are texts, as in the JSON of other commands.
pub(crate) fn json(inspected: &Inspected) -> String {
    let mut whole = object!({ "encrypted": inspected.encrypted, "sizeBytes": inspected.bytes.to_string() });
    if let (Some(contents), Value::Object(whole)) = (&inspected.contents, &mut whole) {
        let models = contents.models.iter().map(|model| {
            let imported = match model.imported {
                Imported::Yes => "YES",
                Imported::OutOfScope => "OUT_OF_SCOPE",
                Imported::Never => "NEVER",
                Imported::Unknown => "UNKNOWN",
            };
            object!({ "model": model.name, "records": model.records.to_string(), "taken": imported })
        });
        let organizations = contents.organizations.iter().map(|organization| {
            object!({
                "id": organization.id.to_string(),
                "slug": organization.slug,
                "name": organization.name,
            })
        });
        let fields = object!({
            "exportSizeBytes": contents.bytes.to_string(),
            "records": contents.records.to_string(),
            "organizationCount": contents.organization_count.to_string(),
            "organizations": organizations.collect::<Vec<_>>(),
            "models": models.collect::<Vec<_>>(),
            "releaseAtLeast": contents.releases.at_least,
            "releaseBefore": contents.releases.before,
        });
        if let Value::Object(fields) = fields {
            whole.extend(fields);
        }
    }
    format!("{whole:#}")
}

#[cfg(test)]
mod tests {
    use causeway_relocation::inspect::{ModelFound, OrganizationFound};

    use super::{
        super::terminal::{Width, plain},
        *,
    };

    fn inspected(organizations: i64) -> Inspected {
        let organization = |id: i64| OrganizationFound {
            id,
            slug: format!("slug-{id}"),
            name: if id == 1 { "東京支店".to_owned() } else { "Acme".to_owned() },
        };
        let model = |name: &str, imported| ModelFound { name: name.to_owned(), records: 1_234, imported };
        Inspected {
            encrypted: false,
            bytes: 61_557,
            contents: Some(Inspection {
                bytes: 61_557,
                records: 1_234_567,
                models: vec![
                    model("sentry.organization", Imported::Yes),
                    model("sentry.option", Imported::OutOfScope),
                ],
                organizations: (1..=organizations).map(organization).collect(),
                organization_count: organizations,
                releases: Releases { at_least: Some("24.11".to_owned()), before: None },
            }),
        }
    }

    #[test]
    fn an_export_is_shown_to_people() {
        let shown = Shown { all: false, width: Width(80), table_width: Width(80) };
        assert_eq!(
            plain(&text("export.json", &inspected(2), shown)),
            "export.json: a plain export of 60.11 KiB, 1,234,567 records, 2 organizations\n\
             Release, by its models and fields: 24.11 or later\n\n\
             Organizations (2)\n  id  slug    name\n   1  slug-1  東京支店\n   2  slug-2  Acme\n\n\
             Models (2)\n  model                records  imported\n  sentry.organization    1,234  yes\n  \
             sentry.option          1,234  no, another scope\n"
        );
        let many = plain(&text("x", &inspected(22), shown));
        assert!(many.contains("  and 2 more; --all shows them\n"), "{many}");
        assert!(plain(&text("x", &inspected(22), Shown { all: true, ..shown })).contains("slug-22"));
        let mut most = inspected(22);
        most.contents.as_mut().expect("it has any").organization_count = 12_345;
        let most = plain(&text("x", &most, shown));
        assert!(most.contains("  and 12,325 more; --all shows the first 22\n"), "{most}");
        let encrypted = Inspected { encrypted: true, bytes: 10, contents: None };
        assert_eq!(text("x.tar", &encrypted, shown), "x.tar: an encrypted export of 10 B\n");
    }

    #[test]
    fn an_export_is_shown_to_programs() {
        let value: Value = serde_json::from_str(&json(&inspected(1))).expect("JSON");
        assert_eq!(value["records"], "1234567");
        assert_eq!(value["organizations"][0]["slug"], "slug-1");
        assert_eq!((&value["releaseAtLeast"], &value["releaseBefore"]), (&object!("24.11"), &Value::Null));
    }
}
