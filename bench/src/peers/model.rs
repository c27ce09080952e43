//! What is compared: a model as a bundle for the box and as a graph for its peers, the same questions for both, and what
//! the answer to each is in FP32.

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use locus_edge::pipeline;
use locus_engine::{
    Bundle, EngineKind, Graphs, Inputs, LoadOptions, Precision, Row, Scorer, Session, Trust, logits_of,
    open_graphs,
};
use locus_export::BundleBuilder;
use locus_firmware_config::{
    manifest::{
        AccuracyContract, FORMAT, Golden, GoldenSequence, GraphContract, Manifest, ProbabilityModel,
        Provenance, Scope, SequenceCalibration, Task, TokenizerInfo,
    },
    message::Request,
    profile::DeviceProfile,
};
use locus_genome::{KmerTokenizer, SequenceEncoder, Tokenizer};
use locus_tests::{facts, onnxruntime, root};
use semver::Version;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::service::Reads;
use crate::quantisation::export_step;

/// Layers of the reference's model.
const LAYERS: usize = 12;
/// Locus' five special tokens in the place of the reference's two; a larger table of embeddings, and nothing else.
const VOCABULARY: usize = 69;
const TOKENS: usize = 128;
const LABELS: [&str; 2] = ["benign", "pathogenic"];
/// What its contract is about: labels as in FP32.
const METRIC: &str = "agreement";
/// Rows that the box runs together at most, as in shipped bundles.
const MAX_BATCH: u32 = 32;

/// Which model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Which {
    /// `models/variant-effect.locus`
    Edge,
    /// The reference's shape, with random weights
    BertBase,
}

/// One question: to the box, to a peer, and the probability that both give in FP32.
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) body: Value,
    pub(super) expected: f64,
}

pub(super) struct Model {
    _folder: TempDir,
    /// Unsigned bundle.
    pub(super) bundle: PathBuf,
    pub(super) graphs: Graphs,
    pub(super) reads: Reads,
    /// Tokens that peers pad to: the reference's 128, or what the graph takes at most.
    pub(super) padded: usize,
    pub(super) questions: Vec<Question>,
}

impl Model {
    pub(super) fn of(which: Which) -> Result<Self> {
        let model = match which {
            Which::Edge => edge(),
            Which::BertBase => bert_base(),
        }?;
        let bodies: Vec<&Value> = model.questions.iter().map(|question| &question.body).collect();
        fs::write(model.reads.folder.join("warm.json"), serde_json::to_vec(&bodies)?)?;
        Ok(model)
    }

    /// A session on so many threads; 0 for the profile's number.
    pub(super) fn session(&self, precision: Precision, threads: usize) -> Result<Box<dyn Session>> {
        session(&self.graphs, precision, threads)
    }
}

fn session(graphs: &Graphs, precision: Precision, threads: usize) -> Result<Box<dyn Session>> {
    let options = LoadOptions {
        order: vec![EngineKind::OrtCpu],
        precision,
        intra_threads: threads,
        onnxruntime: onnxruntime(),
        ..LoadOptions::default()
    };
    Ok(open_graphs(graphs, &DeviceProfile::named("cpu-x86")?, &options)?.session)
}

fn edge() -> Result<Model> {
    let (folder, file) = (tempfile::tempdir()?, root().join("models/variant-effect.locus"));
    for (name, bytes) in locus_export::split(&fs::read(&file)?)? {
        fs::write(folder.path().join(name), bytes)?;
    }
    let bundle = Bundle::open(&file, &Trust::AllowUnsigned)?;
    let options =
        LoadOptions { precision: Precision::Fp32, onnxruntime: onnxruntime(), ..LoadOptions::default() };
    let mut scorer = Scorer::open(&bundle, &DeviceProfile::named("cpu-x86")?, &options)?;
    let manifest = scorer.manifest().clone();
    let mode = manifest.probability.modes.get("transcript").context("the model has no mode transcript")?;
    let mut questions = Vec::new();
    for fact in facts().variants {
        let request = fact.request("");
        let encoded = pipeline::encode(scorer.encoder(), None, &request)
            .map_err(|fault| anyhow::anyhow!(fault.message))?;
        let score = scorer.score(std::slice::from_ref(&encoded))?.swap_remove(0);
        ensure!(
            encoded.track == encoded.alt_track,
            "{}: the tracks of a change of one base differ",
            fact.variant
        );
        let track: String = encoded.track.iter().map(i64::to_string).collect();
        let features: Vec<u8> = encoded.features.iter().flat_map(|feature| feature.to_le_bytes()).collect();
        let body = json!({
            "sequence": fact.sequence, "mutation": fact.mutation, "strand": fact.transcript.strand,
            "track": track, "features": STANDARD.encode(&features),
        });
        let expected = score.probability.with_context(|| format!("{}: no probability", fact.variant))?;
        questions.push(Question { request, body, expected });
    }
    let longest = *manifest.graph.buckets.iter().max().context("no buckets")? as usize;
    let reads = Reads {
        folder: folder.path().to_owned(),
        window_bases: manifest.tokenizer.window_kmers as usize + 2,
        temperature: mode.temperature,
        offsets: vec![mode.offset],
    };
    let graphs = Graphs::from_bundle(&bundle)?;
    Ok(Model { _folder: folder, bundle: file, graphs, reads, padded: longest, questions })
}

