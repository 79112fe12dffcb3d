//! What a device remembers for whoever asks is bounded: the oldest goes first.

use kith_protocol::ids::{Counter, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, Seq, Term, UnixSeconds};
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::limits::{DONE_MAX, LOOSE_MAX, ROOTS_MAX};
use kith_protocol::log::pack::Unpacked;
use kith_protocol::log::voters::Voters;
use kith_protocol::log::{Header, Kind};
use kith_protocol::room::{Invite, RoomContext};
use kith_protocol::sign::SecretKey;

use super::state::{Phase, RowWhat};
use super::*;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

/// A device with a room that it takes for begun.
fn device() -> (Core, RoomId) {
    let mut core = Core::load([1; 32], []).unwrap();
    let coop = kith_protocol::ids::Coop { name: "alder.test".parse().unwrap(), key: PublicKey([2; 32]) };
    let link = MembershipLink { secure: false, address: "simulated:1".to_owned(), coop, invite: SecretKey::from_seed([3; 32]) };
    core.join_coop(NOW, &link, "somebody").unwrap();
    let room = core.new_room(NOW, "a room").unwrap();
    core.rooms.get_mut(&room).unwrap().phase = Phase::Active;
    (core, room)
}

fn header(room: RoomId, number: u64) -> Header {
    let id = EntryId { sender: Pseudonym([4; 16]), counter: Counter { device: 0, number } };
    let (seq, term, epoch, kind) = (Seq(number), Term(1), Epoch(0), Kind::Message);
    Header { room, seq, term, epoch, kind, id, time: NOW, body_hash: Hash([5; 32]), extra: Hash([6; 32]) }
}

#[test]
fn items_that_are_done_are_forgotten_in_time() {
    let (mut core, room) = device();
    let state = core.rooms.get_mut(&room).unwrap();
    (0..DONE_MAX as u64 + 1).for_each(|item| Core::done(state, item, Seq(item)));
    assert_eq!((state.done.len(), state.done[0].0), (DONE_MAX, 1));
}

#[test]
fn messages_without_a_place_are_bounded() {
    let (mut core, room) = device();
    let state = core.rooms.get_mut(&room).unwrap();
    (0..LOOSE_MAX as u64 + 1).for_each(|number| Core::keep_loose(state, &header(room, number), RowWhat::Left));
    assert_eq!((state.loose.len(), state.loose[0].counter), (LOOSE_MAX, 1));
}

#[test]
fn roots_of_a_session_are_bounded() {
    let (mut core, room) = device();
    for number in 0..ROOTS_MAX as u64 + 10 {
        core.append(&room, Unpacked { header: header(room, number), body: Default::default() });
    }
    let roots = &core.session.logs[&room].roots;
    assert_eq!((roots.len(), roots.back().unwrap().0), (ROOTS_MAX, ROOTS_MAX as u64 + 10));
}

/// What is used up or has expired takes no place from a new invite.
#[test]
fn invites_make_way() {
    let invite = |key: u8, expires: u64, uses: u32| Invite { key: PublicKey([key; 32]), expires: UnixSeconds(expires), uses };
    let later = NOW.0 + 9;
    let mut context = RoomContext {
        roles: Vec::new(),
        invites: vec![invite(1, later, 1), invite(2, later, 2), invite(3, later, 1), invite(4, NOW.0 - 1, 1)],
        voters: Voters { names: Vec::new(), tie_breaker: None },
        voter_keys: Vec::new(),
    };
    Core::close_invites(&mut context, &[([1; 32], 1), ([2; 32], 1)], NOW);
    assert_eq!(context.invites.iter().map(|invite| invite.key.0[0]).collect::<Vec<_>>(), [2, 3]);
}

/// Two logs that have the same term at the same place are the same up to there; of another term there, one of them goes.
#[test]
fn what_comes_again_is_told_from_another_history() {
    let (mut core, room) = device();
    let state = core.rooms.get_mut(&room).unwrap();
    state.size = 51;
    state.base = super::state::Base { size: 33, term: 2, ..Default::default() };
    state.terms = vec![(4, 47), (6, 50)];
    let rows = [(33, 1, true), (34, 2, true), (47, 2, true), (48, 2, false), (50, 2, false), (50, 4, true), (51, 4, false), (51, 6, true)];
    for (end, term, known) in rows {
        assert_eq!(core.has_these(&room, end, Term(term)), known, "up to {end}, of term {term}");
    }
}

