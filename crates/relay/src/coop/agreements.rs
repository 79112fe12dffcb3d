//! Neighbours: who is pinned, what was agreed with whom, and what that allows. The rules of one agreement are
//! [`kith_federation::agreement`]'s; here they meet links, rooms and the store.

use std::collections::BTreeMap;

use kith_federation::agreement::{Heard, Pact, PactError, Parties, State};
use kith_federation::link::{Link, Pins, Position, Refusal};
use kith_protocol::agreement::{Agreement, Line, Notice, Record, Terms};
use kith_protocol::codec::{decode_agreement_record, encode_agreement_record};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Coop as CoopId, CoopName, PublicKey, RoomId, RoomNumber, UnixSeconds};
use kith_protocol::limits::NEIGHBOURS_MAX;
use kith_protocol::sign::Signature;
use kith_storage::{NeighbourRow, Write};

use super::machine::Coop;
use super::types::{Effect, Identity, Secrets};
use super::waiting::After;

const DAY_S: u64 = 24 * 3600;

/// A pinned neighbour.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Its root key, as it is pinned now.
    pub coop: CoopId,
    pub address: String,
    pub pact: Pact,
    taken: Taken,
    pub link: LinkNote,
}

/// What was taken from it on a day. A restart forgets it.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    day: u64,
    entries: u32,
    bytes: u64,
}

/// A neighbour that this co-op dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    pub name: CoopName,
    /// The steward's: no frame and no neighbour ever names an address.
    pub address: String,
    /// Nobody has suspended or ended the agreement: it is worth trying often.
    pub is_open: bool,
}

/// What is known of the link to it, for its steward.
#[derive(Debug, Clone, Default)]
pub struct LinkNote {
    /// Since when it is up or down, as far as this run has seen.
    pub since: Option<UnixSeconds>,
    pub last_error: Option<String>,
    /// What it said last of how often it was put back from a backup.
    pub incarnation: Option<u64>,
}

impl Neighbour {
    fn new(coop: CoopId, address: String, pact: Pact) -> Self {
        Self { coop, address, pact, taken: Taken::default(), link: LinkNote::default() }
    }

    fn restore(row: NeighbourRow) -> Self {
        let pact = match decode_agreement_record(&row.agreement) {
            _ if row.agreement.is_empty() => Pact::new(Terms::default()),
            Ok(record) => Pact::restore(record),
            Err(error) => {
                // Perhaps it was suspended: nothing flows before the steward has said yes again.
                tracing::error!(neighbour = %row.coop.name, %error, "what was agreed with a neighbour is damaged; propose it again");
                Pact::restore(Record::default())
            }
        };
        Self::new(row.coop, row.address, pact)
    }

    fn row(&self) -> NeighbourRow {
        let agreement = encode_agreement_record(self.pact.record());
        NeighbourRow { coop: self.coop.clone(), address: self.address.clone(), agreement }
    }

    /// As rooms know it: under its first root key.
    pub fn in_rooms(&self) -> CoopId {
        CoopId { name: self.coop.name.clone(), key: self.pact.record().rooms_key.unwrap_or(self.coop.key) }
    }
}

/// Who is pinned.
#[derive(Debug, Default)]
pub(super) struct NeighbourTable(BTreeMap<CoopName, Neighbour>);

impl NeighbourTable {
    pub fn restore(rows: Vec<NeighbourRow>) -> Self {
        Self(rows.into_iter().map(|row| (row.coop.name.clone(), Neighbour::restore(row))).collect())
    }

    /// Whether traffic about a room may flow.
    pub fn covers(&self, name: &CoopName, room: &RoomId, now: UnixSeconds) -> bool {
        let active = self.0.get(name).filter(|neighbour| neighbour.pact.is_active(now));
        active.and_then(|neighbour| neighbour.pact.in_force()).is_some_and(|terms| terms.covers(room))
    }

