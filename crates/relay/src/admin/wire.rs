//! A steward's requests and answers as they travel over the socket, which is also the JSON that commands print.

use kith_protocol::agreement::{Agreement, Date, Line, Notice, Standing};
use kith_protocol::ids::{Coop, CoopName, PublicKey, UnixSeconds, to_hex};
use kith_protocol::sign::Signature;
use serde::{Deserialize, Serialize};

use crate::coop::agreements::{Act, Shown};
use crate::coop::status::{NeighbourStatus, RoomStatus, Status};
use crate::coop::steward::{Neighbour, Reply, Request};
use crate::terms::TermsFile;

/// A steward's request as it travels.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Wire {
    Invite {
        key: String,
        uses: u32,
    },
    AddNeighbour {
        name: String,
        key: String,
        address: String,
        #[serde(default)]
        terms: Option<TermsFile>,
        #[serde(default)]
        replace: bool,
    },
    Neighbours,
    ShowNeighbour {
        name: String,
    },
    Propose {
        name: String,
        terms: TermsFile,
    },
    Accept {
        name: String,
        document: String,
    },
    Suspend {
        name: String,
        reason: String,
    },
    Resume {
        name: String,
    },
    End {
        name: String,
        reason: String,
    },
    Status,
    Restored,
    HandOver {
        room: String,
        to: String,
    },
    /// The folder's keys have changed.
    ReadKeys,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Neighbours(Vec<NeighbourLine>),
    Neighbour(Box<NeighbourView>),
    Status(Box<StatusView>),
    Refused(String),
}

/// A neighbour as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NeighbourLine {
    pub name: String,
    pub key: String,
    pub address: String,
    pub agreed: bool,
    pub up: bool,
    pub state: String,
}

/// One agreement whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NeighbourView {
    pub name: String,
    pub key: String,
    /// What it signs with in rooms: its first root key.
    pub rooms_key: String,
    pub address: String,
    pub state: String,
    pub up: bool,
    /// What both have signed last.
    pub signed: Option<SignedView>,
    /// Texts that one side alone has signed.
    pub proposed_here: Option<String>,
    pub proposed_there: Option<String>,
    pub notice_here: Option<NoticeView>,
    pub notice_there: Option<NoticeView>,
}

