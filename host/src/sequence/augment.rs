//! What training changes in a sequence at random, so that a model does not rely on it.

use std::borrow::Cow;

use locus_genome::{Alphabet, codon, dna};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Shares of the records that are changed, of an epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceAugmentation {
    /// Read on the other strand; DNA only.
    pub reverse_complement: f64,
    /// With a small insertion or deletion; DNA and RNA.
    pub indel: f64,
    /// Most letters of it.
    pub max_indel: usize,
    /// With each codon replaced by any of its synonyms; records of [`Self::cds_class`] only.
    pub synonymous: f64,
    /// The class whose records are coding sequences from their first base on.
    pub cds_class: Option<String>,
}

impl SequenceAugmentation {
    /// The sequence as one epoch shows it. What cannot be changed stays as it is.
    pub fn of<'a>(
        &self,
        alphabet: Alphabet,
        sequence: &'a str,
        class: &str,
        rng: &mut impl Rng,
    ) -> Cow<'a, str> {
        let mut seen = Cow::Borrowed(sequence);
        let nucleic = matches!(alphabet, Alphabet::Dna | Alphabet::Rna);
        // Drawn first, whatever comes of them, so that a class does not change what the next record gets.
        let [synonymous, indel, turned] =
            [self.synonymous, self.indel, self.reverse_complement].map(|share| rng.random_bool(share));
        if synonymous && nucleic && self.cds_class.as_deref() == Some(class) {
            seen = Cow::Owned(synonymous_codons(&seen, rng));
        }
        if indel && nucleic {
            seen = Cow::Owned(small_indel(alphabet, &seen, self.max_indel, rng));
        }
        if turned && alphabet.is_double_stranded() {
            seen = Cow::Owned(reverse_complement(&seen));
        }
        seen
    }
}

/// The other strand, read in its own sense.
pub fn reverse_complement(sequence: &str) -> String {
    dna::reverse_complement(sequence.as_bytes()).into_iter().map(char::from).collect()
}

/// An insertion of random bases or a deletion, of 1 to `most` letters, anywhere; one letter at least stays.
pub fn small_indel(alphabet: Alphabet, sequence: &str, most: usize, rng: &mut impl Rng) -> String {
    let letters = if alphabet == Alphabet::Rna { b"ACGU" } else { b"ACGT" };
    let mut bases = sequence.as_bytes().to_vec();
    let insertion = rng.random_bool(0.5);
    let most = if insertion { most } else { most.min(bases.len().saturating_sub(1)) };
    if most > 0 {
        let size = rng.random_range(1..=most);
        if insertion {
            let at = rng.random_range(0..=bases.len());
            let new: Vec<u8> = (0..size).map(|_| letters[rng.random_range(0..4)]).collect();
            bases.splice(at..at, new);
        } else {
            let at = rng.random_range(0..=bases.len() - size);
            bases.drain(at..at + size);
        }
    }
    bases.into_iter().map(char::from).collect()
}

/// A coding sequence of the same protein: every whole codon from the first base on is replaced by any codon of the
/// same amino acid, itself included, each as likely. A codon with an ambiguous base stays.
pub fn synonymous_codons(cds: &str, rng: &mut impl Rng) -> String {
    let rna = cds.contains('U');
    let plain = if rna { Cow::Owned(cds.replace('U', "T")) } else { Cow::Borrowed(cds) };
    let mut bases = plain.as_bytes().to_vec();
    for codon in bases.chunks_exact_mut(3) {
        let Some(amino) = codon::translate([codon[0], codon[1], codon[2]]) else { continue };
        let all = (0..64_usize).map(|i| [b"ACGT"[i / 16], b"ACGT"[i / 4 % 4], b"ACGT"[i % 4]]);
        let same: Vec<[u8; 3]> = all.filter(|&c| codon::translate(c) == Some(amino)).collect();
        codon.copy_from_slice(&same[rng.random_range(0..same.len())]);
    }
    bases.into_iter().map(|b| char::from(if rna && b == b'T' { b'U' } else { b })).collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn bases(rng: &mut ChaCha8Rng, n: usize) -> String {
        (0..n).map(|_| char::from(b"ACGTN"[rng.random_range(0..5)])).collect()
    }

    fn protein(cds: &str) -> Vec<Option<u8>> {
        cds.replace('U', "T")
            .as_bytes()
            .chunks_exact(3)
            .map(|c| codon::translate([c[0], c[1], c[2]]))
            .collect()
    }

    #[test]
    fn the_other_strand_of_the_other_strand_is_the_sequence() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for n in 0..50 {
            let sequence = bases(&mut rng, n);
            assert_eq!(reverse_complement(&reverse_complement(&sequence)), sequence);
        }
        assert_eq!(reverse_complement("AACGN"), "NCGTT");
    }

    #[test]
    fn an_indel_is_as_small_as_asked_and_leaves_the_rest() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (mut longer, mut shorter) = (0, 0);
        for n in (1..40).cycle().take(400) {
            let sequence = bases(&mut rng, n);
            let changed = small_indel(Alphabet::Dna, &sequence, 3, &mut rng);
            assert!(!changed.is_empty() && changed.len().abs_diff(n) <= 3);
            longer += usize::from(changed.len() > n);
            shorter += usize::from(changed.len() < n);
            let (a, b) = (sequence.as_bytes(), changed.as_bytes());
            let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
            let back = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
            assert!(front + back >= a.len().min(b.len()), "one stretch differs");
        }
        assert!(longer > 100 && shorter > 100, "{longer} {shorter}");
        assert_eq!(small_indel(Alphabet::Dna, "ACGT", 0, &mut rng), "ACGT");
    }

    #[test]
    fn synonyms_leave_the_protein_and_the_length() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut changed = 0;
        for n in 0..60 {
            let cds = bases(&mut rng, n);
            let other = synonymous_codons(&cds, &mut rng);
            assert_eq!((protein(&other), other.len()), (protein(&cds), cds.len()));
            assert_eq!(other[n - n % 3..], cds[n - n % 3..], "a codon that is not whole stays");
            changed += usize::from(other != cds);
        }
        assert!(changed > 40, "{changed}");
        assert_eq!(synonymous_codons("AUGUGG", &mut rng), "AUGUGG");
        assert!(!synonymous_codons("CUUCUUCUUCUU", &mut rng).contains('T'));
    }

    #[test]
    fn changes_come_in_their_shares_and_only_where_they_belong() {
        let augmentation = SequenceAugmentation {
            reverse_complement: 0.5,
            synonymous: 1.0,
            cds_class: Some("coding".into()),
            ..SequenceAugmentation::default()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut of = |alphabet, class: &str| -> Vec<String> {
            (0..400).map(|_| augmentation.of(alphabet, "ATGCTTTCC", class, &mut rng).into_owned()).collect()
        };
        let plain = of(Alphabet::Dna, "noncoding");
        let kept = plain.iter().filter(|s| *s == "ATGCTTTCC").count();
        assert!((150..250).contains(&kept) && plain.iter().all(|s| s == "ATGCTTTCC" || s == "GGAAAGCAT"));
        let coding = of(Alphabet::Dna, "coding");
        assert!(coding.iter().filter(|s| s.starts_with("ATG")).all(|s| protein(s) == protein("ATGCTTTCC")));
        assert!(coding.iter().collect::<std::collections::BTreeSet<_>>().len() > 30);
        assert!(of(Alphabet::AminoAcid, "coding").iter().all(|s| s == "ATGCTTTCC"));
        assert_eq!(SequenceAugmentation::default().of(Alphabet::Dna, "ACGT", "", &mut rng), "ACGT");
    }
}