    /// Why traffic about a room does not flow, for members; the stewards' own words are for stewards.
    pub fn why_not(&self, name: &CoopName, room: &RoomId, now: UnixSeconds) -> Option<String> {
        if self.covers(name, room, now) {
            return None;
        }
        let Some(neighbour) = self.0.get(name) else { return Some(format!("no agreement with {name}")) };
        let record = neighbour.pact.record();
        let here = record.our_notice.as_ref().is_some_and(|notice| !notice.is_open(now));
        let by = if here { "this co-op".to_owned() } else { name.to_string() };
        Some(match neighbour.pact.state(now) {
            State::Proposed => format!("the agreement with {name} is not signed by both"),
            State::Suspended => format!("the agreement with {name} is suspended by {by}"),
            State::Ended => format!("the agreement with {name} was ended by {by}"),
            State::Active | State::DueForReview => format!("the agreement with {name} leaves out this room"),
        })
    }

    /// Whether the day's limits leave room for an entry of that many bytes.
    pub fn has_room_for(&self, name: &CoopName, bytes: u64, now: UnixSeconds) -> bool {
        let Some(neighbour) = self.0.get(name) else { return false };
        let Some(limits) = neighbour.pact.in_force().map(|terms| terms.limits) else { return false };
        let taken = if neighbour.taken.day == now.0 / DAY_S { neighbour.taken } else { Taken::default() };
        taken.entries < limits.entries_per_day && taken.bytes.saturating_add(bytes) <= limits.bytes_per_day
    }

    pub fn take(&mut self, name: &CoopName, bytes: u64, now: UnixSeconds) {
        let Some(neighbour) = self.0.get_mut(name) else { return };
        let day = now.0 / DAY_S;
        if neighbour.taken.day != day {
            neighbour.taken = Taken { day, ..Taken::default() };
        }
        neighbour.taken.entries += 1;
        neighbour.taken.bytes += bytes;
    }

    pub fn rooms_max(&self, name: &CoopName) -> usize {
        self.0.get(name).and_then(|neighbour| neighbour.pact.in_force()).map_or(0, |terms| terms.limits.rooms as usize)
    }
}

impl std::ops::Deref for NeighbourTable {
    type Target = BTreeMap<CoopName, Neighbour>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for NeighbourTable {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Pins for NeighbourTable {
    fn neighbour(&self, name: &CoopName) -> Option<CoopId> {
        self.0.get(name).map(|neighbour| neighbour.coop.clone())
    }

    fn position(&self, name: &CoopName) -> Position {
        let Some(neighbour) = self.0.get(name) else { return Position::default() };
        let record = neighbour.pact.record();
        Position { rooms_key: record.rooms_key, accepted: record.accepted.clone(), notice: record.our_notice.clone() }
    }
}

/// A steward's act on one agreement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Propose(Box<Terms>),
    /// Says yes to exactly this document.
    Accept {
        document: Vec<u8>,
    },
    Suspend(Line),
    Resume,
    End(Line),
}

impl Coop {
    fn put_neighbour_row(&mut self, name: &CoopName) {
        if let Some(row) = self.neighbours.get(name).map(Neighbour::row) {
            // Only the newest counts, so a neighbour that changes its mind all the time does not fill the memory meanwhile.
            self.writes.retain(|write| !matches!(write, Write::PutNeighbour(older) if older.coop.name == *name));
            self.write(Write::PutNeighbour(row));
        }
    }

