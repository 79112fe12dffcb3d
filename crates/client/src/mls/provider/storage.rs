//! Where OpenMLS keeps group state: a map in memory which remembers what changed since it was last asked.
//!
//! It knows nothing of databases: the driver takes the delta after each step, writes it in one transaction, and only
//! then sends what the step produced. There is no rollback, on purpose: going back would reuse ratchet keys.
//!
//! ```text
//! key   = 'g' postcard(group id) label postcard(rest)   state of one group, so a prefix removes it all
//!       | 'x' label postcard(id)                        keys without a group
//! value = postcard, but JSON for MlsGroupJoinConfig, whose past-epoch policy is an untagged enum
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use openmls_traits::storage::{CURRENT_VERSION, Key, StorageProvider, traits};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// What to write (`Some`) and to delete (`None`), one entry per key, in the order of the keys.
pub type Delta = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Why group state could not be read or written. Either way the fault is ours or the disk's, never a peer's.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("a value of the MLS store does not encode or decode: {0}")]
    Postcard(#[from] postcard::Error),
    #[error("a group configuration of the MLS store does not encode or decode: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Default)]
struct Entries {
    values: BTreeMap<Vec<u8>, Zeroizing<Vec<u8>>>,
    dirty: BTreeSet<Vec<u8>>,
}

/// Group state in memory, with its changes tracked.
#[derive(Default)]
pub struct Store {
    entries: Mutex<Entries>,
}

/// The kinds of value. The numbers are in databases: never reuse or renumber one.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Label {
    JoinConfig = 1,
    OwnLeaves = 2,
    Proposals = 3,
    Tree = 4,
    TranscriptHash = 5,
    Context = 6,
    Confirmation = 7,
    State = 8,
    Secrets = 9,
    ResumptionPsks = 10,
    OwnLeafIndex = 11,
    EpochSecrets = 12,
    EpochKeyPairs = 13,
    SignaturePair = 14,
    EncryptionPair = 15,
    KeyPackages = 16,
    Psk = 17,
}

use Label::*;

/// A group's queue: proposal reference and proposal, both encoded. One value for the whole queue, so that clearing
/// it cannot leave proposals behind.
type Queue = Vec<(Vec<u8>, Vec<u8>)>;

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, StoreError> {
    Ok(postcard::to_stdvec(value)?)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    Ok(postcard::from_bytes(bytes)?)
}

fn group_prefix(group_id: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    Ok(postcard::to_extend(group_id, vec![b'g'])?)
}

fn group(group_id: &impl Serialize, label: Label) -> Result<Vec<u8>, StoreError> {
    let mut key = group_prefix(group_id)?;
    key.push(label as u8);
    Ok(key)
}

fn group_epoch(group_id: &impl Serialize, epoch: &impl Serialize, leaf_index: u32) -> Result<Vec<u8>, StoreError> {
    let key = group(group_id, EpochKeyPairs)?;
    Ok(postcard::to_extend(&(epoch, leaf_index), key)?)
}

fn global(label: Label, id: &impl Key<CURRENT_VERSION>) -> Result<Vec<u8>, StoreError> {
    Ok(postcard::to_extend(id, vec![b'x', label as u8])?)
}

impl Store {
    /// Adds persisted entries; they do not count as changes.
    pub fn load(&self, entries: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) {
        let entries = entries.into_iter().map(|(key, value)| (key, value.into()));
        self.lock().values.extend(entries);
    }

    /// The changes since the last call, the last write of a key winning. Whoever takes them must persist them before
    /// anything that was made from the new state leaves the client.
    pub fn take_delta(&self) -> Delta {
        let mut entries = self.lock();
        let dirty = std::mem::take(&mut entries.dirty);
        dirty
            .into_iter()
            .map(|key| {
                let value = entries.values.get(&key).map(|value| value.to_vec());
                (key, value)
            })
            .collect()
    }

    /// Takes over the changes of another store; they count as changes here too. This is how a join tried in a
    /// provider of its own is adopted once the relay has accepted it.
    pub fn apply(&self, delta: Delta) -> Result<(), StoreError> {
        delta.into_iter().try_for_each(|(key, value)| match value {
            Some(value) => self.put(key, value),
            None => self.delete(key),
        })
    }

