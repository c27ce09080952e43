//! The head alone, trained on the pooled states of a frozen encoder: those of the training records, and samples made up
//! between neighbours of the smaller classes (SMOTE, Chawla et al. 2002). Between two sequences there is none; between
//! their pooled states there is. Encoder first and classifier by itself on balanced data is the training of Kang et al.
//! (2020).

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use candle_core::{D, Result as ModelResult, Tensor};
use locus_firmware_config::manifest::SequenceCalibration;
use locus_genome::SequenceEncoder;

use super::{Truth, figures, infer::groups, pack, predicted};
use crate::{
    Error, Result,
    model::{Context, ModelConfig, Observer, Params, SequenceHead},
    nn::{ClassLoss, Dropout, bias_add, bias_gelu, class_loss, dropout},
    sequence::{Balance, BalancePlan, SequenceSet, balance},
    train::{Loss, Objective},
};

/// The head's input, under the name that the calibration table has for it.
const INPUT: &str = "head.dense_input";
/// What is trained.
const HEAD: &str = "head";
/// Records whose rows are made together.
const CHUNK: usize = 1_024;

/// Keeps what enters the head.
#[derive(Default)]
struct Inputs(Vec<f32>);

impl Observer for Inputs {
    fn observe(&mut self, name: &str, values: &Tensor) -> ModelResult<()> {
        if name == INPUT {
            self.0.extend(values.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(())
    }
}

/// Pooled states [frames · width] of some records, whole and unchanged, in order.
///
/// # Errors
/// A record that the encoder cannot take.
pub fn pooled(
    config: &ModelConfig,
    params: &Params,
    (set, encoder): (&SequenceSet, &SequenceEncoder),
    records: &[usize],
) -> Result<Vec<Vec<f32>>> {
    let params = &params.frozen();
    let mut all = Vec::with_capacity(records.len());
    for chunk in records.chunks(CHUNK) {
        let rows =
            chunk.iter().map(|&i| Ok(encoder.encode(&set.sequence(i)?)?)).collect::<Result<Vec<_>>>()?;
        let mut states = vec![Vec::new(); rows.len()];
        for group in groups(&rows) {
            let picked: Vec<_> = group.iter().map(|&i| rows[i].clone()).collect();
            let mut seen = Inputs::default();
            SequenceHead::new(config, params).forward(&pack(&picked), &Context::observe(&mut seen))?;
            let width = seen.0.len() / group.len();
            for (i, state) in group.into_iter().zip(seen.0.chunks(width.max(1))) {
                states[i] = state.to_vec();
            }
        }
        all.extend(states);
    }
    Ok(all)
}

/// Logits [rows, labels] of pooled states [rows, frames · width], as [`SequenceHead`] ends.
fn head(config: &ModelConfig, params: &Params, states: &[&[f32]], mask: Dropout) -> ModelResult<Tensor> {
    let (rows, frames) = (states.len(), config.frames.max(1));
    let width = states.first().map_or(0, |s| s.len()) / frames;
    let x = Tensor::from_vec(states.concat(), (rows * frames, width), params.device())?;
    let product = |x: &Tensor, name: &str| x.matmul(&params.get(&format!("{name}.weight"))?.t()?);
    let x = bias_gelu(&product(&x, "head.dense")?, params.get("head.dense.bias")?)?;
    let hidden = x.dim(1)?;
    let x = if frames == 1 { x } else { x.reshape((rows, frames, hidden))?.max(D::Minus2)? };
    let x = dropout(&x, mask)?;
    bias_add(&product(&x, "head.out")?, params.get("head.out.bias")?)
}

/// Whether a tensor belongs to a head that reads more than the pooled states.
fn is_other(name: &str) -> bool {
    let known = ["head.dense.", "head.out."];
    name.starts_with("head.") && !known.iter().any(|k| name.starts_with(k))
}

/// Pooled states with their classes, real and made up.
pub struct Refit<'a> {
    config: &'a ModelConfig,
    loss: ClassLoss,
    states: Vec<Vec<f32>>,
    classes: Vec<u16>,
    /// Names of the records; what is made up comes after them.
    names: Vec<String>,
    batch: usize,
    seed: u64,
    validation: (Vec<Vec<f32>>, Truth),
    /// The epoch that was asked for last, and its order.
    epoch: Mutex<Option<(u64, Vec<usize>)>>,
}

impl<'a> Refit<'a> {
    /// Pools `train` and `validation` by a trained model and makes up samples until the classes are of one size.
    ///
    /// # Errors
    /// Targets that are no classes, or a record that the encoder cannot take.
    pub fn new(
        (config, params): (&'a ModelConfig, &Params),
        (set, encoder): (&SequenceSet, &SequenceEncoder),
        (train, validation): (&[usize], &[usize]),
        (plan, loss): (BalancePlan, ClassLoss),
        batch: usize,
        seed: u64,
    ) -> Result<Self> {
        if let Some((name, _)) = params.iter().find(|(name, _)| is_other(name)) {
            return Err(Error::Recipe {
                key: "finetune.balance.method".into(),
                got: format!("smote, and a head with {name}"),
                expected: "a head that reads pooled states alone; take over, down or weights".into(),
            });
        }
        let Truth::Classes(classes) = Truth::of(set, train) else {
            return Err(Error::Recipe {
                key: "finetune.balance.method".into(),
                got: "smote".into(),
                expected: "none beside values".into(),
            });
        };
        let mut classes: Vec<u16> = classes.into_iter().map(|c| c as u16).collect();
        let mut states = pooled(config, params, (set, encoder), train)?;
        let made = balance::smote(&states, &classes, config.frames.max(1), plan.neighbours(), seed);
        for (state, class) in made {
            states.push(state);
            classes.push(class);
        }
        Ok(Self {
            config,
            loss,
            batch: batch.min(states.len()).max(1),
            states,
            classes,
            names: train.iter().map(|&i| set.records[i].name.clone()).collect(),
            seed,
            validation: (pooled(config, params, (set, encoder), validation)?, Truth::of(set, validation)),
            epoch: Mutex::new(None),
        })
    }

    /// Samples of a step.
    pub const fn batch_size(&self) -> usize {
        self.batch
    }

    /// Steps of an epoch.
    pub const fn steps_per_epoch(&self) -> u64 {
        (self.states.len() / self.batch) as u64
    }

    /// Samples that were made up.
    pub const fn made_up(&self) -> usize {
        self.states.len() - self.names.len()
    }

    /// What is not trained: all of a model but its head, by the first part of the names.
    pub fn frozen(params: &Params) -> Vec<String> {
        let first = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let all: std::collections::BTreeSet<String> = params.iter().map(|(name, _)| first(name)).collect();
        all.into_iter().filter(|name| name != HEAD).collect()
    }

    fn logits(&self, params: &Params, states: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(states.len());
        for chunk in states.chunks(CHUNK) {
            let rows: Vec<&[f32]> = chunk.iter().map(Vec::as_slice).collect();
            all.extend(head(self.config, params, &rows, Dropout::NONE)?.to_vec2::<f32>()?);
        }
        Ok(all)
    }
}

impl Objective for Refit<'_> {
    /// Samples, and the seed of what is dropped of them.
    type Batch = (Vec<usize>, u64);

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Self::Batch> {
        let (number, at) = (step / self.steps_per_epoch(), (step % self.steps_per_epoch()) as usize);
        let mut last = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(n, _)| *n != number) {
            let all: Vec<usize> = (0..self.states.len()).collect();
            *last = Some((number, balance::epoch(&all, &self.classes, Balance::None, self.seed, number)));
        }
        let order = last.as_ref().map_or(&[][..], |(_, order)| order);
        let seed =
            self.seed.wrapping_add((step << 20) + rows.start as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok((order[at * self.batch..][rows].to_vec(), seed))
    }

