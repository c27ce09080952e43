//! INT8 beside FP32: what it costs on the shipped models, how large and how fast it is, also at BERT-base's size, and beside
//! ONNX Runtime's own quantiser.

mod accuracy;
pub(crate) mod export_step;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use locus_engine::{
    EngineKind, Graphs, Inputs, LoadOptions, Logits, Precision, Row, Session, logits_of, open_graphs,
};
use locus_export::to_bytes;
use locus_firmware_config::profile::DeviceProfile;
use locus_onnx::ModelProto;
use locus_tests::{program, python, root};
use prost::Message as _;
use serde::Deserialize;
use serde_json::Value;

pub(crate) use accuracy::records;
use accuracy::{accuracy, data, smaller};

use crate::{
    figures::{Figure, Machine, Results},
    sample::Sample,
};

const COMMAND: &str = "cargo run -p locus-bench -- quantisation";
const PACKAGES: [&str; 3] = ["numpy==2.3.5", "onnx==1.20.1", "onnxruntime==1.24.4"];
/// Training records that ONNX Runtime's quantiser sees, as many as ours.
const CALIBRATION: usize = 512;
/// Runs of a session before the clock runs, and of each of both in a round.
const WARM_UP: usize = 20;
const RUNS: usize = 40;

#[derive(Debug, clap::Args)]
pub(crate) struct QuantisationArguments {
    /// Rounds in which FP32 and INT8 run, one after the other
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Look at the test splits too; each look is counted
    #[arg(long)]
    test: bool,
    /// File to write
    #[arg(long, default_value = "bench/results/quantisation.json")]
    out: PathBuf,
}

struct Figures {
    machine: Machine,
    date: String,
    command: String,
    all: Vec<Figure>,
}

impl Figures {
    fn add(&mut self, name: String, value: f64, unit: &'static str, spread: String, beside: &str) {
        println!("{name}: {value:.5} {unit} ({spread})");
        self.all.push(Figure {
            name,
            value,
            unit,
            spread,
            command: self.command.clone(),
            seed: Some(export_step::SEED),
            date: self.date.clone(),
            machine: self.machine.clone(),
            beside: (!beside.is_empty()).then(|| beside.to_owned()),
        });
    }
}

impl QuantisationArguments {
    pub(crate) fn run(&self) -> Result<()> {
        let folder = tempfile::tempdir()?;
        let mut figures = Figures {
            machine: Machine::this(),
            date: time::OffsetDateTime::now_utc().date().to_string(),
            command: format!("{COMMAND}{}", if self.test { " --test" } else { "" }),
            all: Vec::new(),
        };
        for model in ["variant-effect", "coding"] {
            for split in if self.test { &["val", "test"][..] } else { &["val"] } {
                accuracy(&mut figures, model, split, folder.path())?;
            }
        }
        let parts = unpack("variant-effect", folder.path())?;
        let edge = graphs_of(&parts)?;
        size(&mut figures, "the edge model", &edge, "bar 0.30")?;
        self.speed(&mut figures, "the edge model, 64 tokens", &edge, 64, "bar 1.8")?;
        if let Err(why) = peer(&mut figures, self, &parts, &edge, folder.path()) {
            println!("not measured: ONNX Runtime's quantize_static: {why}");
        }
        smaller(&mut figures, folder.path())?;
        let small = graphs_of(&unpack("variant-effect-small", folder.path())?)?;
        let (mut a, mut b) = (session(&small, Precision::Int8)?, session(&edge, Precision::Int8)?);
        let (_, _, ratio) = self.turns(&mut *a, &mut *b, 64)?;
        let name = "variant-effect-small / variant-effect time, INT8, 64 tokens";
        figures.add(name.into(), ratio.0, "", ratio.1, "bar 0.5");
        for layers in [12, 24] {
            let at = folder.path().join(format!("bert-{layers}"));
            let said = export_step::child(layers, &at)?;
            let name = format!("BERT of {layers} layers of 768");
            let once = || "one process".to_owned();
            figures.add(
                format!("export of {name}: FP32, INT8 and INT8 with FP16"),
                said.seconds,
                "s",
                once(),
                "bar 60 at 12 layers",
            );
            let gib = said.peak_bytes / f64::from(1 << 30);
            figures.add(
                format!("peak memory of the export of {name}"),
                gib,
                "GiB",
                once(),
                "bar 4 at 12 layers",
            );
            let read = |name: &str| fs::read(at.join(name)).map(Some);
            let graphs = Graphs::from_onnx(read("fp32.onnx")?, read("int8.onnx")?, &[128], 1, 2, 0)
                .reading(Inputs::Sequence);
            size(&mut figures, &name, &graphs, "bar 0.26 at 12 layers")?;
            if layers == 12 {
                self.speed(&mut figures, &format!("{name}, 128 tokens"), &graphs, 128, "bar 2.5")?;
            }
            fs::remove_dir_all(&at)?;
        }
        let about = "Shipped models, and BERTs of random weights. Speeds are of one row on one thread of ONNX Runtime's CPU provider, both graphs in one process, in turns; the ratio is of the medians of a round. A decision is the band of a variant, the class of a sequence.";
        Results { title: "Quantisation", about: about.into(), figures: figures.all }.write(&self.out)
    }

