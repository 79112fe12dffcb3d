//! Random lists of writes, good and bad: SQLite answers and holds what the model does.

use bytes::Bytes;
use kith_protocol::ids::{AccountHandle, Coop, Counter, DeviceHandle, EntryId, Pseudonym, PublicKey, RoomId, RoomNumber, Seq};
use kith_protocol::log::merkle::Frontier;
use kith_storage::conformance::{everything, rows};
use kith_storage::memory::Memory;
use kith_storage::sqlite::Sqlite;
use kith_storage::{Append, DeviceRow, MembershipRow, NeighbourRow, RoomLog, StoreError, Truncate, Write, Writer};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

/// A write, of few names, so that the writes meet. An append says how many rows and how far from the log's end it
/// begins, which is seldom anything but 0.
#[derive(Debug, Clone)]
enum Step {
    Append { room: u32, rows: usize, off: u64, group: Option<Bytes>, body: Vec<u8> },
    Cut { room: u32, size: u64, state: Bytes },
    Drop(u32),
    Other(Write),
}

fn small_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn handle() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..3, Just(u64::MAX)]
}

fn entry_id() -> impl Strategy<Value = EntryId> {
    (0u8..2, 0u16..2, 0u64..3)
        .prop_map(|(sender, device, number)| EntryId { sender: Pseudonym([sender; 16]), counter: Counter { device, number } })
}

fn coop() -> impl Strategy<Value = Coop> {
    ("[ab]\\.test", 0u8..2).prop_map(|(name, key)| Coop { name: name.parse().unwrap(), key: PublicKey([key; 32]) })
}

fn step() -> impl Strategy<Value = Step> {
    let room = || 1u32..4;
    let number = || room().prop_map(RoomNumber);
    let other = prop_oneof![
        4 => (room(), 1u8..4, coop()).prop_map(|(number, id, hub)| Write::PutRoom { number: RoomNumber(number), id: RoomId([id; 32]), hub }),
        1 => (number(), small_bytes()).prop_map(|(room, attestation)| Write::PutMarked { room, attestation }),
        1 => (number(), small_bytes()).prop_map(|(room, vote)| Write::PutVote { room, vote }),
        1 => (number(), small_bytes()).prop_map(|(room, proof)| Write::PutProof { room, proof }),
        2 => (number(), entry_id(), small_bytes()).prop_map(|(room, id, submission)| Write::PutPending { room, id, submission }),
        1 => (number(), entry_id()).prop_map(|(room, id)| Write::DropPending { room, id }),
        1 => (0u8..3, any::<u32>()).prop_map(|(key, uses_left)| Write::PutInvite { key: PublicKey([key; 32]), uses_left }),
        1 => (handle(), handle(), any::<u16>(), 0u8..3).prop_map(|(handle, account, number, key)| {
            Write::PutDevice(DeviceRow { handle: DeviceHandle(handle), account: AccountHandle(account), number, key: PublicKey([key; 32]) })
        }),
        1 => (handle(), 1u8..3, 0u8..8).prop_map(|(account, room, pseudonym)| {
            Write::PutMembership(MembershipRow {
                account: AccountHandle(account), room: RoomId([room; 32]), pseudonym: Pseudonym([pseudonym; 16]),
            })
        }),
        1 => (handle(), number(), 0u64..9).prop_map(|(device, room, next)| Write::SetCursor { device: DeviceHandle(device), room, next: Seq(next) }),
        1 => (handle(), number(), 0u64..9).prop_map(|(device, room, next)| Write::ResetCursor { device: DeviceHandle(device), room, next: Seq(next) }),
        1 => (coop(), "[a-z]{1,5}:[0-9]{1,3}", small_bytes()).prop_map(|(coop, address, agreement)| {
            Write::PutNeighbour(NeighbourRow { coop, address, agreement })
        }),
    ];
    let off = prop_oneof![30 => Just(0u64), 1 => Just(1u64)];
    let append = (room(), 1usize..6, off, proptest::option::of(small_bytes()), vec(any::<u8>(), 0..100))
        .prop_map(|(room, rows, off, group, body)| Step::Append { room, rows, off, group, body });
    let cut = (room(), 0u64..8, small_bytes()).prop_map(|(room, size, state)| Step::Cut { room, size, state });
    prop_oneof![4 => append, 1 => cut, 1 => room().prop_map(Step::Drop), 10 => other.prop_map(Step::Other)]
}

/// The write of a step, with the log's end as the list so far leaves it.
fn write_of(step: Step, frontiers: &mut [Frontier; 4]) -> Write {
    match step {
        Step::Other(write) => write,
        Step::Cut { room, size, state } => {
            let mut frontier = Frontier::default();
            rows(&mut frontier, size as usize, |_| Bytes::new());
            frontiers[room as usize] = frontier;
            let [snapshot, group, checkpoint] = [0, 1, 2].map(|from| state.slice(from.min(state.len())..));
            Write::Truncate(Truncate { room: RoomNumber(room), size: Seq(size), snapshot, group, checkpoint })
        }
        Step::Drop(room) => {
            frontiers[room as usize] = Frontier::default();
            Write::DropRoom { number: RoomNumber(room) }
        }
        Step::Append { room, rows: count, off, group, body } => {
            let frontier = &mut frontiers[room as usize];
            let first = Seq(frontier.size() + off);
            let rows = rows(frontier, count, |seq| Bytes::from(body[..body.len().min(seq as usize * 7)].to_vec()));
            let snapshot = Bytes::from(body);
            Write::Append(Append { room: RoomNumber(room), first, rows, snapshot: snapshot.clone(), group, checkpoint: snapshot })
        }
    }
}

async fn check(lists: Vec<Vec<Step>>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&folder.path().join("kith.db")).await.unwrap();
    let model = Memory::new();
    let mut frontiers: [Frontier; 4] = Default::default();
    for list in lists {
        let mut ahead = frontiers.clone();
        let writes: Vec<_> = list.into_iter().map(|step| write_of(step, &mut ahead)).collect();
        let expected = model.commit(writes.clone()).await;
        let got = sqlite.commit(writes).await;
        match (expected, got) {
            (Ok(()), Ok(())) => frontiers = ahead,
            (Err(StoreError::Misused(expected)), Err(StoreError::Misused(got))) => prop_assert_eq!(got, expected),
            (expected, got) => prop_assert!(false, "{:?} instead of {:?}", got, expected),
        }
        prop_assert_eq!(everything(&sqlite).await, everything(&model).await);
        for (from, rows_max, bytes_max) in [(0, 3, 1_000), (1, 100, 60), (2, 5, 0)] {
            let page = sqlite.entries(RoomNumber(1), Seq(from), rows_max, bytes_max).await.unwrap();
            prop_assert_eq!(page, model.entries(RoomNumber(1), Seq(from), rows_max, bytes_max).await.unwrap());
        }
    }
    sqlite.close().await.unwrap();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn sqlite_is_the_model(lists in vec(vec(step(), 0..4), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(lists))?;
    }
}
