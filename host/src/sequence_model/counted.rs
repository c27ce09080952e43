//! What is known of a token before training, counted on the training records: the table of the wide path.

use candle_core::{Device, Tensor};
use locus_genome::{
    EncodedSequence, Tokenizer, codon,
    tokenizer::{KmerTokenizer, SPECIAL_TOKENS},
};

use super::pack;
use crate::{
    Result,
    model::{ModelConfig, Params, SCALE, SHIFT, SequenceHead, TABLE},
};

/// Pseudo-counts of each token on average, shared out as its first codon says.
const PSEUDO: f64 = 4.0;
/// Rounds in which each sequence takes the frame that the counts of the others like best.
const ROUNDS: usize = 4;
/// Rows from which the features' scale is measured, and rows at once.
const SCALED: (usize, usize) = (2_048, 32);
/// Deviation under which a feature says nothing and is left out.
const LEAST_DEVIATION: f64 = 1e-6;
/// Bases of a codon.
const CODON: usize = 3;

/// Lengths of the beginnings of a k-mer whose log-odds are counted: the first codon and the whole.
fn orders(k: usize) -> Vec<usize> {
    if k > CODON { vec![CODON, k] } else { vec![k] }
}

const fn kmers(tokenizer: &Tokenizer) -> Option<&KmerTokenizer> {
    match tokenizer {
        Tokenizer::Dna(kmers) => Some(kmers),
        Tokenizer::Rna(rna) => Some(rna.kmers()),
        _ => None,
    }
}

/// Classes that have log-odds: of two the second.
const fn counted_classes(classes: usize) -> std::ops::Range<usize> {
    if classes == 2 { 1..2 } else { 0..classes }
}

/// Channels of the table: log-odds of each class against all others, by codon position and for codons and whole tokens
/// apart; then which letter stands where in the token.
pub fn channels(tokenizer: &Tokenizer, frames: usize, classes: usize) -> usize {
    let classes = counted_classes(classes).len();
    match kmers(tokenizer) {
        Some(t) => classes * frames.max(1) * orders(t.k()).len() + 4 * t.k(),
        None => classes + tokenizer.vocab_size() - SPECIAL_TOKENS as usize,
    }
}

/// Sets the table of the wide path and the scale of its features from training rows and their classes: the features
/// have mean 0 and deviation 1 over these rows.
///
/// # Errors
/// Rows that the model cannot take.
pub fn count(
    params: &Params,
    config: &ModelConfig,
    tokenizer: &Tokenizer,
    rows: &[EncodedSequence],
    classes: &[usize],
) -> Result<()> {
    let table = table(tokenizer, config.frames.max(1), rows, classes, config.labels.len());
    params.set(TABLE, &Tensor::from_vec(table, (config.vocab_size, config.counted), &Device::Cpu)?)?;
    let (most, batch) = SCALED;
    let every = rows.len().div_ceil(most).max(1);
    let picked: Vec<EncodedSequence> = rows.iter().step_by(every).cloned().collect();
    let width = config.wide_features();
    let (mut sum, mut square, mut n) = (vec![0.0; width], vec![0.0; width], 0.0_f64);
    for some in picked.chunks(batch) {
        for row in SequenceHead::new(config, params).wide(&pack(some))?.to_vec2::<f32>()? {
            n += 1.0;
            for ((x, sum), square) in row.into_iter().map(f64::from).zip(&mut sum).zip(&mut square) {
                *sum += x;
                *square += x * x;
            }
        }
    }
    let (scale, shift): (Vec<f32>, Vec<f32>) = sum
        .iter()
        .zip(&square)
        .map(|(sum, square)| {
            let mean = sum / n.max(1.0);
            let deviation = (square / n.max(1.0) - mean * mean).max(0.0).sqrt();
            let scale = if deviation < LEAST_DEVIATION { 0.0 } else { 1.0 / deviation };
            (scale as f32, (-mean * scale) as f32)
        })
        .unzip();
    params.set(SCALE, &Tensor::from_vec(scale, width, &Device::Cpu)?)?;
    params.set(SHIFT, &Tensor::from_vec(shift, width, &Device::Cpu)?)?;
    Ok(())
}

