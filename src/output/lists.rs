//! Tables of the services' answers.

use causeway_proto::{
    control::v1::{
        BatchResolveSlugsResponse, ListOrganizationsResponse as Directory, ListRegionsResponse,
        ListSlugReservationsResponse, ReservationType,
    },
    organization_status,
    region::v1::{
        ListImportsResponse, ListMappedKeysResponse, ListOrganizationsResponse, Organization,
        ReconcileResponse, ReconcileSummary,
    },
    relocation::v1::{KeyKind, ListAuditEntriesResponse},
    time::from_proto,
};

use chrono::{DateTime, Utc};

use super::{
    numbers::{count, counted, moment},
    place::CommandTarget,
    regions::state,
    report::{self, short},
    table::{
        Align::{Left, Right},
        Table, clean, isolated, time,
    },
    terminal::Width,
    wrap::wrap,
};

/// Slugs, each with its organization and region.
pub(crate) fn resolved(answer: &BatchResolveSlugsResponse, width: Width) -> String {
    let mut table = Table::new(&[
        ("slug", Left),
        ("known as", Left),
        ("organization", Right),
        ("region", Left),
        ("address", Left),
    ]);
    for organization in &answer.organizations {
        table.row([
            organization.slug.clone(),
            organization.canonical_slug.clone(),
            organization.organization_id.to_string(),
            organization.region.clone(),
            organization.region_address.clone(),
        ]);
    }
    table.render(width)
}

/// A table of slug reservations, one row each.
pub(crate) fn reservations(answer: &ListSlugReservationsResponse, width: Width) -> String {
    let mut table = Table::new(&[
        ("slug", Left),
        ("organization", Right),
        ("region", Left),
        ("type", Left),
        ("since", Left),
        ("operation", Left),
    ])
    .under(&["operation"]);
    for reservation in &answer.reservations {
        // An operation under way can be released by its id.
        let operation = match reservation.r#type() {
            ReservationType::TemporaryRenameAlias => reservation.operation_id.clone(),
            _ => String::new(),
        };
        let kind = match reservation.r#type() {
            ReservationType::Unspecified => reservation.r#type.to_string(),
            // That of an import is of this type too, which is called after one of its uses.
            ReservationType::TemporaryRenameAlias => "temporary".to_owned(),
            kind => short(kind.as_str_name(), "RESERVATION_TYPE_").to_lowercase(),
        };
        table.row([
            reservation.slug.clone(),
            reservation.organization_id.to_string(),
            reservation.region.clone(),
            kind,
            time(reservation.create_time.as_ref().and_then(from_proto)),
            operation,
        ]);
    }
    table.render(width)
}

/// The regions that control knows. `now` is what decides which are silent.
pub(crate) fn regions(answer: &ListRegionsResponse, now: DateTime<Utc>, width: Width) -> String {
    let mut table = Table::new(&[
        ("region", Left),
        ("address", Left),
        ("state", Left),
        ("last contact", Left),
        ("feed version", Right),
        ("certificate ends", Left),
    ]);
    for region in &answer.regions {
        table.row([
            region.name.clone(),
            region.address.clone(),
            state(region, now).to_owned(),
            time(region.last_contact_time.as_ref().and_then(from_proto)),
            if region.feed_version == 0 { String::new() } else { region.feed_version.to_string() },
            time(region.certificate_end_time.as_ref().and_then(from_proto)),
        ]);
    }
    table.render(width)
}

/// The organizations of all regions.
pub(crate) fn directory(answer: &Directory, width: Width) -> String {
    let mut table =
        Table::new(&[("id", Right), ("slug", Left), ("name", Left), ("status", Left), ("region", Left)]);
    for organization in &answer.organizations {
        table.row([
            organization.organization_id.to_string(),
            organization.slug.clone(),
            organization.name.clone(),
            organization_status::shown(organization.status()),
            organization.region.clone(),
        ]);
    }
    table.render(width)
}

