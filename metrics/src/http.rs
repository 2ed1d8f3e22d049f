//! The port that is scraped: plain HTTP, `GET /metrics` and nothing else. Whoever connects may send little, must send it
//! soon, and gets one answer on each connection.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use crate::exposition::{Exposition, Form};

/// The path that is scraped.
pub const PATH: &str = "/metrics";

/// What one connection, and all together, may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at once. A further one is closed at once.
    pub connections: usize,
    /// The most of them from one address, so that none can shut out the others.
    pub from_address: usize,
    /// The most bytes of a request, which are those of its headers; hyper needs 8 KiB at least.
    pub request_bytes: usize,
    /// How long the headers may take to arrive.
    pub arrival: Duration,
    /// How long a connection may last in all. Whoever does not read its answer is cut then.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            from_address: 32,
            request_bytes: 16 << 10,
            arrival: Duration::from_secs(5),
            connection: Duration::from_secs(15),
        }
    }
}

/// The most headers of a request.
const HEADERS: usize = 64;
/// Pause after a failed accept. It mostly fails for lack of something (such as file handles) that does not come back at
/// once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Least time between two log lines about refused connections.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The connections refused since the last log line about them.
#[derive(Debug, Default)]
struct Refusals {
    refused: u64,
    last_logged: Option<Instant>,
}

impl Refusals {
    fn count(&mut self, peer: SocketAddr, limit: usize) {
        self.refused += 1;
        if self.last_logged.is_none_or(|last_logged| last_logged.elapsed() >= REFUSAL_LOG_INTERVAL) {
            let refused = std::mem::take(&mut self.refused);
            warn!(%peer, limit, refused, "as many scrapers are connected as may be; others are refused");
            self.last_logged = Some(Instant::now());
        }
    }
}

/// The places for connections.
struct Places {
    limits: Limits,
    all: Arc<Semaphore>,
    /// Those of each address that has a connection.
    of_addresses: HashMap<IpAddr, Arc<Semaphore>>,
}

/// The place of one connection. Dropping it gives it back.
type Place = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Places {
    fn new(limits: Limits) -> Self {
        Self { limits, all: Arc::new(Semaphore::new(limits.connections)), of_addresses: HashMap::new() }
    }

    /// A place for a connection from this address. If there is none, the most connections that may be open.
    fn take(&mut self, address: IpAddr) -> Result<Place, usize> {
        let of_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| self.limits.connections)?;
        let most = self.limits.from_address;
        let of_address = self.of_addresses.entry(address.to_canonical());
        let of_address = Arc::clone(of_address.or_insert_with(|| Arc::new(Semaphore::new(most))));
        Ok((of_all, of_address.try_acquire_owned().map_err(|_| most)?))
    }

    /// Forgets the addresses that have no connection any more.
    fn forget_absent(&mut self) {
        let most = self.limits.from_address;
        self.of_addresses.retain(|_, places| places.available_permits() < most);
    }
}

/// A port for scrapers, which is bound.
#[derive(Debug, Clone)]
pub struct Port {
    listener: Arc<TcpListener>,
    /// Its address, with the actual port.
    pub address: SocketAddr,
}

