//! A co-op that shows others what it does not have. Its keys sign nothing that is not so: what a hub signs twice is another
//! matter, and ends in a proof.

use bytes::Bytes;
use kith_protocol::codec::{Encoding, decode_link, decode_to_member, encode_link, encode_to_member};
use kith_protocol::ids::ConnectionId;
use kith_protocol::link::LinkFrame;
use kith_protocol::member::{Entries, ToMember};

use crate::checks::Violation;
use crate::dice::Dice;
use crate::network::Place;
use crate::weather::Heal;
use crate::world::{Event, World};

/// Within this everybody is connected, and has an answer, in calm weather, milliseconds.
const CONNECTED_MS: u64 = 5_000;
/// A member noticed that its co-op lied.
pub(crate) const FOUND_OUT: &str = "a liar is found out";
/// One frame with entries in so many is a lie.
const LIE_ONE_IN: u64 = 3;

/// What becomes of a frame on its way out. `None`: it is the truth.
fn told(dice: &mut Dice, is_link: bool, bytes: &Bytes) -> Option<Bytes> {
    if is_link {
        let Ok(LinkFrame::Batch(mut batch)) = decode_link(bytes.clone()) else { return None };
        spoil(dice, &mut batch.entries).then(|| encode_link(&LinkFrame::Batch(batch)))
    } else {
        let Ok(ToMember::Entries(mut entries)) = decode_to_member(bytes.clone(), Encoding::Binary) else { return None };
        spoil(dice, &mut entries).then(|| encode_to_member(&ToMember::Entries(entries), Encoding::Binary))
    }
}

fn spoil(dice: &mut Dice, entries: &mut Entries) -> bool {
    let rows = &mut entries.entries;
    if rows.is_empty() || dice.roll(LIE_ONE_IN) > 0 {
        return false;
    }
    let at = dice.roll(rows.len() as u64) as usize;
    match dice.roll(6) {
        0 if rows.len() > 1 => drop(rows.remove(at)),
        1 if at > 0 => rows.swap(at - 1, at),
        2 => rows[at].epoch_delta -= 1,
        3 => rows[at].time_delta += 1,
        4 => rows[at].counter += 1,
        _ => {
            let mut body = rows[at].body.to_vec();
            let byte = dice.roll(body.len().max(1) as u64) as usize;
            body.get_mut(byte).into_iter().for_each(|byte| *byte ^= 4);
            rows[at].body = body.into();
        }
    }
    true
}

impl World {
    /// A co-op shows members and neighbours something else than it has.
    pub(crate) fn lie(&mut self) {
        let coop = self.any_coop();
        let delay = self.spell();
        self.note(|_| format!("co-op {coop} lies for {delay} ms"));
        (self.coops[coop].is_lying, self.coops[coop].has_lied) = (true, true);
        self.clock.after(delay, Event::Heal(Heal::Truth(coop)));
    }

    pub(crate) fn tell_the_truth(&mut self, coop: usize) {
        if std::mem::take(&mut self.coops[coop].is_lying) {
            let of_coop: Vec<usize> = (0..self.members.len()).filter(|member| self.members[*member].coop == coop).collect();
            of_coop.into_iter().for_each(|member| self.cut_member(member));
        }
    }

    /// Members of whoever has lied hold what they have read against what the room's co-ops signed, until nothing more is found.
    pub(crate) fn look_for_lies(&mut self, begun: u64) -> Result<(), Violation> {
        let doubts = |world: &Self, member: &usize| world.coops[world.members[*member].coop].has_lied;
        let members: Vec<usize> = (0..self.members.len()).filter(|member| doubts(self, member)).collect();
        let found = |world: &Self| world.faults.get(FOUND_OUT).copied();
        let mut before = None;
        while !members.is_empty() && (before.is_none() || before != Some(found(self))) {
            before = Some(found(self));
            // Who believes in a dead connection would ask nobody.
            members.iter().for_each(|member| self.cut_member(*member));
            self.go_on(CONNECTED_MS)?;
            for member in &members {
                let rooms = self.members[*member].core.room_ids();
                rooms.iter().for_each(|room| self.members[*member].core.watch(room, 1));
                self.member_acts(*member);
            }
            self.go_on(CONNECTED_MS)?;
            self.come_to_rest(begun)?;
        }
        Ok(())
    }

    /// What a place sends, as it tells it.
    pub(crate) fn as_told(&mut self, connection: ConnectionId, from: Place, bytes: Bytes) -> Bytes {
        let is_liar = matches!(from, Place::Coop(coop) if self.coops[coop].is_lying);
        let Some(line) = self.network.line(connection).filter(|_| is_liar) else { return bytes };
        let is_link = line.is_link();
        let Some(lie) = told(&mut self.dice, is_link, &bytes) else { return bytes };
        self.count(if is_link { "a neighbour is lied to" } else { "a member is lied to" });
        lie
    }
}
