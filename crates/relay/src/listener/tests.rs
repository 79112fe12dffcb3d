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
    assert!(answer(&listener, &"X-Fine: 1\r\n".repeat(40)).await.starts_with("HTTP/1.1 101"));
    assert!(answer(&listener, &"X-Many: 1\r\n".repeat(100)).await.starts_with("HTTP/1.1 431"));
    let mut stream = connect(&listener);
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut written = 0;
    while stream.write_all(&[b'x'; 64]).await.is_ok() {
        written += 64;
        assert!(written < 1 << 20, "nothing stops it");
    }
    assert!(written <= 16 * 1024, "{written} bytes of one header");
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