    /// All state of a group.
    pub fn group_values(&self, group_id: &impl traits::GroupId<CURRENT_VERSION>) -> Result<Delta, StoreError> {
        let prefix = group_prefix(group_id)?;
        let entries = self.lock();
        let values = entries.values.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        Ok(values.map(|(key, value)| (key.clone(), Some(value.to_vec()))).collect())
    }

    /// Deletes all state of a group. More than `MlsGroup::delete`, which leaves the key pairs of an epoch behind if
    /// the group was rejoined from another one.
    pub fn remove_group(&self, group_id: &impl traits::GroupId<CURRENT_VERSION>) -> Result<(), StoreError> {
        let prefix = group_prefix(group_id)?;
        let mut entries = self.lock();
        let keys: Vec<_> =
            entries.values.range(prefix.clone()..).map(|(key, _)| key.clone()).take_while(|key| key.starts_with(&prefix)).collect();
        for key in keys {
            entries.values.remove(&key);
            entries.dirty.insert(key);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("nothing panics while it holds the entries")
    }

    /// An unchanged value is no change: OpenMLS rewrites several values in each epoch which seldom differ.
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let value = Zeroizing::new(value);
        let mut entries = self.lock();
        if entries.values.get(&key) != Some(&value) {
            entries.dirty.insert(key.clone());
            entries.values.insert(key, value);
        }
        Ok(())
    }

    fn delete(&self, key: Vec<u8>) -> Result<(), StoreError> {
        let mut entries = self.lock();
        if entries.values.remove(&key).is_some() {
            entries.dirty.insert(key);
        }
        Ok(())
    }

    fn write<T: Serialize + ?Sized>(&self, key: Vec<u8>, value: &T) -> Result<(), StoreError> {
        self.put(key, encode(value)?)
    }

    fn read<T: DeserializeOwned>(&self, key: Vec<u8>) -> Result<Option<T>, StoreError> {
        let entries = self.lock();
        let value = entries.values.get(&key);
        value.map(|value| decode(value)).transpose()
    }

    fn queue(&self, group_id: &impl Serialize) -> Result<Queue, StoreError> {
        let queue = self.read(group(group_id, Proposals)?)?;
        Ok(queue.unwrap_or_default())
    }
}

/// Spells out the bounds of the storage trait's methods. The type parameters stand in the trait's order, which follows
/// no rule, and a parameter is named like its bound.
macro_rules! methods {
    ($(fn $name:ident<$($type:ident),*>($self:ident, $($arg:ident: $arg_type:ty),*) -> $ok:ty $body:block)*) => {$(
        fn $name<$($type: traits::$type<CURRENT_VERSION>),*>(
            &$self,
            $($arg: $arg_type),*
        ) -> Result<$ok, StoreError> $body
    )*};
}

impl StorageProvider<CURRENT_VERSION> for Store {
    type Error = StoreError;

