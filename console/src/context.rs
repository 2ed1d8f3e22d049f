//! What a page knows of the request for it.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use chrono::{DateTime, Utc};

use crate::{Console, guard::Admitted};

/// The header with which the script asks for the main part of a page only.
const PART: &str = "x-causeway-part";

/// What a page knows of the request for it.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// When the page is made.
    pub(crate) now: DateTime<Utc>,
    /// Who asks, as the URI of an identity; empty if nobody needs one.
    pub(crate) who: String,
    /// Whether only the main part of the page is wanted.
    pub(crate) main_only: bool,
    /// The URL of this control, for commands to paste.
    pub(crate) control_url: String,
}

impl FromRequestParts<Console> for Context {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Self::Rejection> {
        let Some(admitted) = parts.extensions.get::<Admitted>() else {
            return Err((
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request did not pass the check of who asks",
            ));
        };
        Ok(Self {
            now: console.env.now(),
            who: admitted.who.clone(),
            main_only: parts.headers.contains_key(PART),
            control_url: console.options.control_url.clone(),
        })
    }
}
