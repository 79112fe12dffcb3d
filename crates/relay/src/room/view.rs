//! The public view of a room's MLS group (RFC 9420 section 12.4.3.2): what a server can follow without any key.
//!
//! It refuses invalid and stale commits before they can wedge a room, and gathers the facts of the valid ones for
//! [`kith_protocol::judge`]. It cannot see whether members can follow a commit: confirmation tags and path secrets are
//! theirs to check.

use kith_protocol::codec;
use kith_protocol::credential::LeafCertificate;
use kith_protocol::ids::{Pseudonym, PublicKey};
use kith_protocol::judge::{CommitFacts, JoinFacts};
use kith_protocol::room::{EXTENSION_ROOM_CONTEXT, EXTENSIONS_ALL, RoomContext};
use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::tls_codec::{DeserializeBytes as _, Serialize as _};
use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;

/// The only ciphersuite of rooms.
pub const CIPHERSUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;

/// The group's author is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    #[error("the GroupInfo and the tree are no pair, or do not verify")]
    Open,
    #[error("not a commit of this group: {0}")]
    Commit(String),
    #[error("a leaf carries no certificate")]
    Certificate,
    #[error("the room's context is missing or broken")]
    Context,
    #[error("the GroupInfo is not the one that the commit makes")]
    GroupInfo,
    #[error("the room has as many members as its ratchet tree may hold")]
    Tree,
}

pub struct GroupView {
    provider: OpenMlsRustCrypto,
    group: PublicGroup,
}

impl std::fmt::Debug for GroupView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupView(epoch {})", self.group.group_context().epoch().as_u64())
    }
}

/// A verified commit, not merged yet. Dropping it refuses it.
pub struct Staged {
    pub facts: CommitFacts,
    committer: LeafNodeIndex,
    commit: StagedCommit,
}

/// A member as the tree shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    pub certificate: LeafCertificate,
    pub key: PublicKey,
}

fn parse_group_info(bytes: &[u8]) -> Option<VerifiableGroupInfo> {
    match MlsMessageIn::tls_deserialize_exact_bytes(bytes).ok()?.extract() {
        MlsMessageBodyIn::GroupInfo(info) => Some(info),
        _ => None,
    }
}

fn read_leaf(leaf: &LeafNode) -> Result<Leaf, ViewError> {
    let certificate = codec::decode_certificate(leaf.credential().serialized_content()).map_err(|_| ViewError::Certificate)?;
    let key = PublicKey::from_slice(leaf.signature_key().as_slice()).map_err(|_| ViewError::Certificate)?;
    Ok(Leaf { certificate, key })
}

fn lists_all_extensions(leaf: &LeafNode) -> bool {
    EXTENSIONS_ALL.iter().all(|number| leaf.capabilities().extensions().contains(&ExtensionType::Unknown(*number)))
}

fn has_required_capabilities(extensions: &Extensions<GroupContext>) -> bool {
    extensions
        .required_capabilities()
        .is_some_and(|required| required.extension_types().contains(&ExtensionType::Unknown(EXTENSION_ROOM_CONTEXT)))
}

impl GroupView {
    /// From a pair of GroupInfo and tree: a room's beginning, a late mirror's and a restart's alike.
    pub fn open(group_info: &[u8], tree: &[u8]) -> Result<Self, ViewError> {
        let provider = OpenMlsRustCrypto::default();
        let tree = RatchetTreeIn::tls_deserialize_exact_bytes(tree).map_err(|_| ViewError::Open)?;
        let info = parse_group_info(group_info).ok_or(ViewError::Open)?;
        let (group, _) = PublicGroup::from_external(provider.crypto(), provider.storage(), tree, info, ProposalStore::new())
            .map_err(|_| ViewError::Open)?;
        if group.ciphersuite() != CIPHERSUITE {
            return Err(ViewError::Open);
        }
        Ok(Self { provider, group })
    }

    pub fn group_id(&self) -> &[u8] {
        self.group.group_id().as_slice()
    }

    pub fn epoch(&self) -> u64 {
        self.group.group_context().epoch().as_u64()
    }

    pub fn tree_bytes(&self) -> Vec<u8> {
        self.group.export_ratchet_tree().tls_serialize_detached().expect("a tree that was read can be written")
    }

    pub fn context(&self) -> Result<RoomContext, ViewError> {
        let extensions = self.group.group_context().extensions();
        let bytes = extensions.unknown(EXTENSION_ROOM_CONTEXT).ok_or(ViewError::Context)?;
        if !has_required_capabilities(extensions) {
            return Err(ViewError::Context);
        }
        codec::decode_context(&bytes.0).map_err(|_| ViewError::Context)
    }

    pub fn leaves(&self) -> Result<Vec<Leaf>, ViewError> {
        self.group.members().map(|member| self.group.leaf(member.index).ok_or(ViewError::Certificate).and_then(read_leaf)).collect()
    }

    /// The signature key of a pseudonym's device.
    pub fn leaf_key(&self, who: &Pseudonym, device: u16) -> Option<PublicKey> {
        let leaves = self.leaves().ok()?;
        leaves.into_iter().find(|leaf| leaf.certificate.pseudonym == *who && leaf.certificate.device == device).map(|leaf| leaf.key)
    }

