//! `locus score`: one row per input allele, never a gap.

use std::{
    path::{Path, PathBuf},
    thread,
};

use locus_engine::{Bundle, LoadOptions, Score, Scorer, SequenceScorer, SessionSpec, Skipped, Trust};
use locus_firmware_config::{message::Band, profile::DeviceProfile};
use locus_genome::{EncodedVariant, ReferencePack, vcf};

use crate::{Error, Result, files::Growing};

/// Alleles that are scored together on one core.
const CHUNK: usize = 512;
/// Rows that one core runs together: of 8, 16, 24 and 32 the fewest are the fastest (`locus-bench scoring`).
const TOGETHER: usize = 8;
/// Largest graph that each core gets its own copy of, in bytes.
const SMALL: usize = 32 << 20;
/// Header of the table.
pub const HEADER: &str = "chrom\tpos\tref\talt\tprobability\tband\tconsequence\tstatus";

/// What is scored with what.
#[derive(Clone, Debug, clap::Args)]
pub struct ScoreArgs {
    /// The model; its signature is not checked, which is said
    #[arg(long)]
    pub bundle: PathBuf,
    /// Bases of the reference, or the sequences of a sequence model: FASTA, plain or compressed
    #[arg(long)]
    pub fasta: PathBuf,
    /// Transcripts: GFF3
    #[arg(long, requires = "vcf")]
    pub gff: Option<PathBuf>,
    /// Variants: VCF
    #[arg(long, requires = "gff")]
    pub vcf: Option<PathBuf>,
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
    #[arg(long, default_value = "cpu-x86")]
    pub profile: String,
    /// The ONNX Runtime library [default: LOCUS_ONNXRUNTIME, else the project's .locus folder]
    #[arg(long)]
    pub onnxruntime: Option<PathBuf>,
    /// Rows that the engine runs together at most [default: the profile's]. A box answers a lone question with 1; in INT8
    /// a row's last digits depend on whether it is alone
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_batch: Option<u32>,
}

impl EngineArgs {
    /// What the command line gives by default, with this ONNX Runtime where one is named.
    pub(super) fn with_library(onnxruntime: Option<PathBuf>) -> Self {
        Self { precision: "auto".into(), profile: "cpu-x86".into(), onnxruntime, max_batch: None }
    }
}

/// Opens a bundle to score with; says what runs, and that its signature is missing or was not checked.
pub(crate) fn open(bundle: &Path, args: &EngineArgs) -> Result<Scorer> {
    let (bundle, profile, options) = parts(bundle, args)?;
    let scorer = Scorer::open(&bundle, &profile, &options)?;
    say(scorer.spec(), scorer.skipped());
    Ok(scorer)
}

/// As [`open`], once for each core where the model is small; one session leaves a core to others. What a GPU runs it
/// runs once.
fn open_on_all_cores(bundle: &Path, args: &EngineArgs) -> Result<Vec<Scorer>> {
    let (bundle, profile, options) = parts(bundle, args)?;
    let graph =
        bundle.manifest().parts.iter().map(|part| bundle.part(&part.name).map_or(0, |part| part.len())).max();
    let cores = if graph.is_some_and(|bytes| bytes <= SMALL) {
        thread::available_parallelism().map_or(1, Into::into)
    } else {
        1
    };
    let alone = LoadOptions { intra_threads: usize::from(cores > 1), ..options };
    let first = Scorer::open(&bundle, &profile, &alone)?;
    say(first.spec(), first.skipped());
    let on_cores = ["CPUExecutionProvider", "tract"].contains(&first.spec().provider.as_str());
    let others = if on_cores { cores - 1 } else { 0 };
    let mut scorers = vec![first];
    for _ in 0..others {
        scorers.push(Scorer::open(&bundle, &profile, &alone)?);
    }
    Ok(scorers)
}

