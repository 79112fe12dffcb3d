//! `kith proof`: the proof that somebody broke their word, kept and checked without any server.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use kith_protocol::limits::PROOF_BYTES_MAX;
use kith_protocol::log::proof::Proof;
use serde_json::json;

use super::Session;

/// Most that is read of a file: a proof in base64, and whatever a mail program put around it.
const LONGEST_FILE: u64 = 4 * PROOF_BYTES_MAX as u64;

/// Checks a proof by what stands in it alone. Needs no home and no network.
pub fn check(file: &Path, is_json: bool) -> Result<()> {
    let mut text = String::new();
    let opened = std::fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    opened.take(LONGEST_FILE).read_to_string(&mut text).context("this is no proof of Kith's: it is not text")?;
    let proof = Proof::from_file(&text)?;
    let verdict = proof.verify();
    let (room, term, convicted) = (proof.room().to_string(), proof.term(), proof.convicted());
    let kind = match &proof {
        Proof::Fork(_) => "fork",
        Proof::DoubleVote(_) => "double_vote",
    };
    if is_json {
        let problem = verdict.err().map(|error| error.to_string());
        let line = json!({
            "ok": problem.is_none(), "kind": kind, "room": room, "term": term.0,
            "convicted": convicted.name.to_string(), "key": format!("ed25519:{}", convicted.key), "problem": problem,
        });
        crate::print::line!("{line}");
    } else if verdict.is_ok() {
        crate::print::line!("It holds. {}.", proof.words());
        crate::print::line!("Room {room}, term {}. The key that signed both: ed25519:{}", term.0, convicted.key);
        crate::print::line!("Compare that key with the one that you know of {} (`kithd neighbour key` prints it).", convicted.name);
    }
    if let Err(error) = verdict { bail!("the proof proves nothing: {error}") } else { Ok(()) }
}

impl Session {
    /// Writes the proof about a room to a file.
    pub async fn proof_save(&mut self, room: &str, file: &Path) -> Result<()> {
        let room = self.find_room(room)?;
        // What the device has is enough; the newest is better.
        let _ = self.client.sync(self.deadline).await;
        let Some(text) = self.client.home.step(|core| core.proof(&room))?.0? else {
            bail!("nobody has broken their word in that room as far as this device knows; `kith verify ROOM` looks into it");
        };
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        let shown = file.display().to_string();
        self.result(
            &json!({ "room": room.to_string(), "file": shown }),
            &format!("Written. Anybody can check it: kith proof check {shown}"),
        );
        Ok(())
    }
}
