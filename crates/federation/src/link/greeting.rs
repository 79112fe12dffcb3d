//! How a link comes up: who the peer is, what both have signed, and whether both keep to it.

use kith_protocol::agreement::{
    Agreement, Inherited, Line, LinkCertificate, Notice, RootSuccession, Standing, SuccessionError, Terms, inherit, rooms_key,
};
use kith_protocol::error::Code;
use kith_protocol::ids::{Coop, UnixSeconds};
use kith_protocol::limits::AGREEMENT_FRAMES_MAX;
use kith_protocol::link::{LinkFrame, VERSIONS, Versions};
use kith_protocol::sign::Signature;

use super::error::Refusal;
use super::machine::{Event, Link, Pins, State};

impl Link {
    pub(super) fn handle_hello(
        &mut self,
        wall: UnixSeconds,
        versions: Versions,
        coop: &Coop,
        certificate: &LinkCertificate,
        successions: &[RootSuccession],
        pins: &impl Pins,
    ) -> Result<(), Refusal> {
        if VERSIONS.common(versions).is_none() {
            return Err(Refusal::Version(versions));
        }
        let pinned = pins.neighbour(&coop.name).ok_or(Refusal::Stranger)?;
        self.claimed = Some(coop.name.clone());
        if self.expected.as_ref().is_some_and(|name| *name != coop.name) {
            return Err(Refusal::WrongPin);
        }
        match inherit(&coop.name, &pinned.key, &coop.key, successions, wall) {
            Ok(Inherited::Same | Inherited::Newer) => {}
            Err(SuccessionError::OutOfTime) => return Err(Refusal::OverlapOver),
            Err(SuccessionError::Unrelated) => return Err(Refusal::WrongPin),
        }
        certificate.verify(coop, &self.peer_link_key, wall).map_err(|_| Refusal::LinkKey)?;
        let position = pins.position(&coop.name);
        let rooms = rooms_key(&coop.name, &coop.key, successions).ok_or(Refusal::WrongPin)?;
        // The first key stays what rooms know, or whoever holds a later one could speak for it there.
        if position.rooms_key.is_some_and(|known| known != rooms) {
            return Err(Refusal::WrongPin);
        }
        self.peer = Some(Coop { name: coop.name.clone(), key: rooms });
        self.peer_root = Some(coop.clone());
        self.state = State::Greeted;
        self.stand(wall, position.notice.as_ref());
        if position.notice.is_some_and(|notice| !notice.is_open(wall)) {
            self.state = State::Stopped;
            return Err(Refusal::NotOpen);
        }
        self.events.push_back(Event::Known { root: coop.key, rooms, incarnation: self.peer_incarnation });
        position.accepted.iter().for_each(|terms| self.sign(terms));
        Ok(())
    }

    /// Says whether this co-op keeps to the agreement, by its present key.
    pub fn stand(&mut self, wall: UnixSeconds, notice: Option<&Notice>) {
        let Some(peer) = self.peer_root.as_ref() else { return };
        let (standing, at, effective, reason) = match notice {
            Some(notice) => (notice.standing, notice.at, notice.effective, notice.reason.clone()),
            None => (Standing::Open, wall, wall, Line::default()),
        };
        let notice = Notice::sign(&self.root, &self.me.name, &peer.name, standing, at, effective, reason);
        self.sends.push_back(LinkFrame::Standing(notice));
    }

    /// Sends this co-op's signature under terms that its steward said yes to.
    pub fn sign(&mut self, terms: &Terms) {
        let Some(peer) = self.peer_root.clone() else { return };
        let agreement = Agreement::between(self.me.clone(), peer, terms.clone());
        self.sends.push_back(LinkFrame::Agreement { document: agreement.document().into(), signature: agreement.sign(&self.root) });
    }

    /// The steward has said yes to what the peer signed.
    pub fn agree(&mut self, terms: &Terms) {
        self.sign(terms);
        self.agreed = true;
        self.come_up();
    }

