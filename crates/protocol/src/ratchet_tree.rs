//! A ratchet tree (RFC 9420 section 12.4.3.3) without what its reader knows or can compute. Half of what a tree's nodes
//! say about their parents follows from the tree itself, and its leaves repeat each other's words.
//!
//! 1. A parent hash (RFC 9420 section 7.9) that is the hash of the nearest parent above that is not blank becomes the one
//!    byte [`DERIVED`], which begins no vector of a tree. Where both sides of a parent would fit, the left one keeps its
//!    bytes; a tree with unmerged leaves keeps all of them.
//! 2. That is packed by raw DEFLATE; the dictionary is the pseudonyms of the room's senders, one after another, which
//!    travel beside the tree and stand in its leaves.
//!
//! [`restore`] gives back the very bytes. Nothing rests on that: whoever joins checks the tree against the tree hash in
//! the signed GroupInfo, and every parent hash in it.

use sha2::{Digest, Sha256};

use crate::deflate::{deflate, inflate};
use crate::ids::Pseudonym;
use crate::limits::{TREE_BYTES_MAX, TREE_NODES_MAX};
use crate::mls_framing::{split_vector, take_vector};

/// In place of a parent hash that the reader computes. A vector's length of eight bytes would begin with it, and RFC 9420
/// section 2.1.2 has none.
const DERIVED: u8 = 0xC0;
const HASH_BYTES: usize = 32;
const LEAF: u8 = 1;
const PARENT: u8 = 2;
const CREDENTIAL_BASIC: [u8; 2] = [0, 1];

/// The bytes are no ratchet tree in that form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a ratchet tree")]
pub struct TreeError;

type Result<T> = std::result::Result<T, TreeError>;

/// The short form of a tree's exact bytes.
pub fn shorten(tree: &[u8], senders: &[Pseudonym]) -> Result<Vec<u8>> {
    if tree.len() > TREE_BYTES_MAX {
        return Err(TreeError);
    }
    let mut tree = Tree::parse(take_whole(tree)?)?;
    if tree.nodes.iter().flatten().any(|node| node.hash == ParentHash::Derived) {
        return Err(TreeError);
    }
    tree.derive();
    Ok(deflate(&tree.write(), &dictionary(senders)))
}

/// The exact bytes of a tree. Neither they nor what they are unpacked to has more than [`TREE_BYTES_MAX`].
pub fn restore(short: &[u8], senders: &[Pseudonym]) -> Result<Vec<u8>> {
    let nodes = inflate(short, &dictionary(senders), TREE_BYTES_MAX).map_err(|_| TreeError)?;
    let mut tree = Tree::parse(&nodes)?;
    tree.resolve_all()?;
    let bytes = tree.write();
    let mut whole = Vec::with_capacity(bytes.len() + 4);
    push_length(&mut whole, bytes.len());
    whole.extend_from_slice(&bytes);
    if whole.len() <= TREE_BYTES_MAX { Ok(whole) } else { Err(TreeError) }
}

fn dictionary(senders: &[Pseudonym]) -> Vec<u8> {
    senders.iter().flat_map(|who| who.0).collect()
}

/// The nodes in the one vector that a tree is.
fn take_whole(tree: &[u8]) -> Result<&[u8]> {
    match take_vector(tree) {
        Ok((nodes, [])) => Ok(nodes),
        _ => Err(TreeError),
    }
}

