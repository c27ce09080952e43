//! `locus evaluate`: figures of a bundle, or of a checkpoint that is no bundle yet, on one split.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus_engine::{Row, Scorer};
use locus_firmware_config::{
    manifest::{ModeCalibration, ProbabilityModel},
    message::Band,
};
use locus_genome::{
    Consequence, EncodedVariant, InputMode, KmerTokenizer, ReferencePack, Strand, VariantEncoder,
    encode::CONTEXT_BASES, vcf,
};
use serde::{Deserialize, Serialize};

use super::{
    Stage,
    report::REPORT,
    score::{EngineArgs, open},
};
use crate::{
    Error, Result,
    data::{Encoding, Pair},
    device::{self, DeviceChoice},
    error::io_at,
    evaluate::{Floors, ModeReport, Read, Reads, Scored, Shares, calibration, describe},
    files, infer,
    model::{ModelConfig, Params},
    recipe::WindowPlan,
    stage::{read_json, write_json},
};

/// Resamples of an interval.
const RESAMPLES: usize = 1_000;
/// Name of the floor that missense predictors start from.
const BLOSUM62: &str = "blosum62";

/// The list of looks at test splits, beside a bundle or in an output folder.
pub(crate) const READS: &str = "test-reads.jsonl";
/// The split that probabilities are fitted on.
const FITTED: &str = "val";

/// What is evaluated on what.
#[derive(Clone, Debug, clap::Args)]
pub struct EvaluateArgs {
    /// The model
    #[arg(long, required_unless_present = "run")]
    pub bundle: Option<PathBuf>,
    /// An output folder instead of a bundle: its best checkpoint, by candle
    #[arg(long, conflicts_with = "bundle")]
    pub run: Option<PathBuf>,
    /// Recipe of a sequence model, whose data it is evaluated on; in place of FASTA, GFF3 and VCF
    #[arg(long, conflicts_with_all = ["fasta", "gff", "vcf", "floors"])]
    pub recipe: Option<PathBuf>,
    /// Bases: FASTA
    #[arg(long, required_unless_present = "recipe")]
    pub fasta: Option<PathBuf>,
    /// Transcripts: GFF3
    #[arg(long, required_unless_present = "recipe")]
    pub gff: Option<PathBuf>,
    /// Labelled variants: VCF
    #[arg(long, required_unless_present = "recipe")]
    pub vcf: Option<PathBuf>,
    /// Records with this SPLIT; of a recipe's data train, val_select, val_fit, val (both halves) or test
    #[arg(long, default_value = "test")]
    pub split: String,
    /// Baselines [default: floors.tsv.gz beside the VCF, where there is one]
    #[arg(long)]
    pub floors: Option<PathBuf>,
    /// Report to write
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Where a look at a test split is written down [default: test-reads.jsonl beside the bundle or in the run]
    #[arg(long)]
    pub reads: Option<PathBuf>,
    /// Seed of the resampling
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where to run the checkpoint of an output folder: auto, cpu, cuda or cuda:N [default: auto]
    #[arg(long, requires = "run")]
    pub device: Option<DeviceChoice>,
    /// How to run the model
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// The report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name, version and digest of a bundle; SHA-256 of a checkpoint's weights.
    pub model: String,
    /// What ran it.
    pub engine: String,
    /// In which precision.
    pub precision: String,
    /// The split.
    pub split: String,
    /// SHA-256 of the labelled variants.
    pub data: String,
    /// Looks at this split of these variants so far, this one included; `None` where it is no test split.
    pub test_reads: Option<usize>,
    /// Records left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Resamples of each interval, their seed and their unit.
    pub intervals: String,
    /// By input mode.
    pub modes: BTreeMap<String, ModeReport>,
}

#[allow(clippy::large_enum_variant, reason = "one value per run")]
enum Model {
    Bundle(Box<Scorer>),
    Checkpoint {
        config: ModelConfig,
        params: Params,
        encoder: VariantEncoder,
        buckets: Vec<usize>,
        probability: ProbabilityModel,
        sha256: String,
    },
}

