//! Serving, with a fake silo: the test controls its database and its calls.

use std::{
    num::NonZeroU32,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use causeway_proto::region::v1::{
    ApproveOrganizationsRequest, ApproveOrganizationsResponse, GetOrganizationRequest,
    GetOrganizationResponse, ListOrganizationsRequest, ListOrganizationsResponse, ResolveSlugRequest,
    ResolveSlugResponse,
    organization_service_client::OrganizationServiceClient,
    organization_service_server::{OrganizationService, OrganizationServiceServer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};

use super::*;

const SERVICE: &str = "causeway.region.v1.OrganizationService";
const IMPORTS: &str = "causeway.region.v1.ImportService";

const SHORT: Settings = Settings {
    health_interval: Duration::from_millis(5),
    health_timeout: Duration::from_secs(3),
    drain: Duration::ZERO,
    flush_timeout: Duration::from_millis(50),
    connections: ConnectionLimits {
        open: 1_000,
        from_address: 1_000,
        handshake: LIMIT,
        idle: LIMIT,
        keepalive: LIMIT,
    },
    callers: CallerLimits {
        calls: 200,
        rate: NonZeroU32::MAX,
        questions: NonZeroU32::MAX,
        uploads: 100,
        bytes: u64::MAX,
        all_bytes: u64::MAX,
        arrival: Duration::from_secs(60),
    },
    tls: None,
    metrics: None,
};

/// Nothing here takes this long, unless it hangs.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Fake {
    healthy: AtomicBool,
    writable: AtomicBool,
    /// Whether control knows the silo.
    registered: watch::Sender<bool>,
    /// A permit for each call that has come in.
    entered: Semaphore,
    /// A call is answered when it gets a permit of this.
    gate: Semaphore,
    /// What happened, in order.
    log: Mutex<Vec<&'static str>>,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            healthy: AtomicBool::new(true),
            writable: AtomicBool::new(true),
            registered: watch::Sender::new(true),
            entered: Semaphore::new(0),
            gate: Semaphore::new(0),
            log: Mutex::default(),
        })
    }

    fn log(&self, what: &'static str) {
        self.log.lock().expect("nobody panics with it").push(what);
    }
}

struct Calls(Arc<Fake>);

#[tonic::async_trait]
impl OrganizationService for Calls {
    async fn get_organization(
        &self,
        _: Request<GetOrganizationRequest>,
    ) -> Result<Response<GetOrganizationResponse>, Status> {
        self.0.entered.add_permits(1);
        self.0.gate.acquire().await.expect("it is never closed").forget();
        self.0.log("answered");
        Ok(Response::new(GetOrganizationResponse::default()))
    }

    async fn list_organizations(
        &self,
        _: Request<ListOrganizationsRequest>,
    ) -> Result<Response<ListOrganizationsResponse>, Status> {
        Ok(Response::new(ListOrganizationsResponse::default()))
    }

    async fn resolve_slug(
        &self,
        _: Request<ResolveSlugRequest>,
    ) -> Result<Response<ResolveSlugResponse>, Status> {
        Ok(Response::new(ResolveSlugResponse::default()))
    }

    async fn approve_organizations(
        &self,
        _: Request<ApproveOrganizationsRequest>,
    ) -> Result<Response<ApproveOrganizationsResponse>, Status> {
        Ok(Response::new(ApproveOrganizationsResponse::default()))
    }
}

impl Owners for Arc<Fake> {
    fn owner(self: Arc<Self>, _: Owned) -> BoxFuture<'static, Result<Owner, Status>> {
        Box::pin(async { Ok(Owner::Absent) })
    }
}

impl ServedService for Arc<Fake> {
    const SERVICES: &'static [&'static str] = &[SERVICE, IMPORTS];
    const NEED_REGISTRATION: &'static [&'static str] = &[IMPORTS];

    fn registration(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }

    fn add_services(&self, routes: &mut RoutesBuilder, _insecure: bool) {
        routes.add_service(OrganizationServiceServer::new(Calls(Self::clone(self))));
    }

    async fn ping(&self) -> Result<(), DbError> {
        match self.healthy.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(DbError::inconsistent("away")),
        }
    }

    async fn check_writable(&self, _: Duration) -> Result<(), DbError> {
        match self.writable.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(DbError::injected("full")),
        }
    }

    fn begin_stop(&self) {
        self.log("begins to stop");
    }

    async fn stop(&self) {
        // Like a silo that has something to do before it stops.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.log("stopped");
    }
}