    /// Changes an agreement, and writes it if it changed.
    fn with_pact<T>(&mut self, name: &CoopName, change: impl FnOnce(&mut Pact, UnixSeconds, Parties<'_>) -> T) -> Option<T> {
        let me = self.secrets.identity.coop(&self.me.name);
        let neighbour = self.neighbours.get_mut(name)?;
        let before = neighbour.pact.record().clone();
        let parties = Parties { me: &me, peer: &neighbour.coop, root: &self.secrets.identity.root };
        let outcome = change(&mut neighbour.pact, self.wall, parties);
        if *neighbour.pact.record() != before {
            self.put_neighbour_row(name);
        }
        Some(outcome)
    }

    fn links_of(&self, name: &CoopName) -> Vec<ConnectionId> {
        let is_of = |link: &Link| link.peer().is_some_and(|peer| peer.name == *name);
        self.links.iter().filter(|(_, link)| is_of(link)).map(|(connection, _)| *connection).collect()
    }

    /// A neighbour has shown who it is. Its new root key is pinned in place of the one that led to it.
    pub(super) fn peer_known(&mut self, connection: ConnectionId, name: &CoopName, root: PublicKey, rooms: PublicKey) {
        self.effects.push_back(Effect::LinkKnown { connection });
        let Some(neighbour) = self.neighbours.get_mut(name) else { return };
        let is_news = neighbour.pact.note_rooms_key(rooms);
        if neighbour.coop.key != root {
            tracing::info!(neighbour = %name, old = %neighbour.coop.key, new = %root, "a neighbour's root key has passed to a new one");
            neighbour.coop.key = root;
            self.put_neighbour_row(name);
            self.links_of(name).into_iter().filter(|other| *other != connection).for_each(|other| self.close_link(other));
        } else if is_news {
            self.put_neighbour_row(name);
        }
    }

    /// A neighbour has signed these terms.
    pub(super) fn terms_signed(&mut self, connection: ConnectionId, name: &CoopName, terms: &Terms, signature: Signature) {
        let was_up = self.links_up.get(name) == Some(&connection);
        let heard = self.with_pact(name, |pact, now, parties| pact.handle_signature(now, parties, terms.clone(), signature));
        match heard {
            Some(Heard::Adopted) => {
                if let Some(link) = self.links.get_mut(&connection) {
                    link.agree(terms);
                }
                self.pump_link(connection);
            }
            Some(Heard::InForce { changed: true }) => tracing::info!(neighbour = %name, revision = terms.revision, "both have signed"),
            Some(Heard::Offered) => tracing::info!(neighbour = %name, revision = terms.revision, "a neighbour proposes other terms"),
            Some(Heard::InForce { changed: false } | Heard::Stale) | None => {}
        }
        let is_new = matches!(heard, Some(Heard::InForce { changed: true } | Heard::Adopted));
        if was_up && is_new {
            // Rooms and limits begin anew under what both have signed.
            self.close_link(connection);
        }
    }

    /// A neighbour says whether it keeps to the agreement.
    pub(super) fn standing_came(&mut self, connection: ConnectionId, name: &CoopName, notice: Notice) {
        let (is_open, standing) = (notice.is_open(self.wall), notice.standing);
        let is_news = self.with_pact(name, |pact, now, _| pact.handle_notice(now, notice)).unwrap_or(false);
        if is_news {
            tracing::info!(neighbour = %name, ?standing, "a neighbour says how it stands to the agreement");
            self.effects.push_back(Effect::NeighboursChanged);
        }
        if !is_open {
            self.note_link_error(name, "the neighbour has suspended or ended the agreement");
            self.close_link(connection);
        }
    }

    /// Ends the links of agreements whose notice has run out.
    pub(super) fn tick_agreements(&mut self) {
        let wall = self.wall;
        let over = |name: &&CoopName| self.neighbours.get(*name).is_some_and(|neighbour| !neighbour.pact.is_active(wall));
        let over: Vec<CoopName> = self.links_up.keys().filter(over).cloned().collect();
        for name in over {
            self.stop_links(&name);
            self.effects.push_back(Effect::NeighboursChanged);
        }
    }

    /// Says how this co-op stands to it, and ends the links.
    fn stop_links(&mut self, name: &CoopName) {
        let notice = self.neighbours.get(name).and_then(|neighbour| neighbour.pact.record().our_notice.clone());
        for connection in self.links_of(name) {
            if let Some(link) = self.links.get_mut(&connection) {
                link.stand(self.wall, notice.as_ref());
            }
            self.end_link(connection, &Refusal::NotOpen);
        }
    }

    /// What the steward has said goes out on links that are there: how this co-op stands to it, and what it has signed.
    pub(super) fn show_agreement(&mut self, name: &CoopName) {
        let Some(neighbour) = self.neighbours.get(name) else { return };
        let in_force = neighbour.pact.in_force().cloned();
        let accepted = neighbour.pact.accepted().to_vec();
        let notice = neighbour.pact.record().our_notice.clone();
        for connection in self.links_of(name) {
            let was_up = self.links_up.get(name) == Some(&connection);
            let Some(link) = self.links.get_mut(&connection) else { continue };
            link.stand(self.wall, notice.as_ref());
            match in_force.as_ref().filter(|_| !was_up) {
                Some(terms) => link.agree(terms),
                None => accepted.iter().for_each(|terms| link.sign(terms)),
            }
            self.drain_link(connection);
        }
    }

    /// Adds a neighbour, or changes what is known of one. Another key than the pinned one replaces it only if that was said.
    pub(super) fn add_neighbour(&mut self, coop: CoopId, address: String, terms: Option<Terms>, replace: bool) -> Result<(), String> {
        let name = coop.name.clone();
        if name == self.me.name {
            return Err("a co-op is not its own neighbour".to_owned());
        }
        if self.neighbours.len() >= NEIGHBOURS_MAX && !self.neighbours.contains_key(&name) {
            return Err(format!("a co-op has at most {NEIGHBOURS_MAX} neighbours"));
        }
        if let Some(terms) = &terms {
            terms.check().map_err(|error| error.to_string())?;
        }
        match self.neighbours.get_mut(&name) {
            Some(known) if !replace && known.coop.key != coop.key => {
                return Err(format!(
                    "{name} is pinned with another key, ed25519:{}. If its steward has told you so by a way that you trust, repeat this \
                     with --replace; its steward does the same for this co-op",
                    known.coop.key
                ));
            }
            Some(known) if !replace => {
                known.address = address;
                self.put_neighbour_row(&name);
                if let Some(terms) = terms {
                    self.act_on_agreement(&name, Act::Propose(Box::new(terms)))?;
                }
            }
            _ => {
                // A pin that goes takes with it what its key signed, and the links that it holds.
                self.links_of(&name).into_iter().for_each(|connection| self.close_link(connection));
                let pact = Pact::new(terms.unwrap_or_default());
                self.neighbours.insert(name.clone(), Neighbour::new(coop, address, pact));
                self.put_neighbour_row(&name);
            }
        }
        self.after.push(After::Effect(Effect::NeighboursChanged));
        Ok(())
    }

    pub(super) fn act_on_agreement(&mut self, name: &CoopName, act: Act) -> Result<(), String> {
        let is_stop = matches!(act, Act::Suspend(_) | Act::End(_));
        let outcome = self.with_pact(name, |pact, now, parties| match act {
            Act::Propose(terms) => pact.propose(now, parties, *terms),
            Act::Accept { document } => {
                let offered = pact.record().offer.as_ref().map(|offer| parties.agreement(offer.terms.clone()).document());
                // What was shown to the steward is what is signed.
                if offered.is_some_and(|offered| offered == document) { pact.accept(now, parties) } else { Err(PactError::NoOffer) }
            }
            Act::Suspend(reason) => pact.suspend(now, parties, reason),
            Act::Resume => pact.resume(now, parties),
            Act::End(reason) => pact.end(now, parties, reason),
        });
        outcome.ok_or_else(|| no_neighbour(name))?.map_err(|error| error.to_string())?;
        if is_stop && !self.neighbours.get(name).is_some_and(|neighbour| neighbour.pact.is_open(self.wall)) {
            self.stop_links(name);
        }
        self.after.push(After::Agreement { name: name.clone() });
        self.after.push(After::Effect(Effect::NeighboursChanged));
        Ok(())
    }

    /// New keys of this co-op's own. Links are made anew with them; rooms keep the key that they know.
    pub(super) fn change_keys(&mut self, link_key: PublicKey, identity: Identity) {
        self.secrets = Secrets { root: self.secrets.root.clone(), link_key, identity };
        let connections: Vec<ConnectionId> = self.links.keys().copied().collect();
        connections.into_iter().for_each(|connection| self.close_link(connection));
    }

    /// Whether the room's holder is who the link to the room says, and the agreement with it stands and covers the room.
    pub(super) fn may_share(&self, holder: &CoopId, room: &RoomId) -> Result<(), String> {
        if self.neighbours.get(&holder.name).is_some_and(|neighbour| neighbour.in_rooms() != *holder) {
            return Err(format!("{} is known by another key than the link's", holder.name));
        }
        self.neighbours.why_not(&holder.name, room, self.wall).map_or(Ok(()), Err)
    }

    /// Why entries of a room do not reach its hub, if that is for want of an agreement.
    pub(super) fn why_not_shared(&self, number: RoomNumber) -> Option<String> {
        let room = self.rooms.get(&number).filter(|room| !room.is_hub())?;
        self.neighbours.why_not(&room.hub.name, &room.id, self.wall)
    }

    /// What is kept meanwhile goes when the agreement stands again: whoever waits for its place learns why it has none.
    pub(super) fn tell_why_it_waits(&mut self, connection: ConnectionId, number: RoomNumber) {
        if let Some(why) = self.why_not_shared(number) {
            self.refuse_entry(connection, number, 0, Code::NoAgreement, &why, 0);
        }
    }

    pub(super) fn note_link_error(&mut self, name: &CoopName, error: &str) {
        if let Some(neighbour) = self.neighbours.get_mut(name) {
            neighbour.link.last_error = Some(error.to_owned());
        }
    }

    pub(super) fn note_link(&mut self, name: &CoopName, is_up: bool) {
        let wall = self.wall;
        if let Some(neighbour) = self.neighbours.get_mut(name) {
            neighbour.link.since = Some(wall);
            if is_up {
                neighbour.link.last_error = None;
            }
        }
    }

    /// One agreement as its steward sees it.
    pub fn show_neighbour(&self, name: &CoopName) -> Result<Shown, String> {
        let neighbour = self.neighbours.get(name).ok_or_else(|| no_neighbour(name))?;
        let me = self.secrets.identity.coop(&self.me.name);
        let between = |terms: &Terms| Agreement::between(me.clone(), neighbour.coop.clone(), terms.clone());
        let pact = &neighbour.pact;
        Ok(Shown {
            neighbour: neighbour.clone(),
            now: self.wall,
            is_up: self.links_up.contains_key(name),
            proposed: pact.proposed().map(between),
            offered: pact.record().offer.as_ref().map(|offer| between(&offer.terms)),
            me,
        })
    }

    /// Whom to dial: of two neighbours the one whose name comes first dials.
    pub fn dialled(&self) -> Vec<Dialled> {
        let ours = self.neighbours.values().filter(|neighbour| self.me.name < neighbour.coop.name);
        ours.map(|neighbour| Dialled {
            name: neighbour.coop.name.clone(),
            address: neighbour.address.clone(),
            is_open: neighbour.pact.is_open(self.wall),
        })
        .collect()
    }
}

fn no_neighbour(name: &CoopName) -> String {
    format!("{name} is no neighbour. See them all: kithd neighbour list")
}

/// What `kithd neighbour show` says.
#[derive(Debug, Clone)]
pub struct Shown {
    pub me: CoopId,
    pub neighbour: Neighbour,
    pub now: UnixSeconds,
    pub is_up: bool,
    /// By this co-op, and not signed by the neighbour.
    pub proposed: Option<Agreement>,
    /// By the neighbour, and not signed by this co-op.
    pub offered: Option<Agreement>,
}

#[cfg(test)]
mod tests {
    use kith_protocol::agreement::{Limits, Rooms, Standing};
    use kith_protocol::sign::SecretKey;

