//! What an operator waits for: from `locusctl flash` to the new model serving, in a daemon that runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, ensure};
use locus_export::{BundleBuilder, split};
use locus_firmware_config::manifest::Manifest;
use locus_tests::{Rig, root};

use crate::{
    figures::{Figure, Machine, Results},
    sample::Sample,
};

/// Size that the padded bundle reaches, in bytes.
const LARGE: usize = 12_000_000;
/// Flashes before the clock counts.
const WARM_UP: usize = 2;

/// Flashes two versions of each bundle in turn, `rounds` times.
pub(crate) fn run(rounds: usize, out: &Path) -> Result<()> {
    let rig = Rig::new("")?;
    rig.flash()?;
    let daemon = rig.start()?;
    let date = time::OffsetDateTime::now_utc().date().to_string();
    let machine = Machine::this();
    let mut figures = Vec::new();
    for (model, size) in [("variant-effect", 0), ("variant-effect", LARGE), ("coding", 0)] {
        let (versions, bytes) = versions(&rig, model, size)?;
        let mut sample = Sample::default();
        for round in 0..WARM_UP + rounds {
            let started = Instant::now();
            let told = rig.ctl(&["flash", "--json", &versions[round % 2].display().to_string()])?;
            let took = started.elapsed();
            ensure!(told.contains("\"unchanged\":false"), "nothing was flashed: {told}");
            if round >= WARM_UP {
                sample.push(took);
            }
        }
        let padded = if size > 0 { ", padded" } else { "" };
        let name = format!("{model}, {:.1} MB{padded}", bytes as f64 / 1e6);
        for (share, word) in [(0.5, "p50"), (1.0, "max")] {
            figures.push(Figure {
                name: format!("{name}, {word}"),
                value: sample.percentile(share) / 1e3,
                unit: "s",
                spread: format!("{} (ms)", sample.spread(share)),
                command: format!("cargo run -p locus-bench -- flash --rounds {rounds}"),
                seed: None,
                date: date.clone(),
                machine: machine.clone(),
                beside: Some("bar 3 s".into()),
            });
        }
    }
    daemon.terminate()?;
    let about = format!(
        "`locusctl flash` from its start to its end, while the daemon serves the version before: signatures, storing, engines of \
         all lengths, golden vectors twice, change of the model, confirmation. CPU (ONNX Runtime, INT8). Two versions of each \
         bundle in turn, {rounds} flashes each after {WARM_UP} that do not count. Padded: the card of the shipped bundle is made \
         so long that the bundle has 12 MB."
    );
    Results { title: "Flashing", about, figures }.write(out)
}

/// Two signed versions of a shipped bundle with the same weights, of at least `size` bytes.
fn versions(rig: &Rig, model: &str, size: usize) -> Result<([PathBuf; 2], usize)> {
    let shipped = fs::read(root().join("models").join(format!("{model}.locus")))?;
    let entries = split(&shipped)?;
    let card = vec![b'.'; size.saturating_sub(shipped.len())];
    let mut bytes = 0;
    let mut make = |label: &str| -> Result<PathBuf> {
        let mut manifest = Manifest::from_json(&entries[0].1)?;
        manifest.version = format!("9.0.0-{label}").parse()?;
        let mut builder = BundleBuilder::new(manifest);
        for (name, part) in &entries[1..] {
            builder = builder.part(name, part.clone())?;
        }
        if !card.is_empty() {
            builder = builder.part("model-card.md", card.clone())?;
        }
        let (unsigned, signed) =
            (rig.path("bench.unsigned"), rig.path(&format!("{model}-{size}-{label}.locus")));
        fs::write(&unsigned, builder.build()?)?;
        rig.sign(&unsigned, &signed)?;
        bytes = usize::try_from(fs::metadata(&signed)?.len())?;
        Ok(signed)
    };
    let made = [make("a")?, make("b")?];
    Ok((made, bytes))
}