    fn come_up(&mut self) {
        if self.state == State::Greeted
            && self.agreed
            && self.peer_open
            && let Some(peer) = self.peer.clone()
        {
            self.state = State::Up;
            self.events.push_back(Event::Up { peer });
        }
    }

    fn count_agreement_frame(&mut self) -> Result<(), Refusal> {
        self.agreement_frames += 1;
        if self.agreement_frames > AGREEMENT_FRAMES_MAX { Err(Refusal::TooMuch) } else { Ok(()) }
    }

    pub(super) fn handle_agreement(&mut self, document: &[u8], signature: Signature, pins: &impl Pins) -> Result<(), Refusal> {
        self.count_agreement_frame()?;
        let peer = self.peer_root.clone().ok_or(Refusal::OutOfTurn)?;
        let theirs = match Agreement::parse(document) {
            Ok(theirs) => theirs,
            Err(error) => {
                // Perhaps of a newer version: what is in force goes on.
                self.sends.push_back(LinkFrame::Error { code: Code::Malformed, detail: error.to_string() });
                return Ok(());
            }
        };
        // Verified over the document that this side renders itself: the peer's bytes are never what is signed or checked.
        let ours = Agreement::between(self.me.clone(), peer.clone(), theirs.terms().clone());
        if ours != theirs || ours.verify(&peer.key, &signature).is_err() {
            return Err(Refusal::Agreement);
        }
        let terms = ours.terms();
        self.agreed |= pins.position(&peer.name).accepted.contains(terms);
        self.events.push_back(Event::Signed { terms: Box::new(terms.clone()), signature });
        self.come_up();
        Ok(())
    }

