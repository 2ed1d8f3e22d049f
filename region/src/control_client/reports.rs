//! What the region tells control about its own work, for people.

use std::time::Duration;

use causeway_client::CallError;
use causeway_proto::control::v1::{
    Instruction, InstructionAnswer, ReportComparisonRequest, ReportImportsRequest, ReportedImport,
    report_service_client::ReportServiceClient,
};

use super::ControlClient;

/// How long a report may take. The next one says the same, so there is no use in waiting long.
const PATIENCE: Duration = Duration::from_secs(10);

impl ControlClient {
    fn patience(&self) -> Duration {
        self.client.timeouts().call.min(PATIENCE)
    }

    /// Reports imports that have changed, how far the feed has been read, what became of instructions, and that the region
    /// is alive. Returns the instructions that wait for it.
    pub(crate) async fn report_imports(
        &self,
        feed_version: i64,
        imports: Vec<ReportedImport>,
        instruction_answers: Vec<InstructionAnswer>,
    ) -> Result<Vec<Instruction>, CallError> {
        let request = ReportImportsRequest {
            region: self.region.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            imports,
            feed_version,
            instruction_answers,
        };
        self.client
            .call(self.patience(), request, async |channel, request| {
                ReportServiceClient::new(channel).report_imports(request).await
            })
            .await
            .map(|answer| answer.instructions)
    }

    /// Reports the result of a comparison.
    pub(crate) async fn report_comparison(
        &self,
        mut request: ReportComparisonRequest,
    ) -> Result<(), CallError> {
        request.region.clone_from(&self.region);
        self.client
            .call(self.patience(), request, async |channel, request| {
                ReportServiceClient::new(channel).report_comparison(request).await
            })
            .await
            .map(|_| ())
    }
}
