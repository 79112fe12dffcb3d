//! What a steward can ask of a running server or of its folder.

use kith_federation::agreement::State;
use kith_protocol::agreement::Terms;
use kith_protocol::ids::{Coop, CoopName, PublicKey, RoomId};
use kith_storage::Write;

use super::agreements::{Act, Shown};
use super::machine::Coop as Machine;
use super::status::Status;
use super::types::{Effect, Identity};
use super::waiting::After;

#[derive(Debug, Clone)]
pub enum Request {
    /// Opens a membership invite. The private half never comes here.
    Invite {
        key: PublicKey,
        uses: u32,
    },
    /// Adds a neighbour, or changes its address. Its pinned key only if `replace` says so.
    AddNeighbour {
        coop: Coop,
        address: String,
        terms: Option<Box<Terms>>,
        replace: bool,
    },
    Neighbours,
    ShowNeighbour {
        name: CoopName,
    },
    Agreement {
        name: CoopName,
        act: Act,
    },
    Status,
    /// The store was put back from a backup.
    Restored,
    /// The folder has new keys.
    Keys {
        link_key: PublicKey,
        identity: Identity,
    },
    /// Another voter is to order a room that this co-op orders.
    HandOver {
        room: RoomId,
        to: CoopName,
    },
}

#[derive(Debug, Clone)]
pub enum Reply {
    Done,
    Neighbours(Vec<Neighbour>),
    Shown(Box<Shown>),
    Status(Box<Status>),
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub coop: Coop,
    pub address: String,
    pub state: State,
    /// Both have signed.
    pub agreed: bool,
    pub up: bool,
}

impl Machine {
    pub(super) fn handle_steward(&mut self, id: u64, request: Request) {
        match self.steward(request) {
            Ok(None) => self.after.push(After::Effect(Effect::Steward { id, reply: Reply::Done })),
            Ok(Some(reply)) => self.effects.push_back(Effect::Steward { id, reply }),
            Err(why) => self.effects.push_back(Effect::Steward { id, reply: Reply::Refused(why) }),
        }
    }

    fn steward(&mut self, request: Request) -> Result<Option<Reply>, String> {
        match request {
            // To suspend or end is possible even then: it takes effect at once, and is said to be done when it is stored.
            Request::Invite { .. }
            | Request::AddNeighbour { .. }
            | Request::Agreement { act: Act::Propose(_) | Act::Accept { .. } | Act::Resume, .. }
                if self.is_full() =>
            {
                return Err("the disk is full: make room first; the server goes on by itself".to_owned());
            }
            Request::Invite { key, uses } => {
                self.invites.insert(key, uses);
                self.write(Write::PutInvite { key, uses_left: uses });
            }
            Request::AddNeighbour { coop, address, terms, replace } => {
                self.add_neighbour(coop, address, terms.map(|terms| *terms), replace)?;
            }
            Request::Agreement { name, act } => self.act_on_agreement(&name, act)?,
            Request::Keys { link_key, identity } => self.change_keys(link_key, identity),
            Request::HandOver { room, to } => self.hand_over(&room, &to)?,
            Request::Restored => self.begin_incarnation(),
            Request::Neighbours => return Ok(Some(Reply::Neighbours(self.list_neighbours()))),
            Request::ShowNeighbour { name } => return Ok(Some(Reply::Shown(Box::new(self.show_neighbour(&name)?)))),
            Request::Status => return Ok(Some(Reply::Status(Box::new(self.status())))),
        }
        Ok(None)
    }

    pub fn list_neighbours(&self) -> Vec<Neighbour> {
        let listed = |row: &super::agreements::Neighbour| Neighbour {
            coop: row.coop.clone(),
            address: row.address.clone(),
            state: row.pact.state(self.wall),
            agreed: row.pact.in_force().is_some(),
            up: self.links_up.contains_key(&row.coop.name),
        };
        self.neighbours.values().map(listed).collect()
    }
}
