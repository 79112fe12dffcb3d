//! `kithd key`: the co-op's own keys.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use kith_protocol::limits::{ROOT_OVERLAP_S, ROOT_OVERLAP_S_MAX};
use kith_relay::admin::{Wire, time};
use kith_relay::config::Folder;
use kith_relay::coop::driver::wall;
use kith_relay::keys::Keys;
use serde_json::json;

use super::ask;

const DAY_S: u64 = 24 * 3600;

#[derive(Subcommand)]
pub enum Key {
    /// Replace the root key that neighbours pin, or with --link the key of links. Take a new backup of keys.toml afterwards.
    Rotate {
        folder: PathBuf,
        /// The key with which links authenticate, not the root key.
        #[arg(long, conflicts_with = "overlap_days")]
        link: bool,
        /// How long neighbours that were away can still follow to the new root key by themselves.
        #[arg(long, default_value_t = ROOT_OVERLAP_S / DAY_S, value_parser = clap::value_parser!(u64).range(1..=ROOT_OVERLAP_S_MAX / DAY_S))]
        overlap_days: u64,
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: Key) -> anyhow::Result<()> {
    let Key::Rotate { folder, link, overlap_days, json } = command;
    rotate(&folder, link, overlap_days, json).await
}

async fn rotate(path: &Path, link: bool, overlap_days: u64, json: bool) -> anyhow::Result<()> {
    let folder = Folder::open(path)?;
    let rotated = if link { Keys::rotate_link(path)? } else { Keys::rotate_root(path, wall(), overlap_days * DAY_S)? };
    // The file counts already: if the server cannot be told, its next start takes the new keys.
    ask(path, Wire::ReadKeys).await?;
    let name = folder.coop.name;
    let end = rotated.overlap_end.map(time);
    if json {
        crate::commands::line!("{}", json!({ "name": name.as_str(), "key": format!("ed25519:{}", rotated.root), "overlap_end": end }));
    } else if let Some(end) = end {
        crate::commands::line!(
            "{name} ed25519:{}\nNeighbours that connect before {end} follow by themselves. Back up keys.toml again.",
            rotated.root
        );
    } else {
        crate::commands::line!("{name} has a new link key. Back up keys.toml again.");
    }
    Ok(())
}
