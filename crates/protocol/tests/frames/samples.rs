//! The values whose bytes are golden. Every field has a value of its own, and none its default.

use bytes::Bytes;
use kith_protocol::admission::Admission;
use kith_protocol::agreement::{Limits, LinkCertificate, Notice, Offer, Record, Rooms, RootSuccession, Signed, Standing as Keeps, Terms};
use kith_protocol::codec::OpenedContent;
use kith_protocol::content::{CheckIn, Content, Support, Visibility};
use kith_protocol::contest::{Activity, Contest, Docket};
use kith_protocol::credential::LeafCertificate;
use kith_protocol::error::Code;
use kith_protocol::ids::{
    Coop, CoopName, Counter, DeviceHandle, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds,
};
use kith_protocol::judge::Standing;
use kith_protocol::link::{Batch, LinkFrame, Submission, Versions};
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::{Attestation, Checkpoint, Mark};
use kith_protocol::log::proof::{DoubleVote, Fork, Proof, SignedRoot};
use kith_protocol::log::provisional::Provisional;
use kith_protocol::log::succession::{Succession, Vote};
use kith_protocol::log::voters::Voters;
use kith_protocol::member::{Entries, Entry, FetchGroup, Group, Join, Refused, Send, ToMember, ToServer};
use kith_protocol::room::{Creation, CreationBody, Invite, Role, RoomContext, SignedLeave, room_id};
use kith_protocol::sign::Signature;
use kith_protocol::snapshot::{Before, GroupSnapshot, RoomSnapshot, Sender};

use crate::forms::ATTESTED_ROOM;

