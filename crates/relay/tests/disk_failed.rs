//! A running co-op whose disk fails: nobody is told that anything is stored, and the process ends.

use std::sync::Arc;

use kith_protocol::ids::Coop as CoopId;
use kith_protocol::sign::SecretKey;
use kith_relay::coop::driver::{Driver, boot, wall};
use kith_relay::coop::steward::{Reply, Request};
use kith_relay::coop::{Coop, Secrets};
use kith_storage::fault::{Fault, Faulty};
use kith_storage::memory::Memory;
use kith_storage::{Members, StoreError};
use tokio::sync::watch;

/// Nobody knows what is on a disk whose fsync failed, also if everything is: only a fresh start reads it.
#[tokio::test(start_paused = true)]
async fn fault_38_a_failed_commit_is_acknowledged_to_nobody_and_ends_the_server() {
    for (fault, stored) in [(Fault::BeforeApply, 1), (Fault::AfterApply, 2)] {
        let store = Arc::new(Faulty::new(Memory::new()));
        store.fail(2, fault);
        let root = SecretKey::from_seed([1; 32]);
        let me = CoopId { name: "alder.test".parse().unwrap(), key: root.public() };
        let secrets = Secrets::new(root, SecretKey::from_seed([2; 32]).public());
        let start = boot(&*store, &me.name).await.unwrap();
        let (driver, handle) = Driver::new(Coop::new(me, secrets, start, wall()), store.clone());
        let (_stop, stopping) = watch::channel(false);
        let running = tokio::spawn(driver.run(stopping));
        let invite = |seed: u8| Request::Invite { key: SecretKey::from_seed([seed; 32]).public(), uses: 1 };
        assert!(matches!(handle.steward(invite(1)).await, Some(Reply::Done)));
        assert!(handle.steward(invite(2)).await.is_none(), "nobody answers for what may not be there");
        assert!(matches!(running.await.unwrap(), Err(StoreError::Failed(_))));
        assert_eq!(store.invites().await.unwrap().len(), stored);
        assert!(handle.steward(invite(3)).await.is_none(), "and nothing goes on");
    }
}
