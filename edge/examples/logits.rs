//! Prints the logits of a bundle's golden vectors and then of requests, one JSON list a line: two machines are compared by
//! them. `logits BUNDLE REQUESTS ENGINE PRECISION`, the requests one JSON object a line, with sequence and mutation.

use std::io::BufRead as _;

use anyhow::{Context as _, Result, bail};
use locus_edge::pipeline;
use locus_engine::{Bundle, LoadOptions, Row, Scorer, Trust};
use locus_firmware_config::{
    manifest::GoldenVector,
    message::{Fault, Request},
    profile::DeviceProfile,
};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, requests, engine, precision] = arguments.as_slice() else {
        bail!("expected BUNDLE REQUESTS ENGINE PRECISION");
    };
    let bundle = Bundle::open(bundle, &Trust::AllowUnsigned)?;
    let options =
        LoadOptions { order: vec![engine.parse()?], precision: precision.parse()?, ..LoadOptions::default() };
    let mut scorer = Scorer::open(&bundle, &DeviceProfile::named("base")?, &options)?;
    let golden = bundle.part(&bundle.manifest().golden.part).context("no golden vectors")?;
    let golden: Vec<GoldenVector> = serde_json::from_slice(&golden)?;
    let rows: Vec<Row<'_>> = golden
        .iter()
        .map(|vector| Row {
            ref_ids: &vector.ref_ids,
            alt_ids: &vector.alt_ids,
            ref_track: &vector.track,
            alt_track: &vector.track,
            features: &vector.features,
        })
        .collect();
    show(&scorer.logits(&rows)?);
    let mut variants = Vec::new();
    for line in std::io::BufReader::new(std::fs::File::open(requests)?).lines() {
        let request = Request::from_json(line?.as_bytes()).map_err(said)?;
        variants.push(pipeline::encode(scorer.encoder(), None, &request).map_err(said)?);
    }
    let rows: Vec<Row<'_>> = variants.iter().map(Row::from).collect();
    show(&scorer.logits(&rows)?);
    Ok(())
}

fn said(fault: Fault) -> anyhow::Error {
    anyhow::anyhow!("{}: {}", fault.code.as_str(), fault.message)
}

fn show(logits: &[Vec<f32>]) {
    for row in logits {
        println!("{row:?}");
    }
}
