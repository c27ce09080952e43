//! Windows for pretraining, drawn from the regions that hold no validation or test record.

use locus_genome::{KmerTokenizer, ReferencePack, Strand, Transcript, encode::Stretch, window::Window};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::Dataset;
use crate::{Error, Result, language::Windows};

/// Bases around an exon that count as near it.
const NEAR_EXON: i64 = 30;

struct Region<'a> {
    stretch: Stretch<'a>,
    transcripts: Vec<&'a Transcript>,
}

/// Draws windows in a transcript's sense: half of them in or next to an exon, half anywhere.
pub struct WindowSampler<'a> {
    regions: Vec<Region<'a>>,
    tokenizer: KmerTokenizer,
    width: usize,
    track_dropout: f64,
}

impl<'a> WindowSampler<'a> {
    /// A sampler over the dataset's free regions.
    ///
    /// # Errors
    /// A reference that holds none of them.
    pub fn new(reference: &'a ReferencePack, dataset: &Dataset, track_dropout: f64) -> Result<Self> {
        let free = |contig: &str, first: i64| {
            dataset.pretraining_regions.iter().any(|(c, f, _)| c == contig && *f == first)
        };
        let regions: Vec<Region<'_>> = reference
            .records()
            .iter()
            .filter(|r| free(&r.contig, r.first))
            .map(|r| {
                let over = |t: &&Transcript| t.span().0 <= r.last() && r.first <= t.span().1;
                let transcripts = reference.transcripts(&r.contig).iter().filter(over).collect();
                Ok(Region { stretch: reference.stretch(r)?, transcripts })
            })
            .collect::<Result<_>>()?;
        if regions.is_empty() {
            return Err(Error::Data {
                what: "pretraining".into(),
                got: "no region free of validation and test records".into(),
                expected: "the reference that the dataset was prepared from, with train-only regions".into(),
            });
        }
        let tokenizer = dataset.tokenizer()?;
        Ok(Self { regions, tokenizer, width: tokenizer.bases(dataset.window_kmers), track_dropout })
    }
}

impl Windows for WindowSampler<'_> {
    fn tokenizer(&self) -> &KmerTokenizer {
        &self.tokenizer
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Result<Window> {
        let region = &self.regions[rng.random_range(0..self.regions.len())];
        let last = region.stretch.first + region.stretch.bases.len() as i64 - 1;
        let transcript = (!region.transcripts.is_empty())
            .then(|| region.transcripts[rng.random_range(0..region.transcripts.len())]);
        let anywhere = rng.random_range(region.stretch.first..=last);
        let position = match transcript {
            Some(t) if rng.random_bool(0.5) && !t.exons().is_empty() => {
                let exon = t.exons()[rng.random_range(0..t.exons().len())];
                rng.random_range(exon.start - NEAR_EXON..=exon.end + NEAR_EXON)
                    .clamp(region.stretch.first, last)
            }
            _ => anywhere,
        };
        let bare = rng.random_bool(self.track_dropout);
        let turned = rng.random_bool(0.5);
        let strand = match transcript {
            Some(t) if !bare => t.strand,
            _ if turned => Strand::Reverse,
            _ => Strand::Forward,
        };
        let transcript = transcript.filter(|_| !bare);
        Ok(Window::around(&region.stretch, position, self.width, strand, transcript))
    }
}