fn push_length(out: &mut Vec<u8>, len: usize) {
    match len {
        0..0x40 => out.push(len as u8),
        0x40..0x4000 => out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
        _ => out.extend_from_slice(&(len as u32 | 0x8000_0000).to_be_bytes()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ParentHash<'a> {
    /// This leaf came by no commit of its own and has no place for one.
    Absent,
    /// The vector, with its length.
    Given(&'a [u8]),
    Derived,
    Computed([u8; HASH_BYTES]),
}

/// A node's bytes from its type on, around its parent hash.
#[derive(Debug, Clone, Copy)]
struct Node<'a> {
    before: &'a [u8],
    hash: ParentHash<'a>,
    after: &'a [u8],
    /// The encryption key's vector, with its length.
    key: &'a [u8],
    has_unmerged: bool,
}

/// Reads forward over one node.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(TreeError)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A vector with its length.
    fn vector(&mut self) -> Result<&'a [u8]> {
        let (vector, rest) = split_vector(self.0).map_err(|_| TreeError)?;
        self.0 = rest;
        Ok(vector)
    }

    fn parent_hash(&mut self) -> Result<ParentHash<'a>> {
        if self.0.first() == Some(&DERIVED) {
            self.bytes(1)?;
            return Ok(ParentHash::Derived);
        }
        self.vector().map(ParentHash::Given)
    }

    fn node(&mut self) -> Result<Node<'a>> {
        let start = self.0;
        let kind = self.bytes(1)?[0];
        let key = self.vector()?;
        let has_hash = match kind {
            LEAF => self.leaf_to_hash()?,
            PARENT => true,
            _ => return Err(TreeError),
        };
        let before = &start[..start.len() - self.0.len()];
        let hash = if has_hash { self.parent_hash()? } else { ParentHash::Absent };
        let rest = self.0;
        let mut has_unmerged = false;
        if kind == LEAF {
            let (_extensions, _signature) = (self.vector()?, self.vector()?);
        } else {
            has_unmerged = self.vector()? != [0];
        }
        Ok(Node { before, hash, after: &rest[..rest.len() - self.0.len()], key, has_unmerged })
    }

    /// Signature key, credential, capabilities and source. `true`: a parent hash follows.
    fn leaf_to_hash(&mut self) -> Result<bool> {
        self.vector()?;
        if self.bytes(2)? != CREDENTIAL_BASIC {
            return Err(TreeError);
        }
        self.vector()?;
        // Capabilities: versions, ciphersuites, extensions, proposals, credentials.
        (0..5).try_for_each(|_| self.vector().map(drop))?;
        match self.bytes(1)?[0] {
            // From a KeyPackage, with its lifetime.
            1 => self.bytes(16).map(|_| false),
            // By an Update.
            2 => Ok(false),
            // By a commit.
            3 => Ok(true),
            _ => Err(TreeError),
        }
    }
}

/// Nodes by their index in the array of RFC 9420 appendix C: leaves are even, blanks are `None`.
struct Tree<'a> {
    nodes: Vec<Option<Node<'a>>>,
    /// Of the full tree that the array stands for.
    leaves: usize,
    hashes: Vec<Option<[u8; HASH_BYTES]>>,
}

fn level(index: usize) -> u32 {
    index.trailing_ones()
}

fn children(index: usize) -> Option<[usize; 2]> {
    let half = 1usize << level(index).checked_sub(1)?;
    Some([index - half, index + half])
}

