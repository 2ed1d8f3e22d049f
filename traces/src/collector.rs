//! Sends ended spans to the collector, in batches, and drops what it does not take.

use std::{sync::Arc, time::Duration};

use opentelemetry::Context;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse, trace_service_client::TraceServiceClient,
    },
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, transport::Channel};

use crate::{OtlpEndpoint, counts::Counts};

/// Spans that may wait for the collector. A span takes about a kilobyte.
pub(crate) const QUEUE: usize = 4_096;
/// The most spans in one call.
pub(crate) const BATCH: usize = 512;
/// How long spans wait for others to be sent with them.
const DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take to answer.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often dropped spans are logged, at most.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Takes spans that have ended. Never waits: a span that has no place in the queue is dropped.
#[derive(Debug)]
pub(crate) struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
}

impl Queue {
    pub(crate) fn new(counts: &Arc<Counts>) -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, queue) = mpsc::channel(QUEUE);
        (Self { spans, counts: Arc::clone(counts) }, queue)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.counts.ended();
        if self.spans.try_send(span).is_err() {
            self.counts.settled(1, 1, "the collector is slower than spans end");
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    /// [`crate::Traces::stop`] ends the sending.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Sends what is in the queue until it is stopped, and then what is left in it.
pub(crate) struct Sender {
    pub(crate) queue: mpsc::Receiver<SpanData>,
    pub(crate) client: TraceServiceClient<Channel>,
    pub(crate) resource: ResourceAttributesWithSchema,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stopping: CancellationToken,
}

impl Sender {
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let count = tokio::select! {
                count = self.queue.recv_many(&mut batch, BATCH) => count,
                () = self.stopping.cancelled(), if !self.queue.is_closed() => {
                    // From now on, what is in the queue is all that comes.
                    self.queue.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            self.fill(&mut batch).await;
            self.send(std::mem::take(&mut batch)).await;
        }
    }

    /// Waits a little for spans to be sent in the same call, unless sending stops.
    async fn fill(&mut self, batch: &mut Vec<SpanData>) {
        let mut delay = std::pin::pin!(sleep(DELAY));
        while batch.len() < BATCH {
            let missing = BATCH - batch.len();
            tokio::select! {
                count = self.queue.recv_many(batch, missing) => if count == 0 { return },
                () = &mut delay => return,
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// Sends a batch once. If that fails, its spans are dropped: those that come meanwhile need their place.
    async fn send(&mut self, batch: Vec<SpanData>) {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let call = self.client.export(ExportTraceServiceRequest { resource_spans });
        let (dropped, why) = match timeout(CALL_TIMEOUT, call).await {
            Ok(Ok(answer)) => rejected(answer, spans),
            Ok(Err(status)) => (spans, explained(&status)),
            Err(_) => (spans, format!("no answer within {CALL_TIMEOUT:?}")),
        };
        self.counts.settled(spans, dropped, &why);
    }
}

/// How many spans of a batch the collector has not taken, and why.
fn rejected(answer: Response<ExportTraceServiceResponse>, spans: u64) -> (u64, String) {
    let partial = answer.into_inner().partial_success.unwrap_or_default();
    let rejected = u64::try_from(partial.rejected_spans).unwrap_or(0).min(spans);
    (rejected, bounded(&format!("the collector has refused them: {}", partial.error_message)))
}

/// A status in words, with what the transport knows of it.
fn explained(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    bounded(&text)
}

/// What a collector says, short and on one line, for the log.
fn bounded(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

/// Logs dropped spans, if there are new ones, but at most once a minute.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) endpoint: OtlpEndpoint,
    pub(crate) counts: Arc<Counts>,
    reported: u64,
}

impl Report {
    pub(crate) fn new(endpoint: OtlpEndpoint, counts: Arc<Counts>) -> Self {
        Self { endpoint, counts, reported: 0 }
    }

    /// Reports until `stopping`, and returns itself for the last report.
    pub(crate) async fn run(mut self, stopping: CancellationToken) -> Self {
        let mut ticks = interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.report(),
                () = stopping.cancelled() => return self,
            }
        }
    }

    /// Logs what was dropped since the last report.
    pub(crate) fn report(&mut self) {
        let in_all = self.counts.dropped();
        if in_all == self.reported {
            return;
        }
        let dropped = in_all - self.reported;
        self.reported = in_all;
        tracing::warn!(
            dropped,
            in_all,
            endpoint = %self.endpoint,
            why = self.counts.why(),
            "spans of traces were dropped, and nothing else is affected: the collector of --otlp-endpoint did not take \
             them. `nc -vz {}` shows whether it listens",
            self.endpoint.host_and_port()
        );
    }
}

#[cfg(test)]
mod tests;
