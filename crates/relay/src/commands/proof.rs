//! `kithd proof`: what proves that a co-op broke its word, for whoever is to check it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kith_relay::admin::{Answer, Wire};
use serde_json::json;

#[derive(clap::Subcommand)]
pub enum Proof {
    /// Write the proof about a frozen room to a file. Anybody checks it with `kith proof check FILE`, without a server.
    Save {
        folder: PathBuf,
        /// The room's id or how it begins, as `kithd status` shows it.
        room: String,
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: Proof) -> anyhow::Result<()> {
    let Proof::Save { folder, room, file, json } = command;
    save(&folder, &room, &file, json).await
}

async fn save(folder: &Path, room: &str, file: &Path, json: bool) -> anyhow::Result<()> {
    let Answer::Status(status) = super::ask(folder, Wire::Status).await? else { bail!("nothing came of it") };
    let mut found = status.frozen.iter().filter(|frozen| frozen.room.starts_with(room));
    let (Some(frozen), None) = (found.next(), found.next()) else {
        bail!("no frozen room begins with {room}, or more than one does; `kithd status` lists them");
    };
    std::fs::write(file, &frozen.proof).with_context(|| format!("cannot write {}", file.display()))?;
    if json {
        crate::commands::line!("{}", json!({ "room": frozen.room, "by": frozen.by, "file": file.display().to_string() }));
    } else {
        crate::commands::line!("Written. Anybody can check it: kith proof check {}", file.display());
    }
    Ok(())
}
