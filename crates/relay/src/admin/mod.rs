//! The steward's socket: HTTP over a Unix socket in the co-op's folder, for whoever owns the folder.

mod wire;

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kith_federation::link::tls::LinkIdentity;
use kith_protocol::limits::{STEWARD_ANSWER_BYTES_MAX, STEWARD_REQUEST_BYTES_MAX};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::config::Folder;
use crate::coop::driver::Handle;
use crate::coop::steward::Request as Steward;
pub use wire::{
    Answer, FrozenView, NeighbourLine, NeighbourStatusView, NeighbourView, NoticeView, RoomStatusView, SignedView, StatusView, Wire, time,
};

/// What a steward's requests work on.
#[derive(Clone)]
pub struct Admin {
    pub folder: PathBuf,
    pub coop: Handle,
    /// The key of links in TLS.
    pub identity: watch::Sender<Arc<LinkIdentity>>,
}

/// Binds the socket, 0600, in place of one that a killed process left.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    if path.exists() {
        std::fs::remove_file(path).with_context(|| format!("{} is in the way", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot bind {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the process ends. Only the folder's owner gets past the socket's mode; its uid is checked all the same.
pub async fn serve(listener: UnixListener, owner: u32, admin: Admin) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let is_owner = stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0);
        if !is_owner {
            tracing::warn!("somebody else's process tried the steward's socket");
            continue;
        }
        let admin = admin.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(request, admin.clone()));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(request: Request<Incoming>, admin: Admin) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match handle(request, &admin).await {
        Ok(answer) => answer,
        Err(error) => Answer::Refused(format!("{error:#}")),
    };
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    Ok(Response::new(Full::new(body.into())))
}

async fn handle(request: Request<Incoming>, admin: &Admin) -> anyhow::Result<Answer> {
    let body = Limited::new(request.into_body(), STEWARD_REQUEST_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let wire: Wire = serde_json::from_slice(&body.to_bytes()).context("not a steward's request")?;
    let request = match wire.into_domain()? {
        Some(request) => request,
        None => admin.read_keys()?,
    };
    let reply = admin.coop.steward(request).await.context("the server is stopping")?;
    Ok(Answer::from_domain(reply, true))
}

impl Admin {
    /// New keys count from the next connection; the machine then makes all links anew.
    fn read_keys(&self) -> anyhow::Result<Steward> {
        let keys = Folder::open(&self.folder)?.keys;
        self.identity.send_replace(Arc::new(keys.link));
        Ok(Steward::Keys { link_key: keys.secrets.link_key, identity: keys.secrets.identity })
    }
}

/// Asks a running server. `Ok(None)`: none is running here.
pub async fn ask(path: &Path, request: &Wire) -> anyhow::Result<Option<Answer>> {
    let Ok(stream) = UnixStream::connect(path).await else { return Ok(None) };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let body = serde_json::to_vec(request)?;
    let request = Request::builder().method(Method::POST).uri("/").header("host", "kithd").body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await.context("the running server did not answer")?;
    if response.status() != StatusCode::OK {
        bail!("the running server answered {}", response.status());
    }
    let body = Limited::new(response.into_body(), STEWARD_ANSWER_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    driving.abort();
    Ok(Some(serde_json::from_slice(&body.to_bytes())?))
}