    use super::*;

    const DAY: UnixSeconds = UnixSeconds(20_000 * DAY_S);

    /// A neighbour with which these terms are in force.
    fn table(terms: Terms) -> (NeighbourTable, CoopName) {
        let [us, them] = [1, 2].map(|seed| SecretKey::from_seed([seed; 32]));
        let coop = |name: &str, key: &SecretKey| CoopId { name: name.parse().unwrap(), key: key.public() };
        let (me, peer) = (coop("alder.test", &us), coop("birch.test", &them));
        let mut neighbour = Neighbour::new(peer.clone(), "birch.test:7411".into(), Pact::new(terms.clone()));
        let signature = Agreement::between(me.clone(), peer.clone(), terms.clone()).sign(&them);
        let heard = neighbour.pact.handle_signature(DAY, Parties { me: &me, peer: &peer, root: &us }, terms, signature);
        assert_eq!(heard, Heard::InForce { changed: true });
        (NeighbourTable(BTreeMap::from([(peer.name.clone(), neighbour)])), peer.name)
    }

    #[test]
    fn fault_11_a_days_limits_are_reached_and_pass() {
        let limits = Limits { entries_per_day: 3, bytes_per_day: 100, rooms: 5 };
        let (mut table, birch) = table(Terms { limits, ..Terms::default() });
        assert_eq!(table.rooms_max(&birch), 5);
        assert!(table.has_room_for(&birch, 100, DAY) && !table.has_room_for(&birch, 101, DAY));
        table.take(&birch, 60, DAY);
        assert!(table.has_room_for(&birch, 40, DAY) && !table.has_room_for(&birch, 41, DAY), "by bytes");
        table.take(&birch, 1, DAY);
        table.take(&birch, 1, UnixSeconds(DAY.0 + DAY_S - 1));
        assert!(!table.has_room_for(&birch, 1, UnixSeconds(DAY.0 + DAY_S - 1)), "by entries");
        assert!(table.has_room_for(&birch, 100, UnixSeconds(DAY.0 + DAY_S)), "until the next day");
        assert!(!table.has_room_for(&"cedar.test".parse().unwrap(), 1, DAY), "nobody else has any");
    }

