//! Words of a Hugging Face tokenizer, and our own as one.

use std::{collections::HashMap, fs, path::Path};

use locus_genome::{
    KmerTokenizer,
    tokenizer::{
        AminoAcidTokenizer, CLS, MASK, PAD, RnaTokenizer, SEP, SPECIAL_TOKENS, SmilesTokenizer, Tokenizer,
        UNK,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Error, Result,
    error::io_at,
    files,
    stage::{read_json, write_json},
};

/// Our special tokens by id, each under BERT's name and RoBERTa's.
const SPECIALS: [[&str; 2]; SPECIAL_TOKENS as usize] =
    [["[PAD]", "<pad>"], ["[UNK]", "<unk>"], ["[CLS]", "<s>"], ["[SEP]", "</s>"], ["[MASK]", "<mask>"]];
/// Bases from one word to the next, in `tokenizer_config.json`: a vocabulary does not say it.
const STRIDE: &str = "kmer_stride";

#[derive(Deserialize)]
struct TokenizerFile {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, usize>,
}

#[derive(Deserialize)]
struct Added {
    id: usize,
    content: String,
}

/// Ids of the folder's words, from `tokenizer.json` or `vocab.txt`.
fn words(folder: &Path) -> Result<HashMap<String, usize>> {
    let (whole, lines) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
    if whole.exists() {
        let file: TokenizerFile = read_json(&whole)?;
        let mut words = file.model.vocab;
        words.extend(file.added_tokens.into_iter().map(|a| (a.content, a.id)));
        return Ok(words);
    }
    if lines.exists() {
        let text = fs::read_to_string(&lines).map_err(io_at(&lines))?;
        return Ok(text.lines().enumerate().map(|(id, word)| (word.trim_end().to_owned(), id)).collect());
    }
    Err(Error::Data {
        what: folder.display().to_string(),
        got: "no tokenizer.json and no vocab.txt".into(),
        expected: "one of them, to know which token each row of the embeddings is".into(),
    })
}

/// Every tokenizer that a folder may be read with, the ones with most words of their kind first.
fn candidates(stride: Option<usize>) -> Vec<Tokenizer> {
    let kmers = |k: usize| KmerTokenizer::new(k, stride.unwrap_or(1)).ok();
    let dna = (3..=6).rev().filter_map(kmers);
    let rna = (3..=6).rev().filter_map(kmers).map(|k| Tokenizer::Rna(RnaTokenizer::new(k, false)));
    let others = [Tokenizer::AminoAcid(AminoAcidTokenizer), Tokenizer::Smiles(SmilesTokenizer)];
    dna.map(Tokenizer::Dna).chain(rna).chain(others).collect()
}

/// The tokenizer whose words a folder has, and the folder's id of each of our ids.
///
/// # Errors
/// No vocabulary, one without the five specials and all words of one alphabet, or ids beyond `vocab_size`.
pub(super) fn read(folder: &Path, vocab_size: usize) -> Result<(Tokenizer, Vec<u32>)> {
    let words = words(folder)?;
    let wrong = |got: String| {
        Error::Data {
        what: format!("vocabulary of {}", folder.display()),
        got,
        expected: "[PAD], [UNK], [CLS], [SEP], [MASK] and every word of one alphabet (DNA or RNA k-mers with k = 3 to 6, amino acids, SMILES), each with a row in the embeddings".into(),
    }
    };
    let specials =
        SPECIALS.map(|names| names.into_iter().find(|n| words.contains_key(*n)).unwrap_or(names[0]));
    if let Some(lacks) = specials.iter().find(|n| !words.contains_key(**n)) {
        return Err(wrong(format!("no {lacks}")));
    }
    let config = folder.join("tokenizer_config.json");
    let stride = if config.exists() { read_json::<Value>(&config)?[STRIDE].as_u64() } else { None };
    let own_words = |t: &Tokenizer| t.vocab().split_off(SPECIAL_TOKENS as usize);
    let lacking = |t: &Tokenizer| own_words(t).into_iter().find(|w| !words.contains_key(w));
    let all = candidates(stride.and_then(|s| usize::try_from(s).ok()));
    let Some(tokenizer) = all.iter().find(|t| lacking(t).is_none()) else {
        let lacks = |t: &Tokenizer| Some(format!("no {:?} for {}", lacking(t)?, t.alphabet().as_str()));
        let reasons: Vec<String> = all.iter().filter_map(lacks).collect();
        return Err(wrong(format!("{} words, but {}", words.len(), reasons.join(", "))));
    };
    let names = specials.iter().map(|&s| s.to_owned()).chain(own_words(tokenizer));
    let id_of = |word: String| match words[&word] {
        id if id < vocab_size => Ok(id as u32),
        id => Err(wrong(format!("{word} with id {id} of {vocab_size}"))),
    };
    Ok((*tokenizer, names.map(id_of).collect::<Result<_>>()?))
}

/// Writes `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`. The text for it is our words with blanks between
/// them, as that of DNABERT and ProtBERT: no part of a Hugging Face tokenizer cuts overlapping words, or knows where
/// a bracket atom stands.
pub(super) fn write(folder: &Path, tokenizer: &Tokenizer, max_tokens: usize) -> Result<()> {
    let words = tokenizer.vocab();
    files::write_atomically(&folder.join("vocab.txt"), (words.join("\n") + "\n").as_bytes())?;
    let name = |id: u32| words[id as usize].clone();
    let added: Vec<Value> = (0..SPECIAL_TOKENS)
        .map(|id| {
            json!({ "id": id, "content": name(id), "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true })
        })
        .collect();
    let special = |id: u32| json!({ "SpecialToken": { "id": name(id), "type_id": 0 } });
    let sequence = |id: &str| json!({ "Sequence": { "id": id, "type_id": 0 } });
    let known = |id: u32| json!({ "id": name(id), "ids": [id], "tokens": [name(id)] });
    let vocab: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| (word.clone(), id.into())).collect();
    let file = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(CLS), sequence("A"), special(SEP)],
            "pair": [special(CLS), sequence("A"), special(SEP), sequence("B"), special(SEP)],
            "special_tokens": { name(CLS): known(CLS), name(SEP): known(SEP) },
        },
        "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": name(UNK) },
    });
    write_json(&folder.join("tokenizer.json"), &file)?;
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": false,
        "pad_token": name(PAD),
        "unk_token": name(UNK),
        "cls_token": name(CLS),
        "sep_token": name(SEP),
        "mask_token": name(MASK),
    });
    if let Tokenizer::Dna(kmers) = tokenizer {
        config[STRIDE] = kmers.stride().into();
    } else if let Tokenizer::Rna(rna) = tokenizer {
        config[STRIDE] = rna.kmers().stride().into();
    }
    write_json(&folder.join("tokenizer_config.json"), &config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_vocabulary_reads_back_from_either_file() {
        let folder = tempfile::tempdir().unwrap();
        let kmers = |k, stride| KmerTokenizer::new(k, stride).unwrap();
        for tokenizer in [
            Tokenizer::Dna(kmers(3, 1)),
            Tokenizer::Dna(kmers(4, 4)),
            Tokenizer::Rna(RnaTokenizer::new(kmers(3, 1), false)),
            Tokenizer::AminoAcid(AminoAcidTokenizer),
            Tokenizer::Smiles(SmilesTokenizer),
        ] {
            write(folder.path(), &tokenizer, 64).unwrap();
            let ids: Vec<u32> = (0..tokenizer.vocab_size() as u32).collect();
            assert_eq!(read(folder.path(), ids.len()).unwrap(), (tokenizer, ids.clone()));
            fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
            assert_eq!(read(folder.path(), ids.len()).unwrap(), (tokenizer, ids));
        }
    }

    #[test]
    fn words_in_another_order_are_found_and_other_vocabularies_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut words = Tokenizer::Dna(KmerTokenizer::new(3, 1).unwrap()).vocab();
        words.reverse();
        words.push("[unused1]".into());
        let write = |words: &[String]| fs::write(folder.path().join("vocab.txt"), words.join("\n")).unwrap();
        write(&words);
        let (_, ids) = read(folder.path(), 70).unwrap();
        assert_eq!((ids[0], ids[5], ids[68]), (68, 63, 0));
        let refused = || read(folder.path(), 70).unwrap_err().to_string();
        assert!(read(folder.path(), 60).unwrap_err().to_string().contains("of 60"));
        words.remove(0);
        write(&words);
        assert!(refused().contains("no \"TTT\" for dna"), "{}", refused());
        write(&["[PAD]".into(), "the".into()]);
        assert!(refused().contains("no [UNK]"), "{}", refused());
        fs::remove_file(folder.path().join("vocab.txt")).unwrap();
        assert!(refused().contains("no vocab.txt"), "{}", refused());
    }
}