/// A complaint that lost its place counts for nothing until it has one again, and what it settled is open again.
#[test]
fn what_is_cut_of_complaints_is_noted_anew() {
    let (mut core, room) = device();
    let state = core.rooms.get_mut(&room).unwrap();
    let senders = [[4; 16], [5; 16], [6; 16]];
    state.senders = senders.to_vec();
    state.contests.room_epoch = 1;
    let contest = kith_protocol::contest::Contest {
        seq: Seq(9),
        leaf: Hash([8; 32]),
        epoch: Epoch(0),
        time: NOW,
        author: 0,
        jury: vec![0, 1, 2],
        complaints: Vec::new(),
    };
    let mut docket = kith_protocol::contest::Docket::default();
    docket.begin(contest);
    state.contests.docket = kith_protocol::codec::encode_docket(&docket);
    Core::set_base(state);
    let row = |who: usize, number: u64, kind: Kind| {
        let id = EntryId { sender: Pseudonym(senders[who]), counter: Counter { device: 0, number } };
        Header { kind, id, ..header(room, 10 + number) }
    };
    let rows = [
        (row(1, 1, Kind::Complaint), RowWhat::Complained),
        (row(2, 1, Kind::Leave), RowWhat::Left),
        (row(0, 1, Kind::Leave), RowWhat::Unreadable("not signed".to_owned())),
    ];
    for (kept, complaints, leavers) in [(3, vec![1], vec![senders[2]]), (1, vec![1], vec![]), (0, vec![], vec![])] {
        let base = state.base.noted.clone();
        Core::note_again(state, base, &rows[..kept]);
        let docket = Core::docket(state);
        assert_eq!((&docket.contests[0].complaints, &state.contests.leavers), (&complaints, &leavers), "{kept} kept");
        assert_eq!((state.contests.activity.len(), state.counters.len()), [(0, 0), (2, 1), (3, 2), (3, 2)][kept], "{kept} kept");
    }
}

/// What is read of a body that lies about its id is there when the body comes with its own; another body under that id takes
/// nothing of it away.
#[test]
fn what_was_read_once_waits_for_its_own_header() {
    let (mut core, room) = device();
    let content = kith_protocol::codec::encode_content(&kith_protocol::content::Content::Withdrawn);
    let own = header(room, 1);
    let state = core.rooms.get_mut(&room).unwrap();
    Core::keep_loose(state, &own, RowWhat::Content(content.clone()));
    let another = Header { body_hash: Hash([7; 32]), ..own };
    let entry = |header: &Header| Unpacked { header: *header, body: Default::default() };
    assert_eq!(core.take_loose(&room, &entry(&another)), None);
    assert_eq!(core.take_loose(&room, &entry(&own)), Some(content));
    assert_eq!(core.take_loose(&room, &entry(&own)), None, "once");
}

/// Of a history that proves wrong, what is certified stays; the rest is read again, also if the server believes that it was.
#[test]
fn a_wrong_history_is_read_again_from_what_is_certified() {
    let (mut core, room) = device();
    let row = |number: u64| {
        let header = header(room, number);
        let row = super::state::RowState { header: header.encode().to_vec(), what: RowWhat::Nothing };
        (header, postcard::to_stdvec(&row).unwrap())
    };
    let rows: Vec<(Header, Vec<u8>)> = (0..5).map(row).collect();
    let mut frontier = kith_protocol::log::merkle::Frontier::default();
    let state = core.rooms.get_mut(&room).unwrap();
    state.number = Some(3);
    Core::set_base(state);
    rows.iter().for_each(|(header, _)| drop(frontier.push(kith_protocol::log::merkle::leaf_hash(&header.encode()))));
    (state.size, state.certified, state.out_of_step) = (5, 2, Some(3));
    state.frontier = frontier.nodes().iter().map(|node| node.0).collect();
    core.distrust_history(&room, "it is another one".to_owned());
    core.finish();
    let effects: Vec<Effect> = std::iter::from_fn(|| core.poll_effect()).collect();
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Event(Event::Distrust { .. }))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Load { from: Seq(0), .. })));
    let stored: Vec<Vec<u8>> = rows.into_iter().map(|(_, bytes)| bytes).collect();
    core.handle_rows(&room, &stored);
    let state = core.room_state(&room).unwrap();
    assert_eq!((state.size, state.certified, state.out_of_step, state.is_cut_back), (2, 2, None, true));
    while core.poll_effect().is_some() {}
    // The next session reads on from there, whatever cursor the server has.
    core.handle_connected();
    core.handle_frame(NOW, kith_protocol::member::ToMember::Ready);
    let opens = std::iter::from_fn(|| core.poll_effect()).filter(
        |effect| matches!(effect, Effect::Send(kith_protocol::member::ToServer::Open { room, from }) if room.0 == 3 && from.0 == 2),
    );
    assert_eq!(opens.count(), 1);
}

/// An earlier form of a message found the place under whose counter a commit had been made since: the commit is made anew.
#[test]
fn what_was_made_under_a_counter_that_is_taken_is_made_anew() {
    let (mut core, room) = device();
    let made = |counter: u64, kind: Kind| super::state::Made {
        counter,
        epoch: 0,
        kind: kind as u8,
        body: vec![counter as u8],
        group_info: Vec::new(),
        removes: Vec::new(),
    };
    for (counter, kind) in [(8, Kind::Commit), (9, Kind::Message), (10, Kind::Message)] {
        core.push_item(&room, super::state::Intent::RemoveLeft).unwrap();
        let item = core.rooms.get_mut(&room).unwrap().outbox.last_mut().unwrap();
        (item.made, item.stored) = (Some(made(counter, kind)), true);
    }
    [8, 9].iter().for_each(|counter| core.unmake_beaten(&room, *counter));
    let outbox = &core.room_state(&room).unwrap().outbox;
    let state: Vec<_> = outbox.iter().rev().take(3).map(|item| (item.made.is_some(), item.stored, item.former.len())).collect();
    assert_eq!(state, [(true, true, 0), (false, false, 1), (false, false, 0)]);
}