    /// How much faster INT8 is, in turns.
    fn speed(
        &self,
        figures: &mut Figures,
        name: &str,
        graphs: &Graphs,
        tokens: usize,
        bar: &str,
    ) -> Result<()> {
        let mut float = session(graphs, Precision::Fp32)?;
        let mut whole = session(graphs, Precision::Int8)?;
        let precision = whole.spec().precision.to_string();
        let (own, peer, ratio) = self.turns(&mut *float, &mut *whole, tokens)?;
        figures.add(format!("FP32, {name}"), own.percentile(0.5), "ms", own.spread(0.5), "");
        figures.add(format!("{precision}, {name}"), peer.percentile(0.5), "ms", peer.spread(0.5), "");
        figures.add(format!("FP32 / INT8 time, {name}"), ratio.0, "", ratio.1, bar);
        Ok(())
    }

    /// Times of two sessions, and the median ratio of the first to the second over rounds.
    fn turns(
        &self,
        a: &mut dyn Session,
        b: &mut dyn Session,
        tokens: usize,
    ) -> Result<(Sample, Sample, (f64, String))> {
        let (mut first, mut second, mut ratios) = (Sample::default(), Sample::default(), Vec::new());
        warm(a, tokens)?;
        warm(b, tokens)?;
        for _ in 0..self.rounds.max(1) {
            let of_a = round(a, tokens, &mut first)?;
            ratios.push(of_a / round(b, tokens, &mut second)?);
        }
        ratios.sort_by(f64::total_cmp);
        let spread =
            format!("{:.2} to {:.2} in {} rounds", ratios[0], ratios[ratios.len() - 1], ratios.len());
        Ok((first, second, (ratios[ratios.len() / 2], spread)))
    }
}

fn warm(session: &mut dyn Session, tokens: usize) -> Result<()> {
    let (row, mut logits) = (session.spec().blank(1, tokens), Logits::default());
    (0..WARM_UP).try_for_each(|_| session.run(&row, &mut logits))?;
    Ok(())
}

/// Runs once more; the median in milliseconds.
fn round(session: &mut dyn Session, tokens: usize, all: &mut Sample) -> Result<f64> {
    let (row, mut logits, mut own) = (session.spec().blank(1, tokens), Logits::default(), Sample::default());
    for _ in 0..RUNS {
        let started = Instant::now();
        session.run(&row, &mut logits)?;
        let took = started.elapsed();
        own.push(took);
        all.push(took);
    }
    Ok(own.percentile(0.5))
}

fn session(graphs: &Graphs, precision: Precision) -> Result<Box<dyn Session>> {
    let options = LoadOptions {
        order: vec![EngineKind::OrtCpu],
        precision,
        intra_threads: 1,
        ..LoadOptions::default()
    };
    Ok(open_graphs(graphs, &DeviceProfile::named("base")?, &options)?.session)
}

fn size(figures: &mut Figures, name: &str, graphs: &Graphs, bar: &str) -> Result<()> {
    let of =
        |onnx: &Option<std::sync::Arc<[u8]>>| Ok::<_, anyhow::Error>(onnx.as_ref().context("graph")?.len());
    let (float, whole) = (of(&graphs.fp32)?, of(&graphs.int8)?);
    let ratio = whole as f64 / float as f64;
    figures.add(format!("INT8 / FP32 bytes, {name}"), ratio, "", format!("{whole} of {float} bytes"), bar);
    Ok(())
}

/// The parts of a shipped bundle.
fn unpack(model: &str, folder: &Path) -> Result<PathBuf> {
    let into = folder.join(model);
    fs::create_dir_all(&into)?;
    for (name, bytes) in locus_export::split(&fs::read(root().join(format!("models/{model}.locus")))?)? {
        fs::write(into.join(name), bytes)?;
    }
    Ok(into)
}

