//! Any value of each form, within its bounds: counters below 2^48, lists and blobs short but for their emptiness.

use bytes::Bytes;
use kith_protocol::admission::Admission;
use kith_protocol::agreement::LinkCertificate;
use kith_protocol::codec::OpenedContent;
use kith_protocol::content::{CheckIn, Content, Support, Visibility};
use kith_protocol::contest::Docket;
use kith_protocol::credential::LeafCertificate;
use kith_protocol::error::Code;
use kith_protocol::ids::{
    Coop, CoopName, Counter, DeviceHandle, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds,
};
use kith_protocol::limits;
use kith_protocol::link::{Batch, LinkFrame, Submission, Versions};
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::{Attestation, Checkpoint, Mark};
use kith_protocol::log::succession::{Succession, Vote};
use kith_protocol::log::voters::Voters;
use kith_protocol::member::{Entries, Entry, FetchGroup, Group, Join, Refused, Send, ToMember, ToServer};
use kith_protocol::room::{Creation, CreationBody, Invite, Role, RoomContext, room_id};
use kith_protocol::sign::Signature;
use kith_protocol::snapshot::{GroupSnapshot, RoomSnapshot};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::arbitrary_agreements::{notice, succession};
use crate::arbitrary_proofs::{proof, provisional};
use crate::arbitrary_snapshots::{activity, before, contest, docket, leave, snapshot_sender};
use crate::forms::{ATTESTED_ROOM, Form};

/// A form whose values can be drawn, variant by variant.
pub trait Arbitrary: Form {
    fn of(name: &str) -> BoxedStrategy<Self>;

    fn any() -> BoxedStrategy<Self> {
        select(Self::NAMES).prop_flat_map(Self::of).boxed()
    }
}

pub fn fill<const N: usize>() -> impl Strategy<Value = [u8; N]> + Clone {
    // A filled array shrinks and prints well; that no byte is lost or moved is for the first and the last to show.
    any::<[u8; 3]>().prop_map(|[first, middle, last]| {
        let mut bytes = [middle; N];
        (bytes[0], bytes[N - 1]) = (first, last);
        bytes
    })
}

/// Times and counters on the wire.
pub fn number() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0..300u64, 0..1u64 << 48, Just((1 << 48) - 1)]
}

