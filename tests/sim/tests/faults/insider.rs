//! A member whose MLS is good and whose franking is not: what it says could be read, and could not be proved to a moderator.
//! A device shows nothing of it (design section 7).

use bytes::Bytes;
use kith_client::core::state::RoomState;
use kith_client::core::timeline::RowContent;
use kith_client::mls::group::Group;
use kith_client::mls::provider::Provider;
use kith_client::pack::{pack, pad};
use kith_protocol::codec::{OpenedContent, encode_content, encode_franked};
use kith_protocol::content::Content;
use kith_protocol::frank::{self, Franking};
use kith_protocol::ids::{Counter, Epoch, Hash, Pseudonym, RoomId, RoomNumber};
use kith_protocol::log::Kind;
use kith_protocol::member::{Send, ToMember};
use kith_protocol::mls_framing;
use kith_protocol::sign::SecretKey;
use kith_sim::World;
use kith_sim::stand::Stand;

use crate::forge::{Forge, shown, text};

/// Member 1, by its own keys and nobody's rules.
struct Insider {
    provider: Provider,
    group: Group,
    state: RoomState,
    room: RoomId,
}

/// What it franks, beside what it says.
struct Lie {
    tag_salt: [u8; 16],
    sent_salt: [u8; 16],
    signer: SecretKey,
    room: RoomId,
    epoch: Epoch,
    message: Counter,
    sender: Pseudonym,
    signed_tag: Option<Hash>,
    is_padded: bool,
    content: Vec<u8>,
}

impl Insider {
    fn of(world: &World) -> Self {
        let room = world.circles[0].id;
        let disk = &world.members[1].disk;
        let mls = disk.iter().filter(|(key, _)| key[0] == b'm').map(|(key, value)| (key[1..].to_vec(), value.clone()));
        let provider = Provider::from_parts([9; 32], mls);
        let group = Group::load(&provider, &room).expect("it is in the room");
        let state = postcard::from_bytes(&disk[&[&b"r"[..], &room.0].concat()]).expect("its own state");
        Self { provider, group, state, room }
    }

    fn leaf(&self) -> SecretKey {
        SecretKey::from_seed(self.state.leaf_seed)
    }

    fn say(&mut self, number: u64, lie: impl FnOnce(&mut Lie)) -> Send {
        let epoch = self.group.epoch();
        let mut it = Lie {
            tag_salt: [3; 16],
            sent_salt: [3; 16],
            signer: self.leaf(),
            room: self.room,
            epoch,
            message: Counter { device: 0, number },
            sender: Pseudonym(self.state.pseudonym),
            signed_tag: None,
            is_padded: true,
            content: encode_content(&Content::Text("as it was".to_owned())),
        };
        lie(&mut it);
        let tag = frank::tag(&it.tag_salt, &it.content);
        let signed = it.signed_tag.unwrap_or(tag);
        let place = Franking { room: &it.room, epoch: it.epoch, message: it.message, sender: &it.sender, tag: &signed };
        let (packing, packed) = pack(&it.content);
        let packed = Bytes::from(if it.is_padded { pad(packed) } else { vec![0; 32] });
        let signature = place.sign(&it.signer);
        let plaintext = encode_franked(&OpenedContent { salt: it.sent_salt, signature, message_id: number, packed, packing });
        let leaf = self.leaf();
        let full = self.group.encrypt(&self.provider, &leaf, &tag, &plaintext).expect("good MLS");
        let body = mls_framing::shorten(&full, &self.room, epoch).expect("a private message").into();
        let room = RoomNumber(self.state.number.expect("it has one"));
        Send { room, counter: number, epoch, kind: Kind::Message, body, group_info: Bytes::new() }
    }
}

type Change = fn(&mut Lie);

#[test]
fn fault_37_what_could_not_be_proved_is_not_shown() {
    const TAG: &str = "the franking tag is not of this content";
    const SIGNATURE: &str = "the sender's franking signature does not verify";
    let lies: [(&str, Change, &str); 9] = [
        ("a tag of another salt", |lie| lie.tag_salt = [4; 16], TAG),
        ("another salt", |lie| lie.sent_salt = [4; 16], TAG),
        ("another's key", |lie| lie.signer = SecretKey::from_seed([8; 32]), SIGNATURE),
        ("of another room", |lie| lie.room = RoomId([8; 32]), SIGNATURE),
        ("of another epoch", |lie| lie.epoch = Epoch(lie.epoch.0 - 1), SIGNATURE),
        ("of another message", |lie| lie.message.number += 1, SIGNATURE),
        ("of another member", |lie| lie.sender = Pseudonym([8; 16]), SIGNATURE),
        ("over another tag", |lie| lie.signed_tag = Some(Hash([8; 32])), SIGNATURE),
        ("padding without an end", |lie| lie.is_padded = false, "its padding is damaged"),
    ];
    let mut world = World::calm_circle(23, 3).unwrap();
    let mut insider = Insider::of(&world);
    let hub = Stand::new(world.coops.remove(0));
    let mut forge = Forge::new(&hub, hub.coop.id.clone(), hub.coop.root());
    let number = hub.room().number;
    let who = Pseudonym(insider.state.pseudonym);
    let mut counter = 1_000;
    let mut hear = |insider: &mut Insider, lie: Change| {
        counter += 1;
        let send = insider.say(counter, lie);
        let seq = forge.put(who, &send).seq;
        let frame = ToMember::Entries(forge.entries(number));
        world.members[0].core.handle_frame(hub.wall(), frame);
        shown(&mut world, 0, seq)
    };
    for (what, lie, why) in lies {
        assert_eq!(hear(&mut insider, lie), Some(RowContent::Unreadable(why.to_owned())), "{what}");
        // The ratchet has gone on all the same, and so does the room.
        assert_eq!(hear(&mut insider, |_| ()), text("as it was"), "after {what}");
    }
    // What no client can make anything of.
    let shown = hear(&mut insider, |lie| lie.content = vec![0xff; 9]);
    assert!(matches!(shown, Some(RowContent::Unreadable(_))), "{shown:?}");
    assert_eq!(hear(&mut insider, |_| ()), text("as it was"));
}