fn graphs_of(parts: &Path) -> Result<Graphs> {
    let manifest: Value = serde_json::from_str(&fs::read_to_string(parts.join("manifest.json"))?)?;
    let features = manifest["graph"]["features"].as_array().map_or(0, Vec::len);
    let read = |name: &str| fs::read(parts.join(name)).map(Some);
    Ok(Graphs::from_onnx(read("fp32.onnx")?, read("int8.onnx")?, &[32, 64], 32, 1, features as u32))
}

/// A line of what the model reads, as `locus score --inputs` writes it.
#[derive(Deserialize)]
struct Shown {
    ref_ids: Vec<i64>,
    alt_ids: Vec<i64>,
    track: Vec<i64>,
    features: Vec<f32>,
}

impl Shown {
    fn row(&self) -> Row<'_> {
        Row {
            ref_ids: &self.ref_ids,
            alt_ids: &self.alt_ids,
            ref_track: &self.track,
            alt_track: &self.track,
            features: &self.features,
        }
    }
}

/// What the model reads of some records.
fn inputs(split: &str, most: usize, folder: &Path) -> Result<(PathBuf, Vec<Shown>)> {
    let (vcf, at) = (records(split, folder, most)?, folder.join(format!("{split}.{most}.jsonl")));
    let mut command = program("locus");
    command.args(["score", "--precision", "fp32", "--bundle", "models/variant-effect.locus"]);
    command.current_dir(root()).arg("--fasta").arg(data("panel/panel.GRCh38.fa.gz"));
    command.arg("--gff").arg(data("panel/panel.GRCh38.gff3.gz")).arg("--vcf").arg(vcf);
    command.arg("--inputs").arg(&at).arg("--out").arg(folder.join("inputs.tsv"));
    ensure!(command.output()?.status.success(), "{command:?} failed");
    let rows = fs::read_to_string(&at)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((at, rows))
}

/// Signal to quantisation noise of each graph's logits against FP32's, and the times of both.
fn peer(
    figures: &mut Figures,
    arguments: &QuantisationArguments,
    parts: &Path,
    own: &Graphs,
    folder: &Path,
) -> Result<()> {
    let python =
        python("onnx", &PACKAGES, "import numpy, onnx, onnxruntime").context("ONNX Runtime's quantiser")?;
    let (rows, _) = inputs("train", CALIBRATION, folder)?;
    let theirs = folder.join("quantize_static.onnx");
    let mut command = Command::new(python);
    command.arg(root().join("bench/peers/quantize_static.py")).arg(parts.join("fp32.onnx"));
    let output = command.arg(rows).arg(&theirs).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Written by our encoder: the engine refuses what Locus does not write, such as notes beside a graph.
    let theirs_anew = to_bytes(&ModelProto::decode(&fs::read(&theirs)?[..])?);
    let other = Graphs { int8: Some(theirs_anew.into()), digest: "theirs".into(), ..own.clone() };
    let (_, held) = inputs("val", usize::MAX, folder)?;
    let rows: Vec<Row<'_>> = held.iter().map(Shown::row).collect();
    let logits = |session: &mut dyn Session| Ok::<_, anyhow::Error>(logits_of(session, &rows)?.concat());
    let float = logits(&mut *session(own, Precision::Fp32)?)?;
    let (mut a, mut b) = (session(&other, Precision::Int8)?, session(own, Precision::Int8)?);
    for (name, session) in [("ONNX Runtime's quantize_static", &mut a), ("Locus", &mut b)] {
        let noise = locus_calibration::sqnr_db(&float, &logits(&mut **session)?);
        let spread = format!("{} records of validation", rows.len());
        figures.add(format!("signal to quantisation noise of the logits, {name}"), noise, "dB", spread, "");
    }
    let (_, _, ratio) = arguments.turns(&mut *a, &mut *b, 64)?;
    let name = "quantize_static / Locus time, the edge model, 64 tokens";
    figures.add(name.into(), ratio.0, "", ratio.1, "bar 1.0: as fast or faster");
    let bytes = fs::metadata(&theirs)?.len() as f64 / own.int8.as_ref().map_or(1, |g| g.len()) as f64;
    figures.add("quantize_static / Locus bytes".into(), bytes, "", "one file each".into(), "");
    Ok(())
}
