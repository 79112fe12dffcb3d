//! Bounds of a running co-op and of a device: each is reached, and answered.

use bytes::Bytes;
use futures_util::FutureExt;
use kith_client::core::{Core, CoreError, Effect, Event};
use kith_protocol::admission::fetch_statement;
use kith_protocol::content::Content;
use kith_protocol::error::Code;
use kith_protocol::ids::{ConnectionId, Coop as CoopId, Millis, Pseudonym, RoomId, RoomNumber, Seq, Term, UnixSeconds};
use kith_protocol::invite_link::MembershipLink;
use kith_protocol::limits::{
    AUTHENTICATION_MS_MAX, BACKLOG_MAX, BATCHES_IN_FLIGHT_MAX, IN_FLIGHT_MAX, JOIN_ATTEMPTS_MAX, LINK_REQUEST_MS_MAX, LINK_REQUESTS_MAX,
    LINK_ROOMS_IN_FLIGHT_MAX, NEIGHBOURS_MAX, OUTBOX_MAX, PENDING_PER_ROOM_MAX, PROVISIONAL_FRAMES_MAX, PROVISIONALS_MAX, ROOM_INVITES_MAX,
    ROOMS_MAX, ROOMS_PER_ACCOUNT_MAX, TRIES_MAX, UNAUTHENTICATED_MAX,
};
use kith_protocol::link::LinkFrame;
use kith_protocol::log::Kind;
use kith_protocol::log::checkpoint::Mark;
use kith_protocol::member::{FetchGroup, Refused, Send, ToMember, ToServer};
use kith_protocol::sign::SecretKey;
use kith_relay::coop::driver::boot;
use kith_relay::coop::steward::{Reply, Request};
use kith_relay::coop::{Coop as Machine, Input};
use kith_relay::room::Room;
use kith_sim::World;
use kith_sim::stand::{Stand, over_link};

fn refusals(said: &[ToMember]) -> Vec<Code> {
    said.iter().filter_map(|frame| if let ToMember::Refused(refused) = frame { Some(refused.code) } else { None }).collect()
}

fn state(world: &World, member: usize) -> &kith_client::core::state::RoomState {
    world.members[member].core.room_state(&world.circles[0].id).expect("it is in the room")
}

/// The hub of a calm room, alone with its neighbour's keys, and a link to it.
fn hub_and_link() -> (World, Stand, CoopId, ConnectionId) {
    let mut world = World::calm_circle(22, 3).unwrap();
    let mut hub = Stand::new(world.coops.remove(0));
    let (birch, root) = (world.coops[0].id.clone(), world.coops[0].root());
    let (link, _) = hub.link(&birch, &root);
    (world, hub, birch, link)
}

#[test]
fn requests_that_wait_for_a_neighbour_are_bounded_in_number_and_time() {
    let (_world, mut hub, birch, _) = hub_and_link();
    let session = hub.newcomer(50);
    let invite = SecretKey::from_seed([7; 32]);
    let fetch = |hub: &mut Stand, request: u32| {
        let room = RoomId([request as u8; 32]);
        let proof = invite.sign(&fetch_statement(&room, &hub.coop.id.name));
        let fetch = FetchGroup { request, room, holder: birch.clone(), invite: invite.public(), proof };
        refusals(&hub.frame(session, ToServer::FetchGroup(fetch)))
    };
    for request in 0..LINK_REQUESTS_MAX as u32 {
        assert_eq!(fetch(&mut hub, request), [], "request {request}");
    }
    assert_eq!(fetch(&mut hub, u32::MAX), [Code::Busy]);
    hub.now.0 += LINK_REQUEST_MS_MAX + 1;
    let said = kith_sim::stand::to_member(&hub.tell(Input::Tick), session);
    assert_eq!(refusals(&said), vec![Code::HolderUnreachable; LINK_REQUESTS_MAX]);
}

#[test]
fn neighbours_are_bounded() {
    let (_world, mut hub, ..) = hub_and_link();
    let mut add = |number: usize| {
        let key = SecretKey::from_seed([number as u8; 32]).public();
        let coop = CoopId { name: format!("n{number}.test").parse().unwrap(), key };
        let request = Request::AddNeighbour { coop, address: "simulated:1".to_owned(), terms: None, replace: false };
        let said = hub.tell(Input::Steward { id: 9, request });
        said.iter().any(|effect| matches!(effect, kith_relay::coop::Effect::Steward { reply: Reply::Refused(_), .. }))
    };
    // One is there already.
    assert!(!(1..NEIGHBOURS_MAX).any(&mut add));
    assert!(add(NEIGHBOURS_MAX));
}

