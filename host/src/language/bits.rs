//! Bits per base: how many bits a base costs that a model has to guess, -log2 of the probability that it gave to the
//! true one, on held-out stretches.
//!
//! A masked model reads both sides of a base. All tokens that touch it are hidden, and the softmax of each over its
//! vocabulary is kept to the four k-mers that agree with the known neighbours: P(base | everything else), the k
//! tokens' estimates joined by their geometric mean. Beside it stand Markov models, which read the left side alone;
//! counts over both sides, as an honest control of what the other side is worth; and the same model with the base at
//! the end of its row, so that it too reads the left side alone.

use candle_core::Tensor;
use locus_genome::{
    KmerTokenizer,
    tokenizer::{CLS, MASK, SEP},
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    Stretch, StretchWindows,
    counts::{Counts, MOST, code},
};
use crate::{
    Result,
    evaluate::{Estimate, estimate},
    model::{Context, MlmHead, ModelConfig, Params, Rows},
};

/// Rows that are run at once.
const ROWS: usize = 256;
/// Resamples of the intervals.
const RESAMPLES: usize = 1_000;

/// A base to guess, with what is known around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The stretch that it lies in.
    pub stretch: Stretch,
    /// As many bases as a row has, the one to guess in the middle.
    pub around: Vec<u8>,
    /// As many, the one to guess last.
    pub before: Vec<u8>,
}

impl Question {
    fn middle(&self) -> usize {
        self.around.len() / 2
    }

    /// Number of the true base.
    pub fn answer(&self) -> Option<usize> {
        code(self.around[self.middle()])
    }
}

/// Bases that a question of rows of `width` bases is cut from.
pub const fn span(width: usize) -> usize {
    width + width / 2
}

/// Draws bases to guess from windows of [`span`] bases: every base of their stretches as likely as any other, but for
/// those nearest to an end.
///
/// # Errors
/// Bases that cannot be read.
pub fn questions(
    windows: &StretchWindows<'_>,
    width: usize,
    count: usize,
    seed: u64,
) -> Result<Vec<Question>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let one = |_| {
        let (stretch, _, bases) = windows.forward(&mut rng)?;
        let around = bases[width - 1 - width / 2..][..width].to_vec();
        Ok(Question { stretch, around, before: bases[..width].to_vec() })
    };
    (0..count).map(one).collect()
}

/// Probability of each base at `at` of `rows` of bases, all of one length, by the model.
///
/// # Errors
/// Rows that the model cannot take.
pub fn by_model(
    (config, params): (&ModelConfig, &Params),
    tokenizer: &KmerTokenizer,
    rows: &[&[u8]],
    at: usize,
) -> Result<Vec<[f64; 4]>> {
    let mut all = Vec::with_capacity(rows.len());
    for rows in rows.chunks(ROWS) {
        all.extend(run(config, params, tokenizer, rows, at)?);
    }
    Ok(all)
}

fn run(
    config: &ModelConfig,
    params: &Params,
    tokenizer: &KmerTokenizer,
    rows: &[&[u8]],
    at: usize,
) -> Result<Vec<[f64; 4]>> {
    let (k, stride) = (tokenizer.k(), tokenizer.stride());
    let kmers = rows[0].len().saturating_sub(k) / stride + 1;
    let touching: Vec<usize> = (0..kmers).filter(|t| (t * stride..t * stride + k).contains(&at)).collect();
    let tokens = kmers + 2;
    let mut ids = Vec::with_capacity(rows.len() * tokens);
    let mut places = Vec::with_capacity(rows.len() * touching.len());
    for (n, bases) in rows.iter().enumerate() {
        ids.push(CLS);
        ids.extend(tokenizer.encode(bases));
        ids.push(SEP);
        for t in &touching {
            ids[n * tokens + 1 + t] = MASK;
            places.push((n * tokens + 1 + t) as u32);
        }
    }
    let size = rows.len() * tokens;
    let batch = Rows { rows: rows.len(), tokens, ids, track: vec![0; size], mask: vec![1.0; size] };
    let logits: Tensor = MlmHead::new(config, params).forward(&batch, &places, &Context::eval())?;
    let logits = logits.to_vec2::<f32>()?;
    let mut all = Vec::with_capacity(rows.len());
    for (bases, logits) in rows.iter().zip(logits.chunks_exact(touching.len())) {
        // Sum of the tokens' log-probabilities among the four k-mers that agree with the neighbours.
        let mut sum = [0.0; 4];
        for (t, logits) in touching.iter().zip(logits) {
            let mut kmer = bases[t * stride..t * stride + k].to_vec();
            let four = b"ACGT".map(|base| {
                kmer[at - t * stride] = base;
                f64::from(logits[tokenizer.kmer_id(&kmer) as usize])
            });
            let total = log_total(four);
            for (sum, z) in sum.iter_mut().zip(four) {
                *sum += z - total;
            }
        }
        let mean = sum.map(|s| s / touching.len() as f64);
        let total = log_total(mean);
        all.push(mean.map(|m| (m - total).exp()));
    }
    Ok(all)
}

