//! The protocol of a link, pure.
//!
//! ```text
//! both: Hello ──▶ (key certified by the pinned root?) ──▶ Standing, Agreement … ──▶ (open, signed by both?) ──▶ up
//! ```
//!
//! Until it is up no traffic is taken and none is sent; greeted neighbours that have not signed the same yet can go on
//! proposing. Who the peer is, is what TLS and the pinned root say; no later frame can claim another origin. A frame that
//! does not decode is answered and passed over.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kith_protocol::agreement::{LinkCertificate, Notice, RootSuccession, Terms};
use kith_protocol::codec::DecodeError;
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, CoopName, Millis, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::limits::{
    AUTHENTICATION_MS_MAX, LINK_COMMIT_WORK, LINK_DEAD_MS, LINK_FETCH_WORK, LINK_FOLLOW_WORK, LINK_PING_MS, LINK_WORK_BURST,
    LINK_WORK_PER_SECOND, ROOMS_MAX,
};
use kith_protocol::link::{Batch, LinkFrame, Submission, VERSIONS};
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::{Attestation, Mark};
use kith_protocol::log::proof::Proof;
use kith_protocol::log::succession::Vote;
use kith_protocol::member::{FetchGroup, Group, RequestId};
use kith_protocol::rate::Bucket;
use kith_protocol::sign::{SecretKey, Signature};

use super::error::Refusal;

/// What this co-op pinned.
pub trait Pins {
    fn neighbour(&self, name: &CoopName) -> Option<Coop>;

    fn position(&self, _name: &CoopName) -> Position {
        Position::default()
    }
}

/// Where this co-op stands towards a neighbour.
#[derive(Debug, Clone)]
pub struct Position {
    /// What the neighbour signs with in rooms, if that is known.
    pub rooms_key: Option<PublicKey>,
    /// What this co-op's steward said yes to.
    pub accepted: Vec<Terms>,
    /// This co-op's own word, if it ever said one.
    pub notice: Option<Notice>,
}

impl Default for Position {
    fn default() -> Self {
        Self { rooms_key: None, accepted: vec![Terms::default()], notice: None }
    }
}

/// What this end of a link shows.
#[derive(Debug, Clone)]
pub struct Face {
    pub coop: Coop,
    pub root: SecretKey,
    pub certificate: LinkCertificate,
    pub successions: Vec<RootSuccession>,
    /// How often its store was put back from a backup.
    pub incarnation: u64,
}

/// What the co-op does with what came over the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer has shown who it is: its root key, which may be the pinned one's successor, and its key in rooms.
    Known {
        root: PublicKey,
        rooms: PublicKey,
        incarnation: u64,
    },
    /// The peer has signed these terms, which may be an offer only.
    Signed {
        terms: Box<Terms>,
        signature: Signature,
    },
    /// The peer's own word about the agreement.
    Standing(Notice),
    /// Both have signed, and it stands; traffic may begin.
    Up {
        peer: Coop,
    },
    /// The peer asks for a room from there on.
    Follow {
        room: RoomId,
        from: Seq,
        /// The newest term that the peer knows.
        term: Term,
    },
    Unfollow {
        room: RoomId,
    },
    /// How far the peer has a room that both hold, and the hub's word for it.
    Status {
        room: RoomId,
        term: Term,
        size: u64,
        fence: Term,
        attestation: Option<Attestation>,
        /// What began its term, for one that asked with a term that this holder never had; else empty.
        succession: Bytes,
    },
    /// That somebody broke their word in a room. Not verified yet.
    Proof(Proof),
    Call {
        room: RoomId,
        term: Term,
        candidate: Coop,
        probe: bool,
    },
    Willing {
        room: RoomId,
        term: Term,
    },
    Vote(Box<Vote>),
    Batch {
        room: RoomNumber,
        batch: Box<Batch>,
    },
    /// A mirror has fsynced that much of a room that it follows here.
    Attest {
        room: RoomId,
        size: u64,
        mark: Mark,
    },
    /// Marks over a room that this co-op follows there.
    Attested {
        room: RoomNumber,
        attestation: Attestation,
    },
    Submit {
        id: u64,
        submission: Submission,
    },
    Submitted {
        id: u64,
        outcome: Result<(), (Code, String)>,
    },
    Fetch(FetchGroup),
    /// `None`: the invite is closed, or the room is not held there.
    Group {
        request: RequestId,
        group: Option<Box<Group>>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    AwaitHello,
    /// The peer is known. Nothing but agreements and notices is exchanged.
    Greeted,
    Up,
    /// One of the two has suspended or ended the agreement.
    Stopped,
}

