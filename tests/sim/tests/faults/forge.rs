//! A room's log, continued as a lying hub likes: whatever is in it, the hub's signature over it is good.

use bytes::Bytes;
use kith_client::core::timeline::{Row, RowContent};
use kith_protocol::content::Content;
use kith_protocol::ids::{Coop, Counter, EntryId, Pseudonym, RoomId, RoomNumber, Seq, UnixSeconds};
use kith_protocol::link::{Batch, Submission};
use kith_protocol::log::checkpoint::{Attestation, Checkpoint, Mark};
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::pack::{extra_of, pack};
use kith_protocol::log::{Header, Kind};
use kith_protocol::member::{Entries, Send, ToServer};
use kith_protocol::sign::SecretKey;
use kith_sim::World;
use kith_sim::coop::WALL;
use kith_sim::stand::Stand;

pub struct Forge {
    room: RoomId,
    hub: Coop,
    root: SecretKey,
    /// The log's end, as the hub tells it.
    pub last: Header,
    created: UnixSeconds,
    frontier: Frontier,
    senders: Vec<Pseudonym>,
    /// What was put in since the last batch.
    fresh: Vec<(Header, Bytes, Bytes)>,
}

impl Forge {
    /// From where a co-op's copy of the log ends.
    pub fn new(copy: &Stand, hub: Coop, root: SecretKey) -> Self {
        let log = copy.log();
        let mut frontier = Frontier::default();
        let mut senders = Vec::new();
        for (header, row) in &log {
            frontier.push(leaf_hash(&row.header));
            if !senders.contains(&header.id.sender) {
                senders.push(header.id.sender);
            }
        }
        let (first, last) = (log[0].0, log[log.len() - 1].0);
        Self { room: first.room, hub, root, last, created: first.time, frontier, senders, fresh: Vec::new() }
    }

    /// What follows is said to be of another room.
    pub fn of_room(self, room: RoomId) -> Self {
        Self { room, ..self }
    }

    /// The next place goes to this, in somebody's name.
    pub fn put(&mut self, sender: Pseudonym, send: &Send) -> Header {
        let group_info = (send.kind == Kind::Commit).then(|| hash_bytes(&send.group_info));
        let header = Header {
            room: self.room,
            seq: self.last.seq.next(),
            term: self.last.term,
            epoch: send.epoch,
            kind: send.kind,
            id: EntryId { sender, counter: Counter { device: 0, number: send.counter } },
            time: self.last.time,
            body_hash: hash_bytes(&send.body),
            extra: extra_of(send.kind, &send.body, group_info).expect("a body of that kind"),
        };
        self.last = header;
        self.frontier.push(leaf_hash(&header.encode()));
        self.fresh.push((header, send.body.clone(), send.group_info.clone()));
        header
    }

    /// What was put in, as members are sent it.
    pub fn entries(&mut self, number: RoomNumber) -> Entries {
        let rows: Vec<_> = self.fresh.drain(..).map(|(header, body, _)| (header, body)).collect();
        let index = |who: &Pseudonym| self.senders.iter().position(|known| known == who).map(|at| at as u32);
        pack(number, self.created, &rows, &self.senders, index).expect("known senders")
    }

    /// What was put in, as a mirror is sent it.
    pub fn batch(&mut self, number: RoomNumber) -> Batch {
        let commits = self.fresh.iter().enumerate().filter(|(_, (header, _, _))| header.kind == Kind::Commit);
        let group_infos = commits.map(|(index, (_, _, info))| (index as u32, info.clone())).collect();
        let attestation = self.attest();
        Batch { entries: self.entries(number), group_infos, attestation, proof: vec![] }
    }

    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint { room: self.room, term: self.last.term, size: self.frontier.size(), root: self.frontier.root() }
    }

    /// With the hub's word that it holds all of it.
    pub fn attest(&self) -> Attestation {
        let held = Mark { coop: self.hub.name.clone(), cosignature: None, held: Some(self.checkpoint().sign_held(&self.root)) };
        Attestation { marks: vec![held], ..self.sign(self.checkpoint()) }
    }

    /// The hub signs whatever it is given.
    pub fn sign(&self, checkpoint: Checkpoint) -> Attestation {
        Attestation { checkpoint, hub: self.hub.name.clone(), signature: checkpoint.sign(&self.root), marks: Vec::new() }
    }
}

/// What a member's device sends when it says something.
pub fn say(world: &mut World, member: usize, text: &str) -> Send {
    let room = world.circles[0].id;
    let member = &mut world.members[member];
    member.core.say(UnixSeconds(WALL + 2_000), &room, &Content::Text(text.to_owned())).expect("it is in the room");
    let sends = member.take_effects(false).sends;
    let found = sends.into_iter().find_map(|frame| if let ToServer::Send(send) = frame { Some(send) } else { None });
    found.expect("the room is at rest, so it goes out at once")
}

pub fn pseudonym(world: &World, member: usize) -> Pseudonym {
    let room = world.circles[0].id;
    Pseudonym(world.members[member].core.room_state(&room).expect("it is in the room").pseudonym)
}

pub fn submission(room: RoomId, sender: Pseudonym, send: Send) -> Submission {
    let id = EntryId { sender, counter: Counter { device: 0, number: send.counter } };
    Submission { room, id, epoch: send.epoch, kind: send.kind, body: send.body, group_info: send.group_info, base: None }
}

/// What a member's timeline shows at a place of the log.
pub fn shown(world: &mut World, member: usize, seq: Seq) -> Option<RowContent> {
    let room = world.circles[0].id;
    world.members[member].take_effects(false);
    let rows: Vec<Row> = world.members[member].timeline(&room);
    rows.into_iter().find(|row| row.seq == Some(seq)).map(|row| row.content)
}

pub fn text(text: &str) -> Option<RowContent> {
    Some(RowContent::Content(Content::Text(text.to_owned())))
}