#[test]
fn rooms_of_an_account_are_bounded() {
    let (_world, mut hub, ..) = hub_and_link();
    let session = hub.newcomer(50);
    let mut certify = |number: usize| {
        hub.now.0 += 10;
        let mut room = [0; 32];
        room[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let leaf_key = SecretKey::from_seed([9; 32]).public();
        let frame = ToServer::Certify { request: 1, room: RoomId(room), pseudonym: Pseudonym([number as u8; 16]), leaf_key };
        refusals(&hub.frame(session, frame))
    };
    for number in 0..ROOMS_PER_ACCOUNT_MAX {
        assert_eq!(certify(number), [], "{number}");
    }
    assert_eq!(certify(ROOMS_PER_ACCOUNT_MAX), [Code::TooLarge]);
}

/// A co-op that holds as many rooms as it may says so to whoever would begin one, and goes on with those that it has.
#[test]
fn rooms_of_a_co_op_are_bounded() {
    let (mut world, mut hub, ..) = hub_and_link();
    let (me, name, wall) = (hub.coop.id.clone(), hub.coop.id.name.clone(), hub.wall());
    let mut boot = boot(&hub.coop.store, &name).now_or_never().expect("the model never pends").unwrap();
    // One is there already, and one more may be begun.
    boot.rooms.extend((2..ROOMS_MAX).map(|number| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        Room::empty(RoomNumber(100 + number as u32), RoomId(id), me.clone(), name.clone())
    }));
    hub.coop.machine = Some(Machine::new(me.clone(), hub.coop.secrets(), boot, wall));
    hub.tell(Input::Tick);
    let (session, _) = hub.session(&world.members[0]);
    let mut begin = |hub: &mut Stand, name: &str| {
        world.members[0].core.new_room(hub.wall(), name).unwrap();
        let (mut refused, mut begun) = (Vec::new(), false);
        for _ in 0..4 {
            for frame in world.members[0].take_effects(false).sends {
                let said = hub.frame(session, frame);
                begun |= said.iter().any(|frame| matches!(frame, ToMember::RoomNumber { .. }));
                refused.extend(refusals(&said));
                said.into_iter().for_each(|frame| world.members[0].core.handle_frame(hub.wall(), frame));
            }
        }
        (begun, refused)
    };
    assert_eq!(begin(&mut hub, "the last"), (true, vec![]));
    assert_eq!(begin(&mut hub, "one more"), (false, vec![Code::Busy]));
    let id = world.circles[0].id;
    world.members[0].core.say(hub.wall(), &id, &Content::Text("still here".to_owned())).unwrap();
    for frame in world.members[0].take_effects(false).sends {
        assert_eq!(refusals(&hub.frame(session, frame)), []);
    }
}

/// A mirror that does not say that it has what it was sent is sent no more; nothing is lost by that.
#[test]
fn unattested_batches_are_bounded() {
    let (mut world, mut hub, birch, link) = hub_and_link();
    let room = hub.room();
    let size = hub.log().len() as u64;
    hub.link_frame(link, LinkFrame::Follow { room: room.number, id: room.id, from: Seq(size), term: Term(1) });
    let (session, _) = hub.session(&world.members[0]);
    let mut batches = 0;
    for number in 0..BATCHES_IN_FLIGHT_MAX + 3 {
        let id = world.circles[0].id;
        world.members[0].core.say(hub.wall(), &id, &Content::Text(format!("{number}"))).unwrap();
        for frame in world.members[0].take_effects(false).sends {
            let said = hub.tell(Input::MemberFrame { connection: session, frame: Ok(frame) });
            batches += over_link(&said, link).iter().filter(|frame| matches!(frame, LinkFrame::Batch(_))).count();
        }
    }
    assert_eq!(batches, BATCHES_IN_FLIGHT_MAX);
    let mark = Mark { coop: birch.name, cosignature: None, held: None };
    let said = hub.link_frame(link, LinkFrame::Attest { room: room.number, size: size + BATCHES_IN_FLIGHT_MAX as u64, mark });
    let rest: usize = said.iter().map(|frame| if let LinkFrame::Batch(batch) = frame { batch.entries.entries.len() } else { 0 }).sum();
    assert_eq!(rest, 3, "{said:?}");
}