impl Model {
    fn open(args: &EvaluateArgs) -> Result<Self> {
        let Some(folder) = &args.run else {
            let bundle = args.bundle.clone().unwrap_or_default();
            return Ok(Self::Bundle(Box::new(open(&bundle, &args.engine)?)));
        };
        let place = folder.join("best/config.json");
        let config = ModelConfig::read(&place).map_err(io_at(&place))?;
        let weights = folder.join("best/model.safetensors");
        let (params, sha256) = (args.checkpoint(&weights, &config)?, files::sha256(&weights)?);
        let place = folder.join("best/tokenizer.json");
        let tokenizer = KmerTokenizer::from_json(&std::fs::read_to_string(&place).map_err(io_at(&place))?)?;
        let WindowPlan { kmers, buckets, .. } = Encoding::read(&folder.join("best/window.json"))?.window;
        let probability = read_json(&folder.join("probability.json"))?;
        let encoder = VariantEncoder::new(tokenizer, kmers);
        Ok(Self::Checkpoint { encoder, buckets, config, params, probability, sha256 })
    }

    fn encoder(&self) -> VariantEncoder {
        match self {
            Self::Bundle(scorer) => *scorer.encoder(),
            Self::Checkpoint { encoder, .. } => *encoder,
        }
    }

    fn calibration(&self, mode: InputMode) -> Option<ModeCalibration> {
        let model = match self {
            Self::Bundle(scorer) => &scorer.manifest().probability,
            Self::Checkpoint { probability, .. } => probability,
        };
        model.modes.get(mode.as_str()).cloned()
    }

    fn logits(&mut self, variants: &[EncodedVariant]) -> Result<Vec<f32>> {
        match self {
            Self::Bundle(scorer) => {
                let rows: Vec<Row<'_>> = variants.iter().map(Row::from).collect();
                Ok(scorer.logits(&rows)?.iter().map(|l| l.first().copied().unwrap_or(f32::NAN)).collect())
            }
            Self::Checkpoint { config, params, buckets, .. } => {
                let pairs: Vec<Pair> = variants.iter().map(Pair::of).collect();
                infer::logits(config, params, &pairs, buckets)
            }
        }
    }

    fn names(&self) -> (String, String, String) {
        match self {
            Self::Bundle(s) => (
                format!("{} {} {}", s.manifest().name, s.manifest().version, s.digest()),
                s.spec().provider.clone(),
                s.spec().precision.to_string(),
            ),
            Self::Checkpoint { sha256, params, .. } => {
                (format!("checkpoint {sha256}"), device::candle_on(params.device()), "fp32".into())
            }
        }
    }
}

struct Labelled {
    gene: String,
    stars: String,
    pathogenic: bool,
    floors: Vec<f64>,
    with: EncodedVariant,
    without: EncodedVariant,
}

fn label(
    row: &vcf::Row,
    reference: &ReferencePack,
    encoder: &VariantEncoder,
    floors: &Floors,
) -> Result<Labelled, String> {
    let variant = row.variant.as_ref().map_err(|_| "not a variant that can be read".to_owned())?;
    let pathogenic = match row.info("LABEL") {
        Some("1") => true,
        Some("0") => false,
        _ => return Err("no LABEL of 0 or 1".into()),
    };
    let with = encoder.encode_reference(reference, variant, None).map_err(|e| e.code().to_string())?;
    let without = encoder
        .encode_on(reference, variant, None, CONTEXT_BASES, Strand::Forward)
        .map_err(|e| e.code().to_string())?;
    with.in_scope.map_err(|r| r.to_string())?;
    let named = floors.of(&variant.contig, variant.position, &variant.ref_allele, &variant.alt_allele);
    let mut scores = named.map_or_else(|| vec![f64::NAN; floors.names().len()], <[f64]>::to_vec);
    let missense = with.consequence.is_some_and(Consequence::is_missense);
    let at = locus_genome::feature_names().iter().position(|n| n == BLOSUM62);
    // A replacement that is rare in alignments is the more harmful one.
    scores.push(at.filter(|_| missense).map_or(f64::NAN, |i| -f64::from(with.features[i])));
    let gene = row.info("GENE").map(str::to_owned).or_else(|| with.gene.clone()).unwrap_or_default();
    let stars = row.info("STARS").unwrap_or("unknown").to_owned();
    Ok(Labelled { gene, stars, pathogenic, floors: scores, with, without })
}

