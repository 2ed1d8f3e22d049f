//! What every request passes before a page is made: the name by which the console was reached, who asks, and for an
//! action that a page of the console asks for it. And what every answer gets: headers that keep a browser from running
//! or loading anything but the console's own files.

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
        uri::{Authority, Uri},
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use causeway_audit::{Call, scope};
use causeway_proto::relocation::v1::ErrorReason;
use tokio::time::timeout;

use crate::{Console, Visitor, failure::Failed};

/// What a browser may do with an answer: show it, with the style sheet and the script of the console.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The headers of every answer. The referrer policy lets a form of the console say where it comes from.
const HEADERS: [(HeaderName, &str); 7] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "same-origin"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What everybody gets: there is nothing of the service in it.
const PUBLIC: [&str; 2] = ["/assets/console.css", "/favicon.svg"];

/// A visitor who may see the pages, in the extensions of the request.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    /// The URI of the identity; empty if nobody needs one.
    pub(crate) who: String,
}

/// The host of an authority such as `127.0.0.1:8080`, in lower case.
fn host(authority: &str) -> Option<String> {
    let authority: Authority = authority.parse().ok()?;
    let has_port = authority.as_str().len() > authority.host().len();
    // User information belongs into no host header, and a port is a number.
    let is_plain = !authority.as_str().contains('@') && (!has_port || authority.port_u16().is_some());
    is_plain.then(|| authority.host().to_ascii_lowercase())
}

/// The one value of a header; an error if there are several, or one that is not text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Checks the name by which the console was reached.
fn check_host(console: &Console, request: &Request) -> Result<(), Failed> {
    let refused = |shown: &str| {
        Err(Failed::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This is not the name of this console",
            format!(
                "This console does not answer to “{shown}”. If that is its name, start control with `--console-host` and \
                 that name."
            ),
        ))
    };
    let Ok(Some(named)) = one(request.headers(), &HOST) else { return refused("no name, or several") };
    // A request line may name a host too.
    let of_uri = request.uri().authority().map_or(named, Authority::as_str);
    match (host(named), host(of_uri)) {
        (Some(named), Some(of_uri)) if named == of_uri && console.options.hosts.contains(&named) => Ok(()),
        _ => refused(named),
    }
}

/// Who asks, if that may see the pages.
fn admit(console: &Console, visitor: Option<&Visitor>) -> Result<Admitted, Failed> {
    if !console.options.identities {
        return Ok(Admitted { who: String::new() });
    }
    let refused = |reason: ErrorReason, who: String| {
        Failed::not_for(
            reason,
            format!(
                "The console shows itself to operators only; {who}. `causeway certs issue operator NAME` makes a \
                 certificate to try it with."
            ),
        )
    };
    match visitor.and_then(|visitor| visitor.caller.as_ref()) {
        Some(Ok(caller)) if caller.is_operator() => Ok(Admitted { who: caller.to_string() }),
        Some(Ok(caller)) => {
            Err(refused(ErrorReason::RoleNotAllowed, format!("yours is the certificate of {caller}")))
        }
        Some(Err(error)) => Err(refused(
            ErrorReason::IdentityInvalid,
            format!("your certificate does not say who you are: {error}"),
        )),
        None => Err(refused(ErrorReason::IdentityInvalid, "you have shown no certificate".to_owned())),
    }
}

/// Checks that a page of the console asks for an action, as far as the browser says where it comes from. What the browser
/// does not say, the token of the form does.
fn check_origin(headers: &HeaderMap) -> Result<(), Failed> {
    let is_own = match (one(headers, &ORIGIN), one(headers, &HOST)) {
        (Ok(None), _) => true,
        (Ok(Some(origin)), Ok(Some(host))) => {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        }
        _ => false,
    };
    let site = one(headers, &HeaderName::from_static("sec-fetch-site"));
    if is_own && matches!(site, Ok(None | Some("same-origin"))) {
        return Ok(());
    }
    Err(Failed::new(
        StatusCode::FORBIDDEN,
        "Nothing was done",
        "Another site has asked for this action. Open the console yourself, and begin there.".to_owned(),
    ))
}

