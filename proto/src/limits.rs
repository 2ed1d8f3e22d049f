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

/// The most entries that all repeated fields of one request have together.
pub const MAX_ENTRIES: usize = 10_000;

/// The most id ranges of one model that a region reports when it registers. The ranges of all models with leased ids
/// fit into one request, which has at most [`MAX_ENTRIES`] entries.
pub const MAX_ID_RANGES: usize = 3_000;

/// The most ranges of ids of one model that control reports as belonging to other regions too.
pub const MAX_CONFLICTS: usize = 100;

/// The most bytes of the address of a region.
pub const MAX_ADDRESS_BYTES: usize = 2_048;

/// The most bytes of a region's name in the product: as long as the product's columns.
pub const MAX_PRODUCT_NAME_BYTES: usize = 48;

/// The most bytes of the name of an organization that a region reports.
pub const MAX_NAME_BYTES: usize = 1_024;

/// The most aliases of an organization.
pub const MAX_ALIASES: usize = 100;

/// The most bytes of all slugs of a filter together, because answers about the import repeat them.
pub const MAX_FILTER_BYTES: usize = 1 << 20;

/// The most characters of a slug.
pub const MAX_SLUG: usize = 50;

/// The most bytes of a wanted slug, of the name of an organization that a slug is requested for, of a slug of a filter,
/// and of the text that says what needs a row.
pub const MAX_TEXT_BYTES: usize = 255;

/// The most organizations or slugs of one call whose answer has a result for each.
pub const MAX_NAMES_PER_CALL: usize = 1_000;

/// The most organizations in a batch of a bulk creation or in a release, feed positions in one call, and slugs of a
/// filter.
pub const MAX_BATCH: usize = 10_000;

/// The most organizations of one bulk creation.
pub const MAX_ORGANIZATIONS: usize = 1_000_000;

/// The bytes that an organization of a bulk creation takes at control besides its texts: its request and its answer.
pub const ORGANIZATION_IN_HAND: usize = 256;

/// The bytes that an organization of a bulk creation takes at control, with its wanted slug and its name.
#[must_use]
pub fn organization_in_hand(slug: &str, name: &str) -> usize {
    ORGANIZATION_IN_HAND + slug.len() + name.len().min(64)
}

/// The most rows that one call of `RevertImport` lists as needed, so that they stay.
pub const MAX_NEEDED_ROWS: usize = 5_000;

/// The most bytes of the message with which a rename is refused.
pub const MAX_REFUSAL_BYTES: usize = 1_000;

/// The most bytes of the text that says why a region is suspended.
pub const MAX_SUSPENSION_BYTES: usize = 500;

/// The most ids of one lease.
pub const MAX_LEASE: usize = 1_000_000;

/// The most rows in a second that a limit on writing may name.
pub const MAX_ROWS_PER_SECOND: u64 = 1_000_000_000;

/// The most bytes in a second that a limit on writing may name: 1 TiB.
pub const MAX_BYTES_PER_SECOND: u64 = 1 << 40;

/// The longest latency of a probe statement that a limit may name, in milliseconds.
pub const MAX_PROBE_LATENCY_MS: u64 = 60_000;

/// The most instructions of a region that wait at once, and that one report has answers to.
pub const MAX_INSTRUCTIONS: usize = 20;

/// The most bytes of who has asked for an instruction.
pub const MAX_ASKED_BY_BYTES: usize = 512;

/// The most slugs of organizations that a region reports of an import.
pub const MAX_REPORTED_SLUGS: usize = 5;

/// The largest page of most lists.
pub const MAX_PAGE: u16 = 1_000;

/// The most imports of one call of `ReportImports`.
pub const MAX_REPORTED_IMPORTS: usize = 20;

/// The most models of a reported import.
pub const MAX_REPORTED_MODELS: usize = 300;

/// The most kinds of findings of a reported import.
pub const MAX_REPORTED_KINDS: usize = 100;

/// The most findings of a reported import.
pub const MAX_REPORTED_FINDINGS: u16 = 50;

/// The most differences of a reported comparison.
pub const MAX_REPORTED_DIFFERENCES: usize = 100;

/// The most bytes of a message or another text for people in a report.
pub const MAX_REPORTED_TEXT_BYTES: usize = 4_000;

/// The most bytes of a state or of the name of a kind in a report.
pub const MAX_REPORTED_WORD_BYTES: usize = 64;

/// The most bytes of the identity that began a reported import.
pub const MAX_REPORTED_BY_BYTES: usize = 512;

/// The most bytes of the name of a model or field in a report.
pub const MAX_MODEL_NAME_BYTES: usize = 255;

/// The most bytes of the version of a region's release.
pub const MAX_VERSION_BYTES: usize = 64;

/// The page of most lists if the request names no size.
pub const DEFAULT_PAGE: u16 = 100;

/// The page of `ListImports` if the request names no size.
pub const DEFAULT_IMPORTS_PAGE: u16 = 50;

/// The largest page of `ListMappedKeys`.
pub const MAX_KEYS_PAGE: u16 = 10_000;

