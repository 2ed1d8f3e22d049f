//! `causeway.control.v1.ReportService`.

use causeway_proto::{
    control::v1::{
        self as proto, InstructionAnswer as ProtoAnswer, ReportComparisonRequest, ReportComparisonResponse,
        ReportImportsRequest, ReportImportsResponse, report_service_server::ReportService,
    },
    failure::reason_name,
    finding,
    relocation::v1 as contract,
    time,
};
use chrono::{DateTime, Datelike as _, SubsecRound as _, Utc};
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::uuid;
use crate::{
    Error,
    model::{
        instruction::{Instruction, InstructionAnswer, InstructionKind, InstructionRefusal, NewInstruction},
        report::{
            Comparison, ImportDetails, ImportReport, ImportSummary, ReportedCounts, ReportedDifference,
            ReportedFinding, ReportedFindingCount, ReportedImport, ReportedProgress, ReportedReason,
            ReportedThrottle,
        },
    },
    reports::Reports,
};

#[derive(Debug)]
pub(super) struct Handler {
    reports: Reports,
}

impl Handler {
    pub(super) fn new(reports: Reports) -> Self {
        Self { reports }
    }
}

/// A time to the microsecond, of a year that the contract's times can have. Both databases can store these.
fn instant(field: impl FnOnce() -> String, time: Option<&Timestamp>) -> Result<DateTime<Utc>, Error> {
    match time.and_then(time::from_proto).filter(|time| (1..=9_999).contains(&time.year())) {
        Some(time) => Ok(time.trunc_subsecs(6)),
        None => Err(Error::invalid(field(), "is not a time of the years 1 to 9999")),
    }
}

fn reason(reason: proto::ReportedReason) -> ReportedReason {
    ReportedReason { reason: reason_name(reason.reason()).to_owned(), message: reason.message }
}

fn progress(progress: proto::ReportedProgress) -> ReportedProgress {
    let proto::ReportedProgress { model, records_done, records_total, bytes_done, rate, throttled } =
        progress;
    let throttled = throttled.map(|proto::ReportedThrottle { kind, limit, write_percent }| {
        ReportedThrottle { kind, limit, write_percent }
    });
    ReportedProgress { model, records_done, records_total, bytes_done, rate, throttled }
}

fn counts(counts: contract::ModelCounts) -> ReportedCounts {
    ReportedCounts {
        model: counts.model,
        seen: counts.seen,
        inserted: counts.inserted,
        existing: counts.existing,
        out_of_scope: counts.out_of_scope,
        filtered: counts.filtered,
        dropped: counts.dropped,
        passed_over: counts.passed_over,
        changed: counts.changed,
        deleted: counts.deleted,
        kept: counts.kept,
        added: counts.added,
    }
}

fn severity(severity: contract::Severity) -> String {
    let name = severity.as_str_name();
    name.strip_prefix("SEVERITY_").unwrap_or(name).to_owned()
}

fn kind(kind: contract::FindingKind) -> String {
    finding::name(kind).to_uppercase()
}

fn finding_count(count: &contract::FindingCount) -> ReportedFindingCount {
    ReportedFindingCount {
        kind: kind(count.kind()),
        severity: severity(count.severity()),
        count: count.count,
    }
}

fn found(finding: contract::Finding) -> ReportedFinding {
    ReportedFinding {
        kind: kind(finding.kind()),
        severity: severity(finding.severity()),
        model: finding.model,
        source_pk: finding.source_pk,
        field: finding.field,
        reason: finding.reason,
        remedy: finding.remedy,
    }
}

