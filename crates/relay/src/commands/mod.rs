//! The steward's commands. A running server is asked through its socket; a stopped one's folder is opened.

pub mod key;
pub mod neighbour;
pub mod proof;
pub mod status;

use std::path::Path;

use anyhow::{Context, bail};
use kith_protocol::ids::Millis;
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::sign::SecretKey;
use kith_relay::admin::{self, Answer, Wire};
use kith_relay::config::{Folder, random_seed};
use kith_relay::coop::driver::{boot, wall};
use kith_relay::coop::{Coop as Machine, Effect, Input};
use kith_storage::Writer;
use kith_storage::sqlite::Sqlite;
use serde_json::json;

/// What the co-op answers; its refusal is an error.
pub async fn ask(path: &Path, request: Wire) -> anyhow::Result<Answer> {
    let folder = Folder::open(path)?;
    let answer = match admin::ask(&folder.socket(), &request).await? {
        Some(answer) => answer,
        None => ask_folder(folder, request).await?,
    };
    if let Answer::Refused(why) = answer { bail!(why) } else { Ok(answer) }
}

async fn ask_folder(folder: Folder, request: Wire) -> anyhow::Result<Answer> {
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
        println!("{}", json!({ "link": link }))
    } else {
        println!("{link}")
    }
    Ok(())
}
