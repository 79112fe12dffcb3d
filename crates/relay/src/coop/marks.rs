//! Marks: what co-ops sign of a room's log that they hold. A mirror's go to the hub, and the hub passes them on.

use kith_protocol::error::Code;
use kith_protocol::ids::{Coop as CoopId, CoopName, RoomId, RoomNumber};
use kith_protocol::judge::RoomFacts;
use kith_protocol::log::checkpoint::{Attestation, Mark};
use kith_protocol::member::ToMember;
use kith_storage::Write;

use super::machine::Coop;
use crate::room::Room;

impl Coop {
    /// This mirror has fsynced that much: the hub is told, and whatever holder it takes the room from. Without a mark it
    /// only asks for more.
    pub(super) fn attest_to_hub(&mut self, number: RoomNumber, size: u64, mark: Option<Mark>) {
        let Some(hub) = self.rooms.get(&number).map(|room| room.hub.name.clone()) else { return };
        if mark.is_some() {
            self.store_marks(number);
        }
        let mark = mark.unwrap_or_else(|| Mark { coop: self.me.name.clone(), cosignature: None, held: None });
        let holder = self.following.get(&number).filter(|holder| **holder != hub).cloned();
        for peer in [Some(hub), holder].into_iter().flatten() {
            if let Some((connection, link)) = self.link_to(&peer) {
                link.attest(number, size, mark.clone());
                self.pump_link(connection);
            }
        }
    }

    /// A mirror's mark over a room that this co-op orders. The origin is the link's key, whatever the mark says.
    pub(super) fn attest_came(&mut self, peer: &CoopId, id: &RoomId, size: u64, mark: Mark) {
        let Some(number) = self.room_numbers.get(id).copied() else { return };
        if mark.coop != peer.name || !self.feeds.contains_key(&(peer.name.clone(), number)) {
            return;
        }
        if mark.cosignature.is_none() && mark.held.is_none() {
            return self.attested_by(&peer.name, number, size);
        }
        let Some(room) = self.rooms.get_mut(&number) else { return };
        let key = room.log().and_then(|log| log.coop_key(&peer.name)).unwrap_or(peer.key);
        match room.mark(size, mark, &key) {
            Ok(Some(attestation)) => {
                let attestation = attestation.clone();
                self.pass_on(number, id, &peer.name, &attestation);
                self.answer_again(number, id, &peer.name, &attestation);
                self.store_marks(number);
                self.announce_certificate(number);
                self.answer_watches(number);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(neighbour = %peer.name, room = number.0, %error, "a forged or damaged mark is refused");
                if let Some((connection, link)) = self.link_to(&peer.name) {
                    link.refuse(Code::BadProof, "the mark does not verify".to_owned());
                    self.pump_link(connection);
                }
                return;
            }
        }
        self.attested_by(&peer.name, number, size);
    }

    /// Who says again what it holds, with nothing on its way to it, may have missed what others said meanwhile.
    fn answer_again(&mut self, number: RoomNumber, id: &RoomId, peer: &CoopName, attestation: &Attestation) {
        let is_again = self.feeds.get(&(peer.clone(), number)).is_some_and(|feed| !feed.reading && feed.in_flight.is_empty());
        if let Some((connection, link)) = self.link_to(peer).filter(|_| is_again) {
            link.attested(id, attestation);
            self.pump_link(connection);
        }
    }

    /// Other mirrors hear of a mark too.
    fn pass_on(&mut self, number: RoomNumber, id: &RoomId, from: &CoopName, attestation: &Attestation) {
        let peers: Vec<CoopName> =
            self.feeds.keys().filter(|(peer, room)| *room == number && peer != from).map(|(peer, _)| peer.clone()).collect();
        for peer in peers {
            if let Some((connection, link)) = self.link_to(&peer) {
                link.attested(id, attestation);
                self.pump_link(connection);
            }
        }
    }

    /// Marks of other mirrors, from the hub.
    pub(super) fn attested_came(&mut self, peer: &CoopId, number: RoomNumber, attestation: Attestation) {
        if self.rooms.get(&number).is_none_or(|room| room.hub != *peer) {
            return;
        }
        self.look_for_loss(number, &attestation);
        let Some(room) = self.rooms.get(&number) else { return };
        if attestation.checkpoint.size > room.durable() {
            // It is quicker than this co-op's disk.
            self.early.insert(number, attestation);
            return;
        }
        self.take_marks(number, attestation);
    }

    /// What came before the rows that it is over were durable.
    pub(super) fn take_early_marks(&mut self, number: RoomNumber) {
        let Some(durable) = self.rooms.get(&number).map(|room| room.durable()) else { return };
        if self.early.get(&number).is_some_and(|early| early.checkpoint.size <= durable)
            && let Some(early) = self.early.remove(&number)
        {
            self.take_marks(number, early);
        }
    }

    fn take_marks(&mut self, number: RoomNumber, attestation: Attestation) {
        let Some(room) = self.rooms.get_mut(&number) else { return };
        let size = attestation.checkpoint.size;
        for mark in attestation.marks.into_iter().filter(|mark| mark.coop != self.me.name) {
            let key = room.log().and_then(|log| log.coop_key(&mark.coop));
            let Some(key) = key else { continue };
            if let Err(error) = room.mark(size, mark, &key) {
                tracing::warn!(room = number.0, %error, "a forged or damaged mark is dropped");
            }
        }
        self.announce_certificate(number);
        self.answer_watches(number);
    }

    /// Keeps the newest marks, so that they survive a restart.
    pub(super) fn store_marks(&mut self, number: RoomNumber) {
        let Some(best) = self.rooms.get(&number).and_then(|room| room.ledger().best()) else { return };
        let attestation = kith_protocol::codec::encode_attestation(best);
        self.write_lazily(Write::PutMarked { room: number, attestation });
    }

    /// Tells a room's sessions what certifies its newest commit.
    pub(super) fn announce_certificate(&mut self, number: RoomNumber) {
        let Some(log) = self.rooms.get(&number).and_then(Room::log) else { return };
        let of = (log.last_commit, log.term);
        if self.announced.get(&number) == Some(&of) {
            return;
        }
        let Some(attestation) = self.rooms.get(&number).and_then(|room| room.certificate_of_last_commit()).cloned() else { return };
        self.announced.insert(number, of);
        self.announce(number, &attestation);
    }

    fn announce(&mut self, number: RoomNumber, attestation: &Attestation) {
        let frame = ToMember::Attestation { room: number, attestation: attestation.clone() };
        for connection in self.subscribers.get(&number).cloned().unwrap_or_default() {
            let subscription = self.sessions.get_mut(&connection).and_then(|session| session.subscriptions.get_mut(&number));
            let Some(subscription) = subscription else { continue };
            if subscription.reading || subscription.lagging {
                // It is told once it has read to the end, also if it has missed nothing else.
                subscription.behind = true;
            } else {
                self.reply(connection, &frame);
            }
        }
    }
}