    pub(super) fn handle_standing(&mut self, wall: UnixSeconds, notice: Notice) -> Result<(), Refusal> {
        self.count_agreement_frame()?;
        let peer = self.peer_root.as_ref().ok_or(Refusal::OutOfTurn)?;
        notice.verify(&peer.key, &peer.name, &self.me.name).map_err(|_| Refusal::Agreement)?;
        self.peer_open = notice.is_open(wall);
        self.events.push_back(Event::Standing(notice));
        if self.peer_open {
            self.come_up()
        } else {
            self.state = State::Stopped
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::ids::{CoopName, Millis, PublicKey, RoomId, RoomNumber, Seq, Term};
    use kith_protocol::sign::SecretKey;

    use super::*;
    use crate::link::machine::{Face, Position};

    const DAY_S: u64 = 24 * 3600;
    const LINK_KEYS: [PublicKey; 2] = [PublicKey([101; 32]), PublicKey([102; 32])];

    /// One end, and what it pinned.
    struct Side {
        face: Face,
        pin: Coop,
        position: Position,
    }

    impl Pins for Side {
        fn neighbour(&self, name: &CoopName) -> Option<Coop> {
            (*name == self.pin.name).then(|| self.pin.clone())
        }

        fn position(&self, _name: &CoopName) -> Position {
            self.position.clone()
        }
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed([seed; 32])
    }

    fn coop(seed: u8, name: &str) -> Coop {
        Coop { name: name.parse().unwrap(), key: key(seed).public() }
    }

    fn at(day: u64) -> UnixSeconds {
        UnixSeconds(day * DAY_S)
    }

    /// A co-op that now has the root `seed`.
    fn side(seed: u8, name: &str, link_key: PublicKey, pin: Coop) -> Side {
        let coop = coop(seed, name);
        let certificate = LinkCertificate::issue(&key(seed), &coop, &link_key, UnixSeconds(1 << 40));
        Side {
            face: Face { coop, root: key(seed), certificate, successions: Vec::new(), incarnation: 0 },
            pin,
            position: Position::default(),
        }
    }

    fn pair() -> [Side; 2] {
        let [a, b] = [coop(1, "alder.test"), coop(2, "birch.test")];
        [side(1, "alder.test", LINK_KEYS[0], b), side(2, "birch.test", LINK_KEYS[1], a)]
    }

    /// What became of each end: how far it came, and what it heard.
    fn greet(sides: &[Side; 2], day: u64) -> [(Result<bool, Refusal>, Vec<Event>); 2] {
        let mut links = [0, 1].map(|i| Link::open(Millis(0), sides[i].face.clone(), LINK_KEYS[1 - i], None));
        let mut ends = [Ok(()), Ok(())];
        for _ in 0..8 {
            for to in [0, 1] {
                while let Some(frame) = links[1 - to].poll_send() {
                    if ends[to].is_ok() {
                        ends[to] = links[to].handle_frame(Millis(0), at(day), frame, &sides[to]);
                    }
                }
            }
        }
        let mut links = links.into_iter();
        ends.map(|end| {
            let mut link = links.next().unwrap();
            (end.map(|()| link.is_up()), std::iter::from_fn(|| link.poll_event()).collect())
        })
    }

    #[test]
    fn only_the_same_terms_bring_a_link_up() {
        let mut sides = pair();
        let other = Terms { notice_days: 30, revision: 2, ..Terms::default() };
        sides[0].position.accepted = vec![other.clone()];
        let [(left, _), (right, heard)] = greet(&sides, 1);
        assert_eq!((left, right), (Ok(false), Ok(false)), "greeted, and not up");
        assert!(
            heard.iter().any(|event| matches!(event, Event::Signed { terms, .. } if **terms == other)),
            "the steward is shown the offer"
        );
        // One in force and one proposed: the one in force is enough.
        sides[0].position.accepted = vec![Terms::default(), other];
        let [(left, _), (right, _)] = greet(&sides, 1);
        assert_eq!((left, right), (Ok(true), Ok(true)));
    }

    #[test]
    fn greeted_is_not_up() {
        let mut sides = pair();
        sides[0].position.accepted = vec![Terms { notice_days: 30, ..Terms::default() }];
        let mut links = [0, 1].map(|i| Link::open(Millis(0), sides[i].face.clone(), LINK_KEYS[1 - i], None));
        let hello = links[0].poll_send().unwrap();
        links[1].handle_frame(Millis(0), at(1), hello, &sides[1]).unwrap();
        let early = LinkFrame::Follow { room: RoomNumber(1), id: RoomId([1; 32]), from: Seq(0), term: Term(0) };
        assert_eq!(links[1].handle_frame(Millis(0), at(1), early, &sides[1]), Err(Refusal::OutOfTurn));
    }

    #[test]
    fn a_suspended_link_gets_as_far_as_the_notice() {
        let mut sides = pair();
        let names = [sides[0].face.coop.name.clone(), sides[1].face.coop.name.clone()];
        let notice = Notice::sign(&key(9), &names[0], &names[1], Standing::Suspended, at(1), at(1), "too much spam".parse().unwrap());
        sides[0].position.notice = Some(notice);
        let [(left, left_heard), (right, heard)] = greet(&sides, 2);
        assert_eq!((left, right), (Err(Refusal::NotOpen), Ok(false)));
        assert!(left_heard.is_empty(), "nothing is exchanged with whom one suspended");
        let told: Vec<_> = heard.iter().filter_map(|event| if let Event::Standing(notice) = event { Some(notice) } else { None }).collect();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].standing, told[0].at, told[0].reason.as_str()), (Standing::Suspended, at(1), "too much spam"));
        assert!(!heard.iter().any(|event| matches!(event, Event::Signed { .. } | Event::Up { .. })));
        // An end with notice goes on until the notice has run out.
        sides[0].position.notice = Some(Notice::sign(&key(9), &names[0], &names[1], Standing::Ended, at(1), at(5), Line::default()));
        assert!(matches!(greet(&sides, 4), [(Ok(true), _), (Ok(true), _)]));
        assert!(matches!(greet(&sides, 5), [(Err(Refusal::NotOpen), _), (Ok(false), _)]));
    }

    /// Also on a link that is up: after the notice nothing else is taken.
    #[test]
    fn a_notice_stops_a_link_that_is_up() {
        let sides = pair();
        let mut links = [0, 1].map(|i| Link::open(Millis(0), sides[i].face.clone(), LINK_KEYS[1 - i], None));
        for _ in 0..4 {
            for to in [0, 1] {
                while let Some(frame) = links[1 - to].poll_send() {
                    links[to].handle_frame(Millis(0), at(1), frame, &sides[to]).unwrap();
                }
            }
        }
        assert!(links.iter().all(Link::is_up));
        let [a, b] = [&sides[0].face, &sides[1].face];
        let suspended = Notice::sign(&a.root, &a.coop.name, &b.coop.name, Standing::Suspended, at(1), at(1), Line::default());
        let forged = Notice { reason: "no".parse().unwrap(), ..suspended.clone() };
        let mut other = Link::open(Millis(0), b.clone(), LINK_KEYS[0], None);
        other.handle_frame(Millis(0), at(1), Link::open(Millis(0), a.clone(), LINK_KEYS[1], None).poll_send().unwrap(), &sides[1]).unwrap();
        assert_eq!(other.handle_frame(Millis(0), at(1), LinkFrame::Standing(forged), &sides[1]), Err(Refusal::Agreement));
        links[1].handle_frame(Millis(0), at(1), LinkFrame::Standing(suspended), &sides[1]).unwrap();
        assert!(!links[1].is_up());
        let traffic = LinkFrame::Follow { room: RoomNumber(1), id: RoomId([1; 32]), from: Seq(0), term: Term(0) };
        assert_eq!(links[1].handle_frame(Millis(0), at(1), traffic, &sides[1]), Err(Refusal::OutOfTurn));
    }

    #[test]
    fn fault_11_agreements_and_notices_are_counted() {
        let sides = pair();
        let [a, b] = [&sides[0].face, &sides[1].face];
        let mut link = Link::open(Millis(0), b.clone(), LINK_KEYS[0], None);
        link.handle_frame(Millis(0), at(1), Link::open(Millis(0), a.clone(), LINK_KEYS[1], None).poll_send().unwrap(), &sides[1]).unwrap();
        let agreement = Agreement::between(a.coop.clone(), b.coop.clone(), Terms::default());
        let frame = LinkFrame::Agreement { document: agreement.document().into(), signature: agreement.sign(&a.root) };
        for _ in 0..AGREEMENT_FRAMES_MAX {
            assert_eq!(link.handle_frame(Millis(0), at(1), frame.clone(), &sides[1]), Ok(()));
        }
        assert_eq!(link.handle_frame(Millis(0), at(1), frame, &sides[1]), Err(Refusal::TooMuch));
    }

    /// Fault 5: what a peer supplies is parsed and compared, and never what is signed.
    #[test]
    fn fault_05_a_peers_document_is_never_signed() {
        let sides = pair();
        let [a, b] = [&sides[0].face, &sides[1].face];
        let mut link = Link::open(Millis(0), b.clone(), LINK_KEYS[0], None);
        link.handle_frame(Millis(0), at(1), Link::open(Millis(0), a.clone(), LINK_KEYS[1], None).poll_send().unwrap(), &sides[1]).unwrap();
        while link.poll_send().is_some() {}
        // The peer keeps to the agreement: only the steward's yes is missing.
        let open = Notice::sign(&a.root, &a.coop.name, &b.coop.name, Standing::Open, at(1), at(1), Line::default());
        link.handle_frame(Millis(0), at(1), LinkFrame::Standing(open), &sides[1]).unwrap();
        let theirs = Agreement::between(a.coop.clone(), b.coop.clone(), Terms { retention_days: 9, ..Terms::default() });
        let mut padded = theirs.document();
        padded.extend(b"rooms all\n");
        for document in [padded, b"kith-agreement/v9\n".to_vec(), vec![0xff; 9]] {
            let frame = LinkFrame::Agreement { document: document.into(), signature: theirs.sign(&a.root) };
            assert_eq!(link.handle_frame(Millis(0), at(1), frame, &sides[1]), Ok(()), "perhaps of a newer version: the link lives");
            assert!(matches!(link.poll_send(), Some(LinkFrame::Error { code: Code::Malformed, .. })));
        }
        let frame = LinkFrame::Agreement { document: theirs.document().into(), signature: theirs.sign(&a.root) };
        link.handle_frame(Millis(0), at(1), frame, &sides[1]).unwrap();
        assert_eq!(link.poll_send(), None, "no signature without the steward's yes");
        assert!(!link.is_up());
        // A good document between other parties.
        let others = Agreement::between(a.coop.clone(), coop(3, "cedar.test"), Terms::default());
        let frame = LinkFrame::Agreement { document: others.document().into(), signature: others.sign(&a.root) };
        assert_eq!(link.handle_frame(Millis(0), at(1), frame, &sides[1]), Err(Refusal::Agreement));
    }

    /// Alder's root passes from key 1 to key 11 from day 10 to day 40; Birch pinned key 1.
    fn rotated(day_of_pin: u8) -> [Side; 2] {
        let [_, mut b] = pair();
        let mut a = side(11, "alder.test", LINK_KEYS[0], coop(2, "birch.test"));
        a.face.successions = vec![RootSuccession::sign(&a.face.coop.name, &key(1), &key(11), at(10), at(40))];
        b.pin = coop(day_of_pin, "alder.test");
        [a, b]
    }

    #[test]
    fn a_new_root_is_followed_while_the_overlap_lasts() {
        let [(left, _), (right, heard)] = greet(&rotated(1), 20);
        assert_eq!((left, right), (Ok(true), Ok(true)));
        let known = Event::Known { root: key(11).public(), rooms: key(1).public(), incarnation: 0 };
        assert!(heard.contains(&known), "the pin moves on, and rooms keep the key that they know: {heard:?}");
        assert!(heard.contains(&Event::Up { peer: coop(1, "alder.test") }), "in rooms it is who it was");
        // Away for all of it: a clear error.
        let [_, (right, _)] = greet(&rotated(1), 41);
        assert_eq!(right, Err(Refusal::OverlapOver));
        assert!(Refusal::OverlapOver.to_string().contains("kithd neighbour add … --replace"));
        // Whoever has moved its pin needs no overlap.
        assert!(matches!(greet(&rotated(11), 400), [(Ok(true), _), (Ok(true), _)]));
    }

    #[test]
    fn the_old_key_is_worth_nothing_to_whom_moved_on() {
        let mut sides = pair();
        sides[1].pin = coop(11, "alder.test");
        assert_eq!(greet(&sides, 20)[1].0, Err(Refusal::WrongPin), "also during the overlap");
        // A thief of the old key certifies a successor of its own.
        let mut thief = rotated(11);
        thief[0] = side(66, "alder.test", LINK_KEYS[0], coop(2, "birch.test"));
        thief[0].face.successions = vec![RootSuccession::sign(&thief[0].face.coop.name, &key(1), &key(66), at(15), at(60))];
        assert_eq!(greet(&thief, 20)[1].0, Err(Refusal::WrongPin));
        // Nor does the holder of the new key become another co-op in rooms.
        let mut other = rotated(11);
        other[0].face.successions = vec![RootSuccession::sign(&other[0].face.coop.name, &key(77), &key(11), at(10), at(40))];
        other[1].position.rooms_key = Some(key(1).public());
        assert_eq!(greet(&other, 20)[1].0, Err(Refusal::WrongPin));
    }

    #[test]
    fn fault_50_versions_are_negotiated() {
        let sides = pair();
        let said = |oldest, newest| {
            let mut hello = Link::open(Millis(0), sides[0].face.clone(), LINK_KEYS[1], None).poll_send().unwrap();
            if let LinkFrame::Hello { versions, .. } = &mut hello {
                *versions = Versions { oldest, newest };
            }
            let mut link = Link::open(Millis(0), sides[1].face.clone(), LINK_KEYS[0], None);
            link.handle_frame(Millis(0), at(1), hello, &sides[1])
        };
        assert_eq!(said(1, 9), Ok(()), "a newer co-op that still speaks ours");
        let refusal = said(2, 9).unwrap_err();
        assert_eq!(refusal.code(), Code::Version);
        let text = refusal.to_string();
        assert!(text.contains("versions 2 to 9") && text.contains("version 1"), "{text}");
    }
}
