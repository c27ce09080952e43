//! The model's engine alone: loaded once more, as the daemon loads it, and asked by nobody else.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use locus_engine::Scorer;
use locus_firmware_config::message::Request;
use locus_measure::{Kind, Load, Series, Stage};

use super::BenchArgs;
use crate::{client::measured::scored, config::Config, flashing::serving, pipeline};

/// Sizes of batches, as far as the engine takes them at once.
pub(super) const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];

/// The series of each size of batch, and what runs.
pub(super) fn measured(
    config: &Config,
    args: &BenchArgs,
    requests: &[Request],
) -> Result<(Vec<Series>, BTreeMap<String, String>)> {
    let (bundle, profile, options) = serving(config, args.model.as_deref())?;
    let manifest = bundle.manifest();
    let mut scorer =
        Scorer::open(&bundle, &profile, &options).context("--engine measures variant-effect models")?;
    let spec = scorer.spec().clone();
    let versions = [
        ("locusctl", env!("CARGO_PKG_VERSION").to_owned()),
        ("model", format!("{} {}", manifest.name, manifest.version)),
        ("provider", spec.provider.clone()),
        ("runtime", spec.runtime.clone()),
        ("precision", format!("{:?}", spec.precision)),
    ];
    let versions = versions.map(|(name, version)| (name.to_owned(), version)).into();
    let encoded = requests.iter().map(|request| {
        let encoded = pipeline::encode(scorer.encoder(), None, request);
        encoded.map_err(|fault| anyhow::anyhow!("{}: {}", fault.code.as_str(), fault.message))
    });
    let encoded = encoded.collect::<Result<Vec<_>>>()?;
    let load = args.load();
    let sizes = BATCHES.into_iter().filter(|batch| *batch <= spec.max_batch as usize);
    let mut all: Vec<Series> = sizes
        .map(|batch| Series {
            name: format!("engine, batch {batch}"),
            stage: Stage::Engine,
            kind: Kind::Closed { clients: 1 },
            batch,
            warm_up_s: load.warm_up.as_secs_f64(),
            repeats: Vec::new(),
        })
        .collect();
    for repeat in 0..args.repeats {
        for series in &mut all {
            let loaded = scored(&mut scorer, &encoded, series.batch, load);
            complain!("repeat {}, {}: {}", repeat + 1, series.name, loaded.summary());
            ensure!(loaded.failed == 0, "the engine failed: {}", loaded.reasons.join("; "));
            series.repeats.push(loaded);
        }
    }
    Ok((all, versions))
}

impl BenchArgs {
    pub(super) const fn load(&self) -> Load {
        Load { warm_up: Duration::from_secs(self.warm_up), lasting: Duration::from_secs(self.seconds) }
    }
}