    fn loss(&self, params: &Params, (samples, seed): &Self::Batch, _: &Context<'_>) -> ModelResult<Loss> {
        let states: Vec<&[f32]> = samples.iter().map(|&i| self.states[i].as_slice()).collect();
        let classes: Vec<u32> = samples.iter().map(|&i| self.classes[i].into()).collect();
        let mask = Dropout::new(self.config.hidden_dropout_prob as f32, *seed);
        let mean = class_loss(&head(self.config, params, &states, mask)?, &classes, &self.loss)?;
        Ok(Loss::new(mean, samples.len() as f64, samples.len() as u64))
    }

    fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>> {
        let (states, truth) = &self.validation;
        let plain = SequenceCalibration::Classes { temperature: 1.0, offsets: Vec::new(), prior: Vec::new() };
        Ok(figures(&predicted(&self.logits(params, states)?, &plain), truth))
    }

    fn records(&self, (samples, _): &Self::Batch) -> Vec<String> {
        let name = |&i: &usize| self.names.get(i).cloned().unwrap_or_else(|| "a made-up sample".into());
        samples.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use locus_genome::{Alphabet, KmerTokenizer, Tokenizer};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::{super::logits, *};
    use crate::{
        data::Split,
        sequence::{SequenceRecord, Target},
    };

    fn config(frames: usize) -> ModelConfig {
        serde_json::from_value(serde_json::json!({
            "model_type": "bert", "vocab_size": 69, "type_vocab_size": frames + 1, "hidden_size": 16,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "hidden_act": "gelu",
            "max_position_embeddings": 64, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.2,
            "attention_probs_dropout_prob": 0.0, "initializer_range": 0.3, "norm_position": "pre",
            "head": "sequence", "frames": frames, "labels": ["a", "b"], "n_features": 0, "track_codes": [],
        }))
        .unwrap()
    }

    /// Random bases; one in eight is of the second class.
    fn set(n: usize) -> SequenceSet {
        let mut set = SequenceSet::new(Alphabet::Dna, vec!["a".into(), "b".into()]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for i in 0..n {
            let target = Target::Class(u16::from(i % 8 == 0));
            let record = SequenceRecord {
                name: i.to_string(),
                target,
                group: None,
                changed: None,
                split: Split::Train,
            };
            let length = rng.random_range(5..50);
            set.push(record, (0..length).map(|_| char::from(b"ACGT"[rng.random_range(0..4)])).collect());
        }
        set
    }

    fn refit<'a>(config: &'a ModelConfig, params: &Params, set: &SequenceSet) -> Refit<'a> {
        let encoder = encoder(config);
        let (train, validation): (Vec<usize>, Vec<usize>) = (0..set.records.len()).partition(|i| i % 4 != 3);
        let plan = BalancePlan { method: Balance::Smote, neighbours: Some(3), epochs: Some(2) };
        let parts = (plan, ClassLoss::default());
        Refit::new((config, params), (set, &encoder), (&train, &validation), parts, 16, 7).unwrap()
    }

