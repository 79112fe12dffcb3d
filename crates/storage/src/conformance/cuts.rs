//! Logs that are cut where a newer term goes on, votes, and rooms that are not there.

use bytes::Bytes;
use kith_protocol::ids::{DeviceHandle, RoomNumber, Seq};
use kith_protocol::log::merkle::Frontier;

use super::{append, assert_misused, entry_id, everything, grown, put_room, rows, text};
use crate::{RoomState, Store, Truncate, Write};

fn cut(room: u32, size: u64) -> Truncate {
    let text = |what| Bytes::from(format!("{what} at {size}"));
    Truncate { room: RoomNumber(room), size: Seq(size), snapshot: text("snapshot"), group: text("group"), checkpoint: text("checkpoint") }
}

/// Rows, marks and cursors beyond the cut are gone; the room's state is the one that comes with it; the log grows on.
pub async fn a_log_is_cut_with_its_state(store: &impl Store) {
    let (room, device) = (RoomNumber(1), DeviceHandle(1));
    let (all, _) = grown(store, 7, text).await;
    let mark = Write::PutMarked { room, attestation: text(1) };
    let cursor = |device: u64, next| Write::SetCursor { device: DeviceHandle(device), room, next: Seq(next) };
    store.commit(vec![mark, cursor(1, 6), cursor(2, 2)]).await.expect("a good commit");

    let mut frontier = Frontier::default();
    let kept = rows(&mut frontier, 4, text);
    let newer = rows(&mut frontier, 2, |seq| Bytes::from(format!("newer {seq}")));
    let wanted = cut(1, 4);
    store.commit(vec![Write::Truncate(wanted.clone()), Write::Append(append(1, 4, newer.clone()))]).await.expect("a cut");
    assert_eq!(kept, all[..4]);
    assert_eq!(store.entries(room, Seq(0), 99, 9_999).await.expect("a page"), [kept.clone(), newer].concat());
    assert_eq!(store.cursors(device).await.expect("cursors"), [(room, Seq(4))]);
    assert_eq!(store.cursors(DeviceHandle(2)).await.expect("cursors"), [(room, Seq(2))]);
    let state = store.room_state(room).await.expect("a state");
    assert_eq!((state.group, state.marked), (Some(wanted.group), None));

    let again = cut(1, 4);
    store.commit(vec![Write::Truncate(again.clone())]).await.expect("a cut");
    assert_eq!(store.entries(room, Seq(0), 99, 9_999).await.expect("a page"), kept);
    let state = store.room_state(room).await.expect("a state");
    assert_eq!((state.snapshot, state.checkpoint), (Some(again.snapshot), Some(again.checkpoint)));
}

pub async fn a_cut_is_within_the_log(store: &impl Store) {
    grown(store, 3, text).await;
    for size in [0, 4, 99] {
        assert_misused(store, vec![Write::Truncate(cut(1, size))]).await;
    }
    assert_misused(store, vec![Write::Truncate(cut(9, 1))]).await;
    // A list that appends and then cuts is one thing after the other.
    let mut frontier = Frontier::default();
    let all = rows(&mut frontier, 5, text);
    let list = vec![Write::Append(append(1, 3, all[3..].to_vec())), Write::Truncate(cut(1, 4))];
    store.commit(list).await.expect("a good commit");
    assert_eq!(store.entries(RoomNumber(1), Seq(0), 99, 9_999).await.expect("a page"), all[..4]);
}

/// With what belongs to it and came earlier in the list; its number and id are free again, and other rooms stay.
pub async fn a_dropped_room_leaves_nothing(store: &impl Store) {
    let (room, device) = (RoomNumber(1), DeviceHandle(1));
    let (all, _) = grown(store, 3, text).await;
    let kept = vec![put_room(2), Write::Append(append(2, 0, all.clone())), Write::SetCursor { device, room: RoomNumber(2), next: Seq(2) }];
    store.commit(kept).await.expect("another room");
    let before = everything(store).await;

    let mut frontier = Frontier::default();
    let more = rows(&mut frontier, 4, text);
    let list = vec![
        put_room(3),
        Write::Append(append(3, 0, more)),
        Write::PutMarked { room: RoomNumber(3), attestation: text(1) },
        Write::PutVote { room: RoomNumber(3), vote: text(2) },
        Write::PutProof { room: RoomNumber(3), proof: text(4) },
        Write::PutPending { room: RoomNumber(3), id: entry_id(1), submission: text(3) },
        Write::SetCursor { device, room: RoomNumber(3), next: Seq(4) },
    ];
    store.commit(list.clone()).await.expect("a room with everything");
    store.commit(vec![Write::DropRoom { number: RoomNumber(3) }]).await.expect("it is there");
    assert_eq!(everything(store).await, before);
    store.commit([list, vec![Write::DropRoom { number: RoomNumber(3) }]].concat()).await.expect("in one list");
    assert_eq!(everything(store).await, before);

    for number in [3, 9] {
        assert_misused(store, vec![Write::DropRoom { number: RoomNumber(number) }]).await;
    }
    store.commit(vec![put_room(3), Write::Append(append(3, 0, all.clone()))]).await.expect("the number and the id are free");
    assert_eq!(store.entries(RoomNumber(3), Seq(0), 99, 9_999).await.expect("a page"), all);
    let state = store.room_state(RoomNumber(3)).await.expect("a state");
    assert_eq!((state.vote, state.proof), (None, None));
    assert_eq!(store.entries(room, Seq(0), 99, 9_999).await.expect("a page"), all);
}

