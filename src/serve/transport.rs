//! What carries a connection: TCP, or TLS on it. The TLS handshake is a part of reading and writing, so that it
//! takes place in the connection's own task and within its own time limit.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use causeway_tls::{Caller, CertificateEnd, IdentityError, words};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::CertificateDer},
    server::TlsStream,
};
use tracing::{debug, info};

use super::{certificates::Tls, connection_limiter::ConnectionPermit};

/// The first byte of a TLS handshake. HTTP never begins with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// The name of HTTP/1.1 in a TLS handshake.
const HTTP_1: &[u8] = b"http/1.1";
/// How long a connection that was refused stays open, so that the peer reads why. If it were closed while something
/// is still on its way here, the operating system would throw away what the peer has not read yet.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// How much is read from a peer that was refused, in bytes.
const LINGER_BYTES: u64 = 64 * 1024;
/// Least time between two log lines at the level `info` about handshakes that failed. Others are at `debug`.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time between two checks whether the certificate of an open connection is still accepted, while
/// the connection is in use.
const RECHECK: Duration = Duration::from_secs(1);

/// Who is at the other end, as far as its certificate identifies it; an error if that is not an identity that is
/// accepted.
pub(super) type Peer = Result<Caller, IdentityError>;

/// When a handshake that failed was last logged at `info`. Anybody can make handshakes fail, and nobody should be able
/// to fill the log.
#[derive(Debug, Clone, Default)]
pub(super) struct HandshakeLog(Arc<Mutex<Option<Instant>>>);

impl HandshakeLog {
    fn failed(&self, peer: Option<SocketAddr>, reason: &str) {
        self.line(peer, &format!("a connection was refused: {reason}"));
    }

    /// The connection stays open, and each call on it is refused.
    fn unnamed(&self, peer: Option<SocketAddr>, why: &IdentityError) {
        self.line(
            peer,
            &format!("calls on a connection are refused: the certificate does not say who calls: {why}"),
        );
    }

    fn line(&self, peer: Option<SocketAddr>, line: &str) {
        let peer = peer.map(|peer| peer.to_string());
        let mut last_logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last_logged.is_none_or(|last_logged| last_logged.elapsed() >= LOG_INTERVAL) {
            *last_logged = Some(Instant::now());
            info!(peer, "{line}");
        } else {
            debug!(peer, "{line}");
        }
    }
}

#[derive(Debug)]
enum State {
    /// Without TLS. `true` until the first byte has arrived.
    Plain(TcpStream, bool),
    Tls(Box<TlsStream<TcpStream>>, Option<Accepted>),
    Failed,
}

/// The certificate of a peer that was accepted. A connection may last for days, and the certificate may expire or be
/// revoked meanwhile.
#[derive(Debug)]
struct Accepted {
    tls: Tls,
    chain: Vec<CertificateDer<'static>>,
    /// When the certificate ends.
    end: Option<CertificateEnd>,
    /// The files by which it was checked last.
    checked_by: [u8; 32],
    /// When it was last checked whether the certificate is accepted.
    looked: Instant,
}

impl Accepted {
    /// `None` if peers need no certificate.
    fn new(tls: &Tls, stream: &TlsStream<TcpStream>, end: Option<CertificateEnd>) -> Option<Self> {
        let chain = stream.get_ref().1.peer_certificates()?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        // The files may have changed during the handshake. So it is checked once by what is there now.
        Some(Self { tls: tls.clone(), chain, end, checked_by: [0; 32], looked: Instant::now() })
    }

