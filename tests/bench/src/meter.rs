//! Bytes as they cross the socket, and the WebSocket over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use kith_protocol::codec::Encoding;
use kith_protocol::limits::MEMBER_FRAME_BYTES_MAX;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Application bytes so far, without the upgrade.
#[derive(Debug, Default)]
pub struct Meter {
    up: AtomicU64,
    down: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    pub up: u64,
    pub down: u64,
}

impl Meter {
    pub fn read(&self) -> Bytes {
        Bytes { up: self.up.load(Ordering::Relaxed), down: self.down.load(Ordering::Relaxed) }
    }
}

impl Bytes {
    pub fn since(self, earlier: Self) -> Self {
        Self { up: self.up - earlier.up, down: self.down - earlier.down }
    }

    pub fn both(self) -> u64 {
        self.up + self.down
    }
}

/// End of an HTTP head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A socket that counts. The server may send its first frame together with the end of its HTTP answer, so that the end of
/// the answer is looked for in the bytes themselves.
pub struct Counted<S> {
    inner: S,
    meter: Arc<Meter>,
    /// Bytes of [`HEAD_END`] that came last; all of them: the upgrade is done.
    head_end: usize,
}

impl<S> Counted<S> {
    fn count_read(&mut self, bytes: &[u8]) {
        let mut head = 0;
        while self.head_end < HEAD_END.len() && head < bytes.len() {
            let byte = bytes[head];
            let restart = usize::from(byte == HEAD_END[0]);
            self.head_end = if byte == HEAD_END[self.head_end] { self.head_end + 1 } else { restart };
            head += 1;
        }
        self.meter.down.fetch_add((bytes.len() - head) as u64, Ordering::Relaxed);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.count_read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        // A client sends nothing after its request until the answer is whole.
        if self.head_end == HEAD_END.len() {
            self.meter.up.fetch_add(written as u64, Ordering::Relaxed);
        }
        Poll::Ready(Ok(written))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

pub type Socket = WebSocketStream<Counted<TcpStream>>;

/// Buffers as small as the server's: ten thousand sockets are held at once.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(4 * MEMBER_FRAME_BYTES_MAX)
        .max_message_size(Some(MEMBER_FRAME_BYTES_MAX))
        .max_frame_size(Some(MEMBER_FRAME_BYTES_MAX))
}

/// A session's WebSocket on this machine, and its meter.
pub async fn connect(port: u16) -> anyhow::Result<(Socket, Arc<Meter>)> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    tcp.set_nodelay(true)?;
    let meter = Arc::new(Meter::default());
    let counted = Counted { inner: tcp, meter: meter.clone(), head_end: 0 };
    Ok((upgrade(counted, port).await?, meter))
}

/// A session's WebSocket over whatever carries it.
pub async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: S, port: u16) -> anyhow::Result<WebSocketStream<S>> {
    let mut request = format!("ws://127.0.0.1:{port}/kith/v1").into_client_request()?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(Encoding::Binary.subprotocol()));
    Ok(client_async_with_config(request, stream, Some(config())).await?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upgrade_is_not_counted_and_what_comes_with_it_is() {
        for cut in 0..20 {
            let meter = Arc::new(Meter::default());
            let mut counted = Counted { inner: (), meter: meter.clone(), head_end: 0 };
            let bytes = b"HTTP/1.1 101\r\na: b\r\r\n\r\nabc";
            counted.count_read(&bytes[..cut]);
            counted.count_read(&bytes[cut..]);
            assert_eq!(meter.read(), Bytes { up: 0, down: 3 }, "cut at {cut}");
        }
    }
}
