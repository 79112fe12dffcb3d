//! What a connection under load says and hears: to `kithd` entries of the usual size whose ciphertext is noise (the server
//! cannot tell, and no encryption is measured here), to the bare reference messages of the same length.

use anyhow::bail;
use bytes::Bytes;
use futures_util::SinkExt;
use kith_protocol::codec::{Encoding, decode_to_member, encode_to_server};
use kith_protocol::error::Code;
use kith_protocol::log::Kind;
use kith_protocol::member::{Send, ToMember, ToServer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::room::Seat;

/// Of a text of 36 bytes as the client makes it (`kith-bench bytes` measures it): franking tag, sender data, ciphertext.
const TAG: usize = 32;
const SENDER_DATA: usize = 28;
const CIPHERTEXT: usize = 206;
/// With the lengths before both, as RFC 9000 writes them.
const BODY: usize = TAG + 1 + SENDER_DATA + 2 + CIPHERTEXT;
/// Room, counter, epoch, kind and lengths around a body in a Send.
const AROUND: usize = 14;

pub async fn send<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<S>, frame: &ToServer) -> anyhow::Result<()> {
    Ok(socket.send(Message::Binary(encode_to_server(frame, Encoding::Binary))).await?)
}

/// The body of an entry, stamped.
pub fn body(stamp: u64, noise: &[u8; BODY_NOISE]) -> Bytes {
    let mut body = Vec::with_capacity(BODY);
    body.extend_from_slice(&stamp.to_be_bytes());
    body.extend_from_slice(&noise[..TAG - 8]);
    body.push(SENDER_DATA as u8);
    body.extend_from_slice(&noise[..SENDER_DATA]);
    body.extend_from_slice(&(CIPHERTEXT as u16 | 0x4000).to_be_bytes());
    body.extend_from_slice(&noise[..CIPHERTEXT]);
    body.into()
}

/// One end of a conversation.
pub enum Line {
    Kith { seat: Seat, next_seq: u64 },
    Bare { room: u16, me: u16 },
}

/// What one frame brought.
#[derive(Debug, Default)]
pub struct Heard {
    pub deliveries: u64,
    /// This connection's newest message has its place.
    pub own: bool,
    /// When messages of others were sent.
    pub stamps: Vec<u64>,
    /// The newest message was refused for now; milliseconds until it may come again.
    pub limited_ms: Option<u32>,
}

impl Line {
    pub fn kith(seat: Seat) -> Self {
        Self::Kith { seat, next_seq: 0 }
    }

    /// The next message, stamped.
    pub fn message(&mut self, stamp: u64, noise: &[u8; BODY_NOISE]) -> Bytes {
        match self {
            Self::Kith { seat, .. } => {
                seat.counter += 1;
                let send = Send {
                    room: seat.room,
                    counter: seat.counter,
                    epoch: seat.epoch,
                    kind: Kind::Message,
                    body: body(stamp, noise),
                    group_info: Bytes::new(),
                };
                encode_to_server(&ToServer::Send(send), Encoding::Binary)
            }
            Self::Bare { room, me } => {
                let mut message = Vec::with_capacity(BODY + AROUND);
                message.extend_from_slice(&room.to_be_bytes());
                message.extend_from_slice(&me.to_be_bytes());
                message.extend_from_slice(&stamp.to_be_bytes());
                message.extend_from_slice(noise);
                message.resize(BODY + AROUND, 0);
                message.into()
            }
        }
    }

    pub fn hear(&mut self, bytes: Bytes) -> anyhow::Result<Heard> {
        let mut heard = Heard::default();
        match self {
            Self::Kith { seat, next_seq } => match decode_to_member(bytes, Encoding::Binary)? {
                ToMember::Entries(entries) => {
                    for (entry, seq) in entries.entries.iter().zip(entries.first.0..) {
                        // What comes again after a full queue is no second delivery.
                        if seq < *next_seq {
                            continue;
                        }
                        *next_seq = seq + 1;
                        heard.deliveries += 1;
                        if entry.sender == seat.sender && entry.device == seat.device {
                            heard.own |= entry.counter == seat.counter;
                        } else if let Some(stamp) = entry.body.first_chunk() {
                            heard.stamps.push(u64::from_be_bytes(*stamp));
                        }
                    }
                }
                ToMember::Ack { counter, ordered: Some((seq, _)), .. } => {
                    *next_seq = seq.0 + 1;
                    heard.deliveries = 1;
                    heard.own = counter == seat.counter;
                }
                ToMember::Refused(refused) if refused.code == Code::RateLimited => heard.limited_ms = Some(refused.retry_after_ms),
                ToMember::Refused(refused) => bail!("refused: {refused:?}"),
                _ => {}
            },
            Self::Bare { me, .. } => {
                heard.deliveries = 1;
                match bytes.get(2..12) {
                    Some(head) if head[..2] == me.to_be_bytes() => heard.own = true,
                    Some(head) => heard.stamps.extend(head[2..].first_chunk().map(|stamp| u64::from_be_bytes(*stamp))),
                    None => bail!("the reference sent something short"),
                }
            }
        }
        Ok(heard)
    }
}

/// Random bytes enough for a message.
pub const BODY_NOISE: usize = CIPHERTEXT;