fn log_total(values: [f64; 4]) -> f64 {
    let top = values.into_iter().fold(f64::NEG_INFINITY, f64::max);
    top + values.into_iter().map(|v| (v - top).exp()).sum::<f64>().ln()
}

/// Bits of each question's base by the model.
///
/// # Errors
/// As [`by_model`].
pub fn model_bits(
    model: (&ModelConfig, &Params),
    tokenizer: &KmerTokenizer,
    questions: &[Question],
    left_only: bool,
) -> Result<Vec<f64>> {
    let rows: Vec<&[u8]> =
        questions.iter().map(|q| if left_only { &q.before[..] } else { &q.around[..] }).collect();
    let Some(first) = questions.first() else { return Ok(Vec::new()) };
    let at = if left_only { first.before.len() - 1 } else { first.middle() };
    let p = by_model(model, tokenizer, &rows, at)?;
    Ok(p.iter().zip(questions).map(|(p, q)| cost(Some(*p), q)).collect())
}

/// Bits of the true base; 2 where a model cannot say or the base is not known.
fn cost(p: Option<[f64; 4]>, question: &Question) -> f64 {
    p.zip(question.answer()).map_or(2.0, |(p, answer)| -p[answer].log2())
}

/// Bits per base of the model and of the models that count, on the same bases.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Bases that were guessed.
    pub bases: usize,
    /// Stretches that they lie in; intervals resample these.
    pub stretches: usize,
    /// Bases that were trained on and counted.
    pub train_bases: u64,
    /// The model, with both sides.
    pub model: Estimate,
    /// The model, with the left side alone.
    pub model_left: Estimate,
    /// Markov models of order 0, 1, …
    pub markov: Vec<Estimate>,
    /// Counts with 0, 1, … bases on either side.
    pub between: Vec<Estimate>,
    /// The model less the last Markov model, base by base.
    pub model_less_markov: Estimate,
    /// The model less the widest counts on both sides.
    pub model_less_between: Estimate,
    /// The model with the left side alone less the last Markov model.
    pub model_left_less_markov: Estimate,
}

