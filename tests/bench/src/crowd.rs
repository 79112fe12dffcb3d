//! Many connections that talk: in a closed loop, one message at a time, or at a pace.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::device::random;
use crate::meter::Socket;
use crate::process::Server;
use crate::wire::{BODY_NOISE, Line};

/// Nothing that is waited for takes longer.
const WAIT: Duration = Duration::from_secs(30);

struct Shared {
    begun: Instant,
    noise: [u8; BODY_NOISE],
    /// Members of a room: so many deliveries make a message.
    members: u64,
    /// Whoever's message has its place sends the next.
    is_looping: AtomicBool,
    measures: AtomicBool,
    sent: AtomicU64,
    placed: AtomicU64,
    deliveries: AtomicU64,
    limited: AtomicU64,
    /// Microseconds from a message to its author's being told its place.
    placed_after: Mutex<Vec<u64>>,
    /// Microseconds from a message to another member's having it.
    received_after: Mutex<Vec<u64>>,
    /// Another message has been delivered to all.
    arrived: Notify,
    failure: Mutex<Option<String>>,
}

/// What an interval showed.
#[derive(Debug, Default)]
pub struct Outcome {
    pub seconds: f64,
    pub messages: u64,
    pub deliveries: u64,
    pub server_cpu: f64,
    pub limited: u64,
    /// Sorted, microseconds.
    pub placed_after: Vec<u64>,
    pub received_after: Vec<u64>,
}

impl Outcome {
    pub fn cpu_per_100k(&self) -> f64 {
        self.server_cpu * 100_000.0 / self.deliveries as f64
    }

    pub fn messages_per_second(&self) -> f64 {
        self.messages as f64 / self.seconds
    }

    /// One line for whoever reads along; figures go to the report.
    pub fn tell(&self, what: &str) {
        let limited = if self.limited > 0 { format!("; {} refusals by the session's rate limit", self.limited) } else { String::new() };
        eprintln!(
            "{what}: {:.0} messages/s, {} deliveries, {:.2} s CPU of the server in {:.1} s{limited}",
            self.messages_per_second(),
            self.deliveries,
            self.server_cpu,
            self.seconds
        );
    }
}

/// In milliseconds; `per_mille` of 990 is p99.
pub fn percentile(sorted: &[u64], per_mille: usize) -> f64 {
    let at = (sorted.len() * per_mille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |micros| *micros as f64 / 1_000.0)
}

pub struct Crowd {
    shared: Arc<Shared>,
    speakers: Vec<mpsc::UnboundedSender<()>>,
}

impl Crowd {
    pub fn of(connections: Vec<(Socket, Line)>, members: usize) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            noise: random()?,
            members: members as u64,
            is_looping: AtomicBool::new(false),
            measures: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            placed: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            placed_after: Mutex::default(),
            received_after: Mutex::default(),
            arrived: Notify::new(),
            failure: Mutex::default(),
        });
        let speak = |(socket, line)| {
            let (speaker, told) = mpsc::unbounded_channel();
            let shared = shared.clone();
            tokio::spawn(async move {
                if let Err(error) = (Talker { socket, line, shared: &shared, unplaced: None }).run(told).await {
                    shared.failure.lock().expect("nobody panics with it").get_or_insert(format!("{error:#}"));
                    shared.arrived.notify_one();
                }
            });
            speaker
        };
        let speakers = connections.into_iter().map(speak).collect();
        Ok(Self { shared, speakers })
    }

    fn begin(&self, server: &Server) -> anyhow::Result<Outcome> {
        let shared = &self.shared;
        shared.placed_after.lock().expect("nobody panics with it").clear();
        shared.received_after.lock().expect("nobody panics with it").clear();
        shared.measures.store(true, Ordering::SeqCst);
        Ok(Outcome {
            seconds: shared.begun.elapsed().as_secs_f64(),
            messages: shared.placed.load(Ordering::SeqCst),
            deliveries: shared.deliveries.load(Ordering::SeqCst),
            server_cpu: server.cpu_seconds()?,
            limited: shared.limited.load(Ordering::SeqCst),
            ..Outcome::default()
        })
    }

    fn end(&self, server: &Server, begin: &Outcome) -> anyhow::Result<Outcome> {
        let shared = &self.shared;
        shared.measures.store(false, Ordering::SeqCst);
        let sorted = |list: &Mutex<Vec<u64>>| {
            let mut list = std::mem::take(&mut *list.lock().expect("nobody panics with it"));
            list.sort_unstable();
            list
        };
        Ok(Outcome {
            seconds: shared.begun.elapsed().as_secs_f64() - begin.seconds,
            messages: shared.placed.load(Ordering::SeqCst) - begin.messages,
            deliveries: shared.deliveries.load(Ordering::SeqCst) - begin.deliveries,
            server_cpu: server.cpu_seconds()? - begin.server_cpu,
            limited: shared.limited.load(Ordering::SeqCst) - begin.limited,
            placed_after: sorted(&shared.placed_after),
            received_after: sorted(&shared.received_after),
        })
    }

    /// Counted here, not when the connection gets to it: who settles afterwards waits for it.
    fn speak(&self, speaker: usize) -> anyhow::Result<()> {
        self.shared.sent.fetch_add(1, Ordering::SeqCst);
        self.speakers[speaker % self.speakers.len()].send(()).ok().context("a connection ended")
    }

    /// Until everything that was sent is with everybody.
    async fn settle(&self) -> anyhow::Result<()> {
        let shared = &self.shared;
        let settled = async {
            loop {
                if let Some(why) = shared.failure.lock().expect("nobody panics with it").clone() {
                    bail!(why);
                }
                let sent = shared.sent.load(Ordering::SeqCst);
                let all = shared.placed.load(Ordering::SeqCst) == sent && shared.deliveries.load(Ordering::SeqCst) == sent * shared.members;
                if all {
                    return Ok(());
                }
                shared.arrived.notified().await;
            }
        };
        timeout(WAIT, settled).await.with_context(|| {
            let (sent, got) = (shared.sent.load(Ordering::SeqCst), shared.deliveries.load(Ordering::SeqCst));
            format!("{sent} messages to {} each, and {got} deliveries", shared.members)
        })?
    }

    /// Each of these has one message in flight, always.
    pub async fn closed_loop(&self, speakers: &[usize], warm: Duration, measured: Duration, server: &Server) -> anyhow::Result<Outcome> {
        self.shared.is_looping.store(true, Ordering::SeqCst);
        speakers.iter().try_for_each(|speaker| self.speak(*speaker))?;
        sleep(warm).await;
        let begin = self.begin(server)?;
        sleep(measured).await;
        let outcome = self.end(server, &begin)?;
        self.shared.is_looping.store(false, Ordering::SeqCst);
        self.settle().await?;
        Ok(outcome)
    }

    /// The next message is sent when everybody has the last, by another each time.
    pub async fn one_at_a_time(&self, warm: Duration, measured: Duration, server: &Server) -> anyhow::Result<Outcome> {
        let mut speaker = 0;
        let until = Instant::now() + warm;
        while Instant::now() < until {
            self.say_one(&mut speaker).await?;
        }
        let begin = self.begin(server)?;
        let until = Instant::now() + measured;
        while Instant::now() < until {
            self.say_one(&mut speaker).await?;
        }
        self.end(server, &begin)
    }

    async fn say_one(&self, speaker: &mut usize) -> anyhow::Result<()> {
        self.speak(*speaker)?;
        *speaker += 1;
        self.settle().await
    }

    /// So many messages a second, by another each time, however long the answer takes.
    pub async fn paced(&self, per_second: u32, messages: usize, server: &Server) -> anyhow::Result<Outcome> {
        let mut beat = interval(Duration::from_secs(1) / per_second);
        let begin = self.begin(server)?;
        for speaker in 0..messages {
            beat.tick().await;
            self.speak(speaker)?;
        }
        beat.tick().await;
        self.settle().await?;
        self.end(server, &begin)
    }
}

