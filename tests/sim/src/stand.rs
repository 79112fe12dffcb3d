//! One co-op by itself: what it wants to write is written at once, what it wants to read is read, and what it says is
//! listed. So a test can be any neighbour and any member of it, honest or not.

use futures_util::FutureExt;
use kith_protocol::agreement::{Agreement, Line, LinkCertificate, Notice, Standing, Terms};
use kith_protocol::codec::{Encoding, decode_link, decode_to_member};
use kith_protocol::ids::{ConnectionId, Coop as CoopId, DeviceHandle, Millis, PublicKey, Seq, UnixSeconds};
use kith_protocol::limits::SETTLE_MS;
use kith_protocol::link::{LinkFrame, VERSIONS};
use kith_protocol::log::Header;
use kith_protocol::member::{ToMember, ToServer, auth_statement, membership_statement};
use kith_protocol::sign::SecretKey;
use kith_relay::coop::steward::Request;
use kith_relay::coop::{Effect, Input};
use kith_storage::{LogRow, RoomLog, RoomRow};

use crate::coop::{Coop, WALL};
use crate::member::Member;

const NONCE: [u8; 32] = [9; 32];

pub struct Stand {
    pub coop: Coop,
    pub now: Millis,
    /// Reads of its store so far.
    pub reads: u64,
    connections: u64,
}

impl Stand {
    /// The co-op starts from what is durable.
    pub fn new(coop: Coop) -> Self {
        let mut stand = Self { coop, now: Millis(0), reads: 0, connections: 1_000 };
        stand.restart();
        stand
    }

    pub fn restart(&mut self) {
        self.coop.crash();
        self.coop.start(0);
        // Nobody is there to say that it has something newer.
        self.now = self.now.max(Millis(SETTLE_MS));
        self.tell(Input::Tick);
    }

    pub fn wall(&self) -> UnixSeconds {
        UnixSeconds(WALL + 1_000 + self.now.0 / 1_000)
    }

    /// Gives it an input, and everything that follows from it until it is quiet.
    pub fn tell(&mut self, input: Input) -> Vec<Effect> {
        let (now, wall) = (self.now, self.wall());
        let mut inputs = vec![input];
        let mut said = Vec::new();
        loop {
            let machine = self.coop.machine.as_mut().expect("it runs");
            inputs.drain(..).for_each(|input| machine.handle(now, wall, input));
            let effects: Vec<Effect> = std::iter::from_fn(|| machine.poll_effect()).collect();
            let writes = machine.poll_commit();
            for effect in effects {
                match effect {
                    Effect::Read { id, read } => {
                        self.reads += 1;
                        inputs.push(Input::ReadDone { id, result: self.coop.read(read) });
                    }
                    effect => said.push(effect),
                }
            }
            if let Some(writes) = writes {
                self.coop.commit(writes, None).expect("a store without faults");
                inputs.push(Input::Committed);
            }
            if inputs.is_empty() {
                return said;
            }
        }
    }

    pub fn connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    /// What a frame of a session brings back to that session.
    pub fn frame(&mut self, connection: ConnectionId, frame: ToServer) -> Vec<ToMember> {
        let said = self.tell(Input::MemberFrame { connection, frame: Ok(frame) });
        to_member(&said, connection)
    }

    pub fn open(&mut self) -> (ConnectionId, Vec<Effect>) {
        let connection = self.connection();
        let said = self.tell(Input::MemberOpened { connection, encoding: Encoding::Binary, nonce: NONCE });
        (connection, said)
    }

    /// A member's session, and what it is told at once.
    pub fn session(&mut self, member: &Member) -> (ConnectionId, Vec<ToMember>) {
        let account = member.core.account().expect("a member of a co-op");
        let handle = DeviceHandle(account.handle.expect("registered"));
        self.authenticate(handle, &SecretKey::from_seed(account.device_seed))
    }

    /// A session of a device that the store knows.
    pub fn device_session(&mut self, handle: DeviceHandle, device: &SecretKey) -> ConnectionId {
        self.authenticate(handle, device).0
    }

    fn authenticate(&mut self, device: DeviceHandle, key: &SecretKey) -> (ConnectionId, Vec<ToMember>) {
        let (connection, _) = self.open();
        let signature = key.sign(&auth_statement(&self.coop.id.name, &NONCE, &key.public()));
        let said = self.frame(connection, ToServer::Authenticate { device, signature });
        assert_eq!(said.first(), Some(&ToMember::Ready));
        (connection, said)
    }

