//! The Merkle tree over the records of a segment, by RFC 6962: a proof for one record needs no other.
//!
//! One tree a segment and not one over the journal: it lives in memory only as long as its segment is written, a
//! proof needs one file, and what is freed takes no proof of what is left with it.

use ct_merkle::{InclusionProof, RootHash, mem_backed_tree::MemoryBackedTree};
use sha2::Sha256;

use super::format::Hash;

/// A tree that grows.
#[derive(Debug, Default)]
pub(super) struct Tree(MemoryBackedTree<Sha256, Hash>);

impl Tree {
    pub(super) fn push(&mut self, leaf: Hash) {
        self.0.push(leaf);
    }

    pub(super) fn head(&self) -> Hash {
        (*self.0.root().as_bytes()).into()
    }

    /// Hashes beside the way from a leaf to the head; none where there is no such leaf.
    pub(super) fn proof(&self, leaf: u64) -> Option<Vec<Hash>> {
        if leaf >= self.0.len() {
            return None;
        }
        let proof = self.0.prove_inclusion(usize::try_from(leaf).ok()?);
        Some(proof.as_bytes().as_chunks::<32>().0.to_vec())
    }
}

/// Whether a leaf stands at a place of a tree with so many.
pub(super) fn proves(head: &Hash, leaves: u64, leaf: &Hash, place: u64, path: &[Hash]) -> bool {
    // The library asserts what a forged proof may lack.
    if place >= leaves || leaves > u64::MAX / 4 {
        return false;
    }
    let Ok(proof) = InclusionProof::try_from_bytes(path.concat()) else { return false };
    RootHash::<Sha256>::new((*head).into(), leaves).verify_inclusion(leaf, place, &proof).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(text: &str) -> Hash {
        super::super::format::sha256(&[text.as_bytes()])
    }

    #[test]
    fn the_heads_are_those_of_rfc_6962() {
        // Of the RFC: the head of nothing is the hash of nothing; a leaf has a zero in front, a node a one.
        let mut tree = Tree::default();
        assert_eq!(tree.head(), hash(""));
        let sha = super::super::format::sha256;
        tree.push([1; 32]);
        assert_eq!(tree.head(), sha(&[&[0], &[1; 32]]));
        tree.push([2; 32]);
        let two = sha(&[&[1], &sha(&[&[0], &[1; 32]]), &sha(&[&[0], &[2; 32]])]);
        assert_eq!(tree.head(), two);
        tree.push([3; 32]);
        assert_eq!(tree.head(), sha(&[&[1], &two, &sha(&[&[0], &[3; 32]])]));
    }

    #[test]
    fn every_leaf_of_every_size_is_proved_and_nothing_else_is() {
        for size in 1..20_u64 {
            let mut tree = Tree::default();
            (0..size).for_each(|n| tree.push(hash(&n.to_string())));
            for place in 0..size {
                let (leaf, path) = (hash(&place.to_string()), tree.proof(place).unwrap());
                assert!(proves(&tree.head(), size, &leaf, place, &path));
                assert!(!proves(&tree.head(), size, &hash("x"), place, &path));
                assert!(!proves(&hash("x"), size, &leaf, place, &path));
                for (other, leaves) in [(place + 1, size), (place, size * 2), (u64::MAX, u64::MAX)] {
                    assert!(!proves(&tree.head(), leaves, &leaf, other, &path), "{place} of {size}");
                }
                let longer = [path.clone(), vec![[0; 32]]].concat();
                assert!(!proves(&tree.head(), size, &leaf, place, &longer));
                for at in 0..path.len() {
                    let mut bad = path.clone();
                    bad[at][3] ^= 4;
                    assert!(!proves(&tree.head(), size, &leaf, place, &bad));
                    assert!(!proves(&tree.head(), size, &leaf, place, &path[..at]));
                }
            }
            assert!(tree.proof(size).is_none());
        }
    }
}
