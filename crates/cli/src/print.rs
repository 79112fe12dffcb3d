//! How things look: JSON with stable keys for scripts, or lines for people.

use std::io::{ErrorKind, IsTerminal, Write as _, stderr, stdout};

use kith_client::core::machine::Item;
use kith_client::core::timeline::{Member, Row, RowContent};
use kith_client::core::{ItemState, VerifyReport};
use kith_protocol::content::{CheckIn, Content};
use kith_protocol::error::Code;
use kith_protocol::ids::{Pseudonym, UnixSeconds};
use serde_json::{Value, json};

/// One line to standard output. Whoever reads it may stop reading: that ends the program, quietly.
pub fn to_stdout(text: std::fmt::Arguments<'_>) {
    if let Err(error) = stdout().lock().write_fmt(text) {
        let quiet = error.kind() == ErrorKind::BrokenPipe;
        if !quiet {
            eprintln!("kith: cannot write what there is to say: {error}");
        }
        std::process::exit(if quiet { 0 } else { 1 });
    }
}

macro_rules! line {
    ($($text:tt)*) => { crate::print::to_stdout(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use line;

/// RFC 3339, UTC.
pub fn rfc3339(at: UnixSeconds) -> String {
    i64::try_from(at.0).ok().and_then(|at| jiff::Timestamp::from_second(at).ok()).map_or_else(String::new, |at| at.to_string())
}

fn check_in_json(check_in: &CheckIn) -> Value {
    let text = |text: &String| if text.is_empty() { Value::Null } else { json!(text) };
    json!({
        "pleasant": check_in.pleasant,
        "energy": check_in.energy,
        "words": check_in.words,
        "note": text(&check_in.note),
        "about": text(&check_in.about),
        "support": check_in.support.map(kith_protocol::content::Support::name),
    })
}

/// Kind and content.
fn content_json(content: &RowContent) -> (&'static str, Value) {
    let ids = |who: &[Pseudonym]| who.iter().map(ToString::to_string).collect::<Vec<_>>();
    match content {
        RowContent::Content(Content::Text(text)) => ("text", json!({ "text": text })),
        RowContent::Content(Content::CheckIn(check_in)) => ("checkin", check_in_json(check_in)),
        RowContent::Content(_) => ("unknown", json!({ "text": "This needs a newer version." })),
        RowContent::Joined(who) => ("joined", json!({ "member": who.to_string() })),
        RowContent::Left => ("left", json!({})),
        RowContent::Removed(who) => ("removed", json!({ "members": ids(who) })),
        RowContent::InviteOpened => ("invite", json!({})),
        RowContent::VotersChanged => ("voters", json!({})),
        RowContent::Complained => ("complained", json!({})),
        RowContent::Undone(who) => ("undone", json!({ "member": who.to_string() })),
        RowContent::HubChanged(coop) => ("hub", json!({ "coop": coop })),
        RowContent::Unreadable(why) => ("unreadable", json!({ "why": why })),
    }
}

pub fn row_json(row: &Row) -> Value {
    let (kind, content) = content_json(&row.content);
    json!({
        "seq": row.seq.map(|seq| seq.0),
        "state": row.state.to_string(),
        "kind": kind,
        "sender": row.sender.to_string(),
        "name": row.name,
        "at": rfc3339(row.at),
        "content": content,
    })
}

/// Colours for a terminal, and none elsewhere.
pub struct Style {
    colour: bool,
}

impl Style {
    pub fn detect() -> Self {
        Self { colour: stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub fn row(&self, row: &Row) -> String {
        let short = row.sender.to_string()[..8].to_owned();
        let name = clean(row.name.as_deref().unwrap_or(&short));
        let time = rfc3339(row.at).get(..16).unwrap_or_default().replace('T', " ");
        let head = format!("{} {}", self.paint("2", &time), self.paint("1", &name));
        // How far an entry has come is a matter of who wrote it. What came from others has come.
        let state = if row.is_mine { self.paint("2", &format!("({})", row.state)) } else { String::new() };
        match &row.content {
            RowContent::Content(Content::Text(text)) => format!("{head}: {}  {state}", clean(text)).trim_end().to_owned(),
            RowContent::Content(Content::CheckIn(check_in)) => {
                format!("{head} checks in{}  {state}", self.check_in(check_in)).trim_end().to_owned()
            }
            RowContent::Content(_) => format!("{head}: {}", self.paint("2", "(this needs a newer version)")),
            RowContent::Joined(_) => format!("{head} {}", self.paint("2", "joined")),
            RowContent::Left => format!("{head} {}", self.paint("2", "left")),
            RowContent::Removed(_) => format!("{head} {}", self.paint("2", "removed somebody")),
            RowContent::VotersChanged => format!("{head} {}", self.paint("2", "changed which co-ops keep this room")),
            RowContent::Complained => format!("{head} {}", self.paint("2", "could not follow a change of this room's keys")),
            RowContent::Undone(_) => {
                format!(
                    "{head} {}",
                    self.paint("33", "and others could not follow a change of this room's keys: it was undone, and whoever made it is out")
                )
            }
            RowContent::HubChanged(coop) => format!("{head} {}", self.paint("2", &format!("{coop} keeps this room in order now"))),
            RowContent::InviteOpened => format!("{head} {}", self.paint("2", "opened an invitation")),
            RowContent::Unreadable(why) => format!("{head}: {}", self.paint("33", &format!("(cannot be read: {why})"))),
        }
    }

    fn check_in(&self, check_in: &CheckIn) -> String {
        let mut parts = Vec::new();
        let scale = |name: &str, value: i8| format!("{name} {value:+}");
        parts.extend(check_in.pleasant.map(|value| scale("pleasant", value)));
        parts.extend(check_in.energy.map(|value| scale("energy", value)));
        if !check_in.words.is_empty() {
            parts.push(check_in.words.iter().map(|word| clean(word)).collect::<Vec<_>>().join(", "));
        }
        let mut text = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(" · ")) };
        if !check_in.note.is_empty() {
            text.push_str(&format!("\n    {}", clean(&check_in.note)));
        }
        if let Some(support) = check_in.support {
            text.push_str(&format!("\n    {}", self.paint("36", &format!("asks: {}", support.name().replace('_', " ")))));
        }
        text
    }
}

/// What somebody in a frozen room is to know.
pub fn frozen(words: &str) -> String {
    format!(
        "This room is frozen: {words}. What you say reaches members of your own co-op only. \
         Tell your steward; `kith proof save ROOM FILE` writes the proof"
    )
}

/// What others wrote must not steer the terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// What waits for others is worth a word while one waits. What passes by itself in a moment is not.
pub fn put_off(code: Code, detail: &str) {
    if matches!(code, Code::NoAgreement | Code::DiskFull | Code::HolderUnreachable) {
        eprintln!("Not yet: {}. {}", clean(detail), code.advice());
    }
}

/// Something takes its time: a person at a terminal hears so.
pub fn slow(is_connected: bool) {
    if stderr().is_terminal() {
        eprintln!("{}", if is_connected { "Waiting for your co-op …" } else { "Connecting to your co-op …" });
    }
}

pub fn failed(what: &str) {
    eprintln!("{}", clean(what));
}

pub fn member_json(member: &Member) -> Value {
    json!({
        "sender": member.pseudonym.to_string(),
        "name": member.name,
        "coop": member.coop.as_str(),
        "role": member.role.name(),
        "me": member.is_me,
    })
}

pub fn member_line(member: &Member) -> String {
    let name = clean(member.name.as_deref().unwrap_or("(no name yet)"));
    let me = if member.is_me { " (you)" } else { "" };
    format!("{} {name}{me}, {} at {}", &member.pseudonym.to_string()[..8], member.role.name(), member.coop)
}

pub fn verify_json(report: &VerifyReport) -> Value {
    json!({
        "ok": report.problem.is_none(),
        "size": report.size,
        "root": report.root.to_string(),
        "cosigned_by": report.cosigned_by.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "problem": report.problem,
    })
}

pub fn item_json(item: &Item) -> Value {
    json!({ "item": item.id, "room": item.room.to_string(), "kind": item.what, "state": state_name(item.state) })
}

pub fn state_name(state: ItemState) -> String {
    match state {
        ItemState::Waiting | ItemState::Unknown => "waiting".to_owned(),
        ItemState::Stored => "stored".to_owned(),
        ItemState::Ordered(_) => "ordered".to_owned(),
        ItemState::Held { by, of, .. } => format!("held {by}/{of}"),
    }
}