/// By the name of its golden section: the variant's, and after a dot what else the sample shows.
pub type Samples<T> = Vec<(&'static str, T)>;

const ROOM: RoomId = RoomId([0x11; 32]);
const PSEUDONYM: Pseudonym = Pseudonym([0x22; 16]);
const TIME: UnixSeconds = UnixSeconds(1_790_000_000);

fn name(name: &str) -> CoopName {
    name.parse().unwrap()
}

fn alder() -> Coop {
    Coop { name: name("alder.test"), key: PublicKey([0x33; 32]) }
}

fn signature(fill: u8) -> Signature {
    Signature([fill; 64])
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn fetch_group() -> FetchGroup {
    FetchGroup { request: 7, room: ROOM, holder: alder(), invite: PublicKey([0x44; 32]), proof: signature(0x55) }
}

pub fn attestation(room: RoomId) -> Attestation {
    Attestation {
        checkpoint: Checkpoint { room, term: Term(2), size: 300, root: Hash([0x66; 32]) },
        hub: name("alder.test"),
        signature: signature(0x77),
        marks: vec![
            Mark { coop: name("birch.test"), cosignature: Some((TIME, signature(0x88))), held: Some(signature(0x99)) },
            Mark { coop: name("cedar.test"), cosignature: None, held: Some(signature(0xaa)) },
            Mark { coop: name("dogwood.test"), cosignature: Some((TIME, signature(0xbb))), held: None },
        ],
    }
}

/// As the wire gives it back: the receiver puts the room's id in.
fn attestation_of_number() -> Attestation {
    attestation(RoomId([0; 32]))
}

fn leave(fill: u8) -> SignedLeave {
    let counter = Counter { device: 1, number: 131 };
    SignedLeave { id: EntryId { sender: Pseudonym([fill; 16]), counter }, signature: signature(0xee) }
}

pub fn group() -> Group {
    let creation = bytes("exact creation");
    Group {
        attestation: attestation(room_id(&creation)),
        group_info: bytes("group info"),
        short_tree: bytes("tree"),
        creation,
        size: 300,
        term: Term(2),
        frontier: vec![Hash([0xc1; 32]), Hash([0xc2; 32])],
        senders: vec![PSEUDONYM, Pseudonym([0x23; 16])],
        last_time: TIME,
        next_use: 3,
        leaves: vec![leave(0x22), leave(0x23)],
        succession: bytes("succession"),
        days: vec![0, 300],
    }
}

fn vote(voter: &str) -> Vote {
    let last = Attestation { marks: vec![], ..attestation(ROOM) };
    Vote { room: ROOM, term: Term(3), candidate: alder(), voter: name(voter), last, signature: signature(0x55) }
}

pub fn stored_vote() -> Samples<Vote> {
    vec![("stored_vote", vote("birch.test"))]
}

pub fn succession() -> Samples<Succession> {
    let votes = vec![vote("birch.test"), vote("cedar.test")];
    vec![("succession", Succession { room: ROOM, term: Term(3), hub: alder(), votes })]
}

pub fn proof() -> Samples<Proof> {
    vec![("fork", fork()), ("double_vote", double_vote())]
}

fn fork() -> Proof {
    let signed = |size, fill| SignedRoot { size, root: Hash([fill; 32]), signature: signature(fill) };
    Proof::Fork(Box::new(Fork {
        room: ROOM,
        term: Term(3),
        hub: alder(),
        shorter: signed(300, 0xc1),
        longer: signed(301, 0xc2),
        prefix_root: Hash([0xc3; 32]),
        consistency: vec![Hash([0xc4; 32]), Hash([0xc5; 32])],
    }))
}

fn double_vote() -> Proof {
    let voter = Coop { name: name("birch.test"), key: PublicKey([0x34; 32]) };
    let second = Vote { candidate: voter.clone(), ..vote("birch.test") };
    Proof::DoubleVote(Box::new(DoubleVote { voter, first: vote("birch.test"), second }))
}

fn provisional(fill: u8) -> Provisional {
    let id = EntryId { sender: Pseudonym([fill; 16]), counter: Counter { device: 1, number: 130 } };
    Provisional { id, epoch: Epoch(9), time: TIME, body: bytes("body"), signature: signature(0x55) }
}

pub fn entries() -> Entries {
    let entry = |sender, kind, group_info_hash| Entry {
        sender,
        device: 1,
        counter: 130,
        kind,
        epoch_delta: -1,
        time_delta: 60,
        body: bytes("body"),
        group_info_hash,
    };
    Entries {
        room: RoomNumber(5),
        first: Seq(300),
        term: Term(2),
        epoch: Epoch(9),
        time: 86_400,
        first_new_sender: 4,
        new_senders: vec![PSEUDONYM, Pseudonym([0x23; 16])],
        entries: vec![
            entry(4, Kind::Message, None),
            entry(5, Kind::Commit, Some(Hash([0xd1; 32]))),
            entry(6, Kind::Creation, Some(Hash([0xd2; 32]))),
            entry(7, Kind::Leave, None),
            entry(8, Kind::Succession, None),
            entry(9, Kind::Complaint, None),
        ],
    }
}

pub fn to_server() -> Samples<ToServer> {
    let (room, number, request) = (ROOM, RoomNumber(5), 7);
    let register = ToServer::Register {
        invite: PublicKey([0x44; 32]),
        invite_signature: signature(0x55),
        device: PublicKey([0x66; 32]),
        device_signature: signature(0x77),
    };
    let send =
        Send { room: number, counter: 130, epoch: Epoch(9), kind: Kind::Commit, body: bytes("body"), group_info: bytes("group info") };
    let join = Join {
        request,
        room,
        holder: alder(),
        pseudonym: PSEUDONYM,
        epoch: Epoch(9),
        commit: bytes("commit"),
        group_info: bytes("group info"),
        from: Seq(300),
        term: Term(2),
    };
    vec![
        ("register", register),
        ("authenticate", ToServer::Authenticate { device: DeviceHandle(12), signature: signature(0x55) }),
        ("cursor", ToServer::Cursor { room: number, next: Seq(300) }),
        ("open", ToServer::Open { room: number, from: Seq(300) }),
        ("send", ToServer::Send(send)),
        ("certify", ToServer::Certify { request, room, pseudonym: PSEUDONYM, leaf_key: PublicKey([0x44; 32]) }),
        ("create_room", ToServer::CreateRoom { request, room, pseudonym: PSEUDONYM, body: bytes("creation body") }),
        ("fetch_group", ToServer::FetchGroup(fetch_group())),
        ("join", ToServer::Join(join)),
        ("fetch_headers", ToServer::FetchHeaders { request, room: number, from: Seq(300) }),
        ("watch", ToServer::Watch { request, room: number, size: 300, held: 2 }),
    ]
}

pub fn to_member() -> Samples<ToMember> {
    let (number, request) = (RoomNumber(5), 7);
    let refused = Refused {
        code: Code::RateLimited,
        detail: "too fast".into(),
        request,
        room: number,
        counter: 130,
        retry_after_ms: 1_500,
        epoch: Some(Epoch(8)),
    };
    vec![
        ("challenge", ToMember::Challenge { nonce: [0x44; 32] }),
        ("registered", ToMember::Registered { device: DeviceHandle(12), number: 1 }),
        ("ready", ToMember::Ready),
        ("synced", ToMember::Synced),
        ("entries", ToMember::Entries(entries())),
        ("ack.stored", ToMember::Ack { room: number, counter: 130, ordered: None }),
        ("ack.ordered", ToMember::Ack { room: number, counter: 130, ordered: Some((Seq(300), 60)) }),
        ("refused", ToMember::Refused(refused)),
        ("certificate", ToMember::Certificate { request, certificate: certificate() }),
        ("room_number", ToMember::RoomNumber { request, room: ROOM, number }),
        ("group", ToMember::Group { request, group: Box::new(group()) }),
        ("headers", ToMember::Headers { request, first: Seq(300), headers: vec![bytes("header a"), bytes("header b")] }),
        ("attestation", ToMember::Attestation { room: number, attestation: attestation_of_number() }),
        ("draining", ToMember::Draining),
        ("frozen", ToMember::Frozen { room: number, proof: fork() }),
        ("provisionals", ToMember::Provisionals { room: number, entries: vec![provisional(0x22), provisional(0x23)] }),
    ]
}

fn root_succession() -> RootSuccession {
    RootSuccession {
        from: PublicKey([0x31; 32]),
        to: PublicKey([0x33; 32]),
        not_before: UnixSeconds(1_780_000_000),
        not_after: UnixSeconds(1_785_000_000),
        old_signature: signature(0x91),
        new_signature: signature(0x92),
    }
}

fn notice(standing: Keeps) -> Notice {
    let effective = UnixSeconds(1_792_592_000);
    Notice { standing, at: TIME, effective, reason: "too much spam".parse().unwrap(), signature: signature(0x93) }
}

fn terms() -> Terms {
    Terms {
        revision: 3,
        rooms: Rooms::Listed([RoomId([0x11; 32]), RoomId([0x12; 32])].into()),
        conduct: "2".parse().unwrap(),
        crisis: "https://alder.test/crisis".parse().unwrap(),
        moderation: "Ada".parse().unwrap(),
        limits: Limits { entries_per_day: 500, bytes_per_day: 9_000_000, rooms: 7 },
        retention_days: 90,
        review: Some("2027-01-31".parse().unwrap()),
        notice_days: 30,
    }
}

pub fn agreement_record() -> Samples<Record> {
    let signed = Signed { document: b"document".to_vec(), ours: signature(0x95), theirs: signature(0x96), since: TIME };
    let record = Record {
        accepted: vec![terms(), Terms::default()],
        offer: Some(Offer { terms: Terms { revision: 4, ..Terms::default() }, signature: signature(0x94) }),
        signed: Some(signed),
        our_notice: Some(notice(Keeps::Suspended)),
        their_notice: Some(notice(Keeps::Ended)),
        rooms_key: Some(PublicKey([0x31; 32])),
    };
    vec![("agreement_record", record), ("agreement_record.new", Record { accepted: vec![Terms::default()], ..Record::default() })]
}

pub fn link() -> Samples<LinkFrame> {
    let (room, request, id) = (RoomNumber(5), 7, 9);
    let certificate = LinkCertificate { not_after: TIME, signature: signature(0x55) };
    let submission = Submission {
        room: ROOM,
        id: EntryId { sender: PSEUDONYM, counter: Counter { device: 1, number: 130 } },
        epoch: Epoch(9),
        kind: Kind::Commit,
        body: bytes("body"),
        group_info: bytes("group info"),
        base: Some((Term(2), Seq(300))),
    };
    let batch = Batch {
        entries: entries(),
        group_infos: vec![(1, bytes("group info a")), (2, bytes("group info b"))],
        attestation: attestation_of_number(),
        proof: vec![Hash([0xc3; 32]), Hash([0xc4; 32])],
    };
    let mark = attestation_of_number().marks.swap_remove(0);
    vec![
        (
            "hello",
            LinkFrame::Hello {
                versions: Versions { oldest: 1, newest: 3 },
                coop: alder(),
                certificate,
                successions: vec![root_succession()],
                incarnation: 2,
            },
        ),
        ("agreement", LinkFrame::Agreement { document: bytes("document"), signature: signature(0x55) }),
        ("standing", LinkFrame::Standing(notice(Keeps::Ended))),
        ("follow", LinkFrame::Follow { room, id: ROOM, from: Seq(300), term: Term(2) }),
        ("unfollow", LinkFrame::Unfollow { room }),
        ("batch", LinkFrame::Batch(Box::new(batch))),
        ("attest", LinkFrame::Attest { room, size: 300, mark }),
        ("attested", LinkFrame::Attested { room, attestation: attestation_of_number() }),
        ("submit", LinkFrame::Submit { id, submission }),
        ("submitted.ordered", LinkFrame::Submitted { id, outcome: Ok(()) }),
        ("submitted.refused", LinkFrame::Submitted { id, outcome: Err((Code::Forbidden, "not your role".into())) }),
        ("fetch_group", LinkFrame::FetchGroup(fetch_group())),
        ("group", LinkFrame::Group { request, group: Box::new(group()) }),
        ("no_group", LinkFrame::NoGroup { request }),
        ("status", LinkFrame::Status { room: ROOM, term: Term(2), size: 300, fence: Term(0), attestation: None, succession: Bytes::new() }),
        (
            "status.attested",
            LinkFrame::Status {
                room: ROOM,
                term: Term(2),
                size: 300,
                fence: Term(3),
                attestation: Some(attestation(ROOM)),
                succession: Bytes::from_static(b"succession"),
            },
        ),
        ("proof.fork", LinkFrame::Proof(fork())),
        ("proof.double_vote", LinkFrame::Proof(double_vote())),
        ("call", LinkFrame::Call { room: ROOM, term: Term(3), candidate: alder(), probe: true }),
        ("willing", LinkFrame::Willing { room: ROOM, term: Term(3) }),
        ("vote", LinkFrame::Vote(Box::new(vote("birch.test")))),
        ("error", LinkFrame::Error { code: Code::NoAgreement, detail: "no agreement".into() }),
        ("ping", LinkFrame::Ping { id }),
        ("pong", LinkFrame::Pong { id }),
    ]
}

pub fn content() -> Samples<Content> {
    let check_in = CheckIn {
        pleasant: Some(-2),
        energy: Some(1),
        words: vec!["tired".into(), "calm".into()],
        note: "slept badly".into(),
        about: "work".into(),
        support: Some(Support::PleaseListen),
        visibility: Visibility::Folded,
        expires: Some(TIME),
    };
    let zeros = CheckIn { pleasant: Some(0), energy: Some(0), ..CheckIn::default() };
    vec![
        ("text", Content::Text("I am here ☕".into())),
        ("check_in", Content::CheckIn(check_in)),
        ("check_in.passed", Content::CheckIn(CheckIn::default())),
        ("check_in.zeros", Content::CheckIn(zeros)),
        ("profile", Content::Profile { name: "Ada".into() }),
        ("invite_notice", Content::InviteNotice { key: PublicKey([0x44; 32]), uses: 3, expires: TIME }),
        ("withdrawn", Content::Withdrawn),
        ("unknown", Content::Unknown),
    ]
}

pub fn franked() -> Samples<OpenedContent> {
    let franked = OpenedContent { salt: [0x44; 16], signature: signature(0x55), message_id: 130, packed: bytes("packed"), packing: 1 };
    vec![("franked", franked)]
}

pub fn room_context() -> Samples<RoomContext> {
    let context = |voters: &[&str], tie_breaker: Option<&str>| RoomContext {
        roles: vec![(PSEUDONYM, Role::Facilitator), (Pseudonym([0x23; 16]), Role::Moderator), (Pseudonym([0x24; 16]), Role::Member)],
        invites: vec![Invite { key: PublicKey([0x44; 32]), expires: TIME, uses: 3 }],
        voters: Voters { names: voters.iter().map(|voter| name(voter)).collect(), tie_breaker: tie_breaker.map(name) },
        voter_keys: (0..voters.len() + tie_breaker.iter().len()).map(|i| PublicKey([0x51 + i as u8; 32])).collect(),
    };
    vec![
        ("room_context", context(&["alder.test"], None)),
        ("room_context.two_voters", context(&["alder.test", "birch.test"], Some("cedar.test"))),
    ]
}

pub fn creation() -> Samples<Creation> {
    let (_, context) = room_context().swap_remove(0);
    let creation = Creation { nonce: [0x44; 32], creator_key: PublicKey([0x55; 32]), context, hub: alder(), created: TIME };
    vec![("creation", creation)]
}

pub fn creation_body() -> Samples<CreationBody> {
    let body = CreationBody { creation: b"creation".to_vec(), group_info: b"group info".to_vec(), tree: b"tree".to_vec() };
    vec![("creation_body", body)]
}

pub fn admission() -> Samples<Admission> {
    let admission =
        Admission { invite: PublicKey([0x44; 32]), use_number: 3, group_info_hash: Hash([0x55; 32]), signature: signature(0x66) };
    vec![("admission", admission)]
}

fn certificate() -> LeafCertificate {
    LeafCertificate { pseudonym: PSEUDONYM, device: 1, coop: alder(), not_after: TIME, signature: signature(0x55) }
}

pub fn leaf_certificate() -> Samples<LeafCertificate> {
    vec![("leaf_certificate", certificate())]
}

pub fn room_snapshot() -> Samples<RoomSnapshot> {
    let snapshot = RoomSnapshot {
        size: 300,
        frontier: vec![Hash([0xc1; 32]), Hash([0xc2; 32])],
        term: Term(2),
        epoch: Epoch(9),
        created: TIME,
        last_time: UnixSeconds(TIME.0 + 86_400),
        counters: vec![vec![130, 0, 2], vec![], vec![1]],
        activity: vec![Activity { day: 1, epoch: Epoch(300) }, Activity::default(), Activity { day: 0, epoch: Epoch(9) }],
    };
    vec![("room_snapshot", snapshot)]
}

pub fn group_snapshot() -> Samples<GroupSnapshot> {
    let sender = |fill, standing| Sender {
        pseudonym: Pseudonym([fill; 16]),
        standing,
        coop: name("alder.test"),
        leave: (standing == Standing::Left).then(|| leave(fill)),
        out_at: (standing == Standing::Removed).then_some(Seq(40)),
    };
    let snapshot = GroupSnapshot {
        creation: bytes("creation"),
        group_info: bytes("group info"),
        tree: bytes("tree"),
        last_commit: Seq(299),
        senders: vec![
            sender(0x22, Standing::Member),
            sender(0x23, Standing::Left),
            sender(0x24, Standing::Removed),
            sender(0x25, Standing::Unknown),
            sender(0x26, Standing::Convicted),
        ],
        invite_uses: vec![(PublicKey([0x44; 32]), vec![1, 3, 200])],
        coops: vec![alder(), Coop { name: name("birch.test"), key: PublicKey([0x34; 32]) }],
        hub: Coop { name: name("birch.test"), key: PublicKey([0x34; 32]) },
        voters_before: Voters { names: vec![name("alder.test"), name("birch.test")], tie_breaker: Some(name("cedar.test")) },
        ended: vec![attestation(ATTESTED_ROOM)],
        succession: bytes("succession"),
        docket: docket(),
        befores: vec![Before {
            epoch: Epoch(8),
            group_info: bytes("group info before"),
            tree: bytes("tree before"),
            invite_uses: vec![(PublicKey([0x44; 32]), vec![1])],
            standings: vec![Standing::Member, Standing::Left, Standing::Member],
        }],
    };
    vec![("group_snapshot", snapshot)]
}

fn docket() -> Docket {
    let contest = Contest {
        seq: Seq(299),
        leaf: Hash([0xd1; 32]),
        epoch: Epoch(8),
        time: TIME,
        author: 2,
        jury: vec![0, 2, 300],
        complaints: vec![300],
    };
    Docket { contests: vec![contest], kept: vec![Epoch(8)] }
}

pub fn stored_docket() -> Samples<Docket> {
    vec![("docket", docket())]
}

pub fn stored_attestation() -> Samples<Attestation> {
    vec![("stored_attestation", attestation(ATTESTED_ROOM))]
}
