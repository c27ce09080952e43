//! What the threads of the pipeline hand on and see.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};

use locus_engine::Skipped;
use locus_firmware_config::{
    manifest::{EvidenceStep, ModeCalibration, Task},
    message::{Fault, FaultCode, ModelInfo, Outcome, Request},
};
use serde::Serialize;

use super::{
    About, Genome,
    admission::{Admission, Units},
    loaded::{Encoded, Loaded, Reader},
    replay::{Replay, Ticket},
};
use crate::{
    config::Limits,
    journal::{KnownRequests, RequestHash},
    keys::IndexKey,
    traces::Traces,
    unproven::Unproven,
};

/// What serves, by its name.
pub type Models = BTreeMap<String, Arc<ActiveModel>>;

/// A model that serves, as other threads see it.
#[derive(Debug)]
pub struct ActiveModel {
    /// Grows with every change of the model.
    pub(crate) generation: u64,
    /// Makes its input.
    pub(crate) reader: Reader,
    /// What it does.
    pub task: Task,
    /// Name, version, digest.
    pub info: ModelInfo,
    /// Digest as bytes.
    pub(crate) digest: [u8; 32],
    /// Assembly that it was trained on; empty where there is none.
    pub assembly: String,
    /// Engine and provider that serve: the provider started and is asked first.
    pub provider: String,
    /// Library and version.
    pub runtime: String,
    /// Precision really in use.
    pub precision: String,
    /// Why the precision is not the one hoped for.
    pub note: Option<String>,
    /// Engines that came first and do not serve.
    pub skipped: Vec<Skipped>,
    /// Names of its outputs.
    pub(super) labels: Vec<String>,
    /// Borders of the bands, by input mode.
    pub(crate) borders: BTreeMap<String, ModeBorders>,
    /// Steps of evidence, by input mode.
    pub(super) evidence: BTreeMap<String, Vec<EvidenceStep>>,
    /// What it has done since it serves.
    pub(super) tried: Tried,
}

impl ActiveModel {
    pub(super) fn of(scorer: &Loaded, generation: u64) -> Self {
        let (manifest, spec) = (scorer.manifest(), scorer.spec());
        let mut digest = [0; 32];
        // A digest that came from a bundle is always hexadecimal.
        let _ = hex::decode_to_slice(scorer.digest(), &mut digest);
        Self {
            generation,
            reader: scorer.reader(),
            task: manifest.task,
            info: ModelInfo {
                name: manifest.name.clone(),
                version: manifest.version.to_string(),
                digest: scorer.digest().to_owned(),
            },
            digest,
            assembly: manifest.scope.assembly.clone(),
            provider: spec.provider.clone(),
            runtime: spec.runtime.clone(),
            precision: spec.precision.to_string(),
            note: spec.note.clone(),
            skipped: scorer.skipped().to_vec(),
            labels: manifest.labels.clone(),
            borders: manifest
                .probability
                .modes
                .iter()
                .map(|(mode, calibration)| (mode.clone(), ModeBorders::of(calibration)))
                .collect(),
            evidence: manifest
                .probability
                .modes
                .iter()
                .map(|(mode, calibration)| (mode.clone(), calibration.evidence.clone()))
                .collect(),
            tried: Tried::default(),
        }
    }
}

/// Where the bands of an input mode begin and end: below the first benign, above the second pathogenic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct ModeBorders {
    any: (f64, f64),
    /// Of what may be missense.
    missense: (f64, f64),
}

impl ModeBorders {
    fn of(calibration: &ModeCalibration) -> Self {
        Self { any: calibration.borders(false), missense: calibration.borders(true) }
    }
}

/// A request on its way. It holds its share of the admission until it is dropped.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) terminal: String,
    pub(super) transport: &'static str,
    pub(super) hash: RequestHash,
    pub(super) repeat_of: Option<u64>,
    pub(super) encoded: Encoded,
    /// What is said of it beside the prediction.
    pub(super) about: Box<About>,
    /// The genome that it was read on, and will be answered by, whatever is flashed meanwhile.
    pub(super) genome: Option<Arc<Genome>>,
    /// Name of the model that was chosen for it.
    pub(super) model: String,
    pub(super) generation: u64,
    pub(super) received: Instant,
    pub(super) deadline: Instant,
    pub(super) tokenize: Duration,
    pub(super) ticket: Ticket,
    pub(super) units: Units,
}

impl Job {
    /// Answers. Its share of the admission is given back first: who has an answer may ask again at once.
    pub(super) fn finish(self, outcome: Outcome) {
        drop(self.units);
        self.ticket.finish(outcome);
    }

    pub(super) fn fail(self, fault: Fault) {
        let id = self.request.id.clone();
        self.finish(Outcome::Fault(fault.for_id(id)));
    }
}

/// Counts what a model does since it serves.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// Whether it is on trial.
    pub(super) running: AtomicBool,
    /// Whether it gave a good answer.
    pub(super) proved: AtomicBool,
    pub(super) good: AtomicU64,
    pub(super) failed: AtomicU64,
}

pub(super) type Fatal = Box<dyn Fn(String) + Send + Sync>;

/// What every part of the pipeline sees.
pub(super) struct Shared {
    pub(super) box_name: String,
    pub(super) limits: Limits,
    pub(super) genome: RwLock<Option<Arc<Genome>>>,
    pub(super) index_key: IndexKey,
    pub(super) known: KnownRequests,
    pub(super) replay: Replay,
    pub(super) admission: Admission,
    pub(super) active: RwLock<Models>,
    pub(super) unproven: Unproven,
    pub(super) stopping: AtomicBool,
    /// Why the box answers no more.
    pub(super) failed: OnceLock<FaultCode>,
    pub(super) on_fatal: Fatal,
    pub(super) traces: Traces,
    /// Moving mean of what one request costs, in microseconds.
    pub(super) unit_us: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("box_name", &self.box_name).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn genome(&self) -> Option<Arc<Genome>> {
        self.genome.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// From here on nothing is taken and nothing is answered; the process is told to end, once.
    pub(super) fn fail(&self, code: FaultCode, reason: String) {
        if self.failed.set(code).is_ok() {
            tracing::error!(reason, "the box stops");
            (self.on_fatal)(reason);
        }
    }
}

/// Stands in a thread of the pipeline: where it ends by a panic, the box stops and is started anew. One that went on
/// would answer nobody and look alive.
pub(super) struct Watched {
    pub(super) shared: Arc<Shared>,
    pub(super) code: FaultCode,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a");
            self.shared.fail(self.code, format!("the {name} thread ended by a defect"));
        }
    }
}
