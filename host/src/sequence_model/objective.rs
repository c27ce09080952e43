//! What the trainer is given: labelled sequences, and the same ones with hidden tokens.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::{Result as ModelResult, Tensor, bail};
use locus_firmware_config::manifest::SequenceCalibration;
use locus_genome::{EncodedSequence, SequenceEncoder};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Epoch, Truth, figures, logits, pack, predicted};
use crate::{
    Result,
    data::masking::Masking,
    model::{Context, MlmHead, ModelConfig, Params, Rows, SequenceHead},
    nn::{ClassLoss, class_loss, cross_entropy, huber},
    sequence::{Balance, SequenceAugmentation, SequenceSet, Target},
    train::{Loss, Objective},
};

/// Draws the records of a step, epoch after epoch.
struct Draw<'a> {
    set: &'a SequenceSet,
    encoder: SequenceEncoder,
    records: Vec<usize>,
    batch: usize,
    balance: Balance,
    augment: SequenceAugmentation,
    /// Tokens of the longest row.
    longest: usize,
    seed: u64,
    steps_per_epoch: u64,
    /// The epoch that was asked for last.
    epoch: Mutex<Option<(u64, Arc<Epoch>)>>,
}

impl<'a> Draw<'a> {
    fn new(
        (set, encoder): (&'a SequenceSet, SequenceEncoder),
        records: Vec<usize>,
        (batch, longest): (usize, usize),
        balance: Balance,
        augment: SequenceAugmentation,
        seed: u64,
    ) -> Self {
        let first = Epoch::new(set, &records, batch, balance, (seed, 0));
        let steps_per_epoch = first.len() as u64;
        let epoch = Mutex::new(Some((0, Arc::new(first))));
        Self { set, encoder, records, batch, balance, augment, longest, seed, steps_per_epoch, epoch }
    }

    fn epoch(&self, number: u64) -> Arc<Epoch> {
        let mut last = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((n, epoch)) if *n == number => epoch.clone(),
            _ => {
                let of = (self.seed, number);
                let epoch = Epoch::new(self.set, &self.records, self.batch, self.balance, of);
                last.insert((number, Arc::new(epoch))).1.clone()
            }
        }
    }

    /// Records of a step, and how they are shown in it.
    fn step(&self, step: u64, rows: Range<usize>) -> Result<(Vec<usize>, Vec<EncodedSequence>)> {
        let epoch = self.epoch(step / self.steps_per_epoch);
        let records = epoch.batch((step % self.steps_per_epoch) as usize)[rows.clone()].to_vec();
        let sequences = records
            .iter()
            .zip(rows)
            .map(|(&i, row)| {
                let place = step.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(row as u64);
                let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ place);
                self.shown(i, &mut rng)
            })
            .collect::<Result<_>>()?;
        Ok((records, sequences))
    }

    /// A record as one step of training sees it.
    fn shown(&self, record: usize, rng: &mut ChaCha8Rng) -> Result<EncodedSequence> {
        let whole = self.set.sequence(record)?;
        let seen = self.augment.of(self.set.alphabet, &whole, self.set.class(record), rng);
        let encoded = self.encoder.encode(&seen)?;
        // An insertion may not fit the longest row; cut, the record would lose its end.
        if encoded.ids.len() > self.longest { Ok(self.encoder.encode(&whole)?) } else { Ok(encoded) }
    }

    fn names(&self, records: &[usize]) -> Vec<String> {
        records.iter().map(|&i| self.set.records[i].name.clone()).collect()
    }
}

/// Sequences with their targets.
pub struct Labelled<'a> {
    draw: Draw<'a>,
    config: &'a ModelConfig,
    loss: ClassLoss,
    /// Mean and deviation of the training targets, where they are values.
    scale: (f64, f64),
    validation: (Vec<EncodedSequence>, Truth),
    /// Logits that are added to those of the encoder, by record.
    beside: Option<&'a BTreeMap<usize, Vec<f32>>>,
}

/// Rows of a step and which records they are.
pub struct Shown {
    rows: Rows,
    records: Vec<usize>,
}

