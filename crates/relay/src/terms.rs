//! An agreement's terms as a steward writes them: a TOML file, in which what is left out has its default.

use std::collections::BTreeSet;

use kith_protocol::agreement::{Limits, Line, Rooms, Terms};
use kith_protocol::ids::{RoomId, from_hex, to_hex};
use serde::{Deserialize, Serialize};

/// Every option of a file of terms. The same form travels to a running server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TermsFile {
    pub rooms: RoomsOption,
    pub conduct: String,
    pub crisis: String,
    pub moderation: String,
    pub entries_per_day: u32,
    pub bytes_per_day: u64,
    pub rooms_max: u32,
    pub retention_days: u32,
    /// Like `2027-01-31`.
    pub review: Option<String>,
    pub notice_days: u32,
}

/// `"shared"`, or room ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RoomsOption {
    Word(String),
    List(Vec<String>),
}

/// What is wrong with a file of terms.
#[derive(Debug, thiserror::Error)]
#[error("the terms: {0}")]
pub struct BadTerms(String);

impl Default for TermsFile {
    fn default() -> Self {
        Self::from(&Terms::default())
    }
}

impl From<&Terms> for TermsFile {
    fn from(terms: &Terms) -> Self {
        Self {
            rooms: match &terms.rooms {
                Rooms::Shared => RoomsOption::Word("shared".to_owned()),
                Rooms::Listed(rooms) => RoomsOption::List(rooms.iter().map(|room| to_hex(&room.0)).collect()),
            },
            conduct: terms.conduct.to_string(),
            crisis: terms.crisis.to_string(),
            moderation: terms.moderation.to_string(),
            entries_per_day: terms.limits.entries_per_day,
            bytes_per_day: terms.limits.bytes_per_day,
            rooms_max: terms.limits.rooms,
            retention_days: terms.retention_days,
            review: terms.review.map(|date| date.to_string()),
            notice_days: terms.notice_days,
        }
    }
}

fn line(name: &str, text: &str) -> Result<Line, BadTerms> {
    text.parse().map_err(|error| BadTerms(format!("{name}: {error}")))
}

impl TermsFile {
    pub fn parse(text: &str) -> Result<Self, BadTerms> {
        toml::from_str(text).map_err(|error| BadTerms(error.to_string()))
    }

    pub fn into_terms(self) -> Result<Terms, BadTerms> {
        let rooms = match self.rooms {
            RoomsOption::Word(word) if word == "shared" => Rooms::Shared,
            RoomsOption::Word(_) => return Err(BadTerms("rooms is \"shared\" or a list of room ids".to_owned())),
            RoomsOption::List(ids) => {
                let ids = ids.iter().map(|id| from_hex(id).map(RoomId).map_err(|_| BadTerms(format!("{id} is no room id"))));
                Rooms::Listed(ids.collect::<Result<BTreeSet<_>, _>>()?)
            }
        };
        let terms = Terms {
            revision: 1,
            rooms,
            conduct: line("conduct", &self.conduct)?,
            crisis: line("crisis", &self.crisis)?,
            moderation: line("moderation", &self.moderation)?,
            limits: Limits { entries_per_day: self.entries_per_day, bytes_per_day: self.bytes_per_day, rooms: self.rooms_max },
            retention_days: self.retention_days,
            review: self.review.map(|date| date.parse()).transpose().map_err(|error| BadTerms(format!("review: {error}")))?,
            notice_days: self.notice_days,
        };
        terms.check().map_err(|error| BadTerms(error.to_string()))?;
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Result<Terms, BadTerms> {
        TermsFile::parse(text)?.into_terms()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        assert_eq!(terms("").unwrap(), Terms::default());
        let some = terms("review = \"2027-01-31\"\nnotice_days = 30\ncrisis = \"ring 112\"").unwrap();
        assert_eq!((some.notice_days, some.crisis.as_str(), some.limits), (30, "ring 112", Limits::default()));
        let listed = terms(&format!("rooms = [\"{}\"]", "ab".repeat(32))).unwrap();
        assert_eq!(listed.rooms, Rooms::Listed([RoomId([0xab; 32])].into()));
        for good in [some, listed] {
            assert_eq!(TermsFile::from(&good).into_terms().unwrap(), good);
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("rooms = \"all\"", "rooms"),
            ("rooms = [\"ab\"]", "no room id"),
            ("rooms = []", "rooms"),
            ("review = \"31.1.2027\"", "review"),
            ("notice_days = -1", "notice_days"),
            ("entries_per_day = 0", "entries_per_day"),
            ("crisis = \"a\\u202Eb\"", "crisis"),
            ("no_such_option = 1", "no_such_option"),
        ] {
            let error = terms(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
