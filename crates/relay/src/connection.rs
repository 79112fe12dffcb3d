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
use kith_protocol::limits::{
    MEMBER_FRAME_BYTES_MAX, MESSAGE_MS_MAX, SESSION_QUEUE_MESSAGES_MAX, UNAUTHENTICATED_FRAME_BYTES_MAX, WRITE_BUFFER_BYTES_MAX,
};
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
/// How often a connection that is in the middle of a message is looked at.
const LOOK_MS: u64 = MESSAGE_MS_MAX / 6;
/// Messages that are written before one flush.
const WRITE_BATCH: usize = 64;

/// Counts the bytes that were read.
pub struct Metered<S> {
    inner: S,
    read: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
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
    let read = Arc::new(AtomicU64::new(0));
    let stream = Metered { inner: stream, read: read.clone() };
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
    let reads = read_frames(&mut stream, encoding, connection, &coop, &read);
    let writes = write_frames(&mut sink, encoding, connection, &coop, outgoing, &lagging);
    tokio::select! { () = reads => {}, () = writes => {} }
    coop.input(Input::MemberClosed { connection }).await;
}

async fn read_frames<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut futures_util::stream::SplitStream<WebSocketStream<S>>,
    encoding: Encoding,
    connection: kith_protocol::ids::ConnectionId,
    coop: &Handle,
    read: &AtomicU64,
) {
    let mut complete = 0;
    let mut begun: Option<Instant> = None;
    loop {
        let next = tokio::time::timeout(Duration::from_millis(LOOK_MS), stream.next()).await;
        let Ok(next) = next else {
            let partial = read.load(Ordering::Relaxed) - complete;
            let limit = if complete == 0 { UNAUTHENTICATED_FRAME_BYTES_MAX as u64 } else { RAW_BYTES_MAX };
            let since = *begun.get_or_insert_with(Instant::now);
            if partial == 0 {
                begun = None;
            } else if partial > limit || since.elapsed() >= Duration::from_millis(MESSAGE_MS_MAX) {
                return;
            }
            continue;
        };
        // Whoever has not authenticated gets no large message through: the first frame is what authenticates.
        let size = read.load(Ordering::Relaxed) - complete;
        if complete == 0 && size > UNAUTHENTICATED_FRAME_BYTES_MAX as u64 {
            coop.input(Input::MemberFrame { connection, frame: Err(DecodeError::TooLarge("the frame")) }).await;
            return;
        }
        complete = read.load(Ordering::Relaxed);
        begun = None;
        let frame = match next {
            Some(Ok(Message::Binary(bytes))) if encoding == Encoding::Binary => decode_to_server(bytes, encoding),
            Some(Ok(Message::Text(text))) if encoding == Encoding::Json => decode_to_server(Bytes::from(text), encoding),
            Some(Ok(Message::Binary(_) | Message::Text(_))) => Err(DecodeError::Schema),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Err(Error::Capacity(_))) => {
                // The rest of it cannot be skipped: its sender is told why, and the connection ends.
                coop.input(Input::MemberFrame { connection, frame: Err(DecodeError::TooLarge("the frame")) }).await;
                return;
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
    connection: kith_protocol::ids::ConnectionId,
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
