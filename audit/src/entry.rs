//! A row of the log, and its hash.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// What the encoding of a row begins with. Another encoding would have another text.
const ENCODING: &[u8] = b"causeway-audit-1";

/// A row of the log. See `AuditEntry` in the contract for what the texts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number; a later row has a higher one, unless both were written at the same time.
    pub id: i64,
    /// When it was done, to the microsecond.
    pub time: DateTime<Utc>,
    /// The id of the request.
    pub request_id: Uuid,
    /// The SPIFFE URI of the caller, or the name of the service for its own work; may be empty.
    pub who: String,
    /// The IP address of the caller.
    pub address: String,
    /// The full name of the rpc, or what the service does by itself.
    pub call: String,
    /// What it is about.
    pub object: String,
    /// The import that it belongs to.
    pub import_id: Option<Uuid>,
    /// The operation that it belongs to.
    pub operation_id: Option<Uuid>,
    /// The gRPC code: `OK` if it was done, otherwise that of the error, such as `NOT_FOUND`.
    pub outcome: String,
    /// The reason of an error; empty without one.
    pub reason: String,
    /// How many failed calls of the caller before this one have no row.
    pub left_out: i64,
}

impl Entry {
    /// Its hash at a position of the chain: SHA-256 over the hash before it, the position, and all its
    /// fields. Each part has its length in front of it, so that no two rows have the same encoding.
    #[must_use]
    pub fn hash(&self, before: &[u8; 32], position: i64) -> [u8; 32] {
        let id = |id: Option<Uuid>| id.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
        let mut digest = Sha256::new();
        for part in [
            ENCODING,
            before,
            &position.to_be_bytes(),
            &self.id.to_be_bytes(),
            &self.time.timestamp_micros().to_be_bytes(),
            self.request_id.as_bytes(),
            self.who.as_bytes(),
            self.address.as_bytes(),
            self.call.as_bytes(),
            self.object.as_bytes(),
            &id(self.import_id),
            &id(self.operation_id),
            self.outcome.as_bytes(),
            self.reason.as_bytes(),
            &self.left_out.to_be_bytes(),
        ] {
            // A length of memory always fits.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// The place of a row in the chain, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLink {
    /// The position.
    pub position: i64,
    /// The hash, which is 64 hex digits if nobody has changed it.
    pub hash: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn entry(id: i64) -> Entry {
        Entry {
            id,
            time: DateTime::UNIX_EPOCH,
            request_id: Uuid::from_u128(1),
            who: "ann".to_owned(),
            address: "127.0.0.1".to_owned(),
            call: "Service/Call".to_owned(),
            object: "organization/7".to_owned(),
            import_id: None,
            operation_id: Some(Uuid::from_u128(2)),
            outcome: "OK".to_owned(),
            reason: String::new(),
            left_out: 0,
        }
    }

    #[test]
    fn each_part_of_a_row_is_in_its_hash() {
        let hash = |entry: &Entry| entry.hash(&[0; 32], 1);
        let whole = hash(&entry(1));
        let changes: [fn(&mut Entry); 12] = [
            |it| it.id = 2,
            |it| it.time += chrono::TimeDelta::microseconds(1),
            |it| it.request_id = Uuid::nil(),
            |it| it.who.push('x'),
            |it| it.address.clear(),
            |it| it.call.push('x'),
            |it| it.object.push('1'),
            |it| it.import_id = it.operation_id,
            |it| it.operation_id = None,
            |it| it.outcome = "NOT_FOUND".to_owned(),
            |it| it.reason.push('x'),
            |it| it.left_out = 1,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut changed = entry(1);
            change(&mut changed);
            assert_ne!(hash(&changed), whole, "{index}");
        }
        assert_ne!(entry(1).hash(&[1; 32], 1), whole);
        assert_ne!(entry(1).hash(&[0; 32], 2), whole);
        let moved = Entry { who: String::new(), address: "ann127.0.0.1".to_owned(), ..entry(1) };
        assert_ne!(hash(&moved), whole, "a text does not move into the next one");
    }

    #[test]
    fn the_encoding_stays_as_it_is() {
        // Made by another program, after docs/audit.md.
        assert_eq!(
            hex::encode(entry(1).hash(&[0; 32], 1)),
            "29b8caf25455e6e3002849d39518ed39a817f972e4a412b9ce98c65d448d1fa7"
        );
    }
}
