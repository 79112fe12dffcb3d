//! What the drivers do: feeds machines their inputs, carries out their effects, commits what they want written, and lets
//! processes die at the worst moments.

use bytes::Bytes;
use kith_client::core::Event as Told;
use kith_protocol::codec::{Encoding, encode_to_server};
use kith_protocol::ids::{ConnectionId, RoomNumber, Seq};
use kith_relay::coop::{Effect, Input, Read};
use kith_storage::fault::{Fault, Faulty};
use kith_storage::{StoreError, Write};

use crate::checks::{Check, Violation};
use crate::lies::FOUND_OUT;
use crate::member::Step;
use crate::mutant::Mutant;
use crate::network::Place;
use crate::script::short;
use crate::world::{Event, World};

/// Places in a session's queue that entries leave free for answers, as in the driver.
const QUEUE_RESERVE: usize = 32;
/// Between two looks of a device at what was refused for now, milliseconds.
const TICK_MS: u64 = 300;

impl World {
    /// Hands an input to a machine whose effects are being carried out.
    pub(crate) fn tell(&mut self, coop: usize, input: Input) {
        let now = self.clock.now();
        let (millis, wall) = (self.coops[coop].millis(now), self.coops[coop].wall(now));
        if let Some(machine) = self.coops[coop].machine.as_mut() {
            machine.handle(millis, wall, input);
        }
    }

    pub(crate) fn input(&mut self, coop: usize, input: Input) {
        self.tell(coop, input);
        while let Some(effect) = self.coops[coop].machine.as_mut().and_then(kith_relay::coop::Coop::poll_effect) {
            self.carry_out(coop, effect);
        }
        self.start_commit(coop);
        self.wake_in_time(coop);
    }

    fn carry_out(&mut self, coop: usize, effect: Effect) {
        match effect {
            Effect::ToMember { connection, bytes } => self.answer(coop, connection, bytes),
            Effect::Deliver { to, room, first, bytes } => {
                to.into_iter().for_each(|connection| self.deliver(coop, connection, room, first, bytes.clone()));
            }
            Effect::CloseMember { connection } | Effect::CloseLink { connection } => {
                if let Some(line) = self.network.line(connection) {
                    let side = line.side_of(Place::Coop(coop));
                    self.hang_up(connection, side);
                }
            }
            Effect::ToLink { connection, bytes } => self.send_over_link(coop, connection, bytes),
            Effect::Read { id, read } => {
                // What everybody reads now and then takes nothing from the dice.
                let is_scrub = matches!(read, Read::Scrub { .. });
                let result = self.coops[coop].read(read);
                let delay = if is_scrub { 3 } else { self.dice.between(1, 5) };
                let life = self.coops[coop].life;
                self.clock.after(delay, Event::Input { coop, life, input: Box::new(Input::ReadDone { id, result }) });
            }
            Effect::LinkKnown { .. } | Effect::LinkUp { .. } | Effect::Steward { .. } | Effect::NeighboursChanged => {}
        }
    }

    /// Messages on their way through a session's queue. `None`: the session is gone.
    fn queued(&self, coop: usize, connection: ConnectionId) -> Option<usize> {
        let line = self.network.line(connection)?;
        let side = line.side_of(Place::Coop(coop));
        line.open[side].then_some(line.queued[1 - side])
    }

    fn answer(&mut self, coop: usize, connection: ConnectionId, bytes: Bytes) {
        let Some(queued) = self.queued(coop, connection) else { return };
        if queued >= self.plan.session_queue {
            self.count("a session does not read at all");
            if let Some(line) = self.network.line(connection) {
                let side = line.side_of(Place::Coop(coop));
                self.hang_up(connection, side);
            }
            return self.tell(coop, Input::MemberClosed { connection });
        }
        self.send(connection, Place::Coop(coop), bytes);
    }

