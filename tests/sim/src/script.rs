//! What members do: they settle in, talk, check in, invite, join, leave and go away for a while.

use kith_client::core::{ItemState, timeline};
use kith_protocol::content::{CheckIn, Content};
use kith_protocol::error::Code;
use kith_protocol::ids::{CoopName, RoomId};
use kith_protocol::invite_link::{MembershipLink, RoomLink};
use kith_protocol::log::voters::Voters;
use kith_protocol::sign::SecretKey;
use kith_relay::coop::Input;
use kith_relay::coop::steward::Request;

use crate::checks::{Check, Violation};
use crate::member::Said;
use crate::network::Place;
use crate::nonsense::Nonsense;
use crate::world::World;

/// Stands in every text, name and room name, and must stand nowhere on a server.
pub const SECRET: &str = "only members may see";
/// Joins to one room that are under way at once.
const JOINS_AT_ONCE: usize = 2;
/// Everybody has settled in within this, milliseconds.
const SETTLE_MS_MAX: u64 = 600_000;

/// A room of the run.
#[derive(Debug)]
pub struct Circle {
    pub id: RoomId,
    /// Its only facilitator; its co-op is the hub.
    pub creator: usize,
    /// Everybody who was ever to join, the creator first.
    pub invited: Vec<usize>,
    offers: Vec<Offer>,
    /// The last link that was handed out.
    pub link: Option<String>,
}

/// A link that is good once its item has its place, and who waits for it.
#[derive(Debug)]
struct Offer {
    item: u64,
    link: String,
    waiting: Vec<usize>,
}

impl World {
    /// Accounts, agreements, rooms with their members, in calm weather.
    pub(crate) fn settle_in(&mut self) -> Result<(), Violation> {
        self.make_neighbours();
        for member in 0..self.members.len() {
            self.make_account(member)?;
        }
        for room in 0..self.plan.rooms {
            self.make_circle(room)?;
        }
        let settled = |world: &Self| world.circles.iter().all(|circle| world.has_settled(circle));
        if self.until(SETTLE_MS_MAX, settled)? {
            return (0..self.circles.len()).try_for_each(|at| self.give_votes(at));
        }
        let phases: Vec<Vec<&str>> = self
            .circles
            .iter()
            .map(|circle| circle.invited.iter().map(|member| self.members[*member].core.phase_name(&circle.id)).collect())
            .collect();
        Err(Violation::new(Check::Converges, format!("not everybody could join in calm weather: {phases:?}")))
    }

    fn has_settled(&self, circle: &Circle) -> bool {
        circle.link.is_some()
            && circle.offers.is_empty()
            && circle.invited.iter().all(|member| self.members[*member].core.phase_name(&circle.id) == "active")
    }

