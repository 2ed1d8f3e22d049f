//! The last comparison that came to its end in this process, for the report to control.

use causeway_proto::{
    control::v1::{ReportComparisonRequest, ReportedDifference},
    limits::{MAX_REPORTED_DIFFERENCES, MAX_REPORTED_TEXT_BYTES},
    time::to_proto,
};
use chrono::{DateTime, Utc};

use super::{Difference, Summary};
use crate::report::bounded;

/// The first differences of a comparison that is under way.
#[derive(Debug, Default)]
pub(super) struct First(Vec<ReportedDifference>);

impl First {
    /// Keeps differences that were found, as long as there is room.
    pub(super) fn keep(&mut self, found: &[Difference]) {
        let room = MAX_REPORTED_DIFFERENCES.saturating_sub(self.0.len());
        self.0.extend(found.iter().take(room).map(|it| ReportedDifference {
            kind: it.kind.as_str_name().trim_start_matches("DIFFERENCE_KIND_").to_owned(),
            organization_id: it.organization_id,
            message: bounded(&it.message, MAX_REPORTED_TEXT_BYTES),
            remedy: bounded(&it.remedy, MAX_REPORTED_TEXT_BYTES),
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
