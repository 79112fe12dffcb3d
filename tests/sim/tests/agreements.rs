//! Agreements, suspensions and changes of keys between two whole co-ops, their links in memory.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::FutureExt;
use kith_federation::agreement::State;
use kith_protocol::admission::fetch_statement;
use kith_protocol::agreement::{Agreement, Line, Rooms, RootSuccession, Terms};
use kith_protocol::codec::{Encoding, decode_agreement_record, decode_link, decode_to_member};
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Coop as CoopId, CoopName, Epoch, Millis, Pseudonym, PublicKey, RoomId, Seq, Term, UnixSeconds};
use kith_protocol::link::LinkFrame;
use kith_protocol::member::{FetchGroup, Join, ToMember, ToServer, auth_statement, membership_statement};
use kith_protocol::sign::SecretKey;
use kith_relay::coop::agreements::Act;
use kith_relay::coop::steward::{Reply, Request};
use kith_relay::coop::{Effect, Identity, Input};
use kith_sim::coop::{Coop, WALL};
use kith_storage::Neighbours;

const DAY_S: u64 = 24 * 3600;

struct Pair {
    coops: [Coop; 2],
    /// As their neighbours pin them.
    ids: [CoopId; 2],
    link_keys: [PublicKey; 2],
    wall: u64,
    connections: u64,
    /// To whom, over which connection, and what: nothing is its end.
    wire: VecDeque<(usize, ConnectionId, Option<Bytes>)>,
    /// Every frame that was sent, by its sender.
    sent: Vec<(usize, LinkFrame)>,
    replies: Vec<Reply>,
    to_members: Vec<ToMember>,
}

impl Pair {
    fn strangers() -> Self {
        let coops = [Coop::new("alder.test", [1; 32], 0), Coop::new("birch.test", [2; 32], 0)];
        let ids = [coops[0].id.clone(), coops[1].id.clone()];
        let link_keys = [coops[0].link_key, coops[1].link_key];
        Self {
            coops,
            ids,
            link_keys,
            wall: WALL,
            connections: 0,
            wire: VecDeque::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            to_members: Vec::new(),
        }
    }

    fn neighbours(terms: [Option<Terms>; 2]) -> Self {
        let mut pair = Self::strangers();
        for (who, terms) in [0, 1].into_iter().zip(terms) {
            assert!(matches!(pair.add(who, terms, false), Reply::Done));
        }
        pair.meet();
        pair
    }

    fn input(&mut self, who: usize, input: Input) {
        let (now, wall) = (Millis((self.wall - WALL) * 1_000), UnixSeconds(self.wall));
        self.coops[who].machine.as_mut().expect("it runs").handle(now, wall, input);
        loop {
            let machine = self.coops[who].machine.as_mut().expect("it runs");
            if let Some(effect) = machine.poll_effect() {
                match effect {
                    Effect::ToLink { connection, bytes } => {
                        self.sent.push((who, decode_link(bytes.clone()).expect("it is sent")));
                        self.wire.push_back((1 - who, connection, Some(bytes)));
                    }
                    Effect::CloseLink { connection } => self.wire.push_back((1 - who, connection, None)),
                    Effect::Steward { reply, .. } => self.replies.push(reply),
                    Effect::ToMember { bytes, .. } => {
                        self.to_members.push(decode_to_member(bytes, Encoding::Binary).expect("it is sent"));
                    }
                    _ => {}
                }
            } else if let Some(writes) = machine.poll_commit() {
                self.coops[who].commit(writes, None).expect("no fault is asked for");
                self.coops[who].machine.as_mut().expect("it runs").handle(now, wall, Input::Committed);
            } else {
                break;
            }
        }
    }

    fn settle(&mut self) {
        while let Some((to, connection, bytes)) = self.wire.pop_front() {
            match bytes {
                Some(bytes) => self.input(to, Input::LinkFrame { connection, frame: decode_link(bytes) }),
                None => self.input(to, Input::LinkClosed { connection }),
            }
        }
    }