    /// Fails once the certificate is not accepted any more. Only checks once in a while.
    fn check(&mut self, log: &HandshakeLog, peer: Option<SocketAddr>) -> io::Result<()> {
        if self.looked.elapsed() < self.tls.look_every.min(RECHECK) {
            return Ok(());
        }
        self.looked = Instant::now();
        let certificates = &self.tls.certificates;
        let files = certificates.digest();
        let is_over = self.end.is_none_or(|end| end.0 <= certificates.now());
        if files == self.checked_by && !is_over {
            return Ok(());
        }
        if certificates.still_accepts(&self.chain) {
            self.checked_by = files;
            return Ok(());
        }
        log.line(peer, "a connection is ended: the certificate of the caller is not accepted any more");
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

/// The handshake, until it is done.
type Accepting = Pin<Box<dyn Future<Output = Result<TlsStream<TcpStream>, (io::Error, TcpStream)>> + Send>>;

/// The bytes of a connection, with TLS or without.
pub(super) struct Transport {
    accepting: Option<Accepting>,
    state: State,
    tls: Option<Tls>,
    address: Option<SocketAddr>,
    peer: Arc<OnceLock<Peer>>,
    certificate_end: Arc<OnceLock<CertificateEnd>>,
    log: HandshakeLog,
    place: Arc<ConnectionPermit>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Transport {
    pub(super) fn new(
        stream: TcpStream,
        tls: Option<&Tls>,
        log: HandshakeLog,
        place: ConnectionPermit,
    ) -> Self {
        Self::with(stream, tls.map(|tls| (tls, tls.certificates.config())), log, place)
    }

    /// The same for a port with pages for browsers, which speaks HTTP/1.1.
    pub(super) fn for_pages(
        stream: TcpStream,
        tls: Option<&Tls>,
        log: HandshakeLog,
        place: ConnectionPermit,
    ) -> Self {
        let tls = tls.map(|tls| {
            let mut config = ServerConfig::clone(&tls.certificates.config());
            config.alpn_protocols = vec![HTTP_1.to_vec()];
            (tls, Arc::new(config))
        });
        Self::with(stream, tls, log, place)
    }

    fn with(
        stream: TcpStream,
        tls: Option<(&Tls, Arc<ServerConfig>)>,
        log: HandshakeLog,
        place: ConnectionPermit,
    ) -> Self {
        let address = stream.peer_addr().ok();
        let (accepting, state): (Option<Accepting>, State) = match &tls {
            None => (None, State::Plain(stream, true)),
            Some((_, config)) => {
                let acceptor = TlsAcceptor::from(Arc::clone(config));
                (Some(Box::pin(acceptor.accept(stream).into_fallible())), State::Failed)
            }
        };
        let (peer, certificate_end, place) = (Arc::default(), Arc::default(), Arc::new(place));
        let tls = tls.map(|(tls, _)| tls.clone());
        Self { accepting, state, tls, address, peer, certificate_end, log, place }
    }

    /// Who is at the other end. It is set by the time that the first call comes, if callers must have an identity.
    pub(super) fn peer(&self) -> Arc<OnceLock<Peer>> {
        Arc::clone(&self.peer)
    }

    /// The end of the certificate at the other end. It is set by the time that the first call comes, if there is one.
    pub(super) fn certificate_end(&self) -> Arc<OnceLock<CertificateEnd>> {
        Arc::clone(&self.certificate_end)
    }

    /// Ends the handshake, if there is one to end.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(accepting) = &mut self.accepting else { return Poll::Ready(Ok(())) };
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        match accepted {
            Ok(stream) => {
                self.recognize(&stream);
                let end = self.certificate_end.get().copied();
                let accepted = self.tls.as_ref().and_then(|tls| Accepted::new(tls, &stream, end));
                self.state = State::Tls(Box::new(stream), accepted);
                Poll::Ready(Ok(()))
            }
            Err((error, stream)) => {
                match words::tls_error(&error) {
                    Some(reason) => self.log.failed(self.address, &words::of_server(reason)),
                    None => debug!(peer = ?self.address, %error, "a connection ended in its TLS handshake"),
                }
                tokio::spawn(linger(stream, Arc::clone(&self.place)));
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    /// Notes who is at the other end.
    fn recognize(&self, stream: &TlsStream<TcpStream>) {
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if let Some(end) = certificate.and_then(|certificate| CertificateEnd::of_certificate(certificate)) {
            // It is set here only, and only once.
            let _ = self.certificate_end.set(end);
        }
        let Some((trust_domain, table)) = self.tls.as_ref().and_then(Tls::identities) else { return };
        let peer = match certificate {
            Some(certificate) => Caller::of_certificate(certificate, trust_domain, table),
            None => Err(IdentityError::Unreadable),
        };
        if let Err(error) = &peer {
            self.log.unnamed(self.address, error);
        }
        // It is set here only, and only once.
        let _ = self.peer.set(peer);
    }
}

/// Keeps a connection that was refused open until the peer closes it or a second is over. It keeps its place meanwhile.
async fn linger(mut stream: TcpStream, place: Arc<ConnectionPermit>) {
    let lingering = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection is closed now.
    let _ = timeout(LINGER_TIME, lingering).await;
    drop(place);
}

/// Fails once the certificate of the peer, if it needs one, is not accepted any more.
fn check(accepted: &mut Option<Accepted>, log: &HandshakeLog, peer: Option<SocketAddr>) -> io::Result<()> {
    accepted.as_mut().map_or(Ok(()), |accepted| accepted.check(log, peer))
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        let this = &mut *self;
        match &mut this.state {
            State::Plain(stream, fresh) => {
                let before = buffer.filled().len();
                ready!(Pin::new(stream).poll_read(cx, buffer))?;
                if std::mem::take(fresh) && buffer.filled().get(before) == Some(&TLS_HANDSHAKE) {
                    let reason = "the client speaks TLS, and this port does not; it must use http://";
                    this.log.failed(this.address, reason);
                    if let State::Plain(stream, _) = std::mem::replace(&mut this.state, State::Failed) {
                        tokio::spawn(linger(stream, Arc::clone(&this.place)));
                    }
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
                Poll::Ready(Ok(()))
            }
            State::Tls(stream, accepted) => {
                check(accepted, &this.log, this.address)?;
                Pin::new(stream).poll_read(cx, buffer)
            }
            State::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        let this = &mut *self;
        match &mut this.state {
            State::Plain(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            State::Tls(stream, accepted) => {
                check(accepted, &this.log, this.address)?;
                Pin::new(stream).poll_write(cx, bytes)
            }
            State::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        let this = &mut *self;
        match &mut this.state {
            State::Plain(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            State::Tls(stream, accepted) => {
                check(accepted, &this.log, this.address)?;
                Pin::new(stream).poll_write_vectored(cx, slices)
            }
            State::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        // Asked once, before the handshake is done. TLS gathers what it gets in any case.
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?;
        match &mut self.state {
            State::Plain(stream, _) => Pin::new(stream).poll_flush(cx),
            State::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
            State::Failed => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Plain(stream, _) => Pin::new(stream).poll_shutdown(cx),
            State::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
            State::Failed => Poll::Ready(Ok(())),
        }
    }
}