    #[test]
    fn only_rooms_of_an_agreement_that_stands_are_covered() {
        let [listed, other] = [RoomId([1; 32]), RoomId([2; 32])];
        let (mut table, birch) = table(Terms { rooms: Rooms::Listed([listed].into()), ..Terms::default() });
        assert!(table.covers(&birch, &listed, DAY) && !table.covers(&birch, &other, DAY));
        let root = SecretKey::from_seed([1; 32]);
        let me = CoopId { name: "alder.test".parse().unwrap(), key: root.public() };
        let neighbour = table.get_mut(&birch).unwrap();
        let parties = Parties { me: &me, peer: &neighbour.coop.clone(), root: &root };
        neighbour.pact.suspend(DAY, parties, Line::default()).unwrap();
        assert!(!table.covers(&birch, &listed, DAY));
    }

    #[test]
    fn members_are_told_why_nothing_flows() {
        let [listed, other] = [RoomId([1; 32]), RoomId([2; 32])];
        let (mut table, birch) = table(Terms { rooms: Rooms::Listed([listed].into()), ..Terms::default() });
        assert_eq!(table.why_not(&birch, &listed, DAY), None);
        assert_eq!(table.why_not(&birch, &other, DAY).unwrap(), "the agreement with birch.test leaves out this room");
        assert_eq!(table.why_not(&"cedar.test".parse().unwrap(), &listed, DAY).unwrap(), "no agreement with cedar.test");
        let [us, them] = [1, 2].map(|seed| SecretKey::from_seed([seed; 32]));
        let me = CoopId { name: "alder.test".parse().unwrap(), key: us.public() };
        let reason = || "for stewards".parse::<Line>().unwrap();
        let theirs = |standing| Notice::sign(&them, &birch, &me.name, standing, DAY, DAY, reason());
        let neighbour = table.get_mut(&birch).unwrap();
        neighbour.pact.handle_notice(DAY, theirs(Standing::Suspended));
        assert_eq!(table.why_not(&birch, &listed, DAY).unwrap(), "the agreement with birch.test is suspended by birch.test");
        let neighbour = table.get_mut(&birch).unwrap();
        let parties = Parties { me: &me, peer: &neighbour.coop.clone(), root: &us };
        neighbour.pact.handle_notice(DAY, theirs(Standing::Open));
        neighbour.pact.suspend(DAY, parties, reason()).unwrap();
        assert_eq!(table.why_not(&birch, &listed, DAY).unwrap(), "the agreement with birch.test is suspended by this co-op");
        let neighbour = table.get_mut(&birch).unwrap();
        neighbour.pact.end(DAY, Parties { me: &me, peer: &neighbour.coop.clone(), root: &us }, reason()).unwrap();
        assert_eq!(table.why_not(&birch, &listed, DAY).unwrap(), "the agreement with birch.test was ended by this co-op");
    }

    /// A row of a database from before agreements had terms.
    #[test]
    fn neighbours_of_old_are_proposed_the_usual_terms() {
        let coop = CoopId { name: "birch.test".parse().unwrap(), key: PublicKey([1; 32]) };
        let row = |agreement: &'static [u8]| NeighbourRow { coop: coop.clone(), address: "b:1".into(), agreement: agreement.into() };
        let table = NeighbourTable::restore(vec![row(b"")]);
        assert_eq!(table.position(&coop.name).accepted, [Terms::default()]);
        assert!(!table.covers(&coop.name, &RoomId([1; 32]), DAY), "until both have signed");
        let table = NeighbourTable::restore(vec![row(b"\xff\xff")]);
        assert_eq!(table.position(&coop.name).accepted, [], "damaged: nothing is said yes to");
    }
}
