//! What training changes in a sequence at random, so that a model does not rely on it.

use std::borrow::Cow;

use locus_genome::{Alphabet, codon, dna};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::{
    SequenceSet, Target,
    plan::{SetPlan, TargetKind},
};
use crate::{Error, Result, data::Split};

/// Share of the training records of a coding class that must read as whole open frames.
const IN_FRAME: f64 = 0.9;

/// `[finetune.augment]`: shares of the records that are changed, drawn anew in every epoch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequenceAugmentation {
    /// Of which a random part is shown; DNA and RNA.
    pub crop_share: f64,
    /// Shortest such part, as a share of the record.
    pub crop_least: f64,
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
    /// Refuses changes that the alphabet or the target has no sense of, and keys that would change nothing.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the key.
    pub fn check(&self, data: &SetPlan) -> Result<()> {
        let wrong = |key: &str, got: String, expected: &str| {
            let key = format!("finetune.augment.{key}");
            Err(Error::Recipe { key, got, expected: expected.into() })
        };
        let shares = [
            ("crop_share", self.crop_share),
            ("crop_least", self.crop_least),
            ("reverse_complement", self.reverse_complement),
            ("indel", self.indel),
            ("synonymous", self.synonymous),
        ];
        if let Some((key, share)) = shares.into_iter().find(|(_, s)| !(0.0..=1.0).contains(s)) {
            return wrong(key, share.to_string(), "a share from 0 to 1");
        }
        let nucleic = matches!(data.alphabet, Alphabet::Dna | Alphabet::Rna);
        let of = |share: f64| format!("{share} of {} records", data.alphabet.as_str());
        for (key, share) in [("crop_share", self.crop_share), ("indel", self.indel)] {
            if share > 0.0 && !nucleic {
                return wrong(key, of(share), "0 outside DNA and RNA");
            }
        }
        if self.reverse_complement > 0.0 && !data.alphabet.is_double_stranded() {
            return wrong(
                "reverse_complement",
                of(self.reverse_complement),
                "0 outside DNA: only it has another strand",
            );
        }
        if (self.indel > 0.0) != (self.max_indel > 0) {
            let got = format!("{} beside a share indel of {}", self.max_indel, self.indel);
            return wrong("max_indel", got, "1 letter or more where indel is above 0, else none");
        }
        if self.synonymous > 0.0 && (!nucleic || data.target.kind != TargetKind::Class) {
            return wrong(
                "synonymous",
                of(self.synonymous),
                "0 outside classes of DNA and RNA: it needs codons in a known frame",
            );
        }
        match &self.cds_class {
            None if self.synonymous > 0.0 => wrong(
                "cds_class",
                "none".into(),
                "the class whose records are coding sequences from their first base on, for synonymous",
            ),
            Some(class) if self.synonymous == 0.0 => {
                wrong("cds_class", format!("{class:?}"), "none where synonymous is 0")
            }
            Some(class) if !data.target.classes.is_empty() && !data.target.classes.contains(class) => {
                wrong("cds_class", format!("{class:?}"), "one of data.target.classes")
            }
            _ => Ok(()),
        }
    }

    /// Refuses synonymous codons of a class whose training records are not whole coding sequences: of fragments in an
    /// unknown frame they would be other proteins.
    ///
    /// # Errors
    /// [`Error::Data`] with how many records are in frame.
    pub fn check_frame(&self, set: &SequenceSet) -> Result<()> {
        let Some(class) = self.cds_class.as_deref().filter(|_| self.synonymous > 0.0) else { return Ok(()) };
        let index = set.classes.iter().position(|c| c == class);
        let of_class =
            |&i: &usize| matches!(set.records[i].target, Target::Class(c) if Some(usize::from(c)) == index);
        let (mut all, mut whole) = (0_usize, 0_usize);
        for i in set.of_split(Split::Train).into_iter().filter(of_class) {
            all += 1;
            whole += usize::from(is_open_frame(&set.sequence(i)?));
        }
        if all == 0 || (whole as f64) < IN_FRAME * all as f64 {
            return Err(Error::Data {
                what: format!("finetune.augment.synonymous of the class {class:?}"),
                got: format!(
                    "{whole} of {all} training records with whole codons from the first base on and no stop before the \
                     last"
                ),
                expected: format!(
                    "{:.0} % or more; leave synonymous out where records are fragments",
                    100.0 * IN_FRAME
                ),
            });
        }
        Ok(())
    }

    /// The sequence as one epoch shows it: synonymous codons, then an indel, then the other strand, then a part of it.
    /// What cannot be changed stays as it is. Without a share of a kind nothing is drawn for it.
    pub fn of<'a>(
        &self,
        alphabet: Alphabet,
        sequence: &'a str,
        class: Option<&str>,
        rng: &mut impl Rng,
    ) -> Cow<'a, str> {
        let mut seen = Cow::Borrowed(sequence);
        let nucleic = matches!(alphabet, Alphabet::Dna | Alphabet::Rna);
        if self.synonymous + self.indel + self.reverse_complement > 0.0 {
            // Drawn first, whatever comes of them, so that a class does not change what the next record gets.
            let [synonymous, indel, turned] =
                [self.synonymous, self.indel, self.reverse_complement].map(|share| rng.random_bool(share));
            if synonymous && nucleic && class.is_some() && self.cds_class.as_deref() == class {
                seen = Cow::Owned(synonymous_codons(&seen, rng));
            }
            if indel && nucleic {
                seen = Cow::Owned(small_indel(alphabet, &seen, self.max_indel, rng));
            }
            if turned && alphabet.is_double_stranded() {
                seen = Cow::Owned(reverse_complement(&seen));
            }
        }
        if self.crop_share == 0.0 || !nucleic || seen.len() < 2 || !rng.random_bool(self.crop_share) {
            return seen;
        }
        let n = seen.len();
        let least = ((n as f64 * self.crop_least) as usize).clamp(1, n);
        let length = rng.random_range(least..=n);
        let from = rng.random_range(0..=n - length);
        match seen {
            Cow::Borrowed(text) => Cow::Borrowed(&text[from..from + length]),
            Cow::Owned(text) => Cow::Owned(text[from..from + length].to_owned()),
        }
    }
}