/// A mirror without its hub keeps so much for it, and no more; of that it shows its members the newest.
#[test]
fn what_waits_for_a_hub_is_bounded() {
    let mut world = World::calm(21).unwrap();
    let mut mirror = Stand::new(world.coops.pop().unwrap());
    let (room, state) = (mirror.room(), state(&world, 1));
    let last = state.counters[&(state.pseudonym, 0)];
    let epoch = kith_protocol::ids::Epoch(state.epoch);
    let (session, _) = mirror.session(&world.members[1]);
    let send = |mirror: &mut Stand, number: usize| {
        mirror.now.0 += 5;
        let body = Bytes::from(vec![7; 64]);
        let counter = last + 1 + number as u64;
        let send = Send { room: room.number, counter, epoch, kind: Kind::Message, body, group_info: Bytes::new() };
        refusals(&mirror.frame(session, ToServer::Send(send)))
    };
    for number in 0..PENDING_PER_ROOM_MAX {
        assert_eq!(send(&mut mirror, number), [], "{number}");
    }
    assert_eq!(send(&mut mirror, PENDING_PER_ROOM_MAX), [Code::Busy]);
    let (other, _) = mirror.session(&world.members[1]);
    let said = mirror.frame(other, ToServer::Open { room: room.number, from: Seq(mirror.log().len() as u64) });
    let frames: Vec<_> =
        said.iter().filter_map(|f| if let ToMember::Provisionals { entries, .. } = f { Some(entries) } else { None }).collect();
    assert!(frames.len() <= PROVISIONAL_FRAMES_MAX && frames.iter().all(|entries| entries.len() <= PROVISIONALS_MAX));
    assert_eq!(frames.last().unwrap().last().unwrap().id.counter.number, last + PENDING_PER_ROOM_MAX as u64, "the newest");
}

/// What waits for a commit holds up further inputs, until the commit is there.
#[test]
fn what_waits_for_a_commit_is_bounded() {
    let (_world, mut hub, ..) = hub_and_link();
    let (now, wall) = (hub.now, hub.wall());
    let machine = hub.coop.machine.as_mut().unwrap();
    let mut taken = 0;
    while machine.takes_input() {
        let key = SecretKey::from_seed([3; 32]).public();
        machine.handle(now, wall, Input::Steward { id: taken, request: Request::Invite { key, uses: 1 } });
        taken += 1;
        assert!(taken <= BACKLOG_MAX as u64, "nothing holds it up");
    }
    assert!(taken > 1_000, "{taken}");
    let writes = machine.poll_commit().unwrap();
    assert!(machine.takes_input() && writes.len() <= BACKLOG_MAX);
}

/// A device without a connection keeps so much; with one it has so much on its way.
#[test]
fn a_devices_outbox_is_bounded() {
    let mut world = World::calm(21).unwrap();
    let (room, member) = (world.circles[0].id, &mut world.members[0]);
    let now = UnixSeconds(kith_sim::coop::WALL + 2_000);
    let said = (0..).take_while(|number| member.core.say(now, &room, &Content::Text(format!("{number}"))).is_ok()).count();
    assert_eq!(member.core.say(now, &room, &Content::Text("one more".to_owned())), Err(CoreError::OutboxFull));
    let waiting = member.core.items().len();
    // What has its place and is not certified yet stands there too.
    assert!((OUTBOX_MAX - 10..=OUTBOX_MAX).contains(&said) && waiting <= OUTBOX_MAX, "{said} said, {waiting} waiting");
    let sends = member.take_effects(false).sends;
    assert_eq!(sends.iter().filter(|frame| matches!(frame, ToServer::Send(_))).count(), IN_FLIGHT_MAX);
}

