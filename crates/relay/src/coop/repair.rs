//! A room whose rows are lost or damaged on this co-op's disk. It is said so, and the room comes again, whole, from a holder
//! that has it: verified like any other log. Nothing is thrown away before such a holder has been heard.
//!
//! A disk that lost rows may have lost anything, such as a vote: to the co-op it is a store that was put back from a backup.

use kith_protocol::ids::{CoopName, Hash, RoomId, RoomNumber, Seq};
use kith_protocol::log::Header;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::{leaf_hash, node_hash};
use kith_storage::{LogRow, RoomRow, Write};

use super::machine::Coop;
use super::waiting::After;
use crate::room::{Extent, Room};

/// Headers of consecutive rows of a room, if these are what was once written: each in its place, with its body, and two and
/// two under the node of the tree that stands beside the second.
pub(super) fn parse_rows(room: &RoomId, from: Seq, rows: Vec<LogRow>) -> Option<Vec<(Header, LogRow)>> {
    let mut before: Option<Hash> = None;
    let parse = |(row, seq): (LogRow, u64)| {
        let header = Header::decode(&row.header).ok()?;
        let is_whole = header.seq.0 == seq && header.room == *room && header.body_hash == hash_bytes(&row.body);
        let leaf = leaf_hash(&row.header);
        let node = row.nodes.get(..leaf.0.len());
        let is_in_tree = before.filter(|_| seq % 2 == 1).is_none_or(|left| node == Some(&node_hash(&left, &leaf).0[..]));
        before = Some(leaf);
        (is_whole && is_in_tree).then_some((header, row))
    };
    rows.into_iter().zip(from.0..).map(parse).collect()
}

impl Coop {
    /// Rooms that are damaged here and have not come again.
    pub fn rooms_damaged(&self) -> usize {
        self.damaged.len()
    }

    /// What is read of a room is not what was written.
    pub(super) fn found_damaged(&mut self, number: RoomNumber) {
        let Some(room) = self.rooms.get(&number) else { return };
        let row = RoomRow { number, id: room.id, hub: room.hub.clone() };
        if self.damaged.insert(number, row).is_none() {
            tracing::error!(room = number.0, "a room's rows are lost or damaged here; it is fetched again from its other holders");
            self.begin_incarnation();
        }
    }

    /// A holder has a room that is damaged here. `true`: it will come from there.
    pub(super) fn repair_from(&mut self, peer: &CoopName, id: &RoomId, theirs: Extent) -> bool {
        let number = self.room_numbers.get(id).copied().filter(|number| self.damaged.contains_key(number));
        let Some(room) = number.filter(|_| theirs.size > 0 && self.neighbours.covers(peer, id, self.wall)) else { return false };
        // Whatever of it is on its way to the disk is there then.
        self.after.push(After::Repair { room, peer: peer.clone() });
        true
    }

    pub(super) fn repair(&mut self, number: RoomNumber, peer: &CoopName) {
        let Some(row) = self.damaged.remove(&number) else { return };
        let mut empty = Room::empty(number, row.id, row.hub, self.me.name.clone());
        if let Some(old) = self.rooms.remove(&number) {
            empty.keep_words(old);
        }
        empty.mark_restored();
        self.rooms.insert(number, empty);
        self.dirty.retain(|dirty| *dirty != number);
        self.rebuilds.remove(&number);
        self.early.remove(&number);
        self.following.remove(&number);
        self.feeds.retain(|(_, fed), _| *fed != number);
        self.elections.forget(number);
        self.standstill.forget(number);
        self.forget_marks(number);
        self.write(Write::ClearLog { room: number });
        self.follow_from(peer, number);
    }
}