impl Port {
    /// Binds an address. Nothing is answered yet.
    ///
    /// # Errors
    /// If it cannot be listened on, e.g. because another process does.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener: Arc::new(listener), address })
    }

    /// Answers scrapers until this future is dropped. All connections end with it.
    pub async fn serve(self, exposition: Exposition, limits: Limits) {
        let mut places = Places::new(limits);
        let mut connections = tokio::task::JoinSet::new();
        let mut refusals = Refusals::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                // So that those that have ended are forgotten.
                Some(_) = connections.join_next() => {
                    places.forget_absent();
                    continue;
                }
            };
            match accepted {
                Ok((stream, peer)) => match places.take(peer.ip()) {
                    Ok(place) => {
                        connections.spawn(answer(stream, peer, place, exposition.clone(), limits));
                    }
                    Err(limit) => refusals.count(peer, limit),
                },
                Err(error) => {
                    warn!(%error, "a connection of a scraper cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Answers one request, and closes the connection.
async fn answer(stream: TcpStream, peer: SocketAddr, _place: Place, exposition: Exposition, limits: Limits) {
    let service = service_fn(move |request| {
        let exposition = exposition.clone();
        async move { Ok::<_, Infallible>(respond(&request, &exposition).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(limits.arrival)
        .max_buf_size(limits.request_bytes)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(limits.connection, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, %error, "a connection of a scraper has failed"),
        Err(_) => debug!(%peer, within = ?limits.connection, "a scraper did not read its answer in time"),
    }
}

async fn respond(request: &Request<Incoming>, exposition: &Exposition) -> Response<Full<Bytes>> {
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "there is only /metrics\n");
    }
    if request.method() != Method::GET {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let form = Form::of_accept(accept);
    match exposition.text(form).await {
        Ok(text) => {
            let mut response = Response::new(Full::from(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.content_type()));
            response
        }
        Err(error) => {
            warn!(%error, "the metrics cannot be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
        task::AbortHandle,
    };

    use super::*;
    use crate::{Readings, table};

    /// A port that answers until this is dropped.
    struct Served {
        address: SocketAddr,
        task: AbortHandle,
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn serve(limits: Limits, series: usize) -> Served {
        let port = Port::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let now = move || (0..series).map(|at| table::FEED_VERSION.sample([&at.to_string()], at)).collect();
        let exposition = Exposition::new(Registry::default(), now, Readings::default());
        let address = port.address;
        Served { address, task: tokio::spawn(port.serve(exposition, limits)).abort_handle() }
    }

    /// Sends bytes, and returns all that is answered until the connection is closed.
    async fn send(address: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        // Where it is refused early, not all may be sent.
        let _sent = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _closed_or_reset = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    }

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn a_scrape_is_answered_and_the_connection_closed() {
        let served = serve(Limits::default(), 1).await;
        let answer = send(served.address, GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
        assert!(answer.ends_with("causeway_feed_version{region=\"0\"} 0.0\n"), "{answer}");
        let get = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
        let answer = send(served.address, get).await;
        assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn nothing_but_get_of_the_metrics_is_answered() {
        let served = serve(Limits::default(), 1).await;
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
            ("GET /metrics/x HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
            ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405 Method Not Allowed"),
            ("DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed"),
            ("rubbish\r\n\r\n", "400 Bad Request"),
        ] {
            let answer = send(served.address, request.as_bytes()).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request:?}: {answer:?}");
            assert!(!answer.contains("causeway_"), "{answer}");
        }
        // The beginning of HTTP/2.
        assert_eq!(send(served.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
        let answer =
            send(served.address, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
        assert!(answer.contains("allow: GET\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_is_refused() {
        let served = serve(Limits::default(), 1).await;
        let large = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(17 << 10));
        let answer = send(served.address, large.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: x\r\n".repeat(HEADERS + 1));
        let answer = send(served.address, many.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
        assert!(send(served.address, GET).await.starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[tokio::test]
    async fn a_request_that_does_not_come_to_its_end_is_cut() {
        let limits = Limits { arrival: Duration::from_millis(50), ..Limits::default() };
        let served = serve(limits, 1).await;
        let answer =
            timeout(Duration::from_secs(10), send(served.address, b"GET /metrics HTTP/1.1\r\nHo")).await;
        let answer = answer.expect("it is cut long before the end of the connection");
        assert!(!answer.contains("200 OK"), "{answer}");
    }

    #[tokio::test]
    async fn a_scraper_that_never_reads_is_cut_and_keeps_no_place() {
        let limits = Limits { connections: 1, connection: Duration::from_millis(300), ..Limits::default() };
        // Far more than the buffers of both sockets have room for.
        let served = serve(limits, 400_000).await;
        let mut lazy = TcpStream::connect(served.address).await.expect("it listens");
        lazy.write_all(GET).await.expect("it is sent");
        // Its place is taken: another one is refused until it is cut.
        let until_cut = async {
            loop {
                let mut other = TcpStream::connect(served.address).await.expect("it listens");
                let _sent = other.write_all(GET).await;
                let mut first = [0; 15];
                if other.read_exact(&mut first).await.is_ok() {
                    return first;
                }
            }
        };
        let first = timeout(Duration::from_secs(60), until_cut).await.expect("the place is given back");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        // Nobody has waited for it: what is left of its answer ends in the middle.
        let mut rest = Vec::new();
        let _closed_or_reset = lazy.read_to_end(&mut rest).await;
        assert!(
            rest.starts_with(b"HTTP/1.1 200 OK") && !rest.ends_with(b"399999.0\n"),
            "{} bytes",
            rest.len()
        );
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_are_closed_at_once() {
        let limits = Limits { connections: 2, ..Limits::default() };
        let served = serve(limits, 1).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(served.address).await.expect("it listens");
            stream.write_all(b"GET").await.expect("it is sent");
            held.push(stream);
        }
        assert_eq!(send(served.address, GET).await, "");
        drop(held);
    }

    #[tokio::test]
    async fn one_address_cannot_shut_out_the_others() {
        let limits = Limits { connections: 3, from_address: 2, ..Limits::default() };
        let served = serve(limits, 1).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(served.address).await.expect("it listens");
            stream.write_all(b"GET").await.expect("it is sent");
            held.push(stream);
        }
        assert_eq!(send(served.address, GET).await, "");
        let other = TcpSocket::new_v4().expect("a socket");
        other.bind("127.0.0.2:0".parse().expect("an address")).expect("another address of this machine");
        let mut other = other.connect(served.address).await.expect("it listens");
        other.write_all(GET).await.expect("it is sent");
        let mut answer = String::new();
        other.read_to_string(&mut answer).await.expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        drop(held);
    }

    #[test]
    fn addresses_without_a_connection_are_forgotten() {
        let mut places = Places::new(Limits::default());
        let [first, second] = ["::ffff:127.0.0.1", "127.0.0.1"].map(|text| text.parse().expect("an address"));
        let held = [places.take(first).expect("a place"), places.take(second).expect("a place")];
        assert_eq!(places.of_addresses.len(), 1);
        places.forget_absent();
        assert_eq!(places.of_addresses.len(), 1);
        drop(held);
        places.forget_absent();
        assert!(places.of_addresses.is_empty());
        assert_eq!(places.all.available_permits(), Limits::default().connections);
    }

    #[tokio::test]
    async fn all_connections_end_with_the_port() {
        let long = Duration::from_secs(600);
        let served = serve(Limits { arrival: long, connection: long, ..Limits::default() }, 1).await;
        let mut open = TcpStream::connect(served.address).await.expect("it listens");
        open.write_all(b"GET").await.expect("it is sent");
        let address = served.address;
        drop(served);
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(60), open.read_to_end(&mut rest)).await;
        let _closed_or_reset = ended.expect("it is closed");
        assert!(rest.is_empty());
        TcpStream::connect(address).await.expect_err("nobody listens");
    }
}
