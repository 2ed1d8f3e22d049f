//! What the parts of a region count.

use causeway_metrics::areas::{ComparisonMetrics, ImportMetrics};

/// The handles of all parts of a region.
#[derive(Debug, Clone, Default)]
pub(crate) struct RegionMetrics {
    /// Chunks and their records.
    pub(crate) imports: ImportMetrics,
    /// Comparisons with control.
    pub(crate) comparisons: ComparisonMetrics,
}
