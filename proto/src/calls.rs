//! What is true of all calls of the contract.

use prost_types::method_options::IdempotencyLevel;

/// The metadata of requests and answers that has the id of the request, a UUID. A service that gets none makes one.
pub const REQUEST_ID: &str = "causeway-request-id";

/// The full names of the rpcs that may change something, such as `causeway.region.v1.ImportService/RevertImport`: all
/// but those whose idempotency level is `NO_SIDE_EFFECTS`.
pub fn changing() -> impl Iterator<Item = String> {
    let pool = crate::json::pool();
    let services: Vec<_> = pool.services().collect();
    services.into_iter().flat_map(|service| {
        let methods: Vec<_> = service.methods().collect();
        methods.into_iter().filter_map(move |method| {
            let options = method.method_descriptor_proto().options.clone().unwrap_or_default();
            (options.idempotency_level() != IdempotencyLevel::NoSideEffects)
                .then(|| format!("{}/{}", service.full_name(), method.name()))
        })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn calls_that_only_read_change_nothing() {
        let changing: Vec<String> = super::changing().collect();
        assert!(changing.iter().any(|name| name == "causeway.region.v1.ImportService/RevertImport"));
        assert!(!changing.iter().any(|name| name == "causeway.region.v1.ImportService/GetImport"));
    }
}
