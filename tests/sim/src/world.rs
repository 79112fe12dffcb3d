//! A run: co-ops, members, what happens next, and how it ends.

use std::collections::BTreeMap;

use bytes::Bytes;
use kith_protocol::ids::ConnectionId;
use kith_protocol::judge::RoomFacts;
use kith_relay::coop::Input;
use kith_storage::memory::Memory;

use crate::checks::{self, Check, Violation};
use crate::clock::Clock;
use crate::coop::Coop;
use crate::dice::Dice;
use crate::member::Member;
use crate::mutant::{Keeps, Mutant};
use crate::network::{Network, Place, Traffic, Way};
use crate::plan::Plan;
use crate::script::{Circle, short};
use crate::trace::{SHOWN, Trace};
use crate::weather::Heal;
use crate::wire::Dialled;
use crate::witness::Witness;

/// How often a world that is coming to rest is looked at, milliseconds.
const LOOK_MS: u64 = 250;
const NAMES: [&str; 7] = ["alder.test", "birch.test", "cedar.test", "damson.test", "elder.test", "fir.test", "gorse.test"];

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub seed: u64,
    pub plan: Plan,
    pub trace: Trace,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    pub acknowledged: usize,
    pub entries: u64,
    pub traffic: Traffic,
    /// When it came to rest after the weather had calmed, virtual milliseconds.
    pub rest_ms: u64,
    /// From beginning to end, virtual milliseconds.
    pub virtual_ms: u64,
}

/// What did not hold, and what had happened until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub violation: Violation,
    pub trace: Trace,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.violation, self.trace.tail(SHOWN))
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Frame { connection: ConnectionId, side: usize, bytes: Bytes },
    Closed { connection: ConnectionId, side: usize },
    Connect { member: usize, life: u64 },
    Dial { from: usize, to: usize, life: u64 },
    Commit { coop: usize, life: u64 },
    Input { coop: usize, life: u64, input: Box<Input> },
    Wake { coop: usize, life: u64 },
    Crash { coop: usize, life: u64 },
    Restart { coop: usize, life: u64 },
    RestartRestored { coop: usize, life: u64 },
    Tick { member: usize, life: u64 },
    Act,
    Fault,
    BackUp,
    Idle,
    Lie,
    Garble,
    Mad,
    PutBack { coop: usize },
    Heal(Heal),
}

pub struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) clock: Clock<Event>,
    pub(crate) network: Network,
    pub coops: Vec<Coop>,
    pub members: Vec<Member>,
    pub circles: Vec<Circle>,
    pub(crate) dialled: BTreeMap<(usize, usize), Dialled>,
    pub(crate) witness: Witness,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) rough_until: u64,
    pub(crate) said: u64,
    trace: Trace,
    violation: Option<Violation>,
    /// What mutants keep.
    pub(crate) keeps: Keeps,
    pub(crate) lost: Option<Memory>,
}

fn ways_between(one: usize, other: usize) -> [Way; 2] {
    [(Place::Coop(one), Place::Coop(other)), (Place::Coop(other), Place::Coop(one))]
}

/// Runs one seed to its end and checks everything.
pub fn run(seed: u64, plan: Plan) -> Result<Outcome, Box<Failure>> {
    let mut world = World::new(seed, plan);
    let result = world.play();
    world.conclude(seed, result)
}

impl World {
    /// A world in calm weather, in which everybody has said something and all is at rest.
    pub fn calm(seed: u64) -> Result<Self, Violation> {
        Self::calm_circle(seed, Plan::PAIR.members)
    }

    /// The same with so many members, in turn of the first and of the second co-op. The first member began the room, so
    /// the first co-op is its hub: of the worlds from that seed on it is the first that came about like that.
    pub fn calm_circle(seed: u64, members: usize) -> Result<Self, Violation> {
        let mut seed = seed;
        loop {
            let mut world = Self::new(seed, Plan { members, rough_ms: 0, ..Plan::PAIR });
            world.settle_in()?;
            if world.circles[0].creator == 0 {
                (0..world.members.len()).for_each(|member| world.say(member, 0));
                world.calm_down()?;
                return Ok(world);
            }
            seed += 1;
        }
    }

    /// A world after its rough weather, at rest and not yet checked.
    pub fn after_all(seed: u64, plan: Plan) -> Result<Self, Violation> {
        let mut world = Self::new(seed, plan);
        world.live()?;
        Ok(world)
    }

    /// A world in calm weather, in which everybody is where they belong.
    pub fn begun(seed: u64, plan: Plan) -> Result<Self, Violation> {
        let mut world = Self::new(seed, plan);
        world.settle_in()?;
        Ok(world)
    }

    /// Lets that much time pass in the weather that is.
    pub fn go_on(&mut self, for_ms: u64) -> Result<(), Violation> {
        let end = self.clock.now() + for_ms;
        self.pass(end)
    }

