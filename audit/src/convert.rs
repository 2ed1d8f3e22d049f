//! Rows of the log as messages of the contract, and back.

use causeway_proto::{relocation::v1 as contract, time};
use uuid::Uuid;

use crate::{Entry, entry::StoredLink};

/// A message that is not an entry of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {id} of the audit log has no valid {field}")]
pub struct InvalidEntry {
    /// The number of the entry.
    pub id: i64,
    /// The name of the field in the contract: `time`, or one with an id.
    pub field: &'static str,
}

impl Entry {
    /// The row as a message, with its place in the chain if it has one.
    #[must_use]
    pub fn to_proto(self, place: Option<StoredLink>) -> contract::AuditEntry {
        let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
        let (position, hash) = place.map(|place| (place.position, place.hash)).unwrap_or_default();
        contract::AuditEntry {
            id: self.id,
            time: Some(time::to_proto(self.time)),
            request_id: self.request_id.to_string(),
            who: self.who,
            address: self.address,
            call: self.call,
            object: self.object,
            import_id: id(self.import_id),
            operation_id: id(self.operation_id),
            outcome: self.outcome,
            reason: self.reason,
            left_out: self.left_out,
            position,
            hash,
        }
    }

    /// The row in a message.
    ///
    /// # Errors
    /// If it has no time, or an id is not one.
    pub fn from_proto(entry: contract::AuditEntry) -> Result<Self, InvalidEntry> {
        let number = entry.id;
        let invalid = |field| InvalidEntry { id: number, field };
        let id = |field, text: &str| Uuid::try_parse(text).map_err(|_| invalid(field));
        let optional = |field, text: &str| (!text.is_empty()).then(|| id(field, text)).transpose();
        Ok(Self {
            id: entry.id,
            time: entry.time.as_ref().and_then(time::from_proto).ok_or_else(|| invalid("time"))?,
            request_id: id("request_id", &entry.request_id)?,
            import_id: optional("import_id", &entry.import_id)?,
            operation_id: optional("operation_id", &entry.operation_id)?,
            who: entry.who,
            address: entry.address,
            call: entry.call,
            object: entry.object,
            outcome: entry.outcome,
            reason: entry.reason,
            left_out: entry.left_out,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::tests::entry;

    #[test]
    fn a_row_comes_back_from_its_message_unchanged() {
        let whole = Entry { import_id: Some(Uuid::from_u128(3)), left_out: 4, ..entry(1) };
        assert_eq!(Entry::from_proto(whole.clone().to_proto(None)), Ok(whole.clone()));
        let message = contract::AuditEntry { import_id: "x".to_owned(), ..whole.to_proto(None) };
        assert_eq!(Entry::from_proto(message), Err(InvalidEntry { id: 1, field: "import_id" }));
    }
}
