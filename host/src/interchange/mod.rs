//! Hugging Face folders: `config.json`, `model.safetensors`, `tokenizer.json` or `vocab.txt`, read and written.
//!
//! What comes in is BERT or RoBERTa-PreLayerNorm over one of our alphabets, its words in any order; what goes out is the
//! encoder with its masked-token head. A head of another task has no counterpart on the other side.

mod architecture;
mod hub_config;
mod vocabulary;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use candle_core::{DType, Device, Tensor, safetensors::Load};
use locus_genome::{tokenizer::Tokenizer, window::TRACK_CODES};
use safetensors::SafeTensors;

use self::{architecture::Architecture, hub_config::HubConfig};
use crate::{
    Error, Result,
    error::io_at,
    files,
    model::{ModelConfig, Params},
    stage::write_json,
};

const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const POSITIONS: &str = "bert.embeddings.position_embeddings.weight";
const TRACKS: &str = "bert.embeddings.token_type_embeddings.weight";
const WORD_BIAS: &str = "cls.predictions.bias";
const DECODER: &str = "cls.predictions.decoder.weight";
const WEIGHTS: &str = "model.safetensors";

/// What was read from a folder, or written to one.
#[derive(Debug)]
pub struct Transfer {
    /// Its configuration on our side.
    pub config: ModelConfig,
    /// Its words.
    pub tokenizer: Tokenizer,
    /// Tensors by our names: those of the encoder, and of the masked-token head where there is one.
    pub tensors: BTreeMap<String, Tensor>,
    /// Tensors that have no counterpart on the other side.
    pub left_out: Vec<String>,
}

/// A safetensors file of a folder, its tensors under today's names.
struct Source<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
    /// Name in the file by name.
    names: BTreeMap<String, String>,
    architecture: Architecture,
    /// Whether its names say the architecture's name first.
    prefixed: bool,
}

impl<'a> Source<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8], architecture: Architecture) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| Error::Data {
            what: path.display().to_string(),
            got: format!("a file that is cut or damaged ({error})"),
            expected: "a whole safetensors file".into(),
        })?;
        // Names of before 2019, as in converted TensorFlow checkpoints.
        let today = |n: &str| {
            n.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        };
        let names: BTreeMap<String, String> =
            file.names().into_iter().map(|n| (today(n), n.to_string())).collect();
        let prefixed = names.keys().any(|n| n.starts_with(architecture.prefix()));
        Ok(Self { path, file, names, architecture, prefixed })
    }

    /// The folder's name of one of our tensors.
    fn name_of(&self, own: &str) -> String {
        let whole = self.architecture.name_of(own);
        match whole.strip_prefix(self.architecture.prefix()) {
            Some(bare) if !self.prefixed => bare.to_owned(),
            _ => whole,
        }
    }

    fn has(&self, own: &str) -> bool {
        self.names.contains_key(&self.name_of(own))
    }

    /// A tensor as f32 of this shape.
    fn tensor(&self, own: &str, shape: &[usize]) -> Result<Tensor> {
        let name = self.name_of(own);
        let wrong = |got: String| Error::Data {
            what: format!("{}: {name}", self.path.display()),
            got,
            expected: format!("finite numbers of shape {shape:?}, as config.json says"),
        };
        let stored = self.names.get(&name).ok_or_else(|| wrong("nothing".into()))?;
        let view = self.file.tensor(stored).map_err(|e| wrong(e.to_string()))?;
        if view.shape() != shape {
            return Err(wrong(format!("shape {:?}", view.shape())));
        }
        let float = matches!(
            view.dtype(),
            safetensors::Dtype::F32 | safetensors::Dtype::F16 | safetensors::Dtype::BF16
        );
        if !float {
            return Err(wrong(format!("{:?}", view.dtype())));
        }
        let tensor = view.load(&Device::Cpu)?.to_dtype(DType::F32)?;
        match tensor.flatten_all()?.to_vec1::<f32>()?.iter().find(|v| !v.is_finite()) {
            Some(v) => Err(wrong(format!("the value {v}"))),
            None => Ok(tensor),
        }
    }
}

