//! A session that does not read: it lags, costs nothing, and reads on from where it stood.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use kith_protocol::codec::{Encoding, decode_to_member, encode_to_server};
use kith_protocol::ids::{ConnectionId, DeviceHandle, Epoch, RoomNumber};
use kith_protocol::limits::{SESSION_QUEUE_MESSAGES_MAX, WRITE_BUFFER_BYTES_MAX};
use kith_protocol::log::Kind;
use kith_protocol::member::{Entries, Send, ToMember, ToServer, auth_statement};
use kith_protocol::sign::SecretKey;
use kith_relay::coop::driver::{Driver, Handle, wall};
use kith_relay::coop::{Coop as Machine, Effect, Input};
use kith_sim::World;
use kith_sim::member::Member;
use kith_sim::stand::{Stand, to_member};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// The hub with members 0 and 2 of a room at rest; member 1 is elsewhere.
fn scene() -> (World, Stand) {
    let mut world = World::calm_circle(31, 3).unwrap();
    let hub = Stand::new(world.coops.remove(0));
    (world, hub)
}

/// The least that has its length in four bytes.
const SMALL: usize = 0x4000;

/// Something of that size in the shape of a message, as member 0's next, and so on.
struct Writer {
    room: RoomNumber,
    epoch: Epoch,
    counter: u64,
}

impl Writer {
    fn new(world: &World, hub: &Stand) -> Self {
        let state = world.members[0].core.room_state(&world.circles[0].id).unwrap();
        let counter = state.counters[&(state.pseudonym, 0)];
        Self { room: hub.room().number, epoch: Epoch(state.epoch), counter }
    }

    fn next(&mut self, bytes: usize) -> ToServer {
        self.counter += 1;
        let len = (bytes as u32 | 0x8000_0000).to_be_bytes();
        let body: Bytes = [vec![7; 32], vec![1, 9], len.to_vec(), vec![9; bytes]].concat().into();
        ToServer::Send(Send {
            room: self.room,
            counter: self.counter,
            epoch: self.epoch,
            kind: Kind::Message,
            body,
            group_info: Bytes::new(),
        })
    }
}

fn seqs(entries: &Entries) -> impl Iterator<Item = u64> + use<> {
    entries.first.0..entries.first.0 + entries.entries.len() as u64
}

fn places(said: &[ToMember]) -> Vec<u64> {
    said.iter().flat_map(|frame| if let ToMember::Entries(entries) = frame { seqs(entries).collect() } else { Vec::new() }).collect()
}

#[test]
fn fault_26_a_session_that_lags_is_sent_nothing_until_it_has_drained_and_then_everything_once() {
    let (world, mut hub) = scene();
    let mut writer = Writer::new(&world, &hub);
    let (fast, _) = hub.session(&world.members[0]);
    let (slow, _) = hub.session(&world.members[2]);
    let size = hub.log().len() as u64;
    let deliver = |hub: &mut Stand, frame, connection: ConnectionId| {
        let said = hub.tell(Input::MemberFrame { connection, frame: Ok(frame) });
        let first = said.iter().find_map(|effect| match effect {
            Effect::Deliver { to, room, first, .. } if to.contains(&slow) => Some((*room, *first)),
            _ => None,
        });
        (said, first)
    };
    // One arrives, the next finds the queue full.
    let (said, _) = deliver(&mut hub, writer.next(SMALL), fast);
    let mut got = places(&to_member(&said, slow));
    let (_, missed) = deliver(&mut hub, writer.next(SMALL), fast);
    let (room, first) = missed.expect("it was live until now");
    hub.tell(Input::Undelivered { connection: slow, room, first });
    // From now on nothing is even made for it, and it is sent no marks of what it has not seen.
    for _ in 0..1_000 {
        hub.now.0 += 10;
        let (said, missed) = deliver(&mut hub, writer.next(SMALL), fast);
        assert_eq!((missed, to_member(&said, slow).len()), (None, 0));
    }
    // It has read what was in its queue: the rest comes in pages, and then it is live again.
    let said = hub.tell(Input::MemberDrained { connection: slow });
    got.extend(places(&to_member(&said, slow)));
    let (said, _) = deliver(&mut hub, writer.next(SMALL), fast);
    got.extend(places(&to_member(&said, slow)));
    assert_eq!(got, (size..size + 1_003).collect::<Vec<_>>(), "everything, once, in order");
}

struct Line(WebSocketStream<TcpStream>);

impl Line {
    /// A member's session over a real socket.
    async fn open(coop: &Handle, listener: &TcpListener, member: &Member) -> Self {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        let coop = coop.clone();
        tokio::spawn(async move { kith_relay::connection::serve(theirs, Encoding::Binary, coop).await });
        let mut line = Self(WebSocketStream::from_raw_socket(ours, Role::Client, None).await);
        let Some(ToMember::Challenge { nonce }) = line.next().await else { panic!("no challenge") };
        let account = member.core.account().unwrap();
        let device = SecretKey::from_seed(account.device_seed);
        let name = account.coop_name.parse().unwrap();
        let signature = device.sign(&auth_statement(&name, &nonce, &device.public()));
        line.send(&ToServer::Authenticate { device: DeviceHandle(account.handle.unwrap()), signature }).await;
        while line.next().await.expect("it is let in") != ToMember::Synced {}
        line
    }

    async fn send(&mut self, frame: &ToServer) {
        self.0.send(Message::Binary(encode_to_server(frame, Encoding::Binary))).await.unwrap();
    }

    async fn next(&mut self) -> Option<ToMember> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(bytes)) => return Some(decode_to_member(bytes, Encoding::Binary).unwrap()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

#[tokio::test]
async fn fault_26_a_slow_reader_on_a_real_socket_gets_everything_once() {
    const MESSAGES: u64 = 380;
    const BYTES: usize = 60_000;
    let (world, mut hub) = scene();
    let mut writer = Writer::new(&world, &hub);
    let size = hub.log().len() as u64;
    hub.coop.crash();
    let id = hub.coop.id.clone();
    let boot = kith_relay::coop::driver::boot(&hub.coop.store, &id.name).await.unwrap();
    let machine = Machine::new(id, hub.coop.secrets(), boot, wall());
    let (driver, coop) = Driver::new(machine, Arc::new(hub.coop.store));
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(driver.run(stopping));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut slow = Line::open(&coop, &listener, &world.members[2]).await;
    let mut fast = Line::open(&coop, &listener, &world.members[0]).await;
    // Far more than sockets and queue hold.
    assert!(MESSAGES > SESSION_QUEUE_MESSAGES_MAX as u64 && MESSAGES as usize * BYTES > 16 * WRITE_BUFFER_BYTES_MAX);
    let mut acknowledged = 0;
    for _ in 0..MESSAGES {
        fast.send(&writer.next(BYTES)).await;
        while !matches!(fast.next().await.expect("the writer is served"), ToMember::Ack { ordered: Some(_), .. }) {}
        acknowledged += 1;
    }
    assert_eq!(acknowledged, MESSAGES, "nobody waits for the slow one");
    let mut got = Vec::new();
    let reading = async {
        while got.len() < MESSAGES as usize {
            if let ToMember::Entries(entries) = slow.next().await.expect("the slow one is served") {
                got.extend(seqs(&entries));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("it catches up");
    assert_eq!(got, (size..size + MESSAGES).collect::<Vec<_>>(), "everything, once, in order");
    stop.send_replace(true);
    drop((slow, fast));
    running.await.unwrap().unwrap();
}
