//! Runs a co-op's machine: inputs from sockets through one bounded channel, writes to the store, effects to the
//! connections' queues. Holds no rule of its own.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kith_federation::link::driver::Outgoing;
use kith_protocol::ids::{ConnectionId, CoopName, Millis, UnixSeconds};
use kith_protocol::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, DRAIN_MS_MAX, INPUTS_PER_ROUND_MAX, INPUTS_QUEUED_MAX};
use kith_protocol::log::merkle::{NodeId, consistency_proof, nodes_for_consistency, nodes_for_frontier};
use kith_storage::{Store, StoreError, Write};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::agreements::Dialled;
use super::machine::Coop;
use super::steward::{Reply, Request};
use super::types::{Boot, Effect, Input, Read, ReadResult};
use crate::metrics as names;
use crate::queue;
use crate::room::Room;

/// Places in a session's queue that entries leave free for answers.
const QUEUE_RESERVE: usize = 32;

/// What the sockets' tasks hold: a way in, and numbers for connections.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Message>,
    next_connection: Arc<AtomicU64>,
    pub neighbours: watch::Receiver<Vec<Dialled>>,
}

/// An input, or a connection's queue.
pub enum Message {
    Input(Input),
    Member { connection: ConnectionId, queue: queue::Sender },
    Link { connection: ConnectionId, queue: Outgoing, meter: Arc<LinkMeter> },
    Steward { request: Request, reply: oneshot::Sender<Reply> },
}

/// What a link's task and the driver tell each other of it.
#[derive(Debug, Default)]
pub struct LinkMeter {
    /// The other end is a neighbour.
    pub is_known: AtomicBool,
    /// Both have signed.
    pub is_up: AtomicBool,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

impl Handle {
    pub fn new_connection(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// A place among the inputs: whoever waits for one need not hold what is to go in. `None`: the co-op has stopped.
    pub async fn place(&self) -> Option<mpsc::Permit<'_, Message>> {
        self.inputs.reserve().await.ok()
    }

    /// `false`: the co-op has stopped.
    pub async fn send(&self, message: Message) -> bool {
        self.inputs.send(message).await.is_ok()
    }

    pub async fn input(&self, input: Input) -> bool {
        self.send(Message::Input(input)).await
    }

    pub async fn steward(&self, request: Request) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Steward { request, reply }).await;
        answer.await.ok()
    }
}

/// Reads what a start needs.
pub async fn boot(store: &dyn Store, me: &CoopName) -> anyhow::Result<Boot> {
    let (mut rooms, mut damaged) = (Vec::new(), Vec::new());
    for row in store.rooms().await? {
        let state = store.room_state(row.number).await?;
        match Room::restore(row.clone(), me.clone(), &state) {
            Ok(room) => rooms.push(room),
            // One damaged room does not keep the others from their members.
            Err(error) => {
                tracing::error!(%error, "a room is left out");
                damaged.push((row, state.is_restored));
            }
        }
    }
    let mut pending = Vec::new();
    for room in store.pending_rooms().await? {
        pending.push((room, store.pending(room).await?));
    }
    Ok(Boot {
        rooms,
        damaged,
        pending,
        invites: store.invites().await?,
        devices: store.devices().await?,
        memberships: store.memberships().await?,
        neighbours: store.neighbours().await?,
        incarnation: store.incarnation().await?,
    })
}

pub async fn read(store: &dyn Store, read: Read) -> ReadResult {
    let result = match read {
        Read::Cursors { device } => store.cursors(device).await.map(ReadResult::Cursors),
        Read::Entries { room, from, rows_max, bytes_max } => store.entries(room, from, rows_max, bytes_max).await.map(ReadResult::Entries),
        Read::Scrub { room, from } => store.entries(room, from, BATCH_ENTRIES_MAX, BATCH_BYTES_MAX).await.map(ReadResult::Entries),
        Read::Headers { room, from, max } => store.headers(room, from, max).await.map(ReadResult::Headers),
        Read::Frontier { room, size } => store.nodes(room, nodes_for_frontier(size)).await.map(ReadResult::Frontier),
        Read::Proof { room, old, new } => {
            let ids = nodes_for_consistency(old, new);
            store.nodes(room, ids.clone()).await.and_then(|nodes| {
                let at = |id: NodeId| ids.iter().position(|known| *known == id).and_then(|at| nodes[at]);
                let proof = consistency_proof(&at, old, new);
                proof.map(ReadResult::Proof).map_err(|error| StoreError::Damaged(error.to_string()))
            })
        }
    };
    result.unwrap_or_else(|error| {
        tracing::error!(%error, "a read failed");
        if matches!(error, StoreError::Damaged(_)) { ReadResult::Damaged } else { ReadResult::Failed }
    })
}

