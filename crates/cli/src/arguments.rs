//! The command line, whole. Its verbs are an interface that others script against.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kith_protocol::ids::CoopName;

/// Peer support in encrypted rooms, on servers that co-ops own themselves.
///
/// Get a membership link from your co-op and run:  kith join LINK --name YOUR_NAME
/// Then join a room:  kith room join ROOMLINK
/// And say how you are:  kith checkin ROOM --pleasant 1 --energy -1 --words tired,hopeful
#[derive(Parser)]
#[command(name = "kith", version, arg_required_else_help = true, verbatim_doc_comment)]
pub struct Arguments {
    /// This device's folder: its keys, its outbox, what it has read.
    #[arg(long, global = true, env = "KITH_HOME")]
    pub home: Option<PathBuf>,
    /// Give up after this many seconds. What was written stays in the outbox.
    #[arg(long, global = true, default_value_t = 30)]
    timeout: u64,
    /// Print JSON, for scripts: the result is the last line.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Become a member of a co-op.
    Join {
        /// The membership link, whole. Put it between quotes.
        link: String,
        /// The name that rooms see. You can choose any.
        #[arg(long)]
        name: String,
    },
    /// Begin, share, join or leave a room.
    #[command(subcommand)]
    Room(Room),
    /// Say how you are. Every part can be left out.
    Checkin(CheckIn),
    /// Say something.
    Say {
        room: String,
        #[arg(allow_hyphen_values = true)]
        text: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Read a room.
    Read {
        room: String,
        /// Only what came after this number.
        #[arg(long)]
        since: Option<u64>,
        /// Stay, and print what comes.
        #[arg(long)]
        follow: bool,
    },
    /// List your rooms.
    Rooms,
    /// List the members of a room.
    Members { room: String },
    /// Check a room's whole history: proofs, the hub's checkpoint, the neighbours' signatures.
    Verify { room: String },
    /// What is waiting to be sent.
    #[command(subcommand)]
    Outbox(Outbox),
    /// Keep or check a proof that a co-op broke its word.
    #[command(subcommand)]
    Proof(Proof),
}

#[derive(Subcommand)]
pub enum Room {
    /// Begin a room. You are its facilitator.
    New { name: String },
    /// Print a link with which others can join.
    Invite {
        room: String,
        /// How many people may use it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
    },
    /// Join a room by its link.
    Join {
        /// The room link, whole. Put it between quotes.
        link: String,
    },
    /// Leave a room. What you read stays readable on this device.
    Leave { room: String },
    /// Show whose votes decide which co-op keeps the room in order, or change them by one. With three or more the room
    /// outlives any one of them.
    Voters {
        room: String,
        /// A co-op with members in the room whose vote is to count.
        #[arg(long, value_name = "COOP", conflicts_with = "remove")]
        add: Option<CoopName>,
        /// A co-op whose vote is no longer to count.
        #[arg(long, value_name = "COOP")]
        remove: Option<CoopName>,
        /// With two voters: the third co-op that decides when they cannot reach each other.
        #[arg(long, value_name = "COOP")]
        tie_breaker: Option<CoopName>,
    },
}

#[derive(Args)]
pub struct CheckIn {
    pub room: String,
    /// From -2 (very unpleasant) to 2 (very pleasant).
    #[arg(long, allow_hyphen_values = true, value_parser = clap::value_parser!(i8).range(-2..=2))]
    pub pleasant: Option<i8>,
    /// From -2 (no energy) to 2 (full of it).
    #[arg(long, allow_hyphen_values = true, value_parser = clap::value_parser!(i8).range(-2..=2))]
    pub energy: Option<i8>,
    /// Up to five words for what you feel, with commas between them.
    #[arg(long, value_delimiter = ',')]
    pub words: Vec<String>,
    /// Up to 500 characters.
    #[arg(long, default_value = "")]
    pub note: String,
    /// What it is about, so that readers may fold it.
    #[arg(long, default_value = "")]
    pub about: String,
    /// What would help.
    #[arg(long, value_enum)]
    pub support: Option<Support>,
    #[command(flatten)]
    pub wait: Wait,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Support {
    JustSharing,
    PleaseListen,
    SimilarExperience,
    IdeasWelcome,
    CheckBack,
    TalkToSomeone,
    NeedSomeoneNow,
}

#[derive(Args)]
pub struct Wait {
    /// How far it must have come before this returns.
    #[arg(long = "wait", value_enum, default_value_t = Until::Stored)]
    pub until: Until,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Until {
    /// Durable at your co-op.
    Stored,
    /// It has its place in the room.
    Ordered,
    /// Every co-op of the room has it, and has signed so.
    Held,
}

#[derive(Subcommand)]
pub enum Proof {
    /// Write the proof about a frozen room to a file that you can send to anybody.
    Save { room: String, file: PathBuf },
    /// Check such a file. Needs no server, and no membership anywhere.
    Check { file: PathBuf },
}

#[derive(Subcommand)]
pub enum Outbox {
    /// List what is waiting.
    List,
    /// Take back something that no server has been handed.
    Cancel { item: u64 },
}
