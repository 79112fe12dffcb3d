//! Another hub: the first entry of a term is verified before anything of the term is taken. Where the term goes on from
//! before the end of what this device has, the rest is taken back: it was never certified, and comes again.

use kith_protocol::codec;
use kith_protocol::ids::{CoopName, Hash, PublicKey, RoomId, RoomNumber, Seq, Term};
use kith_protocol::log::merkle::{Frontier, leaf_hash};
use kith_protocol::log::pack::Unpacked;
use kith_protocol::log::succession::Succession;
use kith_protocol::log::{Header, Kind};
use kith_protocol::member::{Entries, ToServer};

use super::machine::{Core, Effect};
use super::state::{Base, Contests, Noted, RoomState, RowState, RowWhat};

impl Core {
    /// Nothing before here is ever cut.
    pub(super) fn set_base(state: &mut RoomState) {
        state.terms.clear();
        let (Contests { docket, activity, leavers, .. }, counters) = (state.contests.clone(), state.counters.clone());
        state.base = Base {
            size: state.size,
            frontier: state.frontier.clone(),
            last_time: state.last_time,
            senders: state.senders.len(),
            term: state.term,
            hub_name: state.hub_name.clone(),
            hub_key: state.hub_key,
            noted: Noted { counters, docket, activity, leavers },
        };
    }

    /// Whether what was sent is what this device has: a log that has an entry of the same term at the same place is the same
    /// up to there. `end`: after the last.
    pub(super) fn has_these(&self, room: &RoomId, end: u64, term: Term) -> bool {
        let Some(state) = self.rooms.get(room) else { return true };
        if end <= state.base.size || term.0 < state.base.term {
            return true;
        }
        let last = end - 1;
        let waits = self.session.logs.get(room).and_then(|view| view.waiting.iter().find(|entry| entry.header.seq.0 == last));
        let applied = || Term(state.terms.iter().rfind(|(_, at)| *at <= last).map_or(state.base.term, |(term, _)| *term));
        waits.map_or_else(applied, |entry| entry.header.term) == term
    }

    /// Entries of a term that was over here. The newer one may be a term that one's own co-op alone had: then all goes back to
    /// what cannot be cut, and what comes from there says which newer term it leads to.
    pub(super) fn older_term(&mut self, room: &RoomId, entries: &Entries) {
        let Some(state) = self.rooms.get_mut(room).filter(|state| state.cut.is_none()) else { return };
        let (base, size) = (state.base.size, state.size);
        if state.term <= entries.term.0 {
            // Only what waits to be applied was of the newer one.
            return self.ask_again(room, entries.room);
        }
        if base >= size || state.base.term > entries.term.0 {
            return self.distrust(room, "entries of a term that has ended".to_owned());
        }
        state.cut = Some(base);
        self.session.logs.remove(room);
        self.touch(room);
        self.loads.push(Effect::Load { room: *room, from: Seq(base) });
    }

    /// A batch of a newer term. `true`: the session's view goes on in it.
    pub(super) fn newer_term(&mut self, room: &RoomId, entries: &Entries) -> bool {
        let Some(state) = self.rooms.get(room) else { return false };
        let (size, base, cut) = (state.size, state.base.size, state.cut);
        let number = entries.room;
        let at = entries.first.0;
        if cut.is_some() {
            return false;
        }
        let Some(record) = entries.entries.first().filter(|entry| entry.kind == Kind::Succession).map(|entry| entry.body.clone()) else {
            // A term began before what came: everything since the last thing that cannot be cut is asked for again.
            self.session.logs.remove(room);
            self.sends.push(ToServer::Open { room: number, from: Seq(base) });
            return false;
        };
        let Some(view) = self.view(room) else { return false };
        if at > view.frontier.size() {
            self.ask_again(room, number);
            return false;
        }
        if at < base {
            self.distrust(room, "a new hub takes back what was certified".to_owned());
            return false;
        }
        if at < size {
            // Only what is on disk tells what is kept.
            if let Some(state) = self.rooms.get_mut(room) {
                state.cut = Some(at);
            }
            self.session.logs.remove(room);
            self.touch(room);
            self.loads.push(Effect::Load { room: *room, from: Seq(base) });
            return false;
        }
        self.shorten_view(room, at);
        match self.check_succession(room, &record) {
            Ok(record) => {
                if let Some(view) = self.view(room) {
                    view.term = record.term;
                    view.hub = Some(record.hub);
                }
                true
            }
            Err(why) => {
                self.distrust_history(room, why);
                false
            }
        }
    }

