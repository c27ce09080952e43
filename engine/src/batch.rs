//! Token rows, packed into the rectangle that an engine takes.

use locus_genome::EncodedVariant;

use crate::graphs::Inputs;

/// Token id of the padding, fixed by the vocabulary ([PAD] = 0).
const PAD: i64 = 0;
/// Track code of special tokens and of padding.
const TRACK_UNKNOWN: i64 = 0;

/// Why rows do not fit a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// No rows at all.
    #[error("got no rows, expected at least one")]
    Empty,
    /// A row longer than the bucket, or than every bucket of the model.
    #[error("row {row} has {got} tokens, expected at most {limit}; shorten the window")]
    TooLong {
        /// 0-based row.
        row: usize,
        /// Its length in tokens.
        got: usize,
        /// Tokens that fit.
        limit: usize,
    },
    /// Fields of one row that differ in length.
    #[error("row {row}: {field} has {got} values, expected {expected}")]
    Ragged {
        /// 0-based row.
        row: usize,
        /// The field that differs.
        field: &'static str,
        /// Its length.
        got: usize,
        /// Length of `ref_ids`, or of the first row's features.
        expected: usize,
    },
    /// More rows than a session takes.
    #[error("got {got} rows, expected at most {limit}; split the batch")]
    TooManyRows {
        /// Rows given.
        got: usize,
        /// Rows that fit.
        limit: usize,
    },
    /// Pairs where the model reads sequences, or the other way round.
    #[error("got rows that are {got:?}, expected {expected:?}; the model is for another task")]
    Inputs {
        /// What the rows are.
        got: Inputs,
        /// What the model reads.
        expected: Inputs,
    },
    /// A feature that is not a number.
    #[error("row {row}: a feature is not finite; check the encoder")]
    NotFinite {
        /// 0-based row.
        row: usize,
    },
}

/// One unpadded pair of windows, or one sequence: all token fields have the same length.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Token ids of the reference window or the sequence, [CLS] and [SEP] included.
    pub ref_ids: &'a [i64],
    /// Token ids of the alternate window; none in a sequence.
    pub alt_ids: &'a [i64],
    /// Track codes of the reference window or the sequence.
    pub ref_track: &'a [i64],
    /// Track codes of the alternate window; none in a sequence.
    pub alt_track: &'a [i64],
    /// Features in the order of the manifest.
    pub features: &'a [f32],
}

impl<'a> From<&'a EncodedVariant> for Row<'a> {
    fn from(variant: &'a EncodedVariant) -> Self {
        Self {
            ref_ids: &variant.ref_ids,
            alt_ids: &variant.alt_ids,
            ref_track: &variant.track,
            alt_track: &variant.alt_track,
            features: &variant.features,
        }
    }
}

impl<'a> Row<'a> {
    /// A sequence.
    pub const fn sequence(ids: &'a [i64], track: &'a [i64]) -> Self {
        Self { ref_ids: ids, alt_ids: &[], ref_track: track, alt_track: &[], features: &[] }
    }

    /// What it is: a sequence has no alternate.
    pub const fn inputs(&self) -> Inputs {
        if self.alt_ids.is_empty() && self.alt_track.is_empty() { Inputs::Sequence } else { Inputs::Pair }
    }

    fn check(&self, row: usize, bucket: usize, n_features: usize) -> Result<(), BatchError> {
        let expected = self.ref_ids.len();
        let track = ("ref_track", self.ref_track);
        let alternate = [("alt_ids", self.alt_ids), ("alt_track", self.alt_track)];
        let pair = self.inputs() == Inputs::Pair;
        for (field, values) in [track].into_iter().chain(alternate.into_iter().filter(|_| pair)) {
            if values.len() != expected {
                return Err(BatchError::Ragged { row, field, got: values.len(), expected });
            }
        }
        if self.features.len() != n_features {
            let got = self.features.len();
            return Err(BatchError::Ragged { row, field: "features", got, expected: n_features });
        }
        if expected == 0 {
            return Err(BatchError::Empty);
        }
        if expected > bucket {
            return Err(BatchError::TooLong { row, got: expected, limit: bucket });
        }
        if self.features.iter().any(|value| !value.is_finite()) {
            return Err(BatchError::NotFinite { row });
        }
        Ok(())
    }
}