    fn deliver(&mut self, coop: usize, connection: ConnectionId, room: RoomNumber, first: Seq, bytes: Bytes) {
        let Some(queued) = self.queued(coop, connection) else { return };
        if queued + QUEUE_RESERVE < self.plan.session_queue {
            self.send(connection, Place::Coop(coop), bytes);
            return;
        }
        self.count("a session lags");
        if let Some(line) = self.network.line_mut(connection) {
            line.lagging = queued > 0;
        }
        self.tell(coop, Input::Undelivered { connection, room, first });
        if queued == 0 {
            self.tell(coop, Input::MemberDrained { connection });
        }
    }

    fn start_commit(&mut self, coop: usize) {
        if self.coops[coop].writes.is_none()
            && let Some(writes) = self.coops[coop].machine.as_mut().and_then(kith_relay::coop::Coop::poll_commit)
        {
            self.coops[coop].writes = Some(writes);
            let (delay, life) = (self.dice.between(1, 8), self.coops[coop].life);
            self.clock.after(delay, Event::Commit { coop, life });
        }
    }

    /// A machine is told that time has passed when it asked for it.
    fn wake_in_time(&mut self, coop: usize) {
        let now = self.clock.now();
        let host = &mut self.coops[coop];
        let Some(deadline) = host.machine.as_ref().and_then(kith_relay::coop::Coop::poll_deadline) else { return };
        // A deadline that cannot be met yet is looked at again a little later, not at once.
        let at = (deadline.0 + host.started).max(now + 1);
        if host.wakes.is_none_or(|sooner| sooner <= now || at < sooner) {
            host.wakes = Some(at);
            let life = host.life;
            self.clock.at(at, Event::Wake { coop, life });
        }
    }

    pub(crate) fn wake(&mut self, coop: usize) {
        if self.coops[coop].wakes == Some(self.clock.now()) {
            self.coops[coop].wakes = None;
            self.input(coop, Input::Tick);
        }
    }

    /// What a transaction meets.
    fn fate(&mut self, coop: usize) -> Option<Fault> {
        if self.clock.now() < self.coops[coop].full_until {
            return Some(Fault::Full);
        }
        let dies = self.is_rough() && self.dice.roll(self.plan.crash_one_in) == 0;
        dies.then(|| if self.dice.roll(2) == 0 { Fault::BeforeApply } else { Fault::AfterApply })
    }

    /// The transaction becomes durable, or not.
    pub(crate) fn commit(&mut self, coop: usize) {
        let Some(mut writes) = self.coops[coop].writes.take() else { return };
        if let Some(mutant) = self.plan.mutant.filter(|_| self.is_rough()) {
            mutant.spoil(coop, &mut writes, &mut self.keeps);
            self.keep_what_is_lost(coop, mutant, &writes);
        }
        let fault = self.fate(coop);
        let seen = writes.clone();
        let outcome = self.coops[coop].commit(writes, fault);
        if outcome.is_ok() || fault == Some(Fault::AfterApply) {
            self.witness_commit(coop, &seen);
            self.age_backup(coop, &seen);
        }
        match outcome {
            Ok(()) => self.input(coop, Input::Committed),
            Err(StoreError::Full) => {
                self.count("a transaction finds the disk full");
                self.input(coop, Input::DiskFull);
            }
            Err(StoreError::Failed(_)) => {
                self.count(if fault == Some(Fault::AfterApply) { "crash after a commit" } else { "crash before a commit" });
                self.crash_coop(coop);
            }
            Err(error) => self.violated(Violation::new(Check::Machines, format!("co-op {coop}: {error}"))),
        }
    }

    fn keep_what_is_lost(&mut self, coop: usize, mutant: Mutant, writes: &[Write]) {
        // A commit: its certificate tells everybody that this co-op holds it.
        let has_commit = |write: &Write| matches!(write, Write::Append(append) if append.rows.iter().any(|row| !row.group_info.is_empty()));
        let grows = writes.iter().any(has_commit);
        if mutant == Mutant::LosesWrites && coop == 0 && grows && self.lost.is_none() {
            self.lost = Some(self.coops[0].store.inner().fork());
            let life = self.coops[0].life;
            self.clock.after(600, Event::Crash { coop, life });
        }
    }

