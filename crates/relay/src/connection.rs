//! One member's WebSocket: bounded frames in, batches out. Beneath the WebSocket it keeps a floor under the rate at which a
//! message, once begun, must arrive: fragments and declared lengths alone hold nothing for long.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use kith_protocol::codec::{DecodeError, Encoding, decode_to_server};
use kith_protocol::ids::ConnectionId;
use kith_protocol::limits::{
    MEMBER_FRAME_BYTES_MAX, MESSAGE_MS_MAX, SESSION_QUEUE_MESSAGES_MAX, UNAUTHENTICATED_FRAME_BYTES_MAX, WRITE_BUFFER_BYTES_MAX,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::coop::Input;
use crate::coop::driver::{Handle, Message as ToCoop};
use crate::queue::{Receiver, queue};

/// Headers of fragments are a small part of what they carry; a message of more raw bytes is nothing but headers.
const RAW_BYTES_MAX: u64 = MEMBER_FRAME_BYTES_MAX as u64 * 2;
/// Messages that are written before one flush.
const WRITE_BATCH: usize = 64;
/// Places for messages that a connection keeps between two batches.
const BATCH_KEPT: usize = 4;

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
    let (queue, outgoing) = queue(SESSION_QUEUE_MESSAGES_MAX);
    let Some(place) = coop.place().await else { return };
    place.send(ToCoop::Member { connection, queue });
    let Some(place) = coop.place().await else { return };
    let mut nonce = [0; 32];
    match getrandom::fill(&mut nonce) {
        Ok(()) => place.send(ToCoop::Input(Input::MemberOpened { connection, encoding, nonce })),
        Err(error) => {
            tracing::error!(%error, "no randomness for a challenge");
            return place.send(ToCoop::Input(Input::MemberClosed { connection }));
        }
    }
    let (mut sink, stream) = ws.split();
    let incoming = Incoming { stream, read, complete: 0 };
    let reads = read_frames(incoming, encoding, connection, &coop);
    let writes = write_frames(&mut sink, encoding, connection, &coop, outgoing);
    tokio::select! { () = reads => {}, () = writes => {} }
    if let Some(place) = coop.place().await {
        place.send(ToCoop::Input(Input::MemberClosed { connection }));
    }
}

/// A WebSocket's messages, and how much was read for them.
struct Incoming<S> {
    stream: SplitStream<WebSocketStream<Metered<S>>>,
    read: Arc<AtomicU64>,
    /// Bytes that had been read when the last message was complete.
    complete: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    fn partial(&self) -> u64 {
        self.read.load(Ordering::Relaxed) - self.complete
    }

    /// The next message; `None` at the end, and for one that takes too long or never ends. A clock runs only while a
    /// message is under way.
    async fn next(&mut self) -> Option<Result<Message, Error>> {
        let limit = if self.complete == 0 { UNAUTHENTICATED_FRAME_BYTES_MAX as u64 } else { RAW_BYTES_MAX };
        let mut clock: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(next) = self.stream.poll_next_unpin(cx) {
                return Poll::Ready(next);
            }
            match self.partial() {
                0 => Poll::Pending,
                partial if partial > limit => Poll::Ready(None),
                _ => {
                    let clock = clock.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(MESSAGE_MS_MAX))));
                    clock.as_mut().poll(cx).map(|()| None)
                }
            }
        })
        .await
    }
}

async fn read_frames<S: AsyncRead + AsyncWrite + Unpin>(
    mut incoming: Incoming<S>,
    encoding: Encoding,
    connection: ConnectionId,
    coop: &Handle,
) {
    while let Some(next) = incoming.next().await {
        // Whoever has not authenticated gets no large message through: the first frame is what authenticates.
        let is_too_large = incoming.complete == 0 && incoming.partial() > UNAUTHENTICATED_FRAME_BYTES_MAX as u64;
        let message = match next {
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) if !is_too_large => {
                incoming.complete += incoming.partial();
                continue;
            }
            Ok(message) if !is_too_large => Some(message),
            // The rest of it cannot be skipped: its sender is told why, and the connection ends.
            Ok(_) | Err(Error::Capacity(_)) => None,
            Err(_) => return,
        };
        incoming.complete += incoming.partial();
        let is_last = message.is_none();
        // What waits for a place is the message as it came; a decoded frame is much larger.
        let Some(place) = coop.place().await else { return };
        let frame = match message {
            Some(Message::Binary(bytes)) if encoding == Encoding::Binary => decode_to_server(bytes, encoding),
            Some(Message::Text(text)) if encoding == Encoding::Json => decode_to_server(Bytes::from(text), encoding),
            Some(Message::Close(_)) => return,
            Some(_) => Err(DecodeError::Schema),
            None => Err(DecodeError::Field("frame size")),
        };
        place.send(ToCoop::Input(Input::MemberFrame { connection, frame }));
        if is_last {
            return;
        }
    }
}

async fn write_frames<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<Metered<S>>, Message>,
    encoding: Encoding,
    connection: ConnectionId,
    coop: &Handle,
    mut outgoing: Receiver,
) {
    let mut batch = Vec::new();
    while outgoing.recv_many(&mut batch, WRITE_BATCH).await {
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
        // Nothing is kept for a burst that may never come again.
        if batch.capacity() > BATCH_KEPT {
            batch = Vec::new();
        }
        if sink.flush().await.is_err() {
            return;
        }
        if outgoing.has_caught_up() {
            let Some(place) = coop.place().await else { return };
            place.send(ToCoop::Input(Input::MemberDrained { connection }));
        }
    }
    let _ = sink.close().await;
}
