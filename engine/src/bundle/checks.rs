//! What a manifest must hold before anything is read, divided by or allocated from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use locus_firmware_config::manifest::{Manifest, Task, TensorSpec};
use locus_genome::{Alphabet, Tokenizer};

use super::archive::part_name;
use super::{BundleError, Limits};
use crate::graphs::{Inputs, LABELS, tensors};

/// The version that `min_edge_version` of a manifest is compared with.
pub const ENGINE_VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) const TOKENIZER: &str = "tokenizer.json";
/// Parts that every bundle has.
const REQUIRED: [&str; 4] = [TOKENIZER, "config.json", "golden.json", "fp32.onnx"];
/// Parts that format 1 knows.
const KNOWN: [&str; 8] = [
    TOKENIZER,
    "config.json",
    "calibration.json",
    "golden.json",
    "fp32.onnx",
    "int8.onnx",
    "int8-fp16.onnx",
    "model-card.md",
];

/// How many golden vectors a bundle may have: fewer prove nothing of a device.
pub const GOLDEN_VECTORS: std::ops::RangeInclusive<u32> = 8..=4096;
/// Loosest tolerances that a manifest may claim, in logits: float kernels differ by the order of their sums, INT8
/// kernels by quantisation noise. Beyond these a device that computes something else would pass.
const LOOSEST_FP32: f64 = 1e-2;
const LOOSEST_INT8: f64 = 0.5;

pub(super) fn parse_manifest(bytes: &[u8], limits: &Limits) -> Result<Manifest, BundleError> {
    let manifest =
        Manifest::from_json(bytes).map_err(|error| BundleError::Manifest { detail: error.to_string() })?;
    for (at, part) in manifest.parts.iter().enumerate() {
        let problem = |problem| BundleError::Part { name: part.name.chars().take(64).collect(), problem };
        if part_name(part.name.as_bytes()).is_err() {
            return Err(problem("no name that a part can have"));
        }
        if !KNOWN.contains(&part.name.as_str()) {
            return Err(problem("a part that format 1 does not know"));
        }
        if manifest.parts[..at].iter().any(|other| other.name == part.name) {
            return Err(problem("listed twice"));
        }
        if !part.name.ends_with(".onnx") && part.size > limits.text_bytes {
            return Err(problem("larger than a text part may be"));
        }
    }
    for name in REQUIRED {
        if !manifest.parts.iter().any(|part| part.name == name) {
            return Err(BundleError::MissingPart { name });
        }
    }
    check_version(&manifest)?;
    check_contract(&manifest)?;
    Ok(manifest)
}

fn check_version(manifest: &Manifest) -> Result<(), BundleError> {
    let wanted = &manifest.min_edge_version;
    match ENGINE_VERSION.parse() {
        Ok(here) if *wanted <= here => Ok(()),
        _ => Err(BundleError::MinVersion { got: ENGINE_VERSION.to_owned(), expected: wanted.to_string() }),
    }
}

/// Numbers that later code divides by, allocates from or indexes with.
fn check_contract(manifest: &Manifest) -> Result<(), BundleError> {
    let graph = &manifest.graph;
    let wrong = |what, got: String, expected: &str| {
        Err(BundleError::Contract { what, got, expected: expected.to_owned() })
    };
    if graph.buckets.is_empty() || graph.buckets.len() > 16 || graph.buckets.contains(&0) {
        return wrong("graph.buckets", format!("{} entries", graph.buckets.len()), "1 to 16 lengths above 0");
    }
    let longest = graph.buckets.iter().copied().max().unwrap_or(0);
    if longest > graph.max_tokens || graph.max_tokens > 65_536 {
        return wrong("graph.max_tokens", graph.max_tokens.to_string(), "the longest bucket to 65,536");
    }
    if graph.max_batch == 0 || graph.max_batch > 4096 {
        return wrong("graph.max_batch", graph.max_batch.to_string(), "1 to 4,096");
    }
    if let Some(expected) = labels_problem(manifest) {
        let got: String = format!("{:?}", manifest.labels).chars().take(80).collect();
        return wrong("labels", got, &expected);
    }
    if graph.features.len() > 4096 {
        return wrong("graph.features", format!("{} entries", graph.features.len()), "at most 4,096");
    }
    let reads = Inputs::of(manifest.task);
    if reads == Inputs::Sequence && !graph.features.is_empty() {
        return wrong(
            "graph.features",
            format!("{} entries", graph.features.len()),
            "none in a sequence model",
        );
    }
    let (inputs, outputs) = tensors(reads, graph.features.len(), manifest.labels.len());
    for (what, got, expected) in
        [("graph.inputs", &graph.inputs, inputs), ("graph.outputs", &graph.outputs, outputs)]
    {
        let longest = got.len().max(expected.len());
        if let Some(at) = (0..longest).find(|at| got.get(*at) != expected.get(*at)) {
            return wrong(what, words(got.get(at)), &words(expected.get(at)));
        }
    }
    let golden = &manifest.golden;
    if !GOLDEN_VECTORS.contains(&golden.count) {
        return wrong("golden.count", golden.count.to_string(), "8 to 4,096");
    }
    for (what, got, loosest) in [
        ("golden.tolerance_fp32", golden.tolerance_fp32, LOOSEST_FP32),
        ("golden.tolerance_int8", golden.tolerance_int8, LOOSEST_INT8),
    ] {
        if !(got > 0.0 && got <= loosest) {
            return wrong(what, got.to_string(), &format!("above 0 and at most {loosest}"));
        }
    }
    let model = &manifest.probability;
    let sequence = || {
        let frames = manifest.tokenizer.frames.filter(|frames| !(2..=6).contains(frames));
        let frames = frames.map(|frames| ("tokenizer.frames".to_owned(), frames.to_string()));
        let calibration = model.sequence.as_ref();
        frames.or_else(|| {
            crate::probability::sequence_problem(calibration, manifest.task, manifest.labels.len())
        })
    };
    let problem = match reads {
        Inputs::Pair => crate::probability::problem(model),
        Inputs::Sequence => sequence(),
    };
    if let Some((what, got)) = problem {
        let expected = "a calibration that `locus calibrate` writes".to_owned();
        return Err(BundleError::Contract { what: "probability", got: format!("{what} {got}"), expected });
    }
    let longest_row = u64::from(manifest.tokenizer.window_kmers) + 2;
    if longest_row > u64::from(longest) {
        let got = manifest.tokenizer.window_kmers.to_string();
        return wrong("tokenizer.window_kmers", got, "two fewer than the longest bucket, or less");
    }
    Ok(())
}

