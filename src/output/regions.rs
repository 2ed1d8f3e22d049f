//! What an operator has to know about regions, besides the table of them.

use causeway_proto::{
    control::v1::{ListRegionsResponse, Region, RegionSuspension},
    time::from_proto,
};
use causeway_tls::WARN_BEFORE;
use chrono::{DateTime, Utc};

use super::{lists::time, place::CommandTarget, table::clean};

/// Where a region stands, in a word.
pub(super) fn state(region: &Region) -> &'static str {
    match (&region.suspension, &region.create_time) {
        (Some(_), _) => "suspended",
        (None, Some(_)) => "registered",
        (None, None) => "added",
    }
}

/// A line for each region that is suspended, with the command that resumes it, and for each whose certificate ends
/// soon.
pub(crate) fn notes(answer: &ListRegionsResponse, place: &CommandTarget, now: DateTime<Utc>) -> Vec<String> {
    let mut notes = Vec::new();
    for region in &answer.regions {
        let name = region.name.as_str();
        if let Some(RegionSuspension { suspend_time, text, .. }) = &region.suspension {
            let since = time(suspend_time.as_ref().and_then(from_proto));
            let text = if text.is_empty() { String::new() } else { format!(" ({})", clean(text)) };
            let resume = place.command(["regions", "resume", name]);
            notes.push(format!(
                "region {name} has been suspended since {since}{text}; to resume it: `{resume}`"
            ));
        }
        if let Some(end) = region.certificate_end_time.as_ref().and_then(from_proto)
            && end - now <= WARN_BEFORE
        {
            let ends = if end < now { "has ended on" } else { "ends on" };
            notes.push(format!(
                "the certificate with which region {name} last registered {ends} {}; issue a new one",
                time(Some(end))
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use causeway_proto::time::to_proto;
    use chrono::TimeDelta;

    use super::*;

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
                "the certificate with which region c last registered ends on 1970-04-25T00:00:00Z; issue a new one",
                "the certificate with which region d last registered has ended on 1970-04-10T00:00:00Z; issue a new one",
            ]
        );
    }
}
