//! Reading a room: once, or for as long as one stays.

use std::collections::HashMap;
use std::io::{Write as _, stdout};
use std::time::Duration;

use anyhow::Result;
use kith_client::core::timeline::Row;
use kith_client::native::ClientError;
use kith_protocol::ids::{RoomId, Seq};
use tokio::time::Instant;

use crate::Session;
use crate::print::{self, Style};

/// Lines whose state is followed.
const FOLLOWED_MAX: u64 = 1_000;

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
        let synced = self.client.sync(self.deadline).await;
        let is_active = self.client.home.step(|core| core.phase_name(&room))?.0 == "active";
        if synced.is_ok() && is_active {
            self.flush(&room).await?;
            self.marks(&room).await?;
        }
        let style = Style::detect();
        let mut shown = HashMap::new();
        self.print_changes(&room, since, &style, &mut shown)?;
        if !follow {
            return match synced {
                Ok(()) => Ok(()),
                Err(error) => Err(anyhow::Error::from(error).context("this is what the device had; it could not be brought up to date")),
            };
        }
        loop {
            let step = Instant::now() + Duration::from_secs(1);
            match self.client.until(step, |_, events| Ok((!events.is_empty()).then_some(()))).await {
                Ok(()) | Err(ClientError::TimedOut | ClientError::PutOff { .. } | ClientError::Connect(_)) => {}
                Err(error) => return Err(error.into()),
            }
            self.print_changes(&room, since, &style, &mut shown)?;
            let newest = shown.keys().filter_map(|key| if let LineKey::Seq(seq) = key { Some(*seq) } else { None }).max();
            let wants_marks = newest.is_some_and(|seq| shown.get(&LineKey::Seq(seq)).is_some_and(|state| !is_held_by_all(state)));
            if wants_marks && self.client.is_connected() {
                self.ask_marks(&room).await?;
            }
        }
    }

    /// Prints each line that is new or whose state changed.
    fn print_changes(&mut self, room: &RoomId, since: Option<u64>, style: &Style, shown: &mut HashMap<LineKey, String>) -> Result<()> {
        let newest = shown.keys().filter_map(|key| if let LineKey::Seq(seq) = key { Some(*seq) } else { None }).max();
        // Old lines change no more: what every co-op holds is held.
        let from = newest.map_or(since, |newest| since.max(newest.checked_sub(FOLLOWED_MAX)));
        let mut out = stdout().lock();
        for row in self.lines(room, from)? {
            let key = row.seq.map_or(LineKey::Item(row.item.unwrap_or(0)), |seq| LineKey::Seq(seq.0));
            let state = row.state.to_string();
            if shown.get(&key) == Some(&state) {
                continue;
            }
            let is_new = !shown.contains_key(&key);
            shown.insert(key, state);
            if self.json {
                writeln!(out, "{}", print::row_json(&row))?;
            } else if is_new {
                writeln!(out, "{}", style.row(&row))?;
            }
        }
        out.flush()?;
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
