//! A room outlives its hub: the other voters seat another, nothing acknowledged is lost, and the old hub comes back as a
//! mirror and hands in what had no place.

use bytes::Bytes;
use kith_protocol::codec::{encode_succession, encode_vote};
use kith_protocol::ids::{Hash, Term};
use kith_protocol::limits::TERM_STEPS_MAX;
use kith_protocol::link::LinkFrame;
use kith_protocol::log::Header;
use kith_protocol::log::checkpoint::{Attestation, Checkpoint};
use kith_protocol::log::proof::Proof;
use kith_protocol::log::succession::{Succession, Vote};
use kith_protocol::log::voters::Voters;
use kith_sim::stand::Stand;
use kith_sim::{Plan, World, hub_of};
use kith_storage::Write;

const PLAN: Plan = Plan { coops: 3, members: 6, voters: 3, rough_ms: 0, ..Plan::PAIR };

fn world(seed: u64) -> World {
    World::begun(seed, PLAN).expect("a world in calm weather")
}

fn talk(world: &mut World) {
    (0..world.members.len()).for_each(|member| world.say(member, 0));
}

#[test]
fn a_room_outlives_its_hub() {
    for seed in 1..=6 {
        let mut world = world(seed);
        let hub = hub_of(&world, &world.circles[0]);
        talk(&mut world);
        world.go_on(150).unwrap();
        world.be_absent(hub, 600_000);
        let since = world.now();
        let mut seated = None;
        while seated.is_none() && world.now() < since + 60_000 {
            world.go_on(500).unwrap();
            talk_sometimes(&mut world, since);
            seated = Some(hub_of(&world, &world.circles[0])).filter(|now| *now != hub);
        }
        assert!(seated.is_some(), "seed {seed}: nobody was seated within a minute");
        talk(&mut world);
        world.go_on(5_000).unwrap();
        let acknowledged = world.end().unwrap_or_else(|violation| panic!("seed {seed}: {violation}\n{}", world.trace().tail(60)));
        assert!(acknowledged >= 12, "seed {seed}: {acknowledged}");
    }
}

fn talk_sometimes(world: &mut World, since: u64) {
    if (world.now() - since) % 7_000 < 500 {
        talk(world);
    }
}

/// The hub of the first room, and the other co-ops.
fn hub_and_others(world: &World) -> (usize, Vec<usize>) {
    let hub = hub_of(world, &world.circles[0]);
    (hub, (0..world.coops.len()).filter(|coop| *coop != hub).collect())
}

fn term(world: &World, coop: usize) -> u32 {
    world.coops[coop].room(&world.circles[0].id).map_or(0, |room| room.term().0)
}

/// Lets time pass while everybody talks, until something holds. When it did, milliseconds.
fn talk_until(world: &mut World, limit_ms: u64, every_ms: u64, holds: impl Fn(&World) -> bool) -> Option<u64> {
    let since = world.now();
    while world.now() < since + limit_ms {
        if holds(world) {
            return Some(world.now() - since);
        }
        talk(world);
        world.go_on(every_ms).unwrap_or_else(|violation| panic!("{violation}\n{}", world.trace().tail(150)));
    }
    None
}

fn put_vote(world: &mut World, voter: usize, candidate: usize) {
    let id = world.circles[0].id;
    let row = world.coops[voter].stored_room(&id).unwrap();
    let room = world.coops[voter].room(&id).unwrap();
    let (term, last) = (Term(room.newest_term().0 + 1), room.last_checkpoint().unwrap().clone());
    let (root, name, candidate) = (world.coops[voter].root(), world.coops[voter].id.name.clone(), world.coops[candidate].id.clone());
    let vote = Vote::sign(&root, name, term, candidate, last);
    world.coops[voter].commit(vec![Write::PutVote { room: row.number, vote: encode_vote(&vote) }], None).unwrap();
}

/// Its vote was durable, and then its hub was back before anybody heard of it.
#[test]
fn a_voter_that_voted_alone_is_taken_back() {
    for candidate_is_itself in [true, false] {
        let mut world = world(3);
        let (_, others) = hub_and_others(&world);
        talk(&mut world);
        world.go_on(2_000).unwrap();
        put_vote(&mut world, others[0], if candidate_is_itself { others[0] } else { others[1] });
        world.be_absent(others[0], 1_000);
        let back = |world: &World| world.coops[others[0]].room(&world.circles[0].id).is_some_and(|room| !room.is_fenced());
        assert!(talk_until(&mut world, 120_000, 2_000, back).is_some());
        world.end().unwrap();
    }
}