/// As [`open`], for a sequence model.
pub(crate) fn open_sequence(bundle: &Path, args: &EngineArgs) -> Result<SequenceScorer> {
    let (bundle, profile, options) = parts(bundle, args)?;
    let scorer = SequenceScorer::open(&bundle, &profile, &options)?;
    say(scorer.spec(), scorer.skipped());
    Ok(scorer)
}

fn say(spec: &SessionSpec, skipped: &[Skipped]) {
    for skipped in skipped {
        complain!("note: {} skipped: {}", skipped.engine, skipped.reason);
    }
    complain!("engine {} in {}", spec.provider, spec.precision);
}

fn parts(bundle: &Path, args: &EngineArgs) -> Result<(Bundle, DeviceProfile, LoadOptions)> {
    let bundle = Bundle::open(bundle, &Trust::AllowUnsigned).map_err(locus_engine::Error::from)?;
    let (name, version) = (&bundle.manifest().name, &bundle.manifest().version);
    match bundle.claimed_signers() {
        [] => complain!("note: {name} {version} is not signed; a box would refuse it"),
        claimed => complain!(
            "note: {name} {version} has claimed signatures by {}, which were not checked; `locus bundle verify` checks",
            claimed.join(", ")
        ),
    }
    let mut profile = DeviceProfile::named(&args.profile).map_err(|e| Error::Data {
        what: "--profile".into(),
        got: e.to_string(),
        expected: "a shipped profile".into(),
    })?;
    profile.max_batch = args.max_batch.unwrap_or(profile.max_batch);
    let precision = args.precision.parse().map_err(|_| Error::Data {
        what: "--precision".into(),
        got: args.precision.clone(),
        expected: "auto, fp32 or int8".into(),
    })?;
    let options = LoadOptions { precision, onnxruntime: args.onnxruntime.clone(), ..LoadOptions::default() };
    Ok((bundle, profile, options))
}

