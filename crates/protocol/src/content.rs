//! What members say to each other, opened. Servers never have these types in hand.

use crate::ids::{PublicKey, UnixSeconds};
use crate::limits;

/// One typed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Text(String),
    CheckIn(CheckIn),
    /// The name that a member chose, in this room.
    Profile {
        name: String,
    },
    InviteNotice {
        key: PublicKey,
        uses: u32,
        expires: UnixSeconds,
    },
    /// The place of an entry that its author withdrew.
    Withdrawn,
    /// A kind that this version does not know: kept, and shown as needing a newer one.
    Unknown,
}

/// Every scale can be skipped; passing is always fine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckIn {
    /// −2 … 2.
    pub pleasant: Option<i8>,
    /// −2 … 2.
    pub energy: Option<i8>,
    pub words: Vec<String>,
    pub note: String,
    pub about: String,
    pub support: Option<Support>,
    pub visibility: Visibility,
    pub expires: Option<UnixSeconds>,
}

/// What kind of answer would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Support {
    JustSharing = 1,
    PleaseListen = 2,
    SimilarExperience = 3,
    IdeasWelcome = 4,
    CheckBack = 5,
    TalkToSomeone = 6,
    NeedSomeoneNow = 7,
}

impl Support {
    pub const ALL: [Self; 7] = [
        Self::JustSharing,
        Self::PleaseListen,
        Self::SimilarExperience,
        Self::IdeasWelcome,
        Self::CheckBack,
        Self::TalkToSomeone,
        Self::NeedSomeoneNow,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::JustSharing => "just_sharing",
            Self::PleaseListen => "please_listen",
            Self::SimilarExperience => "similar_experience",
            Self::IdeasWelcome => "ideas_welcome",
            Self::CheckBack => "check_back",
            Self::TalkToSomeone => "talk_to_someone",
            Self::NeedSomeoneNow => "need_someone_now",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|support| support.name() == name)
    }
}

/// Who sees a check-in unfolded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i32)]
pub enum Visibility {
    #[default]
    Room = 0,
    /// Folded until a reader opens it.
    Folded = 1,
}

/// The content is out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    #[error("a message has 1 to {} characters", limits::TEXT_CHARS_MAX)]
    Text,
    #[error("pleasant and energy go from -2 to 2")]
    Scale,
    #[error("a check-in has at most {} feeling words of at most {} characters", limits::WORDS_MAX, limits::WORD_CHARS_MAX)]
    Words,
    #[error("a note has at most {} characters", limits::NOTE_CHARS_MAX)]
    Note,
    #[error("a name has 1 to {} characters, none of them a control character", limits::NAME_CHARS_MAX)]
    Name,
}

/// A display name or a room's name.
pub fn check_name(name: &str) -> Result<(), ContentError> {
    let fits = (1..=limits::NAME_CHARS_MAX).contains(&name.chars().count());
    if fits && !name.contains(char::is_control) && !name.trim().is_empty() { Ok(()) } else { Err(ContentError::Name) }
}

impl Content {
    /// Checks every bound; run when sending and when receiving.
    pub fn check(&self) -> Result<(), ContentError> {
        match self {
            Self::Text(text) => {
                let fits = (1..=limits::TEXT_CHARS_MAX).contains(&text.chars().count());
                if fits { Ok(()) } else { Err(ContentError::Text) }
            }
            Self::CheckIn(check_in) => check_in.check(),
            Self::Profile { name } => check_name(name),
            Self::InviteNotice { .. } | Self::Withdrawn | Self::Unknown => Ok(()),
        }
    }
}

impl CheckIn {
    fn check(&self) -> Result<(), ContentError> {
        let on_scale = |value: &Option<i8>| value.is_none_or(|value| (-2..=2).contains(&value));
        if !on_scale(&self.pleasant) || !on_scale(&self.energy) {
            return Err(ContentError::Scale);
        }
        let word_ok = |word: &String| (1..=limits::WORD_CHARS_MAX).contains(&word.chars().count());
        if self.words.len() > limits::WORDS_MAX || !self.words.iter().all(word_ok) {
            return Err(ContentError::Words);
        }
        if self.note.chars().count() > limits::NOTE_CHARS_MAX || self.about.chars().count() > limits::NAME_CHARS_MAX {
            return Err(ContentError::Note);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let check_in = |change: fn(&mut CheckIn)| {
            let mut check_in = CheckIn::default();
            change(&mut check_in);
            Content::CheckIn(check_in).check()
        };
        assert_eq!(check_in(|_| {}), Ok(()));
        assert_eq!(check_in(|c| c.pleasant = Some(-2)), Ok(()));
        assert_eq!(check_in(|c| c.energy = Some(3)), Err(ContentError::Scale));
        assert_eq!(check_in(|c| c.words = vec!["x".into(); 6]), Err(ContentError::Words));
        assert_eq!(check_in(|c| c.words = vec![String::new()]), Err(ContentError::Words));
        assert_eq!(check_in(|c| c.note = "é".repeat(500)), Ok(()));
        assert_eq!(check_in(|c| c.note = "é".repeat(501)), Err(ContentError::Note));
        assert_eq!(Content::Text(String::new()).check(), Err(ContentError::Text));
        assert_eq!(Content::Profile { name: "a\nb".into() }.check(), Err(ContentError::Name));
        assert_eq!(check_name("  "), Err(ContentError::Name));
    }

    #[test]
    fn support_names_are_read_back() {
        for support in Support::ALL {
            assert_eq!(Support::from_name(support.name()), Some(support));
        }
    }
}
