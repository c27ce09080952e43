//! `locus evaluate --recipe`: figures of a sequence model on one split of its set, beside its floors.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use locus_engine::{Row, SequenceScorer};
use locus_firmware_config::manifest::SequenceCalibration;
use locus_genome::{EncodedSequence, SequenceEncoder};
use sha2::{Digest, Sha256};

use super::SequenceStage;
use crate::{
    Error, Result,
    commands::{
        evaluate::{EvaluateArgs, READS},
        score::{EngineArgs, open_sequence},
    },
    data::Split,
    device,
    error::io_at,
    evaluate::{
        Described, Read, Reads, SequenceReport, describe_classes, describe_numbers, sequence_figures,
    },
    files,
    model::{ModelConfig, Params},
    recipe::SequenceRecipe,
    sequence::{SequenceSet, prepare},
    sequence_model::{NGrams, Truth, blosum62, logits, predicted},
    stage::{read_json, write_json},
};

/// Resamples of an interval.
const RESAMPLES: usize = 1_000;
/// Tokens of an n-gram of the logistic regression.
const N: usize = 3;
/// Bases of an n-gram, where tokens are overlapping k-mers and one token is an n-gram already.
const KMER_N: usize = 1;

#[allow(clippy::large_enum_variant, reason = "one value per run")]
enum Model {
    Bundle(Box<SequenceScorer>),
    Checkpoint { config: ModelConfig, params: Params, calibration: SequenceCalibration, sha256: String },
}

impl Model {
    fn open(args: &EvaluateArgs) -> Result<Self> {
        let Some(folder) = &args.run else {
            let bundle = args.bundle.clone().unwrap_or_default();
            return Ok(Self::Bundle(Box::new(open_sequence(&bundle, &args.engine)?)));
        };
        let place = folder.join("best/config.json");
        let config = ModelConfig::read(&place).map_err(io_at(&place))?;
        let weights = folder.join("best/model.safetensors");
        let (params, sha256) = (args.checkpoint(&weights, &config)?, files::sha256(&weights)?);
        Ok(Self::Checkpoint {
            config,
            params,
            calibration: read_json(&folder.join("probability.json"))?,
            sha256,
        })
    }

    fn predicted(&mut self, rows: &[EncodedSequence]) -> Result<Vec<Vec<f64>>> {
        match self {
            Self::Checkpoint { config, params, calibration, .. } => {
                Ok(predicted(&logits(config, params, rows)?, calibration))
            }
            Self::Bundle(scorer) => {
                let rows: Vec<Row<'_>> = rows.iter().map(|s| Row::sequence(&s.ids, &s.track)).collect();
                let logits = scorer.logits(&rows)?;
                let calibration = scorer.manifest().probability.sequence.as_ref();
                Ok(calibration.map(|c| predicted(&logits, c)).unwrap_or_default())
            }
        }
    }

    /// Model, engine and precision.
    fn names(&self) -> [String; 3] {
        match self {
            Self::Bundle(s) => [
                format!("{} {} {}", s.manifest().name, s.manifest().version, s.digest()),
                s.spec().provider.clone(),
                s.spec().precision.to_string(),
            ],
            Self::Checkpoint { sha256, params, .. } => {
                [format!("checkpoint {sha256}"), device::candle_on(params.device()), "fp32".into()]
            }
        }
    }
}

fn named(split: &str) -> Option<&'static [Split]> {
    Some(match split {
        "train" => &[Split::Train],
        "val_select" => &[Split::ValSelect],
        "val_fit" => &[Split::ValFit],
        "val" => &[Split::ValSelect, Split::ValFit],
        "test" => &[Split::Test],
        _ => return None,
    })
}

/// Evaluates and prints; gives the report back.
///
/// # Errors
/// A recipe of another task, a file that cannot be read, no record of the split, or no engine.
pub fn run(args: &EvaluateArgs) -> Result<SequenceReport> {
    let recipe = SequenceRecipe::read(args.recipe.as_deref().unwrap_or(Path::new("")))?;
    let mut model = Model::open(args)?;
    let set = prepare(&recipe.data, &recipe.data_root())?;
    let asked = Asked { split: &args.split, seed: args.seed, reads: &Reads::at(&args.reads()) };
    let report = report(&recipe, &set, &mut model, &asked)?;
    print(&report);
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(report)
}

/// Evaluates a bundle on validation at the end of a chain, where no test split is looked at.
///
/// # Errors
/// A bundle that cannot be opened, or no engine.
pub(super) fn on_validation(stage: &SequenceStage, bundle: &Path) -> Result<SequenceReport> {
    let engine = EngineArgs::with_library(stage.onnxruntime.clone());
    let mut model = Model::Bundle(Box::new(open_sequence(bundle, &engine)?));
    let set = stage.set("bundle create")?;
    let reads = Reads::at(&stage.run.at(READS));
    let asked = Asked { split: "val", seed: stage.recipe.seed, reads: &reads };
    report(&stage.recipe, &set, &mut model, &asked)
}

/// What is looked at, and where looks at a test split are written down.
struct Asked<'a> {
    split: &'a str,
    seed: u64,
    reads: &'a Reads,
}

