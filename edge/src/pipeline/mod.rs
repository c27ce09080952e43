//! The way of a request: admission → tokens → lane → inference thread → journal (a thread of its own, but for a lone answer) → answer.
//!
//! Admission counts work, not messages, and covers a request until it is answered: what is waiting, running and
//! being journaled is bounded by one number, and everything above it is refused at once.

mod admission;
mod answer;
mod enter;
mod explain;
mod keeper;
mod loaded;
mod prepare;
mod replay;
mod shared;
mod worker;

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::Sender;
use locus_firmware_config::message::{FaultCode, ModelInfo};

pub use keeper::JournalState;
pub use loaded::Loaded;
use prepare::About;
pub use prepare::{Genome, encode};
pub use shared::{ActiveModel, Models};

use crate::{config::Limits, journal::Journal, keys::IndexKey, traces::Traces, unproven::Unproven};
use admission::Admission;
use replay::Replay;
use shared::{Fatal, Job, Shared, Watched};
use worker::Control;

/// What a pipeline is made of.
pub struct PipelineConfig {
    /// Name of the box.
    pub box_name: String,
    /// How much is taken at once.
    pub limits: Limits,
    /// The genome for `variant` requests.
    pub genome: Option<Genome>,
    /// Hashes ids and bodies.
    pub index_key: IndexKey,
    /// Where answers are kept.
    pub journal: Journal,
    /// Where models are marked until they have proved themselves.
    pub unproven: Unproven,
    /// Where notes of requests go.
    pub traces: Traces,
    /// Called once when the journal or the inference thread cannot go on: the process must end.
    pub on_fatal: Fatal,
}

impl std::fmt::Debug for PipelineConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelineConfig").field("box_name", &self.box_name).finish_non_exhaustive()
    }
}

/// Takes requests; clones share the same threads.
#[derive(Clone, Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    bedside: Sender<Job>,
    batch: Sender<Job>,
    control: Sender<Control>,
    journal: JournalState,
}

/// The threads of a pipeline.
#[derive(Debug)]
pub struct Threads {
    worker: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl Pipeline {
    /// Starts both threads, without a model.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(config: PipelineConfig) -> std::io::Result<(Self, Threads)> {
        let PipelineConfig { box_name, limits, genome, index_key, journal, unproven, traces, on_fatal } =
            config;
        let shared = Arc::new(Shared {
            box_name,
            genome: RwLock::new(genome.map(Arc::new)),
            index_key,
            known: journal.known(),
            replay: Replay::new(Duration::from_millis(limits.replay_ms), limits.replay_answers),
            admission: Admission::new(limits.queue_units),
            active: RwLock::default(),
            unproven,
            stopping: AtomicBool::new(false),
            failed: OnceLock::new(),
            on_fatal,
            traces,
            unit_us: AtomicU64::new(2_000),
            limits,
        });
        let (thread, keeper, state) = keeper::start(journal, Arc::clone(&shared))?;
        let (worker, channels) = worker::start(Arc::clone(&shared), keeper)?;
        let pipeline = Self {
            shared,
            bedside: channels.bedside,
            batch: channels.batch,
            control: channels.control,
            journal: state,
        };
        Ok((pipeline, Threads { worker, keeper: thread }))
    }