/// [vocabulary, channels]; the special tokens have zeros.
fn table(
    tokenizer: &Tokenizer,
    frames: usize,
    rows: &[EncodedSequence],
    classes: &[usize],
    n_classes: usize,
) -> Vec<f32> {
    let vocabulary = tokenizer.vocab_size() - SPECIAL_TOKENS as usize;
    let rows: Vec<Vec<usize>> = rows.iter().map(known).collect();
    let mut columns: Vec<Vec<f64>> = Vec::new();
    for class in counted_classes(n_classes) {
        let of = |own: bool| rows.iter().zip(classes).filter(move |(_, c)| (**c == class) == own);
        let own: Vec<&[usize]> = of(true).map(|(r, _)| r.as_slice()).collect();
        let others: Vec<(&[usize], usize)> = of(false).map(|(r, _)| (r.as_slice(), 0)).collect();
        let orders = kmers(tokenizer).map_or_else(|| vec![0], |t| orders(t.k()));
        let cells: Vec<Prefix> = orders.iter().map(|&order| Prefix::of(tokenizer, order)).collect();
        let shifts = if frames == CODON { frames_of(tokenizer, &own, &others) } else { vec![0; own.len()] };
        let own: Vec<(&[usize], usize)> = own.into_iter().zip(shifts).collect();
        for cell in &cells {
            for phase in 0..frames {
                columns.push(cell.log_odds(&own, &others, phase, frames));
            }
        }
    }
    match kmers(tokenizer) {
        Some(t) => {
            for place in 0..t.k() {
                let under = 4_usize.pow((t.k() - 1 - place) as u32);
                for letter in 0..4 {
                    let here = |id| f64::from(u8::from(id / under % 4 == letter));
                    columns.push((0..vocabulary).map(here).collect());
                }
            }
        }
        None => {
            for token in 0..vocabulary {
                columns.push((0..vocabulary).map(|id| f64::from(u8::from(id == token))).collect());
            }
        }
    }
    let zeros = std::iter::repeat_n(0.0, SPECIAL_TOKENS as usize * columns.len());
    zeros.chain((0..vocabulary).flat_map(|id| columns.iter().map(move |c| c[id] as f32))).collect()
}

/// Tokens between the ends, counted from 0 without the special ones; one past the vocabulary for what is none.
fn known(row: &EncodedSequence) -> Vec<usize> {
    let inner = row.ids.get(1..row.ids.len().saturating_sub(1)).unwrap_or(&[]);
    inner.iter().map(|&id| usize::try_from(id - i64::from(SPECIAL_TOKENS)).unwrap_or(usize::MAX)).collect()
}

/// Tokens by their first letters.
struct Prefix {
    vocabulary: usize,
    /// Tokens that share a beginning.
    under: usize,
    /// Tokens that share the beginning whose counts the pseudo-counts follow; all of them for none.
    prior: usize,
}

impl Prefix {
    fn of(tokenizer: &Tokenizer, order: usize) -> Self {
        let vocabulary = tokenizer.vocab_size() - SPECIAL_TOKENS as usize;
        let Some(t) = kmers(tokenizer) else { return Self { vocabulary, under: 1, prior: vocabulary } };
        let letters = |n: usize| 4_usize.pow((t.k() - n) as u32);
        let prior = if order > CODON { letters(CODON) } else { vocabulary };
        Self { vocabulary, under: letters(order), prior }
    }

    /// Share of each token's beginning among the tokens at one codon position of the rows, whose frames are shifted.
    fn shares(&self, rows: &[(&[usize], usize)], phase: Option<(usize, usize)>) -> Vec<f64> {
        let (cells, groups) = (self.vocabulary / self.under, self.vocabulary / self.prior);
        let (mut counts, mut prior) = (vec![0.0; cells], vec![PSEUDO; groups]);
        for (row, shift) in rows {
            for (at, &id) in row.iter().enumerate() {
                let here = phase.is_none_or(|(phase, frames)| (at + frames - shift) % frames == phase);
                if here && id < self.vocabulary {
                    counts[id / self.under] += 1.0;
                    prior[id / self.prior] += 1.0;
                }
            }
        }
        let (total, all) = (counts.iter().sum::<f64>(), prior.iter().sum::<f64>());
        let each = (cells / groups) as f64;
        (0..self.vocabulary)
            .map(|id| {
                let expected = prior[id / self.prior] / all / each;
                let pseudo = PSEUDO * cells as f64;
                (counts[id / self.under] + pseudo * expected) / (total + pseudo)
            })
            .collect()
    }

