//! `kithd`: a co-op's server and its steward's commands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use kith_protocol::ids::{Coop, CoopName, Millis, PublicKey, RoomId};
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::sign::SecretKey;
use kith_relay::admin::{self, NeighbourLine};
use kith_relay::config::{Folder, random_seed};
use kith_relay::coop::driver::{boot, wall};
use kith_relay::coop::steward::{Reply, Request};
use kith_relay::coop::{Coop as Machine, Effect, Input};
use kith_relay::server;
use kith_storage::Writer;
use kith_storage::sqlite::Sqlite;
use serde_json::json;

/// A Kith co-op's server. Each co-op is a folder: its configuration, its keys, its database.
///
/// A first co-op:  kithd init coop --name alder.example && kithd serve coop
/// Then, for each member:  kithd invite coop
#[derive(Parser)]
#[command(name = "kithd", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a co-op: its folder, configuration and keys.
    Init {
        folder: PathBuf,
        /// The co-op's domain, by which neighbours know it.
        #[arg(long)]
        name: CoopName,
        /// Where members connect. Plain connections are for loopback; see kithd.toml for TLS.
        #[arg(long, default_value = "127.0.0.1:7401")]
        listen: SocketAddr,
        /// Where neighbouring co-ops connect.
        #[arg(long, default_value = "127.0.0.1:7411")]
        link_listen: SocketAddr,
    },
    /// Run the co-op until it is told to stop.
    Serve { folder: PathBuf },
    /// Print a membership link: whoever opens it becomes a member.
    Invite {
        folder: PathBuf,
        /// How many people may use it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        uses: u32,
        #[arg(long)]
        json: bool,
    },
    /// Neighbouring co-ops, with which rooms are shared.
    #[command(subcommand)]
    Neighbour(Neighbour),
    /// Rooms that this co-op holds.
    #[command(subcommand)]
    Room(Room),
}

#[derive(Subcommand)]
enum Room {
    /// Have another of the room's voters order it from now on. Members notice nothing.
    Handover {
        folder: PathBuf,
        /// The room's id, as `kith rooms` shows it to its members.
        room: RoomId,
        /// The neighbour that takes it over.
        to: CoopName,
    },
}

#[derive(Subcommand)]
enum Neighbour {
    /// Print this co-op's name and root key, for a neighbour's steward.
    Key {
        folder: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Agree with a neighbour. Traffic starts once both sides have added each other.
    Add {
        folder: PathBuf,
        /// The neighbour's domain.
        name: CoopName,
        /// HOST:PORT of its link.
        address: String,
        /// Its root key, as `kithd neighbour key` printed it there.
        key: String,
    },
    /// List the neighbours and whether their links are up.
    List {
        folder: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("KITHD_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .json()
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(arguments.command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init { folder, name, listen, link_listen } => {
            Folder::init(&folder, &name, listen, link_listen)?;
            println!("{name} is ready in {0}. Start it: kithd serve {0}", folder.display());
            Ok(())
        }
        Command::Serve { folder } => server::serve(&folder).await,
        Command::Invite { folder, uses, json } => invite(&folder, uses, json).await,
        Command::Neighbour(Neighbour::Key { folder, json }) => {
            let coop = Folder::open(&folder)?.coop;
            let key = format!("ed25519:{}", coop.key);
            if json {
                println!("{}", json!({ "name": coop.name.as_str(), "key": key }))
            } else {
                println!("{} {key}", coop.name)
            }
            Ok(())
        }
        Command::Neighbour(Neighbour::Add { folder, name, address, key }) => {
            let key = parse_key(&key)?;
            let coop = Coop { name: name.clone(), key };
            if !address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
                bail!("the address of a link is HOST:PORT, such as 127.0.0.1:7412");
            }
            ask(&folder, Request::AddNeighbour { coop, address }).await?;
            println!("{name} is added. Traffic starts once its steward has added this co-op too.");
            Ok(())
        }
        Command::Room(Room::Handover { folder, room, to }) => {
            ask(&folder, Request::HandOver { room, to: to.clone() }).await?;
            println!("{to} has been asked to order the room. Its other voters are told; this takes a moment.");
            Ok(())
        }
        Command::Neighbour(Neighbour::List { folder, json }) => {
            for line in ask(&folder, Request::Neighbours).await? {
                print_neighbour(&line, json)?;
            }
            Ok(())
        }
    }
}

fn print_neighbour(line: &NeighbourLine, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(line)?);
    } else {
        let state = match (line.agreed, line.up) {
            (false, _) => "waiting for its steward to add this co-op",
            (true, true) => "up",
            (true, false) => "down",
        };
        println!("{} {} ed25519:{} {state}", line.name, line.address, line.key);
    }
    Ok(())
}