    /// What was sent here is not the room's log. What is certified is: majorities signed for it over roots that this device
    /// computed itself. The rest goes, and is read again from a co-op that has come to its senses.
    pub(super) fn distrust_history(&mut self, room: &RoomId, why: String) {
        if let Some(state) = self.rooms.get_mut(room) {
            let from = state.base.size;
            let certified = state.certified.clamp(from, state.size.max(from));
            if certified < state.size {
                state.cut = Some(certified);
                self.touch(room);
                self.loads.push(Effect::Load { room: *room, from: Seq(from) });
            }
        }
        self.distrust(room, why);
    }

    /// What waits beyond the new term's beginning is not taken.
    fn shorten_view(&mut self, room: &RoomId, at: u64) {
        let Some(view) = self.session.logs.remove(room) else { return };
        if view.frontier.size() <= at {
            self.session.logs.insert(*room, view);
            return;
        }
        let Some(size) = self.rooms.get(room).map(|state| state.size) else { return };
        for entry in view.waiting.into_iter().filter(|entry| (size..at).contains(&entry.header.seq.0)) {
            let sender = entry.header.id.sender;
            self.append(room, entry);
            if let Some(view) = self.view(room)
                && !view.senders.contains(&sender)
            {
                view.senders.push(sender);
            }
        }
    }

    fn check_succession(&mut self, room: &RoomId, body: &[u8]) -> Result<Succession, String> {
        let record = codec::decode_succession(body).map_err(|error| error.to_string())?;
        if self.has_convicted(room, &record.hub) {
            return Err("a co-op that broke its word in this room was made its hub again".to_owned());
        }
        let voters = self.electorate(room).ok_or("no such room")?;
        let coops = self.rooms.get(room).map(|state| state.coops.clone()).unwrap_or_default();
        let view = self.view(room).ok_or("no such room")?;
        let key_of = |name: &CoopName| coops.get(name.as_str()).copied().map(PublicKey);
        if record.room != *room {
            return Err("the votes for a new hub are of another room".to_owned());
        }
        record.verify(&voters, key_of).map_err(|error| error.to_string())?;
        record.stands(view.term, view.frontier.size(), &view.frontier.root()).map_err(|error| error.to_string())?;
        Ok(record)
    }

    /// Verified when it came.
    pub(super) fn apply_succession(&mut self, room: &RoomId, entry: &Unpacked) -> RowWhat {
        let Ok(record) = codec::decode_succession(&entry.body) else { return RowWhat::Nothing };
        let Some(state) = self.rooms.get_mut(room) else { return RowWhat::Nothing };
        state.term = record.term.0;
        state.terms.push((record.term.0, entry.header.seq.0));
        state.hub_name = record.hub.name.to_string();
        state.hub_key = record.hub.key.0;
        // What was handed to the hub before, and has no place, is handed in again.
        self.session.sent.retain(|(of, _)| of != room);
        RowWhat::HubChanged(record.hub.name.to_string())
    }

    /// Lines of the timeline that [`Effect::Load`] asked for, in order.
    pub fn handle_rows(&mut self, room: &RoomId, rows: &[Vec<u8>]) {
        let taken = self.cut_back(room, rows);
        if let Some(state) = self.rooms.get_mut(room) {
            state.cut = None;
        }
        if taken.is_none() {
            self.distrust(room, "this device's own lines do not add up to what it has read".to_owned());
        }
        let number = self.rooms.get(room).and_then(|state| state.number);
        if let (Some(number), Some(state)) = (number, self.rooms.get(room)) {
            let from = Seq(state.size);
            self.session.logs.remove(room);
            self.sends.push(ToServer::Open { room: RoomNumber(number), from });
        }
        self.touch(room);
        self.finish();
    }

    /// A room that was cut is read from there, whatever cursor the server has. Where this device is stopped by what it was sent, it
    /// asks whether that was signed.
    pub(super) fn reopen_rooms(&mut self) {
        for state in self.rooms.values().filter(|state| state.is_cut_back) {
            if let Some(number) = state.number {
                self.sends.push(ToServer::Open { room: RoomNumber(number), from: Seq(state.size) });
            }
        }
        let stopped = self.rooms.iter().filter(|(_, state)| state.out_of_step.is_some());
        let stopped: Vec<(RoomId, u64)> = stopped.map(|(room, state)| (*room, state.size)).collect();
        stopped.iter().for_each(|(room, size)| self.ask_for_mark(room, *size));
    }