/// A padded batch. Token fields are row-major `[rows, tokens]`, features `[rows, n_features]`; mask 1 = attend.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenBatch {
    /// What a row is; a sequence has no `alt_…`, and its ids, track and mask lie in `ref_…`.
    pub inputs: Inputs,
    /// Number of rows.
    pub rows: usize,
    /// Tokens per row: the bucket.
    pub tokens: usize,
    /// Reference token ids.
    pub ref_ids: Vec<i64>,
    /// Alternate token ids.
    pub alt_ids: Vec<i64>,
    /// Reference track codes.
    pub ref_track: Vec<i64>,
    /// Alternate track codes.
    pub alt_track: Vec<i64>,
    /// Reference mask.
    pub ref_mask: Vec<i64>,
    /// Alternate mask.
    pub alt_mask: Vec<i64>,
    /// Features.
    pub features: Vec<f32>,
    /// Features per row.
    pub n_features: usize,
}

impl TokenBatch {
    /// Pads encoded variants to `bucket` tokens.
    ///
    /// # Errors
    /// [`BatchError`] when there is no row, a row is longer than the bucket, or fields disagree in length.
    pub fn pack(variants: &[&EncodedVariant], bucket: usize) -> Result<Self, BatchError> {
        let rows: Vec<Row<'_>> = variants.iter().map(|variant| Row::from(*variant)).collect();
        Self::pack_rows(&rows, bucket)
    }

    /// Pads rows to `bucket` tokens; [`TokenBatch::pack`] for rows that come from elsewhere.
    ///
    /// # Errors
    /// As [`TokenBatch::pack`].
    pub fn pack_rows(rows: &[Row<'_>], bucket: usize) -> Result<Self, BatchError> {
        let first = rows.first().ok_or(BatchError::Empty)?;
        let (inputs, n_features) = (first.inputs(), first.features.len());
        for (at, row) in rows.iter().enumerate() {
            row.check(at, bucket, n_features)?;
            if row.inputs() != inputs {
                return Err(BatchError::Inputs { got: row.inputs(), expected: inputs });
            }
        }
        let padded = |pad: i64, field: &dyn Fn(&Row<'_>) -> Vec<i64>| -> Vec<i64> {
            let mut values = Vec::with_capacity(rows.len() * bucket);
            for (at, row) in rows.iter().enumerate() {
                values.extend(field(row));
                values.resize((at + 1) * bucket, pad);
            }
            values
        };
        let mask = padded(0, &|row| vec![1; row.ref_ids.len()]);
        let alternate = |values: Vec<i64>| if inputs == Inputs::Pair { values } else { Vec::new() };
        Ok(Self {
            inputs,
            rows: rows.len(),
            tokens: bucket,
            ref_ids: padded(PAD, &|row| row.ref_ids.to_vec()),
            alt_ids: alternate(padded(PAD, &|row| row.alt_ids.to_vec())),
            ref_track: padded(TRACK_UNKNOWN, &|row| row.ref_track.to_vec()),
            alt_track: alternate(padded(TRACK_UNKNOWN, &|row| row.alt_track.to_vec())),
            alt_mask: alternate(mask.clone()),
            ref_mask: mask,
            features: rows.iter().flat_map(|row| row.features.iter().copied()).collect(),
            n_features,
        })
    }

    /// A batch of `rows` rows of nothing but padding behind one attended token, to warm a session up.
    pub fn blank(inputs: Inputs, rows: usize, tokens: usize, n_features: usize) -> Self {
        let cells = rows * tokens;
        let alternate = |values: Vec<i64>| if inputs == Inputs::Pair { values } else { Vec::new() };
        let mask: Vec<i64> = (0..cells).map(|cell| i64::from(cell % tokens.max(1) == 0)).collect();
        Self {
            inputs,
            rows,
            tokens,
            ref_ids: vec![PAD; cells],
            alt_ids: alternate(vec![PAD; cells]),
            ref_track: vec![TRACK_UNKNOWN; cells],
            alt_track: alternate(vec![TRACK_UNKNOWN; cells]),
            alt_mask: alternate(mask.clone()),
            ref_mask: mask,
            features: vec![0.0; rows * n_features],
            n_features,
        }
    }

    /// Some of its rows; none of those behind its end.
    pub(crate) fn part(&self, rows: std::ops::Range<usize>) -> Self {
        fn of<T: Clone>(values: &[T], width: usize, rows: &std::ops::Range<usize>) -> Vec<T> {
            values.get(rows.start * width..rows.end * width).unwrap_or_default().to_vec()
        }
        let tokens = |values: &[i64]| of(values, self.tokens, &rows);
        Self {
            inputs: self.inputs,
            rows: rows.len(),
            tokens: self.tokens,
            ref_ids: tokens(&self.ref_ids),
            alt_ids: tokens(&self.alt_ids),
            ref_track: tokens(&self.ref_track),
            alt_track: tokens(&self.alt_track),
            ref_mask: tokens(&self.ref_mask),
            alt_mask: tokens(&self.alt_mask),
            features: of(&self.features, self.n_features, &rows),
            n_features: self.n_features,
        }
    }

    /// Checks that the fields have the sizes that `rows`, `tokens` and `n_features` promise.
    ///
    /// # Errors
    /// [`BatchError::Ragged`] naming the first field that does not, with row 0.
    pub fn check(&self) -> Result<(), BatchError> {
        let cells = self.rows * self.tokens;
        for (field, values) in self.token_fields() {
            if values.len() != cells {
                return Err(BatchError::Ragged { row: 0, field, got: values.len(), expected: cells });
            }
        }
        let expected = self.rows * self.n_features;
        if self.features.len() != expected {
            let got = self.features.len();
            return Err(BatchError::Ragged { row: 0, field: "features", got, expected });
        }
        if cells == 0 { Err(BatchError::Empty) } else { Ok(()) }
    }

    /// The int64 inputs of the graph contract, by name.
    pub fn token_fields(&self) -> impl Iterator<Item = (&'static str, &[i64])> {
        let (reference, alternate) = (
            [&self.ref_ids, &self.ref_track, &self.ref_mask],
            [&self.alt_ids, &self.alt_track, &self.alt_mask],
        );
        let values: Vec<&[i64]> = match self.inputs {
            Inputs::Sequence => reference.iter().map(|v| v.as_slice()).collect(),
            Inputs::Pair => {
                reference.iter().zip(&alternate).flat_map(|(r, a)| [r.as_slice(), a.as_slice()]).collect()
            }
        };
        self.inputs.tokens().iter().copied().zip(values)
    }

    /// The int64 input called `name`.
    pub fn token_field(&self, name: &str) -> Option<&[i64]> {
        self.token_fields().find(|(field, _)| *field == name).map(|(_, values)| values)
    }
}

/// The smallest bucket that takes `tokens` tokens, whatever the order of `buckets`.
pub fn bucket_for(buckets: &[u32], tokens: usize) -> Option<usize> {
    buckets.iter().map(|bucket| *bucket as usize).filter(|bucket| *bucket >= tokens).min()
}

/// Rows of one bucket that run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Tokens per row.
    pub bucket: usize,
    /// Positions of the rows in the caller's list, ascending.
    pub rows: Vec<usize>,
}

