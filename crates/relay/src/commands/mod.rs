//! The steward's commands. A running server is asked through its socket; a stopped one's folder is opened.

pub mod key;
pub mod neighbour;
pub mod proof;
pub mod status;

use std::fs::File;
use std::io::{ErrorKind, Write as _, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use kith_protocol::ids::Millis;
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::sign::SecretKey;
use kith_relay::admin::{self, Answer, Wire};
use kith_relay::config::{Folder, FolderError, LOCK_AGAIN, random_seed};
use kith_relay::coop::driver::{boot, wall};
use kith_relay::coop::{Coop as Machine, Effect, Input};
use kith_storage::Writer;
use kith_storage::sqlite::Sqlite;
use serde_json::json;
use tokio::time::{Instant, sleep};

/// How long a server that has the folder may take until it answers.
const LONGEST_START: Duration = Duration::from_secs(10);

/// To standard output. Whoever reads it may stop reading: that ends the program, quietly.
pub fn to_stdout(text: std::fmt::Arguments<'_>) {
    if let Err(error) = stdout().lock().write_fmt(text) {
        let quiet = error.kind() == ErrorKind::BrokenPipe;
        if !quiet {
            eprintln!("kithd: cannot write what there is to say: {error}");
        }
        std::process::exit(if quiet { 0 } else { 1 });
    }
}

macro_rules! text {
    ($($text:tt)*) => { crate::commands::to_stdout(format_args!($($text)*)) };
}
macro_rules! line {
    ($($text:tt)*) => { crate::commands::to_stdout(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use {line, text};

pub async fn restored(path: &Path, json: bool) -> anyhow::Result<()> {
    ask(path, Wire::Restored).await?;
    let Answer::Status(status) = ask(path, Wire::Status).await? else { bail!("the server gave no status") };
    let refilling = status.rooms.iter().filter(|room| room.refilling).count();
    if json {
        line!("{}", json!({ "name": status.coop, "restored": status.restored, "refilling": refilling }));
    } else {
        line!(
            "{} knows now that it was put back from a backup. {refilling} rooms wait to be compared with other co-ops' copies; \
             `kithd status {}` shows how far they are.",
            status.coop,
            path.display()
        );
    }
    Ok(())
}

/// What the co-op answers; its refusal is an error.
pub async fn ask(path: &Path, request: Wire) -> anyhow::Result<Answer> {
    let folder = Folder::open(path)?;
    let deadline = Instant::now() + LONGEST_START;
    let answer = loop {
        if let Some(answer) = admin::ask(&folder.socket(), &request).await? {
            break answer;
        }
        match folder.lock() {
            Ok(lock) => break ask_folder(folder, &lock, request).await?,
            // A server that is about to answer, or one that is about to be gone.
            Err(FolderError::Running(_)) if Instant::now() < deadline => sleep(LOCK_AGAIN).await,
            Err(error) => return Err(error.into()),
        }
    };
    if let Answer::Refused(why) = answer { bail!(why) } else { Ok(answer) }
}

/// Nobody else works in the folder meanwhile: each would overwrite what the other decided.
async fn ask_folder(folder: Folder, _lock: &File, request: Wire) -> anyhow::Result<Answer> {
    // The keys of a server that does not run are read when it starts.
    let Some(request) = request.into_domain()? else { return Ok(Answer::Done) };
    let store = Sqlite::open(&folder.database()).await.context("cannot open the database")?;
    let boot = boot(&store, &folder.coop.name).await?;
    let mut machine = Machine::new(folder.coop, folder.keys.secrets, boot, wall());
    machine.handle(Millis(0), wall(), Input::Steward { id: 1, request });
    if let Some(writes) = machine.poll_commit() {
        store.commit(writes).await?;
        machine.handle(Millis(0), wall(), Input::Committed);
    }
    let mut answer = None;
    while let Some(effect) = machine.poll_effect() {
        if let Effect::Steward { reply, .. } = effect {
            answer = Some(Answer::from_domain(reply, false));
        }
    }
    store.close().await?;
    answer.context("nothing came of it")
}

pub async fn invite(path: &Path, uses: u32, json: bool) -> anyhow::Result<()> {
    let folder = Folder::open(path)?;
    // The private half goes into the link and nowhere else.
    let invite = SecretKey::from_seed(random_seed()?);
    let link = MembershipLink {
        secure: folder.config.is_secure(),
        address: folder.config.dial_address(),
        coop: folder.coop.clone(),
        invite: invite.clone(),
    };
    ask(path, Wire::Invite { key: invite.public().to_string(), uses }).await?;
    let link = link.render();
    if json {
        crate::commands::line!("{}", json!({ "link": link }))
    } else {
        crate::commands::line!("{link}")
    }
    Ok(())
}