fn term(variant: &EncodedVariant) -> String {
    variant.consequence.map_or_else(|| "none".into(), |c| c.so_term().to_owned())
}

/// Counts a record's label by its consequence, where it would be evaluated.
fn count(shares: &mut Shares, row: &vcf::Row, reference: &ReferencePack, encoder: &VariantEncoder) {
    let Ok(Labelled { with, pathogenic, .. }) = label(row, reference, encoder, &Floors::default()) else {
        return;
    };
    let counts = shares.entry(term(&with)).or_default();
    counts.0 += usize::from(pathogenic);
    counts.1 += 1;
}

impl EvaluateArgs {
    /// Weights of an output folder, where they are to be run.
    pub(super) fn checkpoint(&self, weights: &Path, config: &ModelConfig) -> Result<Params> {
        let device = self.device.unwrap_or_default().open()?;
        Ok(Params::read(weights, config, 0)?.to_device(&device)?)
    }

    pub(super) fn reads(&self) -> PathBuf {
        let beside = |b: &PathBuf| b.with_file_name(READS);
        let own = self.run.as_ref().map(|r| r.join(READS)).or_else(|| self.bundle.as_ref().map(beside));
        self.reads.clone().or(own).unwrap_or_else(|| READS.into())
    }
}

/// Evaluates and prints; gives the report back.
///
/// # Errors
/// A file that cannot be read, no record of the split, or no engine.
pub fn run(args: &EvaluateArgs) -> Result<Report> {
    let mut model = Model::open(args)?;
    let file = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
    let vcf_path = file(&args.vcf);
    let reference = ReferencePack::open(&file(&args.fasta), &file(&args.gff))?;
    let beside = vcf_path.with_file_name("floors.tsv.gz");
    let floors = match &args.floors {
        Some(path) => Floors::read(path)?,
        None if beside.exists() => Floors::read(&beside)?,
        None => Floors::default(),
    };
    let mut left_out = BTreeMap::new();
    let mut records = Vec::new();
    let encoder = model.encoder();
    let (name, engine, precision) = model.names();
    let data = files::sha256(&vcf_path)?;
    let is_test = args.split.contains("test");
    let test_reads =
        is_test.then(|| Reads::at(&args.reads()).add(&Read::now(&args.split, &data, &name))).transpose()?;
    // Shares of the split that the probabilities were fitted on, where this is another one.
    let mut shares = Shares::new();
    for row in vcf::Reader::open(&vcf_path)? {
        let row = row?;
        if row.info("SPLIT") != Some(args.split.as_str()) {
            if row.info("SPLIT") == Some(FITTED) {
                count(&mut shares, &row, &reference, &encoder);
            }
            continue;
        }
        match label(&row, &reference, &encoder, &floors) {
            Ok(record) => records.push(record),
            Err(reason) => *left_out.entry(reason).or_default() += 1,
        }
    }
    if records.is_empty() {
        return Err(Error::Data {
            what: vcf_path.display().to_string(),
            got: format!("no labelled record with SPLIT={}", args.split),
            expected: "records with LABEL and SPLIT".into(),
        });
    }
    let mut names = floors.names().to_vec();
    names.push(BLOSUM62.into());
    let mut modes = BTreeMap::new();
    for mode in [InputMode::Transcript, InputMode::SequenceOnly] {
        let Some(calibrated) = model.calibration(mode) else { continue };
        let variants: Vec<EncodedVariant> = records
            .iter()
            .map(|r| if mode == InputMode::Transcript { &r.with } else { &r.without }.clone())
            .collect();
        let logits = model.logits(&variants)?;
        let answers = calibrated.answered_accuracy >= locus_engine::MIN_ANSWERED_ACCURACY;
        let scored: Vec<Scored> = records
            .iter()
            .zip(logits)
            .map(|(r, z)| {
                let probability = locus_engine::probability::probability(
                    f64::from(z),
                    calibrated.temperature,
                    calibrated.offset,
                );
                let known = if mode == InputMode::Transcript { r.with.consequence } else { None };
                let band = locus_engine::probability::band(probability, &calibrated, known);
                Scored {
                    gene: r.gene.clone(),
                    consequence: term(&r.with),
                    stars: r.stars.clone(),
                    pathogenic: r.pathogenic,
                    logit: f64::from(z),
                    probability,
                    answered: answers && band != Band::Uncertain,
                    floors: r.floors.clone(),
                }
            })
            .collect();
        let mut report = describe(&scored, &names, RESAMPLES, args.seed);
        let fitted = (args.split != FITTED && !shares.is_empty()).then_some((FITTED, &shares));
        report.calibration = calibration(&scored, calibrated.prior, fitted, !is_test, RESAMPLES, args.seed);
        print(mode, &report);
        modes.insert(mode.as_str().to_owned(), report);
    }
    let intervals = format!("95 %, {RESAMPLES} resamples of genes, seed {}", args.seed);
    let report = Report {
        model: name,
        engine,
        precision,
        split: args.split.clone(),
        data,
        test_reads,
        left_out,
        intervals,
        modes,
    };
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(report)
}