    /// Waits for rest, and checks everything.
    pub fn end(&mut self) -> Result<usize, Violation> {
        self.calm_down()?;
        checks::all(self)
    }

    /// What has happened so far.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Two co-ops reach each other no longer.
    pub fn part(&mut self, one: usize, other: usize) {
        self.network.block(&ways_between(one, other));
    }

    /// Two co-ops that were parted reach each other again.
    pub fn join_again(&mut self, one: usize, other: usize) {
        self.network.unblock(&ways_between(one, other));
    }

    pub fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Both ends of a member's connection know of it.
    pub(crate) fn is_connected(&self, member: usize) -> bool {
        let line = self.members[member].connection.and_then(|connection| self.network.line(connection));
        line.is_some_and(|line| line.open == [true; 2])
    }

    fn new(seed: u64, plan: Plan) -> Self {
        let mut dice = Dice::new(seed);
        let skew = |dice: &mut Dice| dice.between(0, 2 * plan.skew_s_max) as i64 - plan.skew_s_max as i64;
        let coops = NAMES[..plan.coops].iter().map(|name| Coop::new(name, dice.bytes32(), skew(&mut dice))).collect();
        let members = (0..plan.members).map(|i| Member::new(i % plan.coops, dice.bytes32(), skew(&mut dice))).collect();
        Self {
            plan,
            dice,
            clock: Clock::default(),
            network: Network::default(),
            coops,
            members,
            circles: Vec::new(),
            dialled: BTreeMap::new(),
            witness: Witness::default(),
            faults: BTreeMap::new(),
            rough_until: 0,
            said: 0,
            trace: Trace::default(),
            violation: None,
            keeps: Keeps::default(),
            lost: None,
        }
    }

    fn live(&mut self) -> Result<u64, Violation> {
        self.settle_in()?;
        self.be_rough()?;
        self.calm_down()
    }

    fn play(&mut self) -> Result<(u64, usize), Violation> {
        let rest_ms = self.live()?;
        Ok((rest_ms, checks::all(self)?))
    }

    fn conclude(mut self, seed: u64, result: Result<(u64, usize), Violation>) -> Result<Outcome, Box<Failure>> {
        match result {
            Ok((rest_ms, acknowledged)) => Ok(Outcome {
                seed,
                plan: self.plan,
                trace: self.trace,
                faults: self.faults,
                acknowledged,
                entries: self.witness.entries(),
                traffic: self.network.traffic,
                rest_ms,
                virtual_ms: self.clock.now(),
            }),
            Err(violation) => {
                self.note_states();
                Err(Box::new(Failure { violation, trace: self.trace }))
            }
        }
    }

    /// Where everybody stands when something has failed.
    fn note_states(&mut self) {
        for at in 0..self.circles.len() {
            let room = self.circles[at].id;
            for coop in 0..self.coops.len() {
                let Some(of) = self.coops[coop].room(&room) else { continue };
                let Some(log) = of.log() else { continue };
                let shown = of.certificate_of_last_commit().map(|shown| shown.checkpoint.size);
                let (size, certified, commit) = (of.durable(), of.certified_size(), log.last_commit);
                let contests: Vec<String> = RoomFacts::docket(log)
                    .contests
                    .iter()
                    .map(|contest| {
                        format!(
                            "{} of {} by {}: {:?} of {:?}",
                            contest.epoch, contest.seq, contest.author, contest.complaints, contest.jury
                        )
                    })
                    .collect();
                let line = format!(
                    "{} at co-op {coop}: term {} epoch {}, size {size}, certified {certified}, commit {commit} shown by {shown:?}, contests {contests:?}",
                    short(&room),
                    log.term,
                    log.epoch()
                );
                self.note(|_| line);
            }
            for member in 0..self.members.len() {
                let core = &self.members[member].core;
                let Some(state) = core.room_state(&room) else { continue };
                let index = state.senders.iter().position(|who| *who == state.pseudonym);
                let (phase, of) = (core.phase_name(&room), self.members[member].coop);
                let (epoch, by_log, size) = (state.epoch, state.contests.room_epoch, state.size);
                let line = format!(
                    "{} at member {member} of {of}, index {index:?}: {phase}, epoch {epoch} ({by_log} by the log), size {size}, certified {}, {} items",
                    short(&room),
                    state.certified,
                    state.outbox.len()
                );
                self.note(|_| line);
            }
        }
    }

    pub(crate) fn is_rough(&self) -> bool {
        self.clock.now() < self.rough_until
    }

