//! Limits of the contract that both sides keep to: services refuse what is larger, and clients split what they send.
//! The comments of the contract name the same numbers.

/// The largest message that either service sends or takes, in bytes. gRPC's own default.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The most records of a call of `ImportModels`. Their keys, findings and returned values fit into one message.
pub const MAX_CHUNK_RECORDS: usize = 2_500;

/// The most values of a call of `FindRows`.
pub const MAX_FIND_VALUES: usize = 10_000;

/// The most bytes of all values of a call of `FindRows`, because the answer repeats them.
pub const MAX_FIND_BYTES: usize = 2 << 20;

/// The most id ranges of one model that a region reports when it registers. The ranges of all models with leased ids
/// fit into one request, which has at most [`MAX_ENTRIES`](crate::codec::MAX_ENTRIES) entries.
pub const MAX_ID_RANGES: usize = 3_000;

/// The most characters of a slug.
pub const MAX_SLUG: usize = 50;

/// The most bytes of a wanted slug, of the name of an organization that a slug is requested for, of a slug of a filter,
/// and of the text that says what needs a row.
pub const MAX_TEXT_BYTES: usize = 255;

/// The most organizations or slugs of one call whose answer says something about each.
pub const MAX_NAMES_PER_CALL: usize = 1_000;

/// The most organizations in a batch of a bulk creation or in a release, feed positions in one call, and slugs of a
/// filter.
pub const MAX_BATCH: usize = 10_000;

/// The most organizations of one bulk creation.
pub const MAX_ORGANIZATIONS: usize = 1_000_000;

/// The most rows that one call of `RevertImport` lists as needed, so that they stay.
pub const MAX_NEEDED_ROWS: usize = 5_000;

/// The most bytes of the message with which a rename is refused.
pub const MAX_REFUSAL_BYTES: usize = 1_000;

/// The most bytes of the text that says why a region is suspended.
pub const MAX_SUSPENSION_BYTES: usize = 500;

/// The most ids of one lease.
pub const MAX_LEASE: usize = 1_000_000;

/// The largest page of most lists; `ListMappedKeys` has 10,000.
pub const MAX_PAGE: u16 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the contract names a limit: a message, field, call or reason, by its full name.
    const NAMED: [(&str, usize); 33] = [
        ("causeway.control.v1.SlugReservationService", MAX_SLUG),
        ("causeway.control.v1.OrganizationSlugRequest.slug", MAX_TEXT_BYTES),
        ("causeway.control.v1.OrganizationSlugRequest.name", MAX_TEXT_BYTES),
        ("causeway.control.v1.OrganizationSlugRequestBatch.requests", MAX_BATCH),
        ("causeway.control.v1.SlugReservationService.BulkCreateOrganizationSlugReservations", MAX_BATCH),
        ("causeway.control.v1.ReleaseOrganizationsRequest.organization_ids", MAX_BATCH),
        ("causeway.control.v1.WatchAllSlugReservationsRequest.positions", MAX_BATCH),
        ("causeway.control.v1.UpdateOrganizationSlugRequest.desired_slug", MAX_TEXT_BYTES),
        ("causeway.control.v1.SlugRefusal.message", MAX_REFUSAL_BYTES),
        ("causeway.control.v1.SuspendRegionRequest.text", MAX_SUSPENSION_BYTES),
        ("causeway.control.v1.RegionSuspension.text", MAX_SUSPENSION_BYTES),
        ("causeway.control.v1.FeedRegions.regions", MAX_NAMES_PER_CALL),
        ("causeway.control.v1.FeedPositions.positions", MAX_NAMES_PER_CALL),
        ("causeway.control.v1.ListSlugReservationsRequest.page_size", MAX_PAGE as usize),
        ("causeway.control.v1.ListSlugOperationsRequest.page_size", MAX_PAGE as usize),
        ("causeway.control.v1.BatchResolveSlugsRequest.slugs", MAX_NAMES_PER_CALL),
        ("causeway.control.v1.CheckSlugsRequest.slugs", MAX_NAMES_PER_CALL),
        ("causeway.control.v1.ReportOrganizationsRequest.organizations", MAX_NAMES_PER_CALL),
        ("causeway.control.v1.ListHeldOrganizationsRequest.organization_ids", MAX_NAMES_PER_CALL),
        ("causeway.control.v1.ListOrganizationsRequest.page_size", MAX_PAGE as usize),
        ("causeway.control.v1.HeldIds.ranges", MAX_ID_RANGES),
        ("causeway.control.v1.LeaseIdsRequest.count", MAX_LEASE),
        ("causeway.control.v1.ListRegionsRequest.page_size", MAX_PAGE as usize),
        ("causeway.control.v1.ImportModelsRequest.records", MAX_CHUNK_RECORDS),
        ("causeway.control.v1.FindRowsRequest.values", MAX_FIND_VALUES),
        ("causeway.control.v1.NeededRow.needed_by", MAX_TEXT_BYTES),
        ("causeway.control.v1.RevertImportRequest.needed", MAX_NEEDED_ROWS),
        ("causeway.region.v1.ImportHeader.filter", MAX_BATCH),
        ("causeway.region.v1.ImportHeader.filter", MAX_TEXT_BYTES),
        ("causeway.region.v1.ListImportsRequest.page_size", MAX_PAGE as usize),
        ("causeway.region.v1.ListFindingsRequest.page_size", MAX_PAGE as usize),
        ("causeway.region.v1.ApproveOrganizationsRequest.organization_ids", MAX_NAMES_PER_CALL),
        ("causeway.relocation.v1.ErrorReason.ERROR_REASON_TOO_MANY_SLUGS", MAX_ORGANIZATIONS),
    ];

    fn with_commas(number: usize) -> String {
        let digits = number.to_string();
        let groups: Vec<&str> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(|group| std::str::from_utf8(group).expect("digits"))
            .collect();
        groups.join(",")
    }

    #[test]
    fn the_comments_of_the_contract_name_the_same_numbers() {
        for (name, limit) in NAMED {
            let comment = crate::comments::of(name).unwrap_or_else(|| panic!("there is no {name}"));
            let number = with_commas(limit);
            let mut words = comment.split(|c: char| !c.is_ascii_digit() && c != ',');
            assert!(
                words.any(|word| word.trim_matches(',') == number),
                "{name} should name {number}: {comment}"
            );
        }
    }
}
