//! Usernames that are the e-mail address of another user: a person who signs in with the address may be
//! mistaken for either. Both users are written, with a finding. No finding contains the address.

use std::collections::HashMap;

use super::{Row, Writer, no_column, table::Table};
use crate::{
    catalog::{EMAIL, Model},
    export::MAX_PK,
    finding::{Finding, FindingKind},
    mapping::is_address_of,
    value::Value,
};

fn text(row: &Row, column: usize) -> &str {
    row.values.get(column).and_then(Value::as_text).unwrap_or_default()
}

impl Writer<'_> {
    /// Compares the rows of a chunk that are to be inserted with each other and with existing rows. A name that is the
    /// address of a user of an earlier chunk was reported when the record was mapped.
    pub(super) async fn warn_of_addresses<T: Table>(
        &self,
        table: &mut T,
        model: &Model,
        rows: &[Row],
        findings: &mut Vec<Finding>,
    ) -> Result<(), T::Error> {
        let Some((column, address)) = model.rules.warn_of_address else { return Ok(()) };
        let (Some(name_of), Some(address_of)) = (model.columns.get(column), model.columns.get(address))
        else {
            return Err(no_column(model).into());
        };
        let folded = |row: &Row, column: usize| text(row, column).to_lowercase();
        // For each address, two users who have it are enough: at least one of them is not the user with the name.
        let mut addresses: HashMap<String, [i64; 2]> = HashMap::new();
        for row in rows {
            let both = addresses.entry(folded(row, address)).or_insert([row.source_pk; 2]);
            both[1] = row.source_pk;
        }
        let mut unwarned = Vec::new();
        for row in rows.iter().filter(|row| text(row, column).contains('@')) {
            let both = addresses.get(&folded(row, column));
            match both.and_then(|both| both.iter().find(|pk| **pk != row.source_pk)) {
                Some(pk) => {
                    let finding = Finding::new(FindingKind::UsernameIsAddress, is_address_of(*pk));
                    findings.push(row.place(model, finding.field(&name_of.field)));
                }
                None => unwarned.push(row),
            }
        }
        if let Some(emails) = self.emails {
            let email = emails.column("email").and_then(|index| emails.columns.get(index));
            let email = email.ok_or_else(|| no_column(emails))?;
            let names = unwarned.iter().map(|row| text(row, column).to_owned()).collect();
            let here = table.rows_with(emails, email, names).await?;
            for row in unwarned {
                let Some(id) = here.get(text(row, column)) else { continue };
                let reason = format!("is an e-mail address that is here already, as {EMAIL} {id}");
                let finding = Finding::new(FindingKind::UsernameIsAddress, reason);
                findings.push(row.place(model, finding.field(&name_of.field)));
            }
        }
        let others: Vec<&Row> = rows
            .iter()
            .filter(|row| text(row, address).contains('@') && folded(row, address) != folded(row, column))
            .collect();
        let values = others.iter().map(|row| text(row, address).to_owned()).collect();
        let here = table.rows_with(model, name_of, values).await?;
        for row in others {
            let Some(id) = here.get(text(row, address)) else { continue };
            // The finding is about a record by its id in the file, and this one may be the same number.
            let holder = if *id > MAX_PK {
                "an earlier user of the file".to_owned()
            } else {
                format!("the user with the new id {id}")
            };
            let finding =
                Finding::new(FindingKind::UsernameIsAddress, format!("is the username of {holder}"));
            findings.push(row.place(model, finding.field(&address_of.field)));
        }
        Ok(())
    }
}