/// The page of `ListMappedKeys` if the request names no size.
pub const DEFAULT_KEYS_PAGE: u16 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the contract names a limit: a message, field, call or reason, by its full name.
    const NAMED: [(&str, usize); 75] = [
        ("causeway.control.v1.ReportImportsRequest.imports", MAX_REPORTED_IMPORTS),
        ("causeway.control.v1.ReportImportsRequest.version", MAX_VERSION_BYTES),
        ("causeway.control.v1.ReportedImport.state", MAX_REPORTED_WORD_BYTES),
        ("causeway.control.v1.ReportedImport.begun_by", MAX_REPORTED_BY_BYTES),
        ("causeway.control.v1.ReportedImport.models", MAX_REPORTED_MODELS),
        ("causeway.control.v1.ReportedImport.finding_counts", MAX_REPORTED_KINDS),
        ("causeway.control.v1.ReportedImport.findings", MAX_REPORTED_FINDINGS as usize),
        ("causeway.control.v1.ReportedProgress.model", MAX_MODEL_NAME_BYTES),
        ("causeway.control.v1.ReportedReason.message", MAX_REPORTED_TEXT_BYTES),
        ("causeway.control.v1.ReportComparisonRequest.differences", MAX_REPORTED_DIFFERENCES),
        ("causeway.control.v1.ReportedDifference.message", MAX_REPORTED_TEXT_BYTES),
        ("causeway.control.v1.ReportImportsRequest.instruction_answers", MAX_INSTRUCTIONS),
        ("causeway.control.v1.ReportImportsResponse.instructions", MAX_INSTRUCTIONS),
        ("causeway.control.v1.Instruction.asked_by", MAX_ASKED_BY_BYTES),
        ("causeway.control.v1.InstructionRefusal.message", MAX_REPORTED_TEXT_BYTES),
        ("causeway.control.v1.ReportedImport.slugs", MAX_REPORTED_SLUGS),
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
        ("causeway.region.v1.SetThrottleRequest.max_rows_per_second", MAX_ROWS_PER_SECOND as usize),
        ("causeway.region.v1.SetThrottleRequest.max_bytes_per_second", MAX_BYTES_PER_SECOND as usize),
        ("causeway.region.v1.SetThrottleRequest.max_probe_latency_ms", MAX_PROBE_LATENCY_MS as usize),
        ("causeway.relocation.v1.ErrorReason.ERROR_REASON_TOO_MANY_SLUGS", MAX_ORGANIZATIONS),
        ("causeway.control.v1.ListSlugReservationsRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.control.v1.ListSlugOperationsRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.control.v1.ListOrganizationsRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.control.v1.ListRegionsRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.control.v1.ListHeldOrganizationsRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.control.v1.ListHeldOrganizationsRequest.page_size", MAX_PAGE as usize),
        ("causeway.control.v1.ListImportChunksRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.control.v1.ListImportChunksRequest.page_size", MAX_PAGE as usize),
        ("causeway.region.v1.ListFindingsRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.region.v1.ListOrganizationsRequest.page_size", DEFAULT_PAGE as usize),
        ("causeway.region.v1.ListOrganizationsRequest.page_size", MAX_PAGE as usize),
        ("causeway.region.v1.ListImportsRequest.page_size", DEFAULT_IMPORTS_PAGE as usize),
        ("causeway.region.v1.ListMappedKeysRequest.page_size", DEFAULT_KEYS_PAGE as usize),
        ("causeway.region.v1.ListMappedKeysRequest.page_size", MAX_KEYS_PAGE as usize),
        ("causeway.relocation.v1.ErrorReason.ERROR_REASON_SLUG_INVALID", MAX_SLUG),
        ("causeway.control.v1.RegisterRegionRequest.address", MAX_ADDRESS_BYTES),
        ("causeway.control.v1.Region.address", MAX_ADDRESS_BYTES),
        ("causeway.control.v1.RegisterRegionRequest.product_name", MAX_PRODUCT_NAME_BYTES),
        ("causeway.control.v1.RegisterRegionResponse.conflicts", MAX_CONFLICTS),
        ("causeway.control.v1.GetRegionResponse.id_conflicts", MAX_CONFLICTS),
        ("causeway.control.v1.ReportedOrganization.name", MAX_NAME_BYTES),
        ("causeway.control.v1.UpdateOrganizationSlugRequest.keep_alias", MAX_ALIASES),
        ("causeway.relocation.v1.ErrorReason", MAX_ENTRIES),
    ];

    /// The same for limits that the contract names in MiB.
    const NAMED_IN_MIB: [(&str, usize); 3] = [
        ("causeway.relocation.v1.ErrorReason", MAX_MESSAGE_BYTES),
        ("causeway.control.v1.FindRowsRequest.values", MAX_FIND_BYTES),
        ("causeway.region.v1.ImportHeader.filter", MAX_FILTER_BYTES),
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
        for (name, limit) in NAMED_IN_MIB {
            let comment = crate::comments::of(name).unwrap_or_else(|| panic!("there is no {name}"));
            let number = format!("{} MiB", limit >> 20);
            assert!(comment.contains(&number), "{name} should name {number}: {comment}");
        }
    }
}
