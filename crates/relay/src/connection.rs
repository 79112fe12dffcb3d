//! One member's WebSocket: bounded frames in, batches out. Beneath the WebSocket it keeps a floor under the rate at which a
//! message, once begun, must arrive: fragments and declared lengths alone hold nothing for long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use kith_protocol::codec::{DecodeError, Encoding, decode_to_server};
use kith_protocol::ids::{ConnectionId, Millis};
use kith_protocol::limits::{
    CONTROL_FRAMES_BURST, CONTROL_FRAMES_PER_SECOND_MILLI, MEMBER_FRAME_BYTES_MAX, MESSAGE_MS_MAX, SESSION_QUEUE_MESSAGES_MAX,
    UNAUTHENTICATED_FRAME_BYTES_MAX, WRITE_BUFFER_BYTES_MAX,
};
use kith_protocol::rate::Bucket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::coop::Input;
use crate::coop::driver::{Handle, Message as ToCoop};

/// Headers of fragments are a small part of what they carry; a message of more raw bytes is nothing but headers.
const RAW_BYTES_MAX: u64 = MEMBER_FRAME_BYTES_MAX as u64 * 2;
/// How long the reason may take to be written before the connection ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a connection that is in the middle of a message is looked at.
const LOOK_MS: u64 = MESSAGE_MS_MAX / 6;
/// Messages that are written before one flush.
const WRITE_BATCH: usize = 64;

/// Bytes that were read, and how many may be before the next message is complete.
struct Meter {
    read: AtomicU64,
    allowed: AtomicU64,
}

impl Meter {
    fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.read() > self.allowed.load(Ordering::Relaxed)
    }

    /// A message is complete: the next may be as long as messages are.
    fn allow(&self, bytes: u64) {
        self.allowed.store(self.read() + bytes, Ordering::Relaxed);
    }
}

/// Reads no further than its meter allows.
struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.meter.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        if self.meter.is_spent() {
            return Poll::Ready(Err(io::Error::other("a message is larger than it may be")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(4 * 1024)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(MEMBER_FRAME_BYTES_MAX))
        .max_frame_size(Some(MEMBER_FRAME_BYTES_MAX))
        .accept_unmasked_frames(false)
}

/// Serves an upgraded connection until it closes.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(stream: S, encoding: Encoding, coop: Handle) {
    let meter = Arc::new(Meter { read: AtomicU64::new(0), allowed: AtomicU64::new(UNAUTHENTICATED_FRAME_BYTES_MAX as u64) });
    let stream = Metered { inner: stream, meter: meter.clone() };
    let ws = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
    let connection = coop.new_connection();
    let (queue, outgoing) = mpsc::channel(SESSION_QUEUE_MESSAGES_MAX);
    let lagging = Arc::new(AtomicBool::new(false));
    let mut nonce = [0; 32];
    if let Err(error) = getrandom::fill(&mut nonce) {
        tracing::error!(%error, "no randomness for a challenge");
        return;
    }
    if !coop.send(ToCoop::Member { connection, queue, lagging: lagging.clone() }).await {
        return;
    }
    coop.input(Input::MemberOpened { connection, encoding, nonce }).await;
    let (mut sink, mut stream) = ws.split();
    let reads = read_frames(&mut stream, encoding, connection, &coop, &meter);
    let writes = write_frames(&mut sink, encoding, connection, &coop, outgoing, &lagging);
    tokio::select! { () = reads => {}, () = writes => {} }
    coop.input(Input::MemberClosed { connection }).await;
}

async fn read_frames<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut futures_util::stream::SplitStream<WebSocketStream<S>>,
    encoding: Encoding,
    connection: ConnectionId,
    coop: &Handle,
    meter: &Meter,
) {
    let start = Instant::now();
    let mut controls = Bucket::new(CONTROL_FRAMES_BURST, CONTROL_FRAMES_PER_SECOND_MILLI, Millis(0));
    let (mut complete, mut has_spoken) = (0, false);
    let mut begun: Option<Instant> = None;
    loop {
        let next = tokio::time::timeout(Duration::from_millis(LOOK_MS), stream.next()).await;
        let Ok(next) = next else {
            let since = *begun.get_or_insert_with(Instant::now);
            if meter.read() == complete {
                begun = None;
            } else if since.elapsed() >= Duration::from_millis(MESSAGE_MS_MAX) {
                return;
            }
            continue;
        };
        complete = meter.read();
        begun = None;
        // Whoever has not authenticated gets no large message through: the first message is what authenticates.
        has_spoken |= matches!(next, Some(Ok(Message::Binary(_) | Message::Text(_))));
        if has_spoken {
            meter.allow(RAW_BYTES_MAX);
        }
        let frame = match next {
            Some(Ok(Message::Binary(bytes))) if encoding == Encoding::Binary => decode_to_server(bytes, encoding),
            Some(Ok(Message::Text(text))) if encoding == Encoding::Json => decode_to_server(Bytes::from(text), encoding),
            Some(Ok(Message::Binary(_) | Message::Text(_))) => Err(DecodeError::Schema),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                let now = Millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
                if controls.take(now, 1).is_err() {
                    return;
                }
                continue;
            }
            Some(Err(error)) if matches!(error, Error::Capacity(_)) || meter.is_spent() => {
                // The rest of it cannot be skipped: its sender is told why, and the connection ends.
                coop.input(Input::MemberFrame { connection, frame: Err(DecodeError::Field("frame size")) }).await;
                coop.input(Input::MemberClosed { connection }).await;
                return tokio::time::sleep(FAREWELL).await;
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
        };
        if !coop.input(Input::MemberFrame { connection, frame }).await {
            return;
        }
    }
}

async fn write_frames<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut futures_util::stream::SplitSink<WebSocketStream<S>, Message>,
    encoding: Encoding,
    connection: ConnectionId,
    coop: &Handle,
    mut outgoing: mpsc::Receiver<Bytes>,
    lagging: &AtomicBool,
) {
    let mut batch = Vec::new();
    while outgoing.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        for bytes in batch.drain(..) {
            let message = match encoding {
                Encoding::Binary => Message::Binary(bytes),
                Encoding::Json => match String::from_utf8(bytes.into()) {
                    Ok(text) => Message::Text(text.into()),
                    Err(_) => return,
                },
            };
            if sink.feed(message).await.is_err() {
                return;
            }
        }
        if sink.flush().await.is_err() {
            return;
        }
        let has_drained = outgoing.is_empty() && lagging.load(Ordering::SeqCst);
        if has_drained && lagging.swap(false, Ordering::SeqCst) {
            coop.input(Input::MemberDrained { connection }).await;
        }
    }
    let _ = sink.close().await;
}

#[cfg(test)]
pub(crate) mod tests;
