//! Why there is no page, as a page.

use axum::{
    extract::rejection::{FormRejection, PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use causeway_proto::{failure::Failure, relocation::v1::ErrorReason};
use causeway_silo::db::DbError;
use maud::html;
use tonic::{Code, Status};

use crate::html::{alone, document, prose};

/// Why there is no page.
#[derive(Debug)]
pub(crate) struct Failed {
    status: StatusCode,
    title: &'static str,
    /// For people. Commands in it are in backticks.
    message: String,
    /// What the audit log has as the reason, if it is an action that was refused for who asks.
    reason: Option<ErrorReason>,
}

impl Failed {
    pub(crate) fn new(status: StatusCode, title: &'static str, message: String) -> Self {
        Self { status, title, message, reason: None }
    }

    /// Whoever asks may not see the console.
    pub(crate) fn not_for(reason: ErrorReason, message: String) -> Self {
        let failed = Self::new(StatusCode::FORBIDDEN, "The console is for operators", message);
        Self { reason: Some(reason), ..failed }
    }

    /// The request names something in a form that it does not have.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "The console does not understand this address", message.into())
    }

    /// There is no such thing.
    pub(crate) fn absent(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing here", message.into())
    }

    /// An action that failed for this, as the audit log has it.
    pub(crate) fn recorded(&self) -> Status {
        if let Some(reason) = self.reason {
            return Failure::new(reason, self.title).into();
        }
        let code = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::CONFLICT => Code::FailedPrecondition,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            status if status.is_client_error() => Code::InvalidArgument,
            _ => Code::Internal,
        };
        Status::new(code, self.title)
    }
}

/// The message of a status says what the caller may know.
impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        let (code, title) = match status.code() {
            Code::InvalidArgument => (StatusCode::BAD_REQUEST, "That cannot be done"),
            Code::NotFound => (StatusCode::NOT_FOUND, "There is nothing here"),
            Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => {
                (StatusCode::CONFLICT, "That cannot be done now")
            }
            Code::PermissionDenied => (StatusCode::FORBIDDEN, "You may not do that"),
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => {
                (StatusCode::SERVICE_UNAVAILABLE, "Control cannot answer at the moment")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "Control could not answer"),
        };
        Self::new(code, title, status.message().to_owned())
    }
}

impl From<causeway_control::Error> for Failed {
    fn from(error: causeway_control::Error) -> Self {
        Status::from(error).into()
    }
}

impl From<DbError> for Failed {
    fn from(error: DbError) -> Self {
        causeway_control::Error::from(error).into()
    }
}

impl From<QueryRejection> for Failed {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad(rejection.body_text())
    }
}

impl From<PathRejection> for Failed {
    fn from(rejection: PathRejection) -> Self {
        Self::bad(rejection.body_text())
    }
}

impl From<FormRejection> for Failed {
    fn from(rejection: FormRejection) -> Self {
        Self::new(rejection.status(), "The console does not understand this form", rejection.body_text())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let said = html! {
            h1 { (self.title) }
            p.lead { (prose(&self.message)) }
        };
        // Every other page would be refused too.
        if self.reason.is_some() {
            return (self.status, alone(self.title, &said)).into_response();
        }
        let body = html! {
            (said)
            p { a href="/" { "To the overview" } }
        };
        (self.status, document(self.title, None, "", None, &body)).into_response()
    }
}
