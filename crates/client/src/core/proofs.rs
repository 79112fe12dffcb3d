//! Rooms in which somebody broke their word: the proof is checked here, kept, and shown in plain words. What the member says
//! goes on reaching those of its own co-op; nothing more is taken from that hub in that term.

use kith_protocol::ids::{Coop, PublicKey, RoomId, RoomNumber, Seq};
use kith_protocol::log::proof::Proof;
use kith_protocol::log::voters::Electorate;

use super::machine::{Core, CoreError, Event};
use super::state::RoomState;

impl Core {
    /// One's own co-op says that a room is frozen, and proves it.
    pub(super) fn frozen_came(&mut self, number: RoomNumber, proof: &Proof) {
        let Some(room) = self.room_by_number(number) else { return };
        let Some(state) = self.rooms.get_mut(&room) else { return };
        // One of another term says nothing of what this device reads now.
        if *proof.room() != room || proof.term() != Self::term(state) {
            return;
        }
        let convicted = proof.convicted();
        let is_of_room = match proof {
            Proof::Fork(_) => convicted.name.as_str() == state.hub_name && convicted.key.0 == state.hub_key,
            Proof::DoubleVote(_) => {
                let voters =
                    Electorate { before: state.voters_before.voters(), after: state.voters.voters(), commit: Seq(state.last_commit) };
                let key = state.coops.get(convicted.name.as_str()).copied().map(PublicKey);
                key == Some(convicted.key) && voters.counts(&convicted.name)
            }
        };
        if !is_of_room || proof.verify().is_err() {
            return self.distrust(&room, "the co-op says that this room is frozen, and its proof proves nothing".to_owned());
        }
        if Self::frozen_by(state).is_some() {
            return;
        }
        state.proof = Some(proof.to_file());
        self.touch(&room);
        self.events.push(Event::Frozen { room, words: proof.words() });
    }

    fn frozen_by(state: &RoomState) -> Option<Proof> {
        let proof = Proof::from_file(state.proof.as_deref()?).ok()?;
        (proof.term() == Self::term(state)).then_some(proof)
    }

    /// Whoever broke its word here orders this room no more.
    pub(super) fn has_convicted(&self, room: &RoomId, coop: &Coop) -> bool {
        let proof = self.rooms.get(room).and_then(|state| Proof::from_file(state.proof.as_deref()?).ok());
        proof.is_some_and(|proof| proof.convicted() == coop)
    }

    /// Why the room is frozen, in plain words. `None`: it is not.
    pub fn frozen(&self, room: &RoomId) -> Option<String> {
        self.rooms.get(room).and_then(Self::frozen_by).map(|proof| proof.words())
    }

    /// The newest proof about this room, as it is handed around: of this term or of one that has ended.
    pub fn proof(&self, room: &RoomId) -> Result<Option<String>, CoreError> {
        self.room(room).map(|state| state.proof.clone())
    }
}