/// A hub was seated, wrote the first entry of its term, and was gone before anybody had that. When it comes back, another
/// term goes on from the one before.
#[test]
fn the_hub_of_a_term_that_nobody_heard_of_comes_back() {
    let mut world = world(4);
    let (hub, others) = hub_and_others(&world);
    talk(&mut world);
    world.go_on(2_000).unwrap();
    others.iter().for_each(|other| world.part(hub, *other));
    let id = world.circles[0].id;
    let wrote = |world: &World, coop: usize| {
        let last = world.coops[coop].log(&id).last().map(|row| Header::decode(&row.header).unwrap());
        last.is_some_and(|last| last.term == Term(2))
    };
    let mut seated = None;
    while seated.is_none() && world.now() < 400_000 {
        world.go_on(1).unwrap();
        seated = others.iter().copied().find(|other| wrote(&world, *other));
    }
    let orphan = seated.expect("somebody was seated");
    assert!(others.iter().all(|other| *other == orphan || !wrote(&world, *other)), "too late: others have it too");
    world.be_absent(orphan, 90_000);
    others.iter().for_each(|other| world.join_again(hub, *other));
    let newer = |world: &World| term(world, hub) > 2;
    assert!(talk_until(&mut world, 80_000, 2_000, newer).is_some(), "the others go on without it");
    world.go_on(20_000).unwrap();
    world.end().unwrap_or_else(|violation| panic!("{violation}\n{}", world.trace().tail(400)));
}

/// A commit that gives another co-op a vote is not certified when its hub falls silent. The others seat another hub below
/// it: whose votes count there, the log up to there says.
#[test]
fn a_cut_change_of_voters_does_not_count_its_own_voters() {
    let mut world = World::begun(5, Plan { coops: 4, members: 8, ..PLAN }).unwrap();
    let (hub, others) = hub_and_others(&world);
    let (room, creator) = (world.circles[0].id, world.circles[0].creator);
    let voters = world.members[creator].core.voters(&room).unwrap();
    let name = |world: &World, coop: usize| world.coops[coop].id.name.clone();
    let stranger = *others.iter().find(|other| !voters.names.contains(&name(&world, **other))).expect("one without a vote");
    others.iter().filter(|other| **other != stranger).for_each(|other| world.part(hub, *other));
    world.go_on(1_000).unwrap();
    let more = Voters { names: voters.names.iter().cloned().chain([name(&world, stranger)]).collect(), tie_breaker: None };
    world.set_voters(creator, 0, &more).unwrap();
    let size = world.coops[hub].room(&room).unwrap().durable();
    let seated = |world: &World| others.iter().all(|other| term(world, *other) > 1);
    assert!(talk_until(&mut world, 60_000, 5_000, seated).is_some(), "another hub for all that reach it");
    assert!(world.coops[hub].room(&room).unwrap().durable() > size, "the commit has its place at the old hub alone");
    others.iter().for_each(|other| world.join_again(hub, *other));
    world.end().unwrap();
    assert_eq!(world.members[creator].core.voters(&room).unwrap().names.len(), 4, "the wish was kept");
}

/// Voters that lost their hub go on hearing of it from a mirror that has not, however much is said there.
#[test]
fn a_hub_is_replaced_while_a_mirror_still_hears_it() {
    let mut world = World::begun(6, Plan { coops: 4, members: 8, ..PLAN }).unwrap();
    let (hub, others) = hub_and_others(&world);
    let voters = world.members[world.circles[0].creator].core.voters(&world.circles[0].id).unwrap();
    let has_vote = |world: &World, coop: usize| voters.names.contains(&world.coops[coop].id.name);
    let voting: Vec<usize> = others.into_iter().filter(|other| has_vote(&world, *other)).collect();
    voting.iter().for_each(|voter| world.part(hub, *voter));
    let seated = |world: &World| voting.iter().all(|voter| term(world, *voter) > 1);
    let took = talk_until(&mut world, 60_000, 500, seated);
    assert!(took.is_some(), "nobody was seated while the mirror went on");
    voting.iter().for_each(|voter| world.join_again(hub, *voter));
    world.end().unwrap();
}

/// It greets, and falls over, again and again.
#[test]
fn a_hub_that_only_greets_is_replaced() {
    let mut world = world(7);
    let (hub, others) = hub_and_others(&world);
    let since = world.now();
    while others.iter().all(|other| term(&world, *other) < 2) {
        assert!(world.now() < since + 90_000, "it was never replaced");
        others.iter().for_each(|other| world.part(hub, *other));
        world.go_on(18_000).unwrap();
        others.iter().for_each(|other| world.join_again(hub, *other));
        world.go_on(3_000).unwrap();
    }
    world.end().unwrap();
}

