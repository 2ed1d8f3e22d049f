//! Findings: stored up to a limit, and always counted.

use causeway_relocation::finding::{Finding, FindingKind, Severity};
use causeway_silo::db::DbError;

use super::{ImportState, context::ImportContext};
use crate::store::{self, lease_transaction::LeaseTransaction};

/// How many findings of a kind are stored even above the limit, so that there are examples of each kind.
const FEW: i64 = 5;

/// How many findings about rows that were added are stored. There may be one for each record, and nobody needs them all; so
/// they leave room for those that somebody must see.
const MOST_ADDED: i64 = 1_000;

impl ImportContext {
    /// Adds findings to an import in their order, as long as there is room. Errors and the first few of each kind are
    /// always stored. The first time that some are left out, that is a finding too.
    pub(super) async fn add_findings(
        &self,
        lease: &mut LeaseTransaction<'_>,
        state: ImportState,
        findings: &[Finding],
    ) -> Result<(), DbError> {
        if findings.is_empty() {
            return Ok(());
        }
        let mut before = store::finding::totals(lease).await?;
        let limit = self.limits.findings;
        let mut room = i64::from(limit) - before.stored;
        let mut to_store: Vec<Finding> = Vec::with_capacity(findings.len());
        for finding in findings {
            let of_kind = before.stored_of.entry(finding.kind).or_default();
            let is_one_more = finding.kind == FindingKind::RowAdded && *of_kind >= MOST_ADDED;
            let has_room = room > 0 && !is_one_more;
            if has_room || *of_kind < FEW || finding.kind.severity() == Severity::Error {
                to_store.push(finding.clone());
                room -= 1;
                *of_kind += 1;
            }
        }
        let mut made = findings.to_vec();
        if to_store.len() < findings.len() && before.made == before.stored {
            let reason = if room > 0 {
                format!(
                    "more than {MOST_ADDED} rows were added; the findings about the others are counted and not stored"
                )
            } else {
                format!(
                    "the import has more than {limit} findings; those after them are counted by kind and not stored"
                )
            };
            let notice = Finding::new(FindingKind::FindingsNotStored, reason);
            made.push(notice.clone());
            to_store.push(notice);
        }
        store::finding::count(lease, state, &made, &to_store).await?;
        store::finding::insert(lease, state, &to_store).await
    }
}
