//! The numbers of what travels as a number. One that was ever spoken is never given to another meaning.

use kith_protocol::content::{Support, Visibility};
use kith_protocol::error::Code;
use kith_protocol::judge::Standing;
use kith_protocol::log::Kind;
use kith_protocol::room::Role;

/// An exhaustive match says each number a second time, and the list is made of the same numbers.
macro_rules! numbers {
    ($test:ident, $type:ident as $repr:ty { $($variant:ident = $number:literal),+ $(,)? }, $read:expr, unknown: $unknown:expr) => {
        #[test]
        fn $test() {
            let number = |value: $type| match value { $($type::$variant => $number),+ };
            let read: fn($repr) -> Option<$type> = $read;
            for value in [$($type::$variant),+] {
                assert_eq!(value as $repr, number(value), "{value:?}");
                assert_eq!(read(number(value)), Some(value));
            }
            let next = [$(number($type::$variant)),+].into_iter().max().unwrap() + 1;
            assert_eq!(read(next), $unknown);
            assert_eq!(read(<$repr>::MAX), $unknown);
        }
    };
}

numbers!(codes, Code as u32 {
    Malformed = 1,
    TooLarge = 2,
    NotAuthenticated = 3,
    BadAuthentication = 4,
    InviteClosed = 5,
    RateLimited = 6,
    NoSuchRoom = 7,
    WrongEpoch = 8,
    OutOfOrder = 9,
    Forbidden = 10,
    InvalidCommit = 11,
    Busy = 12,
    HolderUnreachable = 13,
    NoAgreement = 14,
    UnknownNeighbour = 15,
    BadProof = 16,
    Version = 17,
    Draining = 18,
    Internal = 19,
    BadCreation = 20,
    BadCertificate = 21,
    EpochBusy = 22,
    DiskFull = 23,
}, |number| Some(Code::from_wire(number)), unknown: Some(Code::Internal));

numbers!(kinds, Kind as u32 { Message = 0, Commit = 1, Creation = 2, Leave = 3, Succession = 4, Complaint = 5 }, Kind::from_number, unknown: None);

numbers!(roles, Role as u32 { Member = 0, Moderator = 1, Facilitator = 2 }, Role::from_number, unknown: None);

numbers!(standings, Standing as u32 { Unknown = 0, Member = 1, Left = 2, Removed = 3, Convicted = 4 }, Standing::from_number, unknown: None);

numbers!(supports, Support as i32 {
    JustSharing = 1,
    PleaseListen = 2,
    SimilarExperience = 3,
    IdeasWelcome = 4,
    CheckBack = 5,
    TalkToSomeone = 6,
    NeedSomeoneNow = 7,
}, |number| Support::ALL.into_iter().find(|support| *support as i32 == number), unknown: None);

numbers!(visibilities, Visibility as i32 { Room = 0, Folded = 1 },
    |number| [Visibility::Room, Visibility::Folded].into_iter().find(|visibility| *visibility as i32 == number), unknown: None);