struct Server {
    fake: Arc<Fake>,
    running: Running,
    channel: Channel,
}

async fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let fake = Fake::new();
    let running = serve(
        listener,
        Arc::new(Arc::clone(&fake)),
        super::Calls::new(Some("eu".to_owned()), Environment::system()),
        None,
        SHORT,
    )
    .await
    .expect("it starts");
    Server { fake, channel: connect(&running).await, running }
}

async fn connect(running: &Running) -> Channel {
    Channel::from_shared(running.url()).expect("a URL").connect().await.expect("it listens")
}

async fn watch(channel: &Channel, service: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(channel.clone()).watch(request).await.expect("it is known").into_inner()
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let message = timeout(LIMIT, watch.message()).await.expect("it does not hang");
    message.expect("the stream is not broken").map(|message| message.status())
}

/// Makes a call that is answered when the gate opens. Returns once the call has arrived.
async fn call(server: &Server) -> JoinHandle<Result<Response<GetOrganizationResponse>, Status>> {
    let mut client = OrganizationServiceClient::new(server.channel.clone());
    let call = tokio::spawn(async move { client.get_organization(GetOrganizationRequest::default()).await });
    server.fake.entered.acquire().await.expect("it is never closed").forget();
    call
}

async fn stop(running: Running, soft: Duration) {
    timeout(LIMIT, running.stop_within(soft)).await.expect("it does not hang");
}

#[tokio::test]
async fn health_follows_the_database() {
    let server = server().await;
    for name in ["", SERVICE] {
        let mut watch = watch(&server.channel, name).await;
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving), "{name}");
        server.fake.healthy.store(false, Ordering::SeqCst);
        assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing), "{name}");
        server.fake.healthy.store(true, Ordering::SeqCst);
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving), "{name}");
        // It answers, but accepts no writes.
        server.fake.writable.store(false, Ordering::SeqCst);
        assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing), "{name}");
        server.fake.writable.store(true, Ordering::SeqCst);
        assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving), "{name}");
    }
    let unknown = HealthCheckRequest { service: "nobody".to_owned() };
    let status = HealthClient::new(server.channel.clone()).check(unknown).await.expect_err("nobody");
    assert_eq!(status.code(), Code::NotFound);
    stop(server.running, LIMIT).await;
}

#[tokio::test]
async fn imports_are_served_only_while_control_knows_the_region() {
    let server = server().await;
    let mut imports = watch(&server.channel, IMPORTS).await;
    let mut others = watch(&server.channel, SERVICE).await;
    for watch in [&mut imports, &mut others] {
        assert_eq!(next(watch).await, Some(ServingStatus::Serving));
    }
    server.fake.registered.send_replace(false);
    assert_eq!(next(&mut imports).await, Some(ServingStatus::NotServing));
    server.fake.registered.send_replace(true);
    assert_eq!(next(&mut imports).await, Some(ServingStatus::Serving));
    // Imports need both. The other services got no message about any of this.
    server.fake.registered.send_replace(false);
    assert_eq!(next(&mut imports).await, Some(ServingStatus::NotServing));
    server.fake.healthy.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut others).await, Some(ServingStatus::NotServing));
    server.fake.registered.send_replace(true);
    server.fake.healthy.store(true, Ordering::SeqCst);
    for watch in [&mut imports, &mut others] {
        assert_eq!(next(watch).await, Some(ServingStatus::Serving));
    }
    stop(server.running, LIMIT).await;
}

