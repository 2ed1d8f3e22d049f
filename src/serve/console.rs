//! Serves the console: HTTP/1.1 on a port of its own, with the certificates and identities of the service.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::Router;
use causeway_console::{Options, Visitor};
use causeway_control::Control;
use causeway_silo::env::Environment;
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::Service as _;
use tracing::{debug, warn};

use super::{
    Running, Settings,
    certificates::Tls,
    connection_limiter::{ConnectionLimiter, ConnectionPermit, Limits},
    connections::{ACCEPT_PAUSE, Refusals},
    serve_started_control,
    transport::{HandshakeLog, Transport},
};

/// The connections of browsers, in all and from one address. Each browser has a few.
const OPEN: usize = 128;
const FROM_ADDRESS: usize = 64;
/// How long a connection may take for its TLS handshake and the head of a request, and how long it may have none.
const HEAD: Duration = Duration::from_secs(10);
/// How long an answer may take, with the rest of the request.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a connection may last. A browser opens another one.
const LIFE: Duration = Duration::from_secs(600);
/// The most bytes of the head of a request, and the most headers.
const HEAD_BYTES: usize = 32 * 1024;
const HEADERS: usize = 100;

/// Where the console is served, and by which names it may be reached.
#[derive(Debug)]
pub struct ConsolePort {
    /// The port. It speaks TLS if the service does.
    pub listener: TcpListener,
    /// Host names by which browsers reach it, besides those of loopback and the address that it listens on.
    pub hosts: Vec<String>,
}

/// Starts a control service, answers calls on `listener`, and serves its console.
///
/// # Errors
/// If its database cannot be opened or migrated.
pub async fn serve_control_with_console(
    listener: TcpListener,
    console: ConsolePort,
    options: causeway_control::Options,
    settings: Settings,
    env: Environment,
) -> anyhow::Result<Running> {
    let (control_url, tls) = (options.address.clone(), settings.tls.clone());
    let control = Control::start(options, env.clone()).await.context("control cannot start")?;
    let started = start(console, &control, control_url, tls, env.clone()).context("the console cannot start");
    let console = match started {
        Ok(console) => console,
        Err(error) => {
            control.stop().await;
            return Err(error);
        }
    };
    let running = serve_started_control(listener, control, settings, env).await?;
    Ok(running.with_console(console))
}

/// The names by which a console at this address is reached.
fn hosts(address: SocketAddr, given: Vec<String>) -> Vec<String> {
    let own = match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    };
    let own = Some(own).filter(|_| !address.ip().is_unspecified());
    let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
    let mut hosts: Vec<String> = loopback.into_iter().chain(own).chain(given).collect();
    hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
    hosts.sort();
    hosts.dedup();
    hosts
}

/// A console that is served. If it is dropped, its port closes and its connections are cut.
#[derive(Debug)]
pub(super) struct RunningConsole {
    pub(super) address: SocketAddr,
    connections: TaskTracker,
    closing: DropGuard,
    cut: DropGuard,
}

fn start(
    port: ConsolePort,
    control: &Control,
    control_url: String,
    tls: Option<Tls>,
    env: Environment,
) -> io::Result<RunningConsole> {
    let address = port.listener.local_addr()?;
    let identities = tls.as_ref().is_some_and(|tls| tls.identities().is_some());
    let options = Options { hosts: hosts(address, port.hosts), identities, answer: ANSWER, control_url };
    let pages = causeway_console::router(control.clone(), env, options);
    let (closing, cut, connections) =
        (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
    let server = Server {
        pages,
        tls,
        log: HandshakeLog::default(),
        closing: closing.clone(),
        cut: cut.clone(),
        connections: connections.clone(),
    };
    tokio::spawn(closing.clone().run_until_cancelled_owned(server.accept(port.listener)));
    Ok(RunningConsole { address, connections, closing: closing.drop_guard(), cut: cut.drop_guard() })
}

impl RunningConsole {
    /// Closes the port, lets the answers that are under way end until `deadline`, and cuts the rest.
    pub(super) async fn stop_at(self, deadline: Instant) {
        self.closing.disarm().cancel();
        self.connections.close();
        if timeout_at(deadline, self.connections.wait()).await.is_err() {
            debug!(address = %self.address, "connections of the console are cut");
        }
        drop(self.cut);
    }
}

/// What all connections share.
#[derive(Clone)]
struct Server {
    pages: Router,
    tls: Option<Tls>,
    log: HandshakeLog,
    closing: CancellationToken,
    cut: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    /// Accepts connections for ever.
    async fn accept(self, listener: TcpListener) {
        let limits = Limits { open: OPEN, from_address: FROM_ADDRESS, ..Limits::default() };
        let limiter = ConnectionLimiter::new(limits);
        let mut refusals = Refusals::of_console();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => match limiter.take(&stream) {
                    Ok(place) => {
                        self.connections.spawn(self.clone().connection(stream, place));
                    }
                    Err(full) => refusals.count(full),
                },
                Err(error) => {
                    warn!(%error, "a connection of the console cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection until it ends, has lasted long enough, or the console is closed.
    async fn connection(self, stream: TcpStream, place: ConnectionPermit) {
        let address = stream.peer_addr().map(|peer| peer.ip().to_string()).unwrap_or_default();
        let transport = Transport::for_pages(stream, self.tls.as_ref(), self.log.clone(), place);
        let peer = transport.peer();
        let pages = self.pages;
        let service = service_fn(move |mut request: Request<Incoming>| {
            let caller = peer.get().cloned();
            request.extensions_mut().insert(Visitor { caller, address: address.clone() });
            pages.clone().call(request)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES).max_headers(HEADERS);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(transport), service));
        let over = async {
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = sleep(LIFE) => {}
            }
        };
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.cut.cancelled() => return,
            () = over => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = timeout(ANSWER, connection) => ended.unwrap_or(Ok(())),
                    () = self.cut.cancelled() => return,
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a connection of the console has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_reached_by_loopback_its_address_and_the_names_that_are_given() {
        let of = |address: &str, given: &[&str]| {
            hosts(address.parse().expect("an address"), given.iter().map(|it| (*it).to_owned()).collect())
        };
        assert_eq!(of("127.0.0.1:7", &[]), ["127.0.0.1", "[::1]", "localhost"]);
        assert_eq!(
            of("0.0.0.0:7", &["Console.Example"]),
            ["127.0.0.1", "[::1]", "console.example", "localhost"]
        );
        assert!(of("[2001:db8::1]:7", &[]).contains(&"[2001:db8::1]".to_owned()));
    }
}