    /// Somebody who has just become a member, and is in no room.
    pub fn newcomer(&mut self, seed: u8) -> ConnectionId {
        let (invite, device) = (SecretKey::from_seed([seed; 32]), SecretKey::from_seed([seed ^ 0x80; 32]));
        self.tell(Input::Steward { id: 1, request: Request::Invite { key: invite.public(), uses: 1 } });
        let (connection, _) = self.open();
        let name = &self.coop.id.name;
        let frame = ToServer::Register {
            invite: invite.public(),
            invite_signature: invite.sign(&membership_statement(name, &NONCE, &device.public())),
            device: device.public(),
            device_signature: device.sign(&auth_statement(name, &NONCE, &device.public())),
        };
        let said = self.frame(connection, frame);
        assert!(matches!(said.first(), Some(ToMember::Registered { .. })), "{said:?}");
        connection
    }

    /// A link on which the neighbour with this root key has signed the newest terms that it is shown, and what it is told at
    /// once.
    pub fn link(&mut self, peer: &CoopId, root: &SecretKey) -> (ConnectionId, Vec<LinkFrame>) {
        let (connection, peer_link_key) = (self.connection(), PublicKey([5; 32]));
        self.tell(Input::LinkOpened { connection, peer_link_key, dialled: None });
        let certificate = LinkCertificate::issue(root, peer, &peer_link_key, UnixSeconds(1 << 40));
        let hello = LinkFrame::Hello { versions: VERSIONS, coop: peer.clone(), certificate, successions: Vec::new(), incarnation: 0 };
        let shown = self.link_frame(connection, hello);
        let newest = shown.iter().rev().find_map(|frame| match frame {
            LinkFrame::Agreement { document, .. } => Agreement::parse(document).ok(),
            _ => None,
        });
        let at = UnixSeconds(WALL);
        let open = Notice::sign(root, &peer.name, &self.coop.id.name, Standing::Open, at, at, Line::default());
        self.link_frame(connection, LinkFrame::Standing(open));
        let terms = newest.map_or_else(Terms::default, |agreement| agreement.terms().clone());
        let agreement = Agreement::between(peer.clone(), self.coop.id.clone(), terms);
        let frame = LinkFrame::Agreement { document: agreement.document().into(), signature: agreement.sign(root) };
        let said = self.link_frame(connection, frame);
        assert_eq!(self.coop.machine.as_ref().map(kith_relay::coop::Coop::links_up), Some(1), "{said:?}");
        (connection, said)
    }

    /// What a frame of a neighbour brings back over that link.
    pub fn link_frame(&mut self, connection: ConnectionId, frame: LinkFrame) -> Vec<LinkFrame> {
        let said = self.tell(Input::LinkFrame { connection, frame: Ok(frame) });
        over_link(&said, connection)
    }

    /// Its only room.
    pub fn room(&self) -> RoomRow {
        self.coop.store.rooms().now_or_never().expect("the model never pends").expect("rooms").remove(0)
    }

    /// The log of its only room, as it is durable.
    pub fn log(&self) -> Vec<(Header, LogRow)> {
        let rows = self.coop.store.entries(self.room().number, Seq(0), usize::MAX, usize::MAX);
        let rows = rows.now_or_never().expect("the model never pends").expect("entries");
        rows.into_iter().map(|row| (Header::decode(&row.header).expect("a stored header"), row)).collect()
    }
}

/// Frames for one session.
pub fn to_member(said: &[Effect], connection: ConnectionId) -> Vec<ToMember> {
    let bytes = said.iter().filter_map(|effect| match effect {
        Effect::ToMember { connection: to, bytes } if *to == connection => Some(bytes.clone()),
        Effect::Deliver { to, bytes, .. } if to.contains(&connection) => Some(bytes.clone()),
        _ => None,
    });
    bytes.map(|bytes| decode_to_member(bytes, Encoding::Binary).expect("servers send what decodes")).collect()
}

/// Frames for one link.
pub fn over_link(said: &[Effect], connection: ConnectionId) -> Vec<LinkFrame> {
    let bytes = said.iter().filter_map(|effect| match effect {
        Effect::ToLink { connection: to, bytes } if *to == connection => Some(bytes.clone()),
        _ => None,
    });
    bytes.map(|bytes| decode_link(bytes).expect("servers send what decodes")).collect()
}