/// Groups rows of the given lengths by bucket, at most `max_batch` to a group; buckets ascend.
///
/// # Errors
/// [`BatchError::TooLong`] for a row that no bucket takes.
pub fn group_by_bucket(
    lengths: &[usize],
    buckets: &[u32],
    max_batch: usize,
) -> Result<Vec<Group>, BatchError> {
    let limit = buckets.iter().copied().max().unwrap_or(0) as usize;
    let mut by_bucket = std::collections::BTreeMap::<usize, Vec<usize>>::new();
    for (row, got) in lengths.iter().copied().enumerate() {
        let bucket = bucket_for(buckets, got).ok_or(BatchError::TooLong { row, got, limit })?;
        by_bucket.entry(bucket).or_default().push(row);
    }
    let chunk = max_batch.max(1);
    Ok(by_bucket
        .into_iter()
        .flat_map(|(bucket, rows)| {
            rows.chunks(chunk).map(|rows| Group { bucket, rows: rows.to_vec() }).collect::<Vec<_>>()
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(ids: &'a [i64], track: &'a [i64], features: &'a [f32]) -> Row<'a> {
        Row { ref_ids: ids, alt_ids: ids, ref_track: track, alt_track: track, features }
    }

    #[test]
    fn padding_is_pad_tokens_without_attention() {
        let batch = TokenBatch::pack_rows(
            &[row(&[2, 7, 3], &[0, 6, 0], &[1.0]), row(&[2, 9, 8, 3], &[0, 1, 1, 0], &[2.0])],
            5,
        )
        .unwrap();
        assert_eq!(batch.ref_ids, [2, 7, 3, 0, 0, 2, 9, 8, 3, 0]);
        assert_eq!(batch.ref_mask, [1, 1, 1, 0, 0, 1, 1, 1, 1, 0]);
        assert_eq!(batch.alt_track, [0, 6, 0, 0, 0, 0, 1, 1, 0, 0]);
        assert_eq!(batch.features, [1.0, 2.0]);
        assert_eq!(batch.check(), Ok(()));
        assert_eq!(TokenBatch::blank(Inputs::Pair, 2, 4, 3).check(), Ok(()));
    }

    #[test]
    fn a_part_is_what_its_rows_alone_would_be() {
        let (ids, track) = ([[2, 7, 3], [2, 8, 3], [2, 9, 3]], [0, 1, 0]);
        let rows: Vec<Row<'_>> = ids.iter().map(|ids| row(ids, &track, &[0.5, 1.5])).collect();
        let all = TokenBatch::pack_rows(&rows, 4).unwrap();
        for range in [0..1, 1..3, 0..3] {
            assert_eq!(all.part(range.clone()), TokenBatch::pack_rows(&rows[range], 4).unwrap());
        }
        let sequences = [Row::sequence(&[2, 7, 3], &[0, 1, 0]), Row::sequence(&[2, 3], &[0, 0])];
        let all = TokenBatch::pack_rows(&sequences, 4).unwrap();
        assert_eq!(all.part(1..2), TokenBatch::pack_rows(&sequences[1..], 4).unwrap());
    }

    #[test]
    fn a_sequence_is_one_row_without_an_alternate() {
        let rows = [Row::sequence(&[2, 7, 3], &[0, 1, 0]), Row::sequence(&[2, 3], &[0, 0])];
        let batch = TokenBatch::pack_rows(&rows, 4).unwrap();
        let fields: Vec<_> = batch.token_fields().collect();
        let (ids, track, mask) =
            ([2, 7, 3, 0, 2, 3, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0, 0]);
        assert_eq!(fields, [("ids", &ids[..]), ("track", &track), ("mask", &mask)]);
        assert_eq!((batch.check(), batch.alt_ids.len()), (Ok(()), 0));
        assert_eq!(TokenBatch::blank(Inputs::Sequence, 2, 4, 0).check(), Ok(()));
        let both = [rows[0], row(&[2], &[0], &[])];
        assert!(matches!(TokenBatch::pack_rows(&both, 4), Err(BatchError::Inputs { .. })));
    }

    #[test]
    fn rows_that_disagree_are_refused() {
        let ragged = Row { ref_track: &[0], ..row(&[2, 3], &[0, 0], &[]) };
        assert!(matches!(
            TokenBatch::pack_rows(&[ragged], 8),
            Err(BatchError::Ragged { field: "ref_track", got: 1, expected: 2, .. })
        ));
        let two = [row(&[2], &[0], &[1.0]), row(&[2], &[0], &[])];
        assert!(matches!(
            TokenBatch::pack_rows(&two, 8),
            Err(BatchError::Ragged { row: 1, field: "features", .. })
        ));
        assert_eq!(TokenBatch::pack_rows(&[], 8), Err(BatchError::Empty));
        assert_eq!(TokenBatch::pack_rows(&[row(&[], &[], &[])], 8), Err(BatchError::Empty));
        assert!(matches!(
            TokenBatch::pack_rows(&[row(&[2, 3], &[0, 0], &[])], 1),
            Err(BatchError::TooLong { got: 2, limit: 1, .. })
        ));
        assert!(matches!(
            TokenBatch::pack_rows(&[row(&[2], &[0], &[f32::NAN])], 1),
            Err(BatchError::NotFinite { row: 0 })
        ));
    }

    #[test]
    fn every_row_lands_once_in_the_smallest_bucket_that_takes_it() {
        let lengths = [63, 5, 32, 33, 64, 1];
        let groups = group_by_bucket(&lengths, &[64, 32], 2).unwrap();
        let mut seen = Vec::new();
        for group in &groups {
            assert!(group.rows.len() <= 2);
            for row in &group.rows {
                assert_eq!(bucket_for(&[32, 64], lengths[*row]), Some(group.bucket));
                seen.push(*row);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
        assert!(matches!(
            group_by_bucket(&[65], &[32, 64], 1),
            Err(BatchError::TooLong { row: 0, got: 65, limit: 64 })
        ));
        assert!(group_by_bucket(&[1], &[], 1).is_err());
    }
}
