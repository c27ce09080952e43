//! Records that say the same: letter for letter, on the other strand, or by nearly all of their k-mers.
//!
//! Two records are near duplicates by the containment of k-mers (Broder 1997): the share of the smaller one's k-mers
//! that the other one has. Candidates are found by a quarter of the k-mers, those of low hash (FracMinHash, Irber et
//! al. 2022), so that no record is compared with all others; the containment itself is then counted in full.

use std::{borrow::Cow, collections::HashMap};

use locus_genome::{Alphabet, dna, smiles::Molecule};

use super::scaffold;

/// A k-mer that is in more records than this is a repeat, and finds no further ones.
const MAX_POSTINGS: usize = 512;

/// What is the same for records that say the same: of DNA the strand that comes first, of molecules the graph, where
/// no stereo mark is written.
pub fn key(alphabet: Alphabet, sequence: &str) -> String {
    match alphabet {
        Alphabet::Dna => {
            let other = dna::reverse_complement(sequence.as_bytes());
            let other = String::from_utf8(other).unwrap_or_default();
            if sequence <= other.as_str() { sequence.to_owned() } else { other }
        }
        Alphabet::Smiles if !sequence.contains(['@', '/', '\\']) => Molecule::parse(sequence)
            .ok()
            .and_then(|m| scaffold::canonical(&m))
            .unwrap_or_else(|| sequence.to_owned()),
        Alphabet::Rna | Alphabet::AminoAcid | Alphabet::Smiles => sequence.to_owned(),
    }
}

/// Letters of a k-mer: long enough that two unrelated records hardly share one.
const fn k_of(alphabet: Alphabet) -> usize {
    match alphabet {
        Alphabet::Dna | Alphabet::Rna => 16,
        Alphabet::AminoAcid => 6,
        Alphabet::Smiles => usize::MAX,
    }
}

