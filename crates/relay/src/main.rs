//! `kithd`: a co-op's server and its steward's commands.

mod commands;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use kith_protocol::ids::{CoopName, RoomId};
use kith_relay::admin::Wire;
use kith_relay::config::Folder;
use kith_relay::server;

/// A Kith co-op's server. Each co-op is a folder: its configuration, its keys, its database.
///
/// A first co-op:  kithd init coop --name alder.example && kithd serve coop
/// Then, for each member:  kithd invite coop
#[derive(Parser)]
#[command(name = "kithd", version, arg_required_else_help = true, verbatim_doc_comment)]
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
    /// Say that the folder was put back from a backup, before it serves again.
    ///
    /// What the co-op signed since the backup was made is not in it. Its rooms go on once they have been compared with the
    /// copies of other co-ops; `kithd status` shows which still wait. Neighbours are told.
    Restored {
        folder: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// How the co-op is: links, rooms, and who is behind.
    Status {
        folder: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Neighbouring co-ops, with which rooms are shared.
    #[command(subcommand)]
    Neighbour(commands::neighbour::Neighbour),
    /// The co-op's own keys.
    #[command(subcommand)]
    Key(commands::key::Key),
    /// Rooms that this co-op holds.
    #[command(subcommand)]
    Room(Room),
    /// Proofs that a co-op broke its word.
    #[command(subcommand)]
    Proof(commands::proof::Proof),
}

#[derive(Subcommand)]
enum Room {
    /// Have another of the room's voters order it from now on. Members notice nothing.
    Handover {
        folder: PathBuf,
        /// The room's whole id; `kithd status --json` lists them.
        room: RoomId,
        /// The neighbour that takes it over.
        to: CoopName,
    },
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("KITHD_LOG").unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .json()
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(arguments.command)));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kithd: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init { folder, name, listen, link_listen } => {
            Folder::init(&folder, &name, listen, link_listen)?;
            crate::commands::line!("{}", what_is_next(&name, &folder));
            Ok(())
        }
        Command::Serve { folder } => server::serve(&folder).await,
        Command::Invite { folder, uses, json } => commands::invite(&folder, uses, json).await,
        Command::Restored { folder, json } => commands::restored(&folder, json).await,
        Command::Status { folder, json } => commands::status::run(&folder, json).await,
        Command::Neighbour(command) => commands::neighbour::run(command).await,
        Command::Key(command) => commands::key::run(command).await,
        Command::Proof(command) => commands::proof::run(command).await,
        Command::Room(Room::Handover { folder, room, to }) => {
            commands::ask(&folder, Wire::HandOver { room: room.to_string(), to: to.to_string() }).await?;
            crate::commands::line!("{to} has been asked to order the room. Its other voters are told; this takes a moment.");
            Ok(())
        }
    }
}

/// A folder that was just made may lack something yet: that is said now, not when it is to serve.
fn what_is_next(name: &CoopName, folder: &Path) -> String {
    let at = folder.display();
    match Folder::open(folder) {
        Ok(_) => format!("{name} is ready in {at}. Start it: kithd serve {at}"),
        Err(lacks) => format!("{name} stands in {at}, and needs one thing before `kithd serve {at}`: {lacks}"),
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
        assert_eq!(found, ["json", "link", "link-listen", "listen", "name", "overlap-days", "reason", "replace", "terms", "uses"]);
        assert!(Arguments::try_parse_from(["kithd", "serve", "folder", "--no-auth"]).is_err());
    }

    #[test]
    fn a_folder_that_cannot_serve_yet_says_what_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let name: CoopName = "alder.test".parse().unwrap();
        for (listen, words) in [("127.0.0.1:7401", "alder.test is ready in"), ("0.0.0.0:7401", "behind_proxy")] {
            let folder = dir.path().join(listen);
            Folder::init(&folder, &name, listen.parse().unwrap(), "127.0.0.1:7411".parse().unwrap()).unwrap();
            let said = what_is_next(&name, &folder);
            assert!(said.contains(words) && said.contains("kithd serve"), "{said}");
            assert_eq!(said.contains("is ready"), Folder::open(&folder).is_ok());
        }
    }
}
