//! The two links that people paste: membership of a co-op, and a place in a room. Secrets stand in the fragment, which
//! no browser sends to a server.
//!
//! ```text
//! http(s)://ADDRESS/join/COOP#SEED.ROOTKEY                          membership; ADDRESS is what to dial
//! kith://COOP/room/ROOMID?key=ROOTKEY#SEED.NAME                      a room, and one co-op that holds it
//! ```
//! Keys, seeds and names are unpadded base64url.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ids::{Coop, CoopName, PublicKey, RoomId};
use crate::limits::NAME_CHARS_MAX;
use crate::sign::SecretKey;

/// The text is no link of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("this is no membership link; it looks like https://ADDRESS/join/CO-OP#SECRET. Copy it whole, with what follows the #")]
    Membership,
    #[error("this is no room link; it looks like kith://CO-OP/room/ID?key=KEY#SECRET. Copy it whole, with what follows the #")]
    Room,
}

/// Lets one device become a member of a co-op.
#[derive(Debug, Clone)]
pub struct MembershipLink {
    pub secure: bool,
    /// HOST:PORT to dial.
    pub address: String,
    pub coop: Coop,
    pub invite: SecretKey,
}

/// Lets somebody join a room.
#[derive(Debug, Clone)]
pub struct RoomLink {
    pub room: RoomId,
    pub holder: Coop,
    pub invite: SecretKey,
    pub name: String,
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode_key(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl MembershipLink {
    pub fn render(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let (seed, key) = (encode(self.invite.seed()), encode(&self.coop.key.0));
        format!("{scheme}://{}/join/{}#{seed}.{key}", self.address, self.coop.name)
    }

    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let parse = || {
            let text = text.trim();
            let (secure, rest) = match text.strip_prefix("https://") {
                Some(rest) => (true, rest),
                None => (false, text.strip_prefix("http://")?),
            };
            let (place, fragment) = rest.split_once('#')?;
            let (address, name) = place.split_once("/join/")?;
            let (seed, key) = fragment.split_once('.')?;
            let address_ok = !address.is_empty()
                && address.len() <= 300
                && !address.contains(|c: char| c.is_whitespace() || c.is_control() || "/?@".contains(c));
            let coop = Coop { name: name.parse::<CoopName>().ok()?, key: PublicKey(decode_key(key)?) };
            let invite = SecretKey::from_seed(decode_key(seed)?);
            address_ok.then(|| Self { secure, address: address.to_owned(), coop, invite })
        };
        parse().ok_or(LinkError::Membership)
    }
}

impl RoomLink {
    pub fn render(&self) -> String {
        let (key, seed, name) = (encode(&self.holder.key.0), encode(self.invite.seed()), encode(self.name.as_bytes()));
        format!("kith://{}/room/{}?key={key}#{seed}.{name}", self.holder.name, self.room)
    }

    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let parse = || {
            let rest = text.trim().strip_prefix("kith://")?;
            let (place, fragment) = rest.split_once('#')?;
            let (name, rest) = place.split_once("/room/")?;
            let (room, key) = rest.split_once("?key=")?;
            let (seed, room_name) = fragment.split_once('.')?;
            let room_name = String::from_utf8(URL_SAFE_NO_PAD.decode(room_name).ok()?).ok()?;
            let holder = Coop { name: name.parse().ok()?, key: PublicKey(decode_key(key)?) };
            let fits = room_name.chars().count() <= NAME_CHARS_MAX && !room_name.contains(char::is_control);
            fits.then_some(Self { room: room.parse().ok()?, holder, invite: SecretKey::from_seed(decode_key(seed)?), name: room_name })
        };
        parse().ok_or(LinkError::Room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coop() -> Coop {
        Coop { name: "alder.test".parse().unwrap(), key: PublicKey([1; 32]) }
    }

    #[test]
    fn membership_links_survive_the_trip() {
        for secure in [false, true] {
            let link = MembershipLink { secure, address: "127.0.0.1:7401".into(), coop: coop(), invite: SecretKey::from_seed([2; 32]) };
            let read = MembershipLink::parse(&link.render()).unwrap();
            assert_eq!(read.render(), link.render());
            assert_eq!((read.secure, read.address, read.coop), (secure, link.address.clone(), coop()));
        }
    }

    #[test]
    fn room_links_survive_the_trip() {
        let link =
            RoomLink { room: RoomId([3; 32]), holder: coop(), invite: SecretKey::from_seed([2; 32]), name: "Tuesday circle ☕".into() };
        let read = RoomLink::parse(&link.render()).unwrap();
        assert_eq!(read.render(), link.render());
        assert_eq!(read.name, link.name);
        let before_fragment = link.render().split('#').next().unwrap().to_owned();
        assert!(!before_fragment.contains(&encode(&[2; 32])));
    }

    #[test]
    fn what_is_no_link_is_refused() {
        for bad in [
            "",
            "http://",
            "https://x/join/alder.test",
            "https://x/join/alder.test#a.b",
            "kith://alder.test/room/00?key=#x.y",
            "ftp://x/join/a#b.c",
        ] {
            assert!(MembershipLink::parse(bad).is_err() && RoomLink::parse(bad).is_err(), "{bad}");
        }
    }
}