    fn log_odds(
        &self,
        own: &[(&[usize], usize)],
        others: &[(&[usize], usize)],
        phase: usize,
        frames: usize,
    ) -> Vec<f64> {
        let (own, others) = (self.shares(own, Some((phase, frames))), self.shares(others, None));
        own.iter().zip(others).map(|(a, b)| (a / b).ln()).collect()
    }
}

/// In which frame each sequence of a class is read, which nobody says: first the one with the fewest stop codons, then
/// the likeliest by what all frames that were chosen before have in common (hard expectation maximisation).
fn frames_of(tokenizer: &Tokenizer, rows: &[&[usize]], others: &[(&[usize], usize)]) -> Vec<usize> {
    let Some(t) = kmers(tokenizer) else { return vec![0; rows.len()] };
    let stops: Vec<bool> = (0..t.vocab_size() as u32 - SPECIAL_TOKENS)
        .map(|id| {
            let kmer = t.decode(id + SPECIAL_TOKENS).unwrap_or_default();
            kmer.first_chunk::<CODON>().and_then(|codon| codon::translate(*codon)) == Some(b'*')
        })
        .collect();
    let fewest = |row: &&[usize]| {
        let count =
            |shift: usize| row.iter().skip(shift).step_by(CODON).filter(|&&id| stops.get(id) == Some(&true));
        (0..CODON).min_by_key(|&shift| count(shift).count()).unwrap_or(0)
    };
    let mut shifts: Vec<usize> = rows.iter().map(fewest).collect();
    let whole = Prefix::of(tokenizer, t.k());
    for _ in 0..ROUNDS {
        let own: Vec<(&[usize], usize)> = rows.iter().copied().zip(shifts.iter().copied()).collect();
        let odds: Vec<Vec<f64>> =
            (0..CODON).map(|phase| whole.log_odds(&own, others, phase, CODON)).collect();
        let score = |row: &[usize], shift: usize| -> f64 {
            let of = |(at, id): (usize, &usize)| odds[(at + CODON - shift) % CODON].get(*id).copied();
            row.iter().enumerate().filter_map(of).sum()
        };
        let best = |row: &&[usize]| {
            let scores = [0, 1, 2].map(|shift| score(row, shift));
            (0..CODON).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0)
        };
        let next: Vec<usize> = rows.iter().map(best).collect();
        let same = next == shifts;
        shifts = next;
        if same {
            break;
        }
    }
    shifts
}

#[cfg(test)]
mod tests {
    use locus_genome::SequenceEncoder;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::model::{Context, HeadKind};

    const K: usize = 4;

    fn tokenizer() -> Tokenizer {
        Tokenizer::Dna(KmerTokenizer::new(K, 1).unwrap())
    }

    fn config(classes: usize) -> ModelConfig {
        serde_json::from_value(serde_json::json!({
            "model_type": "bert", "vocab_size": tokenizer().vocab_size(), "type_vocab_size": 4, "hidden_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "hidden_act": "gelu",
            "max_position_embeddings": 256, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0, "initializer_range": 0.02, "norm_position": "pre",
            "head": HeadKind::Sequence, "frames": 3, "counted": channels(&tokenizer(), 3, classes),
            "labels": vec!["label"; classes], "n_features": 0, "track_codes": [],
        }))
        .unwrap()
    }