/// One connection's end of a link.
#[derive(Debug)]
pub struct Link {
    pub(super) me: Coop,
    pub(super) root: SecretKey,
    pub(super) peer_link_key: PublicKey,
    /// The peer as rooms know it.
    pub(super) peer: Option<Coop>,
    pub(super) peer_root: Option<Coop>,
    pub(super) peer_incarnation: u64,
    /// Both have signed the same on this link.
    pub(super) agreed: bool,
    /// The peer has said on this link that it keeps to the agreement.
    pub(super) peer_open: bool,
    pub(super) agreement_frames: u32,
    pub(super) expected: Option<CoopName>,
    /// Whoever the other end says that it is, verified or not.
    pub(super) claimed: Option<CoopName>,
    pub(super) state: State,
    pub(super) opened: Millis,
    pub(super) heard: Millis,
    pub(super) pinged: Option<Millis>,
    /// Rooms that the peer follows here: its number for them.
    pub(super) followed: BTreeMap<RoomId, RoomNumber>,
    pub(super) followed_ids: BTreeMap<RoomNumber, RoomId>,
    /// What the peer may still make this co-op do.
    work: Bucket,
    pub(super) sends: VecDeque<LinkFrame>,
    pub(super) events: VecDeque<Event>,
}

impl Link {
    /// A connection whose TLS handshake showed `peer_link_key`. `expected` is whom this co-op dialled, if it did.
    pub fn open(now: Millis, face: Face, peer_link_key: PublicKey, expected: Option<CoopName>) -> Self {
        let Face { coop: me, root, certificate, successions, incarnation } = face;
        let hello = LinkFrame::Hello { versions: VERSIONS, coop: me.clone(), certificate, successions, incarnation };
        Self {
            me,
            root,
            peer_link_key,
            peer: None,
            peer_root: None,
            peer_incarnation: 0,
            agreed: false,
            peer_open: false,
            agreement_frames: 0,
            claimed: expected.clone(),
            expected,
            state: State::AwaitHello,
            opened: now,
            heard: now,
            pinged: None,
            followed: BTreeMap::new(),
            followed_ids: BTreeMap::new(),
            work: Bucket::new(LINK_WORK_BURST, u64::from(LINK_WORK_PER_SECOND) * 1000, now),
            sends: VecDeque::from([hello]),
            events: VecDeque::new(),
        }
    }

    /// How long the peer was heard on this connection, milliseconds.
    pub fn heard_ms(&self) -> u64 {
        self.heard.0 - self.opened.0
    }

    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// As rooms know it; known once its Hello has been verified.
    pub fn peer(&self) -> Option<&Coop> {
        self.peer.as_ref()
    }

    /// Whom this co-op dialled, or who the other end says that it is: for the steward's eyes, not for trust.
    pub fn claimed(&self) -> Option<&CoopName> {
        self.claimed.as_ref()
    }