    /// What serves.
    pub fn models(&self) -> Models {
        self.shared.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What serves under a name.
    pub fn active(&self, model: &str) -> Option<Arc<ActiveModel>> {
        self.shared.active.read().unwrap_or_else(PoisonError::into_inner).get(model).cloned()
    }

    /// Serves with another bundle of the manifest's name, on trial: the one before is kept until [`Pipeline::confirm`] or
    /// [`Pipeline::go_back`]. Every request for that model is answered by one of the two, whole; other models serve on.
    ///
    /// # Errors
    /// The new model fails its golden vectors in the serving thread, or the thread is gone.
    pub fn swap(&self, loaded: Loaded) -> Result<(), String> {
        let (done, result) = crossbeam_channel::bounded(1);
        self.control.send(Control::Swap { loaded, done }).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }

    /// Serves with what was there before the trial of a model.
    pub fn go_back(&self, model: &str) {
        let (done, result) = crossbeam_channel::bounded(1);
        if self.control.send(Control::Back { model: model.to_owned(), done }).is_ok() {
            let _ = result.recv();
        }
    }

    /// Reads variants that come from here on by another genome; those that were taken keep theirs.
    pub fn set_genome(&self, genome: Option<Genome>) {
        let genome = genome.map(Arc::new);
        *self.shared.genome.write().unwrap_or_else(PoisonError::into_inner) = genome;
    }

    /// The genome that variants are read by.
    pub fn reference(&self) -> Option<ModelInfo> {
        self.shared.genome().map(|genome| genome.info().clone())
    }

    /// Its assembly.
    pub fn assembly(&self) -> Option<String> {
        self.shared.genome().map(|genome| genome.assembly().to_owned())
    }

    /// Takes a model out: from here on nothing is answered by it.
    pub fn remove(&self, model: &str) {
        let (done, result) = crossbeam_channel::bounded(1);
        if self.control.send(Control::Remove { model: model.to_owned(), done }).is_ok() {
            let _ = result.recv();
        }
    }

    /// Answers that a model on trial gave and failed to give; `None` where it is not on trial.
    pub fn tried(&self, model: &str) -> Option<(u64, u64)> {
        let active = self.active(model)?;
        let tried = &active.tried;
        let counts = (tried.good.load(Ordering::Acquire), tried.failed.load(Ordering::Acquire));
        tried.running.load(Ordering::Acquire).then_some(counts)
    }

    /// Names of the models that gave a good answer since they serve.
    pub fn proved(&self) -> Vec<String> {
        let models = self.models().into_iter();
        models.filter(|(_, m)| m.tried.proved.load(Ordering::Acquire)).map(|(name, _)| name).collect()
    }

    /// Ends the trial of a model: the one before it leaves memory.
    pub fn confirm(&self, model: &str) {
        let _ = self.control.send(Control::Confirm { model: model.to_owned() });
    }

    /// Takes nothing more; waits until what was taken is answered, or for the drain time.
    pub async fn drain(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let wait = Duration::from_millis(self.shared.limits.drain_ms);
        if tokio::time::timeout(wait, self.shared.admission.drained()).await.is_err() {
            tracing::warn!("some requests were not answered within the drain time");
        }
    }

    /// Units of work that are waiting or running, and how many may be.
    pub fn load(&self) -> (u32, u32) {
        (self.shared.admission.taken(), self.shared.limits.queue_units)
    }

    /// What the journal thread says of itself.
    pub const fn journal(&self) -> &JournalState {
        &self.journal
    }

    /// Whether both threads get on: the inference thread takes an order, and the journal thread has come round, within
    /// so much time. Blocks for as long.
    pub fn gets_on(&self, within: Duration) -> bool {
        let (done, result) = crossbeam_channel::bounded(1);
        let asked = self.control.send(Control::Ping { done }).is_ok();
        asked && result.recv_timeout(within).is_ok() && self.journal.gets_on(within)
    }

    /// Why the box answers no more and is about to end.
    pub fn failed(&self) -> Option<FaultCode> {
        self.shared.failed.get().copied()
    }

    /// What the operator should know of genome and models together.
    pub fn notices(&self) -> Vec<String> {
        let Some(genome) = self.shared.genome() else { return Vec::new() };
        self.models().values().filter_map(|model| prepare::other_assembly(model, &genome)).collect()
    }

    /// Ends both threads and closes the journal. Call [`Pipeline::drain`] first.
    pub fn stop(self, threads: Threads) {
        self.shared.stopping.store(true, Ordering::Release);
        let _ = self.control.send(Control::Stop);
        drop(self);
        for (name, thread) in [("inference", threads.worker), ("journal", threads.keeper)] {
            if thread.join().is_err() {
                tracing::error!(thread = name, "ended by a defect");
            }
        }
    }
}

fn gone() -> String {
    "the inference thread has ended".into()
}

#[cfg(test)]
pub(crate) mod tests;
