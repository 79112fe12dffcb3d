//! HTTP that does not mean well, in virtual time.

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::Instant;

use super::*;
use crate::connection::tests::coop;

fn listener() -> Arc<Listener> {
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    Listener::new(coop(), None, vec!["https://alder.test".to_owned()], metrics, Arc::new(AtomicBool::new(true)))
}

fn connect(listener: &Arc<Listener>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(4 * 1024);
    listener.open.fetch_add(1, Ordering::Relaxed);
    tokio::spawn(listener.clone().serve_http(theirs, Open(listener.clone())));
    ours
}

const UPGRADE: &str = "GET /kith/v1 HTTP/1.1\r\nHost: alder.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: kith.v1\r\n";

/// The head of the answer to an upgrade with these headers too.
async fn answer(listener: &Arc<Listener>, headers: &str) -> String {
    let mut stream = connect(listener);
    stream.write_all(format!("{UPGRADE}{headers}\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { break };
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(start_paused = true)]
async fn fault_24_a_slow_head_ends() {
    let listener = listener();
    let mut stream = connect(&listener);
    let begun = Instant::now();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    while stream.write_all(b"X-Slow: 1\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let lasted = begun.elapsed().as_millis() as u64;
    assert!((REQUEST_HEAD_MS_MAX..REQUEST_HEAD_MS_MAX + 2_000).contains(&lasted), "{lasted} ms");
    // Who says nothing at all has no longer.
    let mut silent = connect(&listener);
    let begun = Instant::now();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(begun.elapsed() <= Duration::from_millis(REQUEST_HEAD_MS_MAX + 1_000));
    assert_eq!(listener.open.load(Ordering::Relaxed), 0, "nobody's place is kept");
}

#[tokio::test(start_paused = true)]
async fn fault_24_headers_are_bounded_in_number_and_size() {
    let listener = listener();
    let own = UPGRADE.lines().count() - 1;
    assert!(answer(&listener, &"X-Fine: 1\r\n".repeat(REQUEST_HEADERS_MAX - own)).await.starts_with("HTTP/1.1 101"));
    assert!(answer(&listener, &"X-Many: 1\r\n".repeat(REQUEST_HEADERS_MAX - own + 1)).await.starts_with("HTTP/1.1 431"));
    let mut stream = connect(&listener);
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut written = 0;
    while stream.write_all(&[b'x'; 64]).await.is_ok() {
        written += 64;
        assert!(written < 1 << 20, "nothing stops it");
    }
    assert!(written <= 2 * REQUEST_HEAD_BYTES_MAX, "{written} bytes of one header");
}

#[tokio::test(start_paused = true)]
async fn fault_27_only_allowed_pages_open_a_session() {
    let listener = listener();
    for (headers, status) in [
        ("", 101),
        ("Origin: https://alder.test\r\n", 101),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: http://alder.test\r\n", 403),
        ("Origin: https://alder.test.evil.example\r\n", 403),
        ("Origin: https://alder.test:444\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Origin:\r\n", 403),
        ("Origin: https://alder.test\r\nOrigin: https://evil.example\r\n", 403),
        // A cookie opens nothing and is never given.
        ("Origin: https://evil.example\r\nCookie: session=1\r\n", 403),
    ] {
        let answer = answer(&listener, headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
        assert!(!answer.to_lowercase().contains("cookie"), "{answer}");
    }
}

async fn bound(listener: &Arc<Listener>) -> std::net::SocketAddr {
    let socket = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(listener.clone().run(socket));
    address
}

/// One too many is closed at once, and the others go on.
#[tokio::test]
async fn connections_are_bounded() {
    let listener = listener();
    let address = bound(&listener).await;
    listener.open.store(CONNECTIONS_MAX, Ordering::Relaxed);
    let mut turned_away = TcpStream::connect(address).await.unwrap();
    assert_eq!(turned_away.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(listener.open.load(Ordering::Relaxed), CONNECTIONS_MAX);
    listener.open.store(CONNECTIONS_MAX - 1, Ordering::Relaxed);
    let mut taken = TcpStream::connect(address).await.unwrap();
    taken.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    taken.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The operating system asks after whoever has gone: the kernel's table shows the timer of that connection.
#[tokio::test]
async fn a_silent_connection_is_asked_after() {
    let listener = listener();
    let address = bound(&listener).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    // It has been accepted once it answers.
    client.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(client.read(&mut [0; 512]).await.unwrap() > 0);
    let (ours, theirs) = (client.local_addr().unwrap().port(), address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let ends = format!(":{theirs:04X} 0100007F:{ours:04X} 01 ");
    let line = table.lines().find(|line| line.contains(&ends)).expect("the server's end");
    let timer = line.split_whitespace().nth(5).unwrap();
    let (kind, left) = timer.split_once(':').unwrap();
    let left_s = u64::from_str_radix(left, 16).unwrap() / 100;
    assert_eq!(kind, "02", "a keepalive timer runs: {line}");
    assert!((MEMBER_KEEPALIVE_S / 2..=MEMBER_KEEPALIVE_S).contains(&left_s), "{left_s} s");
}

/// Who connects and does not shake hands has no longer than that.
#[tokio::test(start_paused = true)]
async fn fault_24_a_handshake_that_never_comes_ends() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let listener = Listener::new(coop(), Some(Arc::new(config)), Vec::new(), metrics, Arc::new(AtomicBool::new(true)));
    let address = bound(&listener).await;
    let begun = Instant::now();
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    let lasted = begun.elapsed().as_millis() as u64;
    assert!((TLS_HANDSHAKE_MS_MAX..TLS_HANDSHAKE_MS_MAX + 1_000).contains(&lasted), "{lasted} ms");
    assert_eq!(listener.open.load(Ordering::Relaxed), 0);
}