    pub fn poll_send(&mut self) -> Option<LinkFrame> {
        self.sends.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn poll_deadline(&self) -> Millis {
        match self.state {
            State::Up | State::Greeted if self.pinged.is_none() => Millis(self.heard.0 + LINK_PING_MS),
            State::Up | State::Greeted => Millis(self.heard.0 + LINK_DEAD_MS),
            State::AwaitHello | State::Stopped => Millis(self.opened.0 + AUTHENTICATION_MS_MAX),
        }
    }

    /// An error ends the link.
    pub fn handle_deadline(&mut self, now: Millis) -> Result<(), Refusal> {
        if now < self.poll_deadline() {
            return Ok(());
        }
        if !matches!(self.state, State::Up | State::Greeted) || self.pinged.is_some() {
            return Err(Refusal::Silent);
        }
        self.pinged = Some(now);
        self.sends.push_back(LinkFrame::Ping { id: now.0 });
        Ok(())
    }

    /// A frame that is no frame: the peer is told, the link lives.
    pub fn handle_malformed(&mut self, now: Millis, error: &DecodeError) -> Result<(), Refusal> {
        self.heard = now;
        if !matches!(self.state, State::Up | State::Greeted) {
            return Err(Refusal::OutOfTurn);
        }
        self.sends.push_back(LinkFrame::Error { code: error.code(), detail: error.to_string() });
        Ok(())
    }

    /// An error ends the link; the caller sends [`Link::farewell`] first.
    pub fn handle_frame(&mut self, now: Millis, wall: UnixSeconds, frame: LinkFrame, pins: &impl Pins) -> Result<(), Refusal> {
        self.heard = now;
        self.pinged = None;
        match (self.state, frame) {
            (_, LinkFrame::Error { code, detail }) if self.state != State::Up => Err(Refusal::Told(code, detail)),
            (State::AwaitHello, LinkFrame::Hello { versions, coop, certificate, successions, incarnation }) => {
                self.peer_incarnation = incarnation;
                self.handle_hello(wall, versions, &coop, &certificate, &successions, pins)
            }
            (State::Greeted | State::Up, LinkFrame::Agreement { document, signature }) => self.handle_agreement(&document, signature, pins),
            (State::Greeted | State::Up, LinkFrame::Standing(notice)) => self.handle_standing(wall, notice),
            (State::Greeted, frame @ (LinkFrame::Ping { .. } | LinkFrame::Pong { .. })) => self.handle_traffic(frame),
            (State::Up, frame) => match self.admit(now, &frame) {
                Ok(()) => self.handle_traffic(frame),
                Err(wait_ms) => self.refuse_excess(frame, wait_ms),
            },
            _ => Err(Refusal::OutOfTurn),
        }
    }

    pub fn farewell(refusal: &Refusal) -> LinkFrame {
        LinkFrame::Error { code: refusal.code(), detail: refusal.to_string() }
    }

    /// Counts what a frame costs before anything is done about it. `Err`: milliseconds until it may come.
    fn admit(&mut self, now: Millis, frame: &LinkFrame) -> Result<(), u32> {
        let work = match frame {
            LinkFrame::Submit { submission, .. } if submission.kind == Kind::Message => 1,
            LinkFrame::Submit { .. } => LINK_COMMIT_WORK,
            LinkFrame::FetchGroup(_) => LINK_FETCH_WORK,
            // Comparing may read the store; what it finds is verified.
            LinkFrame::Status { attestation: Some(_), .. } | LinkFrame::Proof(_) => 1,
            // Each room once is what every link begins with.
            LinkFrame::Follow { id, .. } if self.followed.contains_key(id) => LINK_FOLLOW_WORK,
            _ => 0,
        };
        self.work.take(now, work)
    }

    /// What is too much is answered by a no that names it, as far as it has a name; the link lives. Following cannot be
    /// refused without the peer waiting for ever: that link begins anew.
    fn refuse_excess(&mut self, frame: LinkFrame, wait_ms: u32) -> Result<(), Refusal> {
        let detail = format!("too much at once; again in {wait_ms} ms");
        match frame {
            LinkFrame::Submit { id, .. } => self.submitted(id, Err((Code::RateLimited, detail))),
            LinkFrame::Follow { .. } => return Err(Refusal::TooMuch),
            _ => self.refuse(Code::RateLimited, detail),
        }
        Ok(())
    }

    fn handle_traffic(&mut self, frame: LinkFrame) -> Result<(), Refusal> {
        let event = match frame {
            LinkFrame::Hello { .. } | LinkFrame::Agreement { .. } | LinkFrame::Standing(_) => return Err(Refusal::OutOfTurn),
            LinkFrame::Error { .. } | LinkFrame::Pong { .. } => return Ok(()),
            LinkFrame::Ping { id } => {
                self.sends.push_back(LinkFrame::Pong { id });
                return Ok(());
            }
            LinkFrame::Follow { room, id, from, term } => {
                if self.followed.len() >= ROOMS_MAX {
                    return Err(Refusal::TooMuch);
                }
                if let Some(old) = self.followed.insert(id, room) {
                    self.followed_ids.remove(&old);
                }
                self.followed_ids.insert(room, id);
                Event::Follow { room: id, from, term }
            }
            LinkFrame::Status { room, term, size, fence, attestation, succession } => {
                Event::Status { room, term, size, fence, attestation, succession }
            }
            LinkFrame::Proof(proof) => Event::Proof(proof),
            LinkFrame::Call { room, term, candidate, probe } => Event::Call { room, term, candidate, probe },
            LinkFrame::Willing { room, term } => Event::Willing { room, term },
            LinkFrame::Vote(vote) => Event::Vote(vote),
            LinkFrame::Unfollow { room } => match self.followed_ids.remove(&room) {
                Some(id) => {
                    self.followed.remove(&id);
                    Event::Unfollow { room: id }
                }
                None => return Ok(()),
            },
            LinkFrame::Batch(batch) => Event::Batch { room: batch.entries.room, batch },
            LinkFrame::Attest { room, size, mark } => match self.followed_ids.get(&room) {
                Some(id) => Event::Attest { room: *id, size, mark },
                None => return Ok(()),
            },
            LinkFrame::Attested { room, attestation } => Event::Attested { room, attestation },
            LinkFrame::Submit { id, submission } => Event::Submit { id, submission },
            LinkFrame::Submitted { id, outcome } => Event::Submitted { id, outcome },
            LinkFrame::FetchGroup(fetch) => Event::Fetch(fetch),
            LinkFrame::Group { request, group } => Event::Group { request, group: Some(group) },
            LinkFrame::NoGroup { request } => Event::Group { request, group: None },
        };
        self.events.push_back(event);
        Ok(())
    }

    fn send(&mut self, frame: LinkFrame) {
        debug_assert!(self.is_up(), "nothing but greetings before the agreement");
        self.sends.push_back(frame);
    }

    /// Asks a holder for a room. `number` is this co-op's own.
    pub fn follow(&mut self, number: RoomNumber, id: RoomId, from: Seq, term: Term) {
        self.send(LinkFrame::Follow { room: number, id, from, term });
    }

    pub fn unfollow(&mut self, number: RoomNumber) {
        self.send(LinkFrame::Unfollow { room: number });
    }

    pub fn status(&mut self, room: RoomId, term: Term, size: u64, fence: Term, attestation: Option<Attestation>) {
        self.send(LinkFrame::Status { room, term, size, fence, attestation, succession: Bytes::new() });
    }

    /// To one whose term this co-op's log never had.
    pub fn status_with(&mut self, room: RoomId, term: Term, size: u64, succession: Bytes) {
        self.send(LinkFrame::Status { room, term, size, fence: Term(0), attestation: None, succession });
    }

    pub fn proof(&mut self, proof: Proof) {
        self.send(LinkFrame::Proof(proof));
    }

    pub fn call(&mut self, room: RoomId, term: Term, candidate: Coop, probe: bool) {
        self.send(LinkFrame::Call { room, term, candidate, probe });
    }

    pub fn willing(&mut self, room: RoomId, term: Term) {
        self.send(LinkFrame::Willing { room, term });
    }

    pub fn vote(&mut self, vote: Vote) {
        self.send(LinkFrame::Vote(Box::new(vote)));
    }

    pub fn submit(&mut self, id: u64, submission: Submission) {
        self.send(LinkFrame::Submit { id, submission });
    }

    pub fn submitted(&mut self, id: u64, outcome: Result<(), (Code, String)>) {
        self.send(LinkFrame::Submitted { id, outcome });
    }

    pub fn fetch(&mut self, fetch: FetchGroup) {
        self.send(LinkFrame::FetchGroup(fetch));
    }

    pub fn group(&mut self, request: RequestId, group: Box<Group>) {
        self.send(LinkFrame::Group { request, group });
    }

    pub fn no_group(&mut self, request: RequestId) {
        self.send(LinkFrame::NoGroup { request });
    }

    pub fn refuse(&mut self, code: Code, detail: String) {
        self.send(LinkFrame::Error { code, detail });
    }

    pub fn attest(&mut self, number: RoomNumber, size: u64, mark: Mark) {
        self.send(LinkFrame::Attest { room: number, size, mark });
    }

    /// The peer's number for a room that it follows here.
    pub fn follower_number(&self, room: &RoomId) -> Option<RoomNumber> {
        self.followed.get(room).copied()
    }

    pub fn stop_follower(&mut self, room: &RoomId) {
        if let Some(number) = self.followed.remove(room) {
            self.followed_ids.remove(&number);
        }
    }

    /// Feeds a follower. `batch.entries.room` must be its number.
    pub fn batch(&mut self, batch: Batch) {
        self.send(LinkFrame::Batch(Box::new(batch)));
    }

    pub fn attested(&mut self, room: &RoomId, attestation: &Attestation) {
        if let Some(number) = self.follower_number(room) {
            self.send(LinkFrame::Attested { room: number, attestation: attestation.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::agreement::Agreement;

    use super::*;
    use kith_protocol::ids::{Counter, EntryId, Epoch, Pseudonym};

    struct Side {
        root: SecretKey,
        coop: Coop,
        link_key: PublicKey,
        certificate: LinkCertificate,
        pinned: Vec<Coop>,
    }

    impl Pins for Side {
        fn neighbour(&self, name: &CoopName) -> Option<Coop> {
            self.pinned.iter().find(|coop| coop.name == *name).cloned()
        }
    }

    const NOW: Millis = Millis(0);
    const WALL: UnixSeconds = UnixSeconds(1_000);

    fn side(seed: u8, name: &str) -> Side {
        let root = SecretKey::from_seed([seed; 32]);
        let coop = Coop { name: name.parse().unwrap(), key: root.public() };
        let link_key = PublicKey([seed + 100; 32]);
        let certificate = LinkCertificate::issue(&root, &coop, &link_key, UnixSeconds(2_000));
        Side { root, coop, link_key, certificate, pinned: vec![] }
    }

    fn pair() -> (Side, Side) {
        let (mut a, mut b) = (side(1, "alder.test"), side(2, "birch.test"));
        a.pinned.push(b.coop.clone());
        b.pinned.push(a.coop.clone());
        (a, b)
    }

    fn face(side: &Side) -> Face {
        Face { coop: side.coop.clone(), root: side.root.clone(), certificate: side.certificate, successions: Vec::new(), incarnation: 0 }
    }

    fn open(me: &Side, peer: &Side, dialled: bool) -> Link {
        let expected = dialled.then(|| peer.coop.name.clone());
        Link::open(NOW, face(me), peer.link_key, expected)
    }

    /// Passes frames to and fro until both are quiet; the first error ends it.
    fn run(a: &Side, b: &Side) -> Result<(Link, Link), (char, Refusal)> {
        let (mut left, mut right) = (open(a, b, true), open(b, a, false));
        for _ in 0..10 {
            while let Some(frame) = left.poll_send() {
                right.handle_frame(NOW, WALL, frame, b).map_err(|error| ('b', error))?;
            }
            while let Some(frame) = right.poll_send() {
                left.handle_frame(NOW, WALL, frame, a).map_err(|error| ('a', error))?;
            }
        }
        Ok((left, right))
    }

    #[test]
    fn a_link_comes_up_when_both_pinned_each_other() {
        let (a, b) = pair();
        let (mut left, mut right) = run(&a, &b).unwrap();
        assert!(left.is_up() && right.is_up());
        let ups = |link: &mut Link| {
            std::iter::from_fn(|| link.poll_event()).filter(|event| matches!(event, Event::Up { .. })).collect::<Vec<_>>()
        };
        assert_eq!(ups(&mut left), [Event::Up { peer: b.coop }]);
        assert_eq!(ups(&mut right), [Event::Up { peer: a.coop }]);
    }

    #[test]
    fn fault_12_and_32_strangers_and_wrong_keys_are_refused() {
        let (a, mut b) = pair();
        b.pinned.clear();
        assert_eq!(run(&a, &b).unwrap_err(), ('b', Refusal::Stranger));
        let (a, mut b) = pair();
        b.pinned[0].key = PublicKey([9; 32]);
        assert_eq!(run(&a, &b).unwrap_err(), ('b', Refusal::WrongPin));
        let (mut a, b) = pair();
        a.certificate = LinkCertificate::issue(&b.root, &a.coop, &a.link_key, UnixSeconds(2_000));
        assert_eq!(run(&a, &b).unwrap_err(), ('b', Refusal::LinkKey));
        let (mut a, b) = pair();
        a.certificate = LinkCertificate::issue(&a.root, &a.coop, &a.link_key, UnixSeconds(999));
        assert_eq!(run(&a, &b).unwrap_err(), ('b', Refusal::LinkKey), "expired");
        // The certificate is good, but TLS showed another key: somebody in the middle.
        let (a, b) = pair();
        let mut right = Link::open(NOW, face(&b), PublicKey([77; 32]), None);
        let hello = open(&a, &b, true).poll_send().unwrap();
        assert_eq!(right.handle_frame(NOW, WALL, hello, &b), Err(Refusal::LinkKey));
    }

    #[test]
    fn no_traffic_before_both_have_signed() {
        let (a, b) = pair();
        let mut right = open(&b, &a, false);
        let early = LinkFrame::Follow { room: RoomNumber(1), id: RoomId([1; 32]), from: Seq(0), term: Term(1) };
        assert_eq!(right.handle_frame(NOW, WALL, early.clone(), &b), Err(Refusal::OutOfTurn));
        let mut right = open(&b, &a, false);
        right.handle_frame(NOW, WALL, open(&a, &b, true).poll_send().unwrap(), &b).unwrap();
        assert_eq!(right.handle_frame(NOW, WALL, early, &b), Err(Refusal::OutOfTurn));
        let mut right = open(&b, &a, false);
        right.handle_frame(NOW, WALL, open(&a, &b, true).poll_send().unwrap(), &b).unwrap();
        let document = Agreement::between(a.coop.clone(), b.coop.clone(), Terms::default()).document().into();
        let forged = LinkFrame::Agreement { document, signature: Signature([1; 64]) };
        assert_eq!(right.handle_frame(NOW, WALL, forged, &b), Err(Refusal::Agreement));
    }

    #[test]
    fn fault_06_a_malformed_frame_does_not_end_the_link() {
        let (a, b) = pair();
        let (mut left, _) = run(&a, &b).unwrap();
        for (error, code) in [(DecodeError::Schema, Code::Malformed), (DecodeError::TooLarge("body"), Code::TooLarge)] {
            assert_eq!(left.handle_malformed(NOW, &error), Ok(()));
            assert_eq!(left.poll_send(), Some(LinkFrame::Error { code, detail: error.to_string() }));
        }
        assert!(left.is_up());
    }

    #[test]
    fn fault_11_a_neighbour_causes_only_so_much_work() {
        let (a, b) = pair();
        let (mut left, _) = run(&a, &b).unwrap();
        while left.poll_event().is_some() {}
        let submit = |id, kind| {
            let id_of = EntryId { sender: Pseudonym([1; 16]), counter: Counter { device: 0, number: id } };
            let (body, group_info) = (bytes::Bytes::new(), bytes::Bytes::new());
            LinkFrame::Submit {
                id,
                submission: Submission { room: RoomId([1; 32]), id: id_of, epoch: Epoch(0), kind, body, group_info, base: None },
            }
        };
        let passed = |link: &mut Link| std::iter::from_fn(|| link.poll_event()).count();
        // Commits cost more than messages.
        let commits = u64::from(LINK_WORK_BURST / LINK_COMMIT_WORK);
        (0..commits).for_each(|id| left.handle_frame(NOW, WALL, submit(id, Kind::Commit), &a).unwrap());
        assert_eq!(passed(&mut left), commits as usize);
        assert_eq!(left.poll_send(), None);
        left.handle_frame(NOW, WALL, submit(9, Kind::Message), &a).unwrap();
        let answer = left.poll_send();
        assert!(matches!(answer, Some(LinkFrame::Submitted { id: 9, outcome: Err((Code::RateLimited, _)) })), "{answer:?}");
        let proof = Signature([0; 64]);
        let fetch = FetchGroup { request: 1, room: RoomId([1; 32]), holder: a.coop.clone(), invite: PublicKey([1; 32]), proof };
        left.handle_frame(NOW, WALL, LinkFrame::FetchGroup(fetch), &a).unwrap();
        assert!(matches!(left.poll_send(), Some(LinkFrame::Error { code: Code::RateLimited, .. })));
        assert_eq!(passed(&mut left), 0, "nothing was done about it");
        // What costs nothing goes on, as does everything a second later.
        left.handle_frame(NOW, WALL, LinkFrame::Ping { id: 1 }, &a).unwrap();
        assert_eq!(left.poll_send(), Some(LinkFrame::Pong { id: 1 }));
        let later = Millis(1_000);
        (0..u64::from(LINK_WORK_PER_SECOND)).for_each(|id| left.handle_frame(later, WALL, submit(id, Kind::Message), &a).unwrap());
        assert_eq!(passed(&mut left), LINK_WORK_PER_SECOND as usize);
        // Each room may be asked for once; asking for it anew without end ends the link.
        let follow = |room| LinkFrame::Follow { room: RoomNumber(1), id: RoomId([room; 32]), from: Seq(0), term: Term(1) };
        (0..=255).for_each(|room| left.handle_frame(later, WALL, follow(room), &a).unwrap());
        assert_eq!(left.handle_frame(later, WALL, follow(7), &a), Err(Refusal::TooMuch));
    }

    /// However patiently it asks, a neighbour follows no more rooms than a co-op can hold.
    #[test]
    fn fault_11_followed_rooms_are_bounded() {
        let (a, b) = pair();
        let (mut left, _) = run(&a, &b).unwrap();
        let mut follow = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let frame = LinkFrame::Follow { room: RoomNumber(number as u32), id: RoomId(id), from: Seq(0), term: Term(1) };
            while left.poll_event().is_some() {}
            left.handle_frame(Millis(number as u64 * 1_000), WALL, frame, &a)
        };
        (0..ROOMS_MAX).for_each(|number| follow(number).unwrap());
        assert_eq!(follow(ROOMS_MAX), Err(Refusal::TooMuch));
    }

    #[test]
    fn fault_05_it_signs_the_agreement_that_it_built_itself() {
        let (a, b) = pair();
        let mut right = open(&b, &a, false);
        right.handle_frame(NOW, WALL, open(&a, &b, true).poll_send().unwrap(), &b).unwrap();
        let signed: Vec<LinkFrame> = std::iter::from_fn(|| right.poll_send()).collect();
        let [LinkFrame::Hello { .. }, LinkFrame::Standing(_), LinkFrame::Agreement { document, signature }] = &signed[..] else {
            panic!("{signed:?}")
        };
        let ours = Agreement::between(a.coop.clone(), b.coop.clone(), Terms::default());
        assert_eq!((document.to_vec(), ours.verify(&b.coop.key, signature)), (ours.document(), Ok(())));
        // The peer's text is neither agreed to nor signed, be it under the peer's good signature over it or over the terms.
        let theirs = bytes::Bytes::from_static(b"kith-agreement/v1\neverything is theirs\n");
        let statement = kith_protocol::sign::Transcript::new(kith_protocol::sign::Label::Agreement).field(&theirs);
        for signature in [a.root.sign(&statement), ours.sign(&a.root)] {
            let forged = LinkFrame::Agreement { document: theirs.clone(), signature };
            assert_eq!(right.handle_frame(NOW, WALL, forged, &b), Ok(()), "perhaps of a newer version");
            assert!(matches!(right.poll_send(), Some(LinkFrame::Error { code: Code::Malformed, .. })));
            assert!(!right.is_up() && right.poll_send().is_none());
        }
    }

    #[test]
    fn fault_43_silence_ends_it() {
        let (a, b) = pair();
        let (mut left, _) = run(&a, &b).unwrap();
        let ping_at = left.poll_deadline();
        left.handle_deadline(ping_at).unwrap();
        assert!(matches!(left.poll_send(), Some(LinkFrame::Ping { .. })));
        let dead_at = left.poll_deadline();
        assert_eq!(dead_at, Millis(LINK_DEAD_MS));
        assert_eq!(left.handle_deadline(dead_at), Err(Refusal::Silent));
        let mut never = open(&a, &b, true);
        let at = never.poll_deadline();
        assert_eq!(never.handle_deadline(at), Err(Refusal::Silent));
    }
}
