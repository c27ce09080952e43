//! `locus score`: one row per input allele, never a gap.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use locus_engine::{Bundle, LoadOptions, Scorer, Trust};
use locus_firmware_config::{message::Band, profile::DeviceProfile};
use locus_genome::{EncodedVariant, ReferencePack, vcf};

use crate::{Error, Result, error::io_at, files};

/// Alleles that are scored together.
const CHUNK: usize = 1_024;
/// Header of the table.
pub const HEADER: &str = "chrom\tpos\tref\talt\tprobability\tband\tconsequence\tstatus";

/// What is scored with what.
#[derive(Clone, Debug, clap::Args)]
pub struct ScoreArgs {
    /// The model; its signature is not checked, which is said
    #[arg(long)]
    pub bundle: PathBuf,
    /// Bases: FASTA, plain or compressed
    #[arg(long)]
    pub fasta: PathBuf,
    /// Transcripts: GFF3
    #[arg(long)]
    pub gff: PathBuf,
    /// Variants: VCF
    #[arg(long)]
    pub vcf: PathBuf,
    /// Table to write
    #[arg(long)]
    pub out: PathBuf,
    /// What the model read and gave, a JSON object an allele, for comparison with a box
    #[arg(long)]
    pub inputs: Option<PathBuf>,
    /// How to run the model
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// How to run a model.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct EngineArgs {
    /// auto, fp32 or int8
    #[arg(long, default_value = "auto")]
    pub precision: String,
    /// Device profile that names engines and threads
    #[arg(long, default_value = "x86-cpu")]
    pub profile: String,
    /// The ONNX Runtime library [default: LOCUS_ONNXRUNTIME, else the project's .locus folder]
    #[arg(long)]
    pub onnxruntime: Option<PathBuf>,
}

/// Opens a bundle to score with; says what runs, and that its signature is missing or was not checked.
pub(crate) fn open(bundle: &Path, args: &EngineArgs) -> Result<Scorer> {
    let bundle = Bundle::open(bundle, &Trust::AllowUnsigned).map_err(locus_engine::Error::from)?;
    let (name, version) = (&bundle.manifest().name, &bundle.manifest().version);
    match bundle.claimed_signers() {
        [] => eprintln!("note: {name} {version} is not signed; a box would refuse it"),
        claimed => eprintln!(
            "note: {name} {version} has claimed signatures by {}, which were not checked; `locus bundle verify` checks",
            claimed.join(", ")
        ),
    }
    let profile = DeviceProfile::named(&args.profile).map_err(|e| Error::Data {
        what: "--profile".into(),
        got: e.to_string(),
        expected: "a shipped profile".into(),
    })?;
    let precision = args.precision.parse().map_err(|_| Error::Data {
        what: "--precision".into(),
        got: args.precision.clone(),
        expected: "auto, fp32 or int8".into(),
    })?;
    let options = LoadOptions { precision, onnxruntime: args.onnxruntime.clone(), ..LoadOptions::default() };
    let scorer = Scorer::open(&bundle, &profile, &options)?;
    for skipped in scorer.skipped() {
        eprintln!("note: {} skipped: {}", skipped.engine, skipped.reason);
    }
    eprintln!("engine {} in {}", scorer.spec().provider, scorer.spec().precision);
    Ok(scorer)
}

fn cell(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    if clean.is_empty() { ".".into() } else { clean }
}

const fn word(band: Band) -> &'static str {
    match band {
        Band::Benign => "benign",
        Band::Uncertain => "uncertain",
        Band::Pathogenic => "pathogenic",
        _ => "none",
    }
}

/// Scores every allele of the VCF into a table.
///
/// # Errors
/// A file that cannot be read to its end (no table is left behind), or no engine.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let mut scorer = open(&args.bundle, &args.engine)?;
    let reference = ReferencePack::open(&args.fasta, &args.gff)?;
    let rows: Vec<vcf::Row> = vcf::Reader::open(&args.vcf)?.collect::<Result<_, _>>()?;
    let mut table = Vec::with_capacity(64 * rows.len());
    writeln!(table, "{HEADER}").map_err(io_at(&args.out))?;
    let mut inputs = Vec::new();
    let mut scored = 0;
    for chunk in rows.chunks(CHUNK) {
        let encoded: Vec<Result<EncodedVariant, String>> =
            chunk.iter().map(|row| encode(&scorer, &reference, row)).collect();
        let readable: Vec<EncodedVariant> = encoded.iter().filter_map(|e| e.as_ref().ok().cloned()).collect();
        let scores = scorer.score(&readable)?;
        if args.inputs.is_some() {
            for (e, score) in readable.iter().zip(&scores) {
                let line = serde_json::json!({
                    "ref_ids": e.ref_ids, "alt_ids": e.alt_ids, "track": e.track, "features": e.features,
                    "input_mode": e.mode.as_str(), "consequence": e.consequence.map(|c| c.so_term()),
                    "logits": score.logits,
                });
                writeln!(inputs, "{line}").map_err(io_at(&args.out))?;
            }
        }
        let mut scores = scores.into_iter();
        for (row, encoded) in chunk.iter().zip(&encoded) {
            let (probability, band, consequence, status) = match encoded {
                Err(reason) => (".".into(), "none", ".".into(), reason.clone()),
                Ok(variant) => {
                    let consequence = variant.consequence.map_or(".", |c| c.so_term()).to_owned();
                    match scores.next() {
                        Some(score) if score.abstained => (
                            ".".into(),
                            "none",
                            consequence,
                            format!("abstained: {}", score.reason.unwrap_or_default()),
                        ),
                        Some(score) => {
                            scored += 1;
                            let p = score.probability.map_or_else(|| ".".into(), |p| format!("{p:.6}"));
                            (p, word(score.band), consequence, "ok".into())
                        }
                        None => (".".into(), "none", consequence, "no score".into()),
                    }
                }
            };
            let (r, a) = (cell(&row.ref_allele), cell(&row.alt_allele));
            writeln!(
                table,
                "{}\t{}\t{r}\t{a}\t{probability}\t{band}\t{consequence}\t{}",
                cell(&row.contig),
                row.position,
                cell(&status)
            )
            .map_err(io_at(&args.out))?;
        }
    }
    if let Some(path) = &args.inputs {
        files::write_atomically(path, &inputs)?;
    }
    files::write_atomically(&args.out, &table)?;
    eprintln!("{scored} of {} alleles scored", rows.len());
    Ok(())
}

fn encode(scorer: &Scorer, reference: &ReferencePack, row: &vcf::Row) -> Result<EncodedVariant, String> {
    let variant = row.variant.as_ref().map_err(|reason| format!("unreadable: {reason}"))?;
    scorer.encoder().encode_reference(reference, variant, None).map_err(|e| format!("{}: {e}", e.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_never_breaks_the_table() {
        assert_eq!((cell("a\tb\nc").as_str(), cell("").as_str()), ("a b c", "."));
        assert_eq!(cell(&"x".repeat(1_000)).len(), 300);
    }
}
