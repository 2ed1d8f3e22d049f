//! `causeway.region.v1.ThrottleService`.

use causeway_proto::{
    region::v1::{
        GetThrottleRequest, GetThrottleResponse, SetThrottleRequest, SetThrottleResponse, Throttle,
        ThrottleKind as Kind, throttle_service_server::ThrottleService,
    },
    time::to_proto,
};
use tonic::{Request, Response, Status};

use super::{convert::throttle_kind_to_proto, requester::requester};
use crate::{
    error::Error,
    import::Imports,
    throttle::{Change, Choice, ThrottleKind, ThrottleStatus},
};

/// Handles the calls of the service.
#[derive(Debug)]
pub(super) struct Handler {
    imports: Imports,
}

impl Handler {
    pub(super) fn new(imports: Imports) -> Self {
        Self { imports }
    }
}

fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn throttle(status: ThrottleStatus) -> Throttle {
    let ThrottleStatus { limits, chosen, .. } = status;
    let set = ThrottleKind::ALL.into_iter().filter(|kind| chosen.of(*kind) != Choice::AsStarted);
    Throttle {
        max_rows_per_second: limits.rows_per_second.map(|limit| number(limit.get())),
        max_bytes_per_second: limits.bytes_per_second.map(|limit| number(limit.get())),
        max_probe_latency_ms: limits.probe_latency.map(|limit| number(limit.as_millis())),
        set_by_call: set.map(|kind| throttle_kind_to_proto(kind).into()).collect(),
        set_time: chosen.at.map(to_proto),
        set_by: chosen.by.unwrap_or_default(),
        slowdown_step: i32::try_from(status.step).unwrap_or(i32::MAX),
        write_percent: i32::try_from(status.percent).unwrap_or(i32::MAX),
        probe_latency_us: status.latency.map(|latency| number(latency.as_micros())),
        probe_error: status.probe_error.unwrap_or_default(),
        rows: number(status.rows),
        bytes: number(status.bytes),
        waited_ms: number(status.waited.as_millis()),
    }
}

/// What a request changes.
fn change(request: &SetThrottleRequest) -> Result<Change, Error> {
    let mut change = Change::default();
    let limits = [
        (ThrottleKind::Rows, "max_rows_per_second", request.max_rows_per_second),
        (ThrottleKind::Bytes, "max_bytes_per_second", request.max_bytes_per_second),
        (ThrottleKind::Latency, "max_probe_latency_ms", request.max_probe_latency_ms),
    ];
    for (kind, field, value) in limits {
        if let Some(value) = value {
            let limit = kind.check(value).map_err(|wrong| Error::invalid(field, wrong))?;
            add(&mut change, kind, field, Choice::Limit(limit))?;
        }
    }
    let named = [
        ("unlimited", &request.unlimited, Choice::Unlimited),
        ("as_started", &request.as_started, Choice::AsStarted),
    ];
    for (field, kinds, choice) in named {
        for kind in kinds {
            let kind = match Kind::try_from(*kind) {
                Ok(Kind::Rows) => ThrottleKind::Rows,
                Ok(Kind::Bytes) => ThrottleKind::Bytes,
                Ok(Kind::Latency) => ThrottleKind::Latency,
                Ok(Kind::Unspecified) | Err(_) => {
                    return Err(Error::invalid(field, "is not a kind of limit"));
                }
            };
            add(&mut change, kind, field, choice)?;
        }
    }
    if change == Change::default() {
        return Err(Error::invalid(
            "max_rows_per_second",
            "must be set, or another limit: the request names none",
        ));
    }
    Ok(change)
}

fn add(change: &mut Change, kind: ThrottleKind, field: &'static str, choice: Choice) -> Result<(), Error> {
    let slot = match kind {
        ThrottleKind::Rows => &mut change.rows,
        ThrottleKind::Bytes => &mut change.bytes,
        ThrottleKind::Latency => &mut change.latency,
    };
    match slot.replace(choice) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(field, "must not name a limit that the request names already")),
    }
}

#[tonic::async_trait]
impl ThrottleService for Handler {
    async fn get_throttle(
        &self,
        _: Request<GetThrottleRequest>,
    ) -> Result<Response<GetThrottleResponse>, Status> {
        Ok(Response::new(GetThrottleResponse { throttle: Some(throttle(self.imports.throttle())) }))
    }

    async fn set_throttle(
        &self,
        request: Request<SetThrottleRequest>,
    ) -> Result<Response<SetThrottleResponse>, Status> {
        let requester = requester(&request);
        let status = self.imports.set_throttle(change(&request.into_inner())?, &requester).await?;
        Ok(Response::new(SetThrottleResponse { throttle: Some(throttle(status)) }))
    }
}