/// Asks every model the same questions.
///
/// # Errors
/// As [`by_model`].
pub fn report(
    model: (&ModelConfig, &Params),
    tokenizer: &KmerTokenizer,
    counts: &Counts,
    questions: &[Question],
    train_bases: u64,
    seed: u64,
) -> Result<Report> {
    let both = model_bits(model, tokenizer, questions, false)?;
    let left = model_bits(model, tokenizer, questions, true)?;
    let by = |p: &dyn Fn(&Question) -> Option<[f64; 4]>| -> Vec<f64> {
        questions.iter().map(|q| cost(p(q), q)).collect()
    };
    let sides = |q: &'_ Question| (q.around[..q.middle()].to_vec(), q.around[q.middle() + 1..].to_vec());
    let mut columns = vec![both, left];
    for n in 0..=MOST {
        columns.push(by(&|q| counts.markov(n, &q.around[..q.middle()])));
    }
    for n in 0..=MOST {
        columns.push(by(&|q| {
            let (left, right) = sides(q);
            counts.between(n, &left, &right)
        }));
    }
    let (markov, between) = (2 + MOST, 3 + 2 * MOST);
    for (a, b) in [(0, markov), (0, between), (1, markov)] {
        columns.push(columns[a].iter().zip(&columns[b]).map(|(a, b)| a - b).collect());
    }
    let names: Vec<String> =
        questions.iter().map(|q| format!("{}:{}", q.stretch.record, q.stretch.start)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let stretches = names.iter().collect::<std::collections::HashSet<_>>().len();
    let mut figures = estimate(&names, RESAMPLES, seed, |indices| {
        let mean = |column: &Vec<f64>| {
            let sum: f64 = indices.iter().map(|&i| column[i]).sum();
            (!indices.is_empty()).then(|| sum / indices.len() as f64)
        };
        columns.iter().map(mean).collect()
    })
    .into_iter()
    .map(|e| e.unwrap_or(Estimate { value: f64::NAN, low: None, high: None }));
    let mut next = || figures.next().unwrap_or(Estimate { value: f64::NAN, low: None, high: None });
    Ok(Report {
        bases: questions.len(),
        stretches,
        train_bases,
        model: next(),
        model_left: next(),
        markov: (0..=MOST).map(|_| next()).collect(),
        between: (0..=MOST).map(|_| next()).collect(),
        model_less_markov: next(),
        model_less_between: next(),
        model_left_less_markov: next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::regions::tests::{packed, random};

    fn config(tokenizer: &KmerTokenizer) -> ModelConfig {
        ModelConfig {
            model_type: "bert".into(),
            vocab_size: tokenizer.vocab_size(),
            type_vocab_size: 9,
            hidden_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 32,
            hidden_act: "gelu".into(),
            max_position_embeddings: 64,
            layer_norm_eps: 1e-12,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            initializer_range: 0.02,
            norm_position: "pre".into(),
            head: crate::model::HeadKind::Pretraining,
            frames: 1,
            counted: 0,
            wide: None,
            layer_sizes: Vec::new(),
            labels: Vec::new(),
            n_features: 0,
            track_codes: Vec::new(),
        }
    }

    #[test]
    fn both_rows_of_a_question_hold_the_same_base_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let bases = random(1_000, 1);
        let genome = packed(folder.path(), &[("a", "", bases.clone())]);
        let whole = [Stretch { record: 0, start: 0, end: 1_000 }];
        for (k, stride, width) in [(3, 1, 63), (6, 6, 60), (3, 1, 20)] {
            let tokenizer = KmerTokenizer::new(k, stride).unwrap();
            let windows = StretchWindows::new(&genome, &whole, tokenizer, span(width), 0.0).unwrap();
            for q in questions(&windows, width, 50, 2).unwrap() {
                assert_eq!((q.around.len(), q.before.len()), (width, width));
                assert_eq!(q.around[q.middle()], q.before[width - 1]);
                assert_eq!(q.around[..q.middle()], q.before[width - 1 - q.middle()..width - 1]);
            }
        }
    }

    #[test]
    fn a_model_is_given_nothing_of_the_base_that_it_guesses() {
        // The true base is changed: what the model says of it must not.
        for (k, stride, width, at) in [(3, 1, 63, 31), (3, 1, 63, 62), (4, 4, 40, 21), (6, 1, 40, 0)] {
            let tokenizer = KmerTokenizer::new(k, stride).unwrap();
            let config = config(&tokenizer);
            let params = Params::new(&config, 1).unwrap();
            let bases = random(width, 3);
            let rows: Vec<Vec<u8>> = b"ACGT"
                .iter()
                .map(|&base| {
                    let mut row = bases.clone();
                    row[at] = base;
                    row
                })
                .collect();
            let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
            let p = by_model((&config, &params), &tokenizer, &rows, at).unwrap();
            assert!(p.iter().all(|q| q.iter().zip(&p[0]).all(|(a, b)| (a - b).abs() < 1e-6)), "{p:?}");
            assert!((p[0].iter().sum::<f64>() - 1.0).abs() < 1e-9);
            let untaught = p[0].iter().all(|p| (p - 0.25).abs() < 0.15);
            assert!(untaught, "a new model knows nothing: {p:?}");
        }
    }
}
