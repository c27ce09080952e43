//! The way of a request: admission → tokens → lane → inference thread → journal (a thread of its own, but for a lone answer) → answer.
//!
//! Admission counts work, not messages, and covers a request until it is answered: what is waiting, running and
//! being journaled is bounded by one number, and everything above it is refused at once.

mod admission;
mod answer;
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
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use locus_firmware_config::message::{Fault, FaultCode, Lane, ModelInfo, Outcome, Request};

pub use keeper::JournalState;
pub use loaded::Loaded;
use prepare::{About, Prepared};
pub use prepare::{Genome, encode};
pub use shared::{ActiveModel, Models};

use crate::{
    config::Limits,
    journal::{Journal, RequestHash, Seen},
    keys::{IndexKey, random},
    traces::{Parent, Seen as Noted, Traces},
    unproven::Unproven,
};
use admission::{Admission, Full, Units};
use replay::{Entry, Replay};
use shared::{Fatal, Job, Shared, Watched};
use worker::Control;

/// Where the outcome of a request will be, and whether it is another one's of the same id.
type Entered = (tokio::sync::watch::Receiver<Option<Arc<Outcome>>>, bool);

/// Shortest and longest hint when to ask again, in milliseconds.
const RETRY_MS: (u64, u64) = (20, 5_000);

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

    /// Answers a request of a terminal. Dropping the future loses nothing but the reply.
    pub async fn ask(
        &self,
        terminal: &str,
        transport: &'static str,
        request: Result<Request, Fault>,
    ) -> Arc<Outcome> {
        self.ask_within(terminal, transport, request, &Parent::default()).await
    }

    /// As [`Pipeline::ask`], for a request that is part of a trace of the asker's.
    pub async fn ask_within(
        &self,
        terminal: &str,
        transport: &'static str,
        request: Result<Request, Fault>,
        parent: &Parent,
    ) -> Arc<Outcome> {
        let started = Instant::now();
        let (mut lane, mut explains, mut repeated) = (Lane::default(), false, false);
        let mut entered = Duration::ZERO;
        let outcome = match request {
            Ok(request) => {
                let id = request.id.clone();
                (lane, explains) = (request.lane.unwrap_or_default(), request.explain == Some(true));
                let line = self.entered(terminal, transport, request, started).await;
                entered = started.elapsed();
                match line {
                    Ok((line, same)) => {
                        repeated = same;
                        replay::wait(line).await
                    }
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
        let noted =
            Noted { transport, result, lane, explains, started, entered, repeated, outcome: &outcome };
        self.shared.traces.note(noted, parent);
        outcome
    }

    /// As [`Pipeline::enter`]; what may read the reference pack from the disk does so beside the reactor.
    async fn entered(
        &self,
        terminal: &str,
        transport: &'static str,
        request: Request,
        received: Instant,
    ) -> Result<Entered, Fault> {
        if request.variant.is_none() || self.shared.genome().is_none() {
            return self.enter(terminal, transport, request, received);
        }
        let (pipeline, terminal) = (self.clone(), terminal.to_owned());
        let entering = move || pipeline.enter(&terminal, transport, request, received);
        tokio::task::spawn_blocking(entering).await.unwrap_or_else(|_| {
            let message = "the request was lost inside the box; ask again with the same id";
            Err(Fault::new(FaultCode::EngineFailed, message))
        })
    }

    fn enter(
        &self,
        terminal: &str,
        transport: &'static str,
        request: Request,
        received: Instant,
    ) -> Result<Entered, Fault> {
        let shared = &self.shared;
        if let Some(code) = shared.failed.get() {
            let message = "the box failed and stops; ask again with the same id once it is back";
            return Err(Fault::new(*code, message));
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
                    return Ok((line, true));
                }
                Entry::Reused => return Err(reused()),
            }
        } else {
            shared.replay.anonymous()
        };
        // From here on the ticket answers, also those who joined meanwhile.
        let id = request.id.clone();
        match self.admit(terminal, transport, &request, hash, received) {
            Ok((Prepared { encoded, about }, genome, model, repeat_of, tokenize, units)) => {
                let lane = request.lane.unwrap_or_default();
                let deadline_ms = request.deadline_ms.unwrap_or(shared.limits.deadline_ms);
                let job = Job {
                    terminal: terminal.to_owned(),
                    transport,
                    hash,
                    repeat_of,
                    encoded,
                    about: Box::new(about),
                    genome,
                    model: model.info.name.clone(),
                    generation: model.generation,
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
        Ok((line, false))
    }

    #[allow(clippy::type_complexity, reason = "handed over once, to the line below")]
    fn admit(
        &self,
        terminal: &str,
        transport: &'static str,
        request: &Request,
        hash: RequestHash,
        received: Instant,
    ) -> Result<(Prepared, Option<Arc<Genome>>, Arc<ActiveModel>, Option<u64>, Duration, Units), Fault> {
        let shared = &self.shared;
        if self.journal.space().short() {
            return Err(no_room());
        }
        let model = prepare::choose(&self.models(), request)?;
        let genome = shared.genome();
        prepare::check_model(&model, genome.as_deref(), request)?;
        let repeat_of = match shared.known.find(&hash) {
            _ if request.id.is_none() => None,
            Seen::New => None,
            Seen::Repeat { index, .. } => Some(index),
            Seen::Reused { .. } => return Err(reused()),
        };
        let bytes = request.sequence.as_ref().map_or(0, String::len) + explain::bytes(request);
        let lane = request.lane.unwrap_or_default();
        let units =
            shared.admission.enter(bytes, lane, transport, terminal).map_err(|full| self.busy(&full))?;
        let waited = received.elapsed();
        let prepared = prepare::read(&model, genome.as_deref(), request)?;
        let tokenize = received.elapsed().saturating_sub(waited);
        tracing::debug!(transport, terminal, "request taken");
        Ok((prepared, genome, model, repeat_of, tokenize, units))
    }

    fn busy(&self, full: &Full) -> Fault {
        let (shared, Full { taken, limit, whose }) = (&self.shared, full);
        let ms = (u64::from(*taken) * shared.unit_us.load(Ordering::Relaxed) / 1_000)
            .clamp(RETRY_MS.0, RETRY_MS.1);
        Fault {
            retry_after_ms: Some(ms as u32),
            ..Fault::new(
                FaultCode::Busy,
                format!(
                    "got a request while {taken} units of work {whose} wait, expected at most {limit}; ask again in {ms} ms"
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

/// Room comes back by an operator's hand, not by waiting a moment.
fn no_room() -> Fault {
    Fault {
        retry_after_ms: Some(RETRY_MS.1 as u32),
        ..Fault::new(
            FaultCode::StorageFull,
            "the room for results is running out and nothing more is taken until there is room again; ask again with the same id, and tell whoever runs the box",
        )
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
pub(crate) mod tests;
