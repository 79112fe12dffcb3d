//! The session's WebSocket, from the member's side.

use std::io;
use std::net::Ipv6Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use kith_protocol::codec::{Encoding, decode_to_member, encode_to_server};
use kith_protocol::limits::{MEMBER_FRAME_BYTES_MAX, PONG_MS_MAX, TLS_HANDSHAKE_MS_MAX};
use kith_protocol::member::{ToMember, ToServer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
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
const HTTPS_PORT: u16 = 443;

/// Why there is no connection. Each says all that there is to say: none has a source that would say it again.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the co-op's server at {address} cannot be reached: {error}")]
    Unreachable { address: String, error: io::Error },
    #[error("the server's certificate does not hold: {0}")]
    Tls(io::Error),
    #[error("the server does not speak Kith: {0}")]
    WebSocket(Box<tungstenite::Error>),
    #[error("the server does not answer")]
    Slow,
    #[error("{0:?} is no address: it should be a host, or HOST:PORT, with an IPv6 address in brackets")]
    Address(String),
    #[error("plain connections are for this machine only; ask the co-op for an https link")]
    Plain,
}

/// A TCP connection of which one can tell whether a byte has come: a long message on a slow line is no silence.
struct Listened {
    tcp: TcpStream,
    heard: bool,
}

impl AsyncRead for Listened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.heard |= buf.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Listened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

enum Socket {
    Plain(Box<WebSocketStream<Listened>>),
    Tls(Box<WebSocketStream<TlsStream<Listened>>>),
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

/// Where to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// A name or an IP address, without the brackets that stand around an IPv6 address before a port.
    host: String,
    port: u16,
}

impl Target {
    /// HOST or HOST:PORT. An IPv6 address stands in brackets, or alone.
    fn parse(address: &str) -> Option<Self> {
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
            }
            None if address.parse::<Ipv6Addr>().is_ok() => (address, None),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(HTTPS_PORT), str::parse).ok()?;
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port })
    }

    /// As it stands in a URL.
    fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// What the server's certificate must be for.
    fn server_name(&self) -> Result<ServerName<'static>, ConnectError> {
        ServerName::try_from(self.host.clone()).map_err(|error| ConnectError::Tls(io::Error::other(error)))
    }
}

impl Connection {
    /// Dials HOST or HOST:PORT. Plain connections go to this machine only.
    pub async fn open(address: &str, secure: bool) -> Result<Self, ConnectError> {
        let target = Target::parse(address).ok_or_else(|| ConnectError::Address(address.to_owned()))?;
        let opening = async {
            let unreachable = |error| ConnectError::Unreachable { address: target.authority(), error };
            let tcp = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(unreachable)?;
            let is_local = tcp.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
            if !secure && !is_local {
                return Err(ConnectError::Plain);
            }
            let _ = tcp.set_nodelay(true);
            let tcp = Listened { tcp, heard: false };
            let scheme = if secure { "wss" } else { "ws" };
            let bad = |error| ConnectError::WebSocket(Box::new(error));
            let mut request = format!("{scheme}://{}{SESSION_PATH}", target.authority()).into_client_request().map_err(bad)?;
            request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(Encoding::Binary.subprotocol()));
            let socket = if secure {
                let stream = tls()?.connect(target.server_name()?, tcp).await.map_err(ConnectError::Tls)?;
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

    /// Sends frames with one flush. `false`: the connection is gone, or takes nothing any more.
    pub async fn send(&mut self, frames: Vec<ToServer>) -> bool {
        self.write(frames.iter().map(|frame| Message::Binary(encode_to_server(frame, Encoding::Binary)))).await
    }

    /// Asks whether the other end is there. `false`: as with [`Self::send`].
    pub async fn ping(&mut self) -> bool {
        self.write([Message::Ping(bytes::Bytes::new())]).await
    }

    async fn write(&mut self, messages: impl IntoIterator<Item = Message>) -> bool {
        let patience = Duration::from_millis(PONG_MS_MAX);
        for message in messages {
            let fed = async {
                match &mut self.socket {
                    Socket::Plain(ws) => ws.feed(message).await,
                    Socket::Tls(ws) => ws.feed(message).await,
                }
            };
            if !matches!(tokio::time::timeout(patience, fed).await, Ok(Ok(()))) {
                return false;
            }
        }
        let flushed = async {
            match &mut self.socket {
                Socket::Plain(ws) => ws.flush().await,
                Socket::Tls(ws) => ws.flush().await,
            }
        };
        matches!(tokio::time::timeout(patience, flushed).await, Ok(Ok(())))
    }

    /// Whether a byte has come since this was asked last.
    pub fn has_heard(&mut self) -> bool {
        let listened = match &mut self.socket {
            Socket::Plain(ws) => ws.get_mut(),
            Socket::Tls(ws) => ws.get_mut().get_mut().0,
        };
        std::mem::take(&mut listened.heard)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_names_in_certificates() {
        for (address, host, port, authority) in [
            ("alder.test", "alder.test", 443, "alder.test:443"),
            ("alder.test:8443", "alder.test", 8443, "alder.test:8443"),
            ("192.0.2.1", "192.0.2.1", 443, "192.0.2.1:443"),
            ("192.0.2.1:8443", "192.0.2.1", 8443, "192.0.2.1:8443"),
            ("[2001:db8::1]", "2001:db8::1", 443, "[2001:db8::1]:443"),
            ("[2001:db8::1]:8443", "2001:db8::1", 8443, "[2001:db8::1]:8443"),
            ("2001:db8::1", "2001:db8::1", 443, "[2001:db8::1]:443"),
        ] {
            let target = Target::parse(address).unwrap();
            assert_eq!((target.host.as_str(), target.port, target.authority().as_str()), (host, port, authority));
            assert_eq!(target.server_name().unwrap().to_str(), host);
            assert!(format!("wss://{authority}{SESSION_PATH}").into_client_request().is_ok());
        }
        for bad in ["", ":443", "alder.test:", "alder.test:port", "alder.test:70000", "[alder.test]:443", "[::1", "[::1]443", "a:b:c"] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_ipv6_address_is_dialled() {
        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (opened, _) = tokio::join!(Connection::open(&address, true), async { drop(listener.accept().await) });
        // It got as far as the handshake, which nobody answered.
        assert!(
            matches!(opened.err(), Some(ConnectError::Tls(error)) if error.kind() == io::ErrorKind::UnexpectedEof || error.kind() == io::ErrorKind::ConnectionReset)
        );
    }
}