    /// A connection is made, and both say what they have to say.
    fn meet(&mut self) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        for who in [0, 1] {
            let (peer_link_key, dialled) = (self.link_keys[1 - who], (who == 0).then(|| self.ids[1].name.clone()));
            self.input(who, Input::LinkOpened { connection, peer_link_key, dialled });
        }
        self.settle();
    }

    fn steward(&mut self, who: usize, request: Request) -> Reply {
        self.input(who, Input::Steward { id: 1, request });
        let reply = self.replies.pop().expect("every request is answered");
        self.settle();
        reply
    }

    fn add(&mut self, who: usize, terms: Option<Terms>, replace: bool) -> Reply {
        let (coop, address) = (self.ids[1 - who].clone(), "simulated:1".to_owned());
        self.steward(who, Request::AddNeighbour { coop, address, terms: terms.map(Box::new), replace })
    }

    fn act(&mut self, who: usize, act: Act) -> Reply {
        let name = self.ids[1 - who].name.clone();
        self.steward(who, Request::Agreement { name, act })
    }

    /// State, and whether the link is up, at both.
    fn how(&mut self) -> [(State, bool); 2] {
        [0, 1].map(|who| match self.steward(who, Request::Neighbours) {
            Reply::Neighbours(list) => (list[0].state, list[0].up),
            other => panic!("{other:?}"),
        })
    }

    /// Alder has a new root key.
    fn rotate(&mut self, seed: u8, overlap_days: u64) -> SecretKey {
        let (old, new) = (self.coops[0].root(), SecretKey::from_seed([seed; 32]));
        let until = UnixSeconds(self.wall + overlap_days * DAY_S);
        let step = RootSuccession::sign(&self.ids[0].name, &old, &new, UnixSeconds(self.wall), until);
        let identity = Identity::new(new.clone(), vec![step]);
        self.ids[0].key = new.public();
        let link_key = self.link_keys[0];
        assert!(matches!(self.steward(0, Request::Keys { link_key, identity }), Reply::Done));
        new
    }

    fn shown(&mut self, who: usize) -> kith_relay::coop::agreements::Shown {
        let name = self.ids[1 - who].name.clone();
        match self.steward(who, Request::ShowNeighbour { name }) {
            Reply::Shown(shown) => *shown,
            other => panic!("{other:?}"),
        }
    }
}

/// A session of a new member of birch's.
const SESSION: ConnectionId = ConnectionId(1_000);

impl Pair {
    fn register(&mut self) {
        let [invite, device] = [31, 32].map(|seed| SecretKey::from_seed([seed; 32]));
        let (name, nonce) = (self.ids[1].name.clone(), [7; 32]);
        assert!(matches!(self.steward(1, Request::Invite { key: invite.public(), uses: 1 }), Reply::Done));
        self.input(1, Input::MemberOpened { connection: SESSION, encoding: Encoding::Binary, nonce });
        self.asks(ToServer::Register {
            invite: invite.public(),
            invite_signature: invite.sign(&membership_statement(&name, &nonce, &device.public())),
            device: device.public(),
            device_signature: device.sign(&auth_statement(&name, &nonce, &device.public())),
        });
        self.asks(ToServer::Certify { request: 1, room: ROOM, pseudonym: PSEUDONYM, leaf_key: PublicKey([5; 32]) });
    }

    /// The last answer that the member gets.
    fn asks(&mut self, frame: ToServer) -> Option<ToMember> {
        self.input(1, Input::MemberFrame { connection: SESSION, frame: Ok(frame) });
        self.settle();
        self.to_members.pop()
    }