/// All rooms lack something after a restore, each until it is refilled; rooms that come later lack nothing.
pub async fn restores_are_counted_and_mark_every_room(store: &impl Store) {
    let begin = |number: u64| Write::BeginIncarnation { number };
    let restored = async |room: u32| store.room_state(RoomNumber(room)).await.expect("a state").is_restored;
    assert_eq!(store.incarnation().await.expect("a number"), 0);
    grown(store, 3, text).await;
    store.commit(vec![put_room(2)]).await.expect("a room");
    assert_eq!((restored(1).await, restored(2).await), (false, false));
    assert_misused(store, vec![begin(0)]).await;
    assert_misused(store, vec![begin(u64::MAX)]).await;
    assert_misused(store, vec![Write::PutRefilled { room: RoomNumber(9) }]).await;
    store.commit(vec![begin(3)]).await.expect("an incarnation");
    assert_misused(store, vec![begin(3)]).await;
    store.commit(vec![put_room(4), Write::PutRefilled { room: RoomNumber(2) }, Write::Truncate(cut(1, 2))]).await.expect("a list");
    assert_eq!(store.incarnation().await.expect("a number"), 3);
    assert_eq!((restored(1).await, restored(2).await, restored(4).await), (true, false, false));
    let refilled = || vec![Write::PutRefilled { room: RoomNumber(1) }];
    store.commit(refilled()).await.expect("a list");
    store.commit(refilled()).await.expect("once more changes nothing");
    assert!(!restored(1).await);
    store.commit(vec![begin(4), Write::DropRoom { number: RoomNumber(1) }, put_room(1)]).await.expect("a list");
    assert_eq!((restored(1).await, restored(4).await), (false, true));
}

/// Rows and state are gone; what was voted, what is pending and where devices read on is not. The log comes again.
pub async fn a_cleared_log_begins_again(store: &impl Store) {
    let (room, device) = (RoomNumber(1), DeviceHandle(1));
    let (all, _) = grown(store, 5, text).await;
    let keep = vec![
        Write::PutVote { room, vote: text(1) },
        Write::PutPending { room, id: entry_id(1), submission: text(2) },
        Write::SetCursor { device, room, next: Seq(4) },
        Write::PutMarked { room, attestation: text(3) },
        Write::BeginIncarnation { number: 1 },
    ];
    store.commit(keep).await.expect("a list");
    assert_misused(store, vec![Write::ClearLog { room: RoomNumber(9) }]).await;
    store.commit(vec![Write::ClearLog { room }]).await.expect("a cleared log");
    let state = store.room_state(room).await.expect("a state");
    assert_eq!(state, RoomState { vote: Some(text(1)), is_restored: true, ..RoomState::default() });
    assert_eq!(store.entries(room, Seq(0), 99, 9_999).await.expect("a page"), []);
    assert_eq!(store.pending(room).await.expect("pending"), [(entry_id(1), text(2))]);
    assert_eq!(store.cursors(device).await.expect("cursors"), [(room, Seq(4))]);
    store.commit(vec![Write::ClearLog { room }, Write::Append(append(1, 0, all.clone()))]).await.expect("the log again");
    assert_eq!(store.entries(room, Seq(0), 99, 9_999).await.expect("a page"), all);
}

/// The newest counts, whatever happens to the log.
pub async fn votes_and_proofs_stay(store: &impl Store) {
    let room = RoomNumber(1);
    let proof = |text: &'static str| Write::PutProof { room, proof: Bytes::from_static(text.as_bytes()) };
    assert_misused(store, vec![proof("no room")]).await;
    let vote = |text: &'static str| Write::PutVote { room, vote: Bytes::from_static(text.as_bytes()) };
    assert_misused(store, vec![vote("no room")]).await;
    grown(store, 3, text).await;
    store.commit(vec![vote("first"), proof("first"), proof("newest")]).await.expect("a vote");
    store.commit(vec![vote("second")]).await.expect("a vote");
    store.commit(vec![Write::Truncate(cut(1, 2))]).await.expect("a cut");
    let state = store.room_state(room).await.expect("a state");
    assert_eq!((state.vote, state.proof), (Some(Bytes::from_static(b"second")), Some(Bytes::from_static(b"newest"))));
}

/// Reading an unknown room is no error; writing to it is misuse, except that dropping what is not there is done.
pub async fn unknown_rooms_are_empty(store: &impl Store) {
    let (room, device) = (RoomNumber(7), DeviceHandle(1));
    let all = everything(store).await;
    assert_eq!(all.states[7], RoomState::default());
    assert_eq!((&all.entries[7], &all.headers[7], &all.pending[7]), (&vec![], &vec![], &vec![]));
    assert_eq!(all.nodes[7], [None, None]);
    assert_misused(store, vec![Write::PutMarked { room, attestation: text(1) }]).await;
    assert_misused(store, vec![Write::PutPending { room, id: entry_id(1), submission: text(1) }]).await;
    assert_misused(store, vec![Write::SetCursor { device, room, next: Seq(1) }]).await;
    assert_misused(store, vec![Write::ResetCursor { device, room, next: Seq(1) }]).await;
    store.commit(vec![Write::DropPending { room, id: entry_id(1) }]).await.expect("nothing to drop");
}
