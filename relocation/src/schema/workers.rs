//! The product's own tables that the services write in a database of the product, so that its workers carry what was
//! imported into the tables by which the product routes. They are no models. What the services write there, and why, is
//! in `docs/design/product-tables.md`.

use super::Tables;
use crate::catalog::Silo;

/// A table of the product, with the columns that are written.
struct Written {
    name: &'static str,
    columns: &'static [&'static str],
    /// What the product does with its rows.
    purpose: &'static str,
}

const OF_REGION: [Written; 1] = [Written {
    name: "sentry_regionoutbox",
    columns: &[
        "shard_scope",
        "shard_identifier",
        "object_identifier",
        "category",
        "scheduled_from",
        "scheduled_for",
        "payload",
    ],
    purpose: "from which the product's workers learn of organizations, members, teams and projects",
}];

const OF_CONTROL: [Written; 2] = [
    Written {
        name: "sentry_organizationslugreservation",
        columns: &["slug", "organization_id", "user_id", "region_name", "reservation_type", "date_added"],
        purpose: "by which the product finds the region of an organization",
    },
    Written {
        name: "sentry_controloutbox",
        columns: &[
            "shard_scope",
            "shard_identifier",
            "object_identifier",
            "category",
            "scheduled_from",
            "scheduled_for",
            "region_name",
        ],
        purpose: "from which the product's workers learn of slugs and auth tokens",
    },
];

fn written(silo: Silo) -> &'static [Written] {
    match silo {
        Silo::Region => &OF_REGION,
        Silo::Control => &OF_CONTROL,
    }
}

/// The names of the tables of the product that a service of this silo writes beside those of the models.
pub fn tables_for_workers<'a>(silo: Silo) -> impl Iterator<Item = &'a str> {
    written(silo).iter().map(|table| table.name)
}

impl Tables {
    /// Why a service cannot write what the product's workers need: a sentence for each reason. Empty if it can, and if the
    /// database is not the product's.
    #[must_use]
    pub fn unfit_for_workers(&self, silo: Silo) -> Vec<String> {
        let mut found = Vec::new();
        for Written { name, columns, purpose } in written(silo).iter().filter(|_| self.of_product) {
            let Some(actual) = self.columns_of(name) else {
                found.push(format!("table {name} is missing, {purpose}"));
                continue;
            };
            for column in columns.iter().filter(|column| !actual.contains_key(**column)) {
                found.push(format!("table {name} has no column {column}"));
            }
            for (column, it) in actual {
                if !it.null && !it.has_default && !columns.contains(&column.as_str()) {
                    found.push(format!(
                        "column {name}.{column} needs a value and this release does not know it"
                    ));
                }
            }
        }
        found
    }

    /// Whether any of the tables that a service of this silo writes for the product's workers is among these. A control
    /// of an older release does not describe them.
    #[must_use]
    pub fn describe_workers(&self, silo: Silo) -> bool {
        tables_for_workers(silo).any(|name| self.columns_of(name).is_some())
    }
}