/// Evaluates a bundle on validation at the end of a chain, where no test split is looked at.
pub(super) fn on_validation(stage: &Stage, bundle: &Path) -> Result<Report> {
    let sources = stage.sources();
    run(&EvaluateArgs {
        bundle: Some(bundle.to_owned()),
        run: None,
        recipe: None,
        fasta: Some(sources.fasta),
        gff: Some(sources.gff3),
        vcf: Some(sources.vcf),
        split: FITTED.into(),
        floors: sources.floors,
        json: Some(stage.run.at(REPORT)),
        reads: None,
        seed: stage.recipe.seed,
        device: None,
        engine: EngineArgs::with_library(stage.onnxruntime.clone()),
    })
}

fn print(mode: InputMode, report: &ModeReport) {
    for (name, group) in [("all", &report.overall), ("missense", &report.missense)] {
        say!(
            "{mode} {name}: {} records, {} pathogenic, {} genes",
            group.records,
            group.pathogenic,
            group.genes
        );
        for (kind, table) in [("", &group.figures), ("floor ", &group.floors), ("above ", &group.above_floor)]
        {
            for (figure, e) in table {
                let interval =
                    e.low.zip(e.high).map_or_else(String::new, |(l, h)| format!("  [{l:.4}, {h:.4}]"));
                say!("  {kind}{figure:<20} {:.4}{interval}", e.value);
            }
        }
    }
    if let Some(split) = report.missense_pairs {
        for (name, pairs) in [("within", split.within), ("between", split.between)] {
            let auroc = pairs.auroc.map_or_else(|| "none".into(), |a| format!("{a:.4}"));
            say!("  missense pairs {name} genes: AUROC {auroc} over {} pairs", pairs.pairs);
        }
    }
    if let Some(c) = &report.calibration {
        say!(
            "{mode} ECE: {:.4} as it is, {:.4} at the records' own share of pathogenic",
            c.raw.ece,
            c.at_share.ece
        );
        if let Some(r) = &c.reweighted {
            say!("  {:.4} with each consequence reweighted to the shares of {}", r.calibrated.ece, r.to);
        }
        for (method, f) in &c.cross_fitted {
            say!("  cross-fitted {method:<12} ECE {:.4}, log loss {:.4}", f.ece, f.log_loss);
        }
    }
    let accuracy = report.answered_accuracy.map_or_else(|| "none".into(), |a| format!("{:.1} %", 100.0 * a));
    say!("{mode}: {:.1} % answered, {accuracy} of these right", 100.0 * report.answered_share);
}
