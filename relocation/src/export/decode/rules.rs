//! Rules that a single record can break.

use super::super::alike::SimilarNames;
use crate::{
    catalog::Model,
    finding::{Finding, FindingKind},
    value::Value,
};

/// Checks of which fields exactly one must be set.
pub(super) fn check_rules(model: &Model, values: &[Value], alike: &SimilarNames) -> Result<(), Finding> {
    for rule in &model.rules.exactly_one {
        let columns = &rule.columns;
        let is_set = |column: &&usize| match values.get(**column) {
            None | Some(Value::Null) => false,
            Some(value) => value.as_text() != Some(""),
        };
        let set = columns.iter().filter(is_set).count();
        if set == 1 {
            continue;
        }
        let misnamed = |column: &usize| alike.misnamed(*column, model.columns.get(*column)?);
        if set == 0
            && let Some(finding) = columns.iter().find_map(misnamed)
        {
            return Err(finding);
        }
        if set == 0 && rule.or_none {
            continue;
        }
        let columns = columns.iter().filter_map(|column| model.columns.get(*column));
        let names: Vec<&str> = columns.map(|column| column.field.as_str()).collect();
        let first = names.first().map(|name| (*name).to_owned());
        let names = names.join(" and ");
        let reason = match rule.or_none {
            true => format!("only one of {names} may be set"),
            false => format!("exactly one of {names} must be set"),
        };
        let mut finding = Finding::new(FindingKind::ValidationError, reason);
        finding.field = first;
        return Err(finding);
    }
    Ok(())
}

/// The maximum size of all texts in a unique set, in bytes. An index row of PostgreSQL has at most 2,704 bytes,
/// including its own header and those of its texts. Compression is not relied on.
const MAX_INDEXED: usize = 2_600;

/// Checks that the texts of each unique set fit into its index, which takes less than the columns.
pub(super) fn check_index(model: &Model, values: &[Value]) -> Result<(), Finding> {
    for set in &model.unique {
        let texts = set.columns.iter().filter_map(|index| match values.get(*index) {
            Some(Value::Text(text)) if !model.rules.always_replaces(*index) => Some((text.len(), *index)),
            _ => None,
        });
        let Some((_, longest)) = texts.clone().max() else { continue };
        let texts: usize = texts.map(|(bytes, _)| bytes).sum();
        if texts > MAX_INDEXED {
            let reason = format!(
                "has a value that must be unique and is too long for that: {texts} bytes, where an index takes {MAX_INDEXED}"
            );
            let mut finding = Finding::new(FindingKind::ValidationError, reason);
            finding.field = model.columns.get(longest).map(|column| column.field.clone());
            return Err(finding);
        }
    }
    Ok(())
}
