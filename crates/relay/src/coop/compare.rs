//! Holders of a room compare what its hub signed for each. A hub that shows two histories is convicted by its own signatures;
//! the room is frozen, and everybody in it hears of it with the proof.

use kith_protocol::codec::encode_proof;
use kith_protocol::ids::{ConnectionId, CoopName, Hash, Millis, RoomId, RoomNumber};
use kith_protocol::limits::COMPARE_EVERY_MS;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::merkle::Frontier;
use kith_protocol::log::proof::Proof;
use kith_protocol::member::ToMember;
use kith_storage::Write;

use super::machine::Coop;
use super::types::Read;
use super::waiting::{After, Reader};
use crate::room::Room;

impl Coop {
    /// The room has grown: its other holders hear in a while how far, and what the hub signed.
    pub(super) fn compare_later(&mut self, number: RoomNumber) {
        let at = Millis(self.now.0 + COMPARE_EVERY_MS);
        if !self.links_up.is_empty() {
            self.compare_at.entry(number).or_insert(at);
        }
    }

    pub(super) fn tick_compare(&mut self) {
        let due: Vec<RoomNumber> = self.compare_at.iter().filter(|(_, at)| **at <= self.now).map(|(room, _)| *room).collect();
        for number in due {
            self.compare_at.remove(&number);
            self.tell_status_of(number);
            self.ask_for_marks(number);
        }
    }

    /// A mirror that has the newest commit and nothing that certifies it may have missed others' marks: it says its own again,
    /// until the hub has answered with what there is.
    fn ask_for_marks(&mut self, number: RoomNumber) {
        let (root, wall) = (self.secrets.root.clone(), self.wall);
        // One that has no part in the room any longer is sent no marks.
        let has_part = |room: &Room| room.log().is_some_and(|log| log.end_for(&self.me.name) == u64::MAX);
        let lacks = |room: &&mut Room| !room.is_hub() && has_part(room) && room.certificate_of_last_commit().is_none();
        let Some(room) = self.rooms.get_mut(&number).filter(lacks) else { return };
        let size = room.durable();
        let mark = room.committed(&root, wall, size);
        self.attest_to_hub(number, size, mark);
        self.compare_at.insert(number, Millis(self.now.0 + COMPARE_EVERY_MS));
    }

    /// What the hub signed for another holder. Whoever has at least as much compares.
    pub(super) fn compare(&mut self, peer: &CoopName, id: &RoomId, theirs: Attestation) {
        let Some(number) = self.room_numbers.get(id).copied().filter(|number| self.may_hold(*number, peer)) else { return };
        let Some(room) = self.rooms.get(&number).filter(|room| !room.is_frozen()) else { return };
        let checkpoint = theirs.checkpoint;
        let is_comparable = checkpoint.term == room.term() && (1..=room.durable()).contains(&checkpoint.size);
        if theirs.hub != room.hub.name || !is_comparable {
            return;
        }
        if checkpoint.verify(&room.hub.key, &theirs.signature).is_err() {
            tracing::warn!(neighbour = %peer, room = number.0, "a holder tells of a checkpoint that the hub did not sign");
            return;
        }
        let known = room.ledger().at(checkpoint.size).map(|known| known.checkpoint.root);
        if known != Some(checkpoint.root) {
            let read = Read::Frontier { room: number, size: checkpoint.size };
            self.read(Reader::Compare { room: number, theirs: Box::new(theirs) }, read);
        }
    }

    pub(super) fn compare_read(&mut self, number: RoomNumber, theirs: Attestation, nodes: Vec<Option<Hash>>) {
        let size = theirs.checkpoint.size;
        let nodes: Option<Vec<Hash>> = nodes.into_iter().collect();
        let Some(root) = nodes.and_then(|nodes| Frontier::from_parts(size, nodes).ok()).map(|prefix| prefix.root()) else { return };
        if root == theirs.checkpoint.root {
            return;
        }
        let Some(longer) = self.rooms.get(&number).and_then(|room| room.word_from(size)).cloned() else { return };
        tracing::error!(room = number.0, size, "the hub signed another history for another co-op");
        let read = Read::Proof { room: number, old: size, new: longer.checkpoint.size };
        self.read(Reader::Fork { room: number, theirs: Box::new(theirs), longer: Box::new(longer), root }, read);
    }

    pub(super) fn fork_read(&mut self, number: RoomNumber, theirs: &Attestation, longer: &Attestation, root: Hash, proof: Vec<Hash>) {
        if let Some(room) = self.rooms.get(&number) {
            let proof = room.fork(theirs, longer, root, proof);
            // Both words are the hub's: what does not prove that it lied is not what it signed.
            if proof.verify().is_ok() { self.freeze(number, proof) } else { self.found_damaged(number) }
        }
    }

    /// Another holder's proof.
    pub(super) fn proof_came(&mut self, peer: &CoopName, proof: Proof) {
        let Some(number) = self.room_numbers.get(proof.room()).copied() else { return };
        if self.may_hold(number, peer) {
            self.freeze(number, proof);
        }
    }

    /// From here on the room takes nothing from that hub in that term. Told once it is durable.
    pub(super) fn freeze(&mut self, number: RoomNumber, proof: Proof) {
        let Some(room) = self.rooms.get_mut(&number) else { return };
        if !room.freeze(proof.clone()) {
            return;
        }
        tracing::error!(room = number.0, proof = %proof.words(), "the room is frozen; `kithd proof save` writes the proof to a file");
        self.write(Write::PutProof { room: number, proof: encode_proof(&proof).into() });
        self.after.push(After::Frozen { room: number });
    }

    pub(super) fn frozen(&mut self, number: RoomNumber) {
        let peers: Vec<CoopName> = self.links_up.keys().filter(|peer| self.may_hold(number, peer)).cloned().collect();
        peers.iter().for_each(|peer| self.tell_proof(peer, number));
        let members = self.subscribers.get(&number).cloned().unwrap_or_default();
        members.iter().for_each(|connection| self.tell_frozen(*connection, number));
        self.deliver_waiting(number, &members);
        // Voters whose histories agree seat another.
        self.watch_hub(number, 0);
    }

    /// A neighbour that holds the room hears why it is frozen.
    pub(super) fn tell_proof(&mut self, peer: &CoopName, number: RoomNumber) {
        let proof = self.rooms.get(&number).filter(|room| room.is_frozen()).and_then(|room| room.proof()).cloned();
        if let Some(proof) = proof
            && let Some((connection, link)) = self.link_to(peer)
        {
            link.proof(proof);
            self.pump_link(connection);
        }
    }

    /// A member of a frozen room hears so, with the proof.
    pub(super) fn tell_frozen(&mut self, connection: ConnectionId, number: RoomNumber) {
        let proof = self.rooms.get(&number).filter(|room| room.is_frozen()).and_then(|room| room.proof()).cloned();
        if let Some(proof) = proof {
            self.reply(connection, &ToMember::Frozen { room: number, proof });
        }
    }
}
