//! `locus evaluate --recipe`: figures of a sequence model on one split of its set, beside its floors.

use std::{collections::BTreeMap, path::Path};

use locus_engine::{Row, SequenceScorer};
use locus_firmware_config::manifest::SequenceCalibration;
use locus_genome::{EncodedSequence, SequenceEncoder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    commands::{evaluate::EvaluateArgs, score::open_sequence},
    data::Split,
    device,
    error::io_at,
    evaluate::{Estimate, Read, Reads, estimate},
    files,
    model::{ModelConfig, Params},
    recipe::SequenceRecipe,
    sequence::{SequenceSet, prepare},
    sequence_model::{NGrams, Truth, blosum62, figures, logits, predicted},
    stage::{read_json, write_json},
};

/// Resamples of an interval.
const RESAMPLES: usize = 1_000;
/// Tokens of an n-gram of the logistic regression.
const N: usize = 3;
/// Bases of an n-gram, where tokens are overlapping k-mers and one token is an n-gram already.
const KMER_N: usize = 1;

/// The report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SequenceReport {
    /// Name, version and digest of a bundle; SHA-256 of a checkpoint's weights.
    pub model: String,
    /// What ran it, and in which precision.
    pub engine: String,
    /// The split.
    pub split: String,
    /// Looks at this split of these data so far, this one included; `None` where it is no test split.
    pub test_reads: Option<usize>,
    /// Its records.
    pub records: usize,
    /// Records of each class.
    pub classes: BTreeMap<String, usize>,
    /// Resamples of each interval, their seed and their unit.
    pub intervals: String,
    /// By name.
    pub figures: BTreeMap<String, Estimate>,
    /// Figures of each floor.
    pub floors: BTreeMap<String, BTreeMap<String, Estimate>>,
}

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

    fn names(&self) -> (String, String) {
        match self {
            Self::Bundle(s) => (
                format!("{} {} {}", s.manifest().name, s.manifest().version, s.digest()),
                format!("{}, {}", s.spec().provider, s.spec().precision),
            ),
            Self::Checkpoint { sha256, params, .. } => {
                (format!("checkpoint {sha256}"), format!("{}, fp32", device::candle_on(params.device())))
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
    let encoder = recipe.encoder()?;
    let encode = |records: &[usize]| -> Result<Vec<EncodedSequence>> {
        records.iter().map(|&i| Ok(encoder.encode(&set.records[i].sequence)?)).collect()
    };
    let fits = |i: &usize| {
        encoder.encode(&set.records[*i].sequence).is_ok_and(|e| e.ids.len() <= recipe.max_tokens())
    };
    let splits = named(&args.split).ok_or_else(|| Error::Data {
        what: "--split".into(),
        got: args.split.clone(),
        expected: "train, val_select, val_fit, val or test".into(),
    })?;
    let records: Vec<usize> = splits.iter().flat_map(|s| set.of_split(*s)).filter(fits).collect();
    if records.is_empty() {
        return Err(Error::Data {
            what: "the recipe's set".into(),
            got: format!("no record of {}", args.split),
            expected: "records".into(),
        });
    }
    let (name, engine) = model.names();
    let test_reads = (args.split == "test")
        .then(|| {
            let data = hex::encode(Sha256::digest(serde_json::to_vec(&set.sources).unwrap_or_default()));
            Reads::at(&args.reads()).add(&Read::now(&args.split, &data, &name))
        })
        .transpose()?;
    let rows = encode(&records)?;
    let truth = Truth::of(&set, &records);
    let answers = model.predicted(&rows)?;
    // Without groups every record is a unit of its own.
    let units: Vec<String> = records
        .iter()
        .enumerate()
        .map(|(n, &i)| set.records[i].group.clone().unwrap_or_else(|| n.to_string()))
        .collect();
    let units: Vec<&str> = units.iter().map(String::as_str).collect();
    let of = |answers: &[Vec<f64>]| described(answers, &truth, &units, args.seed);
    let mut floors = BTreeMap::new();
    for (name, answers) in floor_answers(&set, &encoder, &records, &rows, &encode, &fits)? {
        floors.insert(name, of(&answers));
    }
    let mut classes = BTreeMap::new();
    if let Truth::Classes(truth) = &truth {
        truth.iter().for_each(|&c| *classes.entry(set.classes[c].clone()).or_default() += 1);
    }
    let grouped = set.records.iter().any(|r| r.group.is_some());
    let unit = if grouped { "groups" } else { "records" };
    let report = SequenceReport {
        model: name,
        engine,
        split: args.split.clone(),
        test_reads,
        records: records.len(),
        classes,
        intervals: format!("95 %, {RESAMPLES} resamples of {unit}, seed {}", args.seed),
        figures: of(&answers),
        floors,
    };
    print(&report);
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(report)
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
        let score = |&i: &usize| vec![blosum62(&set.records[i], wild_type).unwrap_or(0.0)];
        all.push(("BLOSUM62".into(), records.iter().map(score).collect()));
    }
    Ok(all)
}

fn described(answers: &[Vec<f64>], truth: &Truth, units: &[&str], seed: u64) -> BTreeMap<String, Estimate> {
    let names: Vec<String> = figures(answers, truth).into_keys().collect();
    let estimates = estimate(units, RESAMPLES, seed, |places| {
        let picked: Vec<Vec<f64>> = places.iter().map(|&i| answers[i].clone()).collect();
        let of = figures(&picked, &truth.at(places));
        names.iter().map(|n| of.get(n).copied()).collect()
    });
    names.into_iter().zip(estimates).filter_map(|(n, e)| Some((n, e?))).collect()
}

fn print(report: &SequenceReport) {
    println!("{} records of {}: {:?}", report.records, report.split, report.classes);
    let tables =
        std::iter::once(("model", &report.figures)).chain(report.floors.iter().map(|(n, t)| (n.as_str(), t)));
    for (name, table) in tables {
        println!("{name}");
        for (figure, e) in table {
            let interval = e.low.zip(e.high).map_or_else(String::new, |(l, h)| format!("  [{l:.4}, {h:.4}]"));
            println!("  {figure:<14} {:.4}{interval}", e.value);
        }
    }
}
