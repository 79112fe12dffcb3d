//! Messages that were read and have no place: delivered by one's own co-op while the hub was away, or robbed of their
//! place when another hub took over. Each is decrypted once; when it comes with a place, what was read is used.

use kith_protocol::codec;
use kith_protocol::content::Content;
use kith_protocol::ids::{EntryId, Pseudonym, RoomId, RoomNumber, Seq};
use kith_protocol::limits::{LOOSE_MAX, PAST_EPOCHS_MAX};
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::pack::{Unpacked, extra_of};
use kith_protocol::log::provisional::Provisional;
use kith_protocol::log::{Header, Kind};

use super::machine::Core;
use super::state::{Loose, Phase, RoomState, RowWhat};

impl Core {
    /// Messages of members of one's own co-op, which the hub has not ordered.
    pub(super) fn provisionals_came(&mut self, number: RoomNumber, entries: Vec<Provisional>) {
        let (Some(room), Ok(coop)) = (self.room_by_number(number), self.coop()) else { return };
        for entry in entries {
            if entry.verify(&room, &coop.key).is_err() {
                return self.distrust(&room, "the co-op did not sign what it delivered".to_owned());
            }
            self.provisional_came(&room, &entry);
        }
    }

    fn provisional_came(&mut self, room: &RoomId, entry: &Provisional) {
        let Some(state) = self.rooms.get(room).filter(|state| matches!(state.phase, Phase::Active)) else { return };
        let id = entry.id;
        let is_own = id.sender.0 == state.pseudonym;
        let has_place = state.counters.get(&(id.sender.0, id.counter.device)).is_some_and(|last| *last >= id.counter.number);
        let is_readable = (state.joined_epoch..=state.epoch).contains(&entry.epoch.0) && state.epoch - entry.epoch.0 <= PAST_EPOCHS_MAX;
        let body_hash = hash_bytes(&entry.body);
        let is_known = state.loose.iter().any(|loose| Self::is_loose(loose, &id.sender, id.counter.device, id.counter.number));
        if is_own || has_place || is_known || !is_readable {
            return;
        }
        let Ok(extra) = extra_of(Kind::Message, &entry.body, None) else { return };
        let term = Self::term(state);
        let header =
            Header { room: *room, seq: Seq(0), term, epoch: entry.epoch, kind: Kind::Message, id, time: entry.time, body_hash, extra };
        let Ok(content) = self.open(room, &Unpacked { header, body: entry.body.clone() }) else { return };
        let Some(state) = self.rooms.get_mut(room) else { return };
        if let Content::Profile { name } = Self::content(&content) {
            state.names.insert(id.sender.0, name);
        }
        Self::keep_loose(state, &header, RowWhat::Content(content));
        self.touch(room);
    }

    fn is_loose(loose: &Loose, sender: &Pseudonym, device: u16, counter: u64) -> bool {
        (loose.sender, loose.device, loose.counter) == (sender.0, device, counter)
    }

    pub(super) fn keep_loose(state: &mut RoomState, header: &Header, what: RowWhat) {
        let counter = header.id.counter;
        Self::drop_loose(state, &header.id);
        state.loose.push(Loose {
            sender: header.id.sender.0,
            device: counter.device,
            counter: counter.number,
            epoch: header.epoch.0,
            at: header.time.0,
            body_hash: header.body_hash.0,
            what,
        });
        if state.loose.len() > LOOSE_MAX {
            state.loose.remove(0);
        }
    }

    /// An entry has its place: what was read of it before, if it is the very same body.
    pub(super) fn take_loose(&mut self, room: &RoomId, entry: &Unpacked) -> Option<Vec<u8>> {
        let state = self.rooms.get_mut(room)?;
        let id = entry.header.id;
        let at = state.loose.iter().position(|loose| Self::is_loose(loose, &id.sender, id.counter.device, id.counter.number))?;
        if state.loose[at].body_hash != entry.header.body_hash.0 {
            return None;
        }
        match state.loose.remove(at).what {
            RowWhat::Content(content) => codec::decode_content(&content).is_ok().then_some(content),
            _ => None,
        }
    }

    /// Its sender had encrypted it anew under the same id: what was read of it before is not shown beside it.
    pub(super) fn drop_loose(state: &mut RoomState, id: &EntryId) {
        state.loose.retain(|loose| !Self::is_loose(loose, &id.sender, id.counter.device, id.counter.number));
    }
}