    fn cut_back(&mut self, room: &RoomId, rows: &[Vec<u8>]) -> Option<()> {
        let device = self.device_number();
        let state = self.rooms.get_mut(room)?;
        let at = state.cut?;
        let base = state.base.clone();
        let mut frontier = Frontier::from_parts(base.size, base.frontier.iter().map(|node| Hash(*node)).collect()).ok()?;
        let mut last_time = base.last_time;
        let mut senders = state.senders[..base.senders.min(state.senders.len())].to_vec();
        let (mut term, mut hub_name, mut hub_key) = (base.term, base.hub_name, base.hub_key);
        let (mut gone, mut kept, mut terms) = (Vec::new(), Vec::new(), Vec::new());
        for bytes in rows {
            let row: RowState = postcard::from_bytes(bytes).ok()?;
            let header = Header::decode(&row.header).ok()?;
            if header.seq.0 >= at {
                gone.push((header, row.what));
            } else if header.seq.0 == frontier.size() {
                frontier.push(leaf_hash(&row.header));
                last_time = last_time.max(header.time.0);
                if let RowWhat::HubChanged(name) = &row.what {
                    hub_key = *state.coops.get(name)?;
                    (term, hub_name) = (header.term.0, name.clone());
                    terms.push((term, header.seq.0));
                }
                if !senders.contains(&header.id.sender.0) {
                    senders.push(header.id.sender.0);
                }
                kept.push((header, row.what));
            }
        }
        if frontier.size() != at {
            return None;
        }
        state.size = at;
        state.frontier = frontier.nodes().iter().map(|node| node.0).collect();
        (state.last_time, state.senders) = (last_time, senders);
        (state.term, state.hub_name, state.hub_key, state.terms) = (term, hub_name, hub_key, terms);
        Self::note_again(state, base.noted, &kept);
        state.certified = state.certified.min(at);
        state.is_cut_back = true;
        state.held.values_mut().for_each(|held| *held = at.min(*held));
        state.done.retain(|(_, seq)| *seq < at);
        state.out_of_step = state.out_of_step.filter(|seq| *seq < at);
        for item in &mut state.outbox {
            item.seq = item.seq.filter(|seq| *seq < at);
        }
        for (header, what) in gone {
            self.rows.push((super::machine::row_key(room, header.seq), None));
            let Some(state) = self.rooms.get_mut(room) else { continue };
            let (who, of) = (header.id.sender.0, header.id.counter.device);
            let is_own = who == state.pseudonym && of == device;
            // What of one's own was certified has left the outbox.
            let waits = is_own && state.outbox.iter().any(|item| Self::is_made_as(item, &header));
            match what {
                RowWhat::Left => state.left.retain(|left| *left != who),
                RowWhat::Content(_) if !waits => Self::keep_loose(state, &header, what),
                _ => {}
            }
        }
        self.session.sent.retain(|(of, _)| of != room);
        Some(())
    }

    /// The log was cut: all is as it was at the base, and what has stood since then is noted anew.
    pub(super) fn note_again(state: &mut RoomState, base: Noted, kept: &[(Header, RowWhat)]) {
        let contests = &mut state.contests;
        (contests.docket, contests.activity, contests.leavers) = (base.docket, base.activity, base.leavers);
        state.counters = base.counters;
        for (header, what) in kept {
            let Some(index) = state.senders.iter().position(|who| *who == header.id.sender.0) else { continue };
            match what {
                RowWhat::Left => state.contests.leavers.push(header.id.sender.0),
                RowWhat::Complained => {
                    let mut docket = Self::settled_docket(state);
                    // A complaint that counts is of its own epoch's commit.
                    if let Some(contest) = docket.contests.iter_mut().find(|contest| contest.epoch == header.epoch) {
                        contest.complaints.push(index as u32);
                    }
                    state.contests.docket = codec::encode_docket(&docket);
                }
                RowWhat::Unreadable(_) if header.kind != Kind::Message => continue,
                _ => {}
            }
            Self::note(state, header, index);
        }
    }
}
