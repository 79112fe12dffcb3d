//! The session's WebSocket, from the member's side.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use kith_protocol::codec::{Encoding, decode_to_member, encode_to_server};
use kith_protocol::limits::{MEMBER_FRAME_BYTES_MAX, TLS_HANDSHAKE_MS_MAX};
use kith_protocol::member::{ToMember, ToServer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Where sessions are opened.
const SESSION_PATH: &str = "/kith/v1";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the co-op's server at {address} cannot be reached: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("the server's certificate does not hold: {0}")]
    Tls(#[source] io::Error),
    #[error("the server does not speak Kith: {0}")]
    WebSocket(#[source] Box<tungstenite::Error>),
    #[error("the server does not answer")]
    Slow,
    #[error("plain connections are for this machine only; ask the co-op for an https link")]
    Plain,
}

enum Socket {
    Plain(Box<WebSocketStream<TcpStream>>),
    Tls(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

/// One connection to the co-op.
pub struct Connection {
    socket: Socket,
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MEMBER_FRAME_BYTES_MAX))
        .max_frame_size(Some(MEMBER_FRAME_BYTES_MAX))
        .max_write_buffer_size(4 * MEMBER_FRAME_BYTES_MAX)
}

fn tls() -> Result<TlsConnector, ConnectError> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectError::Tls(io::Error::other(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Connection {
    /// Dials HOST:PORT. Plain connections go to this machine only.
    pub async fn open(address: &str, secure: bool) -> Result<Self, ConnectError> {
        let dialled = if address.contains(':') { address.to_owned() } else { format!("{address}:443") };
        let opening = async {
            let unreachable = |source| ConnectError::Unreachable { address: dialled.clone(), source };
            let tcp = TcpStream::connect(&dialled).await.map_err(unreachable)?;
            let is_local = tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            if !secure && !is_local {
                return Err(ConnectError::Plain);
            }
            let _ = tcp.set_nodelay(true);
            let scheme = if secure { "wss" } else { "ws" };
            let bad = |error| ConnectError::WebSocket(Box::new(error));
            let mut request = format!("{scheme}://{dialled}{SESSION_PATH}").into_client_request().map_err(bad)?;
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(Encoding::Binary.subprotocol()));
            let socket = if secure {
                let host = dialled.rsplit_once(':').map_or(dialled.as_str(), |(host, _)| host);
                let name = ServerName::try_from(host.to_owned()).map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
                let stream = tls()?.connect(name, tcp).await.map_err(ConnectError::Tls)?;
                let (ws, _) = client_async_with_config(request, stream, Some(config())).await.map_err(bad)?;
                Socket::Tls(Box::new(ws))
            } else {
                let (ws, _) = client_async_with_config(request, tcp, Some(config())).await.map_err(bad)?;
                Socket::Plain(Box::new(ws))
            };
            Ok(Self { socket })
        };
        tokio::time::timeout(Duration::from_millis(TLS_HANDSHAKE_MS_MAX), opening).await.map_err(|_| ConnectError::Slow)?
    }

    /// Sends frames with one flush. `false`: the connection is gone.
    pub async fn send(&mut self, frames: Vec<ToServer>) -> bool {
        for frame in &frames {
            let message = Message::Binary(encode_to_server(frame, Encoding::Binary));
            let fed = match &mut self.socket {
                Socket::Plain(ws) => ws.feed(message).await,
                Socket::Tls(ws) => ws.feed(message).await,
            };
            if fed.is_err() {
                return false;
            }
        }
        match &mut self.socket {
            Socket::Plain(ws) => ws.flush().await.is_ok(),
            Socket::Tls(ws) => ws.flush().await.is_ok(),
        }
    }

    /// The next frame. `None`: the connection is gone. What does not decode is passed over: a newer server may say more.
    pub async fn next(&mut self) -> Option<ToMember> {
        loop {
            let message = match &mut self.socket {
                Socket::Plain(ws) => ws.next().await,
                Socket::Tls(ws) => ws.next().await,
            };
            match message? {
                Ok(Message::Binary(bytes)) => match decode_to_member(bytes, Encoding::Binary) {
                    Ok(frame) => return Some(frame),
                    Err(error) => tracing::debug!(%error, "a frame is passed over"),
                },
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn close(mut self) {
        let closing = async {
            let _ = match &mut self.socket {
                Socket::Plain(ws) => ws.close(None).await,
                Socket::Tls(ws) => ws.close(None).await,
            };
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), closing).await;
    }
}