/// Checks that no value of an address has a zero character: no text of control has one, and PostgreSQL takes none.
fn check_characters(uri: &Uri) -> Result<(), Failed> {
    let has_zero = [Some(uri.path()), uri.query()].into_iter().flatten().any(|part| part.contains("%00"));
    if has_zero { Err(Failed::bad("The address must not have a zero character (%00).")) } else { Ok(()) }
}

/// Whether a request reads only.
fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn admit_all(console: &Console, request: &mut Request) -> Result<(), Failed> {
    check_host(console, request)?;
    let admitted = match admit(console, request.extensions().get::<Visitor>()) {
        // A page that says why there is nothing else looks like a page of the console.
        Err(_) if is_read(request.method()) && PUBLIC.contains(&request.uri().path()) => {
            Admitted { who: String::new() }
        }
        admitted => admitted?,
    };
    if !is_read(request.method()) {
        check_origin(request.headers())?;
    }
    check_characters(request.uri())?;
    request.extensions_mut().insert(admitted);
    Ok(())
}

/// The call that an action is in the audit log. Everything that is not read is one.
fn call(console: &Console, request: &Request) -> Option<Call> {
    if is_read(request.method()) {
        return None;
    }
    let visitor = request.extensions().get::<Visitor>();
    let caller = visitor.and_then(|visitor| visitor.caller.as_ref()?.as_ref().ok());
    let who = caller.map(ToString::to_string).unwrap_or_default();
    let address = visitor.map(|visitor| visitor.address.clone()).unwrap_or_default();
    // Only the kind of action: what it is about is the object of the entry.
    let action = match request.uri().path().rsplit_once('/') {
        Some((_, "release")) => "console/release-operation",
        Some((_, "resume")) => "console/resume-import",
        Some((_, "revert")) => "console/revert-import",
        _ => "console/unknown-action",
    };
    Some(Call::new(console.env.uuid(), &who, address, action))
}

/// There was no answer in time. What an action has done by then stays done.
fn late(is_action: bool) -> Failed {
    let message = if is_action {
        "What you have asked for may be done in part, or altogether. Open the page again and repeat it: a large \
         release goes on where it was, and one that is done changes nothing."
    } else {
        "Try again. If that does not help, look at the log of control and at its database."
    };
    Failed::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The console did not get an answer in time",
        message.to_owned(),
    )
}

/// Lets a request pass that may be answered, gives it a time, and gives each answer its headers.
pub(crate) async fn guard(State(console): State<Console>, mut request: Request, next: Next) -> Response {
    let call = call(&console, &request);
    let answered = match admit_all(&console, &mut request) {
        Ok(()) => {
            let answer = timeout(console.options.answer, next.run(request));
            let answered = match &call {
                Some(call) => scope(call.clone(), answer).await,
                None => answer.await,
            };
            answered.map_err(|_| late(call.is_some()))
        }
        Err(failed) => Err(failed),
    };
    let mut response = answered.unwrap_or_else(|failed| {
        if let Some(call) = &call {
            console.control.audit().failed(call, &failed.recorded());
        }
        failed.into_response()
    });
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_port_and_case() {
        assert_eq!(host("LocalHost:8080").as_deref(), Some("localhost"));
        assert_eq!(host("[::1]:8080").as_deref(), Some("[::1]"));
        for wrong in ["", "a b", "me@localhost", "localhost:port", "http://localhost"] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_action_comes_from_the_console_itself() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            check_origin(&headers).is_ok()
        };
        let host = ("host", "127.0.0.1:7");
        assert!(headers(&[host]));
        assert!(headers(&[host, ("origin", "http://127.0.0.1:7"), ("sec-fetch-site", "same-origin")]));
        assert!(headers(&[host, ("origin", "https://127.0.0.1:7")]));
        for wrong in ["http://evil.example", "http://127.0.0.1:8", "null", "127.0.0.1:7"] {
            assert!(!headers(&[host, ("origin", wrong)]), "{wrong}");
        }
        for wrong in ["cross-site", "same-site", "none"] {
            assert!(!headers(&[host, ("sec-fetch-site", wrong)]), "{wrong}");
        }
        assert!(!headers(&[host, ("origin", "http://127.0.0.1:7"), ("origin", "http://127.0.0.1:7")]));
    }
}
