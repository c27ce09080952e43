//! The search for a graph in 8 bits, run on ONNX Runtime over records of `val_select`.

use std::time::Instant;

use locus_calibration::{Budget, Cost};
use locus_engine::{EngineKind, Graphs, LoadOptions, Precision, Session, open_graphs};

use super::{
    Stage,
    export::{base_profile, options},
};
use crate::{
    Result,
    error::io_at,
    model::{ModelConfig, Params},
    quantise::{self, Graph, Judge, Search, Seen},
    recipe::QuantisePlan,
    stage::write_json,
};

/// Microseconds of a second.
const MICROSECONDS: f64 = 1e6;

/// What is searched for, and on which records.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) config: &'a ModelConfig,
    pub(super) plan: &'a QuantisePlan,
    /// Largest loss of the metric.
    pub(super) loss: f64,
    /// Training records that ranges are seen on.
    pub(super) samples: usize,
    /// A session's graphs: in float32 or in INT8.
    pub(super) graphs: &'a dyn Fn(Option<Vec<u8>>, Option<Vec<u8>>) -> Graphs,
    /// The logits of the records, of which there are so many.
    pub(super) logits: &'a dyn Fn(&mut dyn Session) -> Result<Vec<f32>>,
    pub(super) records: usize,
    /// What logits in INT8 cost against those in float32.
    pub(super) cost: &'a dyn Fn(&[f32], &[f32]) -> Cost,
}

/// Searches, and leaves `calibration.json`, `quantise.json` and `quantise.html`. `observe` runs training records through
/// a model.
pub(super) fn quantise<R>(
    stage: &Stage<R>,
    wanted: &Wanted<'_>,
    mut observe: impl FnMut(&Params) -> Result<Seen>,
) -> Result<()> {
    let place = stage.run.at("best/model.safetensors");
    let checkpoint = std::fs::read(&place).map_err(io_at(&place))?;
    let mut logits = |graph: Graph| {
        let mut session = session(stage, wanted, graph)?;
        let started = Instant::now();
        let logits = (wanted.logits)(&mut *session)?;
        Ok((logits, started.elapsed().as_secs_f64() * MICROSECONDS / wanted.records.max(1) as f64))
    };
    let search = Search {
        config: wanted.config,
        checkpoint: &checkpoint,
        plan: wanted.plan,
        budget: Budget { loss: wanted.loss, flips: wanted.plan.flips_budget },
        samples: wanted.samples as u64,
    };
    let found = search.run(
        |bytes| observe(&Params::parse(bytes, wanted.config)?.frozen()),
        &mut Judge { logits: &mut logits, cost: wanted.cost },
    )?;
    quantise::write(&stage.run, wanted.name, &found)?;
    write_json(&stage.run.at("calibration.json"), &found.table)
}

fn session<R>(stage: &Stage<R>, wanted: &Wanted<'_>, graph: Graph) -> Result<Box<dyn Session>> {
    let (graphs, precision) = match graph {
        Graph::Fp32(onnx) => ((wanted.graphs)(Some(onnx), None), Precision::Fp32),
        Graph::Int8(onnx) => ((wanted.graphs)(None, Some(onnx)), Precision::Int8),
    };
    let options = LoadOptions { precision, order: vec![EngineKind::OrtCpu], ..options(stage) };
    Ok(open_graphs(&graphs, &base_profile()?, &options)?.session)
}
