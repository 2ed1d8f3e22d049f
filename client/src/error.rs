//! Why a call failed, in words for the person who made it.

use std::{error::Error, fmt, time::Duration};

use causeway_proto::{
    calls::REQUEST_ID,
    failure::{metadata_of, reason_name, reason_of, retry_after},
    relocation::v1::ErrorReason,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{Service, endpoints::is_of_connection};

/// A call that failed, or a connection that did not come about.
#[derive(Debug)]
pub struct CallError {
    service: Service,
    address: String,
    /// The deadline of a unary call to it.
    limit: Duration,
    cause: Box<Cause>,
}

#[derive(Debug)]
enum Cause {
    Connect(tonic::transport::Error),
    /// A status, and what was wrong with TLS when it came, if anything was.
    Call(Status, Option<String>),
}

impl CallError {
    pub(crate) fn connect(service: Service, address: &str, error: tonic::transport::Error) -> Self {
        let cause = Box::new(Cause::Connect(error));
        Self { service, address: address.to_owned(), limit: Duration::ZERO, cause }
    }

    pub(crate) fn call(
        service: Service,
        address: &str,
        limit: Duration,
        status: Status,
        trouble: Option<String>,
    ) -> Self {
        // A status without a source is what somebody answered, so there was a connection.
        let trouble = trouble.filter(|_| status.source().is_some());
        Self { service, address: address.to_owned(), limit, cause: Box::new(Cause::Call(status, trouble)) }
    }

    /// The reason that the service gave, if it gave one.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        match self.cause.as_ref() {
            Cause::Connect(_) => None,
            Cause::Call(status, _) => reason_of(status),
        }
    }

    /// The addresses of the service that was called.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.address.split(", ")
    }

    /// A value, by its name, that the service returned together with the reason; `None` if it did not.
    #[must_use]
    pub fn detail(&self, name: &str) -> Option<String> {
        match self.cause.as_ref() {
            Cause::Connect(_) => None,
            Cause::Call(status, _) => metadata_of(status, name),
        }
    }

    /// The code of the call that failed; `None` if there was no connection to make it on.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self.cause.as_ref() {
            Cause::Connect(_) => None,
            Cause::Call(status, _) => Some(status.code()),
        }
    }

    /// The id of the request, if the service has answered: its log and its audit log have it.
    #[must_use]
    pub fn request_id(&self) -> Option<Uuid> {
        match self.cause.as_ref() {
            Cause::Connect(_) => None,
            Cause::Call(status, _) => Uuid::try_parse(status.metadata().get(REQUEST_ID)?.to_str().ok()?).ok(),
        }
    }

    /// Whether TLS is what went wrong with the connection, such as a plain URL for a port that speaks TLS: making the same
    /// call again changes nothing.
    #[must_use]
    pub fn is_of_tls(&self) -> bool {
        matches!(self.cause.as_ref(), Cause::Call(_, Some(_)))
    }

    /// What happened, without the reason that [`reason`](Self::reason) gives.
    #[must_use]
    pub fn message(&self) -> String {
        match self.cause.as_ref() {
            Cause::Call(status, _) if reason_of(status).is_some() => status.message().to_owned(),
            Cause::Connect(_) | Cause::Call(..) => self.to_string(),
        }
    }

    /// What happened, without the name and the address of the service: for callers that do not know which of the two
    /// services they have called.
    #[must_use]
    pub fn cause(&self) -> String {
        let status = match self.cause.as_ref() {
            Cause::Connect(error) => return root(error).to_string(),
            Cause::Call(_, Some(trouble)) => return trouble.clone(),
            Cause::Call(status, None) => status,
        };
        match (reason_of(status), status.source()) {
            (Some(reason), _) => format!("{} ({})", status.message(), reason_name(reason)),
            (None, Some(source)) => root(source).to_string(),
            (None, None) if status.message().is_empty() => format!("it answered {:?}", status.code()),
            (None, None) => format!("it answered {:?}: {}", status.code(), status.message()),
        }
    }

    /// How long the service asks to wait before the same call is made again, at most a minute; `None` if it does not say.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        match self.cause.as_ref() {
            Cause::Connect(_) => None,
            Cause::Call(status, _) => {
                let wanted = status.get_error_details().retry_info()?.retry_delay?;
                Some(wanted.min(Duration::from_mins(1)))
            }
        }
    }

    /// Whether the same call may succeed a little later: the connection broke, or the reason is one that may
    /// be retried.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match (self.code(), self.reason()) {
            (None, _) => true,
            (Some(_), Some(reason)) => retry_after(reason).is_some(),
            (Some(code), None) => is_of_connection(code),
        }
    }
}