    /// The codes with which a join of one of alder's rooms is refused at its two steps.
    fn tries_to_join(&mut self) -> [Code; 2] {
        let (invite, holder) = (SecretKey::from_seed([33; 32]), self.ids[0].clone());
        let proof = invite.sign(&fetch_statement(&ROOM, &self.ids[1].name));
        let fetch = ToServer::FetchGroup(FetchGroup { request: 2, room: ROOM, holder: holder.clone(), invite: invite.public(), proof });
        let commit = Bytes::from_static(b"no commit");
        let (epoch, group_info, from) = (Epoch(0), Bytes::new(), Seq(0));
        let join = Join { request: 3, room: ROOM, holder, pseudonym: PSEUDONYM, epoch, commit, group_info, from, term: Term(1) };
        [fetch, ToServer::Join(join)].map(|frame| match self.asks(frame) {
            Some(ToMember::Refused(refused)) => refused.code,
            other => panic!("{other:?}"),
        })
    }
}

const ROOM: RoomId = RoomId([3; 32]);
const PSEUDONYM: Pseudonym = Pseudonym([4; 16]);

#[test]
fn nobody_joins_through_a_suspended_neighbour() {
    let mut pair = Pair::neighbours([None, None]);
    pair.register();
    assert!(matches!(pair.act(0, Act::Suspend(line("a pause"))), Reply::Done));
    assert_eq!(pair.tries_to_join(), [Code::NoAgreement; 2]);
    pair.act(0, Act::Resume);
    assert_eq!(pair.tries_to_join(), [Code::NoAgreement; 2], "not before both know");
    pair.meet();
    // Now the hub itself answers: it has no such room.
    assert_eq!(pair.tries_to_join(), [Code::InviteClosed, Code::NoSuchRoom]);
    // Nor through one whose agreement does not cover the room.
    let other = Terms { rooms: Rooms::Listed([RoomId([9; 32])].into()), ..Terms::default() };
    for who in [0, 1] {
        assert!(matches!(pair.act(who, Act::Propose(Box::new(other.clone()))), Reply::Done));
    }
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
    assert_eq!(pair.tries_to_join(), [Code::NoAgreement; 2]);
}

fn line(text: &str) -> Line {
    text.parse().unwrap()
}

const UP: (State, bool) = (State::Active, true);

#[test]
fn adding_each_other_is_enough() {
    let mut pair = Pair::neighbours([None, None]);
    assert_eq!(pair.how(), [UP, UP]);
    let rows = pair.coops[1].store.neighbours().now_or_never().unwrap().unwrap();
    let signed = decode_agreement_record(&rows[0].agreement).unwrap().signed.expect("it is durable with both signatures");
    let agreement = Agreement::parse(&signed.document).unwrap();
    assert_eq!(agreement.verify(&pair.ids[0].key, &signed.theirs), Ok(()));
    assert_eq!(agreement.verify(&pair.ids[1].key, &signed.ours), Ok(()));
    // After a start from the disk as well.
    let now = (pair.wall - WALL) * 1_000;
    pair.coops[1].start(now);
    pair.input(0, Input::LinkClosed { connection: ConnectionId(1) });
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
}

#[test]
fn other_terms_need_the_other_stewards_yes() {
    let terms = Terms { notice_days: 30, ..Terms::default() };
    let mut pair = Pair::neighbours([Some(terms.clone()), None]);
    assert_eq!(pair.how(), [(State::Proposed, false); 2]);
    assert!(pair.sent.iter().all(|(_, frame)| !matches!(frame, LinkFrame::Follow { .. })), "no traffic");
    let document = pair.shown(1).offered.expect("birch's steward sees it").document();
    let other = Agreement::between(pair.ids[0].clone(), pair.ids[1].clone(), Terms::default()).document();
    assert!(matches!(pair.act(1, Act::Accept { document: other }), Reply::Refused(_)), "what was shown is what is signed");
    assert!(matches!(pair.act(1, Act::Accept { document }), Reply::Done));
    assert_eq!(pair.how(), [UP, UP], "over the link that was there");
    // A proposal while it is up: in force stays what was.
    assert!(matches!(pair.act(1, Act::Propose(Box::new(Terms { retention_days: 9, ..terms }))), Reply::Done));
    assert_eq!(pair.how(), [UP, UP]);
    let document = pair.shown(0).offered.expect("it came over the link").document();
    assert!(matches!(pair.act(0, Act::Accept { document }), Reply::Done));
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
    for who in [0, 1] {
        assert_eq!(pair.shown(who).neighbour.pact.in_force().map(|terms| (terms.revision, terms.retention_days)), Some((2, 9)));
    }
}

