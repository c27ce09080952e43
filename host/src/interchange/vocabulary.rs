//! Words of a Hugging Face tokenizer, and our own k-mers as one.

use std::{collections::HashMap, fs, path::Path};

use locus_genome::{
    KmerTokenizer,
    tokenizer::{CLS, MASK, PAD, SEP, SPECIAL_TOKENS, UNK},
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

/// The k-mer tokenizer whose words a folder has, and the folder's id of each of our ids.
///
/// # Errors
/// No vocabulary, one without all k-mers over ACGT and the five specials, or ids beyond `vocab_size`.
pub(super) fn read(folder: &Path, vocab_size: usize) -> Result<(KmerTokenizer, Vec<u32>)> {
    let words = words(folder)?;
    let wrong = |got: String| {
        Error::Data {
        what: format!("vocabulary of {}", folder.display()),
        got,
        expected: "[PAD], [UNK], [CLS], [SEP], [MASK] and all words of 3 to 6 bases over ACGT, each with a row in the embeddings".into(),
    }
    };
    let id_of = |word: &str| match words.get(word) {
        Some(&id) if id < vocab_size => Ok(id as u32),
        Some(id) => Err(wrong(format!("{word} with id {id} of {vocab_size}"))),
        None => Err(wrong(format!("no {word}"))),
    };
    let is_kmer = |w: &&String| !w.is_empty() && w.bytes().all(|b| b"ACGT".contains(&b));
    let k = words.keys().filter(is_kmer).map(String::len).max().ok_or_else(|| wrong("no k-mer".into()))?;
    let config = folder.join("tokenizer_config.json");
    let stated = if config.exists() { read_json::<Value>(&config)?[STRIDE].as_u64() } else { None };
    let tokenizer = KmerTokenizer::new(k, stated.unwrap_or(1) as usize)?;
    let special =
        |names: &[&str; 2]| id_of(names.iter().find(|n| words.contains_key(**n)).unwrap_or(&names[0]));
    let mut ids: Vec<u32> = SPECIALS.iter().map(special).collect::<Result<_>>()?;
    for id in SPECIAL_TOKENS..tokenizer.vocab_size() as u32 {
        ids.push(id_of(&word(&tokenizer, id))?);
    }
    Ok((tokenizer, ids))
}

fn word(tokenizer: &KmerTokenizer, id: u32) -> String {
    match SPECIALS.get(id as usize) {
        Some(names) => names[0].to_owned(),
        None => tokenizer.decode(id).unwrap_or_default().into_iter().map(char::from).collect(),
    }
}

/// Writes `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`. The text for it is k-mers with blanks between
/// them, as DNABERT's: no part of a Hugging Face tokenizer cuts overlapping words.
pub(super) fn write(folder: &Path, tokenizer: &KmerTokenizer, max_tokens: usize) -> Result<()> {
    let words: Vec<String> = (0..tokenizer.vocab_size() as u32).map(|id| word(tokenizer, id)).collect();
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
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_tokens,
        "clean_up_tokenization_spaces": false,
        "pad_token": name(PAD),
        "unk_token": name(UNK),
        "cls_token": name(CLS),
        "sep_token": name(SEP),
        "mask_token": name(MASK),
        STRIDE: tokenizer.stride(),
    });
    write_json(&folder.join("tokenizer_config.json"), &config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_vocabulary_reads_back_from_either_file() {
        let folder = tempfile::tempdir().unwrap();
        for (k, stride) in [(3, 1), (4, 4)] {
            let tokenizer = KmerTokenizer::new(k, stride).unwrap();
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
        let tokenizer = KmerTokenizer::new(3, 1).unwrap();
        let mut words: Vec<String> = (0..69).map(|id| word(&tokenizer, id)).collect();
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
        assert!(refused().contains("no TTT"), "{}", refused());
        write(&["[PAD]".into(), "the".into()]);
        assert!(refused().contains("no k-mer"), "{}", refused());
        fs::remove_file(folder.path().join("vocab.txt")).unwrap();
        assert!(refused().contains("no vocab.txt"), "{}", refused());
    }
}