/// `ed25519:HEX`, or what `neighbour key` prints whole.
fn parse_key(text: &str) -> anyhow::Result<PublicKey> {
    let key = text.split_whitespace().next_back().unwrap_or_default();
    key.strip_prefix("ed25519:")
        .and_then(|hex| hex.parse().ok())
        .context("a root key looks like ed25519: and 64 hexadecimal digits, as `kithd neighbour key` prints it")
}

async fn invite(path: &Path, uses: u32, json: bool) -> anyhow::Result<()> {
    let folder = Folder::open(path)?;
    // The private half goes into the link and nowhere else.
    let invite = SecretKey::from_seed(random_seed()?);
    let link = MembershipLink {
        secure: folder.config.is_secure(),
        address: folder.config.dial_address(),
        coop: folder.coop.clone(),
        invite: invite.clone(),
    };
    ask(path, Request::Invite { key: invite.public(), uses }).await?;
    let link = link.render();
    if json {
        println!("{}", json!({ "link": link }))
    } else {
        println!("{link}")
    }
    Ok(())
}

/// A running server is asked through its socket; a stopped one's folder is opened.
async fn ask(path: &Path, request: Request) -> anyhow::Result<Vec<NeighbourLine>> {
    let folder = Folder::open(path)?;
    if let Some(answer) = admin::ask(&folder.socket(), &request).await? {
        return answer.map_err(|why| anyhow::anyhow!(why));
    }
    let store = Sqlite::open(&folder.database()).await.context("cannot open the database")?;
    let mut machine = Machine::new(folder.coop.clone(), server::secrets(&folder), boot(&store, &folder.coop.name).await?, wall());
    machine.handle(Millis(0), wall(), Input::Steward { id: 1, request });
    if let Some(writes) = machine.poll_commit() {
        store.commit(writes).await?;
        machine.handle(Millis(0), wall(), Input::Committed);
    }
    let mut answer = None;
    while let Some(effect) = machine.poll_effect() {
        if let Effect::Steward { reply, .. } = effect {
            answer = Some(reply);
        }
    }
    store.close().await?;
    match answer {
        Some(Reply::Done) => Ok(Vec::new()),
        Some(Reply::Neighbours(list)) => Ok(list.into_iter().map(admin::line).collect()),
        Some(Reply::Refused(why)) => bail!(why),
        None => bail!("nothing came of it"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn options(command: &clap::Command, found: &mut Vec<String>) {
        found.extend(command.get_arguments().filter_map(|argument| argument.get_long()).map(str::to_owned));
        command.get_subcommands().for_each(|below| options(below, found));
    }

    /// Every option that the program has, so that a new one is looked at: none lets anybody in unchecked.
    #[test]
    fn fault_14_no_option_turns_a_check_off() {
        let mut found = Vec::new();
        let command = Arguments::command();
        options(&command, &mut found);
        found.sort();
        found.dedup();
        assert_eq!(found, ["json", "link-listen", "listen", "name", "uses"]);
        assert!(Arguments::try_parse_from(["kithd", "serve", "folder", "--no-auth"]).is_err());
    }
}