impl<'a> Tree<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let mut nodes = Vec::new();
        while let Some((present, rest)) = reader.0.split_first() {
            reader.0 = rest;
            if nodes.len() == TREE_NODES_MAX {
                return Err(TreeError);
            }
            nodes.push(match present {
                0 => None,
                1 => Some(reader.node()?),
                _ => return Err(TreeError),
            });
        }
        let is_placed = |(index, node): (usize, &Option<Node<'_>>)| {
            node.is_none_or(|node| node.before[0] == if index.is_multiple_of(2) { LEAF } else { PARENT })
        };
        if !nodes.iter().enumerate().all(is_placed) {
            return Err(TreeError);
        }
        let leaves = nodes.len().div_ceil(2).next_power_of_two();
        Ok(Self { nodes, leaves, hashes: vec![None; 2 * leaves - 1] })
    }

    fn node(&self, index: usize) -> Option<&Node<'a>> {
        self.nodes.get(index).and_then(Option::as_ref)
    }

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for node in &self.nodes {
            let Some(node) = node else {
                out.push(0);
                continue;
            };
            out.push(1);
            out.extend_from_slice(node.before);
            node.write_hash(&mut out);
            out.extend_from_slice(node.after);
        }
        out
    }

    fn parent_of(&self, index: usize) -> Option<usize> {
        let bit = 1usize << (level(index) + 1);
        let parent = (index | (bit >> 1)) & !bit;
        (index != self.leaves - 1).then_some(parent)
    }

    /// The nearest parent above that is not blank, and its child on the other side.
    fn above(&self, index: usize) -> Option<(usize, usize)> {
        let (mut below, mut parent) = (index, self.parent_of(index)?);
        while self.node(parent).is_none() {
            (below, parent) = (parent, self.parent_of(parent)?);
        }
        let [left, right] = children(parent)?;
        Some((parent, if below == left { right } else { left }))
    }

    /// RFC 9420 section 7.8. Every derived hash beneath is computed first.
    fn tree_hash(&mut self, index: usize) -> Result<[u8; HASH_BYTES]> {
        if let Some(hash) = self.hashes[index] {
            return Ok(hash);
        }
        let below = match children(index) {
            None => None,
            Some([left, right]) => Some([self.tree_hash(left)?, self.tree_hash(right)?]),
        };
        self.resolve(index)?;
        let mut hasher = Sha256::new();
        if below.is_some() {
            hasher.update([PARENT]);
        } else {
            hasher.update([LEAF]);
            hasher.update(u32::try_from(index / 2).map_err(|_| TreeError)?.to_be_bytes());
        }
        hasher.update([u8::from(self.node(index).is_some())]);
        if let Some(node) = self.node(index) {
            let mut hash = Vec::with_capacity(1 + HASH_BYTES);
            node.write_hash(&mut hash);
            // The node's type stands outside of what is hashed.
            hasher.update(&node.before[1..]);
            hasher.update(hash);
            hasher.update(node.after);
        }
        for hash in below.iter().flatten() {
            hasher.update([HASH_BYTES as u8]);
            hasher.update(hash);
        }
        let hash = hasher.finalize().into();
        self.hashes[index] = Some(hash);
        Ok(hash)
    }

    /// The parent hash of whatever is beneath `parent` and beside `sibling`.
    fn parent_hash(&mut self, parent: usize, sibling: usize) -> Result<[u8; HASH_BYTES]> {
        self.resolve(parent)?;
        let beside = self.tree_hash(sibling)?;
        let node = self.node(parent).ok_or(TreeError)?;
        let mut hash = Vec::with_capacity(1 + HASH_BYTES);
        node.write_hash(&mut hash);
        let hasher = Sha256::new().chain_update(node.key).chain_update(hash);
        Ok(hasher.chain_update([HASH_BYTES as u8]).chain_update(beside).finalize().into())
    }

    /// Marks what a reader can compute.
    fn derive(&mut self) {
        if self.nodes.iter().flatten().any(|node| node.has_unmerged) {
            return;
        }
        let mut derived = Vec::new();
        let mut taken = vec![false; self.nodes.len()];
        // From the right, so that of two sides the left one keeps its bytes; with everything given, nothing can fail.
        for index in (0..self.nodes.len()).rev() {
            let Some(ParentHash::Given(given)) = self.node(index).map(|node| node.hash) else { continue };
            let Some((parent, sibling)) = self.above(index) else { continue };
            let fits = given.len() == 1 + HASH_BYTES && self.parent_hash(parent, sibling).is_ok_and(|hash| given[1..] == hash);
            if fits && !std::mem::replace(&mut taken[parent], true) {
                derived.push(index);
            }
        }
        for index in derived {
            if let Some(node) = &mut self.nodes[index] {
                node.hash = ParentHash::Derived;
            }
        }
    }

    /// Computes all that is derived. A parent from whose both sides something is derived would never end, and is refused.
    fn resolve_all(&mut self) -> Result<()> {
        let derived: Vec<usize> =
            (0..self.nodes.len()).filter(|index| self.node(*index).is_some_and(|node| node.hash == ParentHash::Derived)).collect();
        if derived.is_empty() {
            return Ok(());
        }
        if self.nodes.iter().flatten().any(|node| node.has_unmerged) {
            return Err(TreeError);
        }
        let mut sides: Vec<Option<usize>> = vec![None; self.nodes.len()];
        for index in &derived {
            let (parent, sibling) = self.above(*index).ok_or(TreeError)?;
            if *sides[parent].get_or_insert(sibling) != sibling {
                return Err(TreeError);
            }
        }
        derived.into_iter().try_for_each(|index| self.resolve(index))
    }

    fn resolve(&mut self, index: usize) -> Result<()> {
        if self.node(index).is_none_or(|node| node.hash != ParentHash::Derived) {
            return Ok(());
        }
        let (parent, sibling) = self.above(index).ok_or(TreeError)?;
        let hash = self.parent_hash(parent, sibling)?;
        if let Some(node) = &mut self.nodes[index] {
            node.hash = ParentHash::Computed(hash);
        }
        Ok(())
    }
}

