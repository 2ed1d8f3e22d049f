//! Converts between the contract's status of an organization, the number that is stored for it, and its name for
//! people.

use crate::relocation::v1::OrganizationStatus;

/// The number that is stored for a hidden organization.
pub const HIDDEN: i64 = 3;

/// Every status that the contract knows, with the number that the product stores.
const STORED: [(OrganizationStatus, i64); 4] = [
    (OrganizationStatus::Active, 0),
    (OrganizationStatus::PendingDeletion, 1),
    (OrganizationStatus::DeletionInProgress, 2),
    (OrganizationStatus::Hidden, HIDDEN),
];

/// The status that is stored as this number; unspecified if the contract has none for it.
#[must_use]
pub fn from_stored(number: i64) -> OrganizationStatus {
    STORED.iter().find(|(_, stored)| *stored == number).map_or(OrganizationStatus::Unspecified, |(it, _)| *it)
}

/// The number that is stored for a status; `None` for the unspecified one.
#[must_use]
pub fn to_stored(status: OrganizationStatus) -> Option<i64> {
    STORED.iter().find(|(it, _)| *it == status).map(|(_, stored)| *stored)
}

/// The name for people: the name in the contract, in lower case and with spaces.
#[must_use]
pub fn shown(status: OrganizationStatus) -> String {
    let name = status.as_str_name();
    name.strip_prefix("ORGANIZATION_STATUS_").unwrap_or(name).to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_stored_as_the_comment_of_the_contract_says() {
        let status = crate::json::pool()
            .expect("the contract can be read")
            .get_enum_by_name("causeway.relocation.v1.OrganizationStatus")
            .expect("it is in the contract");
        for value in status.values().skip(1) {
            let comment = crate::comments::of_value(&value);
            let known = OrganizationStatus::try_from(value.number()).expect("it is generated");
            let stored = to_stored(known).expect("it is stored");
            assert!(comment.ends_with(&format!("Stored as {stored}.")), "{}: {comment}", value.name());
            assert_eq!(from_stored(stored), known);
        }
        assert_eq!(
            (to_stored(OrganizationStatus::Unspecified), from_stored(7)),
            (None, OrganizationStatus::Unspecified)
        );
        assert_eq!(shown(OrganizationStatus::DeletionInProgress), "deletion in progress");
    }
}