    methods! {
        fn write_tree<GroupId, TreeSync>(self, id: &GroupId, value: &TreeSync) -> () {
            self.write(group(id, Tree)?, value)
        }
        fn tree<GroupId, TreeSync>(self, id: &GroupId) -> Option<TreeSync> { self.read(group(id, Tree)?) }
        fn delete_tree<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, Tree)?) }

        fn write_interim_transcript_hash<GroupId, InterimTranscriptHash>(
            self, id: &GroupId, value: &InterimTranscriptHash
        ) -> () {
            self.write(group(id, TranscriptHash)?, value)
        }
        fn interim_transcript_hash<GroupId, InterimTranscriptHash>(
            self, id: &GroupId
        ) -> Option<InterimTranscriptHash> {
            self.read(group(id, TranscriptHash)?)
        }
        fn delete_interim_transcript_hash<GroupId>(self, id: &GroupId) -> () {
            self.delete(group(id, TranscriptHash)?)
        }

        fn write_context<GroupId, GroupContext>(self, id: &GroupId, value: &GroupContext) -> () {
            self.write(group(id, Context)?, value)
        }
        fn group_context<GroupId, GroupContext>(self, id: &GroupId) -> Option<GroupContext> {
            self.read(group(id, Context)?)
        }
        fn delete_context<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, Context)?) }

        fn write_confirmation_tag<GroupId, ConfirmationTag>(self, id: &GroupId, value: &ConfirmationTag) -> () {
            self.write(group(id, Confirmation)?, value)
        }
        fn confirmation_tag<GroupId, ConfirmationTag>(self, id: &GroupId) -> Option<ConfirmationTag> {
            self.read(group(id, Confirmation)?)
        }
        fn delete_confirmation_tag<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, Confirmation)?) }

        fn write_group_state<GroupState, GroupId>(self, id: &GroupId, value: &GroupState) -> () {
            self.write(group(id, State)?, value)
        }
        fn group_state<GroupState, GroupId>(self, id: &GroupId) -> Option<GroupState> { self.read(group(id, State)?) }
        fn delete_group_state<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, State)?) }

        fn write_message_secrets<GroupId, MessageSecrets>(self, id: &GroupId, value: &MessageSecrets) -> () {
            self.write(group(id, Secrets)?, value)
        }
        fn message_secrets<GroupId, MessageSecrets>(self, id: &GroupId) -> Option<MessageSecrets> {
            self.read(group(id, Secrets)?)
        }
        fn delete_message_secrets<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, Secrets)?) }

        fn write_resumption_psk_store<GroupId, ResumptionPskStore>(
            self, id: &GroupId, value: &ResumptionPskStore
        ) -> () {
            self.write(group(id, ResumptionPsks)?, value)
        }
        fn resumption_psk_store<GroupId, ResumptionPskStore>(self, id: &GroupId) -> Option<ResumptionPskStore> {
            self.read(group(id, ResumptionPsks)?)
        }
        fn delete_all_resumption_psk_secrets<GroupId>(self, id: &GroupId) -> () {
            self.delete(group(id, ResumptionPsks)?)
        }

        fn write_own_leaf_index<GroupId, LeafNodeIndex>(self, id: &GroupId, value: &LeafNodeIndex) -> () {
            self.write(group(id, OwnLeafIndex)?, value)
        }
        fn own_leaf_index<GroupId, LeafNodeIndex>(self, id: &GroupId) -> Option<LeafNodeIndex> {
            self.read(group(id, OwnLeafIndex)?)
        }
        fn delete_own_leaf_index<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, OwnLeafIndex)?) }

        fn write_group_epoch_secrets<GroupId, GroupEpochSecrets>(
            self, id: &GroupId, value: &GroupEpochSecrets
        ) -> () {
            self.write(group(id, EpochSecrets)?, value)
        }
        fn group_epoch_secrets<GroupId, GroupEpochSecrets>(self, id: &GroupId) -> Option<GroupEpochSecrets> {
            self.read(group(id, EpochSecrets)?)
        }
        fn delete_group_epoch_secrets<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, EpochSecrets)?) }

        fn write_signature_key_pair<SignaturePublicKey, SignatureKeyPair>(
            self, id: &SignaturePublicKey, value: &SignatureKeyPair
        ) -> () {
            self.write(global(SignaturePair, id)?, value)
        }
        fn signature_key_pair<SignaturePublicKey, SignatureKeyPair>(
            self, id: &SignaturePublicKey
        ) -> Option<SignatureKeyPair> {
            self.read(global(SignaturePair, id)?)
        }
        fn delete_signature_key_pair<SignaturePublicKey>(self, id: &SignaturePublicKey) -> () {
            self.delete(global(SignaturePair, id)?)
        }

        fn write_encryption_key_pair<EncryptionKey, HpkeKeyPair>(
            self, id: &EncryptionKey, value: &HpkeKeyPair
        ) -> () {
            self.write(global(EncryptionPair, id)?, value)
        }
        fn encryption_key_pair<HpkeKeyPair, EncryptionKey>(self, id: &EncryptionKey) -> Option<HpkeKeyPair> {
            self.read(global(EncryptionPair, id)?)
        }
        fn delete_encryption_key_pair<EncryptionKey>(self, id: &EncryptionKey) -> () {
            self.delete(global(EncryptionPair, id)?)
        }

        fn write_key_package<HashReference, KeyPackage>(self, id: &HashReference, value: &KeyPackage) -> () {
            self.write(global(KeyPackages, id)?, value)
        }
        fn key_package<HashReference, KeyPackage>(self, id: &HashReference) -> Option<KeyPackage> {
            self.read(global(KeyPackages, id)?)
        }
        fn delete_key_package<HashReference>(self, id: &HashReference) -> () { self.delete(global(KeyPackages, id)?) }

        fn write_psk<PskId, PskBundle>(self, id: &PskId, value: &PskBundle) -> () {
            self.write(global(Psk, id)?, value)
        }
        fn psk<PskBundle, PskId>(self, id: &PskId) -> Option<PskBundle> { self.read(global(Psk, id)?) }
        fn delete_psk<PskId>(self, id: &PskId) -> () { self.delete(global(Psk, id)?) }

        fn write_encryption_epoch_key_pairs<GroupId, EpochKey, HpkeKeyPair>(
            self, id: &GroupId, epoch: &EpochKey, leaf: u32, pairs: &[HpkeKeyPair]
        ) -> () {
            self.write(group_epoch(id, epoch, leaf)?, pairs)
        }
        fn encryption_epoch_key_pairs<GroupId, EpochKey, HpkeKeyPair>(
            self, id: &GroupId, epoch: &EpochKey, leaf: u32
        ) -> Vec<HpkeKeyPair> {
            let pairs = self.read(group_epoch(id, epoch, leaf)?)?;
            Ok(pairs.unwrap_or_default())
        }
        fn delete_encryption_epoch_key_pairs<GroupId, EpochKey>(
            self, id: &GroupId, epoch: &EpochKey, leaf: u32
        ) -> () {
            self.delete(group_epoch(id, epoch, leaf)?)
        }

        fn write_mls_join_config<GroupId, MlsGroupJoinConfig>(
            self, id: &GroupId, config: &MlsGroupJoinConfig
        ) -> () {
            self.put(group(id, JoinConfig)?, serde_json::to_vec(config)?)
        }
        fn mls_group_join_config<GroupId, MlsGroupJoinConfig>(self, id: &GroupId) -> Option<MlsGroupJoinConfig> {
            let key = group(id, JoinConfig)?;
            let entries = self.lock();
            let value = entries.values.get(&key);
            Ok(value.map(|value| serde_json::from_slice(value)).transpose()?)
        }
        fn delete_group_config<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, JoinConfig)?) }

        fn append_own_leaf_node<GroupId, LeafNode>(self, id: &GroupId, leaf: &LeafNode) -> () {
            let mut leaves: Vec<Vec<u8>> = self.read(group(id, OwnLeaves)?)?.unwrap_or_default();
            leaves.push(encode(leaf)?);
            self.write(group(id, OwnLeaves)?, &leaves)
        }
        fn own_leaf_nodes<GroupId, LeafNode>(self, id: &GroupId) -> Vec<LeafNode> {
            let leaves: Option<Vec<Vec<u8>>> = self.read(group(id, OwnLeaves)?)?;
            leaves.iter().flatten().map(|leaf| decode(leaf)).collect()
        }
        fn delete_own_leaf_nodes<GroupId>(self, id: &GroupId) -> () { self.delete(group(id, OwnLeaves)?) }

        fn queue_proposal<GroupId, ProposalRef, QueuedProposal>(
            self, id: &GroupId, reference: &ProposalRef, proposal: &QueuedProposal
        ) -> () {
            self.remove_proposal(id, reference)?;
            let mut queue = self.queue(id)?;
            queue.push((encode(reference)?, encode(proposal)?));
            self.write(group(id, Proposals)?, &queue)
        }
        fn queued_proposal_refs<GroupId, ProposalRef>(self, id: &GroupId) -> Vec<ProposalRef> {
            let queue = self.queue(id)?;
            queue.iter().map(|(reference, _)| decode(reference)).collect()
        }
        fn queued_proposals<GroupId, ProposalRef, QueuedProposal>(
            self, id: &GroupId
        ) -> Vec<(ProposalRef, QueuedProposal)> {
            let queue = self.queue(id)?;
            let decoded = queue.iter().map(|(reference, proposal)| Ok((decode(reference)?, decode(proposal)?)));
            decoded.collect()
        }
        fn remove_proposal<GroupId, ProposalRef>(self, id: &GroupId, reference: &ProposalRef) -> () {
            let reference = encode(reference)?;
            let mut queue = self.queue(id)?;
            queue.retain(|(queued, _)| *queued != reference);
            if queue.is_empty() {
                return self.delete(group(id, Proposals)?);
            }
            self.write(group(id, Proposals)?, &queue)
        }
        fn clear_proposal_queue<GroupId, ProposalRef>(self, id: &GroupId) -> () { self.delete(group(id, Proposals)?) }
    }
}
