//! `locus calibrate`: activation ranges from train; probability and bands from `val_fit`, per input mode.

use std::collections::BTreeMap;

use locus_firmware_config::manifest::{Borders, EvidenceStep, ModeCalibration, ProbabilityModel};
use locus_genome::InputMode;

use super::{
    Link, Stage,
    export::{Held, engine_logits, graphs},
    quantise::Wanted as Searched,
};
use crate::{
    Error, Result,
    calibrate::{
        Bands, Method, RangePlan, Strength, Wanted, choose, compare, fit, fit_temperature, local_ratios,
        observe_ranges, strengths,
    },
    data::{Dataset, Split, View},
    files, infer,
    model::{ModelConfig, Params},
    stage::write_json,
};

/// Both modes with the view that serves them.
pub(crate) const MODES: [(InputMode, View); 2] =
    [(InputMode::Transcript, View::TRANSCRIPT), (InputMode::SequenceOnly, View::SEQUENCE_ONLY)];

/// The chosen checkpoint.
pub(crate) fn best(stage: &Stage, asking: &'static str) -> Result<(ModelConfig, Params, String)> {
    let path = stage.run.at("best/model.safetensors");
    if !path.exists() {
        return Err(Error::Missing { stage: asking, path, needs: "finetune" });
    }
    let place = stage.run.at("best/config.json");
    let config = ModelConfig::read(&place).map_err(crate::error::io_at(&place))?;
    let params = Params::read(&path, &config, 0)?;
    Ok((config, params, files::sha256(&path)?))
}

/// So much under the accuracy wanted may the interval of missense variants reach: they are few.
const FEW: f64 = 0.1;

/// Where the consequence is known, missense variants get borders of their own.
fn mode(
    stage: &Stage,
    dataset: &Dataset,
    mode: InputMode,
    logits: &[f32],
    records: &[usize],
) -> Result<ModeCalibration> {
    let plan = &stage.recipe.calibrate;
    let labels: Vec<bool> = records.iter().map(|&i| dataset.records[i].pathogenic).collect();
    let logits: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
    let none = || Error::Data {
        what: "val_fit".into(),
        got: format!("{} records of one class", labels.len()),
        expected: "pathogenic and benign records".into(),
    };
    let fit = if plan.method == Method::Temperature { fit_temperature } else { fit };
    let platt = fit(&logits, &labels, plan.prior).ok_or_else(none)?;
    let of = |keep: &dyn Fn(usize) -> bool, wanted: Wanted| {
        let (z, l): (Vec<f64>, Vec<bool>) =
            (0..records.len()).filter(|&i| keep(i)).map(|i| (logits[i], labels[i])).unzip();
        choose(&platt, &z, &l, plan.prior, wanted).unwrap_or(Bands::NONE)
    };
    let is_missense = |i: usize| dataset.records[records[i]].is_missense();
    let surely = Wanted::surely(plan.answered_accuracy);
    let bands = of(&|i| mode == InputMode::SequenceOnly || !is_missense(i), surely);
    let missense = (mode == InputMode::Transcript).then(|| {
        let wanted = Wanted { at_least: plan.answered_accuracy - FEW, ..surely };
        let own = of(&is_missense, wanted);
        Borders {
            benign_below: own.benign_below,
            pathogenic_above: own.pathogenic_above,
            answered_accuracy: own.answered_accuracy,
            answered_share: own.answered_share,
            lr_pathogenic: own.lr_pathogenic,
            lr_benign: own.lr_benign,
        }
    });
    let evidence = match mode {
        InputMode::Transcript => {
            evidence(stage, dataset, records, &is_missense, |i| platt.probability(logits[i]))
        }
        InputMode::SequenceOnly => Vec::new(),
    };
    Ok(ModeCalibration {
        missense,
        evidence,
        temperature: platt.temperature,
        offset: platt.offset,
        prior: plan.prior,
        benign_below: bands.benign_below,
        pathogenic_above: bands.pathogenic_above,
        answered_accuracy: bands.answered_accuracy,
        answered_share: bands.answered_share,
        lr_pathogenic: bands.lr_pathogenic,
        lr_benign: bands.lr_benign,
    })
}

/// Resamples of genes that bound the local likelihood ratios.
const RESAMPLES: usize = 500;

/// The steps of evidence that missense variants reach.
pub(super) fn evidence(
    stage: &Stage,
    dataset: &Dataset,
    records: &[usize],
    is_missense: &dyn Fn(usize) -> bool,
    probability: impl Fn(usize) -> f64,
) -> Vec<EvidenceStep> {
    let own: Vec<usize> = (0..records.len()).filter(|&i| is_missense(i)).collect();
    let of = |i: &usize| &dataset.records[records[*i]];
    let probabilities: Vec<f64> = own.iter().map(|&i| probability(i)).collect();
    let labels: Vec<bool> = own.iter().map(|i| of(i).pathogenic).collect();
    let genes: Vec<&str> = own.iter().map(|i| of(i).gene.as_str()).collect();
    let local = local_ratios(&probabilities, &labels, &genes, RESAMPLES, stage.recipe.seed);
    let step = |strength: Strength| {
        let Strength { criterion, strength, ratio, from } = strength;
        from.map(|from| EvidenceStep { criterion, strength, likelihood_ratio: ratio, from })
    };
    strengths(&local).into_iter().filter_map(step).collect()
}