/// One field of the table, whole: a cut allele would be another one.
pub(super) fn cell(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
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

/// Scores every allele of the VCF, or every record of the FASTA file, into a table.
///
/// # Errors
/// A file that cannot be read to its end (no table is left behind), or no engine.
pub fn run(args: &ScoreArgs) -> Result<()> {
    let (Some(gff), Some(path)) = (&args.gff, &args.vcf) else {
        return super::sequence::score::run(args, open_sequence(&args.bundle, &args.engine)?);
    };
    let mut scorers = open_on_all_cores(&args.bundle, &args.engine)?;
    let reference = ReferencePack::open(&args.fasta, gff)?;
    for reason in reference.skipped() {
        complain!("note: {reason}");
    }
    let mut rows = vcf::Reader::open(path)?;
    let mut table = Growing::create(&args.out)?;
    table.write(format!("{HEADER}\n").as_bytes())?;
    let mut inputs = args.inputs.as_deref().map(Growing::create).transpose()?;
    let (mut scored, mut total) = (0, 0);
    let together = match args.engine.max_batch {
        None if scorers.len() > 1 => TOGETHER,
        _ => CHUNK,
    };
    loop {
        // A chunk at a time: a genome's worth of variants need not fit into memory.
        let chunk = rows.by_ref().take(CHUNK * scorers.len()).collect::<Result<Vec<vcf::Row>, _>>()?;
        if chunk.is_empty() {
            break;
        }
        total += chunk.len();
        for (row, (encoded, score)) in
            chunk.iter().zip(scored_by(&mut scorers, &reference, &chunk, together)?)
        {
            scored += u64::from(score.as_ref().is_some_and(|s| !s.abstained));
            if let (Some(inputs), Ok(variant), Some(score)) = (&mut inputs, &encoded, &score) {
                inputs.write(format!("{}\n", input_line(row, variant, score)).as_bytes())?;
            }
            table.write(table_line(row, &encoded, score).as_bytes())?;
        }
    }
    inputs.map_or(Ok(()), Growing::finish)?;
    table.finish()?;
    complain!("{scored} of {total} alleles scored");
    Ok(())
}

/// What the model read of an allele, or why it cannot be read, and its score.
type Scored = (Result<EncodedVariant, String>, Option<Score>);

/// Scores a chunk, each scorer a share of it beside the others, so many rows at a time; in the order of the rows.
fn scored_by(
    scorers: &mut [Scorer],
    reference: &ReferencePack,
    chunk: &[vcf::Row],
    together: usize,
) -> Result<Vec<Scored>> {
    let share = chunk.len().div_ceil(scorers.len());
    thread::scope(|scope| {
        let shares = scorers.iter_mut().zip(chunk.chunks(share));
        let running: Vec<_> = shares
            .map(|(scorer, rows)| scope.spawn(move || share_of(scorer, reference, rows, together)))
            .collect();
        let mut all = Vec::with_capacity(chunk.len());
        for share in running {
            all.extend(share.join().unwrap_or_else(|defect| std::panic::resume_unwind(defect))?);
        }
        Ok(all)
    })
}

fn share_of(
    scorer: &mut Scorer,
    reference: &ReferencePack,
    rows: &[vcf::Row],
    together: usize,
) -> Result<Vec<Scored>> {
    let encoded: Vec<_> = rows.iter().map(|row| encode(scorer, reference, row)).collect();
    let readable: Vec<EncodedVariant> = encoded.iter().filter_map(|e| e.as_ref().ok().cloned()).collect();
    let mut scores = Vec::with_capacity(readable.len());
    for rows in readable.chunks(together) {
        scores.extend(scorer.score(rows)?);
    }
    let mut scores = scores.into_iter();
    let with_scores = encoded.into_iter().map(|encoded| {
        let score = encoded.is_ok().then(|| scores.next()).flatten();
        (encoded, score)
    });
    Ok(with_scores.collect())
}

fn input_line(row: &vcf::Row, e: &EncodedVariant, score: &Score) -> serde_json::Value {
    serde_json::json!({
        "chrom": row.contig, "pos": row.position, "ref": row.ref_allele, "alt": row.alt_allele,
        "ref_ids": e.ref_ids, "alt_ids": e.alt_ids, "track": e.track, "alt_track": e.alt_track, "features": e.features,
        "input_mode": e.mode.as_str(), "consequence": e.consequence.map(|c| c.so_term()),
        "logits": score.logits,
    })
}

fn table_line(row: &vcf::Row, encoded: &Result<EncodedVariant, String>, score: Option<Score>) -> String {
    let none = || (".".to_owned(), "none");
    let ((probability, band), consequence, status) = match encoded {
        Err(reason) => (none(), ".", reason.clone()),
        Ok(variant) => {
            let consequence = variant.consequence.map_or(".", |c| c.so_term());
            match score {
                None => (none(), consequence, "no score".into()),
                Some(score) if score.abstained => {
                    (none(), consequence, format!("abstained: {}", score.reason.unwrap_or_default()))
                }
                Some(score) => {
                    let p = score.probability.map_or_else(|| ".".into(), |p| format!("{p:.6}"));
                    ((p, word(score.band)), consequence, "ok".into())
                }
            }
        }
    };
    let (contig, r, a) = (cell(&row.contig), cell(&row.ref_allele), cell(&row.alt_allele));
    let status = cell(&status);
    format!("{contig}\t{}\t{r}\t{a}\t{probability}\t{band}\t{consequence}\t{status}\n", row.position)
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
        assert_eq!(cell(&"x".repeat(1_000)).len(), 1_000);
    }

    #[test]
    fn a_long_allele_is_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long.vcf");
        let deleted = "ACGT".repeat(250);
        let header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
        std::fs::write(&path, format!("{header}chr1\t7\t.\t{deleted}\tA\t.\t.\t.\n")).unwrap();
        let row = vcf::Reader::open(&path).unwrap().next().unwrap().unwrap();
        let line = table_line(&row, &Err("ref_mismatch".into()), None);
        assert_eq!(line, format!("chr1\t7\t{deleted}\tA\t.\tnone\t.\tref_mismatch\n"));
    }
}
