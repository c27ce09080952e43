//! The thread that owns the model. It takes what is there and never waits for more.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};
use locus_engine::{Error, Score, Scorer};
use locus_firmware_config::message::{Fault, FaultCode};

use super::{ActiveModel, Job, Shared, Watched, answer, keeper::Kept, prepare};

/// Rows of the batch lane in one run, so that someone at a bedside never waits for many.
const BATCH_ROWS: usize = 8;
/// Runs of the bedside lane after which the batch lane gets one, so that it is never starved.
const BEDSIDE_RUNS: u32 = 16;
/// Idle time after which the engine's memory is written over.
const IDLE: Duration = Duration::from_millis(50);

/// Orders to the thread; answered before any more requests.
pub(super) enum Control {
    Swap { scorer: Box<Scorer>, done: Sender<Result<(), String>> },
    Back { done: Sender<()> },
    Confirm,
    Stop,
}

pub(super) struct Channels {
    pub(super) bedside: Sender<Job>,
    pub(super) batch: Sender<Job>,
    pub(super) control: Sender<Control>,
}

struct Serving {
    scorer: Box<Scorer>,
    view: Arc<ActiveModel>,
}

struct Worker {
    shared: Arc<Shared>,
    kept: Sender<Kept>,
    serving: Option<Serving>,
    /// While a model is on trial: what served before it, which may be nothing.
    trial: Option<Option<Serving>>,
    generation: u64,
    bedside_runs: u32,
    dirty: bool,
}

/// Starts the thread. The lanes have no bound of their own: admission is theirs.
pub(super) fn start(shared: Arc<Shared>, kept: Sender<Kept>) -> std::io::Result<(JoinHandle<()>, Channels)> {
    let (bedside, from_bedside) = unbounded();
    let (batch, from_batch) = unbounded();
    let (control, orders) = unbounded();
    let watched = Watched { shared: Arc::clone(&shared), code: FaultCode::EngineFailed };
    let worker =
        Worker { shared, kept, serving: None, trial: None, generation: 0, bedside_runs: 0, dirty: false };
    let thread = std::thread::Builder::new().name("inference".into()).spawn(move || {
        let _watched = watched;
        worker.run(&orders, &from_bedside, &from_batch);
    })?;
    Ok((thread, Channels { bedside, batch, control }))
}

impl Worker {
    fn run(mut self, orders: &Receiver<Control>, bedside: &Receiver<Job>, batch: &Receiver<Job>) {
        loop {
            if self.bedside_runs >= BEDSIDE_RUNS {
                self.bedside_runs = 0;
                if let Ok(job) = batch.try_recv() {
                    self.serve(take(job, batch, BATCH_ROWS));
                }
            }
            let idle = if self.dirty { crossbeam_channel::after(IDLE) } else { crossbeam_channel::never() };
            select_biased! {
                recv(orders) -> order => match order {
                    Ok(Control::Stop) | Err(_) => break,
                    Ok(order) => self.obey(order),
                },
                recv(bedside) -> job => if let Ok(job) = job {
                    let most = self.max_batch();
                    self.bedside_runs += 1;
                    self.serve(take(job, bedside, most));
                },
                recv(batch) -> job => if let Ok(job) = job {
                    self.bedside_runs = 0;
                    self.serve(take(job, batch, BATCH_ROWS));
                },
                recv(idle) -> _ => self.write_over(),
            }
        }
        // What is still here was taken before the stop: its tickets answer when they are dropped.
        for job in bedside.try_iter().chain(batch.try_iter()) {
            job.fail(Fault::new(FaultCode::ShuttingDown, "the box stopped; ask again once it is back"));
        }
        self.write_over();
    }

    fn max_batch(&self) -> usize {
        self.serving.as_ref().map_or(1, |s| s.scorer.spec().max_batch as usize)
    }

    fn obey(&mut self, order: Control) {
        match order {
            Control::Swap { mut scorer, done } => {
                let proved = scorer.golden_self_test().map(drop).map_err(|error| error.to_string());
                if proved.is_ok() {
                    let before = self.serve_with(Some(scorer));
                    // A trial that follows a trial keeps what was confirmed last.
                    self.trial.get_or_insert(before);
                    let tried = &self.shared.tried;
                    tried.good.store(0, Ordering::Release);
                    tried.failed.store(0, Ordering::Release);
                    tried.running.store(true, Ordering::Release);
                }
                let _ = done.send(proved);
            }
            Control::Back { done } => {
                // A model that failed its proof never served: there is nothing to go back from.
                if let Some(before) = self.trial.take() {
                    self.serve_with(before.map(|before| before.scorer));
                }
                self.shared.tried.running.store(false, Ordering::Release);
                let _ = done.send(());
            }
            Control::Confirm => {
                self.trial = None;
                self.shared.tried.running.store(false, Ordering::Release);
            }
            Control::Stop => {}
        }
    }