/// The reference's shape: a model of sequences with random weights, as the box is given one.
fn bert_base() -> Result<Model> {
    let (folder, kmers) = (tempfile::tempdir()?, KmerTokenizer::new(3, 1)?);
    let at = folder.path();
    export_step::write(&export_step::config(LAYERS, VOCABULARY)?, at)?;
    let encoder = SequenceEncoder::new(Tokenizer::Dna(kmers), 1);
    let bases = kmers.bases(TOKENS - 2);
    let read = |name: &str| fs::read(at.join(name));
    let graphs = Graphs::from_onnx(
        Some(read("fp32.onnx")?),
        Some(read("int8.onnx")?),
        &[TOKENS as u32],
        MAX_BATCH,
        LABELS.len() as u32,
        0,
    )
    .reading(Inputs::Sequence);
    let sequences: Vec<String> = facts()
        .variants
        .iter()
        .map(|fact| fact.sequence.chars().skip((fact.sequence.len() - bases) / 2).take(bases).collect())
        .collect();
    let encoded: Vec<_> = sequences.iter().map(|s| encoder.encode(s)).collect::<Result<_, _>>()?;
    let rows: Vec<Row<'_>> = encoded.iter().map(|e| Row::sequence(&e.ids, &e.track)).collect();
    let logits = |precision| Ok::<_, anyhow::Error>(logits_of(&mut *session(&graphs, precision, 0)?, &rows)?);
    let (float, whole) = (logits(Precision::Fp32)?, logits(Precision::Int8)?);
    let label = |logits: &Vec<f32>| logits[1] > logits[0];
    let same = float.iter().zip(&whole).filter(|(float, whole)| label(float) == label(whole)).count();
    let golden: Vec<GoldenSequence> = encoded
        .iter()
        .zip(float.iter().zip(whole))
        .map(|(e, (float, whole))| GoldenSequence {
            ids: e.ids.clone(),
            track: e.track.clone(),
            logits_fp32: float.clone(),
            logits_int8: whole,
        })
        .collect();
    let manifest = manifest(&kmers, golden.len(), same as f64 / golden.len() as f64);
    let builder = BundleBuilder::new(manifest)
        .part("tokenizer.json", kmers.to_json().into())?
        .part("config.json", read("config.json")?)?
        .part("golden.json", serde_json::to_vec(&golden)?)?
        .part("fp32.onnx", read("fp32.onnx")?)?
        .part("int8.onnx", read("int8.onnx")?)?;
    let bundle = at.join("bert-base.locus");
    fs::write(&bundle, builder.build()?)?;
    let question = |(sequence, logits): (String, Vec<f32>)| {
        let evidence = f64::from(logits[1]) - f64::from(logits[0]);
        Question {
            body: json!({ "sequence": sequence }),
            request: Request { sequence: Some(sequence), ..Request::default() },
            expected: 1.0 / (1.0 + (-evidence).exp()),
        }
    };
    let questions = sequences.into_iter().zip(float).map(question).collect();
    let reads = Reads { folder: at.to_owned(), window_bases: bases, temperature: 1.0, offsets: vec![0.0; 2] };
    Ok(Model { _folder: folder, bundle, graphs, reads, padded: TOKENS, questions })
}

/// `same` is the share of sequences that INT8 gives the label of FP32. Of random weights nobody asks how large it is, so the
/// budget is all of it.
fn manifest(kmers: &KmerTokenizer, golden: usize, same: f64) -> Manifest {
    let of = |share: f64| BTreeMap::from([(METRIC.to_owned(), share)]);
    let (inputs, outputs) = locus_engine::tensors(Inputs::Sequence, 0, LABELS.len());
    let labels: Vec<String> = LABELS.map(String::from).into();
    Manifest {
        format: FORMAT,
        name: "bert-base".into(),
        version: Version::new(1, 0, 0),
        security_counter: 1,
        min_edge_version: Version::new(0, 1, 0),
        task: Task::SequenceClassification,
        scope: Scope {
            kinds: vec!["dna".into()],
            min_bases: kmers.k() as u32,
            max_bases: kmers.bases(TOKENS - 2) as u32,
            modes: vec!["sequence_only".into()],
            consequences: None,
            assembly: String::new(),
            max_ambiguous_percent: None,
            wild_type: None,
        },
        graph: GraphContract {
            inputs,
            outputs,
            features: Vec::new(),
            buckets: vec![TOKENS as u32],
            max_tokens: TOKENS as u32,
            max_batch: MAX_BATCH,
        },
        tokenizer: TokenizerInfo {
            kmer: kmers.k() as u32,
            stride: kmers.stride() as u32,
            vocab_size: kmers.vocab_size() as u32,
            window_kmers: TOKENS as u32 - 2,
            frames: None,
            fingerprint: kmers.fingerprint(),
        },
        probability: ProbabilityModel {
            sequence: Some(SequenceCalibration::Classes {
                temperature: 1.0,
                offsets: vec![0.0; labels.len()],
                prior: vec![1.0 / labels.len() as f64; labels.len()],
            }),
            ..ProbabilityModel::default()
        },
        labels,
        contract: AccuracyContract {
            data: format!("random weights, {golden} sequences"),
            metric: METRIC.into(),
            fp32: of(1.0),
            int8: of(same),
            difference: of(same - 1.0),
            budget: 1.0,
            ..AccuracyContract::default()
        },
        golden: Golden {
            part: "golden.json".into(),
            count: golden as u32,
            tolerance_fp32: 1e-3,
            tolerance_int8: 0.25,
        },
        provenance: Provenance {
            data: BTreeMap::new(),
            recipe_sha256: "0".repeat(64),
            seed: export_step::SEED,
            source: None,
            created: "2026-01-01".into(),
        },
        parts: Vec::new(),
    }
}
