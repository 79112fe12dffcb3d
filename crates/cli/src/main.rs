//! `kith`: the member's side, on a terminal.

mod arguments;
mod print;
mod proof;
mod read;
mod voters;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use kith_client::core::{Event, ItemState};
use kith_client::native::client::{Tell, now, refusal};
use kith_client::native::{Client, ClientError, Home};
use kith_protocol::content::{CheckIn, Content, Support, Visibility};
use kith_protocol::ids::{RoomId, Seq};
use kith_protocol::invite_link::{MembershipLink, RoomLink};
use serde_json::{Value, json};
use tokio::time::Instant;

use arguments::{Arguments, Command, Outbox, Room, Until};

/// How long a command waits for signatures of other co-ops that it can do without.
const MARKS_WAIT: Duration = Duration::from_millis(800);

fn main() -> std::process::ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let outcome = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(arguments)));
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kith: {}", print::clean(&format!("{error:#}")));
            std::process::ExitCode::FAILURE
        }
    }
}

fn home_of(arguments: &Arguments) -> Result<PathBuf> {
    if let Some(home) = &arguments.home {
        return Ok(home.clone());
    }
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    Ok(base.context("there is no HOME; say where with --home")?.join("kith"))
}

/// What ends by itself is no reason to stop.
fn is_passing(error: &ClientError) -> bool {
    matches!(error, ClientError::TimedOut | ClientError::PutOff { .. } | ClientError::Connect(_))
}

/// One command at work.
struct Session {
    client: Client,
    json: bool,
    deadline: Instant,
}

async fn run(arguments: Arguments) -> Result<()> {
    if let Command::Proof(arguments::Proof::Check { file }) = &arguments.command {
        return proof::check(file, arguments.json);
    }
    let timeout = arguments.timeout();
    let tell = Tell { put_off: print::put_off, slow: print::slow, failed: print::failed };
    let client = Client::new(Home::open(&home_of(&arguments)?)?, tell);
    let mut session = Session { client, json: arguments.json, deadline: Instant::now() + timeout };
    let outcome = session.command(arguments.command).await;
    session.client.close().await;
    outcome
}

