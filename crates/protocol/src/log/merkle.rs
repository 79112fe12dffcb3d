//! The Merkle tree of RFC 9162 section 2.1 (the same hashing as RFC 6962), grown a leaf at a time.
//!
//! A log keeps, beside each leaf, the interior nodes that the leaf completes ([`Frontier::push`] returns them), so any
//! proof needs O(log n) look-ups; [`Nodes`] is how a proof asks for them. Knows nothing of what the leaves mean.

use sha2::{Digest, Sha256};

use crate::ids::Hash;
use crate::limits::TREE_LEVELS_MAX;

/// The tree or the proof does not add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    #[error("the frontier does not fit its size")]
    Frontier,
    #[error("the proof is for other sizes")]
    Range,
    #[error("the proof does not lead to the root")]
    Mismatch,
    #[error("a node that the proof needs is missing")]
    MissingNode,
}

/// Hash of a leaf: SHA-256(0x00 || data).
pub fn leaf_hash(data: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
}

/// Hash of an interior node: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Root of the empty tree.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// The roots of the perfect subtrees of a tree of `size` leaves, largest first: all that is needed to grow it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Result<Self, MerkleError> {
        if nodes.len() != size.count_ones() as usize || size >> TREE_LEVELS_MAX != 0 {
            return Err(MerkleError::Frontier);
        }
        Ok(Self { size, nodes })
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// Appends a leaf. Returns the interior nodes that it completes, lowest first: levels 1, 2, … of which it is the last leaf.
    pub fn push(&mut self, leaf: Hash) -> Vec<Hash> {
        let mut completed = Vec::new();
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.nodes.pop().expect("one node per set bit of the size");
            node = node_hash(&left, &node);
            completed.push(node);
        }
        self.nodes.push(node);
        self.size += 1;
        completed
    }

    pub fn root(&self) -> Hash {
        fold_right(&self.nodes)
    }
}

fn fold_right(nodes: &[Hash]) -> Hash {
    let Some((last, rest)) = nodes.split_last() else {
        return empty_root();
    };
    rest.iter().rev().fold(*last, |right, left| node_hash(left, &right))
}

/// A perfect subtree: the node at `level` over leaves `index << level ..`. Level 0 is a leaf's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId {
    pub level: u32,
    pub index: u64,
}

impl NodeId {
    /// The leaf beside which this node is kept, and its place among the nodes that the leaf completed
    /// (`None`: it is the leaf itself).
    pub fn stored_at(self) -> (u64, Option<usize>) {
        let leaf = ((self.index + 1) << self.level) - 1;
        (leaf, self.level.checked_sub(1).map(|place| place as usize))
    }
}

/// A source of stored nodes.
pub trait Nodes {
    fn node(&self, id: NodeId) -> Option<Hash>;
}

impl<F: Fn(NodeId) -> Option<Hash>> Nodes for F {
    fn node(&self, id: NodeId) -> Option<Hash> {
        self(id)
    }
}

/// The perfect subtrees that make up leaves `from..to`, left to right, where `from` is a multiple of the subtree size
/// at which RFC 9162 splits.
fn perfect_subtrees(from: u64, to: u64) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    let mut at = from;
    while at < to {
        let align = if at == 0 { 63 } else { at.trailing_zeros() };
        let fit = 63 - (to - at).leading_zeros();
        let level = align.min(fit);
        nodes.push(NodeId { level, index: at >> level });
        at += 1 << level;
    }
    nodes
}

fn subtree_root(nodes: &impl Nodes, from: u64, to: u64) -> Result<Hash, MerkleError> {
    let hashes =
        perfect_subtrees(from, to).into_iter().map(|id| nodes.node(id).ok_or(MerkleError::MissingNode)).collect::<Result<Vec<_>, _>>()?;
    Ok(fold_right(&hashes))
}

/// The nodes that [`inclusion_proof`] and [`consistency_proof`] of these sizes may ask for.
pub fn nodes_for_inclusion(index: u64, size: u64) -> Vec<NodeId> {
    inclusion_ranges(index, size).into_iter().flat_map(|(from, to)| perfect_subtrees(from, to)).collect()
}

pub fn nodes_for_consistency(old: u64, new: u64) -> Vec<NodeId> {
    consistency_ranges(old, new).into_iter().flat_map(|(from, to)| perfect_subtrees(from, to)).collect()
}

/// The frontier's own nodes at a size.
pub fn nodes_for_frontier(size: u64) -> Vec<NodeId> {
    perfect_subtrees(0, size)
}

/// Largest power of two smaller than `n`; `n` ≥ 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// RFC 9162 section 2.1.3.1, PATH: sibling ranges from the leaf up.
fn inclusion_ranges(index: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// RFC 9162 section 2.1.4.1, SUBPROOF.
fn consistency_ranges(old: u64, new: u64) -> Vec<(u64, u64)> {
    let (mut from, mut to, mut whole) = (0, new, true);
    let mut ranges = Vec::new();
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
            whole = false;
        }
    }
    if !whole {
        ranges.push((from, to));
    }
    ranges.reverse();
    ranges
}

