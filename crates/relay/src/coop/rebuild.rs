//! A log that a newer term goes on from an earlier place of is cut there: what is kept is read again from the start and
//! judged anew, so that the group's state is the one of that place. What is cut and came from members of this co-op is
//! handed in again; nothing that was certified is ever cut.

use bytes::Bytes;
use kith_protocol::error::Code;
use kith_protocol::ids::{Pseudonym, RoomNumber, Seq};
use kith_protocol::judge::RoomFacts;
use kith_protocol::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use kith_protocol::link::Submission;
use kith_protocol::log::checkpoint::Attestation;
use kith_protocol::log::succession::Succession;
use kith_protocol::log::{Header, Kind};
use kith_storage::{LogRow, Write};

use super::machine::Coop;
use super::outbox;
use super::repair::parse_rows;
use super::types::Read;
use super::waiting::{After, Reader};
use crate::room::log::Log;

/// A rebuild under way.
#[derive(Debug)]
pub struct Rebuild {
    /// What begins the newer term. Whether it does is judged by the log as it is rebuilt.
    record: Succession,
    /// The last checkpoint that counts.
    until: Attestation,
    log: Option<Log>,
    cut: Vec<(Header, LogRow)>,
}

impl Coop {
    /// Begins. Nothing may be on its way to the store: otherwise it begins again with the next batch.
    pub(super) fn rebuild(&mut self, number: RoomNumber, record: Succession) {
        let Some(room) = self.rooms.get(&number) else { return };
        let Some(until) = room.log().and_then(|log| log.common_end(&record)) else { return };
        if self.rebuilds.contains_key(&number) {
            return;
        }
        if until.checkpoint.size < room.certified_size() {
            tracing::error!(room = number.0, "a newer term takes back what was certified; it is not followed");
            return;
        }
        if room.size() != room.durable() || room.staged_len() > 0 {
            self.after.push(After::FollowNew { room: number });
            return;
        }
        tracing::info!(
            room = number.0,
            size = until.checkpoint.size,
            "a newer term goes on from an earlier place; the log is rebuilt up to it"
        );
        self.rooms.get_mut(&number).into_iter().for_each(|room| room.hold_still(true));
        self.rebuilds.insert(number, Rebuild { record, until, log: None, cut: Vec::new() });
        self.read_for_rebuild(number, Seq(0));
    }

    fn read_for_rebuild(&mut self, number: RoomNumber, from: Seq) {
        let read = Read::Entries { room: number, from, rows_max: BATCH_ENTRIES_MAX, bytes_max: BATCH_BYTES_MAX };
        self.read(Reader::Rebuild { room: number, from }, read);
    }

    /// Ended, in whatever way: the room may be ordered and grow again.
    pub(super) fn end_rebuild(&mut self, number: RoomNumber) -> Option<Rebuild> {
        self.rooms.get_mut(&number).into_iter().for_each(|room| room.hold_still(false));
        self.rebuilds.remove(&number)
    }

    pub(super) fn rebuild_read(&mut self, number: RoomNumber, from: Seq, rows: Vec<LogRow>) {
        let Some(mut rebuild) = self.end_rebuild(number) else { return };
        let next = Seq(from.0 + rows.len() as u64);
        let Some(room) = self.rooms.get(&number) else { return };
        let (id, end) = (room.id, room.durable());
        let Some(rows) = parse_rows(&id, from, rows) else {
            return self.found_damaged(number);
        };
        for (header, row) in rows {
            if header.seq.0 >= rebuild.until.checkpoint.size {
                rebuild.cut.push((header, row));
            } else if let Some(log) = &mut rebuild.log {
                let _ = log.replay(&header, &row.body, &row.group_info);
            } else if let Ok(mut log) = Log::create(&id, &header.id.sender, &row.body) {
                log.push(&header, true);
                rebuild.log = Some(log);
            }
        }
        if next.0 < end && next != from {
            self.rooms.get_mut(&number).into_iter().for_each(|room| room.hold_still(true));
            self.rebuilds.insert(number, rebuild);
            return self.read_for_rebuild(number, next);
        }
        self.finish_rebuild(number, rebuild);
    }

    fn finish_rebuild(&mut self, number: RoomNumber, rebuild: Rebuild) {
        let Rebuild { record, until, log: Some(log), cut } = rebuild else { return };
        let checkpoint = until.checkpoint;
        if log.frontier.size() != checkpoint.size || log.frontier.root() != checkpoint.root || log.term != checkpoint.term {
            tracing::error!(room = number.0, "the newer term goes on from a history that this co-op was never shown");
            return;
        }
        if let Err(error) = record.verify(&log.electorate(), |name| log.coop_key(name)) {
            tracing::warn!(room = number.0, %error, "those who voted for a newer term's hub do not seat it; nothing is cut");
            return self.refollow_later(number);
        }
        let Some(room) = self.rooms.get_mut(&number) else { return };
        if room.size() != room.durable() || room.staged_len() > 0 || checkpoint.size < room.certified_size() {
            // Something came meanwhile: it is looked at again from the beginning.
            return self.refollow_later(number);
        }
        // Another hub has been seated: where this co-op was the hub itself, it orders nothing more, here least of all.
        room.fence(record.term);
        let truncate = room.adopt(log, until);
        let id = room.id;
        self.forget_marks(number);
        self.announced.remove(&number);
        self.early.remove(&number);
        self.write(Write::Truncate(truncate));
        for (header, row) in cut {
            let is_ours = self.accounts.contains_key(&(id, header.id.sender));
            let is_handed_in = header.id.sender != Pseudonym::ROOM && header.kind.is_members();
            let is_join = header.kind == Kind::Commit && !self.rooms.get(&number).is_some_and(|room| room.is_member(&header.id.sender));
            if is_ours && is_join {
                // It was made for another place: the joiner makes it anew.
                let (who, counter) = (header.id.sender, header.id.counter);
                for connection in self.sessions_of(&id, &who, counter.device) {
                    self.refuse_entry(connection, number, counter.number, Code::WrongEpoch, "the room has another hub", 0);
                }
            } else if is_ours && is_handed_in && self.outbox.get(number, &header.id).is_none() {
                let group_info = if header.kind == Kind::Commit { row.group_info } else { Bytes::new() };
                let submission =
                    Submission { room: id, id: header.id, epoch: header.epoch, kind: header.kind, body: row.body, group_info, base: None };
                self.write(Write::PutPending { room: number, id: header.id, submission: outbox::encode(&submission) });
                self.outbox.restore_one(number, submission);
            }
        }
        self.after.push(After::Rebuilt { room: number });
    }

    /// Sessions read on from the cut, and the room is asked for again from there.
    pub(super) fn rebuilt(&mut self, number: RoomNumber) {
        let Some(size) = self.rooms.get(&number).map(|room| Seq(room.durable())) else { return };
        for connection in self.subscribers.get(&number).cloned().unwrap_or_default() {
            if let Some(subscription) = self.sessions.get_mut(&connection).and_then(|session| session.subscriptions.get_mut(&number)) {
                subscription.next = size.min(subscription.next);
            }
        }
        self.feeds.retain(|(_, room), _| *room != number);
        self.follow_room(number);
    }
}
