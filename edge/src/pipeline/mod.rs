//! The way of a request: admission → tokens → lane → inference thread → journal thread → answer.
//!
//! Admission counts work, not messages, and covers a request until it is answered: what is waiting, running and
//! being journaled is bounded by one number, and everything above it is refused at once.

mod answer;
mod keeper;
mod prepare;
mod replay;
mod worker;

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use locus_engine::{Scorer, Skipped};
use locus_firmware_config::message::{Fault, FaultCode, Lane, ModelInfo, Outcome, Request};
use locus_genome::{EncodedVariant, VariantEncoder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use keeper::JournalState;
pub use prepare::{Genome, encode};

use crate::{
    config::Limits,
    journal::{Journal, KnownRequests, RequestHash, Seen},
    keys::{IndexKey, random},
};
use replay::{Entry, Replay, Ticket};
use worker::Control;

/// Bytes of a message that cost one unit more.
const BYTES_PER_UNIT: usize = 8 << 10;
/// Shortest and longest hint when to ask again, in milliseconds.
const RETRY_MS: (u64, u64) = (20, 5_000);

/// What serves, as other threads see it.
#[derive(Debug)]
pub struct ActiveModel {
    /// Grows with every change of the model.
    pub(crate) generation: u64,
    /// Makes its input.
    pub(crate) encoder: VariantEncoder,
    /// Name, version, digest.
    pub info: ModelInfo,
    /// Digest as bytes.
    pub(crate) digest: [u8; 32],
    /// Assembly that it was trained on.
    pub assembly: String,
    /// Engine and provider really in use.
    pub provider: String,
    /// Library and version.
    pub runtime: String,
    /// Precision really in use.
    pub precision: String,
    /// Why the precision is not the one hoped for.
    pub note: Option<String>,
    /// Engines that came first and do not serve.
    pub skipped: Vec<Skipped>,
}

impl ActiveModel {
    fn of(scorer: &Scorer, generation: u64) -> Self {
        let (manifest, spec) = (scorer.manifest(), scorer.spec());
        let mut digest = [0; 32];
        // A digest that came from a bundle is always hexadecimal.
        let _ = hex::decode_to_slice(scorer.digest(), &mut digest);
        Self {
            generation,
            encoder: *scorer.encoder(),
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
        }
    }
}

/// A request on its way. It holds its share of the admission until it is dropped.
#[derive(Debug)]
struct Job {
    request: Request,
    terminal: String,
    transport: &'static str,
    hash: RequestHash,
    repeat_of: Option<u64>,
    encoded: EncodedVariant,
    generation: u64,
    received: Instant,
    deadline: Instant,
    tokenize: Duration,
    ticket: Ticket,
    units: OwnedSemaphorePermit,
}

impl Job {
    /// Answers. Its share of the admission is given back first: who has an answer may ask again at once.
    fn finish(self, outcome: Outcome) {
        drop(self.units);
        self.ticket.finish(outcome);
    }

    fn fail(self, fault: Fault) {
        let id = self.request.id.clone();
        self.finish(Outcome::Fault(fault.for_id(id)));
    }
}

/// What every part of the pipeline sees.
#[derive(Debug)]
struct Shared {
    box_name: String,
    limits: Limits,
    genome: Option<Arc<Genome>>,
    index_key: IndexKey,
    known: KnownRequests,
    replay: Replay,
    admission: Arc<Semaphore>,
    active: RwLock<Option<Arc<ActiveModel>>>,
    stopping: AtomicBool,
    failed: AtomicBool,
    /// Moving mean of what one request costs, in microseconds.
    unit_us: AtomicU64,
}

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
    /// Called once when the journal or the inference thread cannot go on: the process must end.
    pub on_fatal: Box<dyn Fn(String) + Send + Sync>,
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
        let PipelineConfig { box_name, limits, genome, index_key, journal, on_fatal } = config;
        let shared = Arc::new(Shared {
            box_name,
            genome: genome.map(Arc::new),
            index_key,
            known: journal.known(),
            replay: Replay::new(Duration::from_millis(limits.replay_ms), limits.replay_answers),
            admission: Arc::new(Semaphore::new(limits.queue_units as usize)),
            active: RwLock::new(None),
            stopping: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            unit_us: AtomicU64::new(2_000),
            limits,
        });
        let (keeper, kept, state) = keeper::start(journal, Arc::clone(&shared), on_fatal)?;
        let (worker, channels) = worker::start(Arc::clone(&shared), kept)?;
        let pipeline = Self {
            shared,
            bedside: channels.bedside,
            batch: channels.batch,
            control: channels.control,
            journal: state,
        };
        Ok((pipeline, Threads { worker, keeper }))
    }

    /// Answers a request of a terminal. Dropping the future loses nothing but the reply.
    pub async fn ask(
        &self,
        terminal: &str,
        transport: &'static str,
        request: Result<Request, Fault>,
    ) -> Arc<Outcome> {
        let started = Instant::now();
        let outcome = match request {
            Ok(request) => {
                let id = request.id.clone();
                match self.enter(terminal, transport, request, started) {
                    Ok(line) => replay::wait(line).await,
                    Err(fault) => Arc::new(Outcome::Fault(fault.for_id(id))),
                }
            }
            Err(fault) => Arc::new(Outcome::Fault(fault)),
        };
        let result = match &*outcome {
            Outcome::Answer(answer) if answer.abstained => "abstained",
            Outcome::Answer(_) => "answered",
            Outcome::Fault(fault) => fault.code.as_str(),
        };
        metrics::counter!("locus_requests_total", "transport" => transport, "result" => result).increment(1);
        metrics::histogram!("locus_request_seconds", "transport" => transport)
            .record(started.elapsed().as_secs_f64());
        outcome
    }

    fn enter(
        &self,
        terminal: &str,
        transport: &'static str,
        request: Request,
        received: Instant,
    ) -> Result<tokio::sync::watch::Receiver<Option<Arc<Outcome>>>, Fault> {
        let shared = &self.shared;
        if shared.failed.load(Ordering::Acquire) {
            return Err(Fault::new(
                FaultCode::JournalFailed,
                "the journal failed and the box stops; ask again once it is back",
            ));
        }
        if shared.stopping.load(Ordering::Acquire) {
            return Err(Fault::new(
                FaultCode::ShuttingDown,
                "the box is stopping; ask again once it is back",
            ));
        }
        let hash = self.hash(terminal, &request)?;
        let (ticket, line) = if request.id.is_some() {
            match shared.replay.enter(hash.id, hash.body, received) {
                Entry::New(ticket, line) => (ticket, line),
                Entry::Same(line) => {
                    metrics::counter!("locus_repeats_total", "transport" => transport).increment(1);
                    return Ok(line);
                }
                Entry::Reused => return Err(reused()),
            }
        } else {
            shared.replay.anonymous()
        };
        // From here on the ticket answers, also those who joined meanwhile.
        let id = request.id.clone();
        match self.admit(terminal, transport, &request, hash, received) {
            Ok((encoded, generation, repeat_of, tokenize, units)) => {
                let lane = request.lane.unwrap_or_default();
                let deadline_ms = request.deadline_ms.unwrap_or(shared.limits.deadline_ms);
                let job = Job {
                    terminal: terminal.to_owned(),
                    transport,
                    hash,
                    repeat_of,
                    encoded,
                    generation,
                    received,
                    deadline: received + Duration::from_millis(deadline_ms.into()),
                    tokenize,
                    ticket,
                    units,
                    request,
                };
                let queue = if lane == Lane::Batch { &self.batch } else { &self.bedside };
                if let Err(crossbeam_channel::SendError(job)) = queue.send(job) {
                    job.fail(Fault::new(
                        FaultCode::ShuttingDown,
                        "the box is stopping; ask again once it is back",
                    ));
                }
            }
            Err(fault) => ticket.finish(Outcome::Fault(fault.for_id(id))),
        }
        Ok(line)
    }

    #[allow(clippy::type_complexity, reason = "handed over once, to the line below")]
    fn admit(
        &self,
        terminal: &str,
        transport: &'static str,
        request: &Request,
        hash: RequestHash,
        received: Instant,
    ) -> Result<(EncodedVariant, u64, Option<u64>, Duration, OwnedSemaphorePermit), Fault> {
        let shared = &self.shared;
        let model = self.active().ok_or_else(|| {
            Fault::new(FaultCode::NoModel, "no model is active on this box; flash one with `locusctl flash`")
        })?;
        prepare::check_model(&model, request)?;
        let repeat_of = match shared.known.find(&hash) {
            _ if request.id.is_none() => None,
            Seen::New => None,
            Seen::Repeat { index, .. } => Some(index),
            Seen::Reused { .. } => return Err(reused()),
        };
        let bytes = request.sequence.as_ref().map_or(0, String::len);
        let units = 1 + (bytes / BYTES_PER_UNIT) as u32;
        let permit = Arc::clone(&shared.admission).try_acquire_many_owned(units).map_err(|_| self.busy())?;
        let waited = received.elapsed();
        let encoded = prepare::encode(&model.encoder, shared.genome.as_deref(), request)?;
        let tokenize = received.elapsed().saturating_sub(waited);
        tracing::debug!(transport, terminal, "request taken");
        Ok((encoded, model.generation, repeat_of, tokenize, permit))
    }

    fn busy(&self) -> Fault {
        let shared = &self.shared;
        let waiting = u64::from(shared.limits.queue_units) - shared.admission.available_permits() as u64;
        let ms = (waiting * shared.unit_us.load(Ordering::Relaxed) / 1_000).clamp(RETRY_MS.0, RETRY_MS.1);
        Fault {
            retry_after_ms: Some(ms as u32),
            ..Fault::new(
                FaultCode::Busy,
                format!(
                    "got a request while {waiting} units of work wait, expected at most {}; ask again in {ms} ms",
                    shared.limits.queue_units
                ),
            )
        }
    }

    /// Keyed hashes of who asks and what. The id is no part of the body.
    fn hash(&self, terminal: &str, request: &Request) -> Result<RequestHash, Fault> {
        let key = &self.shared.index_key;
        let lost = |_| Fault::new(FaultCode::EngineFailed, "the machine gives no random numbers");
        let Some(id) = &request.id else {
            return Ok(RequestHash { id: *random::<32>().map_err(lost)?, body: [0; 32] });
        };
        let mut body = request.clone();
        body.id = None;
        let body = zeroize::Zeroizing::new(serde_json::to_vec(&body).unwrap_or_default());
        Ok(RequestHash { id: key.request(terminal, id), body: key.body(terminal, id, &body) })
    }

    /// What serves.
    pub fn active(&self) -> Option<Arc<ActiveModel>> {
        self.shared.active.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Serves with another model, on trial: the one before is kept until [`Pipeline::confirm`] or
    /// [`Pipeline::go_back`]. Every request is answered by one of the two, whole.
    ///
    /// # Errors
    /// The new model fails its golden vectors in the serving thread, or the thread is gone.
    pub fn swap(&self, scorer: Scorer) -> Result<(), String> {
        let (done, result) = crossbeam_channel::bounded(1);
        self.control.send(Control::Swap { scorer: Box::new(scorer), done }).map_err(|_| gone())?;
        result.recv().map_err(|_| gone())?
    }

    /// Serves with the model before the trial.
    pub fn go_back(&self) {
        let (done, result) = crossbeam_channel::bounded(1);
        if self.control.send(Control::Back { done }).is_ok() {
            let _ = result.recv();
        }
    }

    /// Ends the trial: the model before it leaves memory.
    pub fn confirm(&self) {
        let _ = self.control.send(Control::Confirm);
    }

    /// Takes nothing more; waits until what was taken is answered, or for the drain time.
    pub async fn drain(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let all = self.shared.limits.queue_units;
        let wait = Duration::from_millis(self.shared.limits.drain_ms);
        if tokio::time::timeout(wait, self.shared.admission.acquire_many(all)).await.is_err() {
            tracing::warn!("some requests were not answered within the drain time");
        }
    }

    /// Units of work that are waiting or running, and how many may be.
    pub fn load(&self) -> (u32, u32) {
        let all = self.shared.limits.queue_units;
        (all - (self.shared.admission.available_permits() as u32).min(all), all)
    }

    /// What the journal thread says of itself.
    pub const fn journal(&self) -> &JournalState {
        &self.journal
    }

    /// Whether the box can no longer keep what it answers.
    pub fn failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
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

fn reused() -> Fault {
    Fault::new(
        FaultCode::IdReused,
        "got an id that this terminal used for another request, expected a new id; answers are never mixed",
    )
}

#[cfg(test)]
mod tests;
