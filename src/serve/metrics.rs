//! What `--metrics-listen` shows of a service: its calls, its health, its certificates, its database, and what the service
//! itself knows.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
};

use causeway_metrics::{Exposition, Readings, Registry, Sample, table};
use causeway_proto::{
    access::{self, NoRule},
    failure::{code_name, reason_name, reason_of},
    version::CONTRACT_REVISION,
};
use causeway_silo::db;
use tonic::{Status, codegen::http::HeaderMap};

use super::{ServedService, calls::Calls, certificates::Certificates, health::Health};

/// The calls that are not of the contract.
const OTHERS: [&str; 4] = [
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// The label of all calls that do not exist. A caller can write any path.
const UNKNOWN: &str = "unknown";
/// The code of a call whose caller did not wait for its end.
const GIVEN_UP: &str = "GIVEN_UP";

/// The calls that have a label of their own.
static KNOWN: LazyLock<Result<HashSet<String>, NoRule>> = LazyLock::new(|| {
    let of_contract = access::rules()?.into_keys().map(|path| path.trim_start_matches('/').to_owned());
    Ok(of_contract.chain(OTHERS.map(str::to_owned)).collect())
});

/// The label of a call, whose path is what its caller wrote. A server does not start with a contract that cannot be read.
pub(super) fn rpc_label(method: &str) -> &str {
    if KNOWN.as_ref().is_ok_and(|known| known.contains(method)) { method } else { UNKNOWN }
}

/// How a call has ended, as its labels show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) code: &'static str,
    pub(super) reason: &'static str,
}

impl Default for Ending {
    fn default() -> Self {
        Self { code: GIVEN_UP, reason: "" }
    }
}

impl Ending {
    /// How the call has ended, if the headers or trailers of its answer contain that.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.get(Status::GRPC_STATUS).is_some_and(|code| code == "0") {
            return Some(Self { code: "OK", reason: "" });
        }
        let status = Status::from_header_map(headers)?;
        let reason = reason_of(&status).map_or("", reason_name);
        Some(Self { code: code_name(status.code()), reason })
    }
}

/// All metrics of a service.
pub(super) fn exposition<S: ServedService>(
    silo: Arc<S>,
    calls: &Calls,
    health: Health,
    certificates: Certificates,
) -> Exposition {
    let mut counted = Registry::default();
    calls.metrics().register(&mut counted);
    silo.register_metrics(&mut counted);
    let readings = Readings::new(silo.readings());
    let (service, name) = match calls.region() {
        Some(name) => ("region", name.to_owned()),
        None => ("control", "control".to_owned()),
    };
    let now = move || {
        let revision = CONTRACT_REVISION.to_string();
        let mut samples = vec![
            table::BUILD.sample(
                [service, &name, env!("CARGO_PKG_VERSION"), env!("CAUSEWAY_BUILD_COMMIT"), &revision],
                1_u32,
            ),
            table::TRACE_SPANS_DROPPED.sample([], causeway_traces::dropped_spans()),
            table::DATABASE_READY.sample([], health.is_database_ready()),
        ];
        samples.extend(database(silo.as_ref()));
        samples.extend(ends(&certificates));
        samples.extend(silo.samples());
        samples
    };
    Exposition::new(counted, now, readings)
}

fn database(silo: &impl ServedService) -> Vec<Sample> {
    let mut samples = Vec::new();
    for pool in silo.pool_use() {
        samples.push(table::DATABASE_CONNECTIONS.sample([pool.pool, "used"], pool.used));
        samples.push(table::DATABASE_CONNECTIONS.sample([pool.pool, "idle"], pool.idle));
        samples.push(table::DATABASE_CONNECTIONS_MAX.sample([pool.pool], pool.most));
    }
    // Of the whole process, which serves one service.
    samples.extend(db::retried_by_code().iter().map(|(code, count)| table::RETRIES.sample([code], *count)));
    samples
}

fn ends(certificates: &Certificates) -> Vec<Sample> {
    let server = certificates.server.as_ref().map(|tls| tls.certificates.ends()).unwrap_or_default();
    let client = certificates.client.as_ref().map(|tls| tls.ends()).unwrap_or_default();
    [
        ("server", server.own),
        ("client_ca", server.ca),
        ("client_crl", server.revocation_list),
        ("control_client", client.own),
        ("control_ca", client.ca),
    ]
    .into_iter()
    .filter_map(|(name, end)| Some(table::CERTIFICATE_END.sample([name], end?.timestamp())))
    .collect()
}

#[cfg(test)]
mod tests {
    use causeway_proto::{failure::Failure, relocation::v1::ErrorReason};

    use super::*;

    #[test]
    fn a_path_that_a_caller_invents_has_the_label_of_all_others() {
        for known in ["causeway.control.v1.RegionService/LeaseIds", "grpc.health.v1.Health/Check"] {
            assert_eq!(rpc_label(known), known);
        }
        for invented in ["", "x", "causeway.control.v1.RegionService/LeaseIds2", "grpc.health.v1.Health/"] {
            assert_eq!(rpc_label(invented), "unknown", "{invented}");
        }
    }

    #[test]
    fn a_call_ends_with_its_code_and_reason() {
        let ending = |status: Status| {
            let mut headers = HeaderMap::new();
            status.add_header(&mut headers).expect("headers");
            Ending::of(&headers).expect("it has ended")
        };
        assert_eq!(ending(Status::ok("")), Ending { code: "OK", reason: "" });
        assert_eq!(ending(Status::not_found("x")), Ending { code: "NOT_FOUND", reason: "" });
        let failure = Status::from(Failure::new(ErrorReason::ImportNotFound, "x"));
        assert_eq!(ending(failure), Ending { code: "NOT_FOUND", reason: "IMPORT_NOT_FOUND" });
        assert_eq!(Ending::of(&HeaderMap::new()), None);
        assert_eq!(Ending::default().code, "GIVEN_UP");
    }
}
