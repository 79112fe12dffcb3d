//! A room's MLS group (RFC 9420), from the member's side.
//!
//! Handshakes are PublicMessages; application messages carry the franking tag as authenticated data. A commit is staged,
//! its facts are judged elsewhere, and then it is merged or dropped.

use kith_protocol::codec;
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::{Epoch, Hash, Pseudonym, PublicKey, RoomId};
use kith_protocol::judge::{CommitFacts, JoinFacts};
use kith_protocol::limits::{FORWARD_MAX, OUT_OF_ORDER_MAX, PAST_EPOCHS_MAX};
use kith_protocol::room::{EXTENSION_RECOVERY_KEY, EXTENSION_ROOM_CONTEXT, EXTENSIONS_ALL, RoomContext};
use kith_protocol::sign::SecretKey;
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::*;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::SignatureScheme;

use super::provider::{CIPHERSUITE, Delta, Provider};

/// What went wrong with a group. None of these breaks the group: nothing was merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    #[error("the room's keys cannot be read from this device: {0}")]
    Storage(String),
    #[error("the other side's group state does not verify: {0}")]
    Foreign(String),
    #[error("a leaf carries no certificate")]
    Certificate,
    #[error("not a message that can be opened: {0}")]
    Unreadable(String),
    #[error("the message cannot be made: {0}")]
    Make(String),
}

struct Leaf<'a>(&'a SecretKey);

impl Signer for Leaf<'_> {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        Ok(self.0.sign_mls(payload).0.to_vec())
    }
    fn signature_scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

/// A commit on its way out, with the GroupInfo of the epoch that it makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub commit: Vec<u8>,
    pub group_info: Vec<u8>,
}

/// An external commit, and the group as it will be once the commit has its place.
pub struct Joined {
    pub outgoing: Outgoing,
    pub members: Vec<Member>,
    pub context: RoomContext,
    /// Of the GroupInfo that it was made from.
    pub epoch: Epoch,
    /// To be adopted then.
    pub state: Delta,
}

/// Somebody's commit, verified and not merged.
pub struct Staged {
    pub facts: CommitFacts,
    commit: Box<StagedCommit>,
}

/// What a handshake turned out to be.
pub enum Handshake {
    /// Our own pending commit came back.
    Own,
    Other(Box<Staged>),
}

/// An opened application message.
pub struct Opened {
    pub sender: LeafCertificate,
    pub tag: Hash,
    pub plaintext: Vec<u8>,
}

/// A member as the tree shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub certificate: LeafCertificate,
    pub key: PublicKey,
}

pub struct Group {
    group: MlsGroup,
}

fn group_id(room: &RoomId) -> GroupId {
    GroupId::from_slice(&room.0)
}

fn capabilities() -> Capabilities {
    let ours: Vec<ExtensionType> = EXTENSIONS_ALL.into_iter().map(ExtensionType::Unknown).collect();
    Capabilities::new(Some(&[ProtocolVersion::Mls10]), Some(&[CIPHERSUITE]), Some(&ours), Some(&[]), Some(&[CredentialType::Basic]))
}

fn context_extensions(context: &RoomContext) -> Result<Extensions<GroupContext>, GroupError> {
    let required = RequiredCapabilitiesExtension::new(&[ExtensionType::Unknown(EXTENSION_ROOM_CONTEXT)], &[], &[CredentialType::Basic]);
    Extensions::from_vec(vec![
        Extension::RequiredCapabilities(required),
        Extension::Unknown(EXTENSION_ROOM_CONTEXT, UnknownExtension(codec::encode_context(context))),
    ])
    .map_err(|error| GroupError::Make(error.to_string()))
}

/// The recovery key's place is there from the first day; it stays empty until its member makes one.
fn leaf_extensions() -> Result<Extensions<LeafNode>, GroupError> {
    let list = vec![Extension::Unknown(EXTENSION_RECOVERY_KEY, UnknownExtension(Vec::new()))];
    Extensions::from_vec(list).map_err(|error| GroupError::Make(error.to_string()))
}

