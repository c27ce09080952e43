//! `locus bundle verify --data`: the contract of a bundle, measured again on the data that it was made from.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus_engine::{Bundle, Graphs};
use locus_firmware_config::manifest::AccuracyContract;

use super::{
    Stage,
    export::{Measured, broken, engine_logits, held_out, sessions},
    prepare,
    sequence::export as of_sequences,
};
use crate::{
    AnyRecipe, Recipe, Result, data::Dataset, error::io_at, recipe::SequenceRecipe, sequence, stage::Run,
};

/// How far a figure may be from what the contract says: another processor adds up in another order, and rounds to other
/// codes where a number lies between two.
const TOLERANCE: f64 = 0.002;

/// Measures both graphs again, prints what the contract says and what came out, and refuses what differs.
///
/// # Errors
/// Another recipe or other data than the bundle's, no engine, or a contract that does not hold.
pub(super) fn again(bundle: &Bundle, recipe: &Path, onnxruntime: Option<PathBuf>) -> Result<()> {
    let folder = tempfile::tempdir().map_err(io_at(Path::new("a temporary folder")))?;
    let run = Run::open(folder.path())?;
    let measured = match AnyRecipe::read(recipe)? {
        AnyRecipe::Variant(recipe) => {
            same_recipe(bundle, &recipe.digest())?;
            of_variants(bundle, Stage { recipe, run, onnxruntime })?
        }
        AnyRecipe::Sequence(recipe) => {
            same_recipe(bundle, &recipe.digest())?;
            of_a_sequence_set(bundle, Stage { recipe, run, onnxruntime })?
        }
        AnyRecipe::Language(_) => {
            return Err(broken("the recipe", "one of a language model".into(), "one with labels".into()));
        }
    };
    let contract = &bundle.manifest().contract;
    for (precision, claimed, found) in
        [("FP32", &contract.fp32, &measured.fp32), ("INT8", &contract.int8, &measured.int8)]
    {
        for (name, claimed) in claimed {
            let found = found.get(name).copied().unwrap_or(f64::NAN);
            say!("{precision} {name}: the contract says {claimed:.5}, measured again {found:.5}");
            let off = (found - claimed).abs();
            if off.is_nan() || off > TOLERANCE {
                let expected = format!("{claimed}, give or take {TOLERANCE}, as its contract says");
                return Err(broken(
                    &format!("{precision} {name} of the bundle"),
                    found.to_string(),
                    expected,
                ));
            }
        }
    }
    let claimed = contract.flips.map_or_else(|| "nothing".into(), |f| format!("{:.3} %", 100.0 * f));
    say!(
        "decisions that INT8 changes: the contract says {claimed}, measured again {:.3} %",
        100.0 * measured.flips
    );
    let again = AccuracyContract {
        fp32: measured.fp32,
        int8: measured.int8,
        flips: Some(measured.flips),
        ..contract.clone()
    };
    match again.exceeded() {
        None => Ok(()),
        Some(reason) => Err(broken("the contract, measured again", reason, "INT8 within its budget".into())),
    }
}

pub(super) fn same_recipe(bundle: &Bundle, digest: &str) -> Result<()> {
    let expected = &bundle.manifest().provenance.recipe_sha256;
    if digest == expected {
        return Ok(());
    }
    Err(broken("SHA-256 of the recipe", digest.into(), format!("{expected}, that the bundle was made by")))
}

/// Digests of what is named in both; what only one of them has, the other did not read.
pub(super) fn same_data(bundle: &Bundle, found: &BTreeMap<String, String>) -> Result<()> {
    for (name, expected) in &bundle.manifest().provenance.data {
        let got = found.get(name).cloned().unwrap_or_else(|| "no such file".into());
        if got != *expected {
            let expected = format!("{expected}, that the bundle was made from");
            return Err(broken(&format!("SHA-256 of {name}"), got, expected));
        }
    }
    Ok(())
}

fn of_variants(bundle: &Bundle, stage: Stage<Recipe>) -> Result<Measured> {
    prepare::run(&stage)?;
    let dataset = Dataset::read(&stage.run.at("dataset.bin"))?;
    same_data(bundle, &dataset.sources.clone().into_iter().collect())?;
    let (pairs, held) = held_out(&dataset, &bundle.manifest().probability)?;
    let (mut float, mut whole) = sessions(&stage, &graphs(bundle)?)?;
    let n = bundle.manifest().graph.features.len();
    Ok(held.measured(&engine_logits(&mut *float, &pairs, n)?, &engine_logits(&mut *whole, &pairs, n)?))
}

fn of_a_sequence_set(bundle: &Bundle, stage: Stage<SequenceRecipe>) -> Result<Measured> {
    let set = sequence::prepare(&stage.recipe.data, &stage.recipe.data_root())?;
    same_data(bundle, &set.sources)?;
    let manifest = bundle.manifest();
    let calibration = manifest.probability.sequence.clone().ok_or_else(|| {
        broken(
            "the manifest's probability",
            "none of a sequence".into(),
            "what the task is answered with".into(),
        )
    })?;
    let (rows, held) = of_sequences::held_out(&stage.recipe, &set, calibration, manifest.labels.len())?;
    let (mut float, mut whole) = sessions(&stage, &graphs(bundle)?)?;
    let of = of_sequences::engine_logits;
    Ok(held.measured(&of(&mut *float, &rows)?, &of(&mut *whole, &rows)?))
}

fn graphs(bundle: &Bundle) -> Result<Graphs> {
    Ok(Graphs::from_bundle(bundle)?)
}
