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
use kith_protocol::ids::{ConnectionId, Millis};
use kith_protocol::limits::{
    CONTROL_FRAMES_BURST, CONTROL_FRAMES_PER_SECOND_MILLI, FRAGMENT_BYTES_MAX, MEMBER_FRAME_BYTES_MAX, MEMBER_RAW_BYTES_MAX,
    MESSAGE_MS_MAX, SESSION_QUEUE_MESSAGES_MAX, UNAUTHENTICATED_FRAME_BYTES_MAX, WRITE_BUFFER_BYTES_MAX,
};
use kith_protocol::rate::Bucket;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use self::gather::Gather;
use crate::coop::Input;
use crate::coop::driver::{Handle, Message as ToCoop};
use crate::queue::{Receiver, queue};

mod gather;

/// How long the reason may take to be written before the connection ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// Messages that are written before one flush.
const WRITE_BATCH: usize = 64;
/// Places for messages that a connection keeps between two batches.
const BATCH_KEPT: usize = 4;

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
        // What is written is gathered beneath it.
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX)
        .max_message_size(Some(MEMBER_FRAME_BYTES_MAX))
        .max_frame_size(Some(MEMBER_FRAME_BYTES_MAX))
        .accept_unmasked_frames(false)
}

/// Serves an upgraded connection until it closes.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send>(stream: S, encoding: Encoding, coop: Handle) {
    let meter = Arc::new(Meter { read: AtomicU64::new(0), allowed: AtomicU64::new(UNAUTHENTICATED_FRAME_BYTES_MAX as u64) });
    let stream = Metered { inner: Gather::new(stream), meter: meter.clone() };
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
    let incoming = Incoming { stream, meter, complete: 0 };
    let reads = read_frames(incoming, encoding, connection, &coop);
    let writes = write_frames(&mut sink, encoding, connection, &coop, outgoing);
    tokio::select! { () = reads => {}, () = writes => {} }
    if let Some(place) = coop.place().await {
        place.send(ToCoop::Input(Input::MemberClosed { connection }));
    }
}

/// A WebSocket's messages, and how much was read for them.
struct Incoming<S> {
    stream: SplitStream<WebSocketStream<Metered<Gather<S>>>>,
    meter: Arc<Meter>,
    /// Bytes that had been read when the last message was complete.
    complete: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    /// The next message; `None` at the end, and for one that takes too long. A clock runs only while a message is under
    /// way.
    async fn next(&mut self) -> Option<Result<Message, Error>> {
        let mut clock: Option<Pin<Box<Sleep>>> = None;
        let next = poll_fn(|cx| {
            if let Poll::Ready(next) = self.stream.poll_next_unpin(cx) {
                return Poll::Ready(next);
            }
            if self.meter.read() == self.complete {
                return Poll::Pending;
            }
            let clock = clock.get_or_insert_with(|| Box::pin(sleep(Duration::from_millis(MESSAGE_MS_MAX))));
            clock.as_mut().poll(cx).map(|()| None)
        })
        .await;
        self.complete = self.meter.read();
        // Whoever has not authenticated gets no large message through: the first message is what authenticates.
        if matches!(next, Some(Ok(Message::Binary(_) | Message::Text(_)))) {
            self.meter.allow(MEMBER_RAW_BYTES_MAX);
        }
        next
    }
}

async fn read_frames<S: AsyncRead + AsyncWrite + Unpin>(
    mut incoming: Incoming<S>,
    encoding: Encoding,
    connection: ConnectionId,
    coop: &Handle,
) {
    let start = Instant::now();
    let mut controls = Bucket::new(CONTROL_FRAMES_BURST, CONTROL_FRAMES_PER_SECOND_MILLI, Millis(0));
    while let Some(next) = incoming.next().await {
        let message = match next {
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {
                let now = Millis(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX));
                if controls.take(now, 1).is_err() {
                    return;
                }
                continue;
            }
            Ok(Message::Close(_)) => return,
            Ok(message) => Some(message),
            // The rest of it cannot be skipped: its sender is told why, and the connection ends.
            Err(error) if matches!(error, Error::Capacity(_)) || incoming.meter.is_spent() => None,
            Err(_) => return,
        };
        let is_last = message.is_none();
        // What waits for a place is the message as it came; a decoded frame is much larger.
        let Some(place) = coop.place().await else { return };
        let frame = match message {
            Some(Message::Binary(bytes)) if encoding == Encoding::Binary => decode_to_server(bytes, encoding),
            Some(Message::Text(text)) if encoding == Encoding::Json => decode_to_server(Bytes::from(text), encoding),
            Some(_) => Err(DecodeError::Schema),
            None => Err(DecodeError::TooLarge("the frame")),
        };
        place.send(ToCoop::Input(Input::MemberFrame { connection, frame }));
        if is_last {
            let Some(place) = coop.place().await else { return };
            place.send(ToCoop::Input(Input::MemberClosed { connection }));
            return sleep(FAREWELL).await;
        }
    }
}

/// A message as it goes out. The WebSocket copies each frame into a buffer that never shrinks: what a connection has caught
/// up on once must not stay in memory while it idles.
fn fragments(mut message: Bytes, encoding: Encoding) -> impl Iterator<Item = Message> {
    let first = match encoding {
        Encoding::Binary => Data::Binary,
        Encoding::Json => Data::Text,
    };
    let mut opcode = Some(first);
    std::iter::from_fn(move || {
        let opcode_now = opcode.take()?;
        let payload = message.split_to(message.len().min(FRAGMENT_BYTES_MAX));
        let is_final = message.is_empty();
        opcode = (!is_final).then_some(Data::Continue);
        Some(Message::Frame(Frame::message(payload, OpCode::Data(opcode_now), is_final)))
    })
}

async fn write_frames<S: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<Metered<Gather<S>>>, Message>,
    encoding: Encoding,
    connection: ConnectionId,
    coop: &Handle,
    mut outgoing: Receiver,
) {
    let mut batch = Vec::new();
    while outgoing.recv_many(&mut batch, WRITE_BATCH).await {
        for message in batch.drain(..) {
            for fragment in fragments(message, encoding) {
                if sink.feed(fragment).await.is_err() {
                    return;
                }
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

#[cfg(test)]
pub(crate) mod tests;