#[tokio::test]
async fn a_call_in_flight_is_answered_before_the_service_stops() {
    let server = server().await;
    let mut watch = watch(&server.channel, SERVICE).await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    let call = call(&server).await;

    let address = server.running.address;
    let stopping = tokio::spawn(stop(server.running, LIMIT));
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    assert!(!stopping.is_finished(), "the call is not answered yet");
    server.fake.gate.add_permits(1);
    call.await.expect("it does not panic").expect("it is answered");
    assert_eq!(next(&mut watch).await, None, "who watches is told the end");
    stopping.await.expect("it does not panic");

    let mut log = server.fake.log.lock().expect("nobody panics with it").clone();
    // The call is answered whether the service has begun to stop or not.
    log.retain(|what| *what != "begins to stop");
    assert_eq!(log, ["answered", "stopped"]);
    let refused = tokio::net::TcpStream::connect(address).await.expect_err("the port is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_and_leaves_the_service_time_to_stop() {
    let server = server().await;
    let call = call(&server).await;
    stop(server.running, Duration::from_millis(400)).await;
    let status = timeout(LIMIT, call).await.expect("it is over").expect("no panic").expect_err("it was cut");
    assert!(status.message().contains("error") || status.code() == Code::Unavailable, "{status}");
    assert_eq!(*server.fake.log.lock().expect("nobody panics with it"), ["begins to stop", "stopped"]);
}

#[tokio::test]
async fn a_stream_without_an_end_does_not_hold_the_shutdown_up() {
    let server = server().await;
    let (_open, requests) = tokio::sync::mpsc::channel::<ServerReflectionRequest>(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let mut stream = client.server_reflection_info(requests).await.expect("it is served").into_inner();
    let begun = Instant::now();
    stop(server.running, LIMIT).await;
    assert!(begun.elapsed() < LIMIT / 2, "it waited for the stream");
    assert!(!matches!(stream.message().await, Ok(Some(_))), "it is over");
}

#[tokio::test]
async fn what_is_dropped_ends_at_once() {
    let server = server().await;
    let call = call(&server).await;
    let address = server.running.address;
    drop(server.running);
    timeout(LIMIT, call).await.expect("it is over").expect("no panic").expect_err("it was cut");
    let refused = tokio::net::TcpStream::connect(address).await.expect_err("the port is closed");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_service_that_ends_by_itself_is_noticed() {
    let mut server = server().await;
    server.running.server.as_ref().expect("it runs").abort();
    let why = timeout(LIMIT, server.running.wait()).await.expect("it is noticed");
    assert!(why.to_string().contains("failed"), "{why}");
    stop(server.running, LIMIT).await;
}

#[tokio::test]
async fn calls_are_taken_until_balancers_have_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let fake = Fake::new();
    let settings = Settings { drain: LIMIT / 2, ..SHORT };
    let running = serve(
        listener,
        Arc::new(Arc::clone(&fake)),
        super::Calls::new(None, Environment::system()),
        None,
        settings,
    )
    .await
    .expect("it starts");
    let (channel, address) = (connect(&running).await, running.address);
    let mut watch = watch(&channel, "").await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    let stopping = tokio::spawn(running.stop_within(LIMIT));
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    tokio::net::TcpStream::connect(address).await.expect("the port is still open");
    assert!(fake.log.lock().expect("nobody panics with it").is_empty(), "nothing has begun to stop");
    stopping.abort();
}

/// How an HTTP/2 connection begins: the preface, and an empty SETTINGS frame.
const BEGINNING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn serve_with(connections: ConnectionLimits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let fake = Fake::new();
    let settings = Settings { connections, ..SHORT };
    let running = serve(
        listener,
        Arc::new(Arc::clone(&fake)),
        super::Calls::new(None, Environment::system()),
        None,
        settings,
    )
    .await
    .expect("it starts");
    let channel = connect(&running).await;
    Server { fake, running, channel }
}

/// Connects, sends `words`, and then nothing.
async fn say(server: &Server, words: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.running.address).await.expect("it listens");
    // A refused connection may already be closed before this is sent.
    let _said = stream.write_all(words).await;
    stream
}

/// Reads until the other side has closed the connection.
async fn closed(mut stream: TcpStream) {
    let end = timeout(LIMIT, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
    // With an error or without.
    let _end = end.expect("it is closed");
}

#[tokio::test]
async fn a_connection_has_so_many_calls_at_once() {
    let server = serve_with(SHORT.connections).await;
    let mut stream = say(&server, BEGINNING).await;
    // A frame begins with its length, its type and flags, and its stream. The first one has the settings.
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], 4, "it is a SETTINGS frame");
    let mut settings = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut settings).await.expect("its settings");
    let max_concurrent_streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).map(|it| &it[2..]);
    assert_eq!(max_concurrent_streams, Some(&MAX_STREAMS.to_be_bytes()[..]));
    stop(server.running, LIMIT).await;
}

