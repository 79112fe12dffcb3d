//! Two co-ops' pacts, and what passes between them.

use kith_protocol::agreement::{Agreement, Line, Standing, Terms};
use kith_protocol::codec::{decode_agreement_record, encode_agreement_record};
use kith_protocol::ids::{Coop, UnixSeconds};
use kith_protocol::limits::AGREEMENT_REVISION_MAX;
use kith_protocol::sign::SecretKey;

use super::*;

const DAY_S: u64 = 24 * 3600;

struct Side {
    root: SecretKey,
    coop: Coop,
    pact: Pact,
}

fn at(day: u64) -> UnixSeconds {
    UnixSeconds(day * DAY_S)
}

fn side(seed: u8, name: &str, terms: Terms) -> Side {
    let root = SecretKey::from_seed([seed; 32]);
    Side { coop: Coop { name: name.parse().unwrap(), key: root.public() }, root, pact: Pact::new(terms) }
}

fn pair(left: Terms, right: Terms) -> [Side; 2] {
    [side(1, "alder.test", left), side(2, "birch.test", right)]
}

/// A steward's act on one side.
fn act<T>(sides: &mut [Side; 2], who: usize, does: impl FnOnce(&mut Pact, Parties<'_>) -> T) -> T {
    let peer = sides[1 - who].coop.clone();
    let Side { root, coop, pact } = &mut sides[who];
    does(pact, Parties { me: coop, peer: &peer, root })
}

/// A link opens: each side hears what the other keeps to and has signed. Says what the last signature came to at each.
fn meet(sides: &mut [Side; 2], day: u64) -> [Option<Heard>; 2] {
    let mut heard = [None, None];
    // Twice, as an adopted number is told again.
    for _ in 0..2 {
        for to in [0, 1] {
            let from = &sides[1 - to];
            let notice = from.pact.record().our_notice.clone();
            let (root, sender) = (from.root.clone(), from.coop.clone());
            let offers: Vec<Terms> = from.pact.accepted().to_vec();
            if let Some(notice) = notice {
                assert_eq!(notice.verify(&sender.key, &sender.name, &sides[to].coop.name), Ok(()));
                sides[to].pact.handle_notice(at(day), notice);
            }
            if sides.iter().any(|side| !side.pact.is_open(at(day))) {
                continue;
            }
            for terms in offers {
                let signature = Agreement::between(sender.clone(), sides[to].coop.clone(), terms.clone()).sign(&root);
                heard[to] = Some(act(sides, to, |pact, parties| pact.handle_signature(at(day), parties, terms, signature)));
            }
        }
    }
    heard
}

fn states(sides: &[Side; 2], day: u64) -> [State; 2] {
    [0, 1].map(|i| sides[i].pact.state(at(day)))
}

fn other(notice_days: u32) -> Terms {
    Terms { notice_days, ..Terms::default() }
}

fn line(text: &str) -> Line {
    text.parse().unwrap()
}

#[test]
fn plain_and_identical_terms_need_no_further_question() {
    for terms in [Terms::default(), other(9)] {
        let mut sides = pair(terms.clone(), terms.clone());
        assert_eq!(states(&sides, 1), [State::Proposed; 2]);
        meet(&mut sides, 1);
        assert_eq!(states(&sides, 1), [State::Active; 2]);
        let [a, b] = [0, 1].map(|i| sides[i].pact.record().signed.clone().unwrap());
        assert_eq!((a.document, a.ours, a.theirs), (b.document, b.theirs, b.ours));
        assert_eq!(meet(&mut sides, 2), [Some(Heard::InForce { changed: false }); 2], "and it is no news the next time");
    }
}

#[test]
fn other_terms_wait_for_a_yes() {
    let mut sides = pair(other(9), Terms::default());
    assert_eq!(meet(&mut sides, 1), [Some(Heard::Offered); 2]);
    assert_eq!(states(&sides, 1), [State::Proposed; 2]);
    assert_eq!(act(&mut sides, 1, |pact, parties| pact.accept(at(2), parties)), Ok(()));
    assert_eq!(states(&sides, 2), [State::Proposed, State::Active], "alder has not seen birch's signature yet");
    meet(&mut sides, 2);
    assert_eq!(states(&sides, 2), [State::Active; 2]);
    assert!(sides.iter().all(|side| side.pact.in_force() == Some(&other(9)) && side.pact.record().offer.is_none()));
    assert_eq!(act(&mut sides, 1, |pact, parties| pact.accept(at(2), parties)), Err(PactError::NoOffer));
}

#[test]
fn a_proposal_leaves_what_is_in_force_until_it_is_accepted() {
    let mut sides = pair(Terms::default(), Terms::default());
    meet(&mut sides, 1);
    act(&mut sides, 0, |pact, parties| pact.propose(at(2), parties, other(30))).unwrap();
    assert_eq!(meet(&mut sides, 2), [Some(Heard::InForce { changed: false }), Some(Heard::Offered)]);
    assert_eq!(states(&sides, 2), [State::Active; 2]);
    assert_eq!(sides[0].pact.proposed().map(|terms| terms.revision), Some(2));
    // Birch proposes the very same words: that is a yes.
    act(&mut sides, 1, |pact, parties| pact.propose(at(3), parties, other(30))).unwrap();
    meet(&mut sides, 3);
    let new = Terms { revision: 2, ..other(30) };
    assert!(sides.iter().all(|side| side.pact.in_force() == Some(&new) && side.pact.accepted() == [new.clone()]));
    // An older signature changes nothing.
    let old = Agreement::between(sides[0].coop.clone(), sides[1].coop.clone(), Terms::default()).sign(&sides[0].root);
    let heard = act(&mut sides, 1, |pact, parties| pact.handle_signature(at(4), parties, Terms::default(), old));
    assert_eq!(heard, Heard::Stale);
    assert_eq!(sides[1].pact.in_force(), Some(&new));
}

#[test]
fn the_same_words_under_two_numbers_meet() {
    let mut sides = pair(other(9), other(8));
    act(&mut sides, 1, |pact, parties| pact.propose(at(1), parties, other(9))).unwrap();
    assert_eq!(sides[1].pact.proposed().map(|terms| terms.revision), Some(2));
    meet(&mut sides, 1);
    assert_eq!(states(&sides, 1), [State::Active; 2]);
    assert!(sides.iter().all(|side| side.pact.in_force().map(|terms| terms.revision) == Some(2)));
}

#[test]
fn suspended_and_resumed() {
    let mut sides = pair(Terms::default(), Terms::default());
    meet(&mut sides, 1);
    assert_eq!(act(&mut sides, 0, |pact, parties| pact.resume(at(2), parties)), Err(PactError::NotSuspended));
    act(&mut sides, 0, |pact, parties| pact.suspend(at(2), parties, line("spam"))).unwrap();
    assert_eq!(states(&sides, 2), [State::Suspended, State::Active]);
    meet(&mut sides, 2);
    assert_eq!(states(&sides, 2), [State::Suspended; 2]);
    assert_eq!(sides[1].pact.record().their_notice.as_ref().map(|notice| notice.reason.as_str()), Some("spam"));
    assert_eq!(act(&mut sides, 1, |pact, parties| pact.resume(at(2), parties)), Err(PactError::NotSuspended), "not birch's to take back");
    act(&mut sides, 0, |pact, parties| pact.resume(at(3), parties)).unwrap();
    meet(&mut sides, 3);
    assert_eq!(states(&sides, 3), [State::Active; 2]);
    // Both at once: each takes back its own.
    for who in [0, 1] {
        act(&mut sides, who, |pact, parties| pact.suspend(at(4), parties, Line::default())).unwrap();
    }
    meet(&mut sides, 4);
    act(&mut sides, 0, |pact, parties| pact.resume(at(5), parties)).unwrap();
    meet(&mut sides, 5);
    assert_eq!(states(&sides, 5), [State::Suspended; 2]);
    act(&mut sides, 1, |pact, parties| pact.resume(at(6), parties)).unwrap();
    meet(&mut sides, 6);
    assert_eq!(states(&sides, 6), [State::Active; 2]);
}

#[test]
fn an_end_keeps_its_notice_and_needs_both_to_begin_again() {
    let mut sides = pair(other(30), other(30));
    meet(&mut sides, 1);
    act(&mut sides, 0, |pact, parties| pact.end(at(10), parties, line("we close"))).unwrap();
    meet(&mut sides, 10);
    assert_eq!(states(&sides, 39), [State::Active; 2], "thirty days of notice");
    assert_eq!(states(&sides, 40), [State::Ended; 2]);
    act(&mut sides, 0, |pact, parties| pact.resume(at(20), parties)).unwrap();
    meet(&mut sides, 20);
    assert_eq!(states(&sides, 50), [State::Active; 2], "taken back in time");
    act(&mut sides, 0, |pact, parties| pact.end(at(60), parties, line("now"))).unwrap();
    meet(&mut sides, 60);
    assert_eq!(act(&mut sides, 0, |pact, parties| pact.resume(at(90), parties)), Err(PactError::Ended));
    assert_eq!(act(&mut sides, 0, |pact, parties| pact.suspend(at(90), parties, line(""))), Err(PactError::Ended));
    // Alder begins again; birch has not said yes.
    act(&mut sides, 0, |pact, parties| pact.propose(at(91), parties, other(30))).unwrap();
    meet(&mut sides, 91);
    assert_eq!(states(&sides, 91), [State::Proposed; 2]);
    act(&mut sides, 1, |pact, parties| pact.accept(at(92), parties)).unwrap();
    meet(&mut sides, 92);
    assert_eq!(states(&sides, 92), [State::Active; 2]);
    assert!(sides.iter().all(|side| side.pact.in_force().map(|terms| terms.revision) == Some(2)));
}

#[test]
fn past_its_review_date_it_goes_on() {
    let reviewed = Terms { review: Some("1970-01-11".parse().unwrap()), ..Terms::default() };
    let mut sides = pair(reviewed.clone(), reviewed);
    meet(&mut sides, 1);
    assert_eq!(states(&sides, 9), [State::Active; 2]);
    assert_eq!(states(&sides, 10), [State::DueForReview; 2]);
    assert!(sides[0].pact.is_active(at(10)));
}

/// The same terms, signed anew with the new key.
#[test]
fn a_new_root_key_signs_what_was_agreed() {
    let mut sides = pair(other(9), other(9));
    meet(&mut sides, 1);
    let before = sides[1].pact.record().signed.clone().unwrap();
    let new = SecretKey::from_seed([11; 32]);
    (sides[0].coop.key, sides[0].root) = (new.public(), new);
    assert_eq!(states(&sides, 2), [State::Active; 2]);
    meet(&mut sides, 2);
    let after = sides[1].pact.record().signed.clone().unwrap();
    assert_ne!(before.document, after.document);
    let agreement = Agreement::parse(&after.document).unwrap();
    assert_eq!(agreement.verify(&sides[0].coop.key, &after.theirs), Ok(()));
    assert_eq!(agreement.verify(&sides[1].coop.key, &after.ours), Ok(()));
}

#[test]
fn bounds_and_what_is_remembered() {
    let mut sides = pair(other(9), other(8));
    assert!(matches!(act(&mut sides, 0, |pact, parties| pact.propose(at(1), parties, other(99_999))), Err(PactError::Terms(_))));
    meet(&mut sides, 1);
    act(&mut sides, 1, |pact, parties| pact.suspend(at(2), parties, line("a pause"))).unwrap();
    meet(&mut sides, 2);
    for side in &sides {
        let again = Pact::restore(decode_agreement_record(&encode_agreement_record(side.pact.record())).unwrap());
        assert_eq!(again, side.pact);
    }
    let last = Terms { revision: AGREEMENT_REVISION_MAX, ..other(7) };
    let mut sides = pair(last.clone(), last);
    meet(&mut sides, 1);
    assert_eq!(act(&mut sides, 0, |pact, parties| pact.propose(at(1), parties, other(1))), Err(PactError::Revisions));
    assert_eq!(sides[0].pact.record().our_notice.as_ref().map(|notice| notice.standing), None::<Standing>);
}
