//! The sockets of a link: TLS and WebSocket, with every limit set. Frames go in and out through bounded channels; what
//! they mean is the machine's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use kith_protocol::limits::{
    LINK_FRAME_BYTES_MAX, LINK_QUEUE_BYTES_MAX, LINK_QUEUE_MESSAGES_MAX, LINK_READ_AHEAD_MESSAGES_MAX, TLS_HANDSHAKE_MS_MAX,
    WRITE_BUFFER_BYTES_MAX,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use super::address::connect;
use super::tls::{LinkIdentity, TlsError, dummy_server_name, peer_link_key};

const PATH: &str = "/kith-link/1";

/// For the last word to somebody whose frame was too large.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection to a neighbour could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the TLS handshake failed: {0}")]
    Tls(#[source] io::Error),
    #[error("the other end's key cannot be used: {0}")]
    Peer(#[from] TlsError),
    #[error("the WebSocket handshake failed: {0}")]
    WebSocket(#[source] Box<tungstenite::Error>),
    #[error("the other end is too slow")]
    Slow(#[from] tokio::time::error::Elapsed),
}

/// An authenticated connection: the key that the other end showed in TLS, and frames both ways.
pub struct Opened {
    pub peer_link_key: [u8; 32],
    pub outgoing: Outgoing,
    pub incoming: mpsc::Receiver<Incoming>,
}

/// What waits to be written to a link, bounded in messages and in bytes.
#[derive(Debug, Clone)]
pub struct Outgoing {
    queue: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
}

impl Outgoing {
    /// `false`: it is full, or the link is gone.
    pub fn push(&self, message: Bytes) -> bool {
        let len = message.len();
        let fits = self.bytes.fetch_add(len, Ordering::Relaxed) + len <= LINK_QUEUE_BYTES_MAX;
        fits && self.queue.try_send(message).is_ok()
    }
}

/// What comes from the socket.
#[derive(Debug)]
pub enum Incoming {
    Frame(Bytes),
    /// Not a binary message.
    Malformed,
    /// Beyond [`LINK_FRAME_BYTES_MAX`]. The rest of it cannot be skipped, so nothing follows: its sender is to be told why, and
    /// the link ends.
    TooLarge,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(16 * 1024)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX + LINK_FRAME_BYTES_MAX)
        .max_message_size(Some(LINK_FRAME_BYTES_MAX))
        .max_frame_size(Some(LINK_FRAME_BYTES_MAX))
        .accept_unmasked_frames(false)
}

#[allow(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
fn check_request(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    if request.uri().path() == PATH {
        return Ok(response);
    }
    let mut refusal = ErrorResponse::new(None);
    *refusal.status_mut() = StatusCode::NOT_FOUND;
    Err(refusal)
}

/// The accepting end: TLS, then WebSocket, within the time allowed.
pub async fn accept(tcp: TcpStream, identity: &LinkIdentity) -> Result<Opened, OpenError> {
    let _ = tcp.set_nodelay(true);
    let config_tls = identity.server_config()?;
    tokio::time::timeout(Duration::from_millis(TLS_HANDSHAKE_MS_MAX), async {
        let tls = TlsAcceptor::from(config_tls).accept(tcp).await.map_err(OpenError::Tls)?;
        let key = peer_link_key(tls.get_ref().1)?;
        let ws = accept_hdr_async_with_config(tls, check_request, Some(config()))
            .await
            .map_err(|error| OpenError::WebSocket(Box::new(error)))?;
        Ok(start(key, ws))
    })
    .await?
}

/// The dialling end. Follows no redirect: an answer that is no upgrade ends it.
pub async fn dial(address: &str, identity: &LinkIdentity) -> Result<Opened, OpenError> {
    let config_tls = identity.client_config()?;
    tokio::time::timeout(Duration::from_millis(TLS_HANDSHAKE_MS_MAX), async {
        let tcp = connect(address).await.map_err(OpenError::Connect)?;
        let _ = tcp.set_nodelay(true);
        let tls = TlsConnector::from(config_tls).connect(dummy_server_name(), tcp).await.map_err(OpenError::Tls)?;
        let key = peer_link_key(tls.get_ref().1)?;
        let request = format!("wss://link.invalid{PATH}").into_client_request().map_err(|error| OpenError::WebSocket(Box::new(error)))?;
        let (ws, _response) =
            client_async_with_config(request, tls, Some(config())).await.map_err(|error| OpenError::WebSocket(Box::new(error)))?;
        Ok(start(key, ws))
    })
    .await?
}

fn start<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(peer_link_key: [u8; 32], ws: WebSocketStream<S>) -> Opened {
    let (queue, from_machine) = mpsc::channel(LINK_QUEUE_MESSAGES_MAX);
    let (to_machine, incoming) = mpsc::channel(LINK_READ_AHEAD_MESSAGES_MAX);
    let outgoing = Outgoing { queue, bytes: Arc::default() };
    tokio::spawn(pump(ws, from_machine, outgoing.bytes.clone(), to_machine));
    Opened { peer_link_key, outgoing, incoming }
}

/// Ends when either side closes: the socket, or the machine by dropping its sender.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(
    ws: WebSocketStream<S>,
    mut from_machine: mpsc::Receiver<Bytes>,
    queued: Arc<AtomicUsize>,
    to_machine: mpsc::Sender<Incoming>,
) {
    let (mut sink, mut stream) = ws.split();
    let reads = async {
        while let Some(message) = stream.next().await {
            let incoming = match message {
                Ok(Message::Binary(bytes)) => Incoming::Frame(bytes),
                Ok(Message::Text(_)) => Incoming::Malformed,
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Err(tungstenite::Error::Capacity(_)) => {
                    // Time for the answer to get out; the machine closes before it is over.
                    let _ = to_machine.send(Incoming::TooLarge).await;
                    return tokio::time::sleep(FAREWELL).await;
                }
                Ok(Message::Close(_)) | Err(_) => break,
            };
            if to_machine.send(incoming).await.is_err() {
                break;
            }
        }
    };
    let writes = async {
        let mut queue = Vec::new();
        while from_machine.recv_many(&mut queue, 64).await > 0 {
            for bytes in queue.drain(..) {
                queued.fetch_sub(bytes.len(), Ordering::Relaxed);
                if sink.feed(Message::Binary(bytes)).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    };
    tokio::select! { () = reads => {}, () = writes => {} }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A neighbour that answers with a redirect gets nobody to go there.
    #[tokio::test]
    async fn fault_31_no_redirect_is_followed() {
        let [elsewhere, here] = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let (target, address) = (elsewhere.local_addr().unwrap(), here.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let identity = LinkIdentity::from_seed(&[2; 32]).unwrap();
            let (tcp, _) = here.accept().await.unwrap();
            let mut tls = TlsAcceptor::from(identity.server_config().unwrap()).accept(tcp).await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(tls.read_u8().await.unwrap());
            }
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: https://{target}{PATH}\r\nContent-Length: 0\r\n\r\n");
            tls.write_all(answer.as_bytes()).await.unwrap();
            tls.flush().await.unwrap();
        });
        let identity = LinkIdentity::from_seed(&[1; 32]).unwrap();
        let dialled = dial(&address.to_string(), &identity).await;
        assert!(matches!(dialled, Err(OpenError::WebSocket(error)) if matches!(*error, tungstenite::Error::Http(_))));
        server.await.unwrap();
        let nobody = tokio::select! { biased; _ = elsewhere.accept() => false, () = tokio::task::yield_now() => true };
        assert!(nobody, "nobody came to where the redirect leads");
    }

    /// A neighbour that reads nothing has so much kept for it, and then its queue is full: nothing grows. What waits to be
    /// looked at here is as bounded.
    #[tokio::test]
    async fn fault_26_what_waits_for_a_link_is_bounded() {
        let (near, far) = tokio::io::duplex(64);
        let ws = WebSocketStream::from_raw_socket(near, tungstenite::protocol::Role::Server, Some(config())).await;
        let opened = start([0; 32], ws);
        let message = Bytes::from(vec![7; LINK_FRAME_BYTES_MAX]);
        let mut taken = 0;
        // What the pump has in hand comes on top of what is queued.
        let fit = LINK_QUEUE_BYTES_MAX / LINK_FRAME_BYTES_MAX;
        while taken <= 2 * fit && opened.outgoing.push(message.clone()) {
            taken += 1;
            tokio::task::yield_now().await;
        }
        assert!((fit..=fit + 2).contains(&taken), "{taken}");
        // Short ones are counted, too.
        let (near, other) = tokio::io::duplex(64);
        let ws = WebSocketStream::from_raw_socket(near, tungstenite::protocol::Role::Server, Some(config())).await;
        let opened = start([0; 32], ws);
        let short = (0..LINK_QUEUE_MESSAGES_MAX + 100).take_while(|_| opened.outgoing.push(Bytes::from_static(b"short"))).count();
        assert_eq!(short, LINK_QUEUE_MESSAGES_MAX);
        assert_eq!(opened.incoming.max_capacity(), LINK_READ_AHEAD_MESSAGES_MAX);
        drop(other);
        drop(far);
    }
}