#[tokio::test]
async fn whoever_does_not_begin_to_speak_is_cut_off() {
    let limits = ConnectionLimits { handshake: Duration::from_millis(50), ..SHORT.connections };
    let server = serve_with(limits).await;
    for words in [&b""[..], b"GET / HTTP/1.1", &BEGINNING[..23]] {
        closed(say(&server, words).await).await;
    }
    // A connection that has begun properly is not cut.
    server.fake.gate.add_permits(1);
    call(&server).await.await.expect("no panic").expect("it is answered");
    stop(server.running, LIMIT).await;
}

#[tokio::test]
async fn silent_connections_shut_nobody_out_for_long() {
    let limits = ConnectionLimits { open: 50, handshake: Duration::from_millis(500), ..SHORT.connections };
    let server = serve_with(limits).await;
    // Some get a place; the others are refused at once.
    let silent: Vec<TcpStream> = futures::future::join_all((0..200).map(|_| say(&server, b""))).await;
    // The connection that was there before goes on.
    server.fake.gate.add_permits(1);
    call(&server).await.await.expect("no panic").expect("it is answered");
    futures::future::join_all(silent.into_iter().map(closed)).await;
    // All places but one are free again.
    let mut channels = Vec::new();
    for _ in 1..50 {
        let channel = connect(&server.running).await;
        let status = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
        assert_eq!(status.expect("it is answered").into_inner().status(), ServingStatus::Serving);
        channels.push(channel);
    }
    let refused = Channel::from_shared(server.running.url()).expect("a URL").connect().await;
    if let Ok(channel) = refused {
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.expect_err("there is no place");
    }
    stop(server.running, LIMIT).await;
}

/// Connects from this loopback address and begins to speak HTTP/2. Whether the server answers.
async fn is_answered(server: &Server, from: &str) -> (bool, TcpStream) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{from}:0").parse().expect("an address")).expect("it is ours");
    let mut stream = socket.connect(server.running.address).await.expect("it listens");
    // A refused connection may already be closed before this is sent.
    let _said = stream.write_all(BEGINNING).await;
    let first = timeout(LIMIT, stream.read_u8()).await.expect("it answers or ends");
    (first.is_ok(), stream)
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let limits = ConnectionLimits { open: 50, from_address: 3, ..SHORT.connections };
    // The first of them is that of the server's own client.
    let server = serve_with(limits).await;
    let (second, open) = is_answered(&server, "127.0.0.1").await;
    let (third, _open) = is_answered(&server, "127.0.0.1").await;
    let (fourth, _) = is_answered(&server, "127.0.0.1").await;
    assert_eq!((second, third, fourth), (true, true, false));
    let (other, _open) = is_answered(&server, "127.0.0.2").await;
    assert!(other, "another address has its own places");
    drop(open);
    let deadline = Instant::now() + LIMIT;
    while !is_answered(&server, "127.0.0.1").await.0 {
        assert!(Instant::now() < deadline, "the place of a connection that has ended is free again");
    }
    stop(server.running, LIMIT).await;
}

#[tokio::test]
async fn a_connection_without_calls_ends_and_one_with_a_call_does_not() {
    let limits = ConnectionLimits { idle: Duration::from_millis(50), ..SHORT.connections };
    let server = serve_with(limits).await;
    let mut watch = watch(&server.channel, SERVICE).await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    // Three times as long as a connection may be idle.
    for _ in 0..3 {
        closed(say(&server, BEGINNING).await).await;
    }
    server.fake.healthy.store(false, Ordering::SeqCst);
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing), "it is still told");
    stop(server.running, LIMIT).await;
}
