//! Connections: how many may be open, how long one may be silent, and how they are cut. tonic gives each one to a task
//! of its own that cannot be stopped from outside; so the connection itself ends when its time is over, and every call
//! on it ends with it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use causeway_tls::CertificateEnd;
use futures::{Stream, StreamExt as _, future};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    time::{Instant, Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};
use tracing::warn;

use super::{
    certificates::Tls,
    connection_limiter::{ConnectionLimiter, Full, Limits},
    transport::{HandshakeLog, Peer, Transport},
};

const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long a connection may have no call if all its calls are refused, because its certificate does not
/// identify the caller. A caller that has a better certificate by now shows it on its next connection only.
const REFUSED_IDLE: Duration = Duration::from_secs(1);
/// Pause after a failed accept. It mostly fails for lack of something (such as file handles) that does not come back at
/// once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Length, in bytes, of the preface that every HTTP/2 connection begins with.
const PREFACE: usize = 24;
/// Least time between two log lines about refused connections.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The connections accepted on `listener`. Each one ends when `cut` is cancelled.
pub(super) fn incoming(
    listener: TcpListener,
    limits: Limits,
    tls: Option<Tls>,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let connection_limiter = ConnectionLimiter::new(limits);
    let mut refusals = Refusals::default();
    let log = HandshakeLog::default();
    TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(TCP_KEEPALIVE))
        .filter_map(move |accepted| {
            let accepted = accepted.map(|stream| match connection_limiter.take(&stream) {
                Ok(place) => {
                    let tcp = stream.connect_info();
                    let transport = Transport::new(stream, tls.as_ref(), log.clone(), place);
                    Some(Connection::new(transport, tcp, limits, cut.clone()))
                }
                Err(full) => {
                    refusals.count(full);
                    None
                }
            });
            future::ready(accepted.transpose())
        })
        .then(async |accepted| {
            if let Err(error) = &accepted {
                warn!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
            accepted
        })
}

/// The connections refused since the last log line about them.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    refused: u64,
    last_logged: Option<Instant>,
    /// Whether they are those of the console, whose limits are no settings.
    of_console: bool,
}

impl Refusals {
    /// Of the port of the console.
    pub(super) fn of_console() -> Self {
        Self { of_console: true, ..Self::default() }
    }

    pub(super) fn count(&mut self, full: Full) {
        self.refused += 1;
        if self.last_logged.is_none_or(|last_logged| last_logged.elapsed() >= REFUSAL_LOG_INTERVAL) {
            let refused = std::mem::take(&mut self.refused);
            match full {
                Full::All(limit) if self.of_console => {
                    warn!(
                        limit,
                        refused, "as many connections of the console are open as may be; others are refused"
                    );
                }
                Full::OfAddress(address, limit) if self.of_console => warn!(
                    %address,
                    limit,
                    refused,
                    "as many connections of the console are open from one address as may be; others are refused"
                ),
                Full::All(limit) => warn!(
                    limit,
                    refused, "as many connections are open as may be (--max-connections); others are refused"
                ),
                Full::OfAddress(address, limit) => warn!(
                    %address,
                    limit,
                    refused,
                    "as many connections are open from one address as may be (--max-connections-per-address); others \
                     are refused"
                ),
            }
            self.last_logged = Some(Instant::now());
        }
    }
}

/// The calls on one connection.
#[derive(Debug, Default)]
struct Activity {
    open: AtomicUsize,
    /// How many have ever begun.
    begun: AtomicUsize,
}

/// The connection that a call came on.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) tcp: TcpConnectInfo,
    activity: Arc<Activity>,
    peer: Arc<OnceLock<Peer>>,
    certificate_end: Arc<OnceLock<CertificateEnd>>,
}

impl Origin {
    /// Counts a call on its connection until this is dropped.
    pub(super) fn call(&self) -> OpenCall {
        self.activity.begun.fetch_add(1, Ordering::Relaxed);
        self.activity.open.fetch_add(1, Ordering::Relaxed);
        OpenCall(Arc::clone(&self.activity))
    }

    /// Who calls, as far as its certificate identifies the caller. `None` if callers need no identity.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.peer.get()
    }

    /// The end of the caller's certificate. `None` if it has shown none.
    pub(super) fn certificate_end(&self) -> Option<CertificateEnd> {
        self.certificate_end.get().copied()
    }
}

/// A call that is open on a connection.
#[derive(Debug)]
pub(super) struct OpenCall(Arc<Activity>);

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that ends when it is cut or has been silent for too long.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Transport,
    tcp: TcpConnectInfo,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Bytes of the preface that have not arrived yet. With TLS, they arrive after the handshake.
    missing: usize,
    idle: Duration,
    /// When the preface must be complete; after that, when to check next for calls.
    deadline: Pin<Box<Sleep>>,
    activity: Arc<Activity>,
    /// How many calls had begun at the last check.
    seen: usize,
}

impl Connection {
    fn new(stream: Transport, tcp: TcpConnectInfo, limits: Limits, cut: CancellationToken) -> Self {
        Self {
            stream,
            tcp,
            cut: Box::pin(cut.cancelled_owned()),
            missing: PREFACE,
            idle: limits.idle,
            deadline: Box::pin(sleep(limits.handshake)),
            activity: Arc::default(),
            seen: 0,
        }
    }

    /// Fails once the connection is cut. Until then, the task is woken when that happens.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Whether the connection is over because it had no calls for too long. Fails if the preface is late. The task is
    /// woken for the next check.
    fn poll_silent(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        while self.deadline.as_mut().poll(cx).is_ready() {
            if self.missing > 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let begun = self.activity.begun.load(Ordering::Relaxed);
            if begun == self.seen && self.activity.open.load(Ordering::Relaxed) == 0 {
                return Ok(true);
            }
            self.schedule_check(begun);
        }
        Ok(false)
    }

    /// Fails once the connection is cut, or if the preface is late. TLS reads its handshake while HTTP/2 only wants to
    /// write, so a connection that writes has the same time limit.
    fn poll_alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.poll_cut(cx)?;
        if self.missing > 0 {
            self.poll_silent(cx)?;
        }
        Ok(())
    }

    fn schedule_check(&mut self, begun: usize) {
        self.seen = begun;
        let is_refused = self.stream.peer().get().is_some_and(Result::is_err);
        let idle = if is_refused { self.idle.min(REFUSED_IDLE) } else { self.idle };
        self.deadline.as_mut().reset(Instant::now() + idle);
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_cut(cx)?;
        if self.poll_silent(cx)? {
            // As if the peer had closed it.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.missing > 0 {
            self.missing = self.missing.saturating_sub(buffer.filled().len() - before);
            if self.missing == 0 {
                self.schedule_check(0);
                // So that the new deadline wakes this task.
                self.poll_silent(cx)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        Origin {
            tcp: self.tcp.clone(),
            activity: Arc::clone(&self.activity),
            peer: self.stream.peer(),
            certificate_end: self.stream.certificate_end(),
        }
    }
}