/// A hub that refuses for ever is not asked for ever.
#[test]
fn an_entry_is_not_made_anew_for_ever() {
    let mut world = World::calm(21).unwrap();
    let room = world.circles[0].id;
    let number = RoomNumber(state(&world, 0).number.unwrap());
    let core = &mut world.members[0].core;
    let now = UnixSeconds(kith_sim::coop::WALL + 2_000);
    core.say(now, &room, &Content::Text("in vain".to_owned())).unwrap();
    let mut refusals = 0;
    loop {
        let effects: Vec<Effect> = std::iter::from_fn(|| core.poll_effect()).collect();
        if effects.iter().any(|effect| matches!(effect, Effect::Event(Event::ItemFailed { .. }))) {
            break;
        }
        let sent =
            effects.iter().find_map(|effect| if let Effect::Send(ToServer::Send(send)) = effect { Some(send.counter) } else { None });
        let (code, detail) = (Code::WrongEpoch, "another epoch".to_owned());
        let refused =
            Refused { code, detail, request: 0, room: number, counter: sent.expect("it is tried again"), retry_after_ms: 0, epoch: None };
        core.handle_frame(now, ToMember::Refused(refused));
        core.handle_tick(now);
        refusals += 1;
        assert!(refusals <= TRIES_MAX + 1, "it never gives up");
    }
    assert_eq!(refusals, TRIES_MAX + 1);
}

/// How somebody fares who joins while the room is quicker, so many times: each time it invites somebody else, in the same
/// epoch. How often the join was tried, and why it was given up if it was.
fn join_against(rivals: usize) -> (usize, Option<Code>, Stand) {
    let (mut world, mut hub, ..) = hub_and_link();
    let room = world.circles[0].id;
    let mut joiner = Core::load([77; 32], []).unwrap();
    let invite = SecretKey::from_seed([78; 32]);
    hub.tell(Input::Steward { id: 1, request: Request::Invite { key: invite.public(), uses: 1 } });
    let link = MembershipLink { secure: false, address: "simulated:1".to_owned(), coop: hub.coop.id.clone(), invite };
    joiner.join_coop(hub.wall(), &link, "late").unwrap();
    let (facilitator, _) = hub.session(&world.members[0]);
    let (session, said) = hub.open();
    joiner.handle_connected();
    let mut inbox = kith_sim::stand::to_member(&said, session);
    joiner.join_room(hub.wall(), &world.invite_link().unwrap()).unwrap();
    let mut tries = 0;
    for _ in 0..400 {
        inbox.drain(..).for_each(|frame| joiner.handle_frame(hub.wall(), frame));
        hub.now = Millis(hub.now.0 + 10_000);
        joiner.handle_tick(hub.wall());
        for effect in std::iter::from_fn(|| joiner.poll_effect()).collect::<Vec<_>>() {
            let frame = match effect {
                Effect::Send(frame) => frame,
                Effect::Event(Event::JoinFailed { code, .. }) => return (tries, Some(code), hub),
                Effect::Event(Event::RoomReady(_)) => return (tries, None, hub),
                _ => continue,
            };
            if matches!(frame, ToServer::Join(_)) {
                tries += 1;
                if tries <= rivals {
                    world.members[0].core.invite(hub.wall(), &room, 1).unwrap();
                }
                for send in world.members[0].take_effects(false).sends {
                    hub.frame(facilitator, send).into_iter().for_each(|frame| world.members[0].core.handle_frame(hub.wall(), frame));
                }
            }
            inbox.extend(hub.frame(session, frame));
        }
    }
    panic!("after {tries} tries it neither is in nor has given up");
}

/// Somebody whose join always comes too late hears so in the end.
#[test]
fn a_join_is_not_tried_for_ever() {
    let (tries, refused, _) = join_against(usize::MAX);
    assert_eq!((tries, refused), (JOIN_ATTEMPTS_MAX as usize, Some(Code::WrongEpoch)));
}