    fn encoder(config: &ModelConfig) -> SequenceEncoder {
        SequenceEncoder::new(Tokenizer::Dna(KmerTokenizer::new(3, 1).unwrap()), config.frames as u32)
    }

    #[test]
    fn the_head_on_pooled_states_says_what_the_model_says() {
        for frames in [1, 3] {
            let (config, set) = (config(frames), set(40));
            let params = Params::new(&config, 3).unwrap();
            let all: Vec<usize> = (0..40).collect();
            let states = pooled(&config, &params, (&set, &encoder(&config)), &all).unwrap();
            let rows: Vec<&[f32]> = states.iter().map(Vec::as_slice).collect();
            let got = head(&config, &params, &rows, Dropout::NONE).unwrap().to_vec2::<f32>().unwrap();
            let encoded: Vec<_> =
                all.iter().map(|&i| encoder(&config).encode(&set.sequence(i).unwrap()).unwrap()).collect();
            let expected = logits(&config, &params, &encoded).unwrap();
            for (a, b) in got.concat().iter().zip(expected.concat()) {
                assert!((a - b).abs() < 1e-5, "{frames} frames: {a} {b}");
            }
        }
    }

    #[test]
    fn classes_come_out_even_and_steps_are_the_same_again() {
        let (config, set) = (config(3), set(80));
        let params = Params::new(&config, 3).unwrap();
        let objective = refit(&config, &params, &set);
        let second = objective.classes.iter().filter(|&&c| c == 1).count();
        assert_eq!((2 * second, objective.made_up()), (objective.states.len(), objective.states.len() - 60));
        assert!(objective.states.iter().flatten().all(|v| v.is_finite()));
        let again = refit(&config, &params, &set);
        assert_eq!(again.states, objective.states);
        // Asked for in any order, as after a kill.
        let steps = 2 * objective.steps_per_epoch();
        let forward: Vec<_> = (0..steps).map(|s| objective.batch(s, 0..16).unwrap()).collect();
        for s in (0..steps).rev() {
            assert_eq!(again.batch(s, 0..16).unwrap(), forward[s as usize]);
            let halves = [again.batch(s, 0..8).unwrap().0, again.batch(s, 8..16).unwrap().0].concat();
            assert_eq!(halves, forward[s as usize].0);
        }
        assert_ne!(forward[0], forward[objective.steps_per_epoch() as usize], "another epoch, another order");
        let names = objective.records(&(vec![0, objective.states.len() - 1], 0));
        assert_eq!(names, ["0", "a made-up sample"]);
    }

    #[test]
    fn the_head_gets_gradients_and_nothing_else_does() {
        let (config, set) = (config(3), set(80));
        let params = Params::new(&config, 3).unwrap();
        let frozen = Refit::frozen(&params);
        assert!(frozen.contains(&"bert".to_owned()) && !frozen.contains(&HEAD.to_owned()));
        let objective = refit(&config, &params, &set);
        let batch = objective.batch(0, 0..16).unwrap();
        let loss = objective.loss(&params, &batch, &Context::train(0.2, 1)).unwrap();
        let gradients = loss.mean.backward().unwrap();
        for (name, var) in params.iter() {
            let norm = gradients
                .get(var.as_tensor())
                .map(|g| g.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap());
            assert_eq!(norm.is_some_and(|n| n > 0.0), name.starts_with("head."), "{name}");
        }
    }
}