/// Audit path of leaf `index` in the tree of `size`.
pub fn inclusion_proof(nodes: &impl Nodes, index: u64, size: u64) -> Result<Vec<Hash>, MerkleError> {
    if index >= size {
        return Err(MerkleError::Range);
    }
    inclusion_ranges(index, size).into_iter().map(|(from, to)| subtree_root(nodes, from, to)).collect()
}

/// Consistency proof between two sizes, 0 < `old` ≤ `new`.
pub fn consistency_proof(nodes: &impl Nodes, old: u64, new: u64) -> Result<Vec<Hash>, MerkleError> {
    if old == 0 || old > new {
        return Err(MerkleError::Range);
    }
    consistency_ranges(old, new).into_iter().map(|(from, to)| subtree_root(nodes, from, to)).collect()
}

/// RFC 9162 section 2.1.3.2.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::Range);
    }
    let (mut fnode, mut snode) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if snode == 0 {
            return Err(MerkleError::Mismatch);
        }
        if fnode & 1 == 1 || fnode == snode {
            hash = node_hash(sibling, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode == 0 && hash == *root { Ok(()) } else { Err(MerkleError::Mismatch) }
}

/// RFC 9162 section 2.1.4.2.
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> Result<(), MerkleError> {
    if old == 0 || old > new {
        return Err(MerkleError::Range);
    }
    if old == new {
        return if proof.is_empty() && old_root == new_root { Ok(()) } else { Err(MerkleError::Mismatch) };
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() { old_root } else { path.next().ok_or(MerkleError::Mismatch)? };
    let (mut fnode, mut snode) = (old - 1, new - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in path {
        if snode == 0 {
            return Err(MerkleError::Mismatch);
        }
        if fnode & 1 == 1 || fnode == snode {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode == 0 && from_old == *old_root && from_new == *new_root { Ok(()) } else { Err(MerkleError::Mismatch) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// The eight leaves and the roots that Certificate Transparency's own implementations are tested with.
    const LEAVES: [&str; 8] = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[derive(Default)]
    struct Log {
        frontier: Frontier,
        roots: Vec<Hash>,
        leaves: Vec<Hash>,
        rows: HashMap<u64, Vec<Hash>>,
    }

    impl Log {
        fn push(&mut self, data: &[u8]) {
            let leaf = leaf_hash(data);
            let at = self.frontier.size();
            let completed = self.frontier.push(leaf);
            self.leaves.push(leaf);
            self.rows.insert(at, completed);
            self.roots.push(self.frontier.root());
        }
        fn node(&self, id: NodeId) -> Option<Hash> {
            let (leaf, place) = id.stored_at();
            match place {
                None => self.leaves.get(leaf as usize).copied(),
                Some(place) => self.rows.get(&leaf)?.get(place).copied(),
            }
        }
    }

    #[test]
    fn published_roots() {
        assert_eq!(empty_root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut log = Log::default();
        for (leaf, root) in LEAVES.iter().zip(ROOTS) {
            log.push(&bytes(leaf));
            assert_eq!(log.frontier.root().to_string(), root);
        }
    }

    #[test]
    fn published_proofs() {
        let mut log = Log::default();
        LEAVES.iter().for_each(|leaf| log.push(&bytes(leaf)));
        let hex = |proof: Vec<Hash>| proof.iter().map(Hash::to_string).collect::<Vec<_>>();
        assert_eq!(
            hex(inclusion_proof(&|id| log.node(id), 0, 8).unwrap()),
            [
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ]
        );
        assert_eq!(
            hex(consistency_proof(&|id| log.node(id), 6, 8).unwrap()),
            [
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ]
        );
    }

    #[test]
    fn a_frontier_fits_its_size() {
        assert_eq!(Frontier::from_parts(3, vec![Hash([0; 32])]), Err(MerkleError::Frontier));
        assert!(Frontier::from_parts(3, vec![Hash([0; 32]); 2]).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn every_proof_verifies_and_no_altered_one_does(size in 1u64..70, flip in any::<prop::sample::Index>()) {
            let mut log = Log::default();
            (0..size).for_each(|i| log.push(&i.to_be_bytes()));
            let root = log.frontier.root();
            let nodes = |id| log.node(id);
            for index in 0..size {
                let proof = inclusion_proof(&nodes, index, size).unwrap();
                let leaf = log.leaves[index as usize];
                prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));
                prop_assert!(verify_inclusion(&leaf, (index + 1) % (size + 1), size, &proof, &root).is_err() || size == 1 && index == 0);
                if !proof.is_empty() {
                    let mut bad = proof.clone();
                    flip.get_mut(&mut bad).0[0] ^= 1;
                    prop_assert!(verify_inclusion(&leaf, index, size, &bad, &root).is_err());
                }
                let old = index + 1;
                let proof = consistency_proof(&nodes, old, size).unwrap();
                let old_root = log.roots[index as usize];
                prop_assert_eq!(verify_consistency(old, size, &old_root, &root, &proof), Ok(()));
                prop_assert!(verify_consistency(old, size, &Hash([3; 32]), &root, &proof).is_err());
            }
        }
    }
}
