//! What every backend promises: one suite, run against each of them.
//!
//! Each function takes a fresh store and panics where a promise is broken. [`conformance!`](crate::conformance!) turns
//! them into tests; [`everything`] reads all there is, to hold one store against another. Every statement of every
//! backend is exercised here.

mod cuts;

use bytes::Bytes;
use kith_protocol::ids::{
    AccountHandle, Coop, Counter, DeviceHandle, EntryId, Epoch, Hash, Pseudonym, PublicKey, RoomId, RoomNumber, Seq, Term, UnixSeconds,
};
use kith_protocol::limits::STORED_BYTES_MAX;
use kith_protocol::log::header::{Header, Kind};
use kith_protocol::log::merkle::{
    Frontier, NodeId, consistency_proof, inclusion_proof, leaf_hash, nodes_for_consistency, nodes_for_frontier, nodes_for_inclusion,
    verify_consistency, verify_inclusion,
};

pub use cuts::{
    a_cleared_log_begins_again, a_cut_is_within_the_log, a_dropped_room_leaves_nothing, a_log_is_cut_with_its_state,
    restores_are_counted_and_mark_every_room, unknown_rooms_are_empty, votes_and_proofs_stay,
};

use crate::{Append, DeviceRow, LogRow, MembershipRow, NeighbourRow, Result, RoomRow, RoomState, Store, StoreError, Write};

/// A `#[tokio::test]` for each function of the suite. The argument names an `async fn() -> (store, guard)`; the guard,
/// such as a temporary folder, lives as long as the test.
#[macro_export]
macro_rules! conformance {
    ($make_store:path) => {
        $crate::conformance!(
            $make_store:
            entries_come_back_in_pages,
            an_append_elsewhere_writes_nothing,
            a_malformed_append_writes_nothing,
            fault_30_an_oversized_value_writes_nothing,
            one_bad_write_undoes_its_list,
            an_empty_list_is_nothing,
            numbers_and_ids_of_rooms_are_new,
            a_rooms_state_follows_its_log,
            a_log_is_cut_with_its_state,
            a_cut_is_within_the_log,
            votes_and_proofs_stay,
            restores_are_counted_and_mark_every_room,
            a_dropped_room_leaves_nothing,
            a_cleared_log_begins_again,
            several_rooms_grow_in_one_commit,
            unknown_rooms_are_empty,
            pending_entries_keep_their_order,
            cursors_never_go_back,
            invites_count_down,
            devices_are_replaced_by_handle,
            a_pseudonym_keeps_its_account,
            neighbours_are_known_by_name,
            nodes_prove_what_a_frontier_grew,
        );
    };
    ($make_store:path: $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (store, _guard) = $make_store().await;
                $crate::conformance::$name(&store).await;
            }
        )+
    };
}

/// Rows that continue a log; `frontier` grows with them. `body` says what the entry at a place says.
pub fn rows(frontier: &mut Frontier, count: usize, body: impl Fn(u64) -> Bytes) -> Vec<LogRow> {
    let mut row = || {
        let seq = frontier.size();
        let body = body(seq);
        let header = header(seq).encode();
        let nodes: Vec<u8> = frontier.push(leaf_hash(&header)).iter().flat_map(|node| node.0).collect();
        LogRow { header: header.to_vec().into(), nodes: nodes.into(), body, group_info: Bytes::new() }
    };
    (0..count).map(|_| row()).collect()
}

fn header(seq: u64) -> Header {
    Header {
        room: RoomId([1; 32]),
        seq: Seq(seq),
        term: Term(1),
        epoch: Epoch(seq / 10),
        kind: Kind::Message,
        id: entry_id(seq),
        time: UnixSeconds(1_000 + seq),
        body_hash: Hash([2; 32]),
        extra: Hash([3; 32]),
    }
}

fn entry_id(number: u64) -> EntryId {
    EntryId { sender: Pseudonym([4; 16]), counter: Counter { device: 1, number } }
}

fn coop(name: &str) -> Coop {
    Coop { name: name.parse().expect("a good name"), key: PublicKey([5; 32]) }
}

fn put_room(number: u32) -> Write {
    Write::PutRoom { number: RoomNumber(number), id: room_id(number), hub: coop("alder.example") }
}

fn room_id(number: u32) -> RoomId {
    RoomId([number.to_le_bytes()[0]; 32])
}

