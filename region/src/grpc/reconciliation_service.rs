//! `causeway.region.v1.ReconciliationService`.

use std::{pin::pin, time::Duration};

use causeway_audit::Subject;
use causeway_proto::region::v1::{
    Difference, ReconcileMode, ReconcileRequest, ReconcileResponse, ReconcileSummary,
    reconciliation_service_server::ReconciliationService,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    error::Error,
    reconcile::{self, Mode, Reconciler, Summary},
};

/// How long a caller may leave an answer unread. The comparison waits for that, and other comparisons wait for this
/// one.
const PATIENCE: Duration = Duration::from_secs(15);

type Answer = Result<ReconcileResponse, Status>;

/// Handles the calls of the service.
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

fn summary_of(summary: Summary) -> ReconcileSummary {
    let Summary { compared, differences, repaired, moving } = summary;
    ReconcileSummary { compared, differences, repaired, moving }
}

/// Sends differences to a caller, as long as the caller reads them and the service does not stop. Returns whether all
/// were sent.
async fn tell(
    found: &mut mpsc::Receiver<Vec<reconcile::Difference>>,
    answers: &mpsc::Sender<Answer>,
    stopping: impl Future<Output = ()>,
) -> bool {
    let mut stopping = pin!(stopping);
    loop {
        let differences = tokio::select! {
            differences = found.recv() => differences,
            () = answers.closed() => {
                // The comparison finishes what it has begun, and no more than that.
                found.close();
                return false;
            }
        };
        let Some(differences) = differences else { return true };
        let differences = differences.into_iter().map(difference).collect();
        let answer = answers.send(Ok(ReconcileResponse { differences, ..Default::default() }));
        // A caller that has gone is noticed at the next page.
        let waited = tokio::select! {
            biased;
            sent = timeout(PATIENCE, answer) => sent.is_ok(),
            () = &mut stopping => false,
        };
        if !waited {
            return false;
        }
    }
}

/// Sends a caller what a comparison finds and, in the end, its summary. A caller that does not read delays nothing: the
/// comparison continues without reporting.
async fn forward(
    comparison: impl Future<Output = Result<Summary, Error>>,
    mut found: mpsc::Receiver<Vec<reconcile::Difference>>,
    answers: mpsc::Sender<Answer>,
    stopping: impl Future<Output = ()>,
    control_addresses: Vec<String>,
) {
    // A place for the last answer, so that sending it never waits. A caller that has gone before the start gets
    // nothing.
    let Ok(last) = answers.reserve().await else { return };
    let telling = async {
        let all = tell(&mut found, &answers, stopping).await;
        while found.recv().await.is_some() {}
        all
    };
    let (outcome, all) = tokio::join!(comparison, telling);
    match outcome {
        Ok(summary) if all => {
            let summary = Some(summary_of(summary));
            last.send(Ok(ReconcileResponse { differences: Vec::new(), summary, control_addresses }));
        }
        // No summary, because it would mean that nothing else was found.
        Ok(_) => {}
        Err(error) => last.send(Err(error.into())),
    }
}

#[tonic::async_trait]
impl ReconciliationService for Handler {
    type ReconcileStream = ReceiverStream<Answer>;

    async fn reconcile(
        &self,
        request: Request<ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        causeway_audit::about(Subject::region(&self.reconciler.context().region));
        let mode = match ReconcileMode::try_from(request.into_inner().mode) {
            Ok(ReconcileMode::Check) => Mode::Check,
            Ok(ReconcileMode::Repair) => Mode::Repair,
            Ok(ReconcileMode::Unspecified) | Err(_) => {
                return Err(Error::invalid("mode", "must be to check or to repair").into());
            }
        };
        // One place for differences, and one for the last answer.
        let (answers, stream) = mpsc::channel(2);
        let reconciler = self.reconciler.clone();
        // Runs to the end of a page even if the caller goes away, because what has begun must be finished.
        self.reconciler.context().lifecycle.background(causeway_audit::in_current_call(async move {
            let (differences_out, found) = mpsc::channel(1);
            let comparison = reconciler.run(mode, differences_out);
            let context = reconciler.context();
            forward(
                comparison,
                found,
                answers,
                context.lifecycle.stopping(),
                context.control.urls().to_vec(),
            )
            .await;
        }));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::{sync::oneshot, time::Instant};

    use super::*;

    /// How many pages a comparison of these tests has, with one difference each: more than the channels hold.
    const PAGES: i64 = 20;

    /// A comparison that finds a difference on each page, and reports its number of pages. Like a real one, it ends
    /// after a page if the receiver is gone.
    async fn comparison(
        differences_out: mpsc::Sender<Vec<reconcile::Difference>>,
        pages: oneshot::Sender<i64>,
    ) -> Result<Summary, Error> {
        let mut differences = 0;
        while differences < PAGES
            && differences_out.send(vec![reconcile::slug_twice(String::new(), differences, 0)]).await.is_ok()
        {
            differences += 1;
        }
        pages.send(differences).expect("somebody wants to know");
        Ok(Summary { differences, ..Summary::default() })
    }

    struct Call {
        stream: mpsc::Receiver<Answer>,
        pages: oneshot::Receiver<i64>,
    }

    fn call(stopping: impl Future<Output = ()> + Send + 'static) -> Call {
        let (answers, stream) = mpsc::channel(2);
        let (counting, pages) = oneshot::channel();
        let (differences_out, found) = mpsc::channel(1);
        let addresses = vec!["http://127.0.0.1:1".to_owned()];
        tokio::spawn(forward(comparison(differences_out, counting), found, answers, stopping, addresses));
        Call { stream, pages }
    }

    /// Reads the answers with `pause` after each: the ids of their organizations, and the summary.
    async fn read(
        stream: &mut mpsc::Receiver<Answer>,
        pause: Duration,
    ) -> (Vec<i64>, Option<ReconcileSummary>) {
        let (mut ids, mut summary) = (Vec::new(), None);
        tokio::time::sleep(pause).await;
        while let Some(answer) = stream.recv().await {
            let answer = answer.expect("a part of it");
            assert_eq!(summary, None, "the summary is in the last part");
            ids.extend(answer.differences.iter().map(|it| it.organization_id));
            assert_eq!(answer.control_addresses.is_empty(), answer.summary.is_none());
            summary = answer.summary;
            tokio::time::sleep(pause).await;
        }
        (ids, summary)
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_reads_hears_all_and_the_summary() {
        for pause in [Duration::ZERO, PATIENCE - Duration::from_secs(1)] {
            let mut call = call(pending());
            let (ids, summary) = read(&mut call.stream, pause).await;
            assert_eq!(ids, (0..PAGES).collect::<Vec<_>>());
            assert_eq!(summary.expect("a summary").differences, PAGES);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_does_not_read_holds_up_nobody() {
        let began = Instant::now();
        let mut call = call(pending());
        assert_eq!(call.pages.await.expect("it ends"), PAGES);
        assert_eq!(began.elapsed(), PATIENCE);
        // A caller that reads later gets no summary, because it has missed differences.
        assert_eq!(read(&mut call.stream, Duration::ZERO).await, (vec![0], None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_does_not_read_holds_up_no_stop() {
        let began = Instant::now();
        let call = call(ready(()));
        assert_eq!(call.pages.await.expect("it ends"), PAGES);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_comparison_ends_after_a_page_if_its_caller_has_gone() {
        let began = Instant::now();
        let Call { mut stream, pages } = call(pending());
        stream.recv().await.expect("an answer").expect("a part of it");
        drop(stream);
        assert!(pages.await.expect("it ends") < PAGES);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