impl<'a> Labelled<'a> {
    /// Trains on `records` of a set and validates on others.
    ///
    /// # Errors
    /// A record that cannot be encoded.
    #[allow(clippy::too_many_arguments, reason = "the parts of one table")]
    pub fn new(
        config: &'a ModelConfig,
        (set, encoder): (&'a SequenceSet, SequenceEncoder),
        (train, validation): (Vec<usize>, Vec<usize>),
        batch: usize,
        (balance, loss): (Balance, ClassLoss),
        augment: SequenceAugmentation,
        seed: u64,
    ) -> Result<Self> {
        let truth = Truth::of(set, &validation);
        let encoded = validation.iter().map(|&i| Ok(encoder.encode(&set.sequence(i)?)?));
        let validation = (encoded.collect::<Result<_>>()?, truth);
        let scale = scale(&Truth::of(set, &train));
        let draw =
            Draw::new((set, encoder), train, (batch, config.max_position_embeddings), balance, augment, seed);
        Ok(Self { draw, config, loss, scale, validation, beside: None })
    }

    /// Trains the encoder beside these logits of each record instead of what the wide path says: one that was fitted on
    /// the record knows its target, and would leave the encoder nothing to learn.
    #[must_use]
    pub fn beside(self, logits: Option<&'a BTreeMap<usize, Vec<f32>>>) -> Self {
        Self { beside: logits, ..self }
    }

    fn logits(&self, params: &Params, batch: &Shown, context: &Context<'_>) -> ModelResult<Tensor> {
        let head = SequenceHead::new(self.config, params);
        let Some(beside) = self.beside else { return head.forward(&batch.rows, context) };
        let deep = head.deep(&batch.rows, context)?;
        let mut all = Vec::with_capacity(deep.elem_count());
        for record in &batch.records {
            let Some(logits) = beside.get(record) else { bail!("got no logits beside record {record}") };
            all.extend_from_slice(logits);
        }
        &deep + Tensor::from_vec(all, deep.shape(), deep.device())?
    }

    /// Steps of an epoch; 0 where there are fewer records than a batch.
    pub const fn steps_per_epoch(&self) -> u64 {
        self.draw.steps_per_epoch
    }
}

/// Mean and standard deviation of values; (0, 1) of classes.
pub(crate) fn scale(truth: &Truth) -> (f64, f64) {
    let Truth::Values(values) = truth else { return (0.0, 1.0) };
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    (mean, if deviation > 0.0 { deviation } else { 1.0 })
}

impl Objective for Labelled<'_> {
    type Batch = Shown;

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Shown> {
        let (records, sequences) = self.draw.step(step, rows)?;
        Ok(Shown { rows: pack(&sequences), records })
    }

    fn loss(&self, params: &Params, batch: &Shown, context: &Context<'_>) -> ModelResult<Loss> {
        let logits = self.logits(params, batch, context)?;
        let targets = || batch.records.iter().map(|&i| self.draw.set.records[i].target);
        let mut weight = batch.records.len() as f64;
        let mean = if self.draw.set.classes.is_empty() {
            let scaled = |t: Target| match t {
                Target::Value(v) => ((f64::from(v) - self.scale.0) / self.scale.1) as f32,
                Target::Class(_) => f32::NAN,
            };
            huber(&logits, &targets().map(scaled).collect::<Vec<_>>())?
        } else {
            let class = |t: Target| if let Target::Class(c) = t { u32::from(c) } else { u32::MAX };
            let classes: Vec<u32> = targets().map(class).collect();
            weight = classes.iter().map(|&c| f64::from(self.loss.weight(c))).sum();
            class_loss(&logits, &classes, &self.loss)?
        };
        let tokens = (batch.rows.rows * batch.rows.tokens) as u64;
        Ok(Loss::new(mean, weight, tokens))
    }

    fn validate(&self, params: &Params) -> Result<BTreeMap<String, f64>> {
        let (sequences, truth) = &self.validation;
        let logits = logits(self.config, params, sequences)?;
        let as_trained = match truth {
            Truth::Values(_) => SequenceCalibration::Value { mean: self.scale.0, deviation: self.scale.1 },
            Truth::Classes(_) => {
                SequenceCalibration::Classes { temperature: 1.0, offsets: Vec::new(), prior: Vec::new() }
            }
        };
        Ok(figures(&predicted(&logits, &as_trained), truth))
    }

    fn records(&self, batch: &Shown) -> Vec<String> {
        self.draw.names(&batch.records)
    }
}

/// The training sequences with hidden tokens.
pub struct Masked<'a> {
    draw: Draw<'a>,
    config: &'a ModelConfig,
    masking: Masking,
}

