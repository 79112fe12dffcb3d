//! What a steward can ask of a running server or of its folder.

use kith_protocol::ids::{Coop, CoopName, PublicKey, RoomId};
use kith_protocol::limits::NEIGHBOURS_MAX;
use kith_storage::{NeighbourRow, Write};

use super::machine::Coop as Machine;
use super::types::Effect;
use super::waiting::After;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Opens a membership invite. The private half never comes here.
    Invite {
        key: PublicKey,
        uses: u32,
    },
    /// Adds a neighbour, or changes its address or its pinned key.
    AddNeighbour {
        coop: Coop,
        address: String,
    },
    Neighbours,
    /// Another voter is to order a room that this co-op orders.
    HandOver {
        room: RoomId,
        to: CoopName,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Done,
    Neighbours(Vec<Neighbour>),
    Refused(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    pub coop: Coop,
    pub address: String,
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
            Request::Invite { .. } | Request::AddNeighbour { .. } if self.is_full() => {
                Err("the disk is full: make room first; the server goes on by itself".to_owned())
            }
            Request::Invite { key, uses } => {
                self.invites.insert(key, uses);
                self.write(Write::PutInvite { key, uses_left: uses });
                Ok(None)
            }
            Request::AddNeighbour { coop, address } => {
                if coop.name == self.me.name {
                    return Err("a co-op is not its own neighbour".to_owned());
                }
                if self.neighbours.len() >= NEIGHBOURS_MAX && !self.neighbours.contains_key(&coop.name) {
                    return Err(format!("a co-op has at most {NEIGHBOURS_MAX} neighbours"));
                }
                self.put_neighbour(coop, address);
                Ok(None)
            }
            Request::HandOver { room, to } => {
                self.hand_over(&room, &to)?;
                Ok(None)
            }
            Request::Neighbours => Ok(Some(Reply::Neighbours(self.list_neighbours()))),
        }
    }

    fn put_neighbour(&mut self, coop: Coop, address: String) {
        let name = coop.name.clone();
        // A changed pin voids what the old key signed, and ends the link that it holds.
        let signature = self.neighbours.get(&name).filter(|old| old.coop == coop).and_then(|old| old.signature);
        let row = NeighbourRow { coop, address, signature };
        self.write(Write::PutNeighbour(row.clone()));
        self.neighbours.insert(name.clone(), row);
        if signature.is_none()
            && let Some(connection) = self.links_up.get(&name).copied()
        {
            self.close_link(connection);
        }
        self.after.push(After::Effect(Effect::NeighboursChanged));
    }

    pub fn list_neighbours(&self) -> Vec<Neighbour> {
        let listed = |row: &NeighbourRow| Neighbour {
            coop: row.coop.clone(),
            address: row.address.clone(),
            agreed: row.signature.is_some(),
            up: self.links_up.contains_key(&row.coop.name),
        };
        self.neighbours.values().map(listed).collect()
    }

    /// Addresses to dial: of two neighbours the one whose name comes first dials.
    pub fn dialled(&self) -> Vec<(CoopName, String)> {
        self.neighbours
            .values()
            .filter(|row| self.me.name < row.coop.name)
            .map(|row| (row.coop.name.clone(), row.address.clone()))
            .collect()
    }
}
