//! The last comparison that came to its end in this process, for the report to control.

use causeway_proto::{
    control::v1::{ReportComparisonRequest, ReportedDifference},
    time::to_proto,
};
use chrono::{DateTime, Utc};

use super::{Difference, Summary};

/// How many differences of a comparison are reported.
const REPORTED: usize = 100;
/// The most bytes of a text of a difference.
const MAX_TEXT: usize = 4_000;

/// The first differences of a comparison that is under way.
#[derive(Debug, Default)]
pub(super) struct First(Vec<ReportedDifference>);

fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned()
}

impl First {
    /// Keeps differences that were found, as long as there is room.
    pub(super) fn keep(&mut self, found: &[Difference]) {
        let room = REPORTED.saturating_sub(self.0.len());
        self.0.extend(found.iter().take(room).map(|it| ReportedDifference {
            kind: it.kind.as_str_name().trim_start_matches("DIFFERENCE_KIND_").to_owned(),
            organization_id: it.organization_id,
            message: bounded(&it.message),
            remedy: bounded(&it.remedy),
            repaired: it.repaired,
        }));
    }

    /// The report about the comparison, which has ended now.
    pub(super) fn report(self, summary: &Summary, now: DateTime<Utc>) -> ReportComparisonRequest {
        ReportComparisonRequest {
            region: String::new(),
            compare_time: Some(to_proto(now)),
            compared: summary.compared,
            difference_count: summary.differences,
            repaired_count: summary.repaired,
            moving_count: summary.moving,
            differences: self.0,
        }
    }
}
