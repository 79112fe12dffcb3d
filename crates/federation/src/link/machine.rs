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

use kith_protocol::agreement::{LinkCertificate, Notice, RootSuccession, Terms};
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, CoopName, Millis, PublicKey, RoomId, RoomNumber, Seq, UnixSeconds};
use kith_protocol::limits::{AUTHENTICATION_MS_MAX, LINK_DEAD_MS, LINK_PING_MS, ROOMS_MAX};
use kith_protocol::link::{Batch, LinkFrame, Submission, VERSIONS};
use kith_protocol::log::checkpoint::{Attestation, Mark};
use kith_protocol::member::{FetchGroup, Group, RequestId};
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
}

/// What the co-op does with what came over the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer has shown who it is: its root key, which may be the pinned one's successor, and its key in rooms.
    Known {
        root: PublicKey,
        rooms: PublicKey,
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
    },
    Unfollow {
        room: RoomId,
    },
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
    /// `None`: the invite is closed, or the room is not ordered there.
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
    pub(super) sends: VecDeque<LinkFrame>,
    pub(super) events: VecDeque<Event>,
}

impl Link {
    /// A connection whose TLS handshake showed `peer_link_key`. `expected` is whom this co-op dialled, if it did.
    pub fn open(now: Millis, face: Face, peer_link_key: PublicKey, expected: Option<CoopName>) -> Self {
        let Face { coop: me, root, certificate, successions } = face;
        let hello = LinkFrame::Hello { versions: VERSIONS, coop: me.clone(), certificate, successions };
        Self {
            me,
            root,
            peer_link_key,
            peer: None,
            peer_root: None,
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
            sends: VecDeque::from([hello]),
            events: VecDeque::new(),
        }
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
    pub fn handle_malformed(&mut self, now: Millis, detail: String) -> Result<(), Refusal> {
        self.heard = now;
        if !matches!(self.state, State::Up | State::Greeted) {
            return Err(Refusal::OutOfTurn);
        }
        self.sends.push_back(LinkFrame::Error { code: Code::Malformed, detail });
        Ok(())
    }

    /// An error ends the link; the caller sends [`Link::farewell`] first.
    pub fn handle_frame(&mut self, now: Millis, wall: UnixSeconds, frame: LinkFrame, pins: &impl Pins) -> Result<(), Refusal> {
        self.heard = now;
        self.pinged = None;
        match (self.state, frame) {
            (_, LinkFrame::Error { code, detail }) if self.state != State::Up => Err(Refusal::Told(code, detail)),
            (State::AwaitHello, LinkFrame::Hello { versions, coop, certificate, successions }) => {
                self.handle_hello(wall, versions, &coop, &certificate, &successions, pins)
            }
            (State::Greeted | State::Up, LinkFrame::Agreement { document, signature }) => self.handle_agreement(&document, signature, pins),
            (State::Greeted | State::Up, LinkFrame::Standing(notice)) => self.handle_standing(wall, notice),
            (State::Greeted, frame @ (LinkFrame::Ping { .. } | LinkFrame::Pong { .. })) => self.handle_traffic(frame),
            (State::Up, frame) => self.handle_traffic(frame),
            _ => Err(Refusal::OutOfTurn),
        }
    }

    pub fn farewell(refusal: &Refusal) -> LinkFrame {
        LinkFrame::Error { code: refusal.code(), detail: refusal.to_string() }
    }

    fn handle_traffic(&mut self, frame: LinkFrame) -> Result<(), Refusal> {
        let event = match frame {
            LinkFrame::Hello { .. } | LinkFrame::Agreement { .. } | LinkFrame::Standing(_) => return Err(Refusal::OutOfTurn),
            LinkFrame::Error { .. } | LinkFrame::Pong { .. } => return Ok(()),
            LinkFrame::Ping { id } => {
                self.sends.push_back(LinkFrame::Pong { id });
                return Ok(());
            }
            LinkFrame::Follow { room, id, from } => {
                if self.followed.len() >= ROOMS_MAX {
                    return Err(Refusal::TooMuch);
                }
                if let Some(old) = self.followed.insert(id, room) {
                    self.followed_ids.remove(&old);
                }
                self.followed_ids.insert(room, id);
                Event::Follow { room: id, from }
            }
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

    /// Asks the hub for a room. `number` is this co-op's own.
    pub fn follow(&mut self, number: RoomNumber, id: RoomId, from: Seq) {
        self.send(LinkFrame::Follow { room: number, id, from });
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
        Face { coop: side.coop.clone(), root: side.root.clone(), certificate: side.certificate, successions: Vec::new() }
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
        let early = LinkFrame::Follow { room: RoomNumber(1), id: RoomId([1; 32]), from: Seq(0) };
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
        assert_eq!(left.handle_malformed(NOW, "nonsense".into()), Ok(()));
        assert!(matches!(left.poll_send(), Some(LinkFrame::Error { code: Code::Malformed, .. })));
        assert!(left.is_up());
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