    pub(crate) fn crash_coop(&mut self, coop: usize) {
        self.coops[coop].crash();
        if coop == 0
            && let Some(lost) = self.lost.take()
        {
            self.coops[0].store = Faulty::new(lost);
        }
        self.witness_crash(coop);
        self.cut_all(Place::Coop(coop));
        let (delay, life) = (self.dice.between(100, 3_000), self.coops[coop].life);
        self.clock.after(delay, Event::Restart { coop, life });
    }

    /// Dies, and comes back only after that time.
    pub fn be_absent(&mut self, coop: usize, for_ms: u64) {
        self.coops[coop].crash();
        self.witness_crash(coop);
        self.cut_all(Place::Coop(coop));
        let life = self.coops[coop].life;
        self.clock.after(for_ms, Event::Restart { coop, life });
    }

    pub(crate) fn restart(&mut self, coop: usize) {
        self.coops[coop].start(self.clock.now());
        self.note(|_| format!("co-op {coop} is back"));
        // Its first step: nothing may be lost for want of an input.
        self.input(coop, Input::Tick);
        self.dial_all(coop);
    }

    /// Steps of a member's core end here: persist, then send.
    pub(crate) fn member_acts(&mut self, member: usize) {
        let torn = self.is_rough() && self.dice.roll(self.plan.tear_one_in) == 0;
        let mad = self.members[member].nonsense.len();
        let step = self.members[member].take_effects(torn);
        self.check_step(member, &step);
        if self.members[member].nonsense.len() > mad {
            self.count("a commit that nobody can follow");
        }
        if torn {
            self.count("a step is torn");
            return self.crash_member(member);
        }
        if let Some(connection) = self.members[member].connection {
            for frame in step.sends {
                self.send(connection, Place::Member(member), encode_to_server(&frame, Encoding::Binary));
            }
        }
        for event in step.events {
            self.member_told(member, event);
        }
        self.members[member].note_acks();
        if !std::mem::replace(&mut self.members[member].ticking, true) {
            let life = self.members[member].life;
            self.clock.after(TICK_MS, Event::Tick { member, life });
        }
        self.go_on_with_script(member);
    }

    fn check_step(&mut self, member: usize, step: &Step) {
        if step.unsaved > 0 {
            let what = format!("member {member} sends what it has not stored ({} frames)", step.unsaved);
            self.violated(Violation::new(Check::SavedFirst, what));
        }
    }

    fn member_told(&mut self, member: usize, event: Told) {
        match event {
            Told::Distrust { .. } if self.coops[self.members[member].coop].has_lied => {
                self.count(FOUND_OUT);
                self.cut_member(member);
            }
            Told::Distrust { room, why } => {
                let state = self.members[member].core.room_state(&room);
                let at = state.map_or(0, |state| state.size);
                let what = format!("member {member} distrusts {} at {at}: {why}", short(&room));
                self.violated(Violation::new(Check::Trust, what));
            }
            Told::JoinFailed { room, code, detail } => self.join_failed(member, &room, code, &detail),
            Told::ItemFailed { item, code, detail, .. } => {
                self.note(|_| format!("member {member} item {item} failed: {code:?} {detail}"));
            }
            Told::Refused { code, detail } => self.note(|_| format!("member {member} is refused: {code:?} {detail}")),
            _ => {}
        }
    }

    /// A look changes nothing unless something came since the last one: so the next is due only after that.
    pub(crate) fn tick(&mut self, member: usize) {
        let wall = self.members[member].wall(self.clock.now());
        self.members[member].ticking = false;
        self.members[member].core.handle_tick(wall);
        let step = self.members[member].take_effects(false);
        self.check_step(member, &step);
        let (has_sent, connection) = (!step.sends.is_empty(), self.members[member].connection);
        if let Some(connection) = connection {
            for frame in step.sends {
                self.send(connection, Place::Member(member), encode_to_server(&frame, Encoding::Binary));
            }
        }
        step.events.into_iter().for_each(|event| self.member_told(member, event));
        if has_sent {
            self.member_acts(member);
        }
    }

    pub(crate) fn crash_member(&mut self, member: usize) {
        let seed = self.dice.bytes32();
        self.members[member].crash(seed);
        self.cut_all(Place::Member(member));
        let delay = self.dice.between(100, 1_500);
        self.connect_after(member, delay);
    }
}