/// What the labels may be, where they are something else. Of a variant-effect model they are fixed; of a sequence
/// model they are the answers themselves, so each is there once.
fn labels_problem(manifest: &Manifest) -> Option<String> {
    let labels = &manifest.labels;
    let (good, expected) = match manifest.task {
        Task::VariantEffect => (*labels == LABELS, format!("{LABELS:?}")),
        Task::SequenceRegression => (labels.len() == 1, "one name".to_owned()),
        _ => ((2..=1_000).contains(&labels.len()), "2 to 1,000 names".to_owned()),
    };
    let plain = |l: &String| !l.is_empty() && l.len() <= 64 && !l.chars().any(char::is_control);
    let once = labels.iter().collect::<std::collections::BTreeSet<_>>().len() == labels.len();
    (!good || !once || !labels.iter().all(plain))
        .then(|| format!("{expected}, each there once, of 1 to 64 bytes"))
}

fn words(tensor: Option<&TensorSpec>) -> String {
    let words = |t: &TensorSpec| format!("{} {} [{}]", t.name, t.dtype, t.shape.join(", "));
    tensor.map_or_else(|| "nothing more".to_owned(), |t| words(t).chars().take(80).collect())
}

pub(super) fn check_tokenizer(
    manifest: &Manifest,
    parts: &BTreeMap<String, Arc<[u8]>>,
) -> Result<Tokenizer, BundleError> {
    let wrong = |what, got: String, expected: String| BundleError::Tokenizer { what, got, expected };
    let unreadable = |detail: String| wrong("a content that cannot be read:", detail, "a tokenizer".into());
    let bytes = parts.get(TOKENIZER).ok_or(BundleError::MissingPart { name: TOKENIZER })?;
    let text = std::str::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    let tokenizer = Tokenizer::from_json(text).map_err(|error| unreadable(error.to_string()))?;
    let stated = &manifest.tokenizer;
    if tokenizer.fingerprint() != stated.fingerprint {
        return Err(wrong("fingerprint", tokenizer.fingerprint(), stated.fingerprint.clone()));
    }
    let alphabet = tokenizer.alphabet();
    let pair = manifest.task == Task::VariantEffect;
    if pair && alphabet != Alphabet::Dna {
        return Err(wrong(
            "the alphabet",
            alphabet.as_str().into(),
            "a variant-effect model, which reads dna".into(),
        ));
    }
    if !pair && manifest.scope.kinds != [alphabet.as_str()] {
        let stated: String = format!("{:?}", manifest.scope.kinds).chars().take(80).collect();
        return Err(wrong("the alphabet", alphabet.as_str().into(), stated));
    }
    let (k, stride) = match &tokenizer {
        Tokenizer::Dna(kmers) => (kmers.k(), kmers.stride()),
        Tokenizer::Rna(rna) => (rna.kmers().k(), rna.kmers().stride()),
        Tokenizer::AminoAcid(_) | Tokenizer::Smiles(_) => (1, 1),
    };
    let numbers = [
        ("k", k, stated.kmer as usize),
        ("stride", stride, stated.stride as usize),
        ("a vocabulary of", tokenizer.vocab_size(), stated.vocab_size as usize),
    ];
    match numbers.into_iter().find(|(_, got, expected)| got != expected) {
        None => Ok(tokenizer),
        Some((what, got, expected)) => Err(wrong(what, got.to_string(), expected.to_string())),
    }
}