#[test]
fn a_suspension_takes_effect_at_once_and_says_why() {
    let mut pair = Pair::neighbours([None, None]);
    pair.sent.clear();
    assert!(matches!(pair.act(0, Act::Suspend(line("too much spam"))), Reply::Done));
    assert!(matches!(pair.sent.as_slice(), [(0, LinkFrame::Standing(_)), (0, LinkFrame::Error { .. })]), "{:?}", pair.sent);
    assert_eq!(pair.how(), [(State::Suspended, false); 2]);
    let told = pair.shown(1).neighbour.pact.record().their_notice.clone().expect("birch knows");
    assert_eq!(told.reason.as_str(), "too much spam");
    assert_eq!(told.verify(&pair.ids[0].key, &pair.ids[0].name, &pair.ids[1].name), Ok(()));
    // A new connection gets as far as the notice; also after a start.
    let now = (pair.wall - WALL) * 1_000;
    pair.coops[0].start(now);
    pair.sent.clear();
    pair.meet();
    assert_eq!(pair.how(), [(State::Suspended, false); 2]);
    let by_alder = pair.sent.iter().filter(|(who, _)| *who == 0).map(|(_, frame)| frame).collect::<Vec<_>>();
    assert!(matches!(by_alder[..], [LinkFrame::Hello { .. }, LinkFrame::Standing(_), LinkFrame::Error { .. }]), "{by_alder:?}");
    assert!(matches!(pair.act(1, Act::Resume), Reply::Refused(_)), "birch cannot take it back");
    assert!(matches!(pair.act(0, Act::Resume), Reply::Done));
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
}

#[test]
fn an_end_with_notice_takes_effect_by_itself() {
    let terms = Terms { notice_days: 2, ..Terms::default() };
    let mut pair = Pair::neighbours([Some(terms.clone()), Some(terms)]);
    assert!(matches!(pair.act(1, Act::End(line("we close"))), Reply::Done));
    assert_eq!(pair.how(), [UP, UP]);
    assert_eq!(pair.shown(0).neighbour.pact.record().their_notice.as_ref().map(|notice| notice.reason.as_str()), Some("we close"));
    pair.wall += 2 * DAY_S;
    // A tick of either closes it; the link has been quiet, so both tick for its pings at the latest.
    pair.input(0, Input::Tick);
    pair.settle();
    assert_eq!(pair.how(), [(State::Ended, false); 2]);
    pair.meet();
    assert_eq!(pair.how(), [(State::Ended, false); 2]);
}

#[test]
fn a_root_key_changes_while_the_link_is_up() {
    let mut pair = Pair::neighbours([None, None]);
    let rooms_key = pair.ids[0].key;
    let new = pair.rotate(11, 30);
    assert_eq!(pair.how().map(|(_, up)| up), [false, false], "links are made anew");
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
    // Pinned durably, and signed anew.
    let rows = pair.coops[1].store.neighbours().now_or_never().unwrap().unwrap();
    assert_eq!(rows[0].coop.key, new.public());
    let record = decode_agreement_record(&rows[0].agreement).unwrap();
    assert_eq!(record.rooms_key, Some(rooms_key), "rooms go on under the key that they know");
    let signed = record.signed.unwrap();
    assert_eq!(Agreement::parse(&signed.document).unwrap().verify(&new.public(), &signed.theirs), Ok(()));
    // Long after the overlap both still know each other.
    let now = (pair.wall - WALL) * 1_000;
    pair.coops[1].start(now);
    pair.wall += 400 * DAY_S;
    pair.input(0, Input::LinkClosed { connection: ConnectionId(pair.connections) });
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
}

