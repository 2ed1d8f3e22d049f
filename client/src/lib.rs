//! Calls the services of Causeway. Links no database, so a region in another program, a router or a tool can use it.
//!
//! - [`Client`]: connections to one service, with TLS ([`ClientTls`]) or without, or to several that answer
//!   alike: a call that one cannot take goes to the next. Sets deadlines, and returns why a call failed
//!   ([`CallError`]).
//! - [`upload`]: sends an export to a region. [`Watch`]: follows an import to its end, over lost connections.
//! - [`collect_pages`]: all pages of a list.
//! - [`feed`]: reads the feed of one region, or of all, and checks that nothing is missing.
//! - [`Backoff`]: how long to wait before the next attempt.
//!
//! ```no_run
//! use causeway_client::{Client, Service, Timeouts};
//! use causeway_proto::control::v1::ResolveSlugRequest;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let controls = ["http://control-1:50051".to_owned(), "http://control-2:50051".to_owned()];
//! let control = Client::new(Service::Control, &controls, Timeouts::default())?;
//! let request = ResolveSlugRequest { slug: "acme".to_owned() };
//! let answer = control
//!     .call(control.timeouts().call, request, async |channel, request| {
//!         causeway_proto::control::v1::directory_service_client::DirectoryServiceClient::new(channel)
//!             .resolve_slug(request)
//!             .await
//!     })
//!     .await?;
//! if let Some(found) = answer.organization {
//!     println!("organization {} in region {}", found.organization_id, found.region);
//! }
//! # Ok(())
//! # }
//! ```

mod asking;
mod backoff;
mod client;
mod connect;
mod endpoints;
mod error;
pub mod feed;
mod pages;
mod upload;
mod watch;

pub use backoff::Backoff;
pub use causeway_tls::{ClientFiles, ClientTls, Clock, FileError, PairFiles};
pub use client::{Client, InvalidUrl, Service, Timeouts};
pub use endpoints::{Endpoints, is_away};
pub use error::CallError;
pub use pages::{Page, collect_pages};
pub use upload::{ExportFile, UploadError, upload};
pub use watch::{Watch, WatchEvent};
