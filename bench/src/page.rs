//! What somebody at the bedside waits for: from a click on "Ask" to the answer in Chromium, and the weight of the page.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use locus_tests::{Browser, Rig};
use serde::Deserialize;
use serde_json::json;

use crate::{
    figures::{Results, Run},
    sample::Sample,
};

/// Clicks before the clock counts.
const WARM_UP: usize = 20;
/// Longest time to the answer, in milliseconds.
const BAR_MS: f64 = 100.0;
/// Largest weight, in bytes.
const BAR_BYTES: usize = 200_000;

/// What the script prints.
#[derive(Deserialize)]
struct Measured {
    /// Milliseconds from each click until the answer is in the document.
    document_ms: Vec<f64>,
    /// The same until a frame with it was made.
    frame_ms: Vec<f64>,
    /// Bytes of what the browser loads of the page.
    loaded: usize,
    /// Bytes of every file of both pages in both languages.
    all: usize,
    browser: String,
}

/// Asks `clicks` variants, each with its explanation, on a page that is signed in.
pub(crate) fn run(clicks: usize, out: &Path) -> Result<()> {
    let browser = Browser::find("the page").context("a peer is missing; `cargo xtask peers` installs it")?;
    let rig = Rig::new("[reference]\nfasta = \"r.fa\"\ngff = \"r.gff3\"\n")?;
    rig.small_genome()?;
    rig.flash()?;
    let daemon = rig.start()?;
    let fasta = fs::read_to_string(rig.path("r.fa"))?;
    let bases: Vec<char> = fasta.lines().nth(1).context("no bases")?.chars().collect();
    let variants: Vec<String> = (0..WARM_UP + clicks)
        .map(|n| {
            let position = 1_110 + n % 180;
            let reference = bases[position - 1_001];
            let alt = "ACGT".chars().cycle().skip(n / 180).find(|alt| *alt != reference).unwrap_or('N');
            format!("chr1-{position}-{reference}-{alt}")
        })
        .collect();
    let given = json!({
        "base": daemon.endpoints.http,
        "token": rig.token("ward-page", "terminal")?.trim(),
        "variants": variants,
        "warm_up": WARM_UP,
    });
    let output = browser.script("clock", given, &rig.path(""))?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let measured: Measured = serde_json::from_slice(&output.stdout)?;
    ensure!(measured.document_ms.len() == clicks && measured.frame_ms.len() == clicks, "clicks were lost");
    daemon.terminate()?;
    let run = Run::of(&format!("page --clicks {clicks}"));
    let mut figures = Vec::new();
    for (name, times) in [("in the document", &measured.document_ms), ("in a frame", &measured.frame_ms)] {
        let mut sample = Sample::default();
        times.iter().for_each(|ms| sample.push(Duration::from_secs_f64(ms / 1e3)));
        for (share, word) in [(0.5, "p50"), (0.99, "p99")] {
            let beside = format!("bar {BAR_MS} ms");
            let title = format!("click to answer {name}, {word}");
            figures.push(run.figure(title, sample.percentile(share), "ms", sample.spread(share), beside));
        }
    }
    for (name, bytes) in [
        ("weight of the page at the bedside, as loaded", measured.loaded),
        ("weight of both pages in both languages with icons", measured.all),
    ] {
        figures.push(run.figure(name, bytes as f64, "bytes", "not compressed", format!("bar {BAR_BYTES}")));
    }
    let about = format!(
        "The page at `/` of a box on this machine in headless {}, signed in with a token: a variant of a small genome is typed in, \
         \"Ask\" is clicked, and the time counts from the event of the click until the answer with its explanation (61 rows of \
         the model, journal included) is in the document, and until a frame with it was made (60 a second). {clicks} clicks \
         after {WARM_UP} that do not count.",
        measured.browser
    );
    Results { title: "The page", about, figures }.write(out)
}
