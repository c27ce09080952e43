//! Windows to train on.

use locus_genome::{KmerTokenizer, dna, window::Window};
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;

use super::Stretch;
use crate::{Error, Result, packed::PackedGenome};

/// Draws before a genome is given up as too ambiguous.
const TRIES: usize = 1_000;

/// Gives windows at random.
pub trait Windows: Sync {
    /// Cuts them into tokens.
    fn tokenizer(&self) -> &KmerTokenizer;

    /// A window that `rng` decides.
    ///
    /// # Errors
    /// Bases that cannot be read.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Window>;
}

/// Windows of the stretches of a packed genome: every base as likely as any other, half of the windows read on the
/// other strand, without track.
#[derive(Debug)]
pub struct StretchWindows<'a> {
    genome: &'a PackedGenome,
    stretches: Vec<Stretch>,
    /// Windows that begin in each stretch and those before it.
    ends: Vec<u64>,
    tokenizer: KmerTokenizer,
    bases: u64,
    max_ambiguous: f64,
}

impl<'a> StretchWindows<'a> {
    /// Windows of `bases` bases, of which at most the share `max_ambiguous` is not A, C, G or T.
    ///
    /// # Errors
    /// No stretch that is long enough.
    pub fn new(
        genome: &'a PackedGenome,
        stretches: &[Stretch],
        tokenizer: KmerTokenizer,
        bases: usize,
        max_ambiguous: f64,
    ) -> Result<Self> {
        let bases = bases as u64;
        let stretches: Vec<Stretch> = stretches.iter().filter(|s| s.len() >= bases).copied().collect();
        let mut windows = 0;
        let ends = stretches.iter().map(|s| {
            windows += s.len() - bases + 1;
            windows
        });
        let ends: Vec<u64> = ends.collect();
        if ends.is_empty() {
            return Err(Error::Data {
                what: "pretraining".into(),
                got: format!("no stretch of {bases} bases"),
                expected: "stretches as long as a window".into(),
            });
        }
        Ok(Self { genome, stretches, ends, tokenizer, bases, max_ambiguous })
    }

    /// Number of the stretch and the first base of a window, on the forward strand.
    pub fn place(&self, rng: &mut impl Rng) -> (usize, u64) {
        let drawn = rng.random_range(0..self.ends[self.ends.len() - 1]);
        let n = self.ends.partition_point(|&end| end <= drawn);
        let before = if n == 0 { 0 } else { self.ends[n - 1] };
        (n, self.stretches[n].start + drawn - before)
    }

    /// A window of the forward strand with the stretch that it lies in.
    ///
    /// # Errors
    /// [`Error::Data`] where nearly everything is ambiguous.
    pub fn forward(&self, rng: &mut impl Rng) -> Result<(Stretch, u64, Vec<u8>)> {
        for _ in 0..TRIES {
            let (n, start) = self.place(rng);
            let record = self.stretches[n].record;
            let end = start + self.bases;
            let ambiguous = self.genome.records()[record].ambiguous(start, end) as f64;
            if ambiguous <= self.max_ambiguous * self.bases as f64 {
                return Ok((self.stretches[n], start, self.genome.bases(record, start, end)?));
            }
        }
        Err(Error::Data {
            what: "pretraining".into(),
            got: format!("{TRIES} windows in a row with too many ambiguous bases"),
            expected: format!("a share of {} at most; see data.max_ambiguous", self.max_ambiguous),
        })
    }
}

impl Windows for StretchWindows<'_> {
    fn tokenizer(&self) -> &KmerTokenizer {
        &self.tokenizer
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Window> {
        let (_, _, mut bases) = self.forward(rng)?;
        if rng.random_bool(0.5) {
            bases = dna::reverse_complement(&bases);
        }
        Ok(Window { centre: bases.len() / 2, track: vec![0; bases.len()], bases })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::language::regions::tests::{packed, random};

    #[test]
    fn windows_come_from_every_stretch_and_from_both_strands_alike() {
        let folder = tempfile::tempdir().unwrap();
        let bases = [random(500, 1), b"N".repeat(200), random(300, 2)].concat();
        let genome = packed(folder.path(), &[("a", "", bases.clone())]);
        let stretches =
            [(0, 400), (450, 460), (650, 1_000)].map(|(start, end)| Stretch { record: 0, start, end });
        let tokenizer = KmerTokenizer::new(3, 1).unwrap();
        let windows = StretchWindows::new(&genome, &stretches, tokenizer, 63, 0.0).unwrap();
        let text = String::from_utf8(bases).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut forward, mut late) = (0, 0);
        for _ in 0..2_000 {
            let window = windows.draw(&mut rng).unwrap();
            assert!(window.bases.len() == 63 && window.track == [0; 63]);
            let turned = String::from_utf8(dna::reverse_complement(&window.bases)).unwrap();
            let at = text.find(&String::from_utf8(window.bases).unwrap());
            forward += usize::from(at.is_some());
            let at = at.or_else(|| text.find(&turned)).unwrap();
            assert!(at + 63 <= 400 || at >= 700, "{at}");
            late += usize::from(at >= 700);
        }
        assert!(forward.abs_diff(1_000) < 120, "{forward}");
        // 238 windows begin in 700..938, 338 in 0..338.
        assert!(late.abs_diff(2_000 * 238 / 576) < 120, "{late}");
    }

    #[test]
    fn a_genome_of_ambiguous_bases_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let genome = packed(folder.path(), &[("a", "", b"ACGTN".repeat(100))]);
        let whole = [Stretch { record: 0, start: 0, end: 500 }];
        let tokenizer = KmerTokenizer::new(3, 1).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let strict = StretchWindows::new(&genome, &whole, tokenizer, 63, 0.1).unwrap();
        assert!(strict.draw(&mut rng).unwrap_err().to_string().contains("max_ambiguous"));
        let lenient = StretchWindows::new(&genome, &whole, tokenizer, 63, 0.25).unwrap();
        assert_eq!(lenient.draw(&mut rng).unwrap().bases.len(), 63);
        assert!(StretchWindows::new(&genome, &whole, tokenizer, 501, 1.0).is_err());
    }
}
