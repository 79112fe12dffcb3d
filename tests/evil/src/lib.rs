//! Stewards who lie, with the real programs: what a co-op's owner can do with its keys and its database.

use std::path::Path;
use std::time::Duration;

use kith_e2e::{Coop, World};
use sqlx::Connection;

/// How long the others may take to find out.
pub const FOUND_OUT: Duration = Duration::from_secs(30);

/// A hub with two faces: its twin has the same keys and the same past. One is seen by birch only, the other by cedar only.
pub fn two_faces(world: &mut World) -> Coop {
    world.coops[0].stop();
    let mut twin = world.coops[0].twin();
    // Nobody listens there.
    let nowhere = kith_e2e::free_port();
    world.coops[0].add(&world.coops[2], nowhere);
    twin.add(&world.coops[1], nowhere);
    world.coops[2].add(&twin, twin.link_port);
    world.coops[0].start();
    twin.start();
    twin
}

/// Swaps what was said in the two newest entries of the only room in a stopped co-op's database.
pub fn swap_newest_bodies(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("kith.db"));
        let mut database = sqlx::sqlite::SqliteConnection::connect_with(&options).await.expect("its database");
        let newest: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT pos, body FROM entries ORDER BY seq DESC LIMIT 2").fetch_all(&mut database).await.expect("entries");
        for ((pos, _), (_, body)) in newest.iter().zip(newest.iter().rev()) {
            let done = sqlx::query("UPDATE entries SET body = ?2 WHERE pos = ?1").bind(pos).bind(body).execute(&mut database).await;
            assert_eq!(done.expect("an update").rows_affected(), 1);
        }
        database.close().await.expect("it closes");
    });
}