pub fn blob() -> impl Strategy<Value = Bytes> + Clone {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn raw() -> impl Strategy<Value = Vec<u8>> + Clone {
    vec(any::<u8>(), 0..40)
}

/// Text of that many characters, of one to four bytes each.
fn text(chars: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> + Clone {
    vec(select(vec!['a', ' ', '\n', '\0', '"', '\\', 'é', '☕', '🌲']), chars).prop_map(String::from_iter)
}

fn display_name() -> impl Strategy<Value = String> + Clone {
    vec(select(vec!['a', 'é', '☕', ' ']), 0..8).prop_map(|rest| rest.into_iter().fold("A".to_owned(), |name, c| name + &c.to_string()))
}

pub fn coop_name() -> impl Strategy<Value = CoopName> + Clone {
    select(vec!["a", "alder.test", "x-1.example.org", "birch.test"]).prop_map(|name| name.parse().unwrap())
}

pub fn room() -> impl Strategy<Value = RoomId> + Clone {
    fill().prop_map(RoomId)
}

pub fn pseudonym() -> impl Strategy<Value = Pseudonym> + Clone {
    fill().prop_map(Pseudonym)
}

pub fn hash() -> impl Strategy<Value = Hash> + Clone {
    fill().prop_map(Hash)
}

pub fn key() -> impl Strategy<Value = PublicKey> + Clone {
    fill().prop_map(PublicKey)
}

pub fn signature() -> impl Strategy<Value = Signature> + Clone {
    fill().prop_map(Signature)
}

pub fn coop() -> impl Strategy<Value = Coop> + Clone {
    (coop_name(), key()).prop_map(|(name, key)| Coop { name, key })
}

pub fn time() -> impl Strategy<Value = UnixSeconds> + Clone {
    number().prop_map(UnixSeconds)
}

pub fn seq() -> impl Strategy<Value = Seq> + Clone {
    number().prop_map(Seq)
}

pub fn epoch() -> impl Strategy<Value = Epoch> + Clone {
    number().prop_map(Epoch)
}

fn kind() -> impl Strategy<Value = Kind> + Clone {
    select(Kind::ALL.as_slice())
}

fn room_number() -> impl Strategy<Value = RoomNumber> + Clone {
    any::<u32>().prop_map(RoomNumber)
}

pub fn device() -> impl Strategy<Value = u16> + Clone {
    0..limits::DEVICES_MAX as u16
}

fn code() -> impl Strategy<Value = Code> + Clone {
    (1..23u32).prop_map(Code::from_wire)
}

fn detail() -> impl Strategy<Value = String> + Clone {
    text(0..=20)
}

fn mark() -> impl Strategy<Value = Mark> + Clone {
    (coop_name(), option::of((time(), signature())), option::of(signature())).prop_map(|(coop, cosignature, held)| Mark {
        coop,
        cosignature,
        held,
    })
}

fn attestation(room: RoomId) -> impl Strategy<Value = Attestation> + Clone {
    (any::<u32>(), number(), hash(), coop_name(), signature(), vec(mark(), 0..4)).prop_map(
        move |(term, size, root, hub, signature, marks)| Attestation {
            checkpoint: Checkpoint { room, term: Term(term), size, root },
            hub,
            signature,
            marks,
        },
    )
}

/// As the wire gives it back, without the room's id.
fn attestation_of_number() -> impl Strategy<Value = Attestation> + Clone {
    attestation(RoomId([0; 32]))
}

pub fn term() -> impl Strategy<Value = Term> + Clone {
    any::<u32>().prop_map(Term)
}

pub fn vote() -> impl Strategy<Value = Vote> + Clone {
    (room(), term(), coop(), coop_name(), attestation_of_number(), signature()).prop_map(
        |(room, term, candidate, voter, mut last, signature)| {
            last.checkpoint.room = room;
            last.marks.clear();
            Vote { room, term, candidate, voter, last, signature }
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> + Clone {
    let numbers = (any::<u32>(), device(), number(), prop_oneof![-5..5i64, any::<i64>()], number());
    (numbers, kind(), blob(), hash()).prop_map(|((sender, device, counter, epoch_delta, time_delta), kind, body, info)| Entry {
        sender,
        device,
        counter,
        kind,
        epoch_delta,
        time_delta,
        body,
        group_info_hash: matches!(kind, Kind::Commit | Kind::Creation).then_some(info),
    })
}

fn entries() -> impl Strategy<Value = Entries> + Clone {
    let place = (room_number(), seq(), any::<u32>(), epoch(), number());
    (place, any::<u32>(), vec(pseudonym(), 0..4), vec(entry(), 0..5)).prop_map(
        |((room, first, term, epoch, time), first_new_sender, new_senders, entries)| Entries {
            room,
            first,
            term: Term(term),
            epoch,
            time,
            first_new_sender,
            new_senders,
            entries,
        },
    )
}

fn fetch_group() -> impl Strategy<Value = FetchGroup> + Clone {
    (any::<u32>(), room(), coop(), key(), signature()).prop_map(|(request, room, holder, invite, proof)| FetchGroup {
        request,
        room,
        holder,
        invite,
        proof,
    })
}

fn group() -> impl Strategy<Value = Box<Group>> + Clone {
    let blobs = (blob(), blob(), blob());
    let place = (number(), any::<u32>(), vec(hash(), 0..4), vec(pseudonym(), 0..4), time(), any::<u32>());
    (blobs, place, attestation_of_number(), vec(leave(), 0..3), (blob(), vec(any::<u32>(), 0..4))).prop_map(
        |(
            (group_info, short_tree, creation),
            (size, term, frontier, senders, last_time, next_use),
            mut attestation,
            leaves,
            (succession, days),
        )| {
            attestation.checkpoint.room = room_id(&creation);
            let term = Term(term);
            Box::new(Group {
                group_info,
                short_tree,
                creation,
                size,
                term,
                frontier,
                senders,
                last_time,
                next_use,
                attestation,
                leaves,
                succession,
                days,
            })
        },
    )
}

fn certificate() -> impl Strategy<Value = LeafCertificate> + Clone {
    (pseudonym(), device(), coop(), time(), signature()).prop_map(|(pseudonym, device, coop, not_after, signature)| LeafCertificate {
        pseudonym,
        device,
        coop,
        not_after,
        signature,
    })
}

impl Arbitrary for ToServer {
    fn of(name: &str) -> BoxedStrategy<Self> {
        let request = any::<u32>();
        match name {
            "register" => (key(), signature(), key(), signature())
                .prop_map(|(invite, invite_signature, device, device_signature)| Self::Register {
                    invite,
                    invite_signature,
                    device,
                    device_signature,
                })
                .boxed(),
            "authenticate" => (any::<u64>(), signature())
                .prop_map(|(device, signature)| Self::Authenticate { device: DeviceHandle(device), signature })
                .boxed(),
            "cursor" => (room_number(), seq()).prop_map(|(room, next)| Self::Cursor { room, next }).boxed(),
            "open" => (room_number(), seq()).prop_map(|(room, from)| Self::Open { room, from }).boxed(),
            "send" => (room_number(), number(), epoch(), kind(), blob(), blob())
                .prop_map(|(room, counter, epoch, kind, body, group_info)| {
                    Self::Send(Send { room, counter, epoch, kind, body, group_info })
                })
                .boxed(),
            "certify" => (request, room(), pseudonym(), key())
                .prop_map(|(request, room, pseudonym, leaf_key)| Self::Certify { request, room, pseudonym, leaf_key })
                .boxed(),
            "create_room" => (request, room(), pseudonym(), blob())
                .prop_map(|(request, room, pseudonym, body)| Self::CreateRoom { request, room, pseudonym, body })
                .boxed(),
            "fetch_group" => fetch_group().prop_map(Self::FetchGroup).boxed(),
            "join" => (request, room(), coop(), pseudonym(), epoch(), blob(), blob(), (seq(), term()))
                .prop_map(|(request, room, holder, pseudonym, epoch, commit, group_info, (from, term))| {
                    Self::Join(Join { request, room, holder, pseudonym, epoch, commit, group_info, from, term })
                })
                .boxed(),
            "fetch_headers" => {
                (request, room_number(), seq()).prop_map(|(request, room, from)| Self::FetchHeaders { request, room, from }).boxed()
            }
            "watch" => (request, room_number(), number(), any::<u32>())
                .prop_map(|(request, room, size, held)| Self::Watch { request, room, size, held })
                .boxed(),
            other => panic!("no strategy for {other}"),
        }
    }
}

impl Arbitrary for ToMember {
    fn of(name: &str) -> BoxedStrategy<Self> {
        let request = any::<u32>();
        match name {
            "challenge" => fill().prop_map(|nonce| Self::Challenge { nonce }).boxed(),
            "registered" => {
                (any::<u64>(), device()).prop_map(|(device, number)| Self::Registered { device: DeviceHandle(device), number }).boxed()
            }
            "ready" => Just(Self::Ready).boxed(),
            "synced" => Just(Self::Synced).boxed(),
            "entries" => entries().prop_map(Self::Entries).boxed(),
            // The last number below the bound is the place's own, plus one.
            "ack" => (room_number(), number(), option::of((0..(1u64 << 48) - 1, number())))
                .prop_map(|(room, counter, ordered)| Self::Ack { room, counter, ordered: ordered.map(|(seq, time)| (Seq(seq), time)) })
                .boxed(),
            "refused" => (code(), detail(), request, room_number(), any::<u64>(), any::<u32>(), option::of(0..(1u64 << 48) - 1))
                .prop_map(|(code, detail, request, room, counter, retry_after_ms, epoch)| {
                    Self::Refused(Refused { code, detail, request, room, counter, retry_after_ms, epoch: epoch.map(Epoch) })
                })
                .boxed(),
            "certificate" => (request, certificate()).prop_map(|(request, certificate)| Self::Certificate { request, certificate }).boxed(),
            "room_number" => {
                (request, room(), room_number()).prop_map(|(request, room, number)| Self::RoomNumber { request, room, number }).boxed()
            }
            "group" => (request, group()).prop_map(|(request, group)| Self::Group { request, group }).boxed(),
            "headers" => {
                (request, seq(), vec(blob(), 0..4)).prop_map(|(request, first, headers)| Self::Headers { request, first, headers }).boxed()
            }
            "attestation" => {
                (room_number(), attestation_of_number()).prop_map(|(room, attestation)| Self::Attestation { room, attestation }).boxed()
            }
            "draining" => Just(Self::Draining).boxed(),
            "frozen" => (room_number(), proof()).prop_map(|(room, proof)| Self::Frozen { room, proof }).boxed(),
            "provisionals" => {
                (room_number(), vec(provisional(), 0..3)).prop_map(|(room, entries)| Self::Provisionals { room, entries }).boxed()
            }
            other => panic!("no strategy for {other}"),
        }
    }
}

fn submission() -> impl Strategy<Value = Submission> {
    let id = (pseudonym(), device(), number());
    let base = option::of(((1..=u32::MAX).prop_map(Term), seq()));
    (room(), id, epoch(), kind(), blob(), blob(), base).prop_map(|(room, (sender, device, number), epoch, kind, body, group_info, base)| {
        Submission { room, id: EntryId { sender, counter: Counter { device, number } }, epoch, kind, body, group_info, base }
    })
}

impl Arbitrary for LinkFrame {
    fn of(name: &str) -> BoxedStrategy<Self> {
        let request = any::<u32>();
        let id = any::<u64>();
        match name {
            "hello" => ((1..=u32::MAX, any::<u32>()), coop(), time(), signature(), vec(succession(), 0..3), number())
                .prop_map(|((oldest, newest), coop, not_after, signature, successions, incarnation)| Self::Hello {
                    versions: Versions { oldest, newest },
                    coop,
                    certificate: LinkCertificate { not_after, signature },
                    successions,
                    incarnation,
                })
                .boxed(),
            "standing" => notice().prop_map(Self::Standing).boxed(),
            "agreement" => (blob(), signature()).prop_map(|(document, signature)| Self::Agreement { document, signature }).boxed(),
            "follow" => {
                (room_number(), room(), seq(), term()).prop_map(|(room, id, from, term)| Self::Follow { room, id, from, term }).boxed()
            }
            "status" => (room(), term(), number(), term(), option::of(attestation_of_number()), blob())
                .prop_map(|(room, term, size, fence, mut attestation, succession)| {
                    attestation.iter_mut().for_each(|attestation| attestation.checkpoint.room = room);
                    Self::Status { room, term, size, fence, attestation, succession }
                })
                .boxed(),
            "proof" => proof().prop_map(Self::Proof).boxed(),
            "call" => (room(), term(), coop(), any::<bool>())
                .prop_map(|(room, term, candidate, probe)| Self::Call { room, term, candidate, probe })
                .boxed(),
            "willing" => (room(), term()).prop_map(|(room, term)| Self::Willing { room, term }).boxed(),
            "vote" => vote().prop_map(|vote| Self::Vote(Box::new(vote))).boxed(),
            "unfollow" => room_number().prop_map(|room| Self::Unfollow { room }).boxed(),
            "batch" => (entries(), vec((any::<u32>(), blob()), 0..3), attestation_of_number(), vec(hash(), 0..4))
                .prop_map(|(entries, group_infos, attestation, proof)| {
                    Self::Batch(Box::new(Batch { entries, group_infos, attestation, proof }))
                })
                .boxed(),
            "attest" => (room_number(), number(), mark()).prop_map(|(room, size, mark)| Self::Attest { room, size, mark }).boxed(),
            "attested" => {
                (room_number(), attestation_of_number()).prop_map(|(room, attestation)| Self::Attested { room, attestation }).boxed()
            }
            "submit" => (id, submission()).prop_map(|(id, submission)| Self::Submit { id, submission }).boxed(),
            "submitted" => (id, option::of((code(), detail())))
                .prop_map(|(id, refused)| Self::Submitted { id, outcome: refused.map_or(Ok(()), Err) })
                .boxed(),
            "fetch_group" => fetch_group().prop_map(Self::FetchGroup).boxed(),
            "group" => (request, group()).prop_map(|(request, group)| Self::Group { request, group }).boxed(),
            "no_group" => request.prop_map(|request| Self::NoGroup { request }).boxed(),
            "error" => (code(), detail()).prop_map(|(code, detail)| Self::Error { code, detail }).boxed(),
            "ping" => id.prop_map(|id| Self::Ping { id }).boxed(),
            "pong" => id.prop_map(|id| Self::Pong { id }).boxed(),
            other => panic!("no strategy for {other}"),
        }
    }
}

fn check_in() -> impl Strategy<Value = CheckIn> {
    let scale = || option::of(-2..=2i8);
    let words = vec(text(1..=limits::WORD_CHARS_MAX), 0..=limits::WORDS_MAX);
    let texts = (words, text(0..=limits::NOTE_CHARS_MAX), text(0..=limits::NAME_CHARS_MAX));
    let rest = (option::of(select(Support::ALL.as_slice())), any::<bool>(), option::of((1..1u64 << 48).prop_map(UnixSeconds)));
    (scale(), scale(), texts, rest).prop_map(|(pleasant, energy, (words, note, about), (support, folded, expires))| CheckIn {
        pleasant,
        energy,
        words,
        note,
        about,
        support,
        visibility: if folded { Visibility::Folded } else { Visibility::Room },
        expires,
    })
}

impl Arbitrary for Content {
    fn of(name: &str) -> BoxedStrategy<Self> {
        match name {
            "text" => text(1..=200).prop_map(Self::Text).boxed(),
            "check_in" => check_in().prop_map(Self::CheckIn).boxed(),
            "profile" => display_name().prop_map(|name| Self::Profile { name }).boxed(),
            "invite_notice" => {
                (key(), any::<u32>(), time()).prop_map(|(key, uses, expires)| Self::InviteNotice { key, uses, expires }).boxed()
            }
            "withdrawn" => Just(Self::Withdrawn).boxed(),
            "unknown" => Just(Self::Unknown).boxed(),
            other => panic!("no strategy for {other}"),
        }
    }
}

fn room_context() -> impl Strategy<Value = RoomContext> + Clone {
    let role = (pseudonym(), select(Role::ALL.as_slice()));
    let invite = (key(), time(), any::<u32>()).prop_map(|(key, expires, uses)| Invite { key, expires, uses });
    (vec(role, 0..4), vec(invite, 0..4), vec(coop_name(), 0..4), option::of(coop_name()), vec(key(), 0..5)).prop_map(
        |(roles, invites, names, tie_breaker, voter_keys)| RoomContext {
            roles,
            invites,
            voters: Voters { names, tie_breaker },
            voter_keys,
        },
    )
}

macro_rules! single {
    ($type:ty, $strategy:expr) => {
        impl Arbitrary for $type {
            fn of(_: &str) -> BoxedStrategy<Self> {
                $strategy.boxed()
            }
        }
    };
}

single!(
    OpenedContent,
    (fill(), signature(), number(), blob(), any::<u32>()).prop_map(|(salt, signature, message_id, packed, packing)| OpenedContent {
        salt,
        signature,
        message_id,
        packed,
        packing
    })
);
single!(RoomContext, room_context());
single!(
    Creation,
    (fill(), key(), room_context(), coop(), time()).prop_map(|(nonce, creator_key, context, hub, created)| Creation {
        nonce,
        creator_key,
        context,
        hub,
        created
    })
);
single!(CreationBody, (raw(), raw(), raw()).prop_map(|(creation, group_info, tree)| CreationBody { creation, group_info, tree }));
single!(
    Admission,
    (key(), any::<u32>(), hash(), signature()).prop_map(|(invite, use_number, group_info_hash, signature)| Admission {
        invite,
        use_number,
        group_info_hash,
        signature
    })
);
single!(LeafCertificate, certificate());
single!(Docket, docket());
single!(
    RoomSnapshot,
    (
        number(),
        vec(hash(), 0..4),
        any::<u32>(),
        epoch(),
        (time(), time()),
        vec((vec(any::<u64>(), 0..=limits::DEVICES_MAX), activity()), 0..4)
    )
        .prop_map(|(size, frontier, term, epoch, (created, last_time), senders)| RoomSnapshot {
            size,
            frontier,
            term: Term(term),
            epoch,
            created,
            last_time,
            counters: senders.iter().map(|(counters, _)| counters.clone()).collect(),
            activity: senders.iter().map(|(_, activity)| *activity).collect(),
        })
);
single!(
    GroupSnapshot,
    (
        (blob(), blob(), blob()),
        seq(),
        vec(snapshot_sender(), 0..4),
        vec((key(), vec(any::<u32>(), 0..4)), 0..3),
        vec(coop(), 0..3),
        (coop(), vec(coop_name(), 0..4), option::of(coop_name()), vec(attestation(ATTESTED_ROOM), 0..3), blob()),
        (vec(contest(), 0..3), vec(before(), 0..3))
    )
        .prop_map(
            |(
                (creation, group_info, tree),
                last_commit,
                senders,
                invite_uses,
                coops,
                (hub, names, tie_breaker, ended, succession),
                (contests, befores),
            )| {
                GroupSnapshot {
                    creation,
                    group_info,
                    tree,
                    last_commit,
                    senders,
                    invite_uses,
                    coops,
                    hub,
                    voters_before: Voters { names, tie_breaker },
                    ended,
                    succession,
                    docket: Docket { contests, kept: befores.iter().map(|before| before.epoch).collect() },
                    befores,
                }
            }
        )
);
single!(Attestation, attestation(ATTESTED_ROOM));
single!(Vote, vote());
single!(Succession, (room(), term(), coop(), vec(vote(), 0..3)).prop_map(|(room, term, hub, votes)| Succession { room, term, hub, votes }));