#[test]
fn away_for_the_whole_overlap() {
    let mut pair = Pair::neighbours([None, None]);
    pair.rotate(11, 30);
    pair.wall += 31 * DAY_S;
    pair.meet();
    assert_eq!(pair.how().map(|(_, up)| up), [false, false]);
    let error = pair.shown(1).neighbour.link.last_error.expect("birch's steward is told");
    assert!(error.contains("--replace"), "{error}");
    let told = pair.shown(0).neighbour.link.last_error.expect("and alder's");
    assert!(told.contains("root key has changed"), "{told}");
    // Both act: birch pins the new key, alder begins anew too.
    assert!(matches!(pair.add(1, None, false), Reply::Refused(why) if why.contains("--replace")));
    assert!(matches!(pair.add(1, None, true), Reply::Done));
    pair.meet();
    assert_eq!(pair.how(), [UP, UP], "alder's terms were the same all the time");
}

#[test]
fn the_old_key_is_refused_after_the_change() {
    let mut pair = Pair::neighbours([None, None]);
    let old = pair.coops[0].root();
    pair.rotate(11, 30);
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
    for (days, successor) in [(1, None), (60, None), (60, Some(66))] {
        // A thief of the old key, perhaps with a successor of its own making.
        let mut thief = Pair::strangers();
        thief.wall = pair.wall + days * DAY_S;
        thief.coops[1] = std::mem::replace(&mut pair.coops[1], Coop::new("cedar.test", [9; 32], 0));
        let now = (thief.wall - WALL) * 1_000;
        thief.coops[1].start(now);
        assert!(matches!(thief.add(0, None, false), Reply::Done));
        if let Some(seed) = successor {
            thief.rotate(seed, 30);
        }
        thief.connections = 100;
        thief.meet();
        let [_, (_, up)] = thief.how();
        assert!(!up, "after {days} days");
        let error = thief.shown(1).neighbour.link.last_error.unwrap();
        assert!(error.contains("not the pinned one"), "{error}");
        assert_ne!(thief.shown(1).neighbour.coop.key, old.public());
        pair.coops[1] = std::mem::replace(&mut thief.coops[1], Coop::new("cedar.test", [9; 32], 0));
    }
}

#[test]
fn a_link_goes_with_its_pin() {
    let mut pair = Pair::neighbours([None, None]);
    let lost = SecretKey::from_seed([44; 32]);
    pair.ids[0].key = lost.public();
    assert!(matches!(pair.add(1, None, false), Reply::Refused(_)));
    assert_eq!(pair.how(), [UP, UP], "nothing has changed");
    assert!(matches!(pair.add(1, None, true), Reply::Done));
    assert_eq!(pair.how().map(|(_, up)| up), [false, false]);
    pair.meet();
    assert_eq!(pair.how().map(|(_, up)| up), [false, false], "the old key is worth nothing now");
    // The co-op that lost its key comes with the new one.
    let identity = Identity::new(lost, Vec::new());
    let link_key = pair.link_keys[0];
    pair.steward(0, Request::Keys { link_key, identity });
    assert!(matches!(pair.add(0, None, true), Reply::Done));
    pair.meet();
    assert_eq!(pair.how(), [UP, UP]);
}

/// Nothing that a neighbour says changes where this co-op dials.
#[test]
fn fault_31_addresses_are_the_stewards_alone() {
    let terms = Terms { crisis: line("https://169.254.169.254/"), moderation: line("127.0.0.1:1"), ..Terms::default() };
    let pair = Pair::neighbours([None, Some(terms)]);
    let dialled = pair.coops[0].machine.as_ref().unwrap().dialled();
    assert_eq!(dialled.iter().map(|dialled| dialled.address.as_str()).collect::<Vec<_>>(), ["simulated:1"]);
    assert_eq!(dialled[0].name, "birch.test".parse::<CoopName>().unwrap());
}
