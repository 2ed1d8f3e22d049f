//! Why there is no page, as a page.

use axum::{
    Extension,
    extract::{
        State,
        rejection::{FormRejection, PathRejection, QueryRejection},
    },
    http::{StatusCode, header::CONTENT_LENGTH},
    response::{IntoResponse, Response},
};
use causeway_proto::{failure::Failure, relocation::v1::ErrorReason};
use causeway_silo::db::DbError;
use maud::html;
use tonic::{Code, Status};

use crate::{
    Console,
    html::{Destination, alone, document, prose_at},
};

/// Why there is no page.
#[derive(Debug, Clone)]
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

/// The answer has no body yet: [`shown`] makes the page, because commands in the message need the address of control.
impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = self.status;
        (status, Extension(self)).into_response()
    }
}

/// Makes the page of an answer that says why there is none.
pub(crate) async fn shown(State(console): State<Console>, mut response: Response) -> Response {
    let Some(failed) = response.extensions_mut().remove::<Failed>() else { return response };
    let to = Destination::of_control(&console.options.control_url);
    let said = html! {
        h1 { (failed.title) }
        p.lead { (prose_at(&to, &failed.message)) }
    };
    // Without the right, every other page would be refused too.
    let page = if failed.reason.is_some() {
        alone(failed.title, &said).into_response()
    } else {
        let body = html! {
            (said)
            p { a href="/" { "To the overview" } }
        };
        document(failed.title, None, "", None, &body).into_response()
    };
    // What others have put into the answer stays, such as the headers of the guard.
    let (mut head, _) = response.into_parts();
    let (of_page, body) = page.into_parts();
    head.headers.remove(CONTENT_LENGTH);
    head.headers.extend(of_page.headers);
    Response::from_parts(head, body)
}
