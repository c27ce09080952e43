//! `tokenizer.json`: what a model was trained with, its whole vocabulary written out; the same bytes every time.

use std::string::String;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AminoAcidTokenizer, KmerTokenizer, RnaTokenizer, SmilesTokenizer, Tokenizer, TokenizerError};

const KMER: &str = "locus-kmer-v1";
const RNA: &str = "locus-rna-kmer-v1";
const AMINO_ACID: &str = "locus-amino-acid-v1";
const SMILES: &str = "locus-smiles-v1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stride: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t_is_u: Option<bool>,
    vocab: Vec<String>,
}

impl Tokenizer {
    fn file(&self) -> File {
        let kmer = match self {
            Self::Dna(kmer) => Some(kmer),
            Self::Rna(rna) => Some(rna.kmers()),
            Self::AminoAcid(_) | Self::Smiles(_) => None,
        };
        let (format, t_is_u) = match self {
            Self::Dna(_) => (KMER, None),
            Self::Rna(rna) => (RNA, Some(rna.reads_t_as_u())),
            Self::AminoAcid(_) => (AMINO_ACID, None),
            Self::Smiles(_) => (SMILES, None),
        };
        File {
            format: format.to_owned(),
            k: kmer.map(KmerTokenizer::k),
            stride: kmer.map(KmerTokenizer::stride),
            t_is_u,
            vocab: self.vocab(),
        }
    }

    /// The tokenizer as `tokenizer.json`; the same bytes every time.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.file()).expect("strings and numbers serialise")
    }

    /// Reads `tokenizer.json` and checks that its vocabulary is the one this code would use.
    ///
    /// # Errors
    /// Not JSON of one of these formats, or another vocabulary.
    pub fn from_json(text: &str) -> Result<Self, TokenizerError> {
        let wrong = |reason| TokenizerError::File { reason };
        let file: File = serde_json::from_str(text)
            .map_err(|_| wrong("got something other than a tokenizer file of Locus"))?;
        let kmers = || match (file.k, file.stride) {
            (Some(k), Some(stride)) => KmerTokenizer::new(k, stride),
            _ => Err(wrong("got no k or no stride, expected both beside k-mers")),
        };
        let tokenizer = match file.format.as_str() {
            KMER => Self::Dna(kmers()?),
            RNA => Self::Rna(RnaTokenizer::new(kmers()?, file.t_is_u.unwrap_or(false))),
            AMINO_ACID => Self::AminoAcid(AminoAcidTokenizer),
            SMILES => Self::Smiles(SmilesTokenizer),
            _ => {
                return Err(wrong(
                    "got another format, expected locus-kmer-v1, locus-rna-kmer-v1, locus-amino-acid-v1 or locus-smiles-v1",
                ));
            }
        };
        let own = tokenizer.file();
        if file.vocab != own.vocab {
            return Err(wrong("got another vocabulary than the format and the order imply"));
        }
        if (file.k, file.stride, file.t_is_u) != (own.k, own.stride, own.t_is_u) {
            return Err(wrong("got keys that do not go with its format"));
        }
        Ok(tokenizer)
    }

    /// SHA-256 of `tokenizer.json`, in hex: two models with one fingerprint read sequences alike.
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.to_json().as_bytes()))
    }
}

impl KmerTokenizer {
    /// As [`Tokenizer::to_json`].
    pub fn to_json(&self) -> String {
        Tokenizer::Dna(*self).to_json()
    }

    /// As [`Tokenizer::from_json`], of DNA alone.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`], or the tokenizer of another alphabet.
    pub fn from_json(text: &str) -> Result<Self, TokenizerError> {
        match Tokenizer::from_json(text)? {
            Tokenizer::Dna(kmer) => Ok(kmer),
            _ => Err(TokenizerError::File { reason: "got another alphabet, expected locus-kmer-v1" }),
        }
    }

    /// As [`Tokenizer::fingerprint`].
    pub fn fingerprint(&self) -> String {
        Tokenizer::Dna(*self).fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Tokenizer> {
        let kmer = KmerTokenizer::new(3, 1).unwrap();
        vec![
            Tokenizer::Dna(kmer),
            Tokenizer::Rna(RnaTokenizer::new(kmer, false)),
            Tokenizer::Rna(RnaTokenizer::new(kmer, true)),
            Tokenizer::AminoAcid(AminoAcidTokenizer),
            Tokenizer::Smiles(SmilesTokenizer),
        ]
    }

    #[test]
    fn every_file_reads_back_and_every_fingerprint_is_its_own() {
        let mut fingerprints: Vec<String> = all().iter().map(Tokenizer::fingerprint).collect();
        for tokenizer in all() {
            assert_eq!(Tokenizer::from_json(&tokenizer.to_json()).unwrap(), tokenizer);
            assert_eq!(tokenizer.vocab().len(), tokenizer.vocab_size());
        }
        fingerprints.sort();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), all().len());
    }

    #[test]
    fn the_file_of_dna_kmers_stays_byte_for_byte() {
        let json = KmerTokenizer::new(3, 1).unwrap().to_json();
        let head = r#"{"format":"locus-kmer-v1","k":3,"stride":1,"vocab":["[PAD]","[UNK]","[CLS]","[SEP]","[MASK]","AAA","AAC","#;
        assert!(json.starts_with(head) && json.ends_with(r#""TTG","TTT"]}"#));
        assert_eq!(
            KmerTokenizer::new(3, 1).unwrap().fingerprint(),
            "f5446ebb54fc90203d61155717e1e5d8d9808f25e16b708db9be6a96204d1076"
        );
    }

    #[test]
    fn a_changed_vocabulary_or_a_key_too_many_is_refused() {
        let changed = |json: String, from: &str, to: &str| Tokenizer::from_json(&json.replacen(from, to, 1));
        for tokenizer in all() {
            assert!(changed(tokenizer.to_json(), "[MASK]", "[MISK]").is_err());
            assert!(changed(tokenizer.to_json(), "-v1", "-v2").is_err());
        }
        assert!(
            changed(Tokenizer::AminoAcid(AminoAcidTokenizer).to_json(), "\"vocab\"", "\"k\":3,\"vocab\"")
                .is_err()
        );
        assert!(KmerTokenizer::from_json(&Tokenizer::Smiles(SmilesTokenizer).to_json()).is_err());
    }
}
