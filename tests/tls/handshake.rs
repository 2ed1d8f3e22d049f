//! Versions of TLS, and handshakes that do not come to an end.

use std::{sync::Arc, time::Duration};

use causeway::serve::{ConnectionLimits, Settings};
use causeway_tls::{
    Role,
    rustls::{
        ClientConfig, ProtocolVersion, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        version::{TLS12, TLS13},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::{LIMIT, Server, pki, settings, until};

/// Waits until the other side closes the connection.
async fn closed(mut stream: TcpStream) {
    let mut rest = Vec::new();
    // It may be reset, which is closed too.
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("it is closed");
}

async fn server(handshake: Duration, open: usize) -> Server {
    let pki = pki();
    let tls = pki.server(pki.pair(Role::Control, "main").expect("issued")).expect("it can be used");
    let connections = ConnectionLimits { open, handshake, ..ConnectionLimits::default() };
    Server::with(pki, Settings { connections, ..settings(tls) }).await
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_gives_its_place_back() {
    let server = server(Duration::from_millis(100), 2).await;
    let address = server.running.address;
    let silent = TcpStream::connect(address).await.expect("it listens");
    let mut begun = TcpStream::connect(address).await.expect("it listens");
    // The beginning of a handshake whose rest does not come.
    begun.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.expect("it is open");
    closed(silent).await;
    closed(begun).await;
    let client = server.pki.operator().expect("issued");
    until("there is a place again", async || server.asked_with(client.clone()).await.is_ok()).await;
    server.running.stop().await;
}

/// Only the limit on connections can close the third one in time.
#[tokio::test]
async fn a_connection_in_its_handshake_has_a_place() {
    let server = server(LIMIT * 2, 2).await;
    let address = server.running.address;
    let both = [TcpStream::connect(address).await, TcpStream::connect(address).await];
    closed(TcpStream::connect(address).await.expect("it listens")).await;
    assert!(both.iter().all(Result::is_ok));
    server.running.stop().await;
}

#[tokio::test]
async fn a_connection_that_ends_its_handshake_and_then_says_nothing_is_closed_too() {
    let server = server(Duration::from_secs(2), 10).await;
    let tcp = TcpStream::connect(server.running.address).await.expect("it listens");
    let client = server.pki.operator().expect("issued");
    let name = "localhost".try_into().expect("a name");
    let connector = tokio_rustls::TlsConnector::from(client.config());
    let mut stream = connector.connect(name, tcp).await.expect("the certificate is good");
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("it is closed");
    server.running.stop().await;
}

#[tokio::test]
async fn slow_handshakes_hold_nobody_up() {
    let server = server(LIMIT, 100).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(server.running.address).await.expect("it listens"));
    }
    let client = server.pki.operator().expect("issued");
    server.asked_with(client).await.expect("it does not wait for the others");
    drop(silent);
    server.running.stop().await;
}

#[tokio::test]
async fn tls_1_3_is_spoken_and_1_2_with_those_who_have_no_newer_one() {
    let server = server(LIMIT, 10).await;
    let pair = server.pki.pair(Role::Operator, "me").expect("issued");
    let both = [&TLS12, &TLS13];
    for (versions, wanted) in [(&both[..], ProtocolVersion::TLSv1_3), (&both[..1], ProtocolVersion::TLSv1_2)]
    {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(server.pki.ca()).expect("a certificate");
        roots.add(ca).expect("it is one of a CA");
        let chain = vec![CertificateDer::from_pem_file(&pair.cert).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(server.pki.clock()))
            .with_protocol_versions(versions)
            .expect("they exist")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("they fit");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(server.running.address).await.expect("it listens");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = "localhost".try_into().expect("a name");
        let stream = connector.connect(name, tcp).await.expect("the certificate is good");
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(wanted));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
    }
    server.running.stop().await;
}