    /// Other co-ops get a vote, one at a time; on the way from one to three a third breaks ties.
    fn give_votes(&mut self, at: usize) -> Result<(), Violation> {
        let (room, creator) = (self.circles[at].id, self.circles[at].creator);
        let mut names: Vec<CoopName> = vec![self.coops[self.members[creator].coop].id.name.clone()];
        for member in self.circles[at].invited.clone() {
            let name = self.coops[self.members[member].coop].id.name.clone();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.truncate(self.plan.voters);
        if names.len() < 3 {
            return Ok(());
        }
        for count in 2..=names.len() {
            let tie_breaker = (count == 2).then(|| names[2].clone());
            let voters = Voters { names: names[..count].to_vec(), tie_breaker };
            // Only a co-op whose member the room's log shows can be given a vote.
            self.until(SETTLE_MS_MAX, |world| {
                let known = world.members[creator].core.room_state(&room).map(|state| &state.coops);
                known.is_some_and(|known| names.iter().all(|name| known.contains_key(name.as_str())))
            })?;
            self.set_voters(creator, at, &voters)?;
            let counts = |world: &Self| {
                let invited = &world.circles[at].invited;
                invited.iter().all(|member| world.members[*member].core.voters(&room).is_ok_and(|known| known == voters))
            };
            if !self.until(SETTLE_MS_MAX, counts)? {
                return Err(Violation::new(Check::Converges, format!("the voters did not become {voters:?}")));
            }
        }
        Ok(())
    }

    /// A facilitator opens an invite that nobody waits for: a commit, and so another epoch.
    pub fn open_invite(&mut self, member: usize, at: usize) -> Result<(), Violation> {
        let (room, wall) = (self.circles[at].id, self.members[member].wall(self.clock.now()));
        let made = self.members[member].core.invite(wall, &room, 1);
        made.map_err(|error| Violation::new(Check::Machines, error.to_string()))?;
        self.member_acts(member);
        Ok(())
    }

    /// A member's next commit in a room will be one that nobody can follow; a facilitator makes one at once.
    pub(crate) fn go_mad(&mut self) {
        let at = self.dice.roll(self.circles.len() as u64) as usize;
        let (room, creator) = (self.circles[at].id, self.circles[at].creator);
        let invited = &self.circles[at].invited;
        let member = invited[self.dice.roll(invited.len() as u64) as usize];
        if self.members[member].core.phase_name(&room) != "active" {
            return;
        }
        self.count("member goes mad");
        self.note(|_| format!("member {member} goes mad in {}", short(&room)));
        self.members[member].mad_in = Some((room, Nonsense::Confirmation));
        if member == creator {
            let _ = self.open_invite(member, at);
        }
    }

    /// A facilitator says whose votes count.
    pub fn set_voters(&mut self, member: usize, at: usize, voters: &Voters) -> Result<(), Violation> {
        let (room, wall) = (self.circles[at].id, self.members[member].wall(self.clock.now()));
        let item = self.members[member].core.set_voters(wall, &room, voters);
        item.map_err(|error| Violation::new(Check::Machines, error.to_string()))?;
        self.member_acts(member);
        Ok(())
    }

    fn make_neighbours(&mut self) {
        for here in 0..self.coops.len() {
            for there in (0..self.coops.len()).filter(|there| *there != here) {
                let (coop, address) = (self.coops[there].id.clone(), "simulated:1".to_owned());
                let request = Request::AddNeighbour { coop, address, terms: None, replace: false };
                self.input(here, Input::Steward { id: 1, request });
                if here < there {
                    self.dialled.insert((here, there), crate::wire::Dialled::default());
                }
            }
        }
        (0..self.coops.len()).for_each(|coop| self.dial_all(coop));
    }

    fn make_account(&mut self, member: usize) -> Result<(), Violation> {
        let coop = self.members[member].coop;
        let invite = SecretKey::from_seed(self.dice.bytes32());
        self.input(coop, Input::Steward { id: 2, request: Request::Invite { key: invite.public(), uses: 1 } });
        let link = MembershipLink { secure: false, address: "simulated:1".to_owned(), coop: self.coops[coop].id.clone(), invite };
        let wall = self.members[member].wall(self.clock.now());
        let joined = self.members[member].core.join_coop(wall, &link, &format!("{member}, whom {SECRET}"));
        joined.map_err(|error| Violation::new(Check::Machines, error.to_string()))?;
        self.member_acts(member);
        self.connect_after(member, 100);
        Ok(())
    }

    fn make_circle(&mut self, number: usize) -> Result<(), Violation> {
        let count = self.members.len();
        let creator = self.dice.roll(count as u64) as usize;
        let mut invited = vec![creator];
        // A room among many is for some of them only; the first is for at least two.
        let everybody = self.plan.rooms == 1;
        let others: Vec<usize> = (0..count).filter(|member| *member != creator).collect();
        for member in others {
            let comes = everybody || count <= 3 || self.dice.roll(3 * self.plan.rooms as u64) < 4;
            invited.extend(comes.then_some(member));
        }
        let wall = self.members[creator].wall(self.clock.now());
        let made = self.members[creator].core.new_room(wall, &format!("room {number}, which {SECRET}"));
        let id = made.map_err(|error| Violation::new(Check::Machines, error.to_string()))?;
        self.circles.push(Circle { id, creator, invited, offers: Vec::new(), link: None });
        self.member_acts(creator);
        Ok(())
    }

    /// After each step of a member: what the script waits for may have come about.
    pub(crate) fn go_on_with_script(&mut self, member: usize) {
        for at in 0..self.circles.len() {
            let circle = &self.circles[at];
            if circle.creator == member && circle.link.is_none() && circle.offers.is_empty() {
                let is_ready = self.members[member].core.is_synced() && self.members[member].core.phase_name(&circle.id) == "active";
                if is_ready {
                    let waiting = circle.invited[1..].to_vec();
                    self.invite(at, waiting);
                }
            }
            self.hand_out(at);
        }
    }

    fn invite(&mut self, at: usize, waiting: Vec<usize>) {
        let (room, creator) = (self.circles[at].id, self.circles[at].creator);
        let wall = self.members[creator].wall(self.clock.now());
        // A spare use: the invite stays open for whoever comes by later.
        if let Ok((item, link)) = self.members[creator].core.invite(wall, &room, waiting.len() as u32 + 2) {
            self.circles[at].offers.push(Offer { item, link, waiting });
            self.member_acts(creator);
        }
    }

    /// Hands links that are good to whoever waits for them, a few at a time.
    fn hand_out(&mut self, at: usize) {
        let circle = &self.circles[at];
        let Some(offer) = circle.offers.first() else { return };
        let (room, link, creator) = (circle.id, offer.link.clone(), circle.creator);
        let is_given = circle.link.as_ref() == Some(&link);
        if !is_given {
            match self.members[creator].core.item_state(&room, offer.item) {
                ItemState::Ordered(_) | ItemState::Held { .. } => self.circles[at].link = Some(link.clone()),
                // It failed, and nobody can use it.
                ItemState::Unknown => return drop(self.circles[at].offers.remove(0)),
                ItemState::Waiting | ItemState::Stored => return,
            }
        }
        let joining = circle_joining(self, at);
        if joining >= JOINS_AT_ONCE {
            return;
        }
        let offer = &mut self.circles[at].offers[0];
        let next = offer.waiting.pop();
        if offer.waiting.is_empty() {
            self.circles[at].offers.remove(0);
        }
        if let Some(joiner) = next {
            self.join(joiner, &room, &link);
            self.hand_out(at);
        }
    }

    fn join(&mut self, joiner: usize, room: &RoomId, link: &str) {
        let link = RoomLink::parse(link).expect("our own link");
        let wall = self.members[joiner].wall(self.clock.now());
        if self.members[joiner].core.join_room(wall, &link).is_ok() {
            self.note(|_| format!("member {joiner} joins {}", short(room)));
            if let Some(circle) = self.circles.iter_mut().find(|circle| circle.id == *room)
                && !circle.invited.contains(&joiner)
            {
                circle.invited.push(joiner);
            }
            self.member_acts(joiner);
        }
    }

    /// In calm weather nobody is refused; else the member gives up, and nothing may be left of the try.
    pub(crate) fn join_failed(&mut self, member: usize, room: &RoomId, code: Code, detail: &str) {
        self.note(|_| format!("member {member} cannot join {}: {code:?} {detail}", short(room)));
        self.members[member].core.give_up_join(room);
        drop(self.members[member].take_effects(false));
    }

    /// One thing that somebody does.
    pub(crate) fn act(&mut self) {
        let at = self.dice.roll(self.circles.len() as u64) as usize;
        let invited = &self.circles[at].invited;
        let member = invited[self.dice.roll(invited.len() as u64) as usize];
        match self.dice.roll(100) {
            0..=74 => self.say(member, at),
            75..=86 => self.check_in(member, at),
            87..=91 => self.come_by(at),
            92..=94 => self.leave(member, at),
            _ => self.go_away(member),
        }
    }

    fn next_text(&mut self) -> String {
        self.said += 1;
        format!("number {}, which {SECRET}", self.said)
    }

    pub fn say(&mut self, member: usize, at: usize) {
        let text = self.next_text();
        self.put(member, at, &Content::Text(text.clone()), text);
    }

    fn check_in(&mut self, member: usize, at: usize) {
        let note = self.next_text();
        let check_in = CheckIn { pleasant: Some(-1), energy: Some(1), note: note.clone(), ..CheckIn::default() };
        self.put(member, at, &Content::CheckIn(check_in), note);
    }

    fn put(&mut self, member: usize, at: usize, content: &Content, text: String) {
        let (room, wall) = (self.circles[at].id, self.members[member].wall(self.clock.now()));
        if let Ok(item) = self.members[member].core.say(wall, &room, content) {
            self.note(|_| format!("member {member} says {text:?} in {}", short(&room)));
            self.members[member].said.push(Said { room, item, text, acknowledged: false });
            self.member_acts(member);
        }
    }

    pub fn leave(&mut self, member: usize, at: usize) {
        let (room, wall) = (self.circles[at].id, self.members[member].wall(self.clock.now()));
        // Without its facilitator nobody could be invited any more.
        if member != self.circles[at].creator && self.members[member].core.leave(wall, &room).is_ok() {
            self.note(|_| format!("member {member} leaves {}", short(&room)));
            self.member_acts(member);
        }
    }

    /// Somebody who was never there is invited, or joins by the link that went round.
    fn come_by(&mut self, at: usize) {
        let strangers: Vec<usize> = (0..self.members.len()).filter(|member| !self.circles[at].invited.contains(member)).collect();
        if strangers.is_empty() {
            return self.invite(at, Vec::new());
        }
        let stranger = strangers[self.dice.roll(strangers.len() as u64) as usize];
        let (room, link) = (self.circles[at].id, self.circles[at].link.clone());
        match link.filter(|_| self.dice.roll(2) == 0) {
            Some(link) => self.join(stranger, &room, &link),
            None => self.invite(at, vec![stranger]),
        }
    }

    fn go_away(&mut self, member: usize) {
        let Some(connection) = self.members[member].connection else { return };
        self.note(|_| format!("member {member} goes away"));
        self.members[member].connecting = true;
        let side = self.network.line(connection).map_or(0, |line| line.side_of(Place::Member(member)));
        self.hang_up(connection, side);
        let delay = self.spell();
        self.connect_after(member, delay);
    }

    /// The link with which everybody joined the first room.
    pub fn invite_link(&self) -> Option<RoomLink> {
        RoomLink::parse(self.circles.first()?.link.as_ref()?).ok()
    }
}

fn circle_joining(world: &World, at: usize) -> usize {
    let circle = &world.circles[at];
    circle.invited.iter().filter(|member| world.members[**member].core.phase_name(&circle.id) == "joining").count()
}

/// What a line of the timeline says, if a member said it.
pub fn said_in(content: &timeline::RowContent) -> Option<&str> {
    match content {
        timeline::RowContent::Content(Content::Text(text)) => Some(text),
        timeline::RowContent::Content(Content::CheckIn(check_in)) => Some(&check_in.note),
        _ => None,
    }
}

/// Enough of a room's id to tell it from the others.
pub fn short(room: &RoomId) -> String {
    room.to_string().chars().take(8).collect()
}