fn credential(certificate: &LeafCertificate, key: &PublicKey) -> CredentialWithKey {
    CredentialWithKey {
        credential: BasicCredential::new(codec::encode_certificate(certificate)).into(),
        signature_key: key.0.to_vec().into(),
    }
}

fn ratchets() -> SenderRatchetConfiguration {
    SenderRatchetConfiguration::new(OUT_OF_ORDER_MAX, FORWARD_MAX)
}

fn past_epochs() -> usize {
    usize::try_from(PAST_EPOCHS_MAX).expect("a small number")
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
        .max_past_epochs(past_epochs())
        .sender_ratchet_configuration(ratchets())
        .number_of_resumption_psks(0)
        .use_ratchet_tree_extension(false)
        .padding_size(0)
        .build()
}

fn make(error: impl std::fmt::Display) -> GroupError {
    GroupError::Make(error.to_string())
}

fn foreign(error: impl std::fmt::Display) -> GroupError {
    GroupError::Foreign(error.to_string())
}

fn parse_group_info(bytes: &[u8]) -> Result<VerifiableGroupInfo, GroupError> {
    match MlsMessageIn::tls_deserialize_exact_bytes(bytes).map_err(foreign)?.extract() {
        MlsMessageBodyIn::GroupInfo(info) => Ok(info),
        _ => Err(foreign("not a GroupInfo")),
    }
}

fn parse_message(bytes: &[u8]) -> Result<ProtocolMessage, GroupError> {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes).map_err(|error| GroupError::Unreadable(error.to_string()))?;
    message.try_into_protocol_message().map_err(|error| GroupError::Unreadable(error.to_string()))
}

fn read_leaf(leaf: &LeafNode) -> Result<Member, GroupError> {
    let certificate = codec::decode_certificate(leaf.credential().serialized_content()).map_err(|_| GroupError::Certificate)?;
    let key = PublicKey::from_slice(leaf.signature_key().as_slice()).map_err(|_| GroupError::Certificate)?;
    Ok(Member { certificate, key })
}

fn lists_all_extensions(leaf: &LeafNode) -> bool {
    EXTENSIONS_ALL.iter().all(|number| leaf.capabilities().extensions().contains(&ExtensionType::Unknown(*number)))
}

fn outgoing(bundle: CommitMessageBundle) -> Result<Outgoing, GroupError> {
    let (commit, _welcome, info) = bundle.into_messages();
    let info = info.ok_or_else(|| make("no GroupInfo was made"))?;
    Ok(Outgoing { commit: commit.to_bytes().map_err(make)?, group_info: info.to_bytes().map_err(make)? })
}

fn parse_context(extensions: &Extensions<GroupContext>) -> Option<RoomContext> {
    let bytes = extensions.unknown(EXTENSION_ROOM_CONTEXT)?;
    extensions.required_capabilities()?;
    codec::decode_context(&bytes.0).ok()
}