/// The last error of the chain, which describes what happened and not where it was noticed.
fn root<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, address, limit, cause } = self;
        let status = match cause.as_ref() {
            Cause::Connect(error) => {
                return write!(f, "{service} at {address} cannot be reached: {}", root(error));
            }
            Cause::Call(_, Some(trouble)) => {
                return write!(f, "{service} at {address} cannot be reached: {trouble}");
            }
            Cause::Call(status, None) => status,
        };
        if let Some(reason) = reason_of(status) {
            return write!(f, "{} ({})", status.message(), reason_name(reason));
        }
        match (status.code(), status.source()) {
            (Code::DeadlineExceeded, _) => {
                write!(f, "{service} at {address} did not answer within {} s", limit.as_secs())
            }
            (Code::Cancelled, Some(source)) if root(source).is::<tonic::TimeoutExpired>() => {
                write!(f, "{service} at {address} did not answer within {} s", limit.as_secs())
            }
            // A source means that the status was made on this side, of an error of the connection.
            (_, Some(source)) => {
                write!(f, "{service} at {address} cannot be reached: {}", root(source))
            }
            (Code::Unimplemented, None) => {
                write!(f, "at {address} there is no service for this call: {address} is not {service}")
            }
            (code, None) => write!(f, "{service} at {address} answered {code:?}: {}", status.message()),
        }
    }
}

impl Error for CallError {}

#[cfg(test)]
mod tests {
    use causeway_proto::failure::Failure;

    use super::*;

    fn failed(status: Status) -> CallError {
        CallError::call(Service::Region, "http://127.0.0.1:7", Duration::from_secs(30), status, None)
    }

    #[test]
    fn a_reason_is_shown_with_the_services_own_message() {
        let error = failed(Failure::new(ErrorReason::ImportNotFound, "no import x").into());
        assert_eq!(error.to_string(), "no import x (IMPORT_NOT_FOUND)");
        assert_eq!(
            (error.message().as_str(), error.reason()),
            ("no import x", Some(ErrorReason::ImportNotFound))
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn what_has_no_reason_names_the_address() {
        let error = failed(Status::unavailable("gone"));
        assert_eq!(error.to_string(), "the region at http://127.0.0.1:7 answered Unavailable: gone");
        assert!(error.is_transient());
        let error = failed(Status::unimplemented(""));
        assert!(error.to_string().ends_with("http://127.0.0.1:7 is not the region"), "{error}");
        assert!(!error.is_transient());
        let error = failed(Status::deadline_exceeded(""));
        assert!(error.to_string().ends_with("did not answer within 30 s"), "{error}");
    }

    #[test]
    fn a_cause_does_not_name_the_service() {
        for (status, cause) in [
            (
                Failure::new(ErrorReason::ImportNotFound, "no import x").into(),
                "no import x (IMPORT_NOT_FOUND)",
            ),
            (Status::unavailable("gone"), "it answered Unavailable: gone"),
            (Status::unimplemented(""), "it answered Unimplemented"),
            (Status::from_error(Box::new(std::io::Error::other("broken pipe"))), "broken pipe"),
        ] {
            assert_eq!(failed(status).cause(), cause);
        }
        let with_trouble = Status::from_error(Box::new(std::io::Error::other("eof")));
        let trouble = Some("the server speaks TLS".to_owned());
        let error = CallError::call(Service::Region, "http://r:1", Duration::ZERO, with_trouble, trouble);
        assert_eq!(error.cause(), "the server speaks TLS");
        assert!(error.is_of_tls() && !failed(Status::unavailable("gone")).is_of_tls());
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for reason in [
            ErrorReason::ShuttingDown,
            ErrorReason::DatabaseUnavailable,
            ErrorReason::DatabaseFull,
            ErrorReason::DatabaseContention,
            ErrorReason::TooManyUploads,
            ErrorReason::TooManyWatches,
            ErrorReason::UploadStalled,
            ErrorReason::StreamIncomplete,
        ] {
            let refused = failed(Failure::new(reason, "later").into());
            assert!(refused.is_transient(), "{reason:?}");
            assert_eq!(refused.retry_delay(), retry_after(reason), "{reason:?}");
        }
        for reason in [ErrorReason::UploadInvalid, ErrorReason::Internal, ErrorReason::SpoolFailed] {
            assert!(!failed(Failure::new(reason, "never").into()).is_transient(), "{reason:?}");
        }
    }
}
