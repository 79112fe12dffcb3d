//! The steward's socket: HTTP over a Unix socket in the co-op's folder, for whoever owns the folder.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use kith_protocol::ids::{Coop, PublicKey};
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use crate::coop::driver::Handle;
use crate::coop::steward::{Reply, Request as Steward};

/// Longest request or answer, bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// A steward's request as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Wire {
    Invite { key: String, uses: u32 },
    AddNeighbour { name: String, key: String, address: String },
    Neighbours,
    HandOver { room: String, to: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done,
    Neighbours(Vec<NeighbourLine>),
    Refused(String),
}

/// A neighbour as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NeighbourLine {
    pub name: String,
    pub key: String,
    pub address: String,
    pub agreed: bool,
    pub up: bool,
}

impl Wire {
    fn from_domain(request: &Steward) -> Self {
        match request {
            Steward::Invite { key, uses } => Self::Invite { key: key.to_string(), uses: *uses },
            Steward::AddNeighbour { coop, address } => {
                Self::AddNeighbour { name: coop.name.to_string(), key: coop.key.to_string(), address: address.clone() }
            }
            Steward::Neighbours => Self::Neighbours,
            Steward::HandOver { room, to } => Self::HandOver { room: room.to_string(), to: to.to_string() },
        }
    }

    fn into_domain(self) -> anyhow::Result<Steward> {
        Ok(match self {
            Self::Invite { key, uses } => Steward::Invite { key: key.parse::<PublicKey>()?, uses },
            Self::AddNeighbour { name, key, address } => {
                Steward::AddNeighbour { coop: Coop { name: name.parse()?, key: key.parse()? }, address }
            }
            Self::Neighbours => Steward::Neighbours,
            Self::HandOver { room, to } => Steward::HandOver { room: room.parse()?, to: to.parse()? },
        })
    }
}

impl Answer {
    fn from_domain(reply: Reply) -> Self {
        match reply {
            Reply::Done => Self::Done,
            Reply::Refused(why) => Self::Refused(why),
            Reply::Neighbours(list) => Self::Neighbours(list.into_iter().map(line).collect()),
        }
    }
}

pub fn line(neighbour: crate::coop::steward::Neighbour) -> NeighbourLine {
    NeighbourLine {
        name: neighbour.coop.name.to_string(),
        key: neighbour.coop.key.to_string(),
        address: neighbour.address,
        agreed: neighbour.agreed,
        up: neighbour.up,
    }
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
pub async fn serve(listener: UnixListener, owner: u32, coop: Handle) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let is_owner = stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0);
        if !is_owner {
            tracing::warn!("somebody else's process tried the steward's socket");
            continue;
        }
        let coop = coop.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(request, coop.clone()));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(request: Request<Incoming>, coop: Handle) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match handle(request, &coop).await {
        Ok(answer) => answer,
        Err(error) => Answer::Refused(error.to_string()),
    };
    let body = serde_json::to_vec(&answer).unwrap_or_default();
    Ok(Response::new(Full::new(body.into())))
}

async fn handle(request: Request<Incoming>, coop: &Handle) -> anyhow::Result<Answer> {
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let wire: Wire = serde_json::from_slice(&body.to_bytes()).context("not a steward's request")?;
    let reply = coop.steward(wire.into_domain()?).await.context("the server is stopping")?;
    Ok(Answer::from_domain(reply))
}

/// Asks a running server. `Ok(None)`: none is running here.
pub async fn ask(path: &Path, request: &Steward) -> anyhow::Result<Option<Result<Vec<NeighbourLine>, String>>> {
    let Ok(stream) = UnixStream::connect(path).await else { return Ok(None) };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let body = serde_json::to_vec(&Wire::from_domain(request))?;
    let request = Request::builder().method(Method::POST).uri("/").header("host", "kithd").body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await.context("the running server did not answer")?;
    if response.status() != StatusCode::OK {
        bail!("the running server answered {}", response.status());
    }
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    driving.abort();
    Ok(Some(match serde_json::from_slice(&body.to_bytes())? {
        Answer::Done => Ok(Vec::new()),
        Answer::Neighbours(list) => Ok(list),
        Answer::Refused(why) => Err(why),
    }))
}
