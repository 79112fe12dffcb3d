//! A running co-op whose disk is full for a while, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use kith_protocol::agreement::Line;
use kith_protocol::ids::Coop as CoopId;
use kith_protocol::sign::SecretKey;
use kith_relay::coop::agreements::Act;
use kith_relay::coop::driver::{Driver, boot, wall};
use kith_relay::coop::steward::{Reply, Request};
use kith_relay::coop::{Coop, Secrets};
use kith_storage::Members;
use kith_storage::fault::{Fault, Faulty};
use kith_storage::memory::Memory;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

fn invite(seed: u8) -> Request {
    Request::Invite { key: SecretKey::from_seed([seed; 32]).public(), uses: 1 }
}

#[tokio::test(start_paused = true)]
async fn fault_41_the_same_transaction_is_tried_until_there_is_room() {
    let store = Arc::new(Faulty::new(Memory::new()));
    [1, 2].into_iter().for_each(|nth| store.fail(nth, Fault::Full));
    let root = SecretKey::from_seed([1; 32]);
    let me = CoopId { name: "alder.test".parse().unwrap(), key: root.public() };
    let secrets = Secrets::new(root, SecretKey::from_seed([2; 32]).public());
    let boot = boot(&*store, &me.name).await.unwrap();
    let (driver, handle) = Driver::new(Coop::new(me, secrets, boot, wall()), store.clone());
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(driver.run(stopping));

    let begun = Instant::now();
    let first = tokio::spawn({
        let handle = handle.clone();
        async move { handle.steward(invite(1)).await }
    });
    sleep(Duration::from_millis(1_500)).await;
    assert!(matches!(handle.steward(invite(2)).await, Some(Reply::Refused(why)) if why.contains("full")));
    let birch = || "birch.test".parse().unwrap();
    let resume = handle.steward(Request::Agreement { name: birch(), act: Act::Resume });
    assert!(matches!(resume.await, Some(Reply::Refused(why)) if why.contains("full")));
    let suspend = handle.steward(Request::Agreement { name: birch(), act: Act::Suspend(Line::default()) });
    assert!(matches!(suspend.await, Some(Reply::Refused(why)) if why.contains("no neighbour")), "not for want of room");
    let listed = handle.steward(Request::Neighbours).await;
    assert!(matches!(listed, Some(Reply::Neighbours(all)) if all.is_empty()), "what needs no room goes on");
    assert!(!first.is_finished() && store.invites().await.unwrap().is_empty());
    assert!(matches!(first.await.unwrap(), Some(Reply::Done)));
    assert_eq!(begun.elapsed().as_secs(), 2, "tried again every second");
    assert!(matches!(handle.steward(invite(2)).await, Some(Reply::Done)));
    assert_eq!((store.invites().await.unwrap().len(), store.commits()), (2, 4));
    stop.send_replace(true);
    running.await.unwrap().unwrap();
}
