//! The reference: the least that can be called a chat server. Members of a room get what anybody in it says, from memory,
//! each connection by a bounded queue that is written in batches, as in `kithd`. Nothing is stored, ordered or checked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;

use crate::meter::{self, Socket};

/// How this program is told to be the reference.
pub const SUBCOMMAND: &str = "bare-broadcaster";
/// As in `kithd`.
const QUEUE: usize = 256;
const WRITE_BATCH: usize = 64;

type Rooms = Mutex<HashMap<[u8; 2], Vec<mpsc::Sender<Bytes>>>>;

/// Says on standard output where it listens, and serves until it is killed.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let rooms: Arc<Rooms> = Arc::default();
    loop {
        let (tcp, _) = listener.accept().await?;
        let rooms = rooms.clone();
        tokio::spawn(async move {
            // A connection that fails is gone; whoever counts notices.
            let _ = session(tcp, rooms).await;
        });
    }
}

#[expect(clippy::result_large_err, reason = "the WebSocket library's own type")]
fn accept(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("kith.v1"));
    Ok(response)
}

async fn session(tcp: TcpStream, rooms: Arc<Rooms>) -> anyhow::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = accept_hdr_async_with_config(tcp, accept, Some(meter::config().read_buffer_size(2 * 1024))).await?;
    let (mut sink, mut stream) = socket.split();
    let (queue, mut outgoing) = mpsc::channel::<Bytes>(QUEUE);
    let reads = async {
        while let Some(Ok(message)) = stream.next().await {
            let Message::Binary(bytes) = message else { continue };
            let Some(room) = bytes.first_chunk::<2>() else { continue };
            if bytes.len() == room.len() {
                rooms.lock().expect("nobody panics with it").entry(*room).or_default().push(queue.clone());
                queue.send(bytes).await?;
                continue;
            }
            let members = rooms.lock().expect("nobody panics with it").get(room).cloned().unwrap_or_default();
            for member in members {
                member.send(bytes.clone()).await?;
            }
        }
        anyhow::Ok(())
    };
    let writes = async {
        let mut batch = Vec::new();
        while outgoing.recv_many(&mut batch, WRITE_BATCH).await > 0 {
            for bytes in batch.drain(..) {
                sink.feed(Message::Binary(bytes)).await?;
            }
            sink.flush().await?;
        }
        anyhow::Ok(())
    };
    tokio::select! { done = reads => done, done = writes => done }
}

/// A connection in a room, once it is in it.
pub async fn connect(port: u16, room: u16) -> anyhow::Result<Socket> {
    let (mut socket, _) = meter::connect(port).await?;
    socket.send(Message::Binary(Bytes::copy_from_slice(&room.to_be_bytes()))).await?;
    match socket.next().await {
        Some(Ok(Message::Binary(_))) => Ok(socket),
        other => anyhow::bail!("the reference does not answer: {other:?}"),
    }
}
