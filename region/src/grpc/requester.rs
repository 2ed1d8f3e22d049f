//! Who makes a call, as far as the imports of a region depend on that.

use causeway_tls::{Caller, Role};
use tonic::Request;

use crate::import::Requester;

/// Who makes a call. An operator acts as one, whatever else it is.
pub(super) fn requester<T>(request: &Request<T>) -> Requester {
    let Some(caller) = request.extensions().get::<Caller>() else { return Requester::default() };
    match (caller.with_role(Role::Operator), caller.with_role(Role::Importer)) {
        (Some(operator), _) => Requester { uri: Some(operator.to_string()), only_own: false },
        (None, Some(importer)) => Requester { uri: Some(importer.to_string()), only_own: true },
        (None, None) => Requester { uri: Some(caller.to_string()), only_own: true },
    }
}
