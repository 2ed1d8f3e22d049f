//! Revisions of the contract, and whether a client fits a service.

use tonic::{Request, Response, Status};

use crate::{
    failure::Failure,
    relocation::v1::{
        Capability, ErrorReason, GetVersionRequest, GetVersionResponse, ServiceKind,
        version_service_server::VersionService,
    },
};

/// The contract revision of this release. A change that adds to the contract raises it by one.
pub const CONTRACT_REVISION: i32 = 8;

/// The oldest revision whose clients this release serves.
pub const OLDEST_CONTRACT_REVISION: i32 = 1;

/// What a service reports about itself. Serves `VersionService`, which is the same for control and regions.
#[derive(Debug, Clone)]
pub struct Service {
    /// Whether it is control or a region.
    pub kind: ServiceKind,
    /// The version of the program, such as `0.1.0`.
    pub version: &'static str,
    /// The optional features that it has.
    pub capabilities: Vec<Capability>,
    /// The region's name; empty for control.
    pub region: String,
    /// Whether it listens without TLS where other machines can reach it.
    pub insecure: bool,
}

impl Service {
    /// Answers a client, or refuses one that does not fit.
    ///
    /// # Errors
    /// If the client was written for a revision that is not served, or needs a capability that this service does not
    /// have.
    pub fn answer(&self, request: &GetVersionRequest) -> Result<GetVersionResponse, Failure> {
        let GetVersionRequest { contract_revision: revision, required_capabilities } = request;
        if *revision < 0 {
            return Err(Failure::invalid_field("contract_revision", "must not be negative"));
        }
        if *revision != 0 && !(OLDEST_CONTRACT_REVISION..=CONTRACT_REVISION).contains(revision) {
            let message = format!(
                "the client was written for revision {revision} of the contract, and this service, which is Causeway {}, \
                 serves {OLDEST_CONTRACT_REVISION} to {CONTRACT_REVISION}; use a client or a service of another release",
                self.version
            );
            let failure = Failure::new(ErrorReason::ContractNotSupported, message);
            return Err(failure.with("oldest", OLDEST_CONTRACT_REVISION).with("newest", CONTRACT_REVISION));
        }
        let has = |number: &i32| self.capabilities.iter().any(|capability| i32::from(*capability) == *number);
        if let Some(missing) = required_capabilities.iter().find(|number| !has(number)) {
            let name = match Capability::try_from(*missing) {
                Ok(capability) => capability.as_str_name().trim_start_matches("CAPABILITY_").to_owned(),
                Err(_) => missing.to_string(),
            };
            let message = format!("this service, which is Causeway {}, does not have {name}", self.version);
            return Err(Failure::new(ErrorReason::CapabilityMissing, message).with("capability", name));
        }
        let mut capabilities: Vec<i32> =
            self.capabilities.iter().map(|capability| (*capability).into()).collect();
        capabilities.sort_unstable();
        Ok(GetVersionResponse {
            service: self.kind.into(),
            version: self.version.to_owned(),
            contract_revision: CONTRACT_REVISION,
            oldest_contract_revision: OLDEST_CONTRACT_REVISION,
            capabilities,
            region: self.region.clone(),
            insecure: self.insecure,
        })
    }
}

#[tonic::async_trait]
impl VersionService for Service {
    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(self.answer(request.get_ref())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_not_fit_is_refused() {
        let service = Service {
            kind: ServiceKind::Region,
            version: "0.1.0",
            capabilities: vec![Capability::Revert, Capability::EncryptedExports],
            region: "us".to_owned(),
            insecure: true,
        };
        let ask = |contract_revision, required_capabilities: &[Capability]| {
            let required_capabilities = required_capabilities.iter().map(|it| (*it).into()).collect();
            service.answer(&GetVersionRequest { contract_revision, required_capabilities })
        };
        let all = [Capability::EncryptedExports, Capability::Revert];
        let answer = ask(CONTRACT_REVISION, &all).expect("it fits");
        assert_eq!(answer.capabilities().collect::<Vec<_>>(), all);
        assert_eq!((answer.service(), answer.region.as_str()), (ServiceKind::Region, "us"));
        assert!(answer.insecure);
        ask(0, &[]).expect("it only wants to know");
        let reason =
            |outcome: Result<GetVersionResponse, Failure>| outcome.expect_err("it does not fit").reason();
        assert_eq!(reason(ask(CONTRACT_REVISION + 1, &[])), ErrorReason::ContractNotSupported);
        assert_eq!(reason(ask(-1, &[])), ErrorReason::InvalidArgument);
        assert_eq!(reason(ask(0, &[Capability::AllFeeds])), ErrorReason::CapabilityMissing);
        assert_eq!(reason(ask(0, &[Capability::Unspecified])), ErrorReason::CapabilityMissing);
    }
}
