//! The one text of an agreement, and its strict parser: what it takes is byte for byte what it would render.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::str::FromStr;

use super::date::Date;
use super::terms::{Limits, Line, Rooms, Terms, TermsError};
use crate::ids::{Coop, PublicKey, RoomId, from_hex, to_hex};
use crate::limits::NOTE_BYTES_MAX;
use crate::sign::{BadSignature, Label, SecretKey, Signature, Transcript, verify};

const FIRST_LINE: &str = "kith-agreement/v1";

/// What two co-ops agree on. The parties stand in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    parties: [Coop; 2],
    terms: Terms,
}

/// The text is no agreement in its one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("the agreement is longer than {NOTE_BYTES_MAX} bytes")]
    TooLong,
    #[error("the agreement is of another version or not in its canonical form (at {0})")]
    Form(&'static str),
    #[error("the agreement has a value out of its bounds: {0}")]
    Terms(#[from] TermsError),
}

impl Agreement {
    pub fn between(one: Coop, other: Coop, terms: Terms) -> Self {
        let mut parties = [one, other];
        parties.sort();
        Self { parties, terms }
    }

    pub fn parties(&self) -> &[Coop; 2] {
        &self.parties
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The exact bytes that both sign. A text that is empty has no line.
    pub fn document(&self) -> Vec<u8> {
        let terms = &self.terms;
        let mut text = format!("{FIRST_LINE}\nrevision {}\n", terms.revision);
        let mut line = |key: &str, value: &dyn std::fmt::Display| writeln!(text, "{key} {value}").expect("memory takes it");
        for party in &self.parties {
            line("party", &format_args!("{} ed25519:{}", party.name, party.key));
        }
        match &terms.rooms {
            Rooms::Shared => line("rooms", &"shared"),
            Rooms::Listed(rooms) => {
                line("rooms", &"listed");
                rooms.iter().for_each(|room| line("room", &to_hex(&room.0)));
            }
        }
        for (key, value) in [("conduct", &terms.conduct), ("crisis", &terms.crisis), ("moderation", &terms.moderation)] {
            if !value.is_empty() {
                line(key, value);
            }
        }
        line("entries-per-day", &terms.limits.entries_per_day);
        line("bytes-per-day", &terms.limits.bytes_per_day);
        line("rooms-max", &terms.limits.rooms);
        line("retention-days", &terms.retention_days);
        if let Some(review) = terms.review {
            line("review", &review);
        }
        line("notice-days", &terms.notice_days);
        text.into_bytes()
    }

    /// Only the canonical form of a good agreement.
    pub fn parse(document: &[u8]) -> Result<Self, DocumentError> {
        if document.len() > NOTE_BYTES_MAX {
            return Err(DocumentError::TooLong);
        }
        let text = std::str::from_utf8(document).map_err(|_| DocumentError::Form("its characters"))?;
        let mut lines = Lines(text.strip_suffix('\n').ok_or(DocumentError::Form("its end"))?.split('\n').peekable());
        if lines.0.next() != Some(FIRST_LINE) {
            return Err(DocumentError::Form("its first line"));
        }
        let revision = lines.number("revision")?;
        let parties = [lines.party()?, lines.party()?];
        let terms = Terms {
            revision,
            rooms: lines.rooms()?,
            conduct: lines.text("conduct")?,
            crisis: lines.text("crisis")?,
            moderation: lines.text("moderation")?,
            limits: Limits {
                entries_per_day: lines.number("entries-per-day")?,
                bytes_per_day: lines.number("bytes-per-day")?,
                rooms: lines.number("rooms-max")?,
            },
            retention_days: lines.number("retention-days")?,
            review: lines.optional("review").map(str::parse::<Date>).transpose().map_err(|_| DocumentError::Form("review"))?,
            notice_days: lines.number("notice-days")?,
        };
        terms.check()?;
        let agreement = Self { parties, terms };
        // Order, doubles, leading zeros, upper case: whatever has a second writing is no agreement.
        if parties_in_order(&agreement) && lines.0.next().is_none() && agreement.document() == document {
            Ok(agreement)
        } else {
            Err(DocumentError::Form("its order or a second writing"))
        }
    }

    pub fn sign(&self, root: &SecretKey) -> Signature {
        root.sign(&Transcript::new(Label::Agreement).field(&self.document()))
    }

    pub fn verify(&self, key: &PublicKey, signature: &Signature) -> Result<(), BadSignature> {
        verify(key, &Transcript::new(Label::Agreement).field(&self.document()), signature)
    }
}

fn parties_in_order(agreement: &Agreement) -> bool {
    let [first, second] = &agreement.parties;
    first.name < second.name
}

struct Lines<'a>(std::iter::Peekable<std::str::Split<'a, char>>);

impl<'a> Lines<'a> {
    /// The value, if the next line has that key.
    fn optional(&mut self, key: &str) -> Option<&'a str> {
        let value = self.0.peek()?.strip_prefix(key)?.strip_prefix(' ')?;
        self.0.next();
        Some(value)
    }

    fn required(&mut self, key: &'static str) -> Result<&'a str, DocumentError> {
        self.optional(key).ok_or(DocumentError::Form(key))
    }

    fn number<T: FromStr>(&mut self, key: &'static str) -> Result<T, DocumentError> {
        self.required(key)?.parse().map_err(|_| DocumentError::Form(key))
    }

    fn text(&mut self, key: &'static str) -> Result<Line, DocumentError> {
        self.optional(key).map_or(Ok(Line::default()), |value| value.parse().map_err(|_| TermsError::Line(key).into()))
    }

    fn party(&mut self) -> Result<Coop, DocumentError> {
        let bad = DocumentError::Form("party");
        let (name, key) = self.required("party")?.split_once(" ed25519:").ok_or(bad)?;
        Ok(Coop { name: name.parse().map_err(|_| bad)?, key: key.parse().map_err(|_| bad)? })
    }

    fn rooms(&mut self) -> Result<Rooms, DocumentError> {
        match self.required("rooms")? {
            "shared" => Ok(Rooms::Shared),
            "listed" => {
                let mut rooms = BTreeSet::new();
                while let Some(id) = self.optional("room") {
                    rooms.insert(RoomId(from_hex(id).map_err(|_| DocumentError::Form("room"))?));
                }
                Ok(Rooms::Listed(rooms))
            }
            _ => Err(DocumentError::Form("rooms")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{AGREEMENT_LINE_BYTES_MAX, AGREEMENT_ROOMS_LISTED_MAX};

    fn coop(seed: u8, name: &str) -> (SecretKey, Coop) {
        let root = SecretKey::from_seed([seed; 32]);
        let coop = Coop { name: name.parse().unwrap(), key: root.public() };
        (root, coop)
    }

    fn full() -> Terms {
        Terms {
            revision: 3,
            rooms: Rooms::Listed(BTreeSet::from([RoomId([0x11; 32]), RoomId([0xab; 32])])),
            conduct: "2".parse().unwrap(),
            crisis: "https://alder.test/crisis".parse().unwrap(),
            moderation: "Ada, 0800 12 34".parse().unwrap(),
            limits: Limits { entries_per_day: 500, bytes_per_day: 9_000_000, rooms: 7 },
            retention_days: 90,
            review: Some("2027-01-31".parse().unwrap()),
            notice_days: 30,
        }
    }

    fn golden(terms: Terms) -> String {
        let key = |fill: u8| PublicKey([fill; 32]);
        let party = |name: &str, fill| Coop { name: name.parse().unwrap(), key: key(fill) };
        String::from_utf8(Agreement::between(party("birch.test", 0xbb), party("alder.test", 0xaa), terms).document()).unwrap()
    }

    #[test]
    fn golden_documents() {
        let parties = format!("party alder.test ed25519:{}\nparty birch.test ed25519:{}\n", "aa".repeat(32), "bb".repeat(32));
        let plain = format!(
            "kith-agreement/v1\nrevision 1\n{parties}rooms shared\nentries-per-day 1000000\nbytes-per-day 4294967296\nrooms-max \
             10000\nretention-days 0\nnotice-days 0\n"
        );
        assert_eq!(golden(Terms::default()), plain);
        let rich = format!(
            "kith-agreement/v1\nrevision 3\n{parties}rooms listed\nroom {}\nroom {}\nconduct 2\ncrisis https://alder.test/crisis\n\
             moderation Ada, 0800 12 34\nentries-per-day 500\nbytes-per-day 9000000\nrooms-max 7\nretention-days 90\nreview \
             2027-01-31\nnotice-days 30\n",
            "11".repeat(32),
            "ab".repeat(32)
        );
        assert_eq!(golden(full()), rich);
        for text in [plain, rich] {
            assert_eq!(Agreement::parse(text.as_bytes()).unwrap().document(), text.as_bytes());
        }
    }

    #[test]
    fn both_sides_build_the_same_document() {
        let ((a, alder), (b, birch)) = (coop(1, "alder.test"), coop(2, "birch.test"));
        let here = Agreement::between(alder.clone(), birch.clone(), full());
        let there = Agreement::between(birch.clone(), alder.clone(), full());
        assert_eq!(here.document(), there.document());
        assert_eq!(there.verify(&alder.key, &here.sign(&a)), Ok(()));
        assert_eq!(here.verify(&alder.key, &there.sign(&b)), Err(BadSignature));
        let other = Agreement::between(alder.clone(), birch.clone(), Terms { notice_days: 31, ..full() });
        assert_eq!(other.verify(&alder.key, &here.sign(&a)), Err(BadSignature), "signed was something else");
        let wrong_pin = Coop { key: PublicKey([9; 32]), ..birch };
        assert_eq!(Agreement::between(alder.clone(), wrong_pin, full()).verify(&alder.key, &here.sign(&a)), Err(BadSignature));
    }

    /// Fault 13: nothing has a second writing that would parse to the same.
    #[test]
    fn fault_13_one_writing_only() {
        let good = golden(full());
        assert!(Agreement::parse(good.as_bytes()).is_ok());
        let swaps = [
            ("revision 3", "revision 03"),
            ("revision 3", "revision +3"),
            ("revision 3", "revision 0"),
            ("kith-agreement/v1", "kith-agreement/v2"),
            ("rooms listed", "rooms all"),
            ("notice-days 30\n", "notice-days 30"),
            ("notice-days 30\n", "notice-days 30\n\n"),
            ("notice-days 30\n", "notice-days 30\nextra 1\n"),
            ("notice-days 30", "notice-days 30\r"),
            ("conduct 2\n", "conduct \n"),
            ("conduct 2\n", "conduct 2 \n"),
            ("conduct 2\n", "crisis x\nconduct 2\n"),
            ("ed25519:aa", "ed25519:AA"),
            ("2027-01-31", "2027-02-30"),
            ("retention-days 90", "retention-days 99999"),
            ("entries-per-day 500", "entries-per-day 0"),
            ("alder.test", "zelkova.test"),
            ("birch.test", "alder.test"),
        ];
        for (from, to) in swaps {
            assert!(good.contains(from));
            assert!(Agreement::parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{to:?}");
        }
        let (first, second) = (format!("room {}\n", "11".repeat(32)), format!("room {}\n", "ab".repeat(32)));
        for rooms in [format!("{second}{first}"), format!("{first}{first}{second}"), String::new()] {
            assert!(Agreement::parse(good.replacen(&format!("{first}{second}"), &rooms, 1).as_bytes()).is_err(), "{rooms:?}");
        }
        for cut in 0..good.len() {
            assert!(Agreement::parse(&good.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_largest_agreement_fits() {
        let line: Line = "x".repeat(AGREEMENT_LINE_BYTES_MAX).parse().unwrap();
        let rooms = (0..AGREEMENT_ROOMS_LISTED_MAX).map(|i| RoomId([i as u8; 32])).collect();
        let terms = Terms { rooms: Rooms::Listed(rooms), conduct: line.clone(), crisis: line.clone(), moderation: line, ..full() };
        let text = golden(terms);
        assert!(text.len() <= NOTE_BYTES_MAX, "{}", text.len());
        assert!(Agreement::parse(text.as_bytes()).is_ok());
        assert_eq!(Agreement::parse(&vec![b'a'; NOTE_BYTES_MAX + 1]), Err(DocumentError::TooLong));
    }
}
