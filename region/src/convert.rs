//! Converts findings, counts and statuses between messages of the contract and the region's own types.

use causeway_proto::{
    finding, organization_status,
    relocation::v1::{self as contract, OrganizationStatus},
};
use causeway_relocation::finding::{Finding, FindingKind, Severity, Tense};

use crate::{
    error::paused,
    import::{Import, ModelCounts, Waiting},
};

/// The contract's kind of finding for one of the region.
pub(crate) fn kind_to_proto(kind: FindingKind) -> contract::FindingKind {
    finding::kind(kind.name())
}

/// The region's kind of finding for one of the contract; `None` if it has none.
pub(crate) fn kind_from_proto(kind: contract::FindingKind) -> Option<FindingKind> {
    finding::name(kind).parse().ok()
}

/// The region's severity for one of the contract; `None` if that is unspecified.
pub(crate) fn severity_from_proto(severity: contract::Severity) -> Option<Severity> {
    match severity {
        contract::Severity::Unspecified => None,
        contract::Severity::Info => Some(Severity::Info),
        contract::Severity::Warning => Some(Severity::Warning),
        contract::Severity::Error => Some(Severity::Error),
    }
}

pub(crate) fn severity_to_proto(severity: Severity) -> contract::Severity {
    match severity {
        Severity::Info => contract::Severity::Info,
        Severity::Warning => contract::Severity::Warning,
        Severity::Error => contract::Severity::Error,
    }
}

/// Encodes a finding for a caller.
pub(crate) fn finding_to_proto(finding: Finding, tense: Tense) -> contract::Finding {
    contract::Finding {
        kind: kind_to_proto(finding.kind).into(),
        severity: severity_to_proto(finding.kind.severity_in(tense)).into(),
        model: finding.model.unwrap_or_default(),
        ordinal: finding.ordinal.unwrap_or(0),
        source_pk: finding.source_pk.unwrap_or(0),
        field: finding.field.unwrap_or_default(),
        byte_offset: finding.byte_offset.unwrap_or(-1),
        reason: finding.reason,
        remedy: finding.kind.remedy_in(tense).to_owned(),
    }
}

/// Decodes a finding that control made. A kind that this release does not know becomes [`FindingKind::Unknown`].
pub(crate) fn finding_from_proto(finding: &contract::Finding) -> Finding {
    Finding {
        kind: kind_from_proto(finding.kind()).unwrap_or(FindingKind::Unknown),
        model: Some(finding.model.clone()).filter(|model| !model.is_empty()),
        ordinal: Some(finding.ordinal).filter(|ordinal| *ordinal > 0),
        source_pk: Some(finding.source_pk).filter(|pk| *pk > 0),
        field: Some(finding.field.clone()).filter(|field| !field.is_empty()),
        byte_offset: Some(finding.byte_offset).filter(|offset| *offset >= 0),
        reason: finding.reason.clone(),
    }
}

/// The status of an organization in control's directory. A status that the contract does not know stays in the region's
/// row, and is active in the directory.
pub(crate) fn directory_status(status: i64) -> OrganizationStatus {
    match organization_status::from_stored(status) {
        OrganizationStatus::Unspecified => OrganizationStatus::Active,
        status => status,
    }
}

/// What an import waits for. A pause is not stored as something that it waits for, and comes before everything else.
pub(crate) fn waiting_of(import: &Import) -> Option<Waiting> {
    match &import.pause {
        Some(pause) => Some(Waiting {
            reason: contract::ErrorReason::ImportPaused,
            message: paused(&import.id, pause),
            since: pause.since,
            attempts: 0,
        }),
        None => import.waiting.clone(),
    }
}

/// How many findings of each kind there are.
pub(crate) fn finding_counts_to_proto(
    counts: Vec<(FindingKind, i64)>,
    tense: Tense,
) -> Vec<contract::FindingCount> {
    let counts = counts.into_iter().map(|(kind, count)| contract::FindingCount {
        kind: kind_to_proto(kind).into(),
        severity: severity_to_proto(kind.severity_in(tense)).into(),
        count,
    });
    counts.collect()
}

/// The counts of a model.
pub(crate) fn counts_to_proto(counts: ModelCounts) -> contract::ModelCounts {
    contract::ModelCounts {
        model: counts.model,
        seen: counts.seen,
        inserted: counts.inserted,
        existing: counts.existing,
        out_of_scope: counts.out_of_scope,
        filtered: counts.filtered,
        dropped: counts.dropped,
        deleted: counts.deleted,
        kept: counts.kept,
        passed_over: counts.passed_over,
        changed: counts.changed,
        added: counts.added,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_kind_is_in_the_contract_and_back() {
        for kind in FindingKind::ALL {
            assert_eq!(kind_from_proto(kind_to_proto(*kind)), Some(*kind));
        }
    }
}
