//! Co-ops that do not reach each other: their members go on among themselves, and what they said has its place afterwards,
//! once, however far the room has moved meanwhile.

use kith_client::core::timeline::{Row, RowContent};
use kith_protocol::content::Content;
use kith_protocol::ids::{EntryId, Epoch};
use kith_protocol::limits::PAST_EPOCHS_MAX;
use kith_protocol::log::{Header, Kind};
use kith_sim::{Plan, World};

fn texts(rows: &[Row]) -> Vec<(&str, Option<u64>)> {
    let text = |row: &Row| match &row.content {
        RowContent::Content(Content::Text(_)) => Some(row.seq.map(|seq| seq.0)),
        _ => None,
    };
    let rows = rows.iter().filter_map(|row| text(row).map(|seq| (row, seq)));
    rows.filter_map(
        |(row, seq)| if let RowContent::Content(Content::Text(text)) = &row.content { Some((text.as_str(), seq)) } else { None },
    )
    .collect()
}

/// A member of the mirror speaks to those who are there; meanwhile so many commits pass at the hub that what it encrypted is
/// too old. It is encrypted anew, under the same id, and everybody reads it once.
#[test]
fn fault_43_what_was_said_apart_is_read_at_once_and_has_its_place_later() {
    for (commits, is_made_anew) in [(1, false), (PAST_EPOCHS_MAX, false), (PAST_EPOCHS_MAX + 1, true)] {
        let mut world = World::calm_circle(31, 4).unwrap();
        let room = world.circles[0].id;
        world.part(0, 1);
        world.go_on(16_000).unwrap();
        let epoch = Epoch(world.members[1].core.room_state(&room).unwrap().epoch);
        world.say(1, 0);
        world.go_on(2_000).unwrap();
        let said = world.members[1].said.last().unwrap().text.clone();
        let unplaced = world.members[3].core.unordered(&room);
        assert_eq!(texts(&unplaced), [(said.as_str(), None)], "its neighbour reads it at once");
        for _ in 0..commits {
            world.open_invite(0, 0).unwrap();
            world.go_on(6_000).unwrap();
        }
        world.join_again(0, 1);
        world.end().unwrap();
        for member in 0..4 {
            let rows = world.members[member].timeline(&room);
            let found: Vec<_> = texts(&rows).into_iter().filter(|(text, _)| *text == said).collect();
            assert!(matches!(found[..], [(_, Some(_))]), "member {member}: {found:?}");
            assert!(texts(&world.members[member].core.unordered(&room)).is_empty(), "member {member} has nothing without a place");
        }
        let log: Vec<Header> = world.coops[0].log(&room).iter().map(|row| Header::decode(&row.header).unwrap()).collect();
        let sender = world.members[1].core.room_state(&room).unwrap().pseudonym;
        let own = log.iter().filter(|header| header.kind == Kind::Message && header.id.sender.0 == sender);
        let last = own.clone().next_back().unwrap();
        let ids: Vec<EntryId> = own.clone().map(|header| header.id).collect();
        assert!(ids.windows(2).all(|pair| pair[0].counter.number < pair[1].counter.number), "no id twice");
        assert_eq!(last.epoch != epoch, is_made_anew, "{commits} commits: encrypted in {epoch}, ordered in {}", last.epoch);
    }
}

/// Both sides of a line that is cut for weeks go on, and come to one log.
#[test]
fn fault_43_weeks_apart_nothing_is_lost() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let mut world = World::begun(5, Plan { members: 6, rough_ms: 0, ..Plan::PAIR }).unwrap();
    world.part(0, 1);
    for _ in 0..21 {
        (0..6).for_each(|member| world.say(member, 0));
        world.go_on(DAY_MS).unwrap();
    }
    world.join_again(0, 1);
    assert_eq!(world.end().unwrap(), 6 * 21);
}
