//! The console: web pages of control, for operators. They show regions, imports, slugs, what is stuck, differences and
//! the audit log, and have a few actions: those that control can do itself, and instructions for regions.
//!
//! The pages are made on the server and need no script to be read. A small script shows changes while a page is open.
//! The crate makes pages of what control's use cases say; it has no SQL and no listener. Whoever serves it puts a
//! [`Visitor`] into the extensions of each request.
//!
//! A request passes [`guard`] first: it checks the name by which the console was reached, who asks, and, for an action,
//! that a page of the console asks for it.

mod assets;
mod confirmed;
mod context;
mod failure;
mod format;
mod guard;
mod html;
mod pages;
mod token;

use std::{sync::Arc, time::Duration};

use axum::{
    Router, middleware,
    routing::{get, post},
};
use causeway_control::Control;
use causeway_silo::env::Environment;
use causeway_tls::{Caller, IdentityError};

/// What the console needs to know of the place where it is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// The host names by which browsers may reach it, in lower case and without a port. A request with another one is
    /// refused: a page of somebody else may have led a browser here under a name of its own.
    pub hosts: Vec<String>,
    /// Whether visitors must have an identity, and be operators by it. Without that, everybody who reaches the port may
    /// do everything.
    pub identities: bool,
    /// How long an answer may take, with the rest of the request.
    pub answer: Duration,
    /// The URL at which others reach this control, for commands to paste.
    pub control_url: String,
}

/// Who asks for a page. The server puts one into the extensions of each request.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who that is by the certificate; `None` if the console asks for no certificates.
    pub caller: Option<Result<Caller, IdentityError>>,
    /// The IP address of the connection.
    pub address: String,
}

/// The console of a control. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Console(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    control: Control,
    env: Environment,
    options: Options,
}

impl std::ops::Deref for Console {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// All pages of the console of a control.
pub fn router(control: Control, env: Environment, options: Options) -> Router {
    let console = Console(Arc::new(Inner { control, env, options }));
    Router::new()
        .route("/", get(pages::overview::show))
        .route("/regions", get(pages::regions::show))
        .route("/imports", get(pages::imports::show))
        .route("/imports/{region}/{id}", get(pages::import::show))
        .route("/imports/{region}/{id}/{action}", get(pages::instruct::ask).post(pages::instruct::instruct))
        .route("/slugs", get(pages::slugs::show))
        .route("/organizations/{id}", get(pages::organization::show))
        .route("/stuck", get(pages::stuck::show))
        .route("/stuck/{region}/{operation}/release", get(pages::release::ask))
        .route("/stuck/{region}/{operation}/release", post(pages::release::release))
        .route("/differences", get(pages::differences::show))
        .route("/audit", get(pages::audit::show))
        .route("/assets/console.css", get(assets::style))
        .route("/assets/console.js", get(assets::script))
        .route("/favicon.svg", get(assets::icon))
        .fallback(pages::absent)
        .method_not_allowed_fallback(pages::method_not_allowed)
        .layer(middleware::from_fn_with_state(console.clone(), guard::guard))
        .layer(middleware::map_response_with_state(console.clone(), failure::shown))
        .with_state(console)
}
