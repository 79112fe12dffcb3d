//! Verifying a room for whoever asks: every header that the co-op stores is fetched, hashed into the tree, and held against
//! the hub's checkpoint, the cosignatures, and what this device remembers.

use bytes::Bytes;
use kith_protocol::error::Code;
use kith_protocol::ids::{CoopName, Hash, PublicKey, RoomId, RoomNumber, Seq};
use kith_protocol::log::Header;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::member::{Refused, RequestId, ToServer};

use super::machine::{Ask, Core, CoreError, Event, VerifyReport};

/// An audit under way.
#[derive(Debug)]
pub struct Audit {
    room: RoomId,
    frontier: Frontier,
    /// The root over what this device has applied, once the headers reach that far.
    own_root: Option<Hash>,
    attestation: Option<Attestation>,
    /// Headers that this device stored itself, by sequence number.
    stored: Vec<(u64, Vec<u8>)>,
}

impl Core {
    /// Begins; the outcome is [`Event::Verified`]. `stored` are the headers in this device's own timeline.
    pub fn verify(&mut self, room: &RoomId, stored: Vec<(u64, Vec<u8>)>) -> Result<(), CoreError> {
        self.active(room)?;
        self.session.audit = Some(Audit { room: *room, frontier: Frontier::default(), own_root: None, attestation: None, stored });
        self.finish();
        Ok(())
    }

    /// Asks for the marks that the audit is to check: of at least `held` co-ops, over everything that this device has.
    pub fn watch(&mut self, room: &RoomId, held: u32) {
        let Some((number, size)) = self.rooms.get(room).and_then(|state| state.number.map(|number| (number, state.size))) else { return };
        let request = self.ask(Ask::Watch(*room));
        self.session.watching.insert(*room);
        self.sends.push(ToServer::Watch { request, room: RoomNumber(number), size, held });
        self.finish();
    }

    /// What this device was sent would stop it. Before it goes by that for good, somebody has to have signed it.
    pub(super) fn ask_for_mark(&mut self, room: &RoomId, size: u64) {
        if let Some(number) = self.rooms.get(room).and_then(|state| state.number) {
            let request = self.ask(Ask::Watch(*room));
            self.sends.push(ToServer::Watch { request, room: RoomNumber(number), size, held: 1 });
        }
    }

    pub(super) fn answer_watch(&mut self, room: &RoomId) {
        self.session.watching.remove(room);
        self.session.asked.retain(|_, ask| *ask != Ask::Watch(*room));
    }

    pub fn is_watching(&self, room: &RoomId) -> bool {
        self.session.watching.contains(room)
    }

    /// Co-ops with members in the room.
    pub fn coops(&mut self, room: &RoomId) -> Vec<CoopName> {
        let members = self.with_group(room, |group, _| Ok(group.members())).unwrap_or_default();
        kith_protocol::room::coops_of(members.iter().map(|member| &member.certificate.coop.name))
    }

    pub(super) fn audit_attested(&mut self, room: &RoomId, attestation: &Attestation) {
        let size = self.rooms.get(room).map_or(0, |state| state.size);
        let Some(audit) = self.session.audit.as_mut().filter(|audit| audit.room == *room && audit.attestation.is_none()) else { return };
        if attestation.checkpoint.size < size {
            return;
        }
        audit.attestation = Some(attestation.clone());
        self.next_headers();
    }

    fn next_headers(&mut self) {
        let Some(audit) = &self.session.audit else { return };
        let (room, from) = (audit.room, Seq(audit.frontier.size()));
        let Some(number) = self.rooms.get(&room).and_then(|state| state.number) else { return };
        let request = self.ask(Ask::Headers(room));
        self.sends.push(ToServer::FetchHeaders { request, room: RoomNumber(number), from });
    }

    pub(super) fn headers_came(&mut self, request: RequestId, first: Seq, headers: &[Bytes]) {
        let Some(Ask::Headers(room)) = self.session.asked.remove(&request) else { return };
        let Some(mut audit) = self.session.audit.take().filter(|audit| audit.room == room) else { return };
        match self.check_headers(&mut audit, first, headers) {
            Ok(false) => {
                self.session.audit = Some(audit);
                self.next_headers();
            }
            Ok(true) => self.conclude(&audit),
            Err(problem) => self.verified(&audit, Some(problem)),
        }
    }

    /// `true`: everything that the checkpoint covers has come.
    fn check_headers(&self, audit: &mut Audit, first: Seq, headers: &[Bytes]) -> Result<bool, String> {
        let state = self.rooms.get(&audit.room).ok_or("no such room")?;
        let end = audit.attestation.as_ref().map_or(0, |attestation| attestation.checkpoint.size);
        if first.0 != audit.frontier.size() || headers.is_empty() {
            return Err(format!("the co-op's copy ends at {}, its checkpoint says {end}", audit.frontier.size()));
        }
        for bytes in headers {
            let seq = audit.frontier.size();
            if seq == end {
                break;
            }
            let header = Header::decode(bytes).map_err(|error| format!("entry {seq}: {error}"))?;
            if header.room != audit.room || header.seq != Seq(seq) {
                return Err(format!("entry {seq} is not the one that belongs there"));
            }
            if audit.stored.iter().any(|(known, own)| *known == seq && own != bytes) {
                return Err(format!("entry {seq} is not the one that this device was sent"));
            }
            audit.frontier.push(leaf_hash(bytes));
            if audit.frontier.size() == state.size {
                audit.own_root = Some(audit.frontier.root());
            }
        }
        Ok(audit.frontier.size() >= end)
    }

    fn conclude(&mut self, audit: &Audit) {
        let problem = self.check_roots(audit).err();
        self.verified(audit, problem);
    }

    fn check_roots(&self, audit: &Audit) -> Result<(), String> {
        let state = self.rooms.get(&audit.room).ok_or("no such room")?;
        if let Some(words) = self.frozen(&audit.room) {
            return Err(words);
        }
        let attestation = audit.attestation.as_ref().ok_or("no checkpoint came")?;
        if attestation.checkpoint.root != audit.frontier.root() {
            return Err("the stored entries do not lead to the root that the hub signed".to_owned());
        }
        if audit.own_root != Some(Self::applied(state).root()) {
            return Err("the log is not the one that this device has followed".to_owned());
        }
        if attestation.hub.as_str() != state.hub_name || attestation.checkpoint.term != Self::term(state) {
            return Err("the checkpoint is not the hub's".to_owned());
        }
        let key_of = |name: &CoopName| state.coops.get(name.as_str()).copied().map(PublicKey);
        attestation.verify(key_of).map_err(|error| error.to_string())
    }

    fn verified(&mut self, audit: &Audit, problem: Option<String>) {
        let checkpoint = audit.attestation.as_ref().map(|attestation| attestation.checkpoint);
        let cosigned_by = audit.attestation.iter().flat_map(|attestation| attestation.cosigners().cloned()).collect();
        self.events.push(Event::Verified(VerifyReport {
            room: audit.room,
            problem,
            size: checkpoint.map_or(0, |checkpoint| checkpoint.size),
            root: checkpoint.map_or(Hash([0; 32]), |checkpoint| checkpoint.root),
            cosigned_by,
        }));
    }

    pub(super) fn audit_refused(&mut self, room: &RoomId, refused: &Refused) {
        self.answer_watch(room);
        if refused.code == Code::Busy {
            return;
        }
        if let Some(audit) = self.session.audit.take().filter(|audit| audit.room == *room) {
            self.verified(&audit, Some(format!("the co-op refused: {}", refused.detail)));
        }
    }
}
