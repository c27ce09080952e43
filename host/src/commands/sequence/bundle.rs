//! `locus bundle create` of a sequence model.

use std::path::Path;

use locus_engine::{Bundle, Inputs, SequenceScorer};
use locus_firmware_config::manifest::{
    FORMAT, GoldenSequence, GraphContract, Manifest, ProbabilityModel, Provenance, Scope,
    SequenceCalibration, Task, TokenizerInfo,
};
use locus_genome::Tokenizer;

use super::{SequenceStage, export::MAX_BATCH};
use crate::{
    Result,
    commands::{
        bundle::{assemble, golden_of, version},
        export::Exported,
    },
    stage::read_json,
};

/// Puts the output folder's graphs and their manifest into an unsigned bundle.
///
/// # Errors
/// A missing stage, or a file that cannot be read.
pub fn create(stage: &SequenceStage, out: &Path, created: &str, source: Option<String>) -> Result<()> {
    let set = stage.set("bundle create")?;
    let (config, _) = stage.best()?;
    let exported: Exported<GoldenSequence> = read_json(&stage.run.at("export.json"))?;
    let calibration: SequenceCalibration = read_json(&stage.run.at("probability.json"))?;
    let recipe = &stage.recipe;
    let (inputs, outputs) = locus_engine::tensors(Inputs::Sequence, 0, config.labels.len());
    let tokenizer = recipe.tokenizer()?;
    let k = match &tokenizer {
        Tokenizer::Dna(_) | Tokenizer::Rna(_) => recipe.tokens.k.unwrap_or(1),
        _ => 1,
    };
    let classes = matches!(calibration, SequenceCalibration::Classes { .. });
    let filter = &recipe.data.filter;
    // What training saw, which may be narrower than what the filter lets through.
    let encoder = recipe.encoder()?;
    let mut letters = (usize::MAX, 0);
    for record in 0..set.records.len() {
        let n = encoder.encode(&set.sequence(record)?)?.letters;
        letters = (letters.0.min(n), letters.1.max(n));
    }
    let manifest = Manifest {
        format: FORMAT,
        name: recipe.name.clone(),
        version: version(&recipe.version)?,
        security_counter: recipe.security_counter,
        min_edge_version: version("0.1.0")?,
        task: if classes { Task::SequenceClassification } else { Task::SequenceRegression },
        labels: config.labels.clone(),
        scope: Scope {
            kinds: vec![recipe.data.alphabet.as_str().into()],
            min_bases: letters.0 as u32,
            max_bases: letters.1 as u32,
            modes: vec!["sequence_only".into()],
            consequences: None,
            assembly: String::new(),
            max_ambiguous_percent: Some((100.0 * filter.max_unknown.min(1.0)) as u32),
            wild_type: set.wild_type.clone(),
        },
        graph: GraphContract {
            inputs,
            outputs,
            features: Vec::new(),
            buckets: recipe.tokens.buckets.iter().map(|&b| b as u32).collect(),
            max_tokens: config.max_position_embeddings as u32,
            max_batch: MAX_BATCH,
        },
        tokenizer: TokenizerInfo {
            kmer: k as u32,
            stride: recipe.tokens.stride as u32,
            vocab_size: tokenizer.vocab_size() as u32,
            window_kmers: recipe.max_tokens() as u32 - 2,
            frames: (recipe.tokens.frames > 1).then_some(recipe.tokens.frames as u32),
            fingerprint: tokenizer.fingerprint(),
        },
        probability: ProbabilityModel { sequence: Some(calibration), ..ProbabilityModel::default() },
        contract: exported.contract,
        golden: golden_of(&exported.golden),
        provenance: Provenance {
            data: set.sources.clone(),
            recipe_sha256: recipe.digest(),
            seed: recipe.seed,
            source,
            created: created.into(),
        },
        parts: Vec::new(),
    };
    let fits = |bundle: &Bundle| Ok(SequenceScorer::check(bundle)?);
    assemble(&stage.run, manifest, &tokenizer.to_json(), &exported.golden, fits, out)
}