    /// Changes over; gives what served before, with nothing of anybody left in it.
    fn serve_with(&mut self, scorer: Option<Box<Scorer>>) -> Option<Serving> {
        self.write_over();
        let serving = scorer.map(|scorer| {
            self.generation += 1;
            let view = Arc::new(ActiveModel::of(&scorer, self.generation));
            Serving { scorer, view }
        });
        let view = serving.as_ref().map(|serving| Arc::clone(&serving.view));
        *self.shared.active.write().unwrap_or_else(PoisonError::into_inner) = view;
        std::mem::replace(&mut self.serving, serving)
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let Some(Serving { scorer, view }) = &mut self.serving else {
            for job in jobs {
                job.fail(Fault::new(
                    FaultCode::NoModel,
                    "no model is active on this box; flash one with `locusctl flash`",
                ));
            }
            return;
        };
        let started = Instant::now();
        let (mut ready, mut encoded) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
        for mut job in jobs {
            if started >= job.deadline {
                job.fail(Fault::new(
                    FaultCode::DeadlineExceeded,
                    "the deadline passed before the model could run; ask again with the same id",
                ));
                continue;
            }
            if job.generation != view.generation {
                // It was taken for another model: it may have asked for that one, and only for that one.
                let genome = self.shared.genome.as_deref();
                let again = prepare::check_model(view, genome, &job.request)
                    .and_then(|()| prepare::encode(&view.encoder, genome, &job.request));
                match again {
                    Ok(again) => job.encoded = again,
                    Err(fault) => {
                        job.fail(fault);
                        continue;
                    }
                }
            }
            encoded.push(std::mem::replace(&mut job.encoded, blank()));
            ready.push(job);
        }
        if ready.is_empty() {
            return;
        }
        let scores = each_score(scorer, &encoded);
        if self.trial.is_some() {
            let good = scores.iter().filter(|score| score.is_ok()).count() as u64;
            self.shared.tried.failed.fetch_add(scores.len() as u64 - good, Ordering::AcqRel);
            self.shared.tried.good.fetch_add(good, Ordering::AcqRel);
        }
        self.dirty = true;
        let infer = started.elapsed();
        metrics::histogram!("locus_batch_rows").record(ready.len() as f64);
        metrics::histogram!("locus_stage_seconds", "stage" => "infer").record(infer.as_secs_f64());
        let (old, unit) =
            (self.shared.unit_us.load(Ordering::Relaxed), answer::micros(infer) / ready.len() as u64);
        self.shared.unit_us.store((old * 7 + unit.max(1)) / 8, Ordering::Relaxed);
        for ((mut job, encoded), score) in ready.into_iter().zip(encoded).zip(scores) {
            job.encoded = encoded;
            match score {
                Ok(score) => {
                    let answer =
                        answer::answer(&self.shared.box_name, view, scorer, &job, score, started, infer);
                    let kept =
                        Kept { job, answer: Box::new(answer), bundle: view.digest, ready: Instant::now() };
                    if let Err(crossbeam_channel::SendError(kept)) = self.kept.send(kept) {
                        kept.job.fail(Fault::new(
                            FaultCode::JournalFailed,
                            "the journal has ended; the box stops",
                        ));
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the engine failed");
                    job.fail(Fault::new(
                        FaultCode::EngineFailed,
                        "the model gave no usable number; ask again, and go back to the previous model if it stays so",
                    ));
                }
            }
        }
    }

    /// The engine keeps its buffers, and the last token ids in them.
    fn write_over(&mut self) {
        self.dirty = false;
        let Some(Serving { scorer, .. }) = &mut self.serving else { return };
        if let Err(error) = scorer.write_over() {
            tracing::warn!(%error, "the engine's buffers could not be written over");
        }
    }
}

/// A row that fails must not fail the others: after an error each is run by itself.
fn each_score(scorer: &mut Scorer, encoded: &[locus_genome::EncodedVariant]) -> Vec<Result<Score, Error>> {
    match scorer.score(encoded) {
        Ok(scores) => scores.into_iter().map(Ok).collect(),
        Err(error) if encoded.len() == 1 => vec![Err(error)],
        Err(_) => encoded
            .iter()
            .map(|one| {
                let mut scores = scorer.score(std::slice::from_ref(one))?;
                Ok(scores.swap_remove(0))
            })
            .collect(),
    }
}

fn take(first: Job, queue: &Receiver<Job>, most: usize) -> Vec<Job> {
    let mut jobs = vec![first];
    while jobs.len() < most
        && let Ok(job) = queue.try_recv()
    {
        jobs.push(job);
    }
    jobs
}

/// Stands in a job while its rows are in the batch.
fn blank() -> locus_genome::EncodedVariant {
    locus_genome::EncodedVariant {
        ref_ids: Vec::new(),
        alt_ids: Vec::new(),
        track: Vec::new(),
        features: Vec::new(),
        mode: locus_genome::InputMode::SequenceOnly,
        consequence: None,
        amino_acid_change: None,
        transcript_id: None,
        gene: None,
        phases_agree: true,
        window_bases: 0,
        in_scope: Err(locus_genome::encode::ScopeReason::TooShort),
    }
}
