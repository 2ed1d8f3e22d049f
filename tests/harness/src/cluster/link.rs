//! Links between clients and services, on which calls can get lost, arrive twice, late, or not at all.
//!
//! A link is a proxy that understands gRPC: it has a port of its own, accepts calls there and makes them at the
//! service. So it works the same for services in this process and for processes, and neither knows of it.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use causeway_client::{Client, ClientTls, Service, Timeouts};
use causeway_silo::env::Environment;
use causeway_tls::ServerTls;
use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};
use tokio_rustls::TlsAcceptor;
use tonic::{
    Status,
    body::Body,
    codegen::{
        Bytes, Service as _,
        http::{Request, Response},
    },
    transport::Channel,
};

use super::trace::Trace;

/// Whether calls pass a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Calls pass in both directions.
    Open,
    /// Existing connections are broken, and new ones end at once.
    Cut,
    /// Nothing arrives on either side, and neither side gets an error. What was sent arrives when the link is open
    /// again.
    Silent,
}

/// How many of 1,000 calls meet each fault. Streams without an end are left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallFaults {
    /// Calls that never reach the service; the caller sees a broken connection.
    pub lose_requests: u32,
    /// Calls that the service executes, although the caller sees a broken connection.
    pub lose_answers: u32,
    /// Calls that reach the service twice: at once one after the other, or the second time long after the answer.
    pub repeat: u32,
    /// Calls that wait for up to [`longest_delay`](Self::longest_delay), so that others overtake them.
    pub delay: u32,
    /// The longest delay of a call, and the longest time until a late second call.
    pub longest_delay: Duration,
}

impl CallFaults {
    /// About every fourth call meets a fault.
    pub const STORM: Self = Self {
        lose_requests: 50,
        lose_answers: 60,
        repeat: 60,
        delay: 80,
        longest_delay: Duration::from_millis(20),
    };
}

/// The fault that a call meets, or `Pass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivery {
    Pass,
    LoseRequest,
    LoseAnswer,
    Repeat,
    RepeatLater(Duration),
    Delay(Duration),
}

/// The certificates of a link: it ends the TLS connection of the client, and opens its own to the service.
#[derive(Debug, Clone)]
pub(super) struct LinkTls {
    /// What it shows to the client, which must have a certificate too.
    pub(super) server: Arc<ServerTls>,
    /// What it shows to the service: the certificate of the client.
    pub(super) client: Arc<ClientTls>,
    /// With what a test calls the service over this link.
    pub(super) test: Arc<ClientTls>,
}

/// A link from a client to a service. Dropping it closes its port and breaks its connections.
#[derive(Debug)]
pub(super) struct Link {
    url: String,
    /// For a test that calls the service over this link.
    client: Client,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    name: String,
    target: Channel,
    link_state: watch::Sender<LinkState>,
    call_faults: Mutex<CallFaults>,
    env: Environment,
    trace: Trace,
    connections: Mutex<Vec<AbortHandle>>,
    /// What it ends TLS with, if it speaks TLS.
    tls: Option<Arc<ServerTls>>,
    /// The number of calls that have been answered and that the link will still make a second time.
    late: AtomicUsize,
}

impl Link {
    /// Opens a link to `target`, on a port of its own.
    pub(super) async fn open(
        service: Service,
        name: String,
        target: SocketAddr,
        tls: Option<LinkTls>,
        env: Environment,
        trace: Trace,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a link")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let to_target = tls.as_ref().map(|tls| Arc::clone(&tls.client));
        let target = format!("{scheme}://{target}");
        let target = Client::with_tls(service, &[target], Timeouts::default(), to_target)?.channel();
        let shared = Arc::new(Shared {
            name,
            target,
            link_state: watch::Sender::new(LinkState::Open),
            call_faults: Mutex::default(),
            env,
            trace,
            connections: Mutex::default(),
            tls: tls.as_ref().map(|tls| Arc::clone(&tls.server)),
            late: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        let of_test = tls.map(|tls| tls.test);
        let client = Client::with_tls(service, std::slice::from_ref(&url), Timeouts::default(), of_test)?;
        Ok(Self { url, client, shared, accepting })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sets the state of the link. `Cut` breaks its connections.
    pub(super) fn set_link_state(&self, link_state: LinkState) {
        if self.shared.link_state.send_replace(link_state) != link_state {
            self.shared.trace.note(format!("{}: {link_state:?}", self.shared.name));
        }
        if link_state == LinkState::Cut {
            self.shared.break_connections();
        }
    }

    /// The number of calls that have been answered and are still to be made a second time.
    pub(super) fn late_calls(&self) -> usize {
        self.shared.late.load(Ordering::Acquire)
    }

    pub(super) fn set_call_faults(&self, call_faults: CallFaults) {
        *self.shared.call_faults.lock().unwrap_or_else(PoisonError::into_inner) = call_faults;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.break_connections();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Mostly because the process has no file handles left.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        if *shared.link_state.borrow() == LinkState::Cut {
            continue;
        }
        let connection = tokio::spawn(serve(stream, Arc::clone(&shared))).abort_handle();
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| !connection.is_finished());
        connections.push(connection);
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _slower_without = stream.set_nodelay(true);
    let tls = shared.tls.clone();
    let calls = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { shared.pass(request).await }
    });
    // It ends with an error when the client is killed, which is normal.
    let server = http2::Builder::new(TokioExecutor::new());
    let Some(tls) = tls else {
        let _ended = server.serve_connection(TokioIo::new(stream), calls).await;
        return;
    };
    tls.refresh();
    if let Ok(stream) = TlsAcceptor::from(tls.config()).accept(stream).await {
        let _ended = server.serve_connection(TokioIo::new(stream), calls).await;
    }
}

impl Shared {
    fn break_connections(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            connection.abort();
        }
    }

