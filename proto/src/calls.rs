//! What is true of all calls of the contract.

use prost_types::method_options::IdempotencyLevel;

use crate::json::NoContract;

/// The metadata of requests and answers that has the id of the request, a UUID. A service that gets none makes one.
pub const REQUEST_ID: &str = "causeway-request-id";

/// The metadata of requests that has the trace context of the caller: <https://www.w3.org/TR/trace-context/>. A service
/// that sends traces adds its part to that trace.
pub const TRACE_PARENT: &str = "traceparent";

/// The full names of the rpcs that may change something, such as `causeway.region.v1.ImportService/RevertImport`: all
/// but those whose idempotency level is `NO_SIDE_EFFECTS`.
///
/// # Errors
/// If the build is broken.
pub fn changing() -> Result<Vec<String>, NoContract> {
    let pool = crate::json::pool()?;
    let mut changing = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options = method.method_descriptor_proto().options.clone().unwrap_or_default();
        if options.idempotency_level() != IdempotencyLevel::NoSideEffects {
            changing.push(format!("{}/{}", method.parent_service().full_name(), method.name()));
        }
    }
    Ok(changing)
}

#[cfg(test)]
mod tests {
    #[test]
    fn calls_that_only_read_change_nothing() {
        let changing = super::changing().expect("the contract can be read");
        assert!(changing.iter().any(|name| name == "causeway.region.v1.ImportService/RevertImport"));
        assert!(!changing.iter().any(|name| name == "causeway.region.v1.ImportService/GetImport"));
    }
}