/// The organizations of one region.
pub(crate) fn organizations(answer: &ListOrganizationsResponse, width: Width) -> String {
    let mut table =
        Table::new(&[("id", Right), ("slug", Left), ("name", Left), ("status", Left), ("added", Left)]);
    for organization in &answer.organizations {
        table.row([
            organization.id.to_string(),
            organization.slug.clone(),
            organization.name.clone(),
            organization_status::shown(organization.status()),
            time(organization.date_added.as_ref().and_then(from_proto)),
        ]);
    }
    table.render(width)
}

/// One organization of a region.
pub(crate) fn organization(organization: &Organization, width: Width) -> String {
    let added = organization.date_added.as_ref().and_then(from_proto);
    let lines = [
        ("id", organization.id.to_string()),
        ("slug", organization.slug.clone()),
        ("name", organization.name.clone()),
        ("status", organization_status::shown(organization.status())),
        ("added", added.map_or_else(String::new, moment)),
    ];
    let lines = lines.into_iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(key, value)| wrap(&isolated(&clean(&value)), width, &format!("{key:8}"), 8)).collect()
}

/// The imports of a region.
pub(crate) fn imports(answer: &ListImportsResponse, width: Width) -> String {
    let mut table = Table::new(&[
        ("import", Left),
        ("state", Left),
        ("organizations", Right),
        ("bytes", Right),
        ("begun", Left),
        ("changed", Left),
        ("", Left),
        ("note", Left),
    ])
    .dispensable(&["bytes", "changed", "organizations"])
    .under(&["", "note"]);
    for import in &answer.imports {
        let why = match (&import.failure, &import.waiting) {
            (Some(failure), _) => report::reason(failure.reason),
            (None, Some(waiting)) => format!("waiting: {}", report::reason(waiting.reason)),
            (None, None) => String::new(),
        };
        table.row([
            import.import_id.clone(),
            report::state(import),
            count(import.organization_count),
            count(import.size_bytes),
            time(import.create_time.as_ref().and_then(from_proto)),
            time(import.update_time.as_ref().and_then(from_proto)),
            if import.dry_run { "dry run".to_owned() } else { String::new() },
            why,
        ]);
    }
    table.render(width)
}

/// Old and new primary keys.
pub(crate) fn keys(answer: &ListMappedKeysResponse, width: Width) -> String {
    let mut table = Table::new(&[
        ("model", Left),
        ("old id", Right),
        ("new id", Right),
        ("row", Left),
        ("wanted slug", Left),
        ("given slug", Left),
    ]);
    for key in &answer.keys {
        let row = match key.kind() {
            KeyKind::Unspecified => key.kind.to_string(),
            kind => short(kind.as_str_name(), "KEY_KIND_").to_lowercase(),
        };
        table.row([
            key.model.clone(),
            key.source_pk.to_string(),
            key.new_pk.to_string(),
            row,
            key.wanted_slug.clone(),
            key.slug.clone(),
        ]);
    }
    table.render(width)
}

/// Entries of an audit log.
pub(crate) fn audit_entries(answer: &ListAuditEntriesResponse, width: Width) -> String {
    let mut table = Table::new(&[
        ("time", Left),
        ("who", Left),
        ("from", Left),
        ("call", Left),
        ("object", Left),
        ("outcome", Left),
        ("position", Right),
        ("request", Left),
        ("", Left),
    ]);
    for entry in &answer.entries {
        // The name of the service takes most of a line and adds little.
        let call = entry.call.rsplit('/').next().unwrap_or_default();
        let position = if entry.position > 0 { entry.position.to_string() } else { String::new() };
        let left_out = match entry.left_out {
            0 => String::new(),
            count => format!("{count} failed calls before it are not listed"),
        };
        table.row([
            time(entry.time.as_ref().and_then(from_proto)),
            entry.who.clone(),
            entry.address.clone(),
            call.to_owned(),
            entry.object.clone(),
            if entry.reason.is_empty() { entry.outcome.clone() } else { entry.reason.clone() },
            position,
            entry.request_id.clone(),
            left_out,
        ]);
    }
    table.render(width)
}

