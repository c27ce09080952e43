//! Fits what a sequence head adds to its logits (Cheng et al. 2016, "wide and deep"): a linear model of n-grams or of
//! substitutions, by itself, before the encoder is trained beside it.

mod convex;
mod grams;
mod substitutions;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use locus_genome::{Alphabet, EncodedSequence, SequenceEncoder};
use serde::{Deserialize, Serialize};

use self::{
    convex::{Linear, Sparse},
    grams::Grams,
    substitutions::Substitutions,
};
use super::{Truth, scale};
use crate::{
    Error, Result,
    model::{ModelConfig, Params, WidePath, wide::BIAS},
    sequence::{SequenceSet, SetPlan, split::Unit, split::folds},
};

/// Parts of the training records; what the encoder is trained beside is each part's answer by a model of the others.
const FOLDS: usize = 5;
/// Longest row with n-grams: equal ones are found by comparing each with each.
const LONGEST: usize = 1_024;

/// `tokens.wide`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case", deny_unknown_fields)]
pub enum WidePlan {
    /// ln(1 + count) of each run of 1 to `n` tokens.
    Grams {
        /// Most tokens of a run.
        n: usize,
        /// Kinds of token that are known, the commonest of the training records; runs with others are left out.
        kinds: usize,
        /// L2 penalty beside the mean loss of a record.
        penalty: f64,
    },
    /// What is known of a wild type's residue, of the one in its place, and of what stands around it.
    Substitutions {
        /// L2 penalty beside the mean loss of a record, on features of deviation 1.
        penalty: f64,
    },
}

impl WidePlan {
    /// What the model's configuration says of it.
    pub const fn path(&self) -> WidePath {
        match *self {
            Self::Grams { n, kinds, .. } => WidePath::Grams { n, kinds },
            Self::Substitutions { .. } => WidePath::Substitutions,
        }
    }

    /// Refuses a path that the data has no sense of.
    ///
    /// # Errors
    /// [`Error::Recipe`] with the key.
    pub fn check(&self, data: &SetPlan, max_tokens: usize) -> Result<()> {
        let wrong = |key: &str, got: String, expected: String| {
            Err(Error::Recipe { key: format!("tokens.wide{key}"), got, expected })
        };
        let (Self::Grams { penalty, .. } | Self::Substitutions { penalty }) = self;
        if !penalty.is_finite() || *penalty <= 0.0 {
            return wrong(".penalty", penalty.to_string(), "a number over 0".into());
        }
        match self {
            Self::Grams { n, kinds, .. } => {
                if self.path().gram_rows().is_none() || kinds.pow(*n as u32) > 1 << 20 {
                    let expected = "runs of 1 to 3 tokens, of 1 to 255 kinds, 100 of them for runs of 3";
                    return wrong("", format!("runs of {n} tokens of {kinds} kinds"), expected.into());
                }
                if matches!(data.alphabet, Alphabet::Dna | Alphabet::Rna) || data.wild_type.is_some() {
                    let expected = "none in DNA and RNA, where tokens are k-mers, nor beside a wild type";
                    return wrong(".of", "grams".into(), expected.into());
                }
                if max_tokens > LONGEST {
                    let got = format!("grams beside rows of {max_tokens} tokens");
                    return wrong("", got, format!("rows of {LONGEST} tokens at most"));
                }
            }
            Self::Substitutions { .. } => {
                let wild_type = match (&data.wild_type, data.alphabet) {
                    (Some(wild_type), Alphabet::AminoAcid) => wild_type,
                    (wild_type, alphabet) => {
                        let got = format!("substitutions in {}, wild type {wild_type:?}", alphabet.as_str());
                        return wrong(".of", got, "a protein with data.wild_type".into());
                    }
                };
                let tokens = wild_type.chars().count() + 2;
                if tokens > max_tokens {
                    let expected = format!("at most the {max_tokens} of the longest of tokens.buckets");
                    return wrong(
                        "",
                        format!("a wild type of {tokens} tokens, [CLS] and [SEP] included"),
                        expected,
                    );
                }
            }
        }
        Ok(())
    }
}