fn import(index: usize, import: proto::ReportedImport) -> Result<ReportedImport, Error> {
    let field = |name: &str| format!("imports[{index}].{name}");
    let waiting_since = match &import.waiting_since {
        None => None,
        some => Some(instant(|| field("waiting_since"), some.as_ref())?),
    };
    Ok(ReportedImport {
        import_id: uuid(&field("import_id"), &import.import_id)?,
        created_at: instant(|| field("create_time"), import.create_time.as_ref())?,
        updated_at: instant(|| field("update_time"), import.update_time.as_ref())?,
        state: import.state,
        ended: import.ended,
        dry_run: import.dry_run,
        size_bytes: import.size_bytes,
        organization_count: import.organization_count,
        summary: ImportSummary {
            progress: import.progress.map(progress),
            waiting: import.waiting.map(reason),
            waiting_since,
            failure: import.failure.map(reason),
            begun_by: import.begun_by,
            slug_operation: match import.slug_operation_id.as_str() {
                "" => None,
                id => Some(uuid(&field("slug_operation_id"), id)?),
            },
        },
        details: ImportDetails {
            models: import.models.into_iter().map(counts).collect(),
            finding_counts: import.finding_counts.iter().map(finding_count).collect(),
            findings: import.findings.into_iter().map(found).collect(),
            slugs: import.slugs,
        },
    })
}

fn answer(index: usize, answer: ProtoAnswer) -> Result<InstructionAnswer, Error> {
    Ok(InstructionAnswer {
        id: uuid(&format!("instruction_answers[{index}].instruction_id"), &answer.instruction_id)?,
        refusal: answer.refusal.map(|refusal| InstructionRefusal {
            reason: reason_name(refusal.reason()).to_owned(),
            message: refusal.message,
        }),
    })
}

fn instruction(instruction: Instruction) -> proto::Instruction {
    let NewInstruction { id, region: _, import_id, kind, asked_by } = instruction.asked;
    let kind = match kind {
        InstructionKind::Resume => proto::InstructionKind::Resume,
        InstructionKind::Revert => proto::InstructionKind::Revert,
    };
    proto::Instruction {
        instruction_id: id.to_string(),
        import_id: import_id.to_string(),
        kind: kind.into(),
        asked_by,
    }
}

#[tonic::async_trait]
impl ReportService for Handler {
    async fn report_imports(
        &self,
        request: Request<ReportImportsRequest>,
    ) -> Result<Response<ReportImportsResponse>, Status> {
        let ReportImportsRequest { region, version, imports, feed_version, instruction_answers } =
            request.into_inner();
        let imports = imports.into_iter().enumerate().map(|(index, it)| import(index, it));
        let imports = imports.collect::<Result<_, _>>()?;
        let answers = instruction_answers.into_iter().enumerate().map(|(index, it)| answer(index, it));
        let answers = answers.collect::<Result<_, _>>()?;
        let report = ImportReport { region, version, feed_version, imports, answers };
        let waiting = self.reports.report_imports(&report).await?;
        let instructions = waiting.into_iter().map(instruction).collect();
        Ok(Response::new(ReportImportsResponse { instructions }))
    }

    async fn report_comparison(
        &self,
        request: Request<ReportComparisonRequest>,
    ) -> Result<Response<ReportComparisonResponse>, Status> {
        let request = request.into_inner();
        let difference = |it: proto::ReportedDifference| ReportedDifference {
            kind: it.kind,
            organization_id: it.organization_id,
            message: it.message,
            remedy: it.remedy,
            repaired: it.repaired,
        };
        let comparison = Comparison {
            compared_at: instant(|| "compare_time".to_owned(), request.compare_time.as_ref())?,
            region: request.region,
            compared: request.compared,
            difference_count: request.difference_count,
            repaired_count: request.repaired_count,
            moving_count: request.moving_count,
            differences: request.differences.into_iter().map(difference).collect(),
        };
        self.reports.report_comparison(&comparison).await?;
        Ok(Response::new(ReportComparisonResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_the_contract_does_not_know_are_refused_with_their_field() {
        let at = |seconds| instant(|| "compare_time".to_owned(), Some(&Timestamp { seconds, nanos: 0 }));
        // The first and the last second of the years 1 to 9999.
        for seconds in [-62_135_596_800, 0, 253_402_300_799] {
            assert!(at(seconds).is_ok(), "{seconds}");
        }
        for seconds in [i64::MIN, -62_135_596_801, 253_402_300_800, i64::MAX] {
            let refused = at(seconds);
            assert!(
                matches!(&refused, Err(Error::InvalidArgument { field, .. }) if field == "compare_time"),
                "{seconds}: {refused:?}"
            );
        }
        assert!(instant(|| "compare_time".to_owned(), None).is_err());
    }
}