impl<'a> Masked<'a> {
    /// Trains on `records` of a set, whose targets are not looked at.
    pub fn new(
        config: &'a ModelConfig,
        of: (&'a SequenceSet, SequenceEncoder),
        records: Vec<usize>,
        batch: usize,
        masking: Masking,
        seed: u64,
    ) -> Self {
        let rows = (batch, config.max_position_embeddings);
        let draw = Draw::new(of, records, rows, Balance::None, SequenceAugmentation::default(), seed);
        Self { draw, config, masking }
    }

    /// Steps of an epoch.
    pub const fn steps_per_epoch(&self) -> u64 {
        self.draw.steps_per_epoch
    }
}

impl Objective for Masked<'_> {
    /// Rows, hidden places, their true tokens, and the records.
    type Batch = (Rows, Vec<u32>, Vec<u32>, Vec<usize>);

    fn batch(&self, step: u64, rows: Range<usize>) -> Result<Self::Batch> {
        let first = rows.start as u64;
        let (records, mut sequences) = self.draw.step(step, rows)?;
        let mut hidden = Vec::new();
        for (row, sequence) in (first..).zip(&mut sequences) {
            let mut rng = ChaCha8Rng::seed_from_u64(self.draw.seed ^ (step << 16) ^ row ^ 0x6d61_736b);
            let mut ids: Vec<u32> = sequence.ids.iter().map(|&i| i as u32).collect();
            hidden.push(self.masking.hide(&mut ids, &mut rng));
            sequence.ids = ids.into_iter().map(i64::from).collect();
        }
        let rows = pack(&sequences);
        let places = hidden.iter().enumerate();
        let (places, targets) = places
            .flat_map(|(n, row)| row.iter().map(move |&(at, id)| ((n * rows.tokens + at) as u32, id)))
            .unzip();
        Ok((rows, places, targets, records))
    }

    fn loss(
        &self,
        params: &Params,
        (rows, places, targets, _): &Self::Batch,
        context: &Context<'_>,
    ) -> ModelResult<Loss> {
        let logits = MlmHead::new(self.config, params).forward(rows, places, context)?;
        let tokens = (rows.rows * rows.tokens) as u64;
        Ok(Loss::new(cross_entropy(&logits, targets)?, targets.len() as f64, tokens))
    }

    fn validate(&self, _: &Params) -> Result<BTreeMap<String, f64>> {
        Ok(BTreeMap::new())
    }

    fn records(&self, batch: &Self::Batch) -> Vec<String> {
        self.draw.names(&batch.3)
    }
}

#[cfg(test)]
mod tests {
    use locus_genome::{Alphabet, KmerTokenizer, Tokenizer};
    use rand::RngExt;

    use super::*;
    use crate::{data::Split, sequence::SequenceRecord};

    #[test]
    fn an_insertion_never_makes_a_row_longer_than_the_model_reads_and_steps_are_the_same_again() {
        let config: ModelConfig = serde_json::from_value(serde_json::json!({
            "model_type": "bert", "vocab_size": 69, "type_vocab_size": 4, "hidden_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "hidden_act": "gelu",
            "max_position_embeddings": 20, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "norm_position": "pre",
            "head": "sequence", "frames": 3, "labels": ["a", "b"], "n_features": 0, "track_codes": [],
        }))
        .unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut set = SequenceSet::new(Alphabet::Dna, vec!["a".into(), "b".into()]);
        for i in 0..64 {
            let target = Target::Class(i % 2);
            let record = SequenceRecord {
                name: i.to_string(),
                target,
                group: None,
                changed: None,
                split: Split::Train,
            };
            // 18 tokens between [CLS] and [SEP]: as many as the model reads.
            set.push(record, (0..20).map(|_| char::from(b"ACGT"[rng.random_range(0..4)])).collect());
        }
        let encoder = || SequenceEncoder::new(Tokenizer::Dna(KmerTokenizer::new(3, 1).unwrap()), 3);
        let augment = SequenceAugmentation { indel: 1.0, max_indel: 5, ..SequenceAugmentation::default() };
        let labelled = Labelled::new(
            &config,
            (&set, encoder()),
            ((0..64).collect(), vec![0, 1]),
            16,
            (Balance::None, ClassLoss::default()),
            augment,
            3,
        )
        .unwrap();
        let (mut whole, mut shorter) = (0, 0);
        for step in 0..2 * labelled.steps_per_epoch() {
            let batch = labelled.batch(step, 0..16).unwrap();
            for row in batch.rows.mask.chunks(batch.rows.tokens) {
                let tokens = row.iter().sum::<f32>() as usize;
                assert!(tokens <= 20, "{tokens}");
                whole += usize::from(tokens == 20);
                shorter += usize::from(tokens < 20);
            }
            let again = labelled.batch(step, 0..16).unwrap();
            assert_eq!((again.rows, again.records), (batch.rows, batch.records));
        }
        assert!(whole > 30 && shorter > 30, "{whole} {shorter}");
    }
}