/// The differences between a region and control, and which were repaired. Commands in the text go to `place`, or to
/// control where they must.
pub(crate) fn differences(
    answer: &ReconcileResponse,
    summary: &ReconcileSummary,
    place: &CommandTarget,
    width: Width,
) -> String {
    let mut text = String::new();
    if !answer.differences.is_empty() {
        let mut table = Table::new(&[
            ("organization", Right),
            ("difference", Left),
            ("here", Left),
            ("control", Left),
            ("", Left),
        ]);
        for difference in &answer.differences {
            let kind = short(difference.kind().as_str_name(), "DIFFERENCE_KIND_").to_owned();
            table.row([
                difference.organization_id.to_string(),
                kind,
                difference.slug.clone(),
                difference.control_slug.clone(),
                if difference.repaired {
                    "repaired".to_owned()
                } else {
                    format!(
                        "{}; {}",
                        difference.message,
                        place.complete(&difference.remedy, &answer.control_addresses)
                    )
                },
            ]);
        }
        text = table.render(width);
        text.push('\n');
    }
    text += &format!(
        "{} compared, {}, {} repaired\n",
        counted(summary.compared, "organization"),
        counted(summary.differences, "difference"),
        count(summary.repaired)
    );
    if summary.moving > 0 {
        let moving = counted(summary.moving, "organization");
        let what = format!(
            "{moving} changed each time that they were looked at, or the region has yet to hear of them; compare again"
        );
        text += &wrap(&what, width, "", 2);
    }
    text
}

#[cfg(test)]
mod tests {
    use causeway_proto::{
        control::v1::{Region, RegionSuspension, SlugReservation},
        region::v1::{Import, ImportFailure, ImportState},
        relocation::v1::{AuditEntry, ErrorReason},
        time::to_proto,
    };

    use super::{super::terminal::plain, *};

    #[test]
    fn reservations_are_a_table() {
        let answer = ListSlugReservationsResponse {
            reservations: [ReservationType::Primary, ReservationType::TemporaryRenameAlias]
                .map(|kind| SlugReservation {
                    slug: "acme".to_owned(),
                    region: "eu".to_owned(),
                    organization_id: 4501,
                    r#type: kind.into(),
                    create_time: Some(to_proto(DateTime::UNIX_EPOCH)),
                    operation_id: "0d6a".to_owned(),
                })
                .into(),
            ..Default::default()
        };
        assert_eq!(
            plain(&reservations(&answer, Width::UNLIMITED)),
            "  slug  organization  region  type       since                 operation\n  \
               acme          4501  eu      primary    1970-01-01T00:00:00Z\n  \
               acme          4501  eu      temporary  1970-01-01T00:00:00Z  0d6a\n"
        );
    }

