//! How connections are made: TCP, and TLS on top of it for addresses that begin with `https://`. Errors of
//! TLS get their messages here, because the layers above pass on few of the details.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use causeway_tls::{ClientTls, rustls::pki_types::ServerName, words};
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::{Service, http::Uri};

/// The first byte of a TLS alert. HTTP/2 never begins with it: a server's first frame is shorter than that.
const TLS_ALERT: u8 = 0x15;
/// How long a client that wants to know at once whether the server accepts its certificate waits for the server's first
/// bytes. A server of Causeway sends them as soon as it does; others may wait for the client.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(1);

/// What was wrong with the last connection, if it was TLS, until one works again. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble(Arc<Mutex<Option<String>>>);

impl Trouble {
    fn set(&self, text: &str) -> io::Error {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
        io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes connections, with TLS if the URI is `https`.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tls: Option<Arc<ClientTls>>,
    trouble: Trouble,
    /// Whether a connection counts only once the server has accepted the client's certificate. In TLS 1.3 that is after
    /// the handshake, as the client sees it.
    confirm: bool,
}

impl Connector {
    pub(crate) fn new(tls: Option<Arc<ClientTls>>, trouble: Trouble) -> Self {
        Self { tls, trouble, confirm: false }
    }

    pub(crate) fn confirmed(self) -> Self {
        Self { confirm: true, ..self }
    }

    async fn connect(self, uri: Uri) -> io::Result<Stream> {
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tcp = TcpStream::connect((host.as_str(), port)).await?;
        tcp.set_nodelay(true)?;
        if !is_tls {
            return Ok(Stream { io: Io::Plain(tcp), first: Vec::new(), fresh: true, trouble: self.trouble });
        }
        let Some(tls) = self.tls else {
            return Err(self
                .trouble
                .set("the address begins with https://: give --tls-ca to check the server by"));
        };
        let name = ServerName::try_from(host.clone()).map_err(|_| {
            self.trouble.set(&format!("{host:?} cannot be the name of a server in a certificate"))
        })?;
        let fresh = Arc::clone(&tls);
        tokio::task::spawn_blocking(move || fresh.refresh()).await.map_err(io::Error::other)?;
        let handshake = TlsConnector::from(tls.config()).connect(name, tcp).await;
        let connected = handshake.map_err(|error| translated(error, &tls, &self.trouble))?;
        let mut stream = Stream {
            io: Io::Tls(Box::new(connected), tls),
            first: Vec::new(),
            fresh: true,
            trouble: self.trouble,
        };
        if self.confirm {
            let mut first = vec![0; 256];
            if let Ok(read) = timeout(CONFIRM_TIMEOUT, stream.read(&mut first)).await {
                first.truncate(read?);
                stream.first = first;
            }
        }
        Ok(stream)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect(uri).await.map(TokioIo::new) })
    }
}

/// An error of a connection with TLS, in words.
fn translated(error: io::Error, tls: &ClientTls, trouble: &Trouble) -> io::Error {
    match words::tls_error(&error) {
        Some(reason) => trouble.set(&words::of_client(reason, tls.ca(), tls.has_certificate())),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::new(error.kind(), "the connection was closed")
        }
        None => error,
    }
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Arc<ClientTls>),
}

/// A connection to a service, plain or with TLS.
#[derive(Debug)]
pub(crate) struct Stream {
    io: Io,
    /// What was read already and is to be read again.
    first: Vec<u8>,
    /// Whether nothing has arrived yet.
    fresh: bool,
    trouble: Trouble,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..count]);
            self.first.drain(..count);
            return Poll::Ready(Ok(()));
        }
        let Self { io, fresh, trouble, .. } = &mut *self;
        let before = buffer.filled().len();
        match io {
            Io::Plain(stream) => {
                ready!(Pin::new(stream).poll_read(cx, buffer))?;
                if *fresh && buffer.filled().get(before) == Some(&TLS_ALERT) {
                    return Poll::Ready(Err(trouble.set(words::SERVER_SPEAKS_TLS)));
                }
            }
            Io::Tls(stream, tls) => {
                ready!(Pin::new(stream).poll_read(cx, buffer))
                    .map_err(|error| translated(error, tls, trouble))?;
            }
        }
        if *fresh && buffer.filled().len() > before {
            *fresh = false;
            trouble.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream, _) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Tls(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream, _) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