fn report(
    recipe: &SequenceRecipe,
    set: &SequenceSet,
    model: &mut Model,
    asked: &Asked<'_>,
) -> Result<SequenceReport> {
    let encoder = recipe.encoder()?;
    let encode = |records: &[usize]| -> Result<Vec<EncodedSequence>> {
        records.iter().map(|&i| Ok(encoder.encode(&set.sequence(i)?)?)).collect()
    };
    let fits = |i: &usize| {
        let encoded = set.sequence(*i).ok().and_then(|s| encoder.encode(&s).ok());
        encoded.is_some_and(|e| e.ids.len() <= recipe.max_tokens())
    };
    let splits = named(asked.split).ok_or_else(|| Error::Data {
        what: "--split".into(),
        got: asked.split.into(),
        expected: "train, val_select, val_fit, val or test".into(),
    })?;
    let all: Vec<usize> = splits.iter().flat_map(|s| set.of_split(*s)).collect();
    let records: Vec<usize> = all.iter().copied().filter(fits).collect();
    if records.is_empty() {
        return Err(Error::Data {
            what: "the recipe's set".into(),
            got: format!("no record of {}", asked.split),
            expected: "records".into(),
        });
    }
    let mut left_out = BTreeMap::new();
    if all.len() > records.len() {
        left_out.insert("longer than the longest bucket".into(), (all.len() - records.len()) as u64);
    }
    let [name, engine, precision] = model.names();
    let data = hex::encode(Sha256::digest(serde_json::to_vec(&set.sources).unwrap_or_default()));
    let test_reads = (asked.split == "test")
        .then(|| asked.reads.add(&Read::now(asked.split, &data, &name)))
        .transpose()?;
    let rows = encode(&records)?;
    let truth = Truth::of(set, &records);
    let answers = model.predicted(&rows)?;
    // Without groups every record is a unit of its own.
    let units: Vec<String> = records
        .iter()
        .enumerate()
        .map(|(n, &i)| set.records[i].group.clone().unwrap_or_else(|| n.to_string()))
        .collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let of = |answers: &[Vec<f64>]| sequence_figures(answers, &truth, &units, RESAMPLES, asked.seed);
    let mut floors = BTreeMap::new();
    for (name, answers) in floor_answers(set, &encoder, &records, &rows, &encode, &fits)? {
        floors.insert(name, of(&answers));
    }
    let unit = if set.records.iter().any(|r| r.group.is_some()) { "groups" } else { "records" };
    Ok(SequenceReport {
        model: name,
        engine,
        precision,
        split: asked.split.into(),
        data,
        test_reads,
        left_out,
        records: records.len(),
        groups: units.iter().collect::<BTreeSet<_>>().len(),
        intervals: format!("95 %, {RESAMPLES} resamples of {unit}, seed {}", asked.seed),
        figures: of(&answers),
        floors,
        described: match &truth {
            Truth::Classes(truth) => Described::Classes(describe_classes(&answers, truth, &set.classes)),
            Truth::Values(truth) => {
                let values: Vec<f64> = answers.iter().filter_map(|a| a.first().copied()).collect();
                Described::Numbers(describe_numbers(&values, truth))
            }
        },
    })
}

/// What the floors say of each record: n-grams of classes, BLOSUM62 of changed residues.
fn floor_answers(
    set: &SequenceSet,
    encoder: &SequenceEncoder,
    records: &[usize],
    rows: &[EncodedSequence],
    encode: &dyn Fn(&[usize]) -> Result<Vec<EncodedSequence>>,
    fits: &dyn Fn(&usize) -> bool,
) -> Result<Vec<(String, Vec<Vec<f64>>)>> {
    let mut all = Vec::new();
    if !set.classes.is_empty() {
        let train: Vec<usize> = set.of_split(Split::Train).into_iter().filter(|i| fits(i)).collect();
        let Truth::Classes(classes) = Truth::of(set, &train) else { return Ok(all) };
        let kmers =
            matches!(encoder.tokenizer(), locus_genome::Tokenizer::Dna(_) | locus_genome::Tokenizer::Rna(_));
        let n = if kmers { KMER_N } else { N };
        let floor = NGrams::fit(&encode(&train)?, &classes, set.classes.len(), n);
        let name = format!("logistic regression on token {n}-grams");
        all.push((name, rows.iter().map(|r| floor.predict(r)).collect()));
    }
    if let Some(wild_type) = &set.wild_type {
        let score = |&i: &usize| -> Result<Vec<f64>> {
            let changed = set.records[i].changed;
            Ok(vec![blosum62(changed, &set.sequence(i)?, wild_type).unwrap_or(0.0)])
        };
        all.push(("BLOSUM62".into(), records.iter().map(score).collect::<Result<_>>()?));
    }
    Ok(all)
}

fn print(report: &SequenceReport) {
    say!("{} records of {} in {} groups", report.records, report.split, report.groups);
    let tables =
        std::iter::once(("model", &report.figures)).chain(report.floors.iter().map(|(n, t)| (n.as_str(), t)));
    for (name, table) in tables {
        say!("{name}");
        for (figure, e) in table {
            let interval = e.low.zip(e.high).map_or_else(String::new, |(l, h)| format!("  [{l:.4}, {h:.4}]"));
            say!("  {figure:<14} {:.4}{interval}", e.value);
        }
    }
}
