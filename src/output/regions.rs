//! What an operator has to know about regions, in addition to the table of them.

use causeway_control::model::region::SILENT_AFTER;
use causeway_proto::{
    control::v1::{IdConflict, IdConflictKind, ListRegionsResponse, Region, RegionSuspension},
    time::from_proto,
};
use causeway_tls::WARN_BEFORE;
use chrono::{DateTime, Utc};

use super::{
    place::CommandTarget,
    table::{clean, time},
};

/// The state of a region, in a word.
pub(super) fn state(region: &Region, now: DateTime<Utc>) -> &'static str {
    let heard = region.last_contact_time.as_ref().and_then(from_proto);
    match (&region.suspension, &region.create_time) {
        (Some(_), _) => "suspended",
        (None, Some(_)) if heard.is_some_and(|heard| now - heard > SILENT_AFTER) => "silent",
        (None, Some(_)) => "registered",
        (None, None) => "added",
    }
}

/// Something to know about a region, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) fact: String,
    pub(crate) to_do: String,
}

/// That a region is suspended, with the command that resumes it.
pub(crate) fn suspension(region: &Region, place: &CommandTarget) -> Option<Note> {
    let name = region.name.as_str();
    let RegionSuspension { suspend_time, text, .. } = region.suspension.as_ref()?;
    let since = time(suspend_time.as_ref().and_then(from_proto));
    let text = if text.is_empty() { String::new() } else { format!(" ({})", clean(text)) };
    Some(Note {
        fact: format!("region {name} has been suspended since {since}{text}"),
        to_do: format!("to resume it: `{}`", place.command(["regions", "resume", name])),
    })
}

/// That the certificate of a region ends soon, or has ended.
pub(crate) fn certificate(region: &Region, now: DateTime<Utc>) -> Option<Note> {
    let end = region.certificate_end_time.as_ref().and_then(from_proto);
    let end = end.filter(|end| *end - now <= WARN_BEFORE)?;
    let ends = if end < now { "has ended on" } else { "ends on" };
    Some(Note {
        fact: format!(
            "the certificate with which region {} last registered {ends} {}",
            region.name,
            time(Some(end))
        ),
        to_do: "issue a new one: docs/tls.md says how".to_owned(),
    })
}

/// A line for each region that is suspended, with the command that resumes it, and for each whose certificate ends
/// soon.
pub(crate) fn notes(answer: &ListRegionsResponse, place: &CommandTarget, now: DateTime<Utc>) -> Vec<String> {
    let of_region = |region| [suspension(region, place), certificate(region, now)];
    let notes = answer.regions.iter().flat_map(of_region).flatten();
    notes.map(|Note { fact, to_do }| format!("{fact}; {to_do}")).collect()
}

/// How many conflicts of one region get a line.
const CONFLICTS: usize = 5;

/// A line for each range of ids that a region has and that belong to another one too, and what to do about them.
pub(crate) fn conflict_notes(name: &str, conflicts: &[IdConflict]) -> Vec<String> {
    let mut notes: Vec<String> = conflicts
        .iter()
        .take(CONFLICTS)
        .map(|conflict| {
            let ids = conflict.ids.unwrap_or_default();
            let other = &conflict.region;
            let why = match conflict.kind() {
                IdConflictKind::Leased => format!("control has leased them to {other}"),
                IdConflictKind::Held => format!("{other} has rows of these ids too"),
                IdConflictKind::Reserved => format!("{other} has reserved slugs for organizations of these ids"),
                IdConflictKind::Unspecified => "control does not say why".to_owned(),
            };
            let model = clean(&conflict.model);
            let (first, last) = (ids.first_id, ids.last_id);
            format!("region {name} has ids that belong to region {other} as well: {model} {first} to {last}; {why}")
        })
        .collect();
    let more = conflicts.len().saturating_sub(CONFLICTS);
    if more > 0 {
        notes.push(format!(
            "region {name} has {more} more ranges of ids that belong to other regions as well"
        ));
    }
    if !conflicts.is_empty() {
        let of_organizations = conflicts.iter().any(|conflict| conflict.model == "sentry.organization");
        let directory = match of_organizations {
            true => format!(
                "control's directory does not take organizations of {name} with such ids, and they get no slug. "
            ),
            false => String::new(),
        };
        notes.push(format!(
            "{directory}Give them other ids in one of the two regions: export their organizations, import them again, \
             delete the old ones"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use causeway_proto::{control::v1::IdRange, time::to_proto};
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn conflicts_are_reported_with_what_to_do_and_never_too_many() {
        let conflict = |first_id| IdConflict {
            model: "sentry.organization".to_owned(),
            ids: Some(IdRange { first_id, last_id: first_id + 2 }),
            region: "us".to_owned(),
            kind: IdConflictKind::Leased.into(),
        };
        assert_eq!(conflict_notes("de", &[]), [] as [String; 0]);
        let notes = conflict_notes("de", &(0..8).map(|index| conflict(1 + index * 10)).collect::<Vec<_>>());
        assert_eq!(notes.len(), CONFLICTS + 2);
        assert_eq!(
            notes[1],
            "region de has ids that belong to region us as well: sentry.organization 11 to 13; control has leased them to us"
        );
        assert!(notes[CONFLICTS].contains("de has 3 more ranges"), "{notes:#?}");
        assert!(notes[CONFLICTS + 1].contains("import them again"), "{notes:#?}");
    }

    #[test]
    fn an_operator_is_told_of_suspensions_and_of_certificates_that_end() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(100);
        let region = |name: &str, ends_in: Option<TimeDelta>| Region {
            name: name.to_owned(),
            create_time: Some(to_proto(now)),
            certificate_end_time: ends_in.map(|left| to_proto(now + left)),
            ..Region::default()
        };
        let mut regions = vec![
            region("a", None),
            region("b", Some(TimeDelta::days(15))),
            region("c", Some(TimeDelta::days(14))),
            region("d", Some(TimeDelta::days(-1))),
        ];
        regions[0].suspension = Some(RegionSuspension {
            suspend_time: Some(to_proto(now)),
            suspended_by: String::new(),
            text: "stolen\nkey".to_owned(),
        });
        let place = CommandTarget::Control("http://127.0.0.1:50051".to_owned());
        let answer = ListRegionsResponse { regions, ..ListRegionsResponse::default() };
        assert_eq!(
            notes(&answer, &place, now),
            [
                "region a has been suspended since 1970-04-11T00:00:00Z (stolen\u{fffd}key); to resume it: `causeway \
                 regions resume a --control http://127.0.0.1:50051`",
                "the certificate with which region c last registered ends on 1970-04-25T00:00:00Z; issue a new one: \
                 docs/tls.md says how",
                "the certificate with which region d last registered has ended on 1970-04-10T00:00:00Z; issue a new \
                 one: docs/tls.md says how",
            ]
        );
    }
}