    /// Waits until the link is not silent.
    async fn arrive(&self) {
        let mut link_state = self.link_state.subscribe();
        // This fails when the link has been dropped, and every waiting call with it.
        let _gone = link_state.wait_for(|link_state| *link_state != LinkState::Silent).await;
    }

    fn draw(&self, method: &str) -> Delivery {
        let call_faults = *self.call_faults.lock().unwrap_or_else(PoisonError::into_inner);
        if method.starts_with("Watch") || method.starts_with("ServerReflection") {
            return Delivery::Pass;
        }
        let longest = u64::try_from(call_faults.longest_delay.as_micros()).unwrap_or(u64::MAX).max(1);
        let pause = Duration::from_micros(self.env.below(longest));
        let mut left = self.env.below(1000);
        for (chance, delivery) in [
            (call_faults.lose_requests, Delivery::LoseRequest),
            (call_faults.lose_answers, Delivery::LoseAnswer),
            (call_faults.repeat / 2, Delivery::Repeat),
            (call_faults.repeat - call_faults.repeat / 2, Delivery::RepeatLater(pause)),
            (call_faults.delay, Delivery::Delay(pause)),
        ] {
            match left.checked_sub(chance.into()) {
                Some(rest) => left = rest,
                None => return delivery,
            }
        }
        Delivery::Pass
    }

    async fn pass(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        self.arrive().await;
        let delivery = self.draw(&method);
        if delivery != Delivery::Pass {
            self.trace.note(format!("{}: {method}: {delivery:?}", self.name));
        }
        let answer = match delivery {
            Delivery::Pass => self.call(request.map(Body::new)).await,
            Delivery::LoseRequest => Err(Status::unavailable("the request got lost")),
            Delivery::LoseAnswer => match self.call(request.map(Body::new)).await {
                Ok(answer) => {
                    // The whole answer was sent; none of it arrives.
                    let _lost = answer.into_body().collect().await;
                    Err(Status::unavailable("the answer got lost"))
                }
                Err(error) => Err(error),
            },
            Delivery::Delay(pause) => {
                tokio::time::sleep(pause).await;
                self.call(request.map(Body::new)).await
            }
            Delivery::Repeat | Delivery::RepeatLater(_) => self.repeat(request, delivery).await,
        };
        self.arrive().await;
        Ok(answer.map_or_else(|error| error.into_http(), |answer| self.held(answer)))
    }

    /// Makes a call twice. If the second call comes late, the caller gets the answer of the first one; otherwise it
    /// gets the answer of the second one.
    async fn repeat(
        self: &Arc<Self>,
        request: Request<Incoming>,
        delivery: Delivery,
    ) -> Result<Response<Body>, Status> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| Status::unavailable("the request broke off"))?.to_bytes();
        let again = {
            let (parts, body) = (parts.clone(), body.clone());
            move || Request::from_parts(parts.clone(), whole(body.clone()))
        };
        let first = self.call(Request::from_parts(parts, whole(body))).await;
        if let Delivery::RepeatLater(pause) = delivery {
            let shared = Arc::clone(self);
            shared.late.fetch_add(1, Ordering::AcqRel);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                shared.arrive().await;
                if let Ok(answer) = shared.call(again()).await {
                    let _unheard = answer.into_body().collect().await;
                }
                shared.late.fetch_sub(1, Ordering::AcqRel);
            });
            return first;
        }
        if let Ok(answer) = first {
            let _overtaken = answer.into_body().collect().await;
        }
        self.call(again()).await
    }

    async fn call(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let mut target = self.target.clone();
        let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
        std::future::poll_fn(|cx| target.poll_ready(cx)).await.map_err(unreachable)?;
        target.call(request).await.map_err(unreachable)
    }

    /// Wraps an answer so that nothing of it arrives while the link is silent.
    fn held(self: Arc<Self>, answer: Response<Body>) -> Response<Body> {
        answer.map(|body| {
            let frames = stream::unfold((body, self), |(mut body, shared)| async move {
                let frame = body.frame().await?;
                shared.arrive().await;
                Some((frame, (body, shared)))
            });
            Body::new(StreamBody::new(frames.boxed()))
        })
    }
}

fn whole(body: Bytes) -> Body {
    Body::new(Full::new(body))
}