/// The features of a path, and the tensors that a linear model on them becomes.
trait Features {
    /// How many there are.
    fn count(&self) -> usize;
    /// Those of a row.
    fn of(&self, row: &EncodedSequence) -> Sparse;
    /// Tensors by name, with their shapes, beside the bias.
    fn tensors(&self, model: &Linear, labels: usize) -> Vec<(String, Vec<usize>, Vec<f32>)>;
}

/// A fitted path.
#[derive(Debug)]
pub struct Wide {
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    held_out: BTreeMap<usize, Vec<f32>>,
}

impl Wide {
    /// Fits on the training records of a set; folds keep groups whole. Targets that are values are scaled to mean 0 and
    /// deviation 1, as training does.
    ///
    /// # Errors
    /// A record that cannot be encoded, or a configuration without such a path.
    pub fn fit(
        plan: &WidePlan,
        config: &ModelConfig,
        (set, encoder): (&SequenceSet, &SequenceEncoder),
        train: &[usize],
        seed: u64,
    ) -> Result<Self> {
        let texts = train.iter().map(|&i| set.sequence(i)).collect::<Result<Vec<_>>>()?;
        let rows = texts.iter().map(|text| Ok(encoder.encode(text)?)).collect::<Result<Vec<_>>>()?;
        let mut truth = Truth::of(set, train);
        let (mean, deviation) = scale(&truth);
        if let Truth::Values(values) = &mut truth {
            values.iter_mut().for_each(|v| *v = (*v - mean) / deviation);
        }
        let labels = config.labels.len();
        let (features, penalty): (Box<dyn Features>, f64) = match plan {
            WidePlan::Grams { n, kinds, penalty } => {
                (Box::new(Grams::new(&rows, config.vocab_size, (*n, *kinds))), *penalty)
            }
            WidePlan::Substitutions { penalty } => {
                let wild_type = set.wild_type.as_deref().unwrap_or_default();
                (Box::new(Substitutions::new(config, encoder.tokenizer(), wild_type, &rows)?), *penalty)
            }
        };
        let sparse: Vec<Sparse> = rows.iter().map(|row| features.of(row)).collect();
        let of = |places: &[usize]| {
            let rows: Vec<&Sparse> = places.iter().map(|&i| &sparse[i]).collect();
            Linear::fit(&rows, &truth.at(places), (features.count(), labels), penalty)
        };
        let units: Vec<Unit<'_>> = train
            .iter()
            .zip(&texts)
            .map(|(&i, text)| {
                let record = &set.records[i];
                Unit { text, class: 0, group: record.group.as_deref().unwrap_or(&record.name) }
            })
            .collect();
        let fold_of = folds(&units, FOLDS, seed);
        let mut held_out = BTreeMap::new();
        for fold in 0..FOLDS {
            let (out, others): (Vec<usize>, Vec<usize>) = (0..train.len()).partition(|&i| fold_of[i] == fold);
            let model = of(&others);
            for i in out {
                held_out.insert(train[i], model.of(&sparse[i]).into_iter().map(|z| z as f32).collect());
            }
        }
        let whole = of(&(0..train.len()).collect::<Vec<_>>());
        let mut tensors = features.tensors(&whole, labels);
        tensors.push((BIAS.into(), vec![labels], whole.bias().iter().map(|b| *b as f32).collect()));
        Ok(Self { tensors, held_out })
    }

    /// Logits of each training record by a model that was fitted without its group.
    pub const fn held_out(&self) -> &BTreeMap<usize, Vec<f32>> {
        &self.held_out
    }

    /// Writes the path into a model.
    ///
    /// # Errors
    /// A model of another configuration.
    pub fn set(&self, params: &Params) -> Result<()> {
        for (name, shape, values) in &self.tensors {
            params.set(name, &Tensor::from_vec(values.clone(), shape.as_slice(), &Device::Cpu)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