/// An append with snapshots that name its end.
fn append(room: u32, first: u64, rows: Vec<LogRow>) -> Append {
    let end = first + rows.len() as u64;
    let named = |what: &str| Bytes::from(format!("{what} at {end}"));
    Append { room: RoomNumber(room), first: Seq(first), rows, snapshot: named("snapshot"), group: None, checkpoint: named("checkpoint") }
}

fn text(seq: u64) -> Bytes {
    Bytes::from(format!("body {seq}"))
}

/// A room, number 1, with a log of this many entries.
async fn grown(store: &impl Store, size: usize, body: impl Fn(u64) -> Bytes) -> (Vec<LogRow>, Frontier) {
    let mut frontier = Frontier::default();
    let rows = rows(&mut frontier, size, body);
    store.commit(vec![put_room(1), Write::Append(append(1, 0, rows.clone()))]).await.expect("a good commit");
    (rows, frontier)
}

async fn assert_misused(store: &impl Store, writes: Vec<Write>) {
    let before = everything(store).await;
    let outcome = store.commit(writes).await;
    assert!(matches!(outcome, Err(StoreError::Misused(_))), "{outcome:?}");
    assert_eq!(everything(store).await, before, "nothing was written");
}

/// All that can be read of a store with few rooms (numbers below 16) and devices (handles below 16, and the highest).
#[derive(Debug, PartialEq, Eq)]
pub struct Everything {
    pub rooms: Vec<RoomRow>,
    pub states: Vec<RoomState>,
    pub entries: Vec<Vec<LogRow>>,
    pub headers: Vec<Vec<Bytes>>,
    pub nodes: Vec<Vec<Option<Hash>>>,
    pub pending: Vec<Vec<(EntryId, Bytes)>>,
    pub pending_rooms: Vec<RoomNumber>,
    pub invites: Vec<(PublicKey, u32)>,
    pub devices: Vec<DeviceRow>,
    pub memberships: Vec<MembershipRow>,
    pub cursors: Vec<Vec<(RoomNumber, Seq)>>,
    pub neighbours: Vec<NeighbourRow>,
}

/// Reads [`Everything`].
pub async fn everything(store: &impl Store) -> Everything {
    read_everything(store).await.expect("every query is answered")
}

async fn read_everything(store: &impl Store) -> Result<Everything> {
    let mut all = Everything {
        rooms: store.rooms().await?,
        states: Vec::new(),
        entries: Vec::new(),
        headers: Vec::new(),
        nodes: Vec::new(),
        pending: Vec::new(),
        pending_rooms: store.pending_rooms().await?,
        invites: store.invites().await?,
        devices: store.devices().await?,
        memberships: store.memberships().await?,
        cursors: Vec::new(),
        neighbours: store.neighbours().await?,
    };
    for room in (0..16).map(RoomNumber) {
        all.states.push(store.room_state(room).await?);
        let entries = store.entries(room, Seq(0), usize::MAX, usize::MAX).await?;
        let size = entries.len() as u64;
        all.entries.push(entries);
        all.headers.push(store.headers(room, Seq(0), usize::MAX).await?);
        all.nodes
            .push(store.nodes(room, (0..size + 1).flat_map(|leaf| [leaf_node(leaf), NodeId { level: 1, index: leaf }]).collect()).await?);
        all.pending.push(store.pending(room).await?);
    }
    for device in (0..16).chain([u64::MAX]) {
        all.cursors.push(store.cursors(DeviceHandle(device)).await?);
    }
    Ok(all)
}

fn leaf_node(index: u64) -> NodeId {
    NodeId { level: 0, index }
}

