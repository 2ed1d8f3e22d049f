//! A client that begins a second handshake on its connection. Only TLS 1.2 has that, and no client of rustls does it: this
//! one takes the keys of a connection of rustls, and makes its own records.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use causeway::serve::{ConnectionLimits, Settings};
use causeway_harness::pki::Pki;
use causeway_tls::{
    Role,
    rustls::{
        ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion,
        RootCertStore, SupportedCipherSuite,
        crypto::{
            cipher::{
                InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks,
                OutboundPlainMessage,
            },
            ring::{self, cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 as SUITE},
        },
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        version::TLS12,
    },
};

use crate::support::{LIMIT, Server, pki, settings};

/// The first bytes of a client of HTTP/2, and its empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The alert about a second handshake: a warning, `no_renegotiation`.
const NO_RENEGOTIATION: [u8; 2] = [1, 100];

/// A client hello that asks for the cipher suite of the connection, without extensions.
fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, one cipher suite, no compression.
    body.extend([0, 0, 2, 0xcc, 0xa9, 1, 0]);
    let length = u8::try_from(body.len()).expect("it is short");
    [&[1, 0, 0, length], body.as_slice()].concat()
}

/// A connection of TLS 1.2 after its handshake.
struct Connection {
    tcp: TcpStream,
    sent: u64,
    encrypter: Box<dyn MessageEncrypter>,
    received: u64,
    decrypter: Box<dyn MessageDecrypter>,
}

impl Connection {
    /// Connects as an operator.
    fn open(address: SocketAddr, pki: &Pki) -> Self {
        let pair = pki.pair(Role::Operator, "me").expect("issued");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(pki.ca()).expect("a certificate")).expect("one of a CA");
        let chain = vec![CertificateDer::from_pem_file(&pair.cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
        let mut provider = ring::default_provider();
        provider.cipher_suites = vec![SUITE];
        let mut config = ClientConfig::builder_with_details(Arc::new(provider), Arc::new(pki.clock()))
            .with_protocol_versions(&[&TLS12])
            .expect("it has the suite")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("they fit");
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.enable_secret_extraction = true;
        let name = "localhost".try_into().expect("a name");
        let mut handshake = ClientConnection::new(Arc::new(config), name).expect("it begins");
        let mut tcp = TcpStream::connect(address).expect("it listens");
        tcp.set_read_timeout(Some(LIMIT)).expect("it is open");
        while handshake.is_handshaking() || handshake.wants_write() {
            handshake.complete_io(&mut tcp).expect("the certificates are good");
        }
        let SupportedCipherSuite::Tls12(suite) = SUITE else { panic!("it is one of TLS 1.2") };
        let secrets = handshake.dangerous_extract_secrets().expect("it is allowed");
        let (sent, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets.tx else {
            panic!("it is not the suite")
        };
        let encrypter = suite.aead_alg.encrypter(key, iv.as_ref(), &[]);
        let (received, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets.rx else {
            panic!("it is not the suite")
        };
        let decrypter = suite.aead_alg.decrypter(key, iv.as_ref());
        Self { tcp, sent, encrypter, received, decrypter }
    }

    fn send(&mut self, typ: ContentType, bytes: &[u8]) {
        let version = ProtocolVersion::TLSv1_2;
        let plain = OutboundPlainMessage { typ, version, payload: OutboundChunks::Single(bytes) };
        let record = self.encrypter.encrypt(plain, self.sent).expect("it can be encrypted").encode();
        self.sent += 1;
        self.tcp.write_all(&record).expect("it is open");
    }

    /// The next record and its kind; `None` when the server has closed the connection.
    fn receive(&mut self) -> Option<(ContentType, Vec<u8>)> {
        let mut head = [0; 5];
        match self.tcp.read_exact(&mut head) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing comes"),
            // It may be reset, which is closed too.
            Err(_) => return None,
            Ok(()) => {}
        }
        let typ = ContentType::from(head[0]);
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        self.tcp.read_exact(&mut body).ok()?;
        let record = InboundOpaqueMessage::new(typ, ProtocolVersion::TLSv1_2, &mut body);
        let plain = self.decrypter.decrypt(record, self.received).expect("it is of this connection");
        self.received += 1;
        Some((typ, plain.payload.to_vec()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_handshake_on_a_connection_is_refused() {
    let pki = pki();
    let tls = pki.server(pki.pair(Role::Control, "main").expect("issued")).expect("it can be used");
    // Nothing but the second handshake ends the connection in the time of the test.
    let connections = ConnectionLimits { handshake: LIMIT * 2, ..ConnectionLimits::default() };
    let server = Server::with(pki, Settings { connections, ..settings(tls) }).await;
    let address = server.running.address;

    let pki = &server.pki;
    let records = tokio::task::block_in_place(|| {
        let mut connection = Connection::open(address, pki);
        connection.send(ContentType::Handshake, &client_hello());
        connection.send(ContentType::ApplicationData, PREFACE);
        let (mut alert, mut answered) = (None, false);
        while alert.is_none() || !answered {
            match connection.receive().expect("it is open") {
                (ContentType::Alert, told) => alert = Some(told),
                (ContentType::ApplicationData, _) => answered = true,
                (other, _) => panic!("the server goes into it: {other:?}"),
            }
        }
        assert_eq!(alert.as_deref(), Some(&NO_RENEGOTIATION[..]));
        // Whoever insists is disconnected.
        connection.send(ContentType::Handshake, &client_hello());
        let mut rest = Vec::new();
        while let Some((typ, _)) = connection.receive() {
            rest.push(typ);
        }
        rest
    });
    assert!(!records.contains(&ContentType::Handshake), "{records:?}");
    let client = server.pki.operator().expect("issued");
    server.asked_with(client).await.expect("the server answers others");
    server.running.stop().await;
}