impl Node<'_> {
    fn write_hash(&self, out: &mut Vec<u8>) {
        match &self.hash {
            ParentHash::Absent => {}
            ParentHash::Given(vector) => out.extend_from_slice(vector),
            ParentHash::Derived => out.push(DERIVED),
            ParentHash::Computed(hash) => {
                out.push(HASH_BYTES as u8);
                out.extend_from_slice(hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::to_hex;

    const SENDERS: [Pseudonym; 1] = [Pseudonym([7; 16])];

    fn vector(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_length(&mut out, bytes.len());
        out.extend_from_slice(bytes);
        out
    }

    /// From a commit, with its parent hash as it is to stand there.
    fn leaf(key: u8, hash: &[u8]) -> Vec<u8> {
        let credential = [&CREDENTIAL_BASIC, vector(&[7; 16]).as_slice()].concat();
        let capabilities = [vector(&[0, 1]), vector(&[0, 3]), vector(&[]), vector(&[]), vector(&[0, 1])].concat();
        let rest = [vector(&[]), vector(&[0xee; 64])].concat();
        [&[1, LEAF], vector(&[key; 32]).as_slice(), &vector(&[0xaa; 32]), &credential, &capabilities, &[3], hash, &rest].concat()
    }

    fn parent(key: u8, hash: &[u8], unmerged: &[u8]) -> Vec<u8> {
        [&[1, PARENT], vector(&[key; 32]).as_slice(), hash, &vector(unmerged)].concat()
    }

    fn tree(nodes: &[Vec<u8>]) -> Vec<u8> {
        vector(&nodes.concat())
    }

    fn packed(nodes: &[Vec<u8>]) -> Vec<u8> {
        deflate(&nodes.concat(), &dictionary(&SENDERS))
    }

    fn sha256(parts: &[&[u8]]) -> [u8; 32] {
        Sha256::digest(parts.concat()).into()
    }

    /// Two leaves, of which the right one came last: its parent hash by the letter of RFC 9420.
    fn two_leaves() -> [Vec<u8>; 3] {
        let left = leaf(1, &vector(&[0x55; 32]));
        // LeafNodeHashInput of section 7.8: type, index, optional<LeafNode>.
        let beside = sha256(&[&[1, 0, 0, 0, 0, 1], &left[2..]]);
        // ParentHashInput of section 7.9; the root has an empty parent hash of its own.
        let hash = sha256(&[&vector(&[3; 32]), &vector(&[]), &vector(&beside)]);
        [left, parent(3, &vector(&[]), &[]), leaf(2, &vector(&hash))]
    }

    #[test]
    fn what_follows_from_the_tree_is_left_out() {
        let whole = two_leaves();
        let short = shorten(&tree(&whole), &SENDERS).unwrap();
        let unpacked = inflate(&short, &dictionary(&SENDERS), TREE_BYTES_MAX).unwrap();
        let expected = [whole[0].clone(), whole[1].clone(), leaf(2, &[DERIVED])].concat();
        assert_eq!(to_hex(&unpacked), to_hex(&expected));
        assert_eq!(restore(&short, &SENDERS), Ok(tree(&whole)));
        assert_ne!(restore(&short, &[]), Ok(tree(&whole)), "the senders are its dictionary");
    }

    #[test]
    fn what_does_not_follow_is_kept() {
        let [left, root, right] = two_leaves();
        let strange = [left.clone(), root.clone(), leaf(2, &vector(&[9; 32]))];
        let unmerged = [left.clone(), parent(3, &vector(&[]), &[0, 0, 0, 0]), right];
        for nodes in [&strange[..], &unmerged[..], &[left][..], &[][..]] {
            let short = shorten(&tree(nodes), &SENDERS).unwrap();
            assert_eq!(inflate(&short, &dictionary(&SENDERS), TREE_BYTES_MAX), Ok(nodes.concat()));
            assert_eq!(restore(&short, &SENDERS), Ok(tree(nodes)));
        }
    }

    #[test]
    fn fault_16_what_cannot_be_computed_is_refused() {
        let both = [leaf(1, &[DERIVED]), parent(3, &vector(&[]), &[]), leaf(2, &[DERIVED])];
        let nothing_above = [leaf(1, &[DERIVED])];
        let root = [leaf(1, &vector(&[])), parent(3, &[DERIVED], &[]), leaf(2, &vector(&[]))];
        let unmerged = [leaf(1, &vector(&[])), parent(3, &vector(&[]), &[0, 0, 0, 0]), leaf(2, &[DERIVED])];
        let misplaced = [parent(3, &vector(&[]), &[]), leaf(1, &vector(&[]))];
        for nodes in [&both[..], &nothing_above[..], &root[..], &unmerged[..], &misplaced[..], &[vec![2]][..], &[vec![1]][..]] {
            assert_eq!(restore(&packed(nodes), &SENDERS), Err(TreeError));
        }
        assert_eq!(shorten(&tree(&both), &SENDERS), Err(TreeError), "no tree has that byte there");
        assert_eq!(shorten(&[tree(&two_leaves()), vec![0]].concat(), &SENDERS), Err(TreeError));
    }

    #[test]
    fn it_has_bounds() {
        let blanks = |nodes: usize| [leaf(1, &vector(&[])), vec![0; nodes - 1]];
        let short = shorten(&tree(&blanks(TREE_NODES_MAX)), &SENDERS).unwrap();
        assert_eq!(restore(&short, &SENDERS), Ok(tree(&blanks(TREE_NODES_MAX))));
        assert_eq!(shorten(&tree(&blanks(TREE_NODES_MAX + 1)), &SENDERS), Err(TreeError));
        assert_eq!(restore(&packed(&blanks(TREE_NODES_MAX + 1)), &SENDERS), Err(TreeError));
        // A leaf that fills a tree to its last byte, and one more.
        let filled = |more: usize| {
            let rest = TREE_BYTES_MAX - 4 - leaf(1, &vector(&[])).len() - 3;
            let mut leaf = leaf(1, &vector(&[]));
            let signature = vector(&[0xee; 64]).len();
            leaf.truncate(leaf.len() - signature);
            leaf.extend(vector(&vec![0xee; 64 + rest + 1 + more]));
            [leaf]
        };
        assert_eq!(tree(&filled(0)).len(), TREE_BYTES_MAX);
        let short = shorten(&tree(&filled(0)), &SENDERS).unwrap();
        assert_eq!(restore(&short, &SENDERS), Ok(tree(&filled(0))));
        assert_eq!(shorten(&tree(&filled(1)), &SENDERS), Err(TreeError));
        assert_eq!(restore(&packed(&filled(1)), &SENDERS), Err(TreeError));
    }
}