    /// Verifies a commit and reads what it does.
    pub fn stage(&self, commit: &[u8]) -> Result<Staged, ViewError> {
        let refuse = |why: &str| ViewError::Commit(why.to_owned());
        let message = MlsMessageIn::tls_deserialize_exact_bytes(commit)
            .ok()
            .and_then(|message| message.try_into_protocol_message().ok())
            .ok_or_else(|| refuse("it does not decode"))?;
        if !matches!(message, ProtocolMessage::PublicMessage(_)) {
            return Err(refuse("handshakes are public messages"));
        }
        let processed =
            self.group.process_message(self.provider.crypto(), message).map_err(|error| ViewError::Commit(error.to_string()))?;
        let (sender, admission) = (processed.sender().clone(), processed.aad().to_vec());
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            return Err(refuse("only commits change a group"));
        };
        let (facts, committer) = self.read(&sender, &admission, &staged)?;
        Ok(Staged { facts, committer, commit: *staged })
    }

    /// A joiner's admission is the authenticated data of its commit, signed by the very leaf.
    fn read(&self, sender: &Sender, admission: &[u8], staged: &StagedCommit) -> Result<(CommitFacts, LeafNodeIndex), ViewError> {
        let path_leaf = staged.update_path_leaf_node();
        let mut facts = CommitFacts::default();
        let committer = match sender {
            Sender::Member(index) => {
                let old = self.group.leaf(*index).ok_or(ViewError::Certificate)?;
                facts.author = Some(read_leaf(old)?.certificate.pseudonym);
                facts.identity_changed = path_leaf.is_some_and(|new| {
                    new.credential() != old.credential()
                        || new.signature_key() != old.signature_key()
                        || new.extensions() != old.extensions()
                        || !lists_all_extensions(new)
                });
                *index
            }
            Sender::NewMemberCommit => {
                let leaf = path_leaf.ok_or(ViewError::Certificate)?;
                let Leaf { certificate, key } = read_leaf(leaf)?;
                facts.join = Some(JoinFacts {
                    certificate,
                    leaf_key: key,
                    admission: codec::decode_admission(admission).ok(),
                    lists_all_extensions: lists_all_extensions(leaf),
                });
                self.group.ext_commit_sender_index(staged).map_err(|error| ViewError::Commit(error.to_string()))?
            }
            _ => return Err(ViewError::Commit("its author is neither a member nor a joiner".to_owned())),
        };
        self.read_proposals(staged, &mut facts)?;
        Ok((facts, committer))
    }

    fn read_proposals(&self, staged: &StagedCommit, facts: &mut CommitFacts) -> Result<(), ViewError> {
        for queued in staged.queued_proposals() {
            if queued.proposal_or_ref_type() != ProposalOrRefType::Proposal {
                facts.foreign_proposals = true;
            }
            match queued.proposal() {
                Proposal::Remove(remove) => {
                    let leaf = self.group.leaf(remove.removed()).ok_or(ViewError::Certificate)?;
                    facts.removes.push(read_leaf(leaf)?.certificate.pseudonym);
                }
                Proposal::GroupContextExtensions(change) => {
                    let context =
                        change.extensions().unknown(EXTENSION_ROOM_CONTEXT).and_then(|bytes| codec::decode_context(&bytes.0).ok());
                    facts.broken_context |= context.is_none() || !has_required_capabilities(change.extensions());
                    facts.new_context = context;
                }
                Proposal::ExternalInit(_) => facts.foreign_proposals |= facts.join.is_none(),
                Proposal::Add(_) => facts.adds += 1,
                _ => facts.foreign_proposals = true,
            }
        }
        Ok(())
    }

    /// Merges it, and checks that `group_info` is the signed GroupInfo of exactly the state that it makes. On an error
    /// the view has moved on and must be thrown away.
    pub fn merge(&mut self, staged: Staged, group_info: &[u8]) -> Result<(), ViewError> {
        self.group.merge_commit(self.provider.storage(), staged.commit).map_err(|error| ViewError::Commit(error.to_string()))?;
        if self.is_group_info(group_info, staged.committer) { Ok(()) } else { Err(ViewError::GroupInfo) }
    }

    /// The signer and the tag of a GroupInfo are private in OpenMLS, so the expected one is rebuilt and compared.
    fn is_group_info(&self, bytes: &[u8], committer: LeafNodeIndex) -> bool {
        let (Some(info), Some(leaf)) = (parse_group_info(bytes), self.group.leaf(committer)) else {
            return false;
        };
        let mut types = info.extensions().iter().map(Extension::extension_type);
        if types.next() != Some(ExtensionType::ExternalPub) || types.next().is_some() {
            return false;
        }
        let expected = VerifiableGroupInfo::new(
            self.group.group_context().clone(),
            info.extensions().clone(),
            self.group.confirmation_tag().clone(),
            committer,
            info.signature().clone(),
        );
        let key = OpenMlsSignaturePublicKey::from_signature_key(leaf.signature_key().clone(), CIPHERSUITE.signature_algorithm());
        info == expected && info.verify_no_out(self.provider.crypto(), &key).is_ok()
    }
}
