//! Runs of one to three tokens, as bags of words on a log scale.

use std::collections::HashMap;

use locus_genome::{EncodedSequence, tokenizer::SPECIAL_TOKENS};

use super::{Features, Linear, Sparse};
use crate::{
    model::wide::{KINDS, counted, grams},
    sequence_model::floor::inner,
};

/// Which tokens are known, and how long runs of them are.
pub(super) struct Grams {
    n: usize,
    /// Kinds, 0 included.
    base: usize,
    /// Kind of each token.
    kinds: Vec<usize>,
}

impl Grams {
    /// Knows the commonest tokens of these rows.
    pub(super) fn new(rows: &[EncodedSequence], vocabulary: usize, (n, kinds): (usize, usize)) -> Self {
        let mut counts: HashMap<usize, u64> = HashMap::new();
        for id in rows.iter().flat_map(inner).filter_map(|&id| usize::try_from(id).ok()) {
            if (SPECIAL_TOKENS as usize..vocabulary).contains(&id) {
                *counts.entry(id).or_default() += 1;
            }
        }
        let mut common: Vec<(usize, u64)> = counts.into_iter().collect();
        common.sort_unstable_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
        let mut of = vec![0; vocabulary];
        for (kind, (id, _)) in common.into_iter().take(kinds).enumerate() {
            of[id] = kind + 1;
        }
        Self { n, base: kinds + 1, kinds: of }
    }

    /// Rows of the table of runs of this length.
    fn rows(&self, length: usize) -> usize {
        self.base.pow(length as u32)
    }

    /// Feature of the first run of this length.
    fn first(&self, length: usize) -> usize {
        (1..length).map(|shorter| self.rows(shorter)).sum()
    }
}

impl Features for Grams {
    fn count(&self) -> usize {
        self.first(self.n + 1)
    }

    fn of(&self, row: &EncodedSequence) -> Sparse {
        let kind =
            |&id: &i64| usize::try_from(id).ok().and_then(|id| self.kinds.get(id).copied()).unwrap_or(0);
        let kinds: Vec<usize> = row.ids.iter().map(kind).collect();
        let runs = counted(&kinds, self.n, self.base).into_iter().enumerate();
        runs.flat_map(|(shorter, runs)| {
            let first = self.first(shorter + 1);
            runs.into_iter().map(move |(run, log)| (first + run, log))
        })
        .collect()
    }

    fn tensors(&self, model: &Linear, labels: usize) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let kinds = self.kinds.iter().map(|&kind| kind as f32).collect();
        let mut tensors = vec![(KINDS.to_owned(), vec![self.kinds.len()], kinds)];
        for length in 1..=self.n {
            let (first, rows) = (self.first(length), self.rows(length));
            let weights = (first..first + rows).flat_map(|i| model.weights(i)).map(|w| *w as f32).collect();
            tensors.push((grams(length), vec![rows, labels], weights));
        }
        tensors
    }
}
