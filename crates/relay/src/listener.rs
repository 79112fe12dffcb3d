//! The members' port: HTTP for health, metrics and the page behind a membership link, and the WebSocket of sessions.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kith_protocol::codec::Encoding;
use kith_protocol::limits::{
    CONNECTIONS_MAX, MEMBER_KEEPALIVE_S, REQUEST_HEAD_BYTES_MAX, REQUEST_HEAD_MS_MAX, REQUEST_HEADERS_MAX, TLS_HANDSHAKE_MS_MAX,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::connection;
use crate::coop::driver::Handle;
use crate::metrics as names;

/// Where sessions are opened.
pub const SESSION_PATH: &str = "/kith/v1";

/// What every connection needs, and nothing else.
pub struct Listener {
    pub coop: Handle,
    pub tls: Option<Arc<rustls::ServerConfig>>,
    pub allowed_origins: Vec<String>,
    pub metrics: PrometheusHandle,
    pub serving: Arc<AtomicBool>,
    open: AtomicUsize,
}

/// Counts a connection while it lasts.
struct Open(Arc<Listener>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener {
    pub fn new(
        coop: Handle,
        tls: Option<Arc<rustls::ServerConfig>>,
        allowed_origins: Vec<String>,
        metrics: PrometheusHandle,
        serving: Arc<AtomicBool>,
    ) -> Arc<Self> {
        Arc::new(Self { coop, tls, allowed_origins, metrics, serving, open: AtomicUsize::new(0) })
    }

    /// Accepts until the process ends.
    pub async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                // Out of file descriptors, most likely: closing connections will help, spinning will not.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if self.open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                self.open.fetch_sub(1, Ordering::Relaxed);
                metrics::counter!(names::TURNED_AWAY).increment(1);
                continue;
            }
            let open = Open(self.clone());
            tokio::spawn(self.clone().accepted(tcp, open));
        }
    }

    async fn accepted(self: Arc<Self>, tcp: TcpStream, open: Open) {
        let _ = tcp.set_nodelay(true);
        // A phone that is gone says nothing more: without this it would keep its place until the next start.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(MEMBER_KEEPALIVE_S))
            .with_interval(Duration::from_secs(MEMBER_KEEPALIVE_S / 10));
        let _ = socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive);
        match self.tls.clone() {
            None => self.serve_http(tcp, open).await,
            Some(config) => {
                let handshake = TlsAcceptor::from(config).accept(tcp);
                if let Ok(Ok(tls)) = timeout(Duration::from_millis(TLS_HANDSHAKE_MS_MAX), handshake).await {
                    // In a place of its own: each task that it passes through would have room for it for ever.
                    self.serve_http(Box::new(tls), open).await;
                }
            }
        }
    }

    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self: Arc<Self>, stream: S, open: Open) {
        let open = Arc::new(open);
        let service = service_fn(move |request| {
            let (listener, open) = (self.clone(), open.clone());
            async move { Ok::<_, Infallible>(listener.respond::<S>(request, open)) }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(REQUEST_HEAD_MS_MAX))
            .max_buf_size(REQUEST_HEAD_BYTES_MAX)
            .max_headers(REQUEST_HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
    }

    fn respond<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        request: Request<Incoming>,
        open: Arc<Open>,
    ) -> Response<Full<Bytes>> {
        match request.uri().path() {
            "/healthz" => text(StatusCode::OK, "alive\n"),
            "/readyz" if self.serving.load(Ordering::Relaxed) => text(StatusCode::OK, "serving\n"),
            "/readyz" => text(StatusCode::SERVICE_UNAVAILABLE, "not serving\n"),
            "/metrics" => text(StatusCode::OK, self.metrics.render()),
            SESSION_PATH => self.upgrade::<S>(request, open),
            path if path.starts_with("/join/") => text(
                StatusCode::OK,
                "This is an invitation to a Kith co-op.\n\nCopy the whole link from your address bar, with what follows the #, and run:\n\n    kith join 'LINK' --name YOUR_NAME\n",
            ),
            _ => text(StatusCode::NOT_FOUND, "There is nothing here.\n"),
        }
    }

    fn upgrade<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        mut request: Request<Incoming>,
        open: Arc<Open>,
    ) -> Response<Full<Bytes>> {
        if !self.is_origin_allowed(request.headers()) {
            return text(StatusCode::FORBIDDEN, "This web page may not open a session here.\n");
        }
        let Some(encoding) = offered(request.headers()) else {
            return text(StatusCode::BAD_REQUEST, "Offer the WebSocket subprotocol kith.v1.\n");
        };
        let Ok(mut response) = create_response_with_body(&request, Full::default) else {
            return text(StatusCode::BAD_REQUEST, "This address takes WebSocket connections only.\n");
        };
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(encoding.subprotocol()));
        let upgrade = hyper::upgrade::on(&mut request);
        let coop = self.coop.clone();
        tokio::spawn(async move {
            let Ok(Ok(upgraded)) = timeout(Duration::from_millis(REQUEST_HEAD_MS_MAX), upgrade).await else { return };
            let Ok(parts) = upgraded.downcast::<TokioIo<S>>() else { return };
            // No honest client sends before it has the answer (RFC 6455 section 4.1).
            if parts.read_buf.is_empty() {
                drop(parts.read_buf);
                connection::serve(parts.io.into_inner(), encoding, coop).await;
            }
            drop(open);
        });
        response
    }

    /// Browsers say where a page comes from; other clients have no origin, and no ambient authority either.
    fn is_origin_allowed(&self, headers: &HeaderMap) -> bool {
        headers.get_all(ORIGIN).iter().all(|origin| self.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()))
    }
}

fn offered(headers: &HeaderMap) -> Option<Encoding> {
    let offers: Vec<&str> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    Encoding::ALL.into_iter().find(|encoding| offers.contains(&encoding.subprotocol()))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response.headers_mut().insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    response
}

/// Where members connect, bound before anything is promised.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

#[cfg(test)]
mod tests;
