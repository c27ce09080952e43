//! `locus bundle`: create, sign, inspect, verify.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus_engine::{Bundle, Inputs, Limits, Scorer, SequenceScorer, Trust, TrustedKey};
use locus_export::BundleBuilder;
use locus_firmware_config::manifest::{
    FORMAT, Golden, GraphContract, Manifest, Provenance, Scope, Task, TokenizerInfo,
};
use serde::Serialize;

use super::{
    Stage,
    calibrate::best,
    export::{Exported, MAX_BATCH},
};
use crate::{
    Error, Result,
    error::io_at,
    files,
    stage::{Run, read_json},
};

/// Signed and unsigned 8-bit kernels, fused or not, differ by quantisation noise of this many logits.
const INT8_TOLERANCE: f64 = 0.25;
const FP32_TOLERANCE: f64 = 1e-3;

/// Puts the output folder's graphs and their manifest into an unsigned bundle.
///
/// # Errors
/// A missing stage, or a file that cannot be read.
pub fn create(stage: &Stage, out: &Path, created: &str, source: Option<String>) -> Result<()> {
    let (dataset, _) = stage.dataset("bundle create")?;
    let (config, _, _) = best(stage, "bundle create")?;
    let path = stage.run.at("export.json");
    if !path.exists() {
        return Err(Error::Missing { stage: "bundle create", path, needs: "export" });
    }
    let exported: Exported = read_json(&path)?;
    let tokenizer = dataset.tokenizer()?;
    let recipe = &stage.recipe;
    let window = tokenizer.bases(recipe.window.kmers) as u32;
    let (inputs, outputs) = locus_engine::tensors(Inputs::Pair, config.n_features, config.labels.len());
    let manifest = Manifest {
        format: FORMAT,
        name: recipe.name.clone(),
        version: version(&recipe.version)?,
        security_counter: recipe.security_counter,
        min_edge_version: version("0.1.0")?,
        task: Task::VariantEffect,
        labels: config.labels.clone(),
        scope: Scope {
            kinds: vec!["snv".into()],
            min_bases: (2 * recipe.window.crop_flank[0] + 1) as u32,
            max_bases: window,
            modes: vec!["transcript".into(), "sequence_only".into()],
            consequences: None,
            assembly: recipe.data.assembly.clone(),
            max_ambiguous_percent: None,
            wild_type: None,
        },
        graph: GraphContract {
            inputs,
            outputs,
            features: dataset.features.clone(),
            buckets: recipe.window.buckets.iter().map(|&b| b as u32).collect(),
            max_tokens: config.max_position_embeddings as u32,
            max_batch: MAX_BATCH,
        },
        tokenizer: TokenizerInfo {
            kmer: tokenizer.k() as u32,
            stride: tokenizer.stride() as u32,
            vocab_size: tokenizer.vocab_size() as u32,
            window_kmers: recipe.window.kmers as u32,
            frames: None,
            fingerprint: tokenizer.fingerprint(),
        },
        probability: read_json(&stage.run.at("probability.json"))?,
        contract: exported.contract,
        golden: golden_of(&exported.golden),
        provenance: Provenance {
            data: dataset.sources.clone().into_iter().collect::<BTreeMap<_, _>>(),
            recipe_sha256: recipe.digest(),
            seed: recipe.seed,
            source,
            created: created.into(),
        },
        parts: Vec::new(),
    };
    assemble(&stage.run, manifest, &tokenizer.to_json(), &exported.golden, |_| Ok(()), out)
}

/// A semantic version of a recipe or of the edge.
pub(super) fn version<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::Recipe {
        key: "version".into(),
        got: text.into(),
        expected: "a semantic version".into(),
    })
}

/// How many golden vectors there are, and how near a device must come to them.
pub(super) fn golden_of<G>(golden: &[G]) -> Golden {
    Golden {
        part: "golden.json".into(),
        count: golden.len() as u32,
        tolerance_fp32: FP32_TOLERANCE,
        tolerance_int8: INT8_TOLERANCE,
    }
}

/// Puts the graphs of an output folder behind a manifest, and writes the bundle where it opens and `fits`.
pub(super) fn assemble<G: Serialize>(
    run: &Run,
    manifest: Manifest,
    tokenizer: &str,
    golden: &[G],
    fits: impl FnOnce(&Bundle) -> Result<()>,
    out: &Path,
) -> Result<()> {
    let read = |name: &str| {
        let path = run.at(name);
        std::fs::read(&path).map_err(io_at(&path))
    };
    let golden = serde_json::to_vec(golden).map_err(std::io::Error::from).map_err(io_at(out))?;
    let bytes = BundleBuilder::new(manifest)
        .part("tokenizer.json", tokenizer.into())?
        .part("config.json", read("best/config.json")?)?
        .part("calibration.json", read("calibration.json")?)?
        .part("golden.json", golden)?
        .part("fp32.onnx", read("fp32.onnx")?)?
        .part("int8.onnx", read("int8.onnx")?)?
        .part("int8-fp16.onnx", read("int8-fp16.onnx")?)?
        .build()?;
    let bundle = opens(&bytes, &Trust::AllowUnsigned)?;
    fits(&bundle)?;
    files::write_atomically(out, &bytes)?;
    complain!("bundle: {} bytes, digest {}", bytes.len(), bundle.digest());
    Ok(())
}