/// Two commit in one epoch. One has it; the other hears that it comes too late, and with what is new tries again.
#[test]
fn fault_20_one_commit_an_epoch_and_the_loser_is_told() {
    let (tries, refused, hub) = join_against(1);
    assert_eq!((tries, refused), (2, None));
    let commits: Vec<_> = hub.log().into_iter().filter(|(header, _)| header.kind == Kind::Commit).map(|(header, _)| header).collect();
    let [.., rival, join] = &commits[..] else { panic!("{commits:?}") };
    assert_ne!(rival.id.sender, join.id.sender);
    let epochs: Vec<u64> = commits.iter().map(|header| header.epoch.0).collect();
    assert!(epochs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{epochs:?}");
}

/// A room's open invites are bounded; whoever wants one more is told before anything is made of it, and goes on writing.
#[test]
fn open_invites_are_bounded() {
    let (mut world, mut hub, ..) = hub_and_link();
    let room = world.circles[0].id;
    let (session, _) = hub.session(&world.members[0]);
    // One is open: everybody joined by it, and it has uses left.
    for number in 1..ROOM_INVITES_MAX {
        hub.now.0 += 10_000;
        let wall = hub.wall();
        let member = &mut world.members[0];
        member.core.invite(wall, &room, 1).unwrap_or_else(|error| panic!("{number}: {error}"));
        for send in member.take_effects(false).sends {
            hub.frame(session, send).into_iter().for_each(|frame| member.core.handle_frame(wall, frame));
        }
        drop(member.take_effects(false));
    }
    let core = &mut world.members[0].core;
    assert_eq!(core.invite(hub.wall(), &room, 1), Err(CoreError::TooManyInvites));
    assert!(core.say(hub.wall(), &room, &Content::Text("still here".to_owned())).is_ok());
}

/// Five thousand come at once: so many are let in to authenticate at a time, the others hear that they may come again, and
/// nobody who is in loses anything by it.
#[test]
fn fault_45_a_crowd_is_let_in_by_and_by() {
    let (world, mut hub, ..) = hub_and_link();
    let (inside, _) = hub.session(&world.members[0]);
    let mut turned_away = 0;
    for _ in 0..5_000 {
        let (connection, said) = hub.open();
        let frames = kith_sim::stand::to_member(&said, connection);
        match &frames[..] {
            [ToMember::Challenge { .. }] => {}
            [ToMember::Refused(refused)] => {
                assert_eq!(refused.code, Code::Busy);
                turned_away += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(turned_away, 5_000 - UNAUTHENTICATED_MAX);
    let room = hub.room();
    let headers = hub.frame(inside, ToServer::FetchHeaders { request: 7, room: room.number, from: Seq(0) });
    assert!(matches!(&headers[..], [ToMember::Headers { request: 7, .. }]), "{headers:?}");
    // Those who say nothing make room for others.
    hub.now.0 += AUTHENTICATION_MS_MAX;
    hub.tell(Input::Tick);
    hub.session(&world.members[2]);
}

/// A mirror that asks for all rooms at once is sent few at a time, each in its turn, and in the end all of them.
#[test]
fn rooms_under_way_on_a_link_are_bounded_and_take_turns() {
    let rooms = LINK_ROOMS_IN_FLIGHT_MAX + 4;
    let mut world = World::begun(7, kith_sim::Plan { rooms, rough_ms: 0, ..kith_sim::Plan::PAIR }).unwrap();
    let mut stand = Stand::new(world.coops.remove(0));
    let (birch, root) = (world.coops[0].id.clone(), world.coops[0].root());
    let (link, _) = stand.link(&birch, &root);
    let batches = |said: &[LinkFrame]| -> Vec<(RoomNumber, u64)> {
        let end = |batch: &kith_protocol::link::Batch| batch.entries.first.0 + batch.entries.entries.len() as u64;
        said.iter()
            .filter_map(|frame| if let LinkFrame::Batch(batch) = frame { Some((batch.entries.room, end(batch))) } else { None })
            .collect()
    };
    let mut under_way = std::collections::VecDeque::new();
    for (number, circle) in (1..).map(RoomNumber).zip(&world.circles) {
        let follow = LinkFrame::Follow { room: number, id: circle.id, from: Seq(0), term: Term(1) };
        under_way.extend(batches(&stand.link_frame(link, follow)));
    }
    assert_eq!(under_way.len(), LINK_ROOMS_IN_FLIGHT_MAX, "each room fits one batch");
    let mut served = std::collections::BTreeSet::new();
    while let Some((number, end)) = under_way.pop_front() {
        served.insert(number);
        let mark = Mark { coop: birch.name.clone(), cosignature: None, held: None };
        under_way.extend(batches(&stand.link_frame(link, LinkFrame::Attest { room: number, size: end, mark })));
        assert!(under_way.len() <= LINK_ROOMS_IN_FLIGHT_MAX);
    }
    assert_eq!(served.len(), rooms);
}
