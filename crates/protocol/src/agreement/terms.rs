//! What an agreement says, as values within their bounds.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::date::Date;
use crate::ids::{RoomId, UnixSeconds};
use crate::limits::{
    AGREEMENT_BYTES_PER_DAY, AGREEMENT_BYTES_PER_DAY_MAX, AGREEMENT_DAYS_MAX, AGREEMENT_ENTRIES_PER_DAY, AGREEMENT_ENTRIES_PER_DAY_MAX,
    AGREEMENT_LINE_BYTES_MAX, AGREEMENT_REVISION_MAX, AGREEMENT_ROOMS, AGREEMENT_ROOMS_LISTED_MAX, ROOMS_MAX,
};

const DAY_S: u64 = 24 * 3600;

/// A value that no agreement can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    #[error("{0} has at most {max} bytes, in one line, without spaces around it and without invisible characters", max = AGREEMENT_LINE_BYTES_MAX)]
    Line(&'static str),
    #[error("{0} is out of its bounds: {1} to {2}")]
    Number(&'static str, u64, u64),
    #[error("an agreement lists 1 to {max} rooms, each once", max = AGREEMENT_ROOMS_LISTED_MAX)]
    Rooms,
}

/// One line of text that shows what it is: no control characters, nothing invisible, nothing that turns the direction of
/// what stands beside it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line(String);

impl Line {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl FromStr for Line {
    type Err = TermsError;

    fn from_str(text: &str) -> Result<Self, TermsError> {
        if text.len() > AGREEMENT_LINE_BYTES_MAX || text.trim() != text || text.chars().any(is_hidden) {
            return Err(TermsError::Line("the text"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Which rooms may be mirrored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rooms {
    /// Every room that members of both share.
    #[default]
    Shared,
    Listed(BTreeSet<RoomId>),
}

/// What each takes from the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries that the other hands in, in a day (UTC).
    pub entries_per_day: u32,
    /// Bytes of them.
    pub bytes_per_day: u64,
    /// Rooms that the other follows here.
    pub rooms: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries_per_day: AGREEMENT_ENTRIES_PER_DAY, bytes_per_day: AGREEMENT_BYTES_PER_DAY, rooms: AGREEMENT_ROOMS }
    }
}

/// The default is what two stewards agree on who only add each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Counts the proposals between the two; the highest that both signed is in force.
    pub revision: u32,
    pub rooms: Rooms,
    /// Which version of a code of conduct both keep to.
    pub conduct: Line,
    /// What to do in a crisis: a text or where it stands.
    pub crisis: Line,
    /// Whom to reach about moderation.
    pub moderation: Line,
    pub limits: Limits,
    /// How long bodies are kept, days; 0: as the room says.
    pub retention_days: u32,
    /// From this day on the agreement goes on, and both stewards are reminded.
    pub review: Option<Date>,
    /// How long it goes on after one side has ended it, days.
    pub notice_days: u32,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            revision: 1,
            rooms: Rooms::Shared,
            conduct: Line::default(),
            crisis: Line::default(),
            moderation: Line::default(),
            limits: Limits::default(),
            retention_days: 0,
            review: None,
            notice_days: 0,
        }
    }
}

impl Terms {
    /// Every bound that the types do not have.
    pub fn check(&self) -> Result<(), TermsError> {
        let number = |name, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) { Ok(()) } else { Err(TermsError::Number(name, min, max)) }
        };
        number("revision", self.revision.into(), 1, AGREEMENT_REVISION_MAX.into())?;
        number("entries_per_day", self.limits.entries_per_day.into(), 1, AGREEMENT_ENTRIES_PER_DAY_MAX.into())?;
        number("bytes_per_day", self.limits.bytes_per_day, 1, AGREEMENT_BYTES_PER_DAY_MAX)?;
        number("rooms_max", self.limits.rooms.into(), 1, ROOMS_MAX as u64)?;
        number("retention_days", self.retention_days.into(), 0, AGREEMENT_DAYS_MAX.into())?;
        number("notice_days", self.notice_days.into(), 0, AGREEMENT_DAYS_MAX.into())?;
        match &self.rooms {
            Rooms::Listed(rooms) if !(1..=AGREEMENT_ROOMS_LISTED_MAX).contains(&rooms.len()) => Err(TermsError::Rooms),
            _ => Ok(()),
        }
    }

    /// The same but for the count of proposals.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { revision: other.revision, ..self.clone() } == *other
    }

    pub fn covers(&self, room: &RoomId) -> bool {
        match &self.rooms {
            Rooms::Shared => true,
            Rooms::Listed(rooms) => rooms.contains(room),
        }
    }

    pub fn is_due_for_review(&self, now: UnixSeconds) -> bool {
        self.review.is_some_and(|date| date.start() <= now)
    }

    pub fn notice_s(&self) -> u64 {
        u64::from(self.notice_days) * DAY_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_show_what_they_are() {
        for good in ["", "https://alder.test/crisis", "ring Ada, 0800 12 34", "Krisendienst – täglich"] {
            assert_eq!(good.parse::<Line>().map(|line| line.to_string()).as_deref(), Ok(good));
        }
        let long = "x".repeat(AGREEMENT_LINE_BYTES_MAX + 1);
        for bad in [" a", "a ", "a\nb", "a\u{202e}b", "a\u{200b}b", "a\tb", "\u{feff}a", "a\u{2028}b", long.as_str()] {
            assert_eq!(bad.parse::<Line>(), Err(TermsError::Line("the text")), "{bad:?}");
        }
        assert!(long[1..].parse::<Line>().is_ok());
    }

    #[test]
    fn every_number_has_its_bounds() {
        type Set = fn(&mut Terms, u64);
        let numbers: [(&str, u64, u64, Set); 6] = [
            ("revision", 1, AGREEMENT_REVISION_MAX.into(), |t, n| t.revision = n as u32),
            ("entries_per_day", 1, AGREEMENT_ENTRIES_PER_DAY_MAX.into(), |t, n| t.limits.entries_per_day = n as u32),
            ("bytes_per_day", 1, AGREEMENT_BYTES_PER_DAY_MAX, |t, n| t.limits.bytes_per_day = n),
            ("rooms_max", 1, ROOMS_MAX as u64, |t, n| t.limits.rooms = n as u32),
            ("retention_days", 0, AGREEMENT_DAYS_MAX.into(), |t, n| t.retention_days = n as u32),
            ("notice_days", 0, AGREEMENT_DAYS_MAX.into(), |t, n| t.notice_days = n as u32),
        ];
        for (name, min, max, set) in numbers {
            let check = |value| {
                let mut terms = Terms::default();
                set(&mut terms, value);
                terms.check()
            };
            assert_eq!((check(min), check(max)), (Ok(()), Ok(())), "{name}");
            assert_eq!(check(max + 1), Err(TermsError::Number(name, min, max)));
            assert!(min == 0 || check(min - 1).is_err());
        }
        let listed = |count: usize| Terms { rooms: Rooms::Listed((0..count).map(|i| RoomId([i as u8; 32])).collect()), ..Terms::default() };
        assert_eq!(listed(AGREEMENT_ROOMS_LISTED_MAX).check(), Ok(()));
        assert_eq!(listed(AGREEMENT_ROOMS_LISTED_MAX + 1).check(), Err(TermsError::Rooms));
        assert_eq!(listed(0).check(), Err(TermsError::Rooms));
    }

    #[test]
    fn coverage_and_review() {
        let listed = Terms { rooms: Rooms::Listed(BTreeSet::from([RoomId([1; 32])])), ..Terms::default() };
        assert!(listed.covers(&RoomId([1; 32])) && !listed.covers(&RoomId([2; 32])));
        assert!(Terms::default().covers(&RoomId([2; 32])));
        let reviewed = Terms { review: Some("1970-01-02".parse().unwrap()), ..Terms::default() };
        assert!(!reviewed.is_due_for_review(UnixSeconds(DAY_S - 1)) && reviewed.is_due_for_review(UnixSeconds(DAY_S)));
        assert!(!Terms::default().is_due_for_review(UnixSeconds(u64::MAX)));
        assert!(Terms { revision: 7, ..Terms::default() }.says_the_same(&Terms::default()));
        assert!(!reviewed.says_the_same(&Terms::default()));
    }
}
