//! Which records are good enough to learn from.

use locus_genome::{Alphabet, KmerTokenizer, Tokenizer, TokenizerError, dna, tokenizer};

use super::plan::FilterPlan;

/// Why a record is left out, as the report counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not of the alphabet.
    Unreadable(TokenizerError),
    /// Shorter or longer than wanted, or too little known.
    Poor(&'static str),
}

/// Reads sequences of one alphabet into the letters that are stored.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    tokenizer: Tokenizer,
}

impl Reader {
    /// `t_is_u`: T in RNA is read as U.
    pub fn new(alphabet: Alphabet, t_is_u: bool) -> Self {
        let kmers = KmerTokenizer::new(3, 1).expect("k = 3 and stride 1 may be");
        let tokenizer = match alphabet {
            Alphabet::Dna => Tokenizer::Dna(kmers),
            Alphabet::Rna => Tokenizer::Rna(tokenizer::RnaTokenizer::new(kmers, t_is_u)),
            Alphabet::AminoAcid => Tokenizer::AminoAcid(tokenizer::AminoAcidTokenizer),
            Alphabet::Smiles => Tokenizer::Smiles(tokenizer::SmilesTokenizer),
        };
        Self { tokenizer }
    }

    /// The stored form of a sequence and its length in bases, residues or tokens.
    ///
    /// # Errors
    /// [`Fault::Unreadable`], or U and T in one sequence.
    pub fn read(&self, sequence: &str) -> Result<(String, usize), Fault> {
        let ids = self.tokenizer.encode(sequence).map_err(Fault::Unreadable)?;
        let upper = sequence.to_ascii_uppercase();
        match self.tokenizer.alphabet() {
            Alphabet::Dna if upper.contains('U') && upper.contains('T') => Err(Fault::Poor("both U and T")),
            Alphabet::Dna => Ok((upper.replace('U', "T"), sequence.len())),
            Alphabet::Rna => Ok((upper.replace('T', "U"), sequence.len())),
            Alphabet::AminoAcid => Ok((upper, sequence.len())),
            Alphabet::Smiles => Ok((sequence.to_owned(), ids.len())),
        }
    }

    /// Whether a stored sequence is good enough.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self, plan: &FilterPlan, sequence: &str, length: usize) -> Result<(), Fault> {
        if length < plan.min_length {
            return Err(Fault::Poor("too short"));
        }
        if length > plan.max_length {
            return Err(Fault::Poor("too long"));
        }
        let (unknown, ambiguous) = uncertain(self.tokenizer.alphabet(), sequence);
        let share = |n: usize| n as f64 / length.max(1) as f64;
        if share(unknown) > plan.max_unknown {
            return Err(Fault::Poor("too many unknown letters"));
        }
        if share(ambiguous) > plan.max_ambiguous {
            return Err(Fault::Poor("too many ambiguous letters"));
        }
        Ok(())
    }
}

/// Letters of a stored sequence that say nothing (N, X), and those that say less than one base or residue.
pub fn uncertain(alphabet: Alphabet, sequence: &str) -> (usize, usize) {
    let count = |f: &dyn Fn(u8) -> bool| sequence.bytes().filter(|&b| f(b)).count();
    match alphabet {
        Alphabet::Dna | Alphabet::Rna => {
            (count(&|b| b == b'N'), count(&|b| b != b'N' && b != b'U' && !dna::is_base(b)))
        }
        Alphabet::AminoAcid => (count(&|b| b == b'X'), count(&|b| matches!(b, b'B' | b'Z' | b'J'))),
        Alphabet::Smiles => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_stored_as_the_alphabet_writes_them() {
        let read = |a, t, s: &str| Reader::new(a, t).read(s);
        assert_eq!(read(Alphabet::Dna, false, "acgu").unwrap(), ("ACGT".into(), 4));
        assert_eq!(read(Alphabet::Rna, true, "acgt").unwrap(), ("ACGU".into(), 4));
        assert_eq!(read(Alphabet::Smiles, false, "C[C@@H]").unwrap(), ("C[C@@H]".into(), 6));
        assert!(matches!(read(Alphabet::Rna, false, "ACGT"), Err(Fault::Unreadable(_))));
        assert_eq!(read(Alphabet::Dna, false, "ACGUT"), Err(Fault::Poor("both U and T")));
    }

    #[test]
    fn length_unknown_and_ambiguous_letters_are_bounded() {
        let plan = FilterPlan { min_length: 4, max_length: 10, max_unknown: 0.2, max_ambiguous: 0.2 };
        let check = |s: &str| Reader::new(Alphabet::Dna, false).check(&plan, s, s.len());
        assert_eq!(check("ACGTN"), Ok(()));
        for (sequence, reason) in [
            ("ACG", "too short"),
            ("ACGTACGTACG", "too long"),
            ("ACNN", "too many unknown letters"),
            ("ACRY", "too many ambiguous letters"),
        ] {
            assert_eq!(check(sequence), Err(Fault::Poor(reason)));
        }
        assert_eq!(uncertain(Alphabet::AminoAcid, "MXBZ*"), (1, 2));
    }
}