/// Adds a signature to a bundle that opens, and writes it only where the result opens with this key.
///
/// # Errors
/// A bundle that is refused, or no private key.
pub fn sign(key: &Path, input: &Path, out: &Path) -> Result<()> {
    let key = locus_export::read_private(key)?;
    Bundle::open(input, &Trust::AllowUnsigned).map_err(locus_engine::Error::from)?;
    let bytes = std::fs::read(input).map_err(io_at(input))?;
    let signed = locus_export::sign(&bytes, &key)?;
    let own = TrustedKey::from_bytes(key.verifying_key().as_bytes())
        .map_err(|error| locus_engine::Error::from(locus_engine::BundleError::from(error)))?;
    opens(&signed, &Trust::Keys(vec![own]))?;
    files::write_atomically(out, &signed)
}

/// Writes what a box that has the bundle `old` still needs of `new`: whole parts, by their SHA-256.
///
/// # Errors
/// A bundle that is refused.
pub fn delta(old: &Path, new: &Path, out: &Path) -> Result<()> {
    let read = |path: &Path| {
        Bundle::open(path, &Trust::AllowUnsigned).map_err(locus_engine::Error::from)?;
        std::fs::read(path).map_err(io_at(path))
    };
    let (old, new) = (read(old)?, read(new)?);
    let delta = locus_export::delta(&old, &new)?;
    files::write_atomically(out, &delta)?;
    say!("{}: {} of {} bytes", out.display(), delta.len(), new.len());
    Ok(())
}

/// What is written must open, within the limits of a box.
pub(super) fn opens(bytes: &[u8], trust: &Trust) -> Result<Bundle> {
    let bundle = Bundle::read(bytes, bytes.len() as u64, trust, &Limits::default());
    Ok(bundle.map_err(locus_engine::Error::from)?)
}

/// Prints the manifest, as JSON or in words.
///
/// # Errors
/// A bundle that is refused.
pub fn inspect(path: &Path, json: bool) -> Result<()> {
    let bundle = Bundle::open(path, &Trust::AllowUnsigned).map_err(locus_engine::Error::from)?;
    if json {
        say!("{}", String::from_utf8_lossy(bundle.manifest_bytes()).trim_end());
        return Ok(());
    }
    let m = bundle.manifest();
    let signatures = match bundle.claimed_signers() {
        [] => "not signed".to_owned(),
        claimed => format!("claimed signatures by {}, not checked", claimed.join(", ")),
    };
    say!("{} {} ({signatures})", m.name, m.version);
    say!("digest {}", bundle.digest());
    for part in &m.parts {
        say!("{:>10} {} {}", part.size, part.sha256, part.name);
    }
    Ok(())
}

/// What a bundle is checked with.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Trusted public keys, one of which has to sign
    #[arg(long, required_unless_present = "trust", conflicts_with = "trust")]
    pub key: Vec<PathBuf>,
    /// A trust document, which says how many of which keys have to sign
    #[arg(long)]
    pub trust: Option<PathBuf>,
    /// The recipe that made it: measure its accuracy contract again, on this recipe's data
    #[arg(long, value_name = "RECIPE")]
    pub data: Option<PathBuf>,
    /// The ONNX Runtime library that measures [default: LOCUS_ONNXRUNTIME, else the project's .locus folder]
    #[arg(long, requires = "data")]
    pub onnxruntime: Option<PathBuf>,
    /// The bundle
    pub bundle: PathBuf,
}

/// Checks everything that a box checks before it looks for an engine: signature, manifest, parts, features; where data
/// are named, also whether the accuracy contract comes out again. Whether the golden vectors come out right is for
/// each device to find.
///
/// # Errors
/// A bundle that is refused, with the reason.
pub fn verify(args: &VerifyArgs) -> Result<()> {
    let trust = match &args.trust {
        Some(document) => Trust::Policy(super::trust::policy(document)?.into()),
        None => Trust::Keys(args.key.iter().map(|key| super::trust::public_key(key)).collect::<Result<_>>()?),
    };
    let bundle = Bundle::open(&args.bundle, &trust).map_err(locus_engine::Error::from)?;
    match Inputs::of(bundle.manifest().task) {
        Inputs::Pair => Scorer::check(&bundle)?,
        Inputs::Sequence => SequenceScorer::check(&bundle)?,
    }
    if let Some(recipe) = &args.data {
        super::proof::again(&bundle, recipe, args.onnxruntime.clone())?;
    }
    say!(
        "{} {}: every part and the signature are good; a device still has to prove its golden vectors",
        bundle.manifest().name,
        bundle.manifest().version
    );
    Ok(())
}