/// Pages end at the rows or at the bytes, whichever comes first, and never before the first row.
pub async fn entries_come_back_in_pages(store: &impl Store) {
    let mut frontier = Frontier::default();
    let mut all = rows(&mut frontier, 1, |_| Bytes::from(vec![0; 100]));
    store.commit(vec![put_room(1), Write::Append(append(1, 0, all.clone()))]).await.expect("one row");
    let mut more = rows(&mut frontier, 9, |seq| if seq == 5 { Bytes::new() } else { Bytes::from(vec![seq as u8; 100]) });
    more[3].group_info = Bytes::from_static(b"group info");
    store.commit(vec![Write::Append(append(1, 1, more.clone()))]).await.expect("nine rows");
    all.extend(more);

    let room = RoomNumber(1);
    let page = async |from, rows_max, bytes_max| store.entries(room, Seq(from), rows_max, bytes_max).await.expect("a page");
    assert_eq!(page(0, 100, usize::MAX).await, all);
    assert_eq!(page(3, 4, usize::MAX).await, all[3..7]);
    assert_eq!(page(0, 100, 250).await, all[..3], "the third row reaches 250 bytes");
    assert_eq!(page(0, 100, 200).await, all[..2]);
    assert_eq!(page(4, 100, 200).await, all[4..7], "an erased body counts nothing");
    assert_eq!(page(9, 100, 0).await, all[9..], "at least one");
    assert_eq!(page(0, 0, 100).await, []);
    for beyond in [10, 1 << 50, u64::MAX] {
        assert_eq!(page(beyond, 100, 100).await, []);
        assert!(store.headers(room, Seq(beyond), 100).await.expect("a page").is_empty());
    }
    let headers: Vec<_> = all.iter().map(|row| row.header.clone()).collect();
    assert_eq!(store.headers(room, Seq(0), 100).await.expect("headers"), headers);
    assert_eq!(store.headers(room, Seq(2), 3).await.expect("headers"), headers[2..5]);
    assert!(store.headers(room, Seq(2), 0).await.expect("headers").is_empty());
}

/// A log has no holes and no second version of an entry.
pub async fn an_append_elsewhere_writes_nothing(store: &impl Store) {
    let (old, mut frontier) = grown(store, 3, text).await;
    assert_misused(store, vec![Write::Append(append(1, 0, old[..1].to_vec()))]).await;
    assert_misused(store, vec![Write::Append(append(1, 2, old[2..].to_vec()))]).await;
    let mut ahead = frontier.clone();
    rows(&mut ahead, 1, text);
    assert_misused(store, vec![Write::Append(append(1, 4, rows(&mut ahead, 2, text)))]).await;
    let next = append(1, 3, rows(&mut frontier, 2, text));
    assert_misused(store, vec![Write::Append(next.clone()), Write::Append(next.clone())]).await;
    assert_misused(store, vec![Write::Append(Append { room: RoomNumber(2), first: Seq(0), ..next.clone() })]).await;
    store.commit(vec![Write::Append(next)]).await.expect("the right place");
}

/// Rows that could not be read again, or never prove anything, are refused.
pub async fn a_malformed_append_writes_nothing(store: &impl Store) {
    let (_, mut frontier) = grown(store, 3, text).await;
    let good = append(1, 3, rows(&mut frontier, 1, text));
    let with = |change: &dyn Fn(&mut Append)| {
        let mut bad = good.clone();
        change(&mut bad);
        vec![Write::Append(bad)]
    };
    assert_misused(store, with(&|bad| bad.rows.clear())).await;
    assert_misused(store, with(&|bad| bad.rows[0].header.clear())).await;
    assert_misused(store, with(&|bad| bad.rows[0].nodes.truncate(32))).await;
    assert_misused(store, with(&|bad| bad.first = Seq(u64::MAX))).await;
    store.commit(with(&|_| ())).await.expect("a good append");
}

/// No value is cut on its way: what is too large is refused before a library counts its bytes.
pub async fn fault_30_an_oversized_value_writes_nothing(store: &impl Store) {
    let (_, mut frontier) = grown(store, 3, text).await;
    let good = append(1, 3, rows(&mut frontier, 1, text));
    let (room, huge) = (RoomNumber(1), Bytes::from(vec![0; STORED_BYTES_MAX + 1]));
    let with = |change: &dyn Fn(&mut Append)| {
        let mut bad = good.clone();
        change(&mut bad);
        vec![Write::Append(bad)]
    };
    assert_misused(store, with(&|bad| bad.rows[0].body = huge.clone())).await;
    assert_misused(store, with(&|bad| bad.group = Some(huge.clone()))).await;
    assert_misused(store, vec![Write::PutPending { room, id: entry_id(1), submission: huge.clone() }]).await;
    assert_misused(store, vec![Write::PutMarked { room, attestation: huge.clone() }]).await;
    let largest = huge.slice(1..);
    store.commit(with(&|good| good.rows[0].body = largest.clone())).await.expect("within the bound");
    assert!(store.entries(room, Seq(3), 1, usize::MAX).await.expect("a page")[0].body == largest);
}

