//! A member's device: the client's own core over a counted socket. Its memory is this process: what it wants persisted is
//! in the core already and goes nowhere else.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use kith_client::core::{Core, Effect, Event};
use kith_protocol::codec::{Encoding, decode_to_member, encode_to_server};
use kith_protocol::ids::UnixSeconds;
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::member::{ToMember, ToServer};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::meter::{self, Bytes, Meter, Socket};

/// Nothing that is waited for takes longer.
const WAIT: Duration = Duration::from_secs(30);
/// Between two looks at what was refused for now, as the native driver does it.
const TICK: Duration = Duration::from_millis(300);

pub fn now() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes)
}

pub struct Device {
    pub core: Core,
    port: u16,
    connection: Option<(Socket, Arc<Meter>)>,
    /// Asked for by the core and not sent yet.
    pub pending: Vec<ToServer>,
}

impl Device {
    /// A new member, registered and synced.
    pub async fn register(link: &MembershipLink, name: &str) -> anyhow::Result<Self> {
        let (_, port) = link.address.rsplit_once(':').context("HOST:PORT")?;
        let mut core = Core::load(random()?, [])?;
        core.join_coop(now(), link, name)?;
        let mut device = Self { core, port: port.parse()?, connection: None, pending: Vec::new() };
        device.connect().await?;
        device.sync().await?;
        Ok(device)
    }

    /// Opens a connection; a former one ends.
    pub async fn connect(&mut self) -> anyhow::Result<()> {
        self.close().await;
        self.connection = Some(meter::connect(self.port).await?);
        self.core.handle_connected();
        Ok(())
    }

    pub async fn close(&mut self) {
        if let Some((mut socket, _)) = self.connection.take() {
            let _ = socket.close(None).await;
        }
        self.pending.clear();
        self.core.handle_disconnected();
    }

    /// Tells the server how far this device has come, as the native client does before it closes.
    pub async fn tell_cursors(&mut self) -> anyhow::Result<()> {
        self.core.send_cursors();
        self.checked()?;
        self.flush().await
    }

    pub fn meter(&self) -> Bytes {
        self.connection.as_ref().map_or(Bytes { up: 0, down: 0 }, |(_, meter)| meter.read())
    }

    /// What the core wants: frames go to `pending`, events are returned.
    fn collect(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Persist(_) => {}
                Effect::Send(frame) => self.pending.push(frame),
                Effect::Event(event) => events.push(event),
                Effect::Load { .. } => unreachable!("rooms of a bench keep their hub"),
            }
        }
        events
    }

    /// Sends what is pending.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        let frames = std::mem::take(&mut self.pending);
        let (socket, _) = self.connection.as_mut().context("not connected")?;
        for frame in &frames {
            socket.feed(Message::Binary(encode_to_server(frame, Encoding::Binary))).await?;
        }
        Ok(socket.flush().await?)
    }

    /// The next frame, not yet shown to the core.
    pub async fn next(&mut self) -> anyhow::Result<ToMember> {
        let deadline = Instant::now() + WAIT;
        loop {
            let (socket, _) = self.connection.as_mut().context("not connected")?;
            match timeout(TICK, socket.next()).await {
                Ok(Some(Ok(Message::Binary(bytes)))) => return Ok(decode_to_member(bytes, Encoding::Binary)?),
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => bail!("the server closed the connection"),
                Ok(Some(Ok(_))) => {}
                Err(_) if Instant::now() >= deadline => bail!("nothing came in {WAIT:?}"),
                Err(_) => {
                    self.core.handle_tick(now());
                    self.checked()?;
                    self.flush().await?;
                }
            }
        }
    }

    /// Asks whether the server is there, and waits for its answer.
    pub async fn ping(&mut self) -> anyhow::Result<()> {
        let (socket, _) = self.connection.as_mut().context("not connected")?;
        socket.send(Message::Ping(bytes::Bytes::new())).await?;
        match timeout(WAIT, socket.next()).await {
            Ok(Some(Ok(Message::Pong(_)))) => Ok(()),
            other => bail!("the answer to a ping, not {other:?}"),
        }
    }

    /// Takes what comes in that time, if anything does.
    pub async fn listen(&mut self, for_long: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + for_long;
        while let Ok(frame) = tokio::time::timeout_at(until, self.next()).await {
            let frame = frame?;
            self.take(frame)?;
            self.flush().await?;
        }
        Ok(())
    }

    /// As [`Self::collect`]; a failure of any kind is one of the benchmark.
    pub fn checked(&mut self) -> anyhow::Result<Vec<Event>> {
        let events = self.collect();
        for event in &events {
            match event {
                Event::JoinFailed { .. } | Event::ItemFailed { .. } | Event::Refused { .. } | Event::Distrust { .. } => {
                    bail!("the device met {event:?}")
                }
                _ => {}
            }
        }
        Ok(events)
    }

    /// Shows a frame to the core. What the core wants sent stays pending.
    pub fn take(&mut self, frame: ToMember) -> anyhow::Result<Vec<Event>> {
        self.core.handle_frame(now(), frame);
        self.checked()
    }

    /// Takes frames, and answers, until the condition holds.
    pub async fn until(&mut self, mut done: impl FnMut(&Core, &[Event]) -> bool) -> anyhow::Result<()> {
        let events = self.checked()?;
        self.flush().await?;
        if done(&self.core, &events) {
            return Ok(());
        }
        loop {
            let frame = self.next().await?;
            let events = self.take(frame)?;
            self.flush().await?;
            if done(&self.core, &events) {
                return Ok(());
            }
        }
    }

    /// Reads every room to its end.
    pub async fn sync(&mut self) -> anyhow::Result<()> {
        self.until(|core, _| core.is_synced()).await
    }
}