    #[test]
    fn regions_are_a_table() {
        let time = |seconds| Some(to_proto(DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds)));
        let us = Region {
            name: "us".to_owned(),
            address: "https://us.example.com".to_owned(),
            create_time: time(0),
            last_contact_time: time(60),
            feed_version: 12,
            certificate_end_time: time(3600),
            ..Region::default()
        };
        let mut eu =
            Region { name: "eu".to_owned(), suspension: Some(RegionSuspension::default()), ..us.clone() };
        eu.certificate_end_time = None;
        let new = Region { name: "new".to_owned(), ..Region::default() };
        let answer = ListRegionsResponse { regions: vec![eu, new, us], ..Default::default() };
        let after = |seconds| DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
        // Suspended is more than silent.
        let later = plain(&regions(&answer, after(60 + 3_600), Width::UNLIMITED));
        assert!(later.contains(".com  silent ") && later.contains(".com  suspended "), "{later}");
        assert_eq!(
            plain(&regions(&answer, after(70), Width::UNLIMITED)),
            "  region  address                 state       last contact          feed version  certificate ends\n  \
               eu      https://us.example.com  suspended   1970-01-01T00:01:00Z            12\n  \
               new                             added\n  \
               us      https://us.example.com  registered  1970-01-01T00:01:00Z            12  1970-01-01T01:00:00Z\n"
        );
    }

    #[test]
    fn entries_of_a_log_are_a_table() {
        let entry = AuditEntry {
            time: Some(to_proto(DateTime::UNIX_EPOCH)),
            who: "spiffe://example.org/operator/ann".to_owned(),
            address: "192.0.2.7".to_owned(),
            call: "causeway.region.v1.ImportService/RevertImport".to_owned(),
            object: "organization/7".to_owned(),
            outcome: "NOT_FOUND".to_owned(),
            reason: "IMPORT_NOT_FOUND".to_owned(),
            request_id: "3b1f".to_owned(),
            left_out: 2,
            ..Default::default()
        };
        let done = AuditEntry {
            outcome: "OK".to_owned(),
            reason: String::new(),
            left_out: 0,
            position: 12,
            ..entry.clone()
        };
        let answer = ListAuditEntriesResponse { entries: vec![entry, done], ..Default::default() };
        let lines: Vec<String> =
            audit_entries(&answer, Width::UNLIMITED).lines().map(str::to_owned).collect();
        assert!(lines[1].contains("  RevertImport  organization/7  IMPORT_NOT_FOUND "), "{lines:#?}");
        assert!(lines[1].ends_with("3b1f     2 failed calls before it are not listed"), "{lines:#?}");
        assert!(lines[2].ends_with("OK                      12  3b1f"), "{lines:#?}");
    }

    #[test]
    fn a_failed_import_says_why_in_its_row() {
        let answer = ListImportsResponse {
            imports: vec![Import {
                import_id: "3b1f".to_owned(),
                state: ImportState::Failed.into(),
                failure: Some(ImportFailure {
                    reason: ErrorReason::ExportInvalid.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = imports(&answer, Width::UNLIMITED);
        assert!(text.contains("3b1f    FAILED "), "{text}");
        assert!(text.ends_with("EXPORT_INVALID\n"), "{text}");
        // Where it does not fit beside the others, it goes under them.
        assert_eq!(
            plain(&imports(&answer, Width(24))),
            "  import  state\n  3b1f    FAILED\n    note: EXPORT_INVALID\n"
        );
    }

    #[test]
    fn a_dry_run_is_marked_and_a_list_of_imports_fits_a_terminal() {
        let id = "3b1f5a3e-8d1f-4b9e-9a1e-0a6b6f2f7c11";
        let import = Import {
            import_id: id.to_owned(),
            state: ImportState::Planned.into(),
            dry_run: true,
            size_bytes: 13_600_000_000,
            organization_count: 1_000,
            create_time: Some(to_proto(DateTime::UNIX_EPOCH)),
            update_time: Some(to_proto(DateTime::UNIX_EPOCH)),
            ..Default::default()
        };
        let answer = ListImportsResponse { imports: vec![import], ..Default::default() };
        assert_eq!(
            plain(&imports(&answer, Width(80))),
            format!("  import{:32}state    begun\n  {id}  PLANNED  1970-01-01T00:00:00Z  dry run\n", "")
        );
        let narrow = imports(&answer, Width(20));
        assert!(narrow.starts_with(&format!("  import: {id}\n  state: PLANNED\n")), "{narrow}");
    }

    #[test]
    fn an_organization_is_shown_with_its_name_in_any_script() {
        let organization = Organization {
            id: 7,
            slug: "acme".to_owned(),
            name: "שלום\u{1b}[2J".to_owned(),
            ..Default::default()
        };
        let text = super::organization(&organization, Width(80));
        assert!(
            text.starts_with("id      7\nslug    acme\nname    \u{2068}שלום\u{fffd}[2J\u{2069}\n"),
            "{text}"
        );
    }
}