pub fn wall() -> UnixSeconds {
    UnixSeconds(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A transaction under way. It is polled by the driver itself: a task of its own would cost two wake-ups more.
type Commit = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

struct LinkQueue {
    queue: Outgoing,
    meter: Arc<LinkMeter>,
}

pub struct Driver {
    coop: Coop,
    store: Arc<dyn Store>,
    started: Instant,
    inputs: mpsc::Receiver<Message>,
    itself: mpsc::Sender<Message>,
    members: HashMap<ConnectionId, queue::Sender>,
    links: HashMap<ConnectionId, LinkQueue>,
    stewards: HashMap<u64, oneshot::Sender<Reply>>,
    next_steward: u64,
    neighbours: watch::Sender<Vec<Dialled>>,
    commit: Option<Commit>,
}

impl Driver {
    pub fn new(coop: Coop, store: Arc<dyn Store>) -> (Self, Handle) {
        let (sender, inputs) = mpsc::channel(INPUTS_QUEUED_MAX);
        let (neighbours, seen) = watch::channel(coop.dialled());
        let handle = Handle { inputs: sender.clone(), next_connection: Arc::new(AtomicU64::new(1)), neighbours: seen };
        let driver = Self {
            coop,
            store,
            started: Instant::now(),
            inputs,
            itself: sender,
            members: HashMap::new(),
            links: HashMap::new(),
            stewards: HashMap::new(),
            next_steward: 1,
            neighbours,
            commit: None,
        };
        (driver, handle)
    }

    fn handle(&mut self, input: Input) {
        let now = Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        self.coop.handle(now, wall(), input);
    }

    /// Runs until `stop` says so and everything decided is durable, or until the store fails.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), StoreError> {
        let mut round = Vec::with_capacity(INPUTS_PER_ROUND_MAX);
        let mut draining: Option<Instant> = None;
        loop {
            self.apply_effects();
            self.start_commit();
            if draining.is_some() && self.coop.is_idle() && self.members.is_empty() {
                return Ok(());
            }
            let tick = self.coop.poll_deadline().map(|at| self.started + Duration::from_millis(at.0));
            let deadline = [tick, draining].into_iter().flatten().min();
            let takes_input = self.coop.takes_input();
            tokio::select! {
                biased;
                outcome = async { self.commit.as_mut().expect("guarded").await }, if self.commit.is_some() => {
                    self.commit = None;
                    self.committed(outcome)?;
                }
                _ = stop.wait_for(|stop| *stop), if draining.is_none() => {
                    draining = Some(Instant::now() + Duration::from_millis(DRAIN_MS_MAX));
                    self.handle(Input::Drain);
                    self.apply_effects();
                    // Dropping a queue lets its task write what is in it and close.
                    self.members.clear();
                    self.links.clear();
                }
                taken = self.inputs.recv_many(&mut round, INPUTS_PER_ROUND_MAX), if takes_input => {
                    if taken == 0 {
                        return Ok(());
                    }
                    round.drain(..).for_each(|message| self.take(message));
                }
                () = async { tokio::time::sleep_until(deadline.expect("guarded")).await }, if deadline.is_some() => {
                    if draining.is_some_and(|at| Instant::now() >= at) {
                        return Ok(());
                    }
                    self.handle(Input::Tick);
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Input(input) => {
                if matches!(input, Input::MemberClosed { .. }) {
                    // What was said to it before, such as why it is closed, goes into its queue before the queue goes.
                    self.apply_effects();
                }
                match &input {
                    Input::MemberClosed { connection } => drop(self.members.remove(connection)),
                    Input::LinkClosed { connection } => drop(self.links.remove(connection)),
                    Input::MemberFrame { .. } => metrics::counter!(names::FRAMES_IN).increment(1),
                    _ => {}
                }
                self.handle(input);
            }
            Message::Member { connection, queue } => drop(self.members.insert(connection, queue)),
            Message::Link { connection, queue, meter } => drop(self.links.insert(connection, LinkQueue { queue, meter })),
            Message::Steward { request, reply } => {
                let id = self.next_steward;
                self.next_steward += 1;
                self.stewards.insert(id, reply);
                self.handle(Input::Steward { id, request });
            }
        }
    }

    fn start_commit(&mut self) {
        while self.commit.is_none() {
            let Some(writes) = self.coop.poll_commit() else { return };
            if writes.is_empty() {
                self.handle(Input::Committed);
                self.apply_effects();
                continue;
            }
            let entries: usize = writes.iter().map(|write| if let Write::Append(append) = write { append.rows.len() } else { 0 }).sum();
            metrics::counter!(names::COMMITS).increment(1);
            metrics::counter!(names::ENTRIES).increment(entries as u64);
            let store = self.store.clone();
            self.commit = Some(Box::pin(async move { store.commit(writes).await }));
        }
    }

    /// A failed fsync ends the process: nothing may be acknowledged on top of an unknown state.
    fn committed(&mut self, outcome: Result<(), StoreError>) -> Result<(), StoreError> {
        match outcome {
            Ok(()) => self.handle(Input::Committed),
            Err(StoreError::Full) => {
                tracing::error!("the disk is full: nothing new is taken until there is room");
                metrics::counter!(names::DISK_FULL).increment(1);
                self.handle(Input::DiskFull);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn apply_effects(&mut self) {
        while let Some(effect) = self.coop.poll_effect() {
            self.apply(effect);
        }
        metrics::gauge!(names::SESSIONS).set(self.coop.sessions_open() as f64);
        metrics::gauge!(names::LINKS).set(self.coop.links_up() as f64);
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::ToMember { connection, bytes } => {
                let Some(member) = self.members.get(&connection) else { return };
                metrics::counter!(names::MESSAGES_OUT).increment(1);
                if !member.push(bytes, 0) {
                    // Its answers alone overflow the queue: it does not read at all.
                    self.members.remove(&connection);
                    self.handle(Input::MemberClosed { connection });
                }
            }
            Effect::Deliver { to, room, first, bytes } => {
                metrics::counter!(names::MESSAGES_OUT).increment(to.len() as u64);
                for connection in to {
                    let Some(member) = self.members.get(&connection) else { continue };
                    if member.push(bytes.clone(), QUEUE_RESERVE) {
                        continue;
                    }
                    metrics::counter!(names::LAGGED).increment(1);
                    let is_drained = member.lag();
                    self.handle(Input::Undelivered { connection, room, first });
                    // It may have drained in between, before it could see that it lags.
                    if is_drained {
                        self.handle(Input::MemberDrained { connection });
                    }
                }
            }
            Effect::CloseMember { connection } => drop(self.members.remove(&connection)),
            Effect::ToLink { connection, bytes } => {
                let Some(link) = self.links.get(&connection) else { return };
                link.meter.bytes_out.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                if !link.queue.push(bytes) {
                    tracing::warn!("a neighbour does not read; its link is closed and will resume from its cursors");
                    self.links.remove(&connection);
                    self.handle(Input::LinkClosed { connection });
                }
            }
            Effect::LinkKnown { connection } => {
                if let Some(link) = self.links.get(&connection) {
                    link.meter.is_known.store(true, Ordering::Relaxed);
                }
            }
            Effect::LinkUp { connection } => {
                if let Some(link) = self.links.get(&connection) {
                    link.meter.is_up.store(true, Ordering::Relaxed);
                }
            }
            Effect::CloseLink { connection } => drop(self.links.remove(&connection)),
            Effect::Read { id, read: what } => {
                let (store, itself) = (self.store.clone(), self.itself.clone());
                tokio::spawn(async move {
                    let result = read(store.as_ref(), what).await;
                    let _ = itself.send(Message::Input(Input::ReadDone { id, result })).await;
                });
            }
            Effect::Steward { id, mut reply } => {
                if let Reply::Status(status) = &mut reply {
                    for neighbour in &mut status.neighbours {
                        let meter = neighbour.connection.and_then(|connection| self.links.get(&connection)).map(|link| &link.meter);
                        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
                        neighbour.bytes = meter.map(|meter| (read(&meter.bytes_in), read(&meter.bytes_out)));
                    }
                }
                if let Some(waiting) = self.stewards.remove(&id) {
                    let _ = waiting.send(reply);
                }
            }
            Effect::NeighboursChanged => {
                self.neighbours.send_replace(self.coop.dialled());
            }
        }
    }
}