/// Reads a Hugging Face folder. Rows of the word table and of the masked head's bias are put into our order of
/// words; the token type table is filled up to our track codes with copies of its first row, so that a code that the
/// model never saw changes nothing.
///
/// # Errors
/// A file that is missing or damaged; an architecture, activation, vocabulary or shape that this program's encoder
/// does not compute: the message says which.
pub fn read(folder: &Path) -> Result<Transfer> {
    let (hub, architecture) = HubConfig::read(&folder.join("config.json"))?;
    let (tokenizer, ids) = vocabulary::read(folder, hub.vocab_size)?;
    let path = folder.join(WEIGHTS);
    if !path.exists() {
        return Err(Error::Data {
            what: folder.display().to_string(),
            got: format!("no {WEIGHTS}"),
            expected: format!(
                "the weights in one {WEIGHTS}, as save_pretrained(folder, safe_serialization=True) writes them; pickled or split weights are not read"
            ),
        });
    }
    let bytes = fs::read(&path).map_err(io_at(&path))?;
    let source = Source::parse(&path, &bytes, architecture)?;
    let layers = hub.num_hidden_layers;
    if layers > source.names.len() {
        return Err(Error::Data {
            what: format!("{}: num_hidden_layers", folder.join("config.json").display()),
            got: layers.to_string(),
            expected: format!("no more than the {} tensors of {WEIGHTS} can make", source.names.len()),
        });
    }
    let stored = hub.own(architecture);
    let masked_head = source.has(WORD_BIAS);
    let mut tensors = BTreeMap::new();
    let wanted = |name: &str| name.starts_with("bert.") || (masked_head && name.starts_with("cls."));
    for (name, shape) in Params::shapes(&stored).into_iter().filter(|(n, _)| wanted(n)) {
        tensors.insert(name.clone(), source.tensor(&name, &shape)?);
    }
    if masked_head && source.has(DECODER) {
        tied(&source, &tensors[WORDS], &stored)?;
    }
    let known: Vec<String> = tensors.keys().map(|n| source.name_of(n)).collect();
    let decoder = [DECODER, "cls.predictions.decoder.bias"].map(|n| source.name_of(n));
    let other = |n: &&String| !known.contains(n) && !decoder.contains(n) && !n.ends_with("position_ids");
    let left_out: Vec<String> = source.names.keys().filter(other).cloned().collect();
    let encoder = source.name_of("bert.encoder.");
    if let Some(more) = left_out.iter().find(|n| n.starts_with(&encoder)) {
        return Err(Error::Data {
            what: format!("{}: {more}", path.display()),
            got: "a tensor of the encoder".into(),
            expected: format!("those of {layers} layers without cross-attention, as config.json says"),
        });
    }
    let config = adapt(&mut tensors, &hub, architecture, &ids)?;
    Ok(Transfer { config, tokenizer, tensors, left_out })
}

/// A decoder of its own would be another model than ours, whose decoder is the word table.
fn tied(source: &Source<'_>, words: &Tensor, config: &ModelConfig) -> Result<()> {
    let decoder = source.tensor(DECODER, &[config.vocab_size, config.hidden_size])?;
    let difference = (decoder - words)?.abs()?.max_all()?.to_scalar::<f32>()?;
    if difference == 0.0 {
        return Ok(());
    }
    Err(Error::Data {
        what: format!("{}: {}", source.path.display(), source.name_of(DECODER)),
        got: format!("weights that differ from the word embeddings by up to {difference}"),
        expected: "the same weights (tie_word_embeddings)".into(),
    })
}

fn adapt(
    tensors: &mut BTreeMap<String, Tensor>,
    hub: &HubConfig,
    architecture: Architecture,
    ids: &[u32],
) -> Result<ModelConfig> {
    let mut config = hub.own(architecture);
    let index = Tensor::from_slice(ids, ids.len(), &Device::Cpu)?;
    for name in [WORDS, WORD_BIAS] {
        if let Some(table) = tensors.get_mut(name) {
            *table = table.index_select(&index, 0)?;
        }
    }
    config.vocab_size = ids.len();
    let before = hub.positions_before(architecture);
    if let Some(table) = tensors.get_mut(POSITIONS) {
        config.max_position_embeddings -= before;
        *table = table.narrow(0, before, config.max_position_embeddings)?.contiguous()?;
    }
    if let Some(table) = tensors.get_mut(TRACKS)
        && config.type_vocab_size < TRACK_CODES.len()
    {
        let more = TRACK_CODES.len() - config.type_vocab_size;
        let first = table.narrow(0, 0, 1)?.repeat((more, 1))?;
        *table = Tensor::cat(&[&*table, &first], 0)?;
        config.type_vocab_size = TRACK_CODES.len();
    }
    Ok(config)
}