/// All or nothing, wherever in the list the bad write stands.
pub async fn one_bad_write_undoes_its_list(store: &impl Store) {
    let (_, mut frontier) = grown(store, 2, text).await;
    let good = [
        Write::Append(append(1, 2, rows(&mut frontier, 3, text))),
        Write::PutPending { room: RoomNumber(1), id: entry_id(1), submission: text(1) },
        Write::PutInvite { key: PublicKey([1; 32]), uses_left: 1 },
        put_room(2),
    ];
    for place in 0..=good.len() {
        let mut writes = good.to_vec();
        writes.insert(place, Write::PutPending { room: RoomNumber(9), id: entry_id(1), submission: text(1) });
        assert_misused(store, writes).await;
    }
    store.commit(good.to_vec()).await.expect("without the bad write");
    assert_eq!(store.entries(RoomNumber(1), Seq(0), 9, 999).await.expect("a page").len(), 5);
}

/// Nothing to do is done.
pub async fn an_empty_list_is_nothing(store: &impl Store) {
    store.commit(Vec::new()).await.expect("nothing");
    assert_eq!(everything(store).await.rooms, []);
}

/// A number stands for one room, and a room has one number.
pub async fn numbers_and_ids_of_rooms_are_new(store: &impl Store) {
    store.commit(vec![put_room(3), put_room(1)]).await.expect("two rooms");
    let expected = [1, 3].map(|number| RoomRow { number: RoomNumber(number), id: room_id(number), hub: coop("alder.example") });
    assert_eq!(store.rooms().await.expect("rooms"), expected);
    assert_misused(store, vec![Write::PutRoom { number: RoomNumber(1), id: room_id(7), hub: coop("b.example") }]).await;
    assert_misused(store, vec![Write::PutRoom { number: RoomNumber(7), id: room_id(1), hub: coop("b.example") }]).await;
}

/// The group's snapshot and the marks stay until they are replaced; the rest comes with each append.
pub async fn a_rooms_state_follows_its_log(store: &impl Store) {
    let room = RoomNumber(1);
    let state = async || store.room_state(room).await.expect("a state");
    let marked = |text: &'static str| Write::PutMarked { room, attestation: Bytes::from_static(text.as_bytes()) };
    store.commit(vec![put_room(1)]).await.expect("a room");
    assert_eq!(state().await, RoomState::default());
    assert_misused(store, vec![marked("no log yet")]).await;

    let mut frontier = Frontier::default();
    let mut first = append(1, 0, rows(&mut frontier, 2, text));
    first.group = Some(Bytes::from_static(b"group 1"));
    store.commit(vec![Write::Append(first.clone()), marked("mark 1")]).await.expect("a log");
    let mut expected = RoomState {
        snapshot: Some(first.snapshot),
        group: first.group,
        checkpoint: Some(first.checkpoint),
        marked: Some(Bytes::from_static(b"mark 1")),
        vote: None,
        proof: None,
        is_restored: false,
    };
    assert_eq!(state().await, expected);

    let second = append(1, 2, rows(&mut frontier, 1, text));
    store.commit(vec![Write::Append(second.clone())]).await.expect("an append");
    (expected.snapshot, expected.checkpoint) = (Some(second.snapshot), Some(second.checkpoint));
    assert_eq!(state().await, expected);

    let mut third = append(1, 3, rows(&mut frontier, 1, text));
    third.group = Some(Bytes::from_static(b"group 2"));
    store.commit(vec![Write::Append(third.clone()), marked("mark 2")]).await.expect("an append");
    (expected.snapshot, expected.checkpoint, expected.group) = (Some(third.snapshot), Some(third.checkpoint), third.group);
    expected.marked = Some(Bytes::from_static(b"mark 2"));
    assert_eq!(state().await, expected);
}

/// Appends of one list may be to several rooms and to one room twice.
pub async fn several_rooms_grow_in_one_commit(store: &impl Store) {
    let (mut one, mut two) = (Frontier::default(), Frontier::default());
    let (a, b, c) = (rows(&mut one, 2, text), rows(&mut two, 1, |_| Bytes::new()), rows(&mut one, 3, text));
    let appends = [append(1, 0, a.clone()), append(2, 0, b.clone()), append(1, 2, c.clone())].map(Write::Append);
    store.commit([vec![put_room(1), put_room(2)], appends.to_vec()].concat()).await.expect("a good commit");
    assert_eq!(store.entries(RoomNumber(1), Seq(0), 9, 999).await.expect("a page"), [a, c].concat());
    assert_eq!(store.entries(RoomNumber(2), Seq(0), 9, 999).await.expect("a page"), b);
}

