//! Sends a request with other content under a known id. The service must refuse it with the right reason, and change
//! nothing.

use causeway_harness::cluster::{Cluster, ControlApi, Silo};
use causeway_proto::{
    control::v1::{ImportModelsRequest, ImportRecord, LeaseIdsRequest},
    failure::reason_of,
    relocation::v1::ErrorReason::{
        self, ChunkContentDiffers, ImportBeingReverted, OperationContentDiffers, OperationReleased,
    },
};
use causeway_silo::db::{Row, Statement};
use tonic::Status;

use crate::{driver::passes, scenario::SeededRng};

const OPERATIONS: &str = "SELECT o.region, o.operation_id, r.organization_id FROM causeway_slug_operation o \
                          JOIN causeway_organization_slug_reservation r \
                          ON r.region = o.region AND r.operation_id = o.operation_id \
                          ORDER BY o.operation_id, r.organization_id LIMIT 50";
const LEASES: &str =
    "SELECT region, operation_id, model, count FROM causeway_id_lease ORDER BY model, first_id LIMIT 50";
const CHUNKS: &str = "SELECT region, import_id, model, min_ordinal FROM causeway_import_chunk \
                      ORDER BY import_id, model, min_ordinal LIMIT 50";

/// Sends control other content under an operation, a lease or a chunk that it knows. Returns what is wrong
/// with the answer. The error reports that the rows could not be read.
pub(crate) async fn known_id(cluster: &Cluster, rng: &SeededRng) -> anyhow::Result<Option<String>> {
    let control = cluster.control_number(rng.below(cluster.control_count()));
    let which = rng.below(3);
    let sql = [OPERATIONS, LEASES, CHUNKS][which];
    let rows = cluster.shared_db(Silo::Control).await?.fetch_all(Statement::new(sql)).await?;
    let Some(row) = (!rows.is_empty()).then(|| &rows[rng.below(rows.len())]) else { return Ok(None) };
    match which {
        0 => operation(&control, row).await,
        1 => lease(&control, row).await,
        _ => chunk(&control, row).await,
    }
}

/// Describes what is wrong with the answer to a call that must be refused for one of these reasons. `None` if nothing
/// is.
pub(crate) fn must_be_refused<T>(
    what: &str,
    reasons: &[ErrorReason],
    answer: Result<T, Status>,
) -> Option<String> {
    match answer {
        Ok(_) => Some(format!("{what}, with other content, was done")),
        Err(status) => match reason_of(&status) {
            Some(reason) if reasons.contains(&reason) => None,
            // The service could not be reached.
            _ if passes(&status) => None,
            _ => Some(format!("{what}, with other content, is refused for another reason: {status:?}")),
        },
    }
}

async fn operation(control: &ControlApi, row: &Row) -> anyhow::Result<Option<String>> {
    let (region, operation) = (row.text("region")?, row.uuid("operation_id")?.to_string());
    let wanted = [(row.int("organization_id")?, "other-content".to_owned())];
    let answer = control.reserve_all(&region, &operation, &wanted).await;
    let what = format!("slug operation {operation} of {region}");
    Ok(must_be_refused(&what, &[OperationContentDiffers, OperationReleased], answer))
}

async fn lease(control: &ControlApi, row: &Row) -> anyhow::Result<Option<String>> {
    let (region, operation_id) = (row.text("region")?, row.uuid("operation_id")?.to_string());
    let what = format!("lease {operation_id} of {region}");
    let count = i32::try_from(row.int("count")?)? + 1;
    let request = LeaseIdsRequest { region, operation_id, model: row.text("model")?, count, above: 0 };
    let answer = control.regions().lease_ids(request).await;
    Ok(must_be_refused(&what, &[OperationContentDiffers], answer))
}

async fn chunk(control: &ControlApi, row: &Row) -> anyhow::Result<Option<String>> {
    let (region, import_id) = (row.text("region")?, row.uuid("import_id")?.to_string());
    let (model, ordinal) = (row.text("model")?, row.int("min_ordinal")?);
    let what = format!("the chunk of {model} from {ordinal} of import {import_id} of {region}");
    let record = ImportRecord { ordinal, source_pk: 1, byte_offset: 0, fields_json: "{}".to_owned() };
    let request = ImportModelsRequest {
        region,
        import_id,
        model,
        min_ordinal: ordinal,
        max_ordinal: ordinal,
        tables_fingerprint: String::new(),
        records: vec![record],
        ..ImportModelsRequest::default()
    };
    let answer = control.imports().import_models(request).await;
    Ok(must_be_refused(&what, &[ChunkContentDiffers, ImportBeingReverted], answer))
}

#[cfg(test)]
mod tests {
    use causeway_proto::failure::Failure;

    use super::*;

    #[test]
    fn what_is_done_or_refused_for_another_reason_is_wrong() {
        let refused = |reason| Err::<(), _>(Failure::new(reason, "no").into());
        let wrong = |answer| must_be_refused("it", &[OperationContentDiffers], answer);
        assert_eq!(wrong(refused(OperationContentDiffers)), None);
        assert_eq!(wrong(refused(ErrorReason::ShuttingDown)), None);
        assert!(wrong(Ok(())).is_some());
        assert!(wrong(refused(ErrorReason::InvalidArgument)).is_some());
    }
}
