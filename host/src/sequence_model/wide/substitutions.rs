//! What is known of a substitution in a protein: how alike the two residues are, which one came, and what the wild type
//! is made of around the place. The wild type's own residue has no feature of its own: a scan has few places with each,
//! and others are asked about.

use locus_genome::{
    EncodedSequence, Tokenizer, amino,
    features::{COMPOSITION, composition, hydropathy_and_volume},
    tokenizer::SPECIAL_TOKENS,
};

use super::{Features, Linear, Sparse};
use crate::{
    Result,
    model::{
        ModelConfig,
        wide::{PAIRS, PLACES},
    },
};

/// BLOSUM62; the change of hydropathy and of volume, with its sign and without; the volume that is gained.
const CHANGES: usize = 6;
/// Residues without the stop.
const RESIDUES: usize = 20;
/// Numbers of a pair of residues.
const OF_PAIR: usize = CHANGES + RESIDUES;
const ALL: usize = OF_PAIR + COMPOSITION;
/// Residues on each side that are looked at.
const REACH: usize = 8;
/// Deviation under which a feature says nothing and is left out.
const LEAST_DEVIATION: f64 = 1e-6;

/// The features of every pair of tokens and every place, and their mean and deviation over the training rows.
pub(super) struct Substitutions {
    vocabulary: usize,
    pairs: Vec<[f64; OF_PAIR]>,
    places: Vec<[f64; COMPOSITION]>,
    mean: [f64; ALL],
    /// One divided by the deviation; 0 of what does not vary.
    scale: [f64; ALL],
}

fn of_pair(from: usize, to: usize) -> [f64; OF_PAIR] {
    let ([h0, v0], [h1, v1]) = (hydropathy_and_volume(from), hydropathy_and_volume(to));
    let (h, v) = (f64::from(h1 - h0), f64::from(v1 - v0));
    let mut out = [0.0; OF_PAIR];
    let blosum = f64::from(amino::blosum62(from, to));
    out[..CHANGES].copy_from_slice(&[blosum, h, v, h.abs(), v.abs(), v.max(0.0)]);
    out[CHANGES + to] = 1.0;
    out
}

impl Substitutions {
    /// Measures the scale of the features on training rows.
    ///
    /// # Errors
    /// A wild type that the tokenizer cannot read.
    pub(super) fn new(
        config: &ModelConfig,
        tokenizer: &Tokenizer,
        wild_type: &str,
        rows: &[EncodedSequence],
    ) -> Result<Self> {
        let vocabulary = config.vocab_size;
        let residue_of: Vec<Option<usize>> = tokenizer
            .vocab()
            .iter()
            .map(|name| match name.as_bytes() {
                [letter] => amino::residue_index(*letter).filter(|&i| i < RESIDUES),
                _ => None,
            })
            .collect();
        let residue = |id: usize| residue_of.get(id).copied().flatten();
        let mut pairs = vec![[0.0; OF_PAIR]; config.type_vocab_size * vocabulary];
        for (code, pairs) in pairs.chunks_exact_mut(vocabulary).enumerate().skip(1) {
            for (id, pair) in pairs.iter_mut().enumerate() {
                if let (Some(from), Some(to)) = (residue(code - 1 + SPECIAL_TOKENS as usize), residue(id)) {
                    *pair = of_pair(from, to);
                }
            }
        }
        let wild: Vec<Option<usize>> =
            tokenizer.encode(wild_type)?.iter().map(|&id| residue(id as usize)).collect();
        let mut places = vec![[0.0; COMPOSITION]; config.max_position_embeddings];
        // The first place of a row is [CLS].
        for (at, place) in places.iter_mut().skip(1).take(wild.len()).enumerate() {
            let around = at.saturating_sub(REACH)..(at + REACH + 1).min(wild.len());
            let known: Vec<usize> = around.filter(|&i| i != at).filter_map(|i| wild[i]).collect();
            *place = composition(&known).map(f64::from);
        }
        let mut all = Self { vocabulary, pairs, places, mean: [0.0; ALL], scale: [1.0; ALL] };
        let n = rows.len().max(1) as f64;
        let (mut sum, mut square) = ([0.0; ALL], [0.0; ALL]);
        for row in rows {
            for (i, x) in all.raw(row).into_iter().enumerate() {
                sum[i] += x / n;
                square[i] += x * x / n;
            }
        }
        for i in 0..ALL {
            let deviation = (square[i] - sum[i] * sum[i]).max(0.0).sqrt();
            all.mean[i] = sum[i];
            all.scale[i] = if deviation < LEAST_DEVIATION { 0.0 } else { 1.0 / deviation };
        }
        Ok(all)
    }

    /// Features before they are scaled: means over the marked tokens.
    fn raw(&self, row: &EncodedSequence) -> [f64; ALL] {
        let marked: Vec<(usize, &i64)> = row.track.iter().enumerate().filter(|(_, t)| **t > 0).collect();
        let (n, mut out) = (marked.len().max(1) as f64, [0.0; ALL]);
        for (at, &track) in marked {
            let pair = self.pairs.get(track as usize * self.vocabulary + row.ids[at] as usize);
            let numbers = pair.into_iter().flatten().chain(self.places.get(at).into_iter().flatten());
            out.iter_mut().zip(numbers).for_each(|(out, x)| *out += x / n);
        }
        out
    }

    /// Table rows of some features, which begin at `first`: what a model says of them.
    fn folded<const N: usize>(
        &self,
        rows: &[[f64; N]],
        first: usize,
        model: &Linear,
        labels: usize,
    ) -> Vec<f32> {
        let say = |row: &[f64; N], label: usize| -> f64 {
            let term = |(i, x): (usize, &f64)| {
                let at = first + i;
                model.weights(at)[label] * (x - self.mean[at]) * self.scale[at]
            };
            row.iter().enumerate().map(term).sum()
        };
        rows.iter().flat_map(|row| (0..labels).map(move |label| say(row, label) as f32)).collect()
    }
}

impl Features for Substitutions {
    fn count(&self) -> usize {
        ALL
    }

    fn of(&self, row: &EncodedSequence) -> Sparse {
        let raw = self.raw(row).into_iter().enumerate();
        raw.map(|(i, x)| (i, (x - self.mean[i]) * self.scale[i])).collect()
    }

    fn tensors(&self, model: &Linear, labels: usize) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let pairs = self.folded(&self.pairs, 0, model, labels);
        let places = self.folded(&self.places, OF_PAIR, model, labels);
        vec![
            (PAIRS.into(), vec![self.pairs.len(), labels], pairs),
            (PLACES.into(), vec![self.places.len(), labels], places),
        ]
    }
}