/// First put, first listed; a replacement keeps the place of what it replaces.
pub async fn pending_entries_keep_their_order(store: &impl Store) {
    let room = RoomNumber(2);
    let put =
        |number, says: &'static str| Write::PutPending { room, id: entry_id(number), submission: Bytes::from_static(says.as_bytes()) };
    let pending = async || -> Vec<(u64, Bytes)> {
        let pending = store.pending(room).await.expect("pending");
        pending.into_iter().map(|(id, submission)| (id.counter.number, submission)).collect()
    };
    store.commit(vec![put_room(1), put_room(2), put(9, "a"), put(u64::MAX, "b"), put(5, "c")]).await.expect("three");
    assert_eq!(store.pending(room).await.expect("pending")[0].0, entry_id(9));
    store.commit(vec![put(9, "d")]).await.expect("a replacement");
    assert_eq!(pending().await, [(9, "d".into()), (u64::MAX, "b".into()), (5, "c".into())]);
    assert_eq!(store.pending_rooms().await.expect("rooms"), [room]);
    store.commit(vec![Write::DropPending { room, id: entry_id(5) }, put(5, "e"), put(1, "f")]).await.expect("again");
    assert_eq!(pending().await, [(9, "d".into()), (u64::MAX, "b".into()), (5, "e".into()), (1, "f".into())]);
    let drops = [9, u64::MAX, 5, 1, 77].map(|number| Write::DropPending { room, id: entry_id(number) });
    store.commit(drops.to_vec()).await.expect("all dropped");
    assert_eq!(pending().await, []);
    assert!(store.pending_rooms().await.expect("rooms").is_empty());
}

/// Unless reset. Devices read on apart.
pub async fn cursors_never_go_back(store: &impl Store) {
    let device = DeviceHandle(u64::MAX);
    let set = |room, next| Write::SetCursor { device, room: RoomNumber(room), next: Seq(next) };
    let reset = |room, next| Write::ResetCursor { device, room: RoomNumber(room), next: Seq(next) };
    let cursors = async || store.cursors(device).await.expect("cursors");
    store.commit(vec![put_room(1), put_room(2), set(2, 5), set(1, 3)]).await.expect("cursors");
    assert_eq!(cursors().await, [(RoomNumber(1), Seq(3)), (RoomNumber(2), Seq(5))]);
    store.commit(vec![set(1, 2), set(2, 6)]).await.expect("back and on");
    assert_eq!(cursors().await, [(RoomNumber(1), Seq(3)), (RoomNumber(2), Seq(6))]);
    store.commit(vec![reset(1, 0), reset(2, 8)]).await.expect("a reset");
    assert_eq!(cursors().await, [(RoomNumber(1), Seq(0)), (RoomNumber(2), Seq(8))]);
    assert_misused(store, vec![set(1, u64::MAX)]).await;
    assert_eq!(store.cursors(DeviceHandle(1)).await.expect("cursors"), []);
}

/// One row a key, with the uses that were said last.
pub async fn invites_count_down(store: &impl Store) {
    let put = |key, uses_left| Write::PutInvite { key: PublicKey([key; 32]), uses_left };
    store.commit(vec![put(2, 3), put(1, u32::MAX), put(2, 2)]).await.expect("invites");
    store.commit(vec![put(2, 0)]).await.expect("used up");
    assert_eq!(store.invites().await.expect("invites"), [(PublicKey([1; 32]), u32::MAX), (PublicKey([2; 32]), 0)]);
}

/// Handles use all their bits.
pub async fn devices_are_replaced_by_handle(store: &impl Store) {
    let row =
        |handle, number| DeviceRow { handle: DeviceHandle(handle), account: AccountHandle(u64::MAX), number, key: PublicKey([9; 32]) };
    let put = |handle, number| Write::PutDevice(row(handle, number));
    store.commit(vec![put(u64::MAX, 1), put(7, 0), put(7, u16::MAX)]).await.expect("devices");
    assert_eq!(store.devices().await.expect("devices"), [row(7, u16::MAX), row(u64::MAX, 1)]);
}