/// Mixes the bits of a number (splitmix64, Steele et al. 2014).
const fn mixed(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Hashes of the distinct k-mers, ascending; of DNA those of the strand that comes first. A k-mer with an ambiguous
/// base is none.
fn kmers(alphabet: Alphabet, sequence: &str) -> Vec<u64> {
    let k = k_of(alphabet);
    let code = |b: u8| match (alphabet, b) {
        (Alphabet::Dna | Alphabet::Rna, b'A') => Some(0),
        (Alphabet::Dna | Alphabet::Rna, b'C') => Some(1),
        (Alphabet::Dna | Alphabet::Rna, b'G') => Some(2),
        (Alphabet::Dna | Alphabet::Rna, b'T' | b'U') => Some(3),
        (Alphabet::Dna | Alphabet::Rna, _) => None,
        _ => Some(u64::from(b & 31)),
    };
    let bits = if alphabet == Alphabet::AminoAcid { 5 } else { 2 };
    let mask = if k == usize::MAX { return Vec::new() } else { (1_u64 << (bits * k)) - 1 };
    let (mut forward, mut reverse, mut run) = (0, 0, 0);
    let mut hashes = Vec::with_capacity(sequence.len());
    for b in sequence.bytes() {
        let Some(c) = code(b) else {
            run = 0;
            continue;
        };
        forward = (forward << bits | c) & mask;
        reverse = reverse >> 2 | (3 - c.min(3)) << (2 * (k - 1));
        run += 1;
        if run >= k {
            let one = if alphabet.is_double_stranded() { forward.min(reverse) } else { forward };
            hashes.push(mixed(one + 1));
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

fn sampled(kmers: &[u64]) -> &[u64] {
    &kmers[..kmers.partition_point(|&h| h < u64::MAX / 4)]
}

fn shared(a: &[u64], b: &[u64]) -> usize {
    let (mut i, mut j, mut n) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, n) = (i + 1, j + 1, n + 1),
        }
    }
    n
}

/// Records to look near duplicates up in.
#[derive(Debug)]
pub struct Index<'a> {
    alphabet: Alphabet,
    containment: f64,
    records: Vec<(Cow<'a, str>, usize)>,
    postings: HashMap<u64, Vec<u32>>,
}

impl<'a> Index<'a> {
    /// An empty index; `containment` is the least share that makes two records near duplicates.
    pub fn new(alphabet: Alphabet, containment: f64) -> Self {
        Self { alphabet, containment, records: Vec::new(), postings: HashMap::new() }
    }

    /// The first added record that is a near duplicate, by its number, with the containment.
    pub fn find(&self, sequence: &str) -> Option<(usize, f64)> {
        let own = kmers(self.alphabet, sequence);
        let low = sampled(&own);
        let mut hits: HashMap<u32, usize> = HashMap::new();
        for record in low.iter().filter_map(|h| self.postings.get(h)).flatten() {
            *hits.entry(*record).or_default() += 1;
        }
        let mut candidates: Vec<(u32, usize)> = hits.into_iter().collect();
        candidates.sort_unstable();
        candidates.into_iter().find_map(|(record, hits)| {
            let (other, other_low) = &self.records[record as usize];
            // Half of what is expected: the sample of a short record is small.
            if (hits as f64) < self.containment * low.len().min(*other_low) as f64 / 2.0 {
                return None;
            }
            let containment = contained(&own, &kmers(self.alphabet, other));
            (containment >= self.containment).then_some((record as usize, containment))
        })
    }

    /// Adds a record; its number is how many were added before.
    pub fn add(&mut self, sequence: impl Into<Cow<'a, str>>) {
        let sequence = sequence.into();
        let own = kmers(self.alphabet, &sequence);
        let number = self.records.len() as u32;
        self.records.push((sequence, sampled(&own).len()));
        for &hash in sampled(&own) {
            let postings = self.postings.entry(hash).or_default();
            if postings.len() < MAX_POSTINGS {
                postings.push(number);
            }
        }
    }
}

fn contained(a: &[u64], b: &[u64]) -> f64 {
    shared(a, b) as f64 / a.len().min(b.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn bases(rng: &mut ChaCha8Rng, n: usize) -> String {
        (0..n).map(|_| char::from(b"ACGT"[rng.random_range(0..4)])).collect()
    }

    #[test]
    fn both_strands_and_all_writings_of_a_molecule_have_one_key() {
        assert_eq!(key(Alphabet::Dna, "AACG"), key(Alphabet::Dna, "CGTT"));
        assert_ne!(key(Alphabet::Rna, "AACG"), key(Alphabet::Rna, "CGUU"));
        assert_eq!(key(Alphabet::Smiles, "OCC"), key(Alphabet::Smiles, "C(O)C"));
        assert_ne!(key(Alphabet::Smiles, "OCC"), key(Alphabet::Smiles, "COC"));
        assert_ne!(key(Alphabet::Smiles, "C[C@H](N)O"), key(Alphabet::Smiles, "C[C@@H](N)O"));
    }

    #[test]
    fn a_piece_a_turned_copy_and_a_mutated_copy_are_found_and_strangers_are_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let known: Vec<String> = (0..300).map(|_| bases(&mut rng, 400)).collect();
        let mut index = Index::new(Alphabet::Dna, 0.6);
        known.iter().for_each(|s| index.add(s));
        for (i, s) in known.iter().enumerate() {
            assert_eq!(index.find(&s[100..160]).unwrap(), (i, 1.0));
            let turned = String::from_utf8(dna::reverse_complement(s.as_bytes())).unwrap();
            assert_eq!(index.find(&turned).unwrap(), (i, 1.0));
            let mut mutated = s.clone().into_bytes();
            for at in [50, 150, 250] {
                mutated[at] = if mutated[at] == b'A' { b'C' } else { b'A' };
            }
            let (found, containment) = index.find(std::str::from_utf8(&mutated).unwrap()).unwrap();
            assert_eq!(found, i);
            assert!((containment - (385.0 - 48.0) / 385.0).abs() < 0.01, "{containment}");
            assert_eq!(index.find(&bases(&mut rng, 400)), None);
        }
    }

    #[test]
    fn half_of_a_record_is_no_near_duplicate_under_a_higher_bound() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (one, other) = (bases(&mut rng, 400), bases(&mut rng, 200));
        let mut index = Index::new(Alphabet::Dna, 0.8);
        index.add(&one);
        assert_eq!(index.find(&format!("{}{other}", &one[..200])), None);
    }

    #[test]
    fn containment_is_what_a_plain_count_gives() {
        let sets = |s: &str| -> std::collections::BTreeSet<String> {
            s.as_bytes().windows(6).map(|w| String::from_utf8_lossy(w).into_owned()).collect()
        };
        let (a, b) = ("MKTAYIAKQRQISFVKSHFSRQ", "AYIAKQRQISFVKSHFSRQLEERLG");
        let plain = sets(a).intersection(&sets(b)).count() as f64 / sets(a).len().min(sets(b).len()) as f64;
        let (a, b) = (kmers(Alphabet::AminoAcid, a), kmers(Alphabet::AminoAcid, b));
        assert_eq!(contained(&a, &b), plain);
    }

    #[test]
    fn what_has_no_whole_kmer_is_nobodys_duplicate() {
        let mut index = Index::new(Alphabet::Dna, 0.5);
        index.add("ACGT");
        index.add("NNNNNNNNNNNNNNNNNNNNNNNN");
        assert_eq!((index.find("ACGT"), index.find("NNNNNNNNNNNNNNNNNNNNNNNN")), (None, None));
    }
}