impl Group {
    /// A new room's group with its creator alone, and the first GroupInfo and tree.
    pub fn create(
        provider: &Provider,
        room: &RoomId,
        leaf: &SecretKey,
        certificate: &LeafCertificate,
        context: &RoomContext,
    ) -> Result<(Self, Vec<u8>, Vec<u8>), GroupError> {
        let group = MlsGroup::builder()
            .with_group_id(group_id(room))
            .ciphersuite(CIPHERSUITE)
            .with_wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY)
            .max_past_epochs(past_epochs())
            .sender_ratchet_configuration(ratchets())
            .number_of_resumption_psks(0)
            .use_ratchet_tree_extension(false)
            .with_capabilities(capabilities())
            // The leaf has no clock of its own: its certificate says until when it stands.
            .lifetime(Lifetime::init(0, u64::MAX))
            .with_group_context_extensions(context_extensions(context)?)
            .with_leaf_node_extensions(leaf_extensions()?)
            .map_err(make)?
            .build(provider, &Leaf(leaf), credential(certificate, &leaf.public()))
            .map_err(make)?;
        let info = group.export_group_info(provider.crypto(), &Leaf(leaf), false).map_err(make)?.to_bytes().map_err(make)?;
        let tree = group.export_ratchet_tree().tls_serialize_detached().map_err(make)?;
        Ok((Self { group }, info, tree))
    }

    pub fn load(provider: &Provider, room: &RoomId) -> Result<Self, GroupError> {
        let group = MlsGroup::load(provider.storage(), &group_id(room)).map_err(|error| GroupError::Storage(error.to_string()))?;
        group.map(|group| Self { group }).ok_or_else(|| GroupError::Storage("the group is missing".to_owned()))
    }

    /// Forgets everything about a room's group.
    pub fn forget(provider: &Provider, room: &RoomId) -> Result<(), GroupError> {
        provider.storage().remove_group(&group_id(room)).map_err(|error| GroupError::Storage(error.to_string()))
    }

    /// All that is kept of a group, to be adopted again.
    pub fn export(provider: &Provider, room: &RoomId) -> Result<Delta, GroupError> {
        provider.storage().group_values(&group_id(room)).map_err(|error| GroupError::Storage(error.to_string()))
    }

    /// An external commit. OpenMLS merges it at once, so it is made in a provider of its own; its state is adopted
    /// ([`Group::adopt`]) only when the commit has its place in the log.
    pub fn join(
        scratch: &Provider,
        leaf: &SecretKey,
        certificate: &LeafCertificate,
        group_info: &[u8],
        tree: &[u8],
        admission: Vec<u8>,
    ) -> Result<Joined, GroupError> {
        let tree = RatchetTreeIn::tls_deserialize_exact_bytes(tree).map_err(foreign)?;
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_ratchet_tree(tree)
            .with_config(join_config())
            .with_aad(admission)
            .build_group(scratch, parse_group_info(group_info)?, credential(certificate, &leaf.public()))
            .map_err(foreign)?
            .leaf_node_parameters(
                LeafNodeParameters::builder().with_capabilities(capabilities()).with_extensions(leaf_extensions()?).build(),
            )
            .load_psks(scratch.storage())
            .map_err(make)?
            .create_group_info(true)
            .build(scratch.rand(), scratch.crypto(), &Leaf(leaf), |_| true)
            .map_err(make)?
            .finalize(scratch)
            .map_err(make)?;
        let group = Self { group };
        let context = group.context().ok_or_else(|| foreign("the room's context is missing or broken"))?;
        let epoch = Epoch(group.epoch().0.saturating_sub(1));
        Ok(Joined { outgoing: outgoing(bundle)?, members: group.members(), context, epoch, state: scratch.storage().take_delta() })
    }

    /// Takes over the state of a join that was accepted.
    pub fn adopt(provider: &Provider, room: &RoomId, state: Delta) -> Result<Self, GroupError> {
        Self::forget(provider, room)?;
        provider.storage().apply(state).map_err(|error| GroupError::Storage(error.to_string()))?;
        Self::load(provider, room)
    }

    pub fn epoch(&self) -> Epoch {
        Epoch(self.group.epoch().as_u64())
    }

    pub fn is_active(&self) -> bool {
        self.group.is_active()
    }

    pub fn context(&self) -> Option<RoomContext> {
        parse_context(self.group.extensions())
    }

    pub fn members(&self) -> Vec<Member> {
        let tree = self.group.public_group();
        self.group.members().filter_map(|member| tree.leaf(member.index).and_then(|leaf| read_leaf(leaf).ok())).collect()
    }

    pub fn leaf_key(&self, who: &Pseudonym, device: u16) -> Option<PublicKey> {
        let found = self.members().into_iter().find(|m| m.certificate.pseudonym == *who && m.certificate.device == device);
        found.map(|member| member.key)
    }

    /// Commits a new context, or removes whoever left, or both. The commit is pending until it is merged or cleared.
    pub fn commit(
        &mut self,
        provider: &Provider,
        leaf: &SecretKey,
        context: Option<&RoomContext>,
        removed: &[Pseudonym],
    ) -> Result<Outgoing, GroupError> {
        let tree = self.group.public_group();
        let is_removed = |index: &LeafNodeIndex| {
            tree.leaf(*index).and_then(|leaf| read_leaf(leaf).ok()).is_some_and(|m| removed.contains(&m.certificate.pseudonym))
        };
        let indexes: Vec<LeafNodeIndex> = self.group.members().map(|member| member.index).filter(is_removed).collect();
        let mut builder = self.group.commit_builder().force_self_update(true).propose_removals(indexes);
        if let Some(context) = context {
            builder = builder.propose_group_context_extensions(context_extensions(context)?).map_err(make)?;
        }
        let bundle = builder
            .load_psks(provider.storage())
            .map_err(make)?
            .create_group_info(true)
            .build(provider.rand(), provider.crypto(), &Leaf(leaf), |_| true)
            .map_err(make)?
            .stage_commit(provider)
            .map_err(make)?;
        outgoing(bundle)
    }

    pub fn merge_own(&mut self, provider: &Provider) -> Result<(), GroupError> {
        self.group.merge_pending_commit(provider).map_err(make)
    }

    pub fn clear_own(&mut self, provider: &Provider) -> Result<(), GroupError> {
        self.group.clear_pending_commit(provider.storage()).map_err(make)
    }

    /// Verifies a commit and reads what it does.
    pub fn stage(&mut self, provider: &Provider, commit: &[u8]) -> Result<Handshake, GroupError> {
        let processed =
            self.group.process_message(provider, parse_message(commit)?).map_err(|error| GroupError::Unreadable(error.to_string()))?;
        let (sender, admission) = (processed.sender().clone(), processed.aad().to_vec());
        match processed.into_content() {
            ProcessedMessageContent::OwnPendingCommit => Ok(Handshake::Own),
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                let facts = self.facts(&sender, &admission, &commit)?;
                Ok(Handshake::Other(Box::new(Staged { facts, commit })))
            }
            _ => Err(GroupError::Unreadable("only commits change a group".to_owned())),
        }
    }

    /// A joiner's admission is the authenticated data of its commit, signed by the very leaf.
    fn facts(&self, sender: &Sender, admission: &[u8], staged: &StagedCommit) -> Result<CommitFacts, GroupError> {
        let tree = self.group.public_group();
        let mut facts = CommitFacts::default();
        match sender {
            Sender::Member(index) => {
                let old = tree.leaf(*index).ok_or(GroupError::Certificate)?;
                facts.author = Some(read_leaf(old)?.certificate.pseudonym);
                facts.identity_changed = staged.update_path_leaf_node().is_some_and(|new| {
                    let same = new.credential() == old.credential()
                        && new.signature_key() == old.signature_key()
                        && new.extensions() == old.extensions();
                    !same || !lists_all_extensions(new)
                });
            }
            Sender::NewMemberCommit => {
                let leaf = staged.update_path_leaf_node().ok_or(GroupError::Certificate)?;
                let Member { certificate, key } = read_leaf(leaf)?;
                facts.join = Some(JoinFacts {
                    certificate,
                    leaf_key: key,
                    admission: codec::decode_admission(admission).ok(),
                    lists_all_extensions: lists_all_extensions(leaf),
                });
            }
            _ => return Err(GroupError::Unreadable("its author is neither a member nor a joiner".to_owned())),
        }
        for queued in staged.queued_proposals() {
            facts.foreign_proposals |= queued.proposal_or_ref_type() != ProposalOrRefType::Proposal;
            match queued.proposal() {
                Proposal::Remove(remove) => {
                    let leaf = tree.leaf(remove.removed()).ok_or(GroupError::Certificate)?;
                    facts.removes.push(read_leaf(leaf)?.certificate.pseudonym);
                }
                Proposal::GroupContextExtensions(change) => {
                    let context = parse_context(change.extensions());
                    facts.broken_context |= context.is_none();
                    facts.new_context = context;
                }
                Proposal::ExternalInit(_) => facts.foreign_proposals |= facts.join.is_none(),
                Proposal::Add(_) => facts.adds += 1,
                _ => facts.foreign_proposals = true,
            }
        }
        Ok(facts)
    }

    pub fn merge(&mut self, provider: &Provider, staged: Staged) -> Result<(), GroupError> {
        self.group.merge_staged_commit(provider, *staged.commit).map_err(make)
    }

    /// Encrypts; the tag travels as authenticated data. The new ratchet state must be persisted before the bytes leave.
    pub fn encrypt(&mut self, provider: &Provider, leaf: &SecretKey, tag: &Hash, plaintext: &[u8]) -> Result<Vec<u8>, GroupError> {
        self.group.set_aad(tag.0.to_vec());
        let message = self.group.create_message(provider, &Leaf(leaf), plaintext).map_err(make)?;
        message.to_bytes().map_err(make)
    }

    /// Opens an application message. Opening one twice is an error: its key is gone.
    pub fn open(&mut self, provider: &Provider, message: &[u8]) -> Result<Opened, GroupError> {
        let unreadable = |why: &str| GroupError::Unreadable(why.to_owned());
        let processed =
            self.group.process_message(provider, parse_message(message)?).map_err(|error| GroupError::Unreadable(error.to_string()))?;
        if !matches!(processed.sender(), Sender::Member(_)) {
            return Err(unreadable("its sender is no member"));
        }
        let tag = Hash::from_slice(processed.aad()).map_err(|_| unreadable("it has no franking tag"))?;
        let sender = codec::decode_certificate(processed.credential().serialized_content()).map_err(|_| GroupError::Certificate)?;
        let ProcessedMessageContent::ApplicationMessage(text) = processed.into_content() else {
            return Err(unreadable("not an application message"));
        };
        Ok(Opened { sender, tag, plaintext: text.into_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use kith_protocol::ids::{Coop, UnixSeconds};
    use kith_protocol::log::voters::Voters;
    use kith_protocol::room::Role;

    use super::*;

    const ROOM: RoomId = RoomId([9; 32]);

    /// What cannot be added to a leaf later stands in it from the first day, whoever made the leaf: the recovery key's place,
    /// and all types that are planned. The numbers are those of docs/protocol.md, not of the code.
    #[test]
    fn leaves_have_what_cannot_be_added_later() {
        let root = SecretKey::from_seed([99; 32]);
        let coop = Coop { name: "alder.test".parse().unwrap(), key: root.public() };
        let leaf = |seed: u8| SecretKey::from_seed([seed; 32]);
        let who = |seed: u8| Pseudonym([seed; 16]);
        let certified =
            |seed: u8| LeafCertificate::issue(&root, coop.clone(), &ROOM, &leaf(seed).public(), who(seed), 0, UnixSeconds(1_790_000_000));
        let context = RoomContext {
            roles: vec![(who(1), Role::Facilitator)],
            invites: Vec::new(),
            voters: Voters { names: vec![coop.name.clone()], tie_breaker: None },
            voter_keys: vec![coop.key],
        };
        let (ours, theirs) = (Provider::new([1; 32]), Provider::new([2; 32]));
        let (mut group, info, tree) = Group::create(&ours, &ROOM, &leaf(1), &certified(1), &context).unwrap();
        let joined = Group::join(&Provider::new([3; 32]), &leaf(2), &certified(2), &info, &tree, Vec::new()).unwrap();
        let Handshake::Other(staged) = group.stage(&ours, &joined.outgoing.commit).unwrap() else { panic!("it is somebody else's") };
        group.merge(&ours, *staged).unwrap();
        let mut reader = Group::adopt(&theirs, &ROOM, joined.state).unwrap();
        // A leaf that was renewed, too.
        let renewed = reader.commit(&theirs, &leaf(2), None, &[]).unwrap();
        let Handshake::Other(staged) = group.stage(&ours, &renewed.commit).unwrap() else { panic!("it is somebody else's") };
        group.merge(&ours, *staged).unwrap();
        let leaves: Vec<_> = group.group.members().map(|member| group.group.public_group().leaf(member.index).unwrap().clone()).collect();
        assert_eq!(leaves.len(), 2);
        for leaf in leaves {
            let recovery_key = leaf.extensions().unknown(0xF0A3).expect("the recovery key's place");
            assert!(recovery_key.0.is_empty());
            let planned: Vec<ExtensionType> = (0xF0A1..=0xF0A8).map(ExtensionType::Unknown).collect();
            assert_eq!(leaf.capabilities().extensions(), planned);
        }
    }
}