/// Put twice is put once; another account's pseudonym is refused.
pub async fn a_pseudonym_keeps_its_account(store: &impl Store) {
    let row = |account, room, pseudonym| MembershipRow {
        account: AccountHandle(account),
        room: room_id(room),
        pseudonym: Pseudonym([pseudonym; 16]),
    };
    let rows = [row(1, 1, 1), row(1, 1, 2), row(1, 2, 3), row(u64::MAX, 1, 4), row(u64::MAX, 2, 1)];
    store.commit(rows.iter().rev().cloned().map(Write::PutMembership).collect()).await.expect("memberships");
    store.commit(vec![Write::PutMembership(row(1, 1, 1))]).await.expect("the same again");
    assert_eq!(store.memberships().await.expect("memberships"), rows);
    assert_misused(store, vec![Write::PutMembership(row(2, 1, 1))]).await;
}

/// A name has one pinned key; its row is replaced.
pub async fn neighbours_are_known_by_name(store: &impl Store) {
    let row = |name, address: &str| NeighbourRow { coop: coop(name), address: address.into(), agreement: Bytes::new() };
    store.commit(vec![Write::PutNeighbour(row("b.example", "b:1")), Write::PutNeighbour(row("a.example", "a:1"))]).await.expect("two");
    assert_eq!(store.neighbours().await.expect("neighbours"), [row("a.example", "a:1"), row("b.example", "b:1")]);
    let mut new = row("b.example", "b:2");
    new.agreement = Bytes::from_static(b"what is agreed");
    new.coop.key = PublicKey([6; 32]);
    store.commit(vec![Write::PutNeighbour(new.clone())]).await.expect("a replacement");
    assert_eq!(store.neighbours().await.expect("neighbours"), [row("a.example", "a:1"), new]);
}

/// The stored nodes are those of the tree: they make its frontier and every proof, at every size.
pub async fn nodes_prove_what_a_frontier_grew(store: &impl Store) {
    const SIZE: u64 = 41;
    let room = RoomNumber(1);
    let mut frontier = Frontier::default();
    let mut roots = vec![frontier.root()];
    store.commit(vec![put_room(1)]).await.expect("a room");
    // Batches of 1, 2, 3 … entries.
    for count in (1..).take_while(|count| count * (count - 1) / 2 < SIZE as usize) {
        let first = frontier.size();
        let batch: Vec<_> = (0..count.min((SIZE - first) as usize))
            .flat_map(|_| {
                let row = rows(&mut frontier, 1, text);
                roots.push(frontier.root());
                row
            })
            .collect();
        store.commit(vec![Write::Append(append(1, first, batch))]).await.expect("an append");
    }
    let fetch = async |ids: Vec<NodeId>| {
        let hashes = store.nodes(room, ids.clone()).await.expect("nodes");
        move |id: NodeId| ids.iter().position(|other| *other == id).and_then(|at| hashes[at])
    };
    for size in 1..=SIZE {
        let nodes = fetch(nodes_for_frontier(size)).await;
        let stored = nodes_for_frontier(size).into_iter().map(|id| nodes(id).expect("a node")).collect();
        let root = roots[size as usize];
        assert_eq!(Frontier::from_parts(size, stored).expect("a frontier").root(), root);

        let index = size / 3;
        let nodes = fetch(nodes_for_inclusion(index, size)).await;
        let proof = inclusion_proof(&nodes, index, size).expect("a proof");
        verify_inclusion(&leaf_hash(&header(index).encode()), index, size, &proof, &root).expect("the leaf is in the tree");

        let nodes = fetch(nodes_for_consistency(size, SIZE)).await;
        let proof = consistency_proof(&nodes, size, SIZE).expect("a proof");
        verify_consistency(size, SIZE, &root, &frontier.root(), &proof).expect("the tree only grew");
    }
    let ids = vec![leaf_node(SIZE), leaf_node(0), NodeId { level: 3, index: 5 }, NodeId { level: 60, index: 1 }, leaf_node(0)];
    let leaf = Some(leaf_hash(&header(0).encode()));
    assert_eq!(store.nodes(room, ids).await.expect("nodes"), [None, leaf, None, None, leaf], "in the order of the question");
    assert!(store.nodes(room, Vec::new()).await.expect("nodes").is_empty());
}
