//! Reading a room: once, or for as long as one stays.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use kith_client::core::timeline::Row;
use kith_client::native::ClientError;
use kith_protocol::ids::{RoomId, Seq};
use kith_protocol::limits::FOLLOWED_LINES_MAX;
use tokio::time::Instant;

use crate::Session;
use crate::print::{self, Style};

/// How long whoever stays waits for the newest before it is shown what the device has.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(2);

fn passing(error: ClientError) -> Result<(), ClientError> {
    if crate::is_passing(&error) { Ok(()) } else { Err(error) }
}

impl Session {
    fn lines(&mut self, room: &RoomId, since: Option<u64>) -> Result<Vec<Row>> {
        let from = since.map_or(Seq(0), |since| Seq(since.saturating_add(1)));
        let stored = self.client.home.rows(room, from)?;
        let (rows, _) = self.client.home.step(|core| {
            let mut rows = Vec::new();
            for value in &stored {
                rows.extend(core.row(room, value)?);
            }
            rows.extend(core.unordered(room));
            Ok::<_, kith_client::core::CoreError>(rows)
        })?;
        Ok(rows?)
    }

    pub async fn read(&mut self, room: &str, since: Option<u64>, follow: bool) -> Result<()> {
        let room = self.find_room(room)?;
        let style = Style::detect();
        let mut shown = HashMap::new();
        // Whoever stays reads what the device has while it connects.
        let until = if follow { self.deadline.min(Instant::now() + FOLLOW_PATIENCE) } else { self.deadline };
        let caught_up = self.catch_up(&room, until).await;
        self.print_changes(&room, since, &style, &mut shown)?;
        self.tell_if_frozen(&room)?;
        if !follow {
            return caught_up.map_err(|error| {
                anyhow::Error::from(error)
                    .context("this is what the device had; it could not be brought up to date, or something of yours could not be sent")
            });
        }
        if let Err(error) = caught_up.or_else(passing) {
            return Err(error.into());
        }
        self.client.stay();
        let mut is_connected = true;
        loop {
            if std::mem::replace(&mut is_connected, self.client.is_connected()) != self.client.is_connected() {
                eprintln!("{}", if is_connected { "Connected again." } else { "No connection to your co-op. Trying again …" });
            }
            let step = Instant::now() + Duration::from_secs(1);
            let came = self.client.until(step, |_, events| Ok((!events.is_empty()).then_some(()))).await;
            came.or_else(passing)?;
            self.print_changes(&room, since, &style, &mut shown)?;
            let newest = shown.keys().filter_map(|key| if let LineKey::Seq(seq) = key { Some(*seq) } else { None }).max();
            let wants_marks = newest.is_some_and(|seq| shown.get(&LineKey::Seq(seq)).is_some_and(|state| !is_held_by_all(state)));
            if wants_marks && self.client.is_connected() {
                self.ask_marks(&room).await?;
            }
        }
    }

    /// Reads what there is, sends what waits, and asks who holds it.
    async fn catch_up(&mut self, room: &RoomId, until: Instant) -> Result<(), ClientError> {
        let deadline = std::mem::replace(&mut self.deadline, until);
        let outcome = self.try_catch_up(room).await;
        self.deadline = deadline;
        outcome
    }

    async fn try_catch_up(&mut self, room: &RoomId) -> Result<(), ClientError> {
        self.client.sync(self.deadline).await?;
        if self.client.home.step(|core| core.phase_name(room))?.0 != "active" {
            return Ok(());
        }
        self.flush(room).await?;
        self.marks(room).await
    }

    fn tell_if_frozen(&mut self, room: &RoomId) -> Result<()> {
        if let Some(words) = self.client.home.step(|core| core.frozen(room))?.0 {
            eprintln!("{}", print::frozen(&words));
        }
        Ok(())
    }

    /// Prints each line that is new or whose state changed.
    fn print_changes(&mut self, room: &RoomId, since: Option<u64>, style: &Style, shown: &mut HashMap<LineKey, String>) -> Result<()> {
        let newest = shown.keys().filter_map(|key| if let LineKey::Seq(seq) = key { Some(*seq) } else { None }).max();
        // Old lines change no more: what every co-op holds is held.
        let from = newest.map_or(since, |newest| since.max(newest.checked_sub(FOLLOWED_LINES_MAX)));
        for row in self.lines(room, from)? {
            let key = row.seq.map_or(LineKey::Item(row.item.unwrap_or(0)), |seq| LineKey::Seq(seq.0));
            let state = row.state.to_string();
            if shown.get(&key) == Some(&state) {
                continue;
            }
            let is_new = !shown.contains_key(&key);
            shown.insert(key, state);
            if self.json {
                print::line!("{}", print::row_json(&row));
            } else if is_new || row.is_mine {
                print::line!("{}", style.row(&row));
            }
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq, Hash)]
enum LineKey {
    Seq(u64),
    Item(u64),
}

fn is_held_by_all(state: &str) -> bool {
    state.strip_prefix("held ").and_then(|rest| rest.split_once('/')).is_some_and(|(by, of)| by == of)
}