/// Terms are numbers, and numbers end: a call for votes goes only so far ahead of the newest term.
#[test]
fn a_call_goes_only_so_far_ahead() {
    let mut world = world(5);
    let (hub, others) = hub_and_others(&world);
    let (room, newest) = (world.circles[0].id, term(&world, others[0]));
    let candidate = world.coops[others[1]].id.clone();
    let (hub_id, root) = (world.coops[hub].id.clone(), world.coops[hub].root());
    let mut voter = Stand::new(world.coops.remove(others[0]));
    let (link, said) = voter.link(&hub_id, &root);
    // The hub has what the voter has: it says the same of the room.
    said.into_iter().filter(|frame| matches!(frame, LinkFrame::Status { .. })).for_each(|same| drop(voter.link_frame(link, same)));
    for (steps, is_willing) in [(TERM_STEPS_MAX + 1, false), (TERM_STEPS_MAX, true)] {
        let call = LinkFrame::Call { room, term: Term(newest + steps), candidate: candidate.clone(), probe: true };
        let said = voter.link_frame(link, call);
        let willing = LinkFrame::Willing { room, term: Term(newest + steps) };
        assert_eq!(said.contains(&willing), is_willing, "{steps}: {said:?}");
    }
}

/// Two hubs in one term take a voter that votes twice. Whoever is shown both records convicts it, for anybody to check; and
/// whoever hears of another hub in a term shows what it knows of it.
#[test]
fn a_voter_that_votes_twice_is_convicted_by_its_votes() {
    let mut world = world(5);
    let (hub, others) = hub_and_others(&world);
    let room = world.circles[0].id;
    world.be_absent(hub, 600_000);
    let seated = |world: &World| others.iter().all(|other| term(world, *other) == 2);
    assert!(talk_until(&mut world, 60_000, 500, seated).is_some());
    world.go_on(10_000).unwrap();
    // The other voter has given the old hub a vote in that term, too. It has seated itself with it.
    let newer = hub_of(&world, &world.circles[0]);
    let twice = *others.iter().find(|other| **other != newer).unwrap();
    let (rival, root) = (world.coops[hub].id.clone(), world.coops[hub].root());
    let (voter, voter_root) = (world.coops[twice].id.clone(), world.coops[twice].root());
    let last = world.coops[newer].room(&room).unwrap().log().unwrap().ended.last().unwrap().clone();
    let votes = [(&rival.name, &root), (&voter.name, &voter_root)]
        .map(|(name, key)| Vote::sign(key, name.clone(), Term(2), rival.clone(), last.clone()));
    let record = Succession { room, term: Term(2), hub: rival.clone(), votes: votes.to_vec() };

    let mut honest = Stand::new(world.coops.remove(newer));
    let own = honest.coop.room(&room).unwrap().log().unwrap().succession.clone();
    let (link, said) = honest.link(&rival, &root);
    said.into_iter().filter(|frame| matches!(frame, LinkFrame::Status { .. })).for_each(|same| drop(honest.link_frame(link, same)));
    let size = honest.log().len() as u64;
    let status = |attestation, succession| LinkFrame::Status { room, term: Term(2), size, fence: Term(0), attestation, succession };
    let checkpoint = Checkpoint { room, term: Term(2), size: size + 1, root: Hash([7; 32]) };
    let word = Attestation { checkpoint, hub: rival.name.clone(), signature: checkpoint.sign(&root), marks: Vec::new() };
    let said = honest.link_frame(link, status(Some(word.clone()), Bytes::new()));
    let shown = |frame: &LinkFrame| matches!(frame, LinkFrame::Status { succession, .. } if *succession == own);
    assert!(said.iter().any(shown), "it shows by whom its hub was seated: {said:?}");
    let forged = Attestation { signature: checkpoint.sign(&voter_root), ..word };
    assert!(!honest.link_frame(link, status(Some(forged), Bytes::new())).iter().any(shown), "a word that nobody gave");

    let mut unsigned = record.clone();
    unsigned.votes[1] = Vote { signature: unsigned.votes[0].signature, ..unsigned.votes[1].clone() };
    honest.link_frame(link, status(None, encode_succession(&unsigned).into()));
    assert!(!honest.coop.room(&room).unwrap().is_frozen(), "what it did not sign proves nothing");
    let said = honest.link_frame(link, status(None, encode_succession(&record).into()));
    let proof = said.iter().find_map(|frame| if let LinkFrame::Proof(proof) = frame { Some(proof) } else { None }).expect("a proof");
    assert!(matches!(proof, Proof::DoubleVote(_)) && *proof.convicted() == voter, "{proof:?}");
    let file = Proof::from_file(&proof.to_file()).unwrap();
    assert_eq!((file.verify(), file.convicted()), (Ok(()), &voter));
    assert!(honest.coop.room(&room).unwrap().is_frozen());
}