/// Reads a Hugging Face folder and writes a checkpoint folder of ours: `config.json`, `model.safetensors`,
/// `tokenizer.json`.
///
/// # Errors
/// As [`read`], and a folder that cannot be written.
pub fn import(from: &Path, out: &Path) -> Result<Transfer> {
    let read = read(from)?;
    fs::create_dir_all(out).map_err(io_at(out))?;
    save(&read.tensors, &out.join(WEIGHTS))?;
    write_json(&out.join("config.json"), &read.config)?;
    files::write_atomically(&out.join("tokenizer.json"), read.tokenizer.to_json().as_bytes())?;
    Ok(read)
}

/// Writes the checkpoint folder `from` (such as `runs/NAME/best`) as a Hugging Face folder.
///
/// # Errors
/// A checkpoint that cannot be read, or a folder that cannot be written.
pub fn export(from: &Path, out: &Path) -> Result<Transfer> {
    let place = from.join("config.json");
    let config = ModelConfig::read(&place).map_err(io_at(&place))?;
    if !config.layer_sizes.is_empty() {
        return Err(Error::Data {
            what: format!("{}: layer_sizes", place.display()),
            got: "a pruned model".into(),
            expected: "one whose layers all have the same heads and width: no other is known there".into(),
        });
    }
    let place = from.join("tokenizer.json");
    let tokenizer = Tokenizer::from_json(&fs::read_to_string(&place).map_err(io_at(&place))?)?;
    if config.vocab_size != tokenizer.vocab_size() {
        return Err(Error::Data {
            what: from.display().to_string(),
            got: format!(
                "{} rows of word embeddings and {} words",
                config.vocab_size,
                tokenizer.vocab_size()
            ),
            expected: "a row a word".into(),
        });
    }
    let params = Params::read(&from.join(WEIGHTS), &config, 0)?;
    let architecture = Architecture::with_norm(&config.norm_position);
    let (mut tensors, mut left_out) = (BTreeMap::new(), Vec::new());
    for (name, var) in params.iter() {
        if ["bert.embeddings.", "bert.encoder.", "cls.predictions."].iter().any(|part| name.starts_with(part))
        {
            tensors.insert(name.to_owned(), var.as_tensor().clone());
        } else {
            left_out.push(name.to_owned());
        }
    }
    let pad = locus_genome::tokenizer::PAD as usize;
    let mut named: BTreeMap<String, Tensor> =
        tensors.iter().map(|(n, t)| (architecture.name_of(n), t.clone())).collect();
    let before = architecture.positions_before(pad);
    if let Some(table) = named.get_mut(&architecture.name_of(POSITIONS))
        && before > 0
    {
        let none = Tensor::zeros((before, config.hidden_size), DType::F32, &Device::Cpu)?;
        *table = Tensor::cat(&[&none, &*table], 0)?;
    }
    fs::create_dir_all(out).map_err(io_at(out))?;
    save(&named, &out.join(WEIGHTS))?;
    write_json(&out.join("config.json"), &hub_config::written(&config, architecture))?;
    vocabulary::write(out, &tokenizer, config.max_position_embeddings)?;
    Ok(Transfer { config, tokenizer, tensors, left_out })
}

/// Writes a safetensors file, whole or not at all, marked as `transformers` wants it.
fn save(tensors: &BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    let mark = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(tensors, Some(mark)).map_err(|error| Error::Data {
        what: path.display().to_string(),
        got: error.to_string(),
        expected: "tensors that can be written".into(),
    })?;
    files::write_atomically(path, &bytes)
}

#[cfg(test)]
mod tests;