/// One connection's task.
struct Talker<'a> {
    socket: Socket,
    line: Line,
    shared: &'a Shared,
    /// The newest message while it has no place: when it was sent, and what it was.
    unplaced: Option<(u64, Bytes)>,
}

impl Talker<'_> {
    async fn run(mut self, mut told: mpsc::UnboundedReceiver<()>) -> anyhow::Result<()> {
        let mut again_at: Option<Instant> = None;
        loop {
            tokio::select! {
                message = self.socket.next() => match message.context("the server closed the connection")?? {
                    Message::Binary(bytes) => {
                        if let Some(wait_ms) = self.hear(bytes).await? {
                            again_at = Some(Instant::now() + Duration::from_millis(wait_ms.into()));
                        }
                    }
                    Message::Close(frame) => bail!("the server closed the connection: {frame:?}"),
                    _ => {}
                },
                say = told.recv() => match say {
                    Some(()) => self.say().await?,
                    None => return Ok(()),
                },
                () = async { sleep_until(again_at.expect("guarded")).await }, if again_at.is_some() => {
                    again_at = None;
                    if let Some((_, bytes)) = self.unplaced.clone() {
                        self.socket.send(Message::Binary(bytes)).await?;
                    }
                }
            }
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.shared.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    async fn say(&mut self) -> anyhow::Result<()> {
        let stamp = self.micros();
        let bytes = self.line.message(stamp, &self.shared.noise);
        self.unplaced = Some((stamp, bytes.clone()));
        Ok(self.socket.send(Message::Binary(bytes)).await?)
    }

    /// Milliseconds until the last message is to be sent again, if it was refused for now.
    async fn hear(&mut self, bytes: Bytes) -> anyhow::Result<Option<u32>> {
        let heard = self.line.hear(bytes)?;
        let shared = self.shared;
        if heard.limited_ms.is_some() {
            shared.limited.fetch_add(1, Ordering::Relaxed);
            return Ok(heard.limited_ms);
        }
        let is_measured = shared.measures.load(Ordering::Relaxed);
        if is_measured && !shared.is_looping.load(Ordering::Relaxed) {
            let now = self.micros();
            let mut list = shared.received_after.lock().expect("nobody panics with it");
            list.extend(heard.stamps.iter().map(|stamp| now.saturating_sub(*stamp)));
        }
        if heard.own
            && let Some((stamp, _)) = self.unplaced.take()
        {
            if is_measured {
                shared.placed_after.lock().expect("nobody panics with it").push(self.micros() - stamp);
            }
            shared.placed.fetch_add(1, Ordering::SeqCst);
            if shared.is_looping.load(Ordering::SeqCst) {
                shared.sent.fetch_add(1, Ordering::SeqCst);
                self.say().await?;
            }
        }
        let before = shared.deliveries.fetch_add(heard.deliveries, Ordering::SeqCst);
        if (before + heard.deliveries) / shared.members != before / shared.members {
            shared.arrived.notify_one();
        }
        Ok(None)
    }
}