    /// Codons of few kinds from any frame, and bases without order, with the frames of the former.
    fn sequences(n: usize) -> (Vec<EncodedSequence>, Vec<usize>, Vec<usize>) {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let encoder = SequenceEncoder::new(tokenizer(), 3);
        let (mut rows, mut classes, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..n {
            let mut text = String::new();
            if i % 2 == 1 {
                let codons = ["GCC", "GAG", "CTG", "AAG", "GTG", "ATC"];
                (0..40).for_each(|_| text.push_str(codons[rng.random_range(0..6)]));
                let cut = rng.random_range(0..3);
                text.drain(..cut);
                frames.push((3 - cut) % 3);
            } else {
                (0..118).for_each(|_| text.push(['A', 'C', 'G', 'T'][rng.random_range(0..4)]));
            }
            rows.push(encoder.encode(&text).unwrap());
            classes.push(i % 2);
        }
        (rows, classes, frames)
    }

    #[test]
    fn the_frame_that_nobody_says_is_found() {
        let (rows, classes, truth) = sequences(120);
        let known: Vec<Vec<usize>> = rows.iter().map(known).collect();
        let of =
            |class| known.iter().zip(&classes).filter(move |(_, c)| **c == class).map(|(r, _)| r.as_slice());
        let others: Vec<(&[usize], usize)> = of(0).map(|r| (r, 0)).collect();
        let found = frames_of(&tokenizer(), &of(1).collect::<Vec<_>>(), &others);
        // Which of the frames counts as the first is arbitrary, and the same for all.
        let by: Vec<usize> = found.iter().zip(&truth).map(|(f, t)| (f + 3 - t) % 3).collect();
        assert!(by.iter().all(|b| *b == by[0]), "{by:?}");
    }

    #[test]
    fn log_odds_are_high_where_a_class_has_a_token_and_special_tokens_have_none() {
        let (rows, classes, _) = sequences(120);
        let table = table(&tokenizer(), 3, &rows, &classes, 2);
        let width = channels(&tokenizer(), 3, 2);
        assert_eq!(table.len(), tokenizer().vocab_size() * width);
        assert!(table[..SPECIAL_TOKENS as usize * width].iter().all(|v| *v == 0.0));
        let at = |kmer: &[u8]| {
            let id = kmers(&tokenizer()).unwrap().kmer_id(kmer) as usize;
            &table[id * width..][..width]
        };
        let best = |kmer| at(kmer)[..6].iter().copied().fold(f32::MIN, f32::max);
        assert!(best(b"GAGC") > 1.0 && best(b"TAAT") < -1.0, "{:?} {:?}", at(b"GAGC"), at(b"TAAT"));
        // After the log-odds, which letter stands where: A, C, G, T at the first place, and so on.
        assert_eq!(at(b"CAGT")[6..], [0., 1., 0., 0., 1., 0., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1.]);
    }

    #[test]
    fn features_are_scaled_and_tell_the_classes_apart_before_any_training() {
        let (rows, classes, _) = sequences(120);
        let config = config(2);
        let params = Params::new(&config, 1).unwrap();
        count(&params, &config, &tokenizer(), &rows, &classes).unwrap();
        let values = |name: &str| params.get(name).unwrap().to_vec1::<f32>().unwrap();
        let (scale, shift) = (values(SCALE), values(SHIFT));
        let head = SequenceHead::new(&config, &params);
        let features = head.wide(&pack(&rows)).unwrap().to_vec2::<f32>().unwrap();
        let scaled: Vec<Vec<f32>> = features
            .iter()
            .map(|row| row.iter().zip(&scale).zip(&shift).map(|((x, a), b)| x * a + b).collect())
            .collect();
        for (i, &scale) in scale.iter().enumerate() {
            let n = scaled.len() as f32;
            let mean = scaled.iter().map(|r| r[i]).sum::<f32>() / n;
            let square = scaled.iter().map(|r| r[i] * r[i]).sum::<f32>() / n;
            assert!(mean.abs() < 1e-2, "{i}: {mean}");
            assert!((square - 1.0).abs() < 2e-2 || scale == 0.0, "{i}: {square}");
        }
        // The mean log-odds of the first frame, in the best rotation of each row.
        let best = |row: usize| (0..3).map(|by| features[row * 3 + by][0]).fold(f32::MIN, f32::max);
        let (low, high): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|&i| classes[i] == 0);
        let most = low.into_iter().map(best).fold(f32::MIN, f32::max);
        assert!(high.into_iter().all(|i| best(i) > most));
        assert!(head.forward(&pack(&rows[..4]), &Context::eval()).is_ok());
    }

    #[test]
    fn several_classes_and_other_alphabets_have_their_channels() {
        assert_eq!(channels(&tokenizer(), 3, 2), 6 + 16);
        assert_eq!(channels(&tokenizer(), 1, 3), 6 + 16);
        let smiles = Tokenizer::Smiles(locus_genome::tokenizer::SmilesTokenizer);
        let encoder = SequenceEncoder::new(smiles, 1);
        let rows = ["CCO", "CCN", "c1ccccc1"].map(|s| encoder.encode(s).unwrap());
        let width = channels(&smiles, 1, 3);
        assert_eq!(table(&smiles, 1, &rows, &[0, 1, 2], 3).len(), smiles.vocab_size() * width);
    }
}
