//! Bases a second that become k-mer ids on one core, beside the reference's Python and Hugging Face's `tokenizers`.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use locus_genome::{KmerTokenizer, Tokenizer};
use locus_tests::{data, root};

use crate::{
    figures::{Figure, Results, Run},
    peers::environment,
    sample::summary,
};

/// Bases of a piece, as long as a transcript.
const PIECE: usize = 10_000;
/// Ways of `tokenizers`, see bench/peers/tokenising.py.
const WAYS: [&str; 3] = ["phases", "phases_fast", "spaced"];

#[derive(Debug, clap::Args)]
pub(crate) struct TokenisingArguments {
    /// Bases, in pieces of 10,000
    #[arg(long, default_value_t = 4_000_000)]
    bases: usize,
    /// Rounds in which all run, one after the other
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// File to write
    #[arg(long, default_value = "bench/results/tokenising.json")]
    out: PathBuf,
}

/// Upper-case bases of the real data, else as many drawn ones; and which of the two.
fn sequence(bases: usize) -> Result<(Vec<u8>, &'static str)> {
    let Some(folder) = data("tokenising of real sequence") else {
        let mut state = 1_u64;
        let drawn = (0..bases).map(|_| {
            // Knuth's MMIX; the high bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b"ACGT"[(state >> 62) as usize]
        });
        return Ok((drawn.collect(), "drawn, seed 1"));
    };
    let mut text = String::new();
    let file = fs::File::open(folder.join("corpus/human_extra_genomic.fa.gz"))?;
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text)?;
    let letters = text.lines().filter(|line| !line.starts_with('>')).flat_map(str::bytes);
    let read: Vec<u8> = letters.map(|letter| letter.to_ascii_uppercase()).take(bases).collect();
    Ok((read, "human, corpus/human_extra_genomic.fa.gz"))
}

/// Seconds that a pass takes, at best of as many as fit half a second.
fn best(mut pass: impl FnMut() -> usize) -> f64 {
    let (mut best, began) = (f64::INFINITY, Instant::now());
    while began.elapsed() < Duration::from_millis(500) {
        let started = Instant::now();
        std::hint::black_box(pass());
        best = best.min(started.elapsed().as_secs_f64());
    }
    best
}

/// Seconds of each way of the peers, after a look at their ids.
fn peers(python: &Path, pieces: &Path, expected: &[u32]) -> Result<BTreeMap<String, f64>> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(python);
    command.arg(root().join("bench/peers/tokenising.py")).arg(pieces).arg(folder.path()).arg("2");
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seconds: BTreeMap<String, f64> =
        serde_json::from_slice(&output.stdout).context("what a peer says")?;
    for way in seconds.keys() {
        let bytes = fs::read(folder.path().join(format!("{way}.ids")))?;
        let ids = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id));
        ensure!(ids.eq(expected.iter().copied()), "{way}: other ids than Locus', expected the same");
    }
    Ok(seconds)
}

impl TokenisingArguments {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.repeats > 0 && self.bases >= PIECE, "got no rounds or no piece of {PIECE} bases");
        let (bases, of) = sequence(self.bases)?;
        let pieces: Vec<&str> = bases.chunks(PIECE).map(str::from_utf8).collect::<Result<_, _>>()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("pieces");
        fs::write(&file, pieces.join("\n"))?;
        let kmers = KmerTokenizer::new(3, 1)?;
        let tokenizer = Tokenizer::Dna(kmers);
        let mut expected = Vec::new();
        for piece in &pieces {
            expected.extend(tokenizer.encode(piece)?);
        }
        let python = environment().context("the peers' Python packages cannot be installed")?;
        let (mut text, mut known, mut other) = (Vec::new(), Vec::new(), BTreeMap::<String, Vec<f64>>::new());
        for _ in 0..self.repeats {
            let of_text = |piece: &&str| tokenizer.encode(piece).map_or(0, |ids| ids.len());
            text.push(best(|| pieces.iter().map(of_text).sum()));
            known.push(best(|| pieces.iter().map(|piece| kmers.encode(piece.as_bytes()).len()).sum()));
            for (way, seconds) in peers(&python, &file, &expected)? {
                other.entry(way).or_default().push(seconds);
            }
        }
        let run = Run::of(&format!("tokenising --bases {} --repeats {}", self.bases, self.repeats));
        let fastest = WAYS.into_iter().min_by(|a, b| least(&other, a).total_cmp(&least(&other, b)));
        let fastest = fastest.context("no way of tokenizers")?;
        let million = bases.len() as f64 / 1e6;
        let figure = |name: String, seconds: &[f64], beside: Option<String>| -> Figure {
            let (median, least, most) = summary(seconds.iter().map(|s| million / s).collect());
            let spread = format!("{least:.1} to {most:.1} in {} rounds", seconds.len());
            println!("{name}: {median:.1} MB/s ({spread})");
            run.figure(name, median, "MB/s", spread, beside)
        };
        let times = |own: &[f64], peer: &[f64]| {
            let (median, least, most) = summary(own.iter().zip(peer).map(|(own, peer)| peer / own).collect());
            format!("{median:.0} times ({least:.0} to {most:.0})")
        };
        let beside = format!(
            "bar 300 MB/s; {} the reference's Python, bar 100; {} tokenizers, bar 3",
            times(&text, &other["python"]),
            times(&text, &other[fastest])
        );
        let mut figures = vec![
            figure("Locus, text to ids".into(), &text, Some(beside)),
            figure("Locus, bases that are checked already to ids".into(), &known, None),
            figure("the reference's Python, look-ups in a dictionary".into(), &other["python"], None),
        ];
        for (way, name) in WAYS.into_iter().zip([
            "encode_batch of three phases",
            "encode_batch_fast of three phases",
            "words written apart beforehand",
        ]) {
            figures.push(figure(format!("tokenizers 0.22.2, {name}"), &other[way], None));
        }
        let about = format!(
            "Overlapping 3-mers of {} bases ({of}) in pieces of {PIECE}, on one core; every way's ids are those of Locus. Text to ids \
             checks each letter and takes either case, which the Python does not. Each value is the best pass of a round, and of these the \
             median. `tokenizers` has no overlapping words: it cuts a piece three times, from its first, second and third base, or is \
             given words that are written apart beside the clock.",
            bases.len()
        );
        Results { title: "Tokenising", about, figures }.write(&self.out)
    }
}

/// Least seconds of a way.
fn least(all: &BTreeMap<String, Vec<f64>>, way: &str) -> f64 {
    all.get(way).map_or(f64::INFINITY, |seconds| summary(seconds.clone()).1)
}
