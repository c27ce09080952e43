//! `locus bundle evidence`: the steps of evidence of a bundle that is already there, measured as `locus calibrate` does.

use std::path::{Path, PathBuf};

use locus_engine::{Bundle, Graphs, Trust};
use locus_export::BundleBuilder;
use locus_firmware_config::manifest::{EvidenceStep, Manifest, ModeCalibration};
use locus_genome::InputMode;

use super::{
    Stage,
    bundle::opens,
    calibrate::evidence,
    export::{broken, engine_logits, sessions},
    prepare,
    proof::{same_data, same_recipe},
};
use crate::{
    Recipe, Result,
    data::{Dataset, Split, View},
    error::io_at,
    files, infer,
    stage::Run,
};

/// What is measured, on what.
#[derive(Clone, Debug, clap::Args)]
pub struct EvidenceArgs {
    /// The recipe that made it: the half of this recipe's validation that probabilities are fitted on is asked
    #[arg(long, value_name = "RECIPE")]
    pub data: PathBuf,
    /// The ONNX Runtime library that measures [default: LOCUS_ONNXRUNTIME, else the project's .locus folder]
    #[arg(long)]
    pub onnxruntime: Option<PathBuf>,
    /// The bundle
    pub bundle: PathBuf,
    /// The same bundle with its steps of evidence, unsigned
    pub out: PathBuf,
}

/// Measures the steps with the bundle's own FP32 graph and its own probabilities, and writes the bundle with them. Of the
/// manifest nothing else changes, of the parts nothing.
///
/// # Errors
/// Another recipe or other data than the bundle's, no engine, or a bundle without a calibration for transcripts.
pub fn run(args: &EvidenceArgs) -> Result<()> {
    let folder = tempfile::tempdir().map_err(io_at(Path::new("a temporary folder")))?;
    let run = Run::open(folder.path())?;
    let stage = Stage { recipe: Recipe::read(&args.data)?, run, onnxruntime: args.onnxruntime.clone() };
    let bundle = Bundle::open(&args.bundle, &Trust::AllowUnsigned).map_err(locus_engine::Error::from)?;
    same_recipe(&bundle, &stage.recipe.digest())?;
    let mut manifest = bundle.manifest().clone();
    let mode = manifest.probability.modes.get_mut(InputMode::Transcript.as_str()).ok_or_else(|| {
        broken("the bundle's probability", "none for transcripts".into(), "a calibration of that mode".into())
    })?;
    prepare::run(&stage)?;
    let dataset = Dataset::read(&stage.run.at("dataset.bin"))?;
    same_data(&bundle, &dataset.sources.clone().into_iter().collect())?;
    mode.evidence = measured(&stage, &dataset, &bundle, mode)?;
    for step in &mode.evidence {
        let side = if step.criterion == "PP3" { "from" } else { "up to" };
        say!(
            "{} {}: {side} {:.4}, likelihood ratio {:.4}",
            step.criterion,
            step.strength,
            step.from,
            step.likelihood_ratio
        );
    }
    if mode.evidence.is_empty() {
        say!("no step of evidence is reached with 95 % confidence: answers will have none");
    }
    write(manifest, &args.bundle, &args.out)
}

fn measured(
    stage: &Stage,
    dataset: &Dataset,
    bundle: &Bundle,
    mode: &ModeCalibration,
) -> Result<Vec<EvidenceStep>> {
    let records = dataset.of_split(Split::ValFit);
    let pairs = infer::view_of(dataset, &dataset.tokenizer()?, &records, View::TRANSCRIPT);
    let (mut float, _) = sessions(stage, &Graphs::from_bundle(bundle)?)?;
    let logits = engine_logits(&mut *float, &pairs, bundle.manifest().graph.features.len())?;
    let is_missense = |i: usize| dataset.records[records[i]].is_missense();
    let of = (0..records.len()).filter(|&i| is_missense(i)).count();
    say!("{of} missense records of the half of validation that probabilities are fitted on");
    Ok(evidence(stage, dataset, &records, &is_missense, |i| {
        locus_engine::probability::probability(f64::from(logits[i]), mode.temperature, mode.offset)
    }))
}

/// The parts of `from` behind another manifest.
fn write(manifest: Manifest, from: &Path, out: &Path) -> Result<()> {
    let bytes = std::fs::read(from).map_err(io_at(from))?;
    let listed: Vec<String> = manifest.parts.iter().map(|part| part.name.clone()).collect();
    let mut builder = BundleBuilder::new(manifest);
    for (name, part) in locus_export::split(&bytes)? {
        if listed.contains(&name) {
            builder = builder.part(&name, part)?;
        }
    }
    let bytes = builder.build()?;
    let written = opens(&bytes, &Trust::AllowUnsigned)?;
    files::write_atomically(out, &bytes)?;
    say!("{}: digest {}", out.display(), written.digest());
    Ok(())
}
