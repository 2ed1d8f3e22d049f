//! `causeway.region.v1.ReconciliationService`.

use causeway_proto::region::v1::{
    Difference, ReconcileMode, ReconcileRequest, ReconcileResponse, ReconcileSummary,
    reconciliation_service_server::ReconciliationService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    reconcile::{self, Mode, Reconciler, Summary},
};

/// Answers the calls.
#[derive(Debug)]
pub(super) struct Handler {
    reconciler: Reconciler,
}

impl Handler {
    pub(super) fn new(reconciler: Reconciler) -> Self {
        Self { reconciler }
    }
}

fn difference(difference: reconcile::Difference) -> Difference {
    Difference {
        kind: difference.kind.into(),
        organization_id: difference.organization_id,
        slug: difference.slug.unwrap_or_default(),
        control_slug: difference.control_slug.unwrap_or_default(),
        message: difference.message,
        remedy: difference.remedy,
        repaired: difference.repaired,
    }
}

fn summary(summary: Summary) -> ReconcileSummary {
    let Summary { compared, differences, repaired, moving } = summary;
    ReconcileSummary { compared, differences, repaired, moving }
}

/// Tells a caller what is found, as long as the caller is there.
async fn forward(
    mut found: mpsc::Receiver<Vec<reconcile::Difference>>,
    answers: &mpsc::Sender<Result<ReconcileResponse, Status>>,
) {
    loop {
        let differences = tokio::select! {
            differences = found.recv() => differences,
            () = answers.closed() => None,
        };
        let Some(differences) = differences else { return };
        let differences = differences.into_iter().map(difference).collect();
        // One who has gone is noticed when the next page is told.
        let _gone = answers.send(Ok(ReconcileResponse { differences, summary: None })).await;
    }
}

#[tonic::async_trait]
impl ReconciliationService for Handler {
    type ReconcileStream = ReceiverStream<Result<ReconcileResponse, Status>>;

    async fn reconcile(
        &self,
        request: Request<ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let mode = match ReconcileMode::try_from(request.into_inner().mode) {
            Ok(ReconcileMode::Check) => Mode::Check,
            Ok(ReconcileMode::Repair) => Mode::Repair,
            Ok(ReconcileMode::Unspecified) | Err(_) => {
                return Err(Error::invalid("mode", "must be to check or to repair").into());
            }
        };
        let (answers, stream) = mpsc::channel(1);
        let reconciler = self.reconciler.clone();
        // To the end of a page, also if the caller goes away: what is begun is done.
        self.reconciler.runner().background(async move {
            let (told, found) = mpsc::channel(1);
            let (outcome, ()) = tokio::join!(reconciler.run(mode, told), forward(found, &answers));
            let last = outcome
                .map(|it| ReconcileResponse { differences: Vec::new(), summary: Some(summary(it)) })
                .map_err(Status::from);
            // A caller who has gone need not hear it.
            let _gone = answers.send(last).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
