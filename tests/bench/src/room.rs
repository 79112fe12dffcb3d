//! Rooms with real groups in them: begun, opened and joined by the client's core, one external commit after another.

use anyhow::Context;
use futures_util::StreamExt;
use kith_client::core::{Core, Event};
use kith_protocol::codec::{Encoding, decode_to_member};
use kith_protocol::ids::{CoopName, DeviceHandle, Epoch, RoomId, RoomNumber};
use kith_protocol::invite_link::{MembershipLink, RoomLink};
use kith_protocol::member::{ToMember, ToServer, auth_statement};
use kith_protocol::sign::SecretKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::device::{Device, now};
use crate::meter::{self, Socket};
use crate::process::Coop;
use crate::wire;

/// A room of its first member alone, open for others.
pub async fn open(link: &MembershipLink, uses: usize) -> anyhow::Result<(Device, RoomId, RoomLink)> {
    let mut founder = Device::register(link, "founder").await?;
    let room = founder.core.new_room(now(), "Tuesday circle")?;
    founder.until(|_, events| events.contains(&Event::RoomReady(room))).await?;
    let (_, link) = founder.core.invite(now(), &room, u32::try_from(uses)?)?;
    founder.until(|core, _| core.items().is_empty()).await?;
    Ok((founder, room, RoomLink::parse(&link)?))
}

/// A new member in a room. What it would say first, its name, is not sent.
pub async fn join(link: &MembershipLink, room: &RoomLink) -> anyhow::Result<Device> {
    let mut device = Device::register(link, "joiner").await?;
    device.core.join_room(now(), room)?;
    device.checked()?;
    loop {
        device.flush().await?;
        let frame = device.next().await?;
        if device.take(frame)?.contains(&Event::RoomReady(room.room)) {
            return Ok(device);
        }
    }
}

/// What is left of a device when only its load matters.
#[derive(Clone)]
pub struct Seat {
    key: SecretKey,
    coop: CoopName,
    pub handle: DeviceHandle,
    pub device: u16,
    pub room: RoomNumber,
    pub epoch: Epoch,
    /// The last that this device used.
    pub counter: u64,
    /// Its index among the room's senders.
    pub sender: u32,
}

impl Seat {
    pub fn of(core: &Core, room: &RoomId) -> anyhow::Result<Self> {
        let account = core.account().context("a member")?;
        let state = core.room_state(room).context("in the room")?;
        let sender = state.senders.iter().position(|who| *who == state.pseudonym).context("in the log")?;
        Ok(Self {
            key: SecretKey::from_seed(account.device_seed),
            coop: account.coop_name.parse()?,
            handle: DeviceHandle(account.handle.context("registered")?),
            device: account.device_number,
            room: RoomNumber(state.number.context("numbered")?),
            epoch: Epoch(state.epoch),
            counter: state.counters.get(&(state.pseudonym, account.device_number)).copied().unwrap_or(0),
            sender: u32::try_from(sender)?,
        })
    }

    /// A session of this device, read to its end.
    pub async fn connect(&self, port: u16) -> anyhow::Result<Socket> {
        Ok(self.connect_counting(port).await?.0)
    }

    /// The same, and how many entries came.
    pub async fn connect_counting(&self, port: u16) -> anyhow::Result<(Socket, u64)> {
        let (mut socket, _) = meter::connect(port).await?;
        let read = self.greet(&mut socket).await?;
        Ok((socket, read))
    }

    /// Authenticates on an open socket and reads to the end; how many entries came.
    pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: &mut WebSocketStream<S>) -> anyhow::Result<u64> {
        let mut read = 0;
        loop {
            let message = socket.next().await.context("the server closed the connection")??;
            let Message::Binary(bytes) = message else { continue };
            match decode_to_member(bytes, Encoding::Binary)? {
                ToMember::Challenge { nonce } => {
                    let signature = self.key.sign(&auth_statement(&self.coop, &nonce, &self.key.public()));
                    wire::send(socket, &ToServer::Authenticate { device: self.handle, signature }).await?;
                }
                ToMember::Synced => return Ok(read),
                ToMember::Entries(entries) => read += entries.entries.len() as u64,
                ToMember::Refused(refused) => anyhow::bail!("refused: {refused:?}"),
                _ => {}
            }
        }
    }
}

/// A room of so many members of one co-op, each with one device.
pub async fn of(members: usize, link: MembershipLink) -> anyhow::Result<Vec<Seat>> {
    let (mut founder, id, room) = open(&link, members).await?;
    founder.close().await;
    let mut seats = vec![Seat::of(&founder.core, &id)?];
    for _ in 1..members {
        let mut device = join(&link, &room).await?;
        device.close().await;
        seats.push(Seat::of(&device.core, &id)?);
    }
    let epoch = seats.last().map_or(Epoch(0), |seat| seat.epoch);
    seats.iter_mut().for_each(|seat| seat.epoch = epoch);
    Ok(seats)
}

/// So many rooms of so many members each, who are all devices of their own, room by room.
pub async fn many(rooms: usize, members: usize, coop: &Coop) -> anyhow::Result<Vec<Seat>> {
    let mut begun = Vec::new();
    for _ in 0..rooms {
        begun.push(tokio::spawn(of(members, coop.invite(members)?)));
    }
    let mut seats = Vec::new();
    for room in begun {
        seats.extend(room.await??);
    }
    Ok(seats)
}
