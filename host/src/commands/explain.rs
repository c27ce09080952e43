//! `locus explain`: why single variants are answered as they are, and whether such explanations are faithful.

use std::path::PathBuf;

use locus_genome::{InputMode, ReferencePack, Variant, vcf};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    Error, Result,
    error::io_at,
    explain::{self, Faithfulness, Model},
    files,
    progress::Progress,
    stage::write_json,
};

/// The model and the reference.
#[derive(Clone, Debug, clap::Args)]
pub struct Source {
    /// The model; its signature is not checked
    #[arg(long, required_unless_present = "run")]
    pub bundle: Option<PathBuf>,
    /// An output folder instead of a bundle: its best checkpoint
    #[arg(long, conflicts_with = "bundle")]
    pub run: Option<PathBuf>,
    /// Bases: FASTA
    #[arg(long)]
    pub fasta: PathBuf,
    /// Transcripts: GFF3
    #[arg(long)]
    pub gff: PathBuf,
}

impl Source {
    fn open(&self) -> Result<(Model, ReferencePack)> {
        let model = match (&self.run, &self.bundle) {
            (Some(folder), _) => Model::run(folder)?,
            (None, bundle) => Model::bundle(&bundle.clone().unwrap_or_default())?,
        };
        complain!("explains {} by its float weights", model.name);
        Ok((model, ReferencePack::open(&self.fasta, &self.gff)?))
    }
}

/// What is explained.
#[derive(Clone, Debug, clap::Args)]
pub struct VariantArgs {
    /// The model and the reference
    #[command(flatten)]
    pub source: Source,
    /// Variants such as chr2-201187798-T-C
    #[arg(required = true)]
    pub variants: Vec<Variant>,
    /// Without transcript, as a bare sequence is answered
    #[arg(long)]
    pub sequence_only: bool,
    /// Folder for VARIANT.svg, .png, .json and .attention.safetensors (probabilities [layers, heads, tokens, tokens])
    #[arg(long)]
    pub out: PathBuf,
}

/// Explains variants: a picture, the numbers and the attention maps of each.
///
/// # Errors
/// A file that cannot be read or written, or a variant that the model cannot read.
pub fn variants(args: &VariantArgs) -> Result<()> {
    let (model, reference) = args.source.open()?;
    let mode = if args.sequence_only { InputMode::SequenceOnly } else { InputMode::Transcript };
    std::fs::create_dir_all(&args.out).map_err(io_at(&args.out))?;
    for variant in &args.variants {
        let explanation = explain::explain(&model, &reference, variant.clone(), mode)?;
        let at = |ending: &str| args.out.join(format!("{variant}.{ending}"));
        let picture = explain::draw(&model, &explanation);
        picture.write(&at("svg"))?;
        picture.write(&at("png"))?;
        write_json(&at("json"), &explanation.json(&model))?;
        let maps = [("alternate", &explanation.attention.maps)];
        let maps = safetensors::serialize(maps, None).map_err(candle_core::Error::from)?;
        files::write_atomically(&at("attention.safetensors"), &maps)?;
        let a = &explanation.attribution;
        say!(
            "{variant}: logit {:.3}, completeness error {:.2} % with {} points, {}",
            a.logit,
            100.0 * a.completeness_error,
            a.points,
            at("png").display()
        );
    }
    Ok(())
}

/// On what explanations are tested.
#[derive(Clone, Debug, clap::Args)]
pub struct TestArgs {
    /// The model and the reference
    #[command(flatten)]
    pub source: Source,
    /// Variants with INFO GENE and SPLIT
    #[arg(long)]
    pub vcf: PathBuf,
    /// Records with this SPLIT
    #[arg(long, default_value = "val")]
    pub split: String,
    /// Records that are drawn
    #[arg(long, default_value_t = 200)]
    pub records: usize,
    /// Seed of the draw, of random orders and of the resampling
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Report to write
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// Draws records, explains them in both input modes, and says how complete and how faithful the attributions are.
///
/// # Errors
/// A file that cannot be read, or no record that the model can read.
pub fn test(args: &TestArgs) -> Result<Faithfulness> {
    let (model, reference) = args.source.open()?;
    let mut records = Vec::new();
    for row in vcf::Reader::open(&args.vcf)? {
        let row = row?;
        if row.info("SPLIT") == Some(args.split.as_str())
            && let Ok(variant) = &row.variant
        {
            records.push((variant.clone(), row.info("GENE").unwrap_or_default().to_owned()));
        }
    }
    if records.is_empty() {
        return Err(Error::Data {
            what: args.vcf.display().to_string(),
            got: format!("no record with SPLIT={}", args.split),
            expected: "variants with INFO SPLIT".into(),
        });
    }
    records.shuffle(&mut ChaCha8Rng::seed_from_u64(args.seed));
    records.truncate(args.records);
    let mut progress: Option<Progress> = None;
    let report = explain::test(&model, &reference, &records, args.seed, |n, all| {
        progress.get_or_insert_with(|| Progress::new("explain", 0, all as u64)).step(n as u64, 0, "");
    })?;
    for (mode, m) in &report.modes {
        say!(
            "{mode}: {} records of {} genes; completeness error {:.3} % median, {:.3} % at the 90th percentile, {:.0} % within 1 %, {} points median",
            m.records,
            m.genes,
            100.0 * m.completeness_error_median,
            100.0 * m.completeness_error_p90,
            100.0 * m.within_one_percent,
            m.points_median
        );
        let [w, t, f] = m.shares.map(|s| 100.0 * s);
        say!("  attribution: words {w:.1} %, track {t:.1} %, features {f:.1} %");
        for (name, e) in &m.areas {
            let interval = e.low.zip(e.high).map_or_else(String::new, |(l, h)| format!("  [{l:.4}, {h:.4}]"));
            say!("  area {name:<18} {:.4}{interval}", e.value);
        }
    }
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    Ok(report)
}