impl Session {
    async fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Join { link, name } => self.join(&link, &name).await,
            Command::Room(Room::New { name }) => self.room_new(&name).await,
            Command::Room(Room::Invite { room, uses }) => self.room_invite(&room, uses).await,
            Command::Room(Room::Join { link }) => self.room_join(&link).await,
            Command::Room(Room::Leave { room }) => self.room_leave(&room).await,
            Command::Room(Room::Voters { room, add, remove, tie_breaker }) => {
                self.voters(&room, voters::Change { add, remove, tie_breaker }).await
            }
            Command::Checkin(check_in) => self.check_in(check_in).await,
            Command::Say { room, text, wait } => self.say(&room, Content::Text(text), wait.until).await,
            Command::Read { room, since, follow } => self.read(&room, since, follow).await,
            Command::Rooms => self.rooms().await,
            Command::Members { room } => self.members(&room).await,
            Command::Verify { room } => self.verify(&room).await,
            Command::Proof(arguments::Proof::Save { room, file }) => self.proof_save(&room, &file).await,
            Command::Proof(arguments::Proof::Check { file }) => proof::check(&file, self.json),
            Command::Outbox(Outbox::List) => self.outbox_list(),
            Command::Outbox(Outbox::Cancel { item }) => self.outbox_cancel(item),
        }
    }

    fn result(&self, value: &Value, text: &str) {
        if self.json { print::line!("{value}") } else { print::line!("{text}") }
    }

    /// A full id, or any part from its beginning that is enough.
    fn find_room(&mut self, text: &str) -> Result<RoomId> {
        let (ids, _) = self.client.home.step(|core| core.room_ids())?;
        let mut found = ids.into_iter().filter(|id| id.to_string().starts_with(&text.to_lowercase()));
        match (found.next(), found.next()) {
            (Some(id), None) if !text.is_empty() => Ok(id),
            (Some(_), _) => bail!("{text:?} fits several rooms. Give more of the room's id; `kith rooms` lists them"),
            (None, _) => bail!("no room {text:?} on this device. `kith rooms` lists yours"),
        }
    }

    async fn join(&mut self, link: &str, name: &str) -> Result<()> {
        let link = MembershipLink::parse(link)?;
        let (done, _) = self.client.home.step(|core| core.join_coop(now(), &link, name))?;
        done?;
        let outcome = self
            .client
            .until(self.deadline, |home, events| {
                refusal(events)?;
                let (handle, _) = home.step(|core| core.account().and_then(|account| account.handle))?;
                Ok(handle)
            })
            .await;
        if let Err(ClientError::Refused { .. }) = outcome {
            self.client.home.step(|core| core.forget_failed_join())?;
        }
        outcome?;
        let coop = link.coop.name.as_str();
        self.result(&json!({ "coop": coop, "name": name }), &format!("Welcome, {name}. You are a member of {coop}."));
        Ok(())
    }

    async fn room_new(&mut self, name: &str) -> Result<()> {
        let room = self.client.home.step(|core| core.new_room(now(), name))?.0?;
        self.until_room(&room).await?;
        self.flush(&room).await?;
        self.result(&json!({ "room": room.to_string() }), &room.to_string());
        Ok(())
    }

    /// Waits until a room that is being created or joined is there.
    async fn until_room(&mut self, room: &RoomId) -> Result<(), ClientError> {
        let target = *room;
        self.client
            .until(self.deadline, move |home, events| {
                for event in events {
                    if let Event::JoinFailed { room, code, detail } = event
                        && *room == target
                    {
                        return Err(ClientError::Refused { code: *code, detail: detail.clone() });
                    }
                }
                refusal(events)?;
                let (phase, _) = home.step(|core| core.phase_name(&target))?;
                Ok((phase == "active").then_some(()))
            })
            .await
    }

    /// Sends what waits, as far as it becomes stored.
    async fn flush(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.client.sync(self.deadline).await?;
        let target = *room;
        self.client
            .until(self.deadline, move |home, events| {
                refusal(events)?;
                let (items, _) = home.step(|core| core.items())?;
                let waiting = items.iter().any(|item| item.room == target && item.state == ItemState::Waiting);
                Ok((!waiting).then_some(()))
            })
            .await
    }

    async fn room_invite(&mut self, room: &str, uses: u32) -> Result<()> {
        let room = self.find_room(room)?;
        self.client.sync(self.deadline).await?;
        let ((item, link), _) = {
            let (made, events) = self.client.run(|core| core.invite(now(), &room, uses)).await?;
            (made?, events)
        };
        self.until_item(&room, item, Until::Ordered).await?;
        self.result(&json!({ "link": link }), &link);
        Ok(())
    }

    async fn room_join(&mut self, link: &str) -> Result<()> {
        let link = RoomLink::parse(link)?;
        match self.client.home.step(|core| core.join_room(now(), &link))?.0 {
            Ok(()) => {}
            Err(kith_client::core::CoreError::AlreadyIn) => {
                self.result(&json!({ "room": link.room.to_string() }), &link.room.to_string());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        let outcome = self.until_room(&link.room).await;
        if let Err(ClientError::Refused { .. }) = outcome {
            self.client.home.step(|core| core.give_up_join(&link.room))?;
        }
        outcome?;
        self.flush(&link.room).await?;
        self.result(&json!({ "room": link.room.to_string() }), &link.room.to_string());
        Ok(())
    }

    async fn room_leave(&mut self, room: &str) -> Result<()> {
        let room = self.find_room(room)?;
        self.client.home.step(|core| core.leave(now(), &room))?.0?;
        self.client
            .until(self.deadline, move |home, events| {
                refusal(events)?;
                let (phase, _) = home.step(|core| core.phase_name(&room))?;
                Ok(matches!(phase, "left" | "removed").then_some(()))
            })
            .await?;
        self.result(&json!({ "room": room.to_string() }), "You have left the room.");
        Ok(())
    }

    async fn check_in(&mut self, wanted: arguments::CheckIn) -> Result<()> {
        let support = wanted.support.map(|support| match support {
            arguments::Support::JustSharing => Support::JustSharing,
            arguments::Support::PleaseListen => Support::PleaseListen,
            arguments::Support::SimilarExperience => Support::SimilarExperience,
            arguments::Support::IdeasWelcome => Support::IdeasWelcome,
            arguments::Support::CheckBack => Support::CheckBack,
            arguments::Support::TalkToSomeone => Support::TalkToSomeone,
            arguments::Support::NeedSomeoneNow => Support::NeedSomeoneNow,
        });
        let check_in = CheckIn {
            pleasant: wanted.pleasant,
            energy: wanted.energy,
            words: wanted.words.into_iter().map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect(),
            note: wanted.note,
            about: wanted.about,
            support,
            visibility: Visibility::Room,
            expires: None,
        };
        if support == Some(Support::NeedSomeoneNow) {
            eprintln!(
                "Nobody is on call in this room yet: whoever reads it next may answer, and that may take a while.\n\
                 If you are in danger now, call your local emergency number, or somebody whom you trust."
            );
        }
        self.say(&wanted.room, Content::CheckIn(check_in), wanted.wait.until).await
    }

    async fn say(&mut self, room: &str, content: Content, until: Until) -> Result<()> {
        let room = self.find_room(room)?;
        // In the outbox, durable, before anything else is tried.
        let item = self.client.home.step(|core| core.say(now(), &room, &content))?.0?;
        let state = match self.until_item(&room, item, until).await {
            Err(error) if is_passing(&error) => return Err(self.left_waiting(&room, item, error)),
            outcome => outcome?,
        };
        let seq = match state {
            ItemState::Ordered(seq) | ItemState::Held { seq, .. } => Some(seq.0),
            _ => None,
        };
        if self.json {
            print::line!("{}", json!({ "item": item, "state": print::state_name(state), "seq": seq }));
        }
        Ok(())
    }

    /// What to tell whoever will not wait any longer: how far it came, so that nobody writes it twice for not being sure.
    fn left_waiting(&mut self, room: &RoomId, item: u64, error: ClientError) -> anyhow::Error {
        let why = match error {
            ClientError::Connect(error) => error.to_string(),
            ClientError::PutOff { detail, .. } => format!("it did not come about in time: {detail}"),
            _ => "it did not come about in time".to_owned(),
        };
        let state = match self.client.home.step(|core| core.item_state(room, item)) {
            Err(error) => return error.into(),
            Ok((ItemState::Stored, _)) => "It is stored at your co-op, which sends it on by itself",
            Ok((ItemState::Ordered(_) | ItemState::Held { .. }, _)) => "It is in the room, and not yet held by every co-op of the room",
            Ok(_) => "It is kept in the outbox and goes out with the next command that connects",
        };
        anyhow!("{why}. {state}: do not write it again")
    }

    /// Waits until an item has come as far as asked.
    async fn until_item(&mut self, room: &RoomId, item: u64, until: Until) -> Result<ItemState, ClientError> {
        let room = *room;
        self.client.awaited = Some(item);
        if until == Until::Held {
            // Marks are over places in the log: first it needs one.
            Box::pin(self.until_item(&room, item, Until::Ordered)).await?;
        }
        let mut watched = Instant::now();
        if until == Until::Held {
            self.ask_marks(&room).await?;
            watched += Duration::from_millis(400);
        }
        loop {
            let step = (Instant::now() + Duration::from_millis(500)).min(self.deadline);
            let outcome = self
                .client
                .until(step, move |home, events| {
                    for event in events {
                        if let Event::ItemFailed { item: failed, code, detail, .. } = event
                            && *failed == item
                        {
                            return Err(ClientError::Refused { code: *code, detail: detail.clone() });
                        }
                    }
                    refusal(events)?;
                    let (state, _) = home.step(|core| core.item_state(&room, item))?;
                    let reached = match (until, state) {
                        (Until::Stored, ItemState::Stored | ItemState::Ordered(_) | ItemState::Held { .. })
                        | (Until::Ordered, ItemState::Ordered(_) | ItemState::Held { .. }) => true,
                        (Until::Held, ItemState::Held { by, of, .. }) => by == of,
                        _ => false,
                    };
                    Ok(reached.then_some(state))
                })
                .await;
            match outcome {
                Ok(state) => return Ok(state),
                Err(error) if is_passing(&error) && Instant::now() < self.deadline => {}
                Err(error) => return Err(error),
            }
            if until == Until::Held && watched <= Instant::now() {
                watched = Instant::now() + Duration::from_millis(400);
                self.ask_marks(&room).await?;
            }
        }
    }

    /// Asks for what all the room's co-ops signed, if they have.
    async fn ask_marks(&mut self, room: &RoomId) -> Result<(), ClientError> {
        let room = *room;
        self.client
            .run(move |core| {
                let of = core.coops(&room).len();
                if !core.is_watching(&room) {
                    core.watch(&room, u32::try_from(of).unwrap_or(u32::MAX));
                }
            })
            .await?;
        Ok(())
    }

    /// Marks of all co-ops if they come soon, else of those that are there.
    async fn marks(&mut self, room: &RoomId) -> Result<(), ClientError> {
        let room = *room;
        for held in [None, Some(1)] {
            self.client
                .run(move |core| {
                    let all = u32::try_from(core.coops(&room).len()).unwrap_or(u32::MAX);
                    core.watch(&room, held.unwrap_or(all));
                })
                .await?;
            let wait = (Instant::now() + MARKS_WAIT).min(self.deadline);
            let came = self
                .client
                .until(wait, move |home, events| {
                    refusal(events)?;
                    let (watching, _) = home.step(|core| core.is_watching(&room))?;
                    Ok((!watching).then_some(()))
                })
                .await;
            match came {
                Ok(()) => return Ok(()),
                Err(ClientError::TimedOut | ClientError::PutOff { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn rooms(&mut self) -> Result<()> {
        let synced = self.client.sync(self.deadline).await;
        let (lines, _) = self.client.home.step(|core| {
            let ids = core.room_ids();
            // A room whose join came to nothing is none of one's rooms.
            let line = |id: &RoomId| {
                core.room_state(id)
                    .filter(|state| state.size > 0)
                    .map(|state| (*id, state.name.clone(), core.phase_name(id), state.size, core.frozen(id)))
            };
            ids.iter().filter_map(line).collect::<Vec<_>>()
        })?;
        for (id, name, phase, size, frozen) in lines {
            if self.json {
                print::line!("{}", json!({ "room": id.to_string(), "name": name, "state": phase, "size": size, "frozen": frozen }));
            } else {
                print::line!("{} {} ({phase})", &id.to_string()[..12], print::clean(&name));
                frozen.iter().for_each(|words| print::line!("    {}", print::frozen(words)));
            }
        }
        Ok(synced?)
    }

    async fn members(&mut self, room: &str) -> Result<()> {
        let room = self.find_room(room)?;
        let synced = self.client.sync(self.deadline).await;
        let members = self.client.home.step(|core| core.members(&room))?.0?;
        for member in members {
            if self.json { print::line!("{}", print::member_json(&member)) } else { print::line!("{}", print::member_line(&member)) }
        }
        Ok(synced?)
    }

    async fn verify(&mut self, room: &str) -> Result<()> {
        let room = self.find_room(room)?;
        self.client.sync(self.deadline).await?;
        // Whoever is to have signed by now has a moment to do so.
        self.marks(&room).await?;
        let stored = self.client.home.rows(&room, Seq(0))?;
        let stored = stored.iter().map(|value| kith_client::core::Core::row_header(value)).collect::<Result<Vec<_>, _>>()?;
        let (begun, _) = self
            .client
            .run(|core| {
                core.verify(&room, stored)?;
                core.watch(&room, 1);
                Ok::<_, kith_client::core::CoreError>(())
            })
            .await?;
        begun?;
        let report = self
            .client
            .until(self.deadline, move |_, events| {
                refusal(events)?;
                Ok(events.iter().find_map(|event| if let Event::Verified(report) = event { Some(report.clone()) } else { None }))
            })
            .await?;
        let by = report.cosigned_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let text = match &report.problem {
            None => format!(
                "The room's {} entries are whole. Root {}. Cosigned by: {}",
                report.size,
                report.root,
                if by.is_empty() { "nobody yet" } else { &by }
            ),
            Some(problem) => format!("NOT in order: {problem}"),
        };
        self.result(&print::verify_json(&report), &text);
        if report.problem.is_some() {
            bail!("do not trust this copy of the room; tell your steward what is written above");
        }
        Ok(())
    }

    fn outbox_list(&mut self) -> Result<()> {
        for item in self.client.home.step(|core| core.items())?.0 {
            if self.json {
                print::line!("{}", print::item_json(&item));
            } else {
                print::line!("{} {} for {} ({})", item.id, item.what, &item.room.to_string()[..12], print::state_name(item.state));
            }
        }
        Ok(())
    }

    fn outbox_cancel(&mut self, item: u64) -> Result<()> {
        self.client.home.step(|core| core.cancel(item))?.0?;
        self.result(&json!({ "item": item }), "Taken back. Nobody was sent it.");
        Ok(())
    }
}
