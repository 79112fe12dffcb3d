//! What is encoded decodes to itself, and what decodes, whatever its bytes, is a value that does.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::arbitrary::Arbitrary;
use crate::forms::{Form, JsonForm};

/// What somebody does to an encoding on its way.
#[derive(Debug, Clone)]
enum Damage {
    Set(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    /// A copy of what begins at the first place, put at the second: repeated and misplaced fields.
    Repeat(usize, usize),
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let at = || 0..400usize;
    let one = prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), at()).prop_map(|(from, to)| Damage::Repeat(from, to)),
    ];
    prop::collection::vec(one, 0..4)
}

fn damaged(mut bytes: Vec<u8>, damage: &[Damage]) -> Vec<u8> {
    for step in damage {
        let places = bytes.len() + 1;
        match step {
            Damage::Set(at, byte) => {
                let at = at % places;
                bytes.splice(at..(at + 1).min(places - 1), [*byte]);
            }
            Damage::Cut(at) => bytes.truncate(at % places),
            Damage::Insert(at, new) => {
                let at = at % places;
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Repeat(from, to) => {
                let tail = bytes[from % places..].to_vec();
                let at = to % places;
                bytes.splice(at..at, tail);
            }
        }
    }
    bytes
}

fn is_stable<T: Form>(bytes: &[u8]) {
    if let Ok(value) = T::decode(bytes) {
        assert_eq!(T::decode(&value.encode()), Ok(value));
    }
}

fn is_stable_json<T: JsonForm>(json: &[u8]) {
    if let Ok(value) = T::from_json(json) {
        assert_eq!(T::from_json(value.to_json().as_bytes()).as_ref(), Ok(&value));
        assert_eq!(T::decode(&value.encode()), Ok(value));
    }
}

/// Every variant has a strategy, and it draws that variant.
fn draws_every_variant<T: Arbitrary>() {
    let mut runner = TestRunner::deterministic();
    for name in T::NAMES {
        assert_eq!(T::of(name).new_tree(&mut runner).unwrap().current().name(), *name);
    }
}

macro_rules! binary {
    ($($test:ident: $form:ty),+ $(,)?) => {
        $(mod $test {
            use super::*;

            #[test]
            fn every_variant_is_drawn() {
                draws_every_variant::<$form>();
            }

            proptest! {
                #[test]
                fn there_and_back(value in <$form>::any()) {
                    prop_assert_eq!(<$form>::decode(&value.encode()), Ok(value));
                }

                #[test]
                fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
                    is_stable::<$form>(&bytes);
                }

                #[test]
                fn damaged_bytes(value in <$form>::any(), damage in damage()) {
                    is_stable::<$form>(&damaged(value.encode(), &damage));
                }
            }
        })+
    };
}

macro_rules! json {
    ($($test:ident: $form:ty),+ $(,)?) => {
        $(mod $test {
            use super::*;

            proptest! {
                #[test]
                fn there_and_back(value in <$form>::any()) {
                    prop_assert_eq!(<$form>::from_json(value.to_json().as_bytes()), Ok(value));
                }

                #[test]
                fn damaged_json(value in <$form>::any(), damage in damage()) {
                    is_stable_json::<$form>(&damaged(value.to_json().into_bytes(), &damage));
                }
            }
        })+
    };
}

binary! {
    to_server: kith_protocol::member::ToServer,
    to_member: kith_protocol::member::ToMember,
    link: kith_protocol::link::LinkFrame,
    content: kith_protocol::content::Content,
    franked: kith_protocol::codec::OpenedContent,
    room_context: kith_protocol::room::RoomContext,
    creation: kith_protocol::room::Creation,
    creation_body: kith_protocol::room::CreationBody,
    admission: kith_protocol::admission::Admission,
    leaf_certificate: kith_protocol::credential::LeafCertificate,
    room_snapshot: kith_protocol::snapshot::RoomSnapshot,
    group_snapshot: kith_protocol::snapshot::GroupSnapshot,
    docket: kith_protocol::contest::Docket,
    stored_attestation: kith_protocol::log::checkpoint::Attestation,
    agreement_record: kith_protocol::agreement::Record,
    stored_vote: kith_protocol::log::succession::Vote,
    succession: kith_protocol::log::succession::Succession,
    proof: kith_protocol::log::proof::Proof,
}

json! {
    to_server_json: kith_protocol::member::ToServer,
    to_member_json: kith_protocol::member::ToMember,
}

proptest! {
    /// What a co-op renders, another parses to the same values, and there is one rendering.
    #[test]
    fn agreements(terms in crate::arbitrary_agreements::terms()) {
        use kith_protocol::agreement::Agreement;
        use kith_protocol::ids::{Coop, PublicKey};
        let party = |name: &str, fill| Coop { name: name.parse().unwrap(), key: PublicKey([fill; 32]) };
        let agreement = Agreement::between(party("birch.test", 2), party("alder.test", 1), terms);
        prop_assert_eq!(Agreement::parse(&agreement.document()), Ok(agreement));
    }
}