/// Whether a sequence is whole codons from its first base on, with no stop before the last.
pub fn is_open_frame(cds: &str) -> bool {
    let plain = cds.replace('U', "T");
    let codons = plain.as_bytes().chunks_exact(3);
    let whole = !cds.is_empty() && codons.remainder().is_empty();
    let inner = codons.len().saturating_sub(1);
    whole && codons.take(inner).all(|c| codon::translate([c[0], c[1], c[2]]) != Some(b'*'))
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
        let mut of = |alphabet, class: Option<&str>| -> Vec<String> {
            (0..400).map(|_| augmentation.of(alphabet, "ATGCTTTCC", class, &mut rng).into_owned()).collect()
        };
        for plain in [of(Alphabet::Dna, Some("noncoding")), of(Alphabet::Dna, None)] {
            let kept = plain.iter().filter(|s| *s == "ATGCTTTCC").count();
            assert!((150..250).contains(&kept) && plain.iter().all(|s| s == "ATGCTTTCC" || s == "GGAAAGCAT"));
        }
        let coding = of(Alphabet::Dna, Some("coding"));
        assert!(coding.iter().filter(|s| s.starts_with("ATG")).all(|s| protein(s) == protein("ATGCTTTCC")));
        assert!(coding.iter().collect::<std::collections::BTreeSet<_>>().len() > 30);
        assert!(of(Alphabet::AminoAcid, Some("coding")).iter().all(|s| s == "ATGCTTTCC"));
        assert_eq!(SequenceAugmentation::default().of(Alphabet::Dna, "ACGT", None, &mut rng), "ACGT");
    }

    #[test]
    fn a_part_is_of_the_record_and_long_enough() {
        let augmentation =
            SequenceAugmentation { crop_share: 1.0, crop_least: 0.5, ..SequenceAugmentation::default() };
        let sequence = "ACGTTGCAAGCTTAGGCCAT";
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let parts: Vec<_> =
            (0..200).map(|_| augmentation.of(Alphabet::Dna, sequence, None, &mut rng)).collect();
        assert!(parts.iter().all(|p| sequence.contains(p.as_ref())));
        let lengths: std::collections::BTreeSet<usize> = parts.iter().map(|p| p.len()).collect();
        assert_eq!((lengths.first(), lengths.last()), (Some(&10), Some(&20)));
    }

    proptest::proptest! {
        #[test]
        fn every_change_keeps_what_it_promises(
            sequence in "[ACGTN]{1,60}", seed: u64, most in 1..6_usize, crop in 0.0..=1.0_f64
        ) {
            let turned = SequenceAugmentation { reverse_complement: 1.0, ..Default::default() };
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let once = turned.of(Alphabet::Dna, &sequence, None, &mut rng).into_owned();
            proptest::prop_assert_eq!(turned.of(Alphabet::Dna, &once, None, &mut rng), sequence.as_str());
            let indel = SequenceAugmentation { indel: 1.0, max_indel: most, ..Default::default() };
            let changed = indel.of(Alphabet::Dna, &sequence, None, &mut rng);
            let difference = changed.len().abs_diff(sequence.len());
            proptest::prop_assert!(!changed.is_empty() && difference <= most);
            let synonyms = SequenceAugmentation {
                synonymous: 1.0,
                cds_class: Some("c".into()),
                ..Default::default()
            };
            let other = synonyms.of(Alphabet::Dna, &sequence, Some("c"), &mut rng);
            proptest::prop_assert_eq!(protein(&other), protein(&sequence));
            proptest::prop_assert_eq!(is_open_frame(&other), is_open_frame(&sequence));
            let part = SequenceAugmentation { crop_share: 1.0, crop_least: crop, ..Default::default() };
            let seen = part.of(Alphabet::Dna, &sequence, None, &mut rng);
            proptest::prop_assert!(sequence.contains(seen.as_ref()));
            proptest::prop_assert!(seen.len() + 1 > (crop * sequence.len() as f64) as usize);
            // The same draw again is the same sequence: an epoch can be gone on with.
            let all = SequenceAugmentation {
                crop_share: 0.5, crop_least: crop, reverse_complement: 0.5, indel: 0.5, max_indel: most,
                synonymous: 0.5, cds_class: Some("c".into()),
            };
            let draw = || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                all.of(Alphabet::Dna, &sequence, Some("c"), &mut rng).into_owned()
            };
            proptest::prop_assert_eq!(draw(), draw());
        }
    }

    fn refused(alphabet: &str, kind: &str, keys: &str) -> String {
        let plan: SetPlan = toml::from_str(&format!(
            "root = \".\"\nalphabet = \"{alphabet}\"\nfiles = [{{ path = \"a.fa\" }}]\n\
             target = {{ field = \"y\", kind = \"{kind}\" }}"
        ))
        .unwrap();
        let augmentation: SequenceAugmentation = toml::from_str(keys).unwrap();
        augmentation.check(&plan).map_or_else(|e| e.to_string(), |()| "good".into())
    }

    #[test]
    fn changes_that_make_no_sense_are_refused_by_their_key() {
        let coding = "synonymous = 0.5\ncds_class = \"c\"";
        for (alphabet, kind, keys, expected) in [
            ("dna", "class", "reverse_complement = 0.5", "good"),
            ("dna", "class", coding, "good"),
            ("rna", "value", "indel = 0.1\nmax_indel = 2", "good"),
            ("rna", "class", "reverse_complement = 0.5", "augment.reverse_complement"),
            ("amino_acid", "class", "reverse_complement = 0.5", "augment.reverse_complement"),
            ("smiles", "class", "indel = 0.1\nmax_indel = 1", "augment.indel"),
            ("amino_acid", "class", "crop_share = 0.1", "augment.crop_share"),
            ("dna", "class", "indel = 1.5\nmax_indel = 1", "augment.indel"),
            ("dna", "class", "indel = 0.5", "augment.max_indel"),
            ("dna", "class", "max_indel = 3", "augment.max_indel"),
            ("dna", "class", "synonymous = 0.5", "augment.cds_class"),
            ("dna", "class", "cds_class = \"c\"", "augment.cds_class"),
            ("dna", "value", coding, "augment.synonymous"),
            ("amino_acid", "class", coding, "augment.synonymous"),
        ] {
            let got = refused(alphabet, kind, keys);
            assert!(got.contains(expected), "{alphabet} {kind} {keys}: {got}");
        }
    }
}