    pub(crate) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        let line = line(self);
        self.trace.note(self.clock.now(), &line);
    }

    /// A fault happened.
    pub(crate) fn count(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
        self.note(|_| kind.to_owned());
    }

    /// The first thing that does not hold ends the run.
    pub(crate) fn violated(&mut self, violation: Violation) {
        self.note(|_| violation.to_string());
        self.violation.get_or_insert(violation);
    }

    fn be_rough(&mut self) -> Result<(), Violation> {
        self.rough_until = self.clock.now() + self.plan.rough_ms;
        if self.plan.mutant == Some(Mutant::StaysCut) {
            self.network.block(&[(Place::Coop(0), Place::Coop(1)), (Place::Coop(1), Place::Coop(0))]);
        }
        let plan = self.plan;
        let kinds: [(u64, fn() -> Event); 7] = [
            (plan.acts, || Event::Act),
            (plan.faults, || Event::Fault),
            (plan.restores, || Event::BackUp),
            (plan.idles, || Event::Idle),
            (plan.lies, || Event::Lie),
            (plan.garbles, || Event::Garble),
            (plan.mad, || Event::Mad),
        ];
        for (count, event) in kinds {
            for _ in 0..count {
                let delay = self.dice.roll(plan.rough_ms);
                self.clock.after(delay, event());
            }
        }
        let until = self.rough_until;
        self.pass(until)
    }

    /// Everything comes to rest: nothing in any outbox, all logs alike, everybody has read them.
    fn calm_down(&mut self) -> Result<u64, Violation> {
        let begun = self.clock.now();
        self.note(|_| "calm".to_owned());
        self.end_garbling();
        if self.plan.mutant != Some(Mutant::StaysCut) {
            self.network.heal();
        }
        self.cut_backlogs();
        for member in 0..self.members.len() {
            if self.members[member].connection.is_none() {
                self.connect_after(member, 1);
            }
        }
        for coop in 0..self.coops.len() {
            self.work_again(coop);
            self.coops[coop].full_until = 0;
            self.tell_the_truth(coop);
            if self.coops[coop].machine.is_none() {
                self.restart(coop);
            }
        }
        self.come_to_rest(begun)?;
        let rest_ms = self.clock.now() - begun;
        self.look_for_lies(begun)?;
        Ok(rest_ms)
    }

    pub(crate) fn come_to_rest(&mut self, begun: u64) -> Result<(), Violation> {
        while !checks::is_at_rest(self) {
            if self.clock.now() >= begun + self.plan.calm_ms {
                return Err(Violation::new(Check::Converges, checks::unrest(self).unwrap_or_default()));
            }
            self.go_on(LOOK_MS)?;
        }
        Ok(())
    }

    /// Lets time pass.
    fn pass(&mut self, end: u64) -> Result<(), Violation> {
        while let Some(event) = self.clock.next(end) {
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        Ok(())
    }

    /// Runs until something holds. `false`: it does not within the time.
    pub(crate) fn until(&mut self, limit_ms: u64, holds: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        let end = self.clock.now() + limit_ms;
        while !holds(self) {
            let Some(event) = self.clock.next(end) else { return Ok(holds(self)) };
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        Ok(true)
    }

    fn is_life(&self, coop: usize, life: u64) -> bool {
        self.coops[coop].life == life
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame { connection, side, bytes } => self.frame_arrived(connection, side, bytes),
            Event::Closed { connection, side } => self.closed(connection, side),
            Event::Connect { member, life } if self.members[member].life == life => self.connect(member),
            Event::Tick { member, life } if self.members[member].life == life => self.tick(member),
            Event::Dial { from, to, life } if self.is_life(from, life) && self.coops[from].machine.is_some() => self.dial(from, to),
            Event::Commit { coop, life } if self.is_life(coop, life) => self.commit(coop),
            Event::Input { coop, life, input } if self.is_life(coop, life) => self.input(coop, *input),
            Event::Wake { coop, life } if self.is_life(coop, life) => self.wake(coop),
            Event::Crash { coop, life } if self.is_life(coop, life) => self.crash_coop(coop),
            Event::Restart { coop, life } if self.is_life(coop, life) => self.restart(coop),
            Event::RestartRestored { coop, life } if self.is_life(coop, life) => self.restart_restored(coop),
            Event::Act => self.act(),
            Event::Fault => self.fault(),
            Event::BackUp => self.back_up_any(),
            Event::Idle => self.idle(),
            Event::Lie => self.lie(),
            Event::Garble => self.garble(),
            Event::Mad => self.go_mad(),
            Event::PutBack { coop } => self.put_back_if_whole(coop),
            Event::Heal(heal) => self.heal(heal),
            // Meant for an earlier life.
            _ => {}
        }
    }

    /// Whether every pair of neighbours is linked.
    pub fn is_linked(&self) -> bool {
        let linked = |coop: &Coop| coop.machine.as_ref().is_some_and(|machine| machine.links_up() + 1 == self.coops.len());
        self.coops.iter().all(linked)
    }

    /// A member's connection is lost; the device dials again.
    pub fn cut_member(&mut self, member: usize) {
        if let Some(connection) = self.members[member].connection {
            self.cut(connection, [true; 2]);
        }
    }
}
