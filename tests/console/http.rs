//! A client of HTTP/1.1 that sends exactly what it is told to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use causeway_client::ClientTls;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

/// The longest that an answer may take. Nothing here takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By name in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// Checks the status, and that the body has all of these texts.
    pub(crate) fn says(&self, status: u16, texts: &[&str]) {
        assert_eq!(self.status, status, "{}", self.body);
        for text in texts {
            assert!(self.body.contains(text), "{text:?} is not in {}", self.body);
        }
    }

    pub(crate) fn lacks(&self, texts: &[&str]) {
        for text in texts {
            assert!(!self.body.contains(text), "{text:?} is in {}", self.body);
        }
    }
}

/// A console, and what its visitor shows it.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    authority: String,
    tls: Option<Arc<ClientTls>>,
}

/// Whether an answer has as many bytes as it says: not every server ends the connection after it.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let begins = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap_or_default() + 4;
    length.is_some_and(|length: usize| answer.len() - begins >= length)
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> std::io::Result<Vec<u8>> {
    // A server that refuses a request need not read all of it.
    let sent = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) => break Ok(()),
            Ok(_) if is_whole(&answer) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
    };
    if answer.is_empty() {
        sent?;
        read?;
    }
    Ok(answer)
}

fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            break;
        }
        whole.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}

impl Visitor {
    pub(crate) fn new(url: &str, tls: Option<Arc<ClientTls>>) -> Self {
        let authority = url.split_once("://").expect("a URL").1.to_owned();
        Self { authority, tls }
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends bytes, and returns all that comes until the connection ends.
    pub(crate) async fn send(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let tcp = TcpStream::connect(&self.authority).await?;
        let exchanged = async {
            match &self.tls {
                None => exchange(tcp, request).await,
                Some(tls) => {
                    let mut config = ClientConfig::clone(&tls.config());
                    config.alpn_protocols = vec![b"http/1.1".to_vec()];
                    let name = ServerName::try_from("localhost").expect("a name");
                    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
                    exchange(stream, request).await
                }
            }
        };
        timeout(LIMIT, exchanged).await.expect("an answer in time")
    }

    /// A connection that sends nothing.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.authority).await.expect("it listens")
    }

    /// Asks for a page again and again until there is an answer.
    pub(crate) async fn until_answered(&self, path: &str) {
        let until = tokio::time::Instant::now() + LIMIT;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.authority);
        while !self.send(request.as_bytes()).await.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")) {
            assert!(tokio::time::Instant::now() < until, "there is never an answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends bytes that need not be a request, and no more after them.
    pub(crate) async fn send_and_close(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut tcp = TcpStream::connect(&self.authority).await?;
        tcp.write_all(bytes).await?;
        tcp.shutdown().await?;
        let mut answer = Vec::new();
        timeout(LIMIT, tcp.read_to_end(&mut answer)).await.expect("an end in time")?;
        Ok(answer)
    }

    /// Makes a request. `headers` are lines; the host is that of the console unless they have one.
    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("host:")) {
            head.push_str(&format!("Host: {}\r\n", self.authority));
        }
        for line in headers {
            head.push_str(line);
            head.push_str("\r\n");
        }
        if method == "POST" {
            head.push_str("Content-Type: application/x-www-form-urlencoded\r\n");
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let answer = self.send(format!("{head}\r\n{body}").as_bytes()).await.expect("an answer");
        parsed(&answer)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, &[], body).await
    }

    /// Asks for a page again and again until it has a text.
    pub(crate) async fn until(&self, path: &str, text: &str) -> Answer {
        let until = tokio::time::Instant::now() + LIMIT;
        loop {
            let answer = self.get(path).await;
            if answer.body.contains(text) {
                return answer;
            }
            assert!(tokio::time::Instant::now() < until, "{text:?} never comes: {}", answer.body);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Reads an answer.
pub(crate) fn parsed(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = if is_chunked { dechunked(body) } else { body.to_owned() };
    Answer { status, headers, body }
}
