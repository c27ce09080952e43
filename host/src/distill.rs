//! Knowledge distillation (Hinton et al. 2015): a small model learns from what larger ones answer.

use std::path::{Path, PathBuf};

use candle_core::Result as ModelResult;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    explain::Model,
    files,
    model::{Context, ModelConfig, PairBatch, PairHead},
};

/// `[finetune.distill]`, and `[prune.distill]`, which may name no teacher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillPlan {
    /// Bundles or output folders, whose logits are averaged; paths are relative to the working folder.
    #[serde(default)]
    pub teachers: Vec<PathBuf>,
    /// Part of a target that is the teachers' probability; the rest is the label.
    pub share: f32,
}

impl DistillPlan {
    /// SHA-256 of what each teacher is read from.
    pub(crate) fn digests(&self) -> Result<Vec<(String, String)>> {
        let digest = |path: &PathBuf| Ok((format!("teacher {}", path.display()), digest(path)?));
        self.teachers.iter().map(digest).collect()
    }
}

/// Models that are learnt from.
pub struct Teachers {
    models: Vec<Model>,
    share: f32,
}

impl Teachers {
    /// Reads the teachers of a student.
    ///
    /// # Errors
    /// A teacher that cannot be read, or that reads other tokens or features than the student.
    pub fn open(plan: &DistillPlan, student: &ModelConfig) -> Result<Self> {
        let models = plan.teachers.iter().map(|path| teacher(path, student)).collect::<Result<_>>()?;
        Ok(Self { models, share: plan.share })
    }

    /// One teacher that is already here.
    pub fn only(model: Model, share: f32) -> Self {
        Self { models: vec![model], share }
    }

    /// Targets of a batch: labels and the teachers' probabilities, mixed. As cross-entropy is linear in its target, this
    /// is the mixed loss.
    ///
    /// # Errors
    /// Rows that a teacher cannot take.
    pub fn targets(&self, pairs: &PairBatch, labels: &[f32]) -> ModelResult<Vec<f32>> {
        let mut sums = vec![0.0_f32; labels.len()];
        for model in &self.models {
            let logits = PairHead::new(&model.config, &model.params)
                .forward(pairs, &Context::eval())?
                .to_vec2::<f32>()?;
            sums.iter_mut().zip(logits).for_each(|(sum, row)| *sum += row[0]);
        }
        let n = self.models.len().max(1) as f32;
        let mixed = |(sum, label): (f32, &f32)| {
            let probability = 1.0 / (1.0 + (-sum / n).exp());
            (1.0 - self.share) * label + self.share * probability
        };
        Ok(sums.into_iter().zip(labels).map(mixed).collect())
    }
}

/// A bundle's model, or an output folder's.
pub(crate) fn trained(path: &Path) -> Result<Model> {
    if path.is_dir() { Model::run(path) } else { Model::bundle(path) }
}

/// SHA-256 of what [`trained`] reads the weights from.
pub(crate) fn digest(path: &Path) -> Result<String> {
    files::sha256(&if path.is_dir() { path.join("best/model.safetensors") } else { path.to_owned() })
}

fn teacher(path: &Path, student: &ModelConfig) -> Result<Model> {
    let model = trained(path)?;
    let of = |c: &ModelConfig| (c.vocab_size, c.n_features, c.labels.len());
    if of(&model.config) != of(student)
        || model.config.max_position_embeddings < student.max_position_embeddings
    {
        let said = |c: &ModelConfig| {
            format!(
                "{} tokens, {} features, {} labels, {} positions",
                c.vocab_size,
                c.n_features,
                c.labels.len(),
                c.max_position_embeddings
            )
        };
        return Err(Error::Data {
            what: format!("teacher {}", path.display()),
            got: said(&model.config),
            expected: format!("those of the student: {}", said(student)),
        });
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        data::{Pair, pack},
        infer,
        model::Params,
    };

    fn config() -> ModelConfig {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/smoke.toml");
        crate::Recipe::read(&recipe).unwrap().model_config(69, 3)
    }

    /// A model of a seed, as a teacher.
    fn model(seed: u64) -> Model {
        let config = config();
        let tokenizer = locus_genome::KmerTokenizer::new(3, 1).unwrap();
        Model {
            params: Params::new(&config, seed).unwrap().frozen(),
            encoder: locus_genome::VariantEncoder::new(tokenizer, 61),
            buckets: vec![8],
            probability: Default::default(),
            name: String::new(),
            config,
        }
    }

    #[test]
    fn targets_lie_between_the_label_and_what_the_teachers_say_on_average() {
        let pair = |shift: u16| Pair {
            ref_ids: vec![2, 9, 20, 3],
            alt_ids: vec![2, 11 + shift, 20, 3],
            track: vec![0, 6, 6, 0],
            ..Pair::default()
        };
        let (pairs, labels) = ([pair(0), pair(1)], [1.0, 0.0]);
        let batch = pack(&pairs, config().n_features, &[8]);
        let logit = |seed| infer::logits(&config(), &model(seed).params, &pairs, &[8]).unwrap();
        let (a, b) = (logit(1), logit(2));
        let targets = |share| {
            let teachers = Teachers { models: vec![model(1), model(2)], share };
            teachers.targets(&batch, &labels).unwrap()
        };
        assert_eq!(targets(0.0), labels);
        for (row, target) in targets(1.0).into_iter().enumerate() {
            let mean = f64::from(a[row] + b[row]) / 2.0;
            assert!((f64::from(target) - 1.0 / (1.0 + (-mean).exp())).abs() < 1e-6, "{row}");
        }
        for ((half, all), label) in targets(0.5).into_iter().zip(targets(1.0)).zip(labels) {
            assert!((half - f32::midpoint(all, label)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_teacher_that_reads_something_else_is_named() {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/variant-effect.locus");
        let plan = DistillPlan { teachers: vec![bundle], share: 0.5 };
        let error = Teachers::open(&plan, &config()).err().unwrap().to_string();
        assert!(error.contains("variant-effect.locus") && error.contains("3 features"), "{error}");
        assert_eq!(plan.digests().unwrap().len(), 1);
    }
}