/// Enough for anybody to verify it: `kithd neighbour verify`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignedView {
    pub document: String,
    pub signatures: Vec<SignatureView>,
    pub since: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignatureView {
    pub name: String,
    pub key: String,
    pub signature: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NoticeView {
    pub standing: String,
    pub at: String,
    pub effective: String,
    pub reason: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusView {
    pub coop: String,
    pub key: String,
    pub version: String,
    /// `false`: the folder was read.
    pub running: bool,
    pub uptime_s: u64,
    /// When this co-op was put back from a backup last, if it was.
    pub restored: Option<String>,
    pub neighbours: Vec<NeighbourStatusView>,
    pub rooms: Vec<RoomStatusView>,
    pub frozen: Vec<FrozenView>,
    /// Rooms whose rows are lost or damaged on this disk, until they have come again from another co-op.
    pub damaged: Vec<String>,
}

/// A room in which somebody broke their word.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FrozenView {
    pub room: String,
    /// Who, by name.
    pub by: String,
    pub why: String,
    /// As `kith proof check` reads it from a file.
    pub proof: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NeighbourStatusView {
    pub name: String,
    pub address: String,
    pub state: String,
    pub up: bool,
    pub since: Option<String>,
    pub last_error: Option<String>,
    /// When it was put back from a backup last, as it says, if it was.
    pub restored: Option<String>,
    pub behind_entries: u64,
    pub behind_s: u64,
    pub waiting_entries: u64,
    pub bytes_in: Option<u64>,
    pub bytes_out: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RoomStatusView {
    pub room: String,
    pub number: u32,
    pub role: String,
    pub hub: String,
    pub size: u64,
    pub term: Option<u32>,
    pub certified: u64,
    pub pending: u64,
    pub held: std::collections::BTreeMap<String, u64>,
    /// It was put back from a backup and waits for others' copies.
    pub refilling: bool,
}

/// RFC 3339, UTC.
pub fn time(at: UnixSeconds) -> String {
    let second = at.0 % 86_400;
    format!("{}T{:02}:{:02}:{:02}Z", Date::at(at), second / 3_600, second / 60 % 60, second % 60)
}

fn parse_line(text: &str) -> anyhow::Result<Line> {
    text.trim().parse().map_err(|error| anyhow::anyhow!("the reason: {error}"))
}

impl Wire {
    /// `None`: not for the co-op's machine.
    pub fn into_domain(self) -> anyhow::Result<Option<Request>> {
        let agreement = |name: String, act| anyhow::Ok(Request::Agreement { name: name.parse()?, act });
        Ok(Some(match self {
            Self::Invite { key, uses } => Request::Invite { key: key.parse::<PublicKey>()?, uses },
            Self::AddNeighbour { name, key, address, terms, replace } => Request::AddNeighbour {
                coop: Coop { name: name.parse()?, key: key.parse()? },
                address,
                terms: terms.map(TermsFile::into_terms).transpose()?.map(Box::new),
                replace,
            },
            Self::Neighbours => Request::Neighbours,
            Self::ShowNeighbour { name } => Request::ShowNeighbour { name: name.parse::<CoopName>()? },
            Self::Propose { name, terms } => agreement(name, Act::Propose(Box::new(terms.into_terms()?)))?,
            Self::Accept { name, document } => agreement(name, Act::Accept { document: document.into_bytes() })?,
            Self::Suspend { name, reason } => agreement(name, Act::Suspend(parse_line(&reason)?))?,
            Self::Resume { name } => agreement(name, Act::Resume)?,
            Self::End { name, reason } => agreement(name, Act::End(parse_line(&reason)?))?,
            Self::HandOver { room, to } => Request::HandOver { room: room.parse()?, to: to.parse()? },
            Self::Status => Request::Status,
            Self::Restored => Request::Restored,
            Self::ReadKeys => return Ok(None),
        }))
    }
}

impl Answer {
    pub fn from_domain(reply: Reply, running: bool) -> Self {
        match reply {
            Reply::Done => Self::Done,
            Reply::Refused(why) => Self::Refused(why),
            Reply::Neighbours(list) => Self::Neighbours(list.into_iter().map(neighbour_line).collect()),
            Reply::Shown(shown) => Self::Neighbour(Box::new(neighbour_view(&shown))),
            Reply::Status(status) => Self::Status(Box::new(status_view(*status, running))),
        }
    }
}

fn neighbour_line(neighbour: Neighbour) -> NeighbourLine {
    NeighbourLine {
        name: neighbour.coop.name.to_string(),
        key: format!("ed25519:{}", neighbour.coop.key),
        address: neighbour.address,
        agreed: neighbour.agreed,
        up: neighbour.up,
        state: neighbour.state.as_str().to_owned(),
    }
}

fn text(agreement: &Agreement) -> String {
    String::from_utf8_lossy(&agreement.document()).into_owned()
}

fn notice_view(notice: &Notice) -> NoticeView {
    let standing = match notice.standing {
        Standing::Open => "open",
        Standing::Suspended => "suspended",
        Standing::Ended => "ended",
    };
    NoticeView { standing: standing.to_owned(), at: time(notice.at), effective: time(notice.effective), reason: notice.reason.to_string() }
}

fn neighbour_view(shown: &Shown) -> NeighbourView {
    let neighbour = &shown.neighbour;
    let record = neighbour.pact.record();
    let signed = record.signed.as_ref().map(|signed| {
        // The keys are those of the document, which may be earlier ones.
        let parties = Agreement::parse(&signed.document).map(|agreement| agreement.parties().to_vec()).unwrap_or_default();
        let signatures = parties.into_iter().map(|party| {
            let signature: &Signature = if party.name == shown.me.name { &signed.ours } else { &signed.theirs };
            SignatureView { name: party.name.to_string(), key: format!("ed25519:{}", party.key), signature: to_hex(&signature.0) }
        });
        SignedView {
            document: String::from_utf8_lossy(&signed.document).into_owned(),
            signatures: signatures.collect(),
            since: time(signed.since),
        }
    });
    NeighbourView {
        name: neighbour.coop.name.to_string(),
        key: format!("ed25519:{}", neighbour.coop.key),
        rooms_key: format!("ed25519:{}", neighbour.in_rooms().key),
        address: neighbour.address.clone(),
        state: neighbour.pact.state(shown.now).as_str().to_owned(),
        up: shown.is_up,
        signed,
        proposed_here: shown.proposed.as_ref().map(text),
        proposed_there: shown.offered.as_ref().map(text),
        notice_here: record.our_notice.as_ref().map(notice_view),
        notice_there: record.their_notice.as_ref().map(notice_view),
    }
}

fn status_view(status: Status, running: bool) -> StatusView {
    let incarnation = |at: u64| (at > 0).then(|| time(UnixSeconds(at)));
    let neighbour = |neighbour: NeighbourStatus| NeighbourStatusView {
        name: neighbour.name.to_string(),
        address: neighbour.address,
        state: neighbour.state.as_str().to_owned(),
        up: neighbour.connection.is_some(),
        since: neighbour.link.since.map(time),
        last_error: neighbour.link.last_error,
        restored: neighbour.link.incarnation.and_then(incarnation),
        behind_entries: neighbour.behind_entries,
        behind_s: neighbour.behind_s,
        waiting_entries: neighbour.waiting_entries,
        bytes_in: neighbour.bytes.map(|(bytes_in, _)| bytes_in),
        bytes_out: neighbour.bytes.map(|(_, bytes_out)| bytes_out),
    };
    let frozen = |room: &RoomStatus| {
        room.frozen.as_ref().map(|proof| FrozenView {
            room: to_hex(&room.room.0),
            by: proof.convicted().name.to_string(),
            why: proof.words(),
            proof: proof.to_file(),
        })
    };
    let room = |room: RoomStatus| RoomStatusView {
        room: to_hex(&room.room.0),
        number: room.number.0,
        role: if room.is_hub { "hub" } else { "mirror" }.to_owned(),
        hub: room.hub.to_string(),
        size: room.size,
        term: room.term.map(|term| term.0),
        certified: room.certified,
        pending: room.pending,
        held: room.held.into_iter().map(|(name, size)| (name.to_string(), size)).collect(),
        refilling: room.is_restored,
    };
    StatusView {
        coop: status.coop.name.to_string(),
        key: format!("ed25519:{}", status.coop.key),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        restored: incarnation(status.incarnation),
        running,
        uptime_s: status.uptime_s,
        neighbours: status.neighbours.into_iter().map(neighbour).collect(),
        frozen: status.rooms.iter().filter_map(frozen).collect(),
        damaged: status.damaged.iter().map(|room| to_hex(&room.0)).collect(),
        rooms: status.rooms.into_iter().map(room).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(UnixSeconds(0)), "1970-01-01T00:00:00Z");
        assert_eq!(time(UnixSeconds(1_790_000_123)), "2026-09-21T14:15:23Z");
    }
}