/// Ranges of activations, and the layers that stay in float.
fn quantise(
    stage: &Stage,
    dataset: &Dataset,
    config: &ModelConfig,
    probability: &ProbabilityModel,
) -> Result<()> {
    let recipe = &stage.recipe;
    let tokenizer = dataset.tokenizer()?;
    let plan = RangePlan {
        records: recipe.calibrate.range_records,
        batch: recipe.finetune.train.batch.min(dataset.of_split(Split::Train).len()),
        augmentation: recipe.finetune.augment,
        buckets: &recipe.window.buckets,
        seed: recipe.seed,
    };
    let records = dataset.of_split(Split::ValSelect);
    let held = Held::new(dataset, probability, &records);
    let pairs = infer::view_of(dataset, &tokenizer, &records, View::TRANSCRIPT);
    let wanted = Searched {
        name: &recipe.name,
        config,
        plan: &recipe.quantise,
        loss: recipe.export.int8_budget,
        samples: plan.records,
        graphs: &|fp32, int8| graphs(recipe, config, fp32, int8),
        logits: &|session| engine_logits(session, &pairs, config.n_features),
        records: pairs.len(),
        cost: &|float, whole| held.cost(float, whole),
    };
    super::quantise::quantise(stage, &wanted, |params| {
        observe_ranges(config, params, dataset, &tokenizer, &plan)
    })
}

/// Runs the stage, or says that it is done.
///
/// # Errors
/// A missing checkpoint, or validation records of one class only.
pub fn run(stage: &Stage) -> Result<()> {
    let plan = &stage.recipe.calibrate;
    let (dataset, _) = stage.dataset("calibrate")?;
    if stage.done_before(Link::Calibrate)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Calibrate)?;
    let (config, params, _) = best(stage, "calibrate")?;
    let tokenizer = dataset.tokenizer()?;
    let buckets = &stage.recipe.window.buckets;
    let records = dataset.of_split(Split::ValFit);
    let mut model = ProbabilityModel::default();
    let mut figures = BTreeMap::new();
    for (name, view) in MODES {
        let logits =
            infer::logits(&config, &params, &infer::view_of(&dataset, &tokenizer, &records, view), buckets)?;
        let fitted = mode(stage, &dataset, name, &logits, &records)?;
        let labels: Vec<bool> = records.iter().map(|&i| dataset.records[i].pathogenic).collect();
        let genes: Vec<&str> = records.iter().map(|&i| dataset.records[i].gene.as_str()).collect();
        let logits: Vec<f64> = logits.iter().map(|&z| f64::from(z)).collect();
        for (method, f) in compare(&logits, &labels, &genes, plan.prior) {
            complain!(
                "calibrate {name}: {method} on genes it was not fitted on: ECE {:.4}, log loss {:.4}",
                f.ece,
                f.log_loss
            );
            figures.insert(format!("{name}.{method}.ece"), f.ece);
            figures.insert(format!("{name}.{method}.log_loss"), f.log_loss);
        }
        complain!(
            "calibrate {name}: temperature {:.3}, offset {:.3} at prior {}; benign below {:.3} (LR {:.3}), pathogenic above {:.3} (LR {:.1}); {:.1} % answered, {:.1} % of these right",
            fitted.temperature,
            fitted.offset,
            fitted.prior,
            fitted.benign_below,
            fitted.lr_benign,
            fitted.pathogenic_above,
            fitted.lr_pathogenic,
            100.0 * fitted.answered_share,
            100.0 * fitted.answered_accuracy,
        );
        if let Some(own) = fitted.missense {
            complain!(
                "calibrate {name}: missense benign below {:.3} (LR {:.3}), pathogenic above {:.3} (LR {:.1}); {:.1} % answered, {:.1} % of these right",
                own.benign_below,
                own.lr_benign,
                own.pathogenic_above,
                own.lr_pathogenic,
                100.0 * own.answered_share,
                100.0 * own.answered_accuracy,
            );
            figures.insert(format!("{name}.missense.answered_accuracy"), own.answered_accuracy);
            figures.insert(format!("{name}.missense.answered_share"), own.answered_share);
        }
        if fitted.answered_share == 0.0 {
            complain!(
                "calibrate {name}: no bands tried are right often enough on enough records; it abstains"
            );
        }
        figures.insert(format!("{name}.answered_accuracy"), fitted.answered_accuracy);
        figures.insert(format!("{name}.answered_share"), fitted.answered_share);
        model.modes.insert(name.as_str().to_owned(), fitted);
    }
    quantise(stage, &dataset, &config, &model)?;
    write_json(&stage.run.at("probability.json"), &model)?;
    stage.finish(Link::Calibrate, made_from, figures)
}
