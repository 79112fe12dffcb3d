//! Stewards who lie, with the real programs: what a co-op's owner can do with its keys and its database.

use std::path::Path;
use std::time::Duration;

use kith_e2e::{Coop, World};
use kith_protocol::log::Header;
use kith_protocol::log::header::hash_bytes;
use kith_protocol::log::merkle::{Frontier, leaf_hash};
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

/// Place, header, nodes of the tree, body.
type Row = (i64, Vec<u8>, Vec<u8>, Vec<u8>);

/// Swaps what was said in the two newest entries of the only room in a stopped co-op's database.
pub fn swap_newest_bodies(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("kith.db"));
        let mut database = sqlx::sqlite::SqliteConnection::connect_with(&options).await.expect("its database");
        let mut rows: Vec<Row> =
            sqlx::query_as("SELECT pos, header, nodes, body FROM entries ORDER BY seq").fetch_all(&mut database).await.expect("entries");
        let [.., (_, _, _, one), (_, _, _, other)] = &mut rows[..] else { panic!("two entries") };
        std::mem::swap(one, other);
        // Its own server must not notice: headers name the bodies, and the tree beside them the headers.
        let mut frontier = Frontier::default();
        for (pos, header, nodes, body) in rows {
            let mut header = Header::decode(&header).expect("a header");
            header.body_hash = hash_bytes(&body);
            let header = header.encode().to_vec();
            let tree: Vec<u8> = frontier.push(leaf_hash(&header)).iter().flat_map(|node| node.0).collect();
            assert_eq!(tree.len(), nodes.len());
            let update = sqlx::query("UPDATE entries SET header = ?2, nodes = ?3, body = ?4 WHERE pos = ?1");
            let done = update.bind(pos).bind(header).bind(tree).bind(body).execute(&mut database).await;
            assert_eq!(done.expect("an update").rows_affected(), 1);
        }
        database.close().await.expect("it closes");
    });
}
