//! Hugging Face folders before Python's `transformers` itself: what it saves is read here with the same hidden states,
//! and what is written here it loads, with the same hidden states and the same token ids.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use candle_core::Tensor;
use locus_genome::KmerTokenizer;
use locus_host::{
    interchange,
    model::{Context, Encoder, MlmHead, ModelConfig, Params, Rows},
};
use locus_tests::{program, python, root};
use serde::{Deserialize, Serialize};

/// Versions that results were compared with.
const PACKAGES: [&str; 3] = ["torch==2.9.1", "transformers==4.57.3", "numpy==2.3.5"];
/// Largest difference of a hidden state or logit.
const TOLERANCE: f32 = 1e-4;

/// Saves random models of every kind that is read, each in a folder with a vocabulary in DNABERT's order, and writes
/// what each computes.
const SAVE: &str = r#"
import itertools, json, sys, torch
from transformers import BertConfig, BertForMaskedLM, BertModel, RobertaPreLayerNormConfig, RobertaPreLayerNormForMaskedLM, RobertaPreLayerNormModel
folder = sys.argv[1]
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + ["".join(w) for w in itertools.product("ATCG", repeat=3)]
sizes = dict(vocab_size=69, hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, initializer_range=0.2)
made = {
    "bare": lambda: BertModel(BertConfig(**sizes, max_position_embeddings=40)),
    "no-pooler": lambda: BertModel(BertConfig(**sizes, max_position_embeddings=40, layer_norm_eps=1e-5, hidden_act="gelu_python"), add_pooling_layer=False),
    "masked": lambda: BertForMaskedLM(BertConfig(**sizes, max_position_embeddings=40)),
    "masked-bf16": lambda: BertForMaskedLM(BertConfig(**sizes, max_position_embeddings=40)).to(torch.bfloat16),
    "pre": lambda: RobertaPreLayerNormModel(RobertaPreLayerNormConfig(**sizes, max_position_embeddings=41, pad_token_id=0)),
    "pre-masked": lambda: RobertaPreLayerNormForMaskedLM(RobertaPreLayerNormConfig(**sizes, max_position_embeddings=41, pad_token_id=0)),
}
torch.manual_seed(7)
for name, make in made.items():
    model = make().eval()
    for p in model.parameters():
        if p.dim() == 1:  # biases and norms are not left at zero and one
            p.data += 0.1 * torch.randn_like(p)
    model.save_pretrained(f"{folder}/{name}", safe_serialization=True)
    open(f"{folder}/{name}/vocab.txt", "w").write("\n".join(words) + "\n")
    model = model.float()
    ids = torch.randint(5, 69, (3, 37)); ids[:, 0] = 2; ids[:, 36] = 3; ids[2, 20:] = 0
    mask = (ids != 0).long(); types = torch.randint(0, model.config.type_vocab_size, (3, 37))
    with torch.no_grad():
        base = getattr(model, model.base_model_prefix, model)
        hidden = base(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        logits = model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits if "masked" in name else None
    flat = lambda t: t.flatten().tolist()
    json.dump(dict(words=words, ids=flat(ids), mask=flat(mask), types=flat(types), hidden=flat(hidden), logits=flat(logits) if logits is not None else None), open(f"{folder}/{name}.json", "w"))
"#;

/// Loads what was written here and compares.
const LOAD: &str = r#"
import json, sys, torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer
for folder in sys.argv[1:]:
    asked = json.load(open(folder + "/asked.json"))
    model, problems = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not problems["missing_keys"] and not problems["unexpected_keys"] and not problems["mismatched_keys"], problems
    tensor = lambda key: torch.tensor(asked[key]).reshape(asked["rows"], -1)
    ids, mask, types = tensor("ids"), tensor("mask").long(), tensor("types")
    with torch.no_grad():
        logits = model.eval()(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        hidden = AutoModel.from_pretrained(folder).eval()(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    worst = {}
    for key, got in (("hidden", hidden), ("logits", logits)):
        expected = torch.tensor(asked[key]).reshape(got.shape)
        worst[key] = float(((got - expected).abs() * mask[..., None]).max())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(asked["text"])["input_ids"] == asked["text_ids"], (tokenizer(asked["text"]), asked["text_ids"])
    assert (tokenizer.mask_token_id, tokenizer.pad_token_id) == (4, 0)
    print(json.dumps({"folder": folder, "class": type(model).__name__, **worst}))
"#;

#[derive(Deserialize)]
struct Saved {
    words: Vec<String>,
    ids: Vec<u32>,
    mask: Vec<f32>,
    types: Vec<u32>,
    hidden: Vec<f32>,
    logits: Option<Vec<f32>>,
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn computed(config: &ModelConfig, params: &Params, rows: &Rows) -> (Vec<f32>, Vec<f32>) {
    let hidden = Encoder::new(config, params).forward(rows, &Context::eval()).unwrap();
    let everywhere: Vec<u32> = (0..rows.ids.len() as u32).collect();
    let logits = MlmHead::new(config, params).forward(rows, &everywhere, &Context::eval()).unwrap();
    (numbers(&hidden), numbers(&logits))
}

/// Largest difference where the mask attends.
fn largest(a: &[f32], b: &[f32], mask: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let width = a.len() / mask.len();
    let pairs = a.iter().zip(b).enumerate().filter(|(i, _)| mask[i / width] > 0.0);
    pairs.map(|(_, (a, b))| (a - b).abs()).fold(0.0, f32::max)
}

fn run(python: &Path, script: &str, folders: &[&Path]) -> String {
    let output =
        Command::new(python).args(["-c", script]).args(folders).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "PyTorch is a download of 3 GB; `cargo xtask test --full` runs it"]
fn what_transformers_saves_has_the_same_hidden_states_here() {
    let Some(python) = python("transformers", &PACKAGES, "import torch, transformers") else { return };
    let folder = tempfile::tempdir().unwrap();
    run(&python, SAVE, &[folder.path()]);
    let tokenizer = KmerTokenizer::new(3, 1).unwrap();
    for name in ["bare", "no-pooler", "masked", "masked-bf16", "pre", "pre-masked"] {
        let saved: Saved =
            serde_json::from_slice(&fs::read(folder.path().join(format!("{name}.json"))).unwrap()).unwrap();
        let out = folder.path().join(format!("{name}.ours"));
        let status = program("locus")
            .args(["interchange", "import", "--from"])
            .arg(folder.path().join(name))
            .arg("--out")
            .arg(&out)
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{name}");
        let config = ModelConfig::read(&out.join("config.json")).unwrap();
        let params = Params::read(&out.join("model.safetensors"), &config, 1).unwrap();
        // Their id of a word to ours.
        let own =
            |id: &u32| if *id < 5 { *id } else { tokenizer.kmer_id(saved.words[*id as usize].as_bytes()) };
        let rows = Rows {
            rows: 3,
            tokens: 37,
            ids: saved.ids.iter().map(own).collect(),
            track: saved.types.clone(),
            mask: saved.mask.clone(),
        };
        let (hidden, logits) = computed(&config, &params, &rows);
        let difference = largest(&hidden, &saved.hidden, &saved.mask);
        println!("{name}: hidden states differ by {difference:e} at most");
        assert!(difference < TOLERANCE, "{name}: {difference}");
        if let Some(theirs) = &saved.logits {
            let mut ordered = vec![0.0; theirs.len()];
            for (row, ordered) in theirs.chunks(69).zip(ordered.chunks_mut(69)) {
                (0..69).for_each(|id| ordered[own(&id) as usize] = row[id as usize]);
            }
            let difference = largest(&logits, &ordered, &saved.mask);
            println!("{name}: logits differ by {difference:e} at most");
            assert!(difference < 10.0 * TOLERANCE, "{name}: {difference}");
        }
    }
}

#[derive(Serialize)]
struct Asked<'a> {
    rows: usize,
    ids: &'a [u32],
    mask: &'a [f32],
    types: &'a [u32],
    hidden: Vec<f32>,
    logits: Vec<f32>,
    text: String,
    text_ids: Vec<u32>,
}

#[test]
#[ignore = "PyTorch is a download of 3 GB; `cargo xtask test --full` runs it"]
fn what_is_written_here_loads_in_transformers_with_the_same_hidden_states() {
    let Some(python) = python("transformers", &PACKAGES, "import torch, transformers") else { return };
    let folder = tempfile::tempdir().unwrap();
    let smoke = locus_host::Recipe::read(&root().join("recipes/smoke.toml")).unwrap();
    let tokenizer = KmerTokenizer::new(3, 1).unwrap();
    let mut written = Vec::new();
    for norm_position in ["pre", "post"] {
        let config = ModelConfig {
            norm_position: norm_position.into(),
            initializer_range: 0.2,
            ..smoke.model_config(69, locus_genome::feature_names().len())
        };
        let params = Params::new(&config, 3).unwrap();
        let (own, hub) =
            (folder.path().join(norm_position), folder.path().join(format!("hub-{norm_position}")));
        fs::create_dir_all(&own).unwrap();
        params.write(&own.join("model.safetensors")).unwrap();
        fs::write(own.join("config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
        fs::write(own.join("tokenizer.json"), tokenizer.to_json()).unwrap();
        interchange::export(&own, &hub).unwrap();
        let bases = b"GATTACAGATTACACCGTTAGACCA";
        let kmers = tokenizer.encode(bases);
        let row: Vec<u32> = std::iter::once(2).chain(kmers).chain([3]).collect();
        let (tokens, padded) = (row.len() + 4, [0; 4]);
        let ids = [&row[..], &padded, &row[..], &padded].concat();
        let types: Vec<u32> = (0..ids.len() as u32).map(|i| i % 9).collect();
        let mask: Vec<f32> = ids.iter().map(|&id| f32::from(u8::from(id != 0))).collect();
        let rows = Rows { rows: 2, tokens, ids: ids.clone(), track: types.clone(), mask: mask.clone() };
        let (hidden, logits) = computed(&config, &params, &rows);
        let words: Vec<&str> = bases.windows(3).map(|w| std::str::from_utf8(w).unwrap()).collect();
        let asked = Asked {
            rows: 2,
            ids: &ids,
            mask: &mask,
            types: &types,
            hidden,
            logits,
            text: words.join(" "),
            text_ids: row.clone(),
        };
        fs::write(hub.join("asked.json"), serde_json::to_vec(&asked).unwrap()).unwrap();
        written.push(hub);
    }
    let folders: Vec<&Path> = written.iter().map(std::path::PathBuf::as_path).collect();
    let report = run(&python, LOAD, &folders);
    let lines: Vec<serde_json::Value> = report.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for line in lines {
        println!("{line}");
        assert!(line["hidden"].as_f64().unwrap() < f64::from(TOLERANCE), "{line}");
        assert!(line["logits"].as_f64().unwrap() < f64::from(10.0 * TOLERANCE), "{line}");
    }
}
