//! The thread that owns the models. It takes what is there and never waits for more.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};
use locus_firmware_config::message::{Fault, FaultCode};

use super::{
    ActiveModel, Job, Loaded, Shared, Watched, answer, explain,
    keeper::{Keeper, Kept},
    loaded::Encoded,
    prepare,
};

/// Rows of the batch lane in one run, so that someone at a bedside never waits for many.
const BATCH_ROWS: usize = 8;
/// Runs of the bedside lane after which the batch lane gets one, so that it is never starved.
const BEDSIDE_RUNS: u32 = 16;
/// Idle time after which the engine's memory is written over.
const IDLE: Duration = Duration::from_millis(50);

/// Orders to the thread; answered before any more requests.
pub(super) enum Control {
    Swap {
        loaded: Loaded,
        done: Sender<Result<(), String>>,
    },
    Back {
        model: String,
        done: Sender<()>,
    },
    Confirm {
        model: String,
    },
    Remove {
        model: String,
        done: Sender<()>,
    },
    /// Shows that the thread gets on.
    Ping {
        done: Sender<()>,
    },
    Stop,
}

pub(super) struct Channels {
    pub(super) bedside: Sender<Job>,
    pub(super) batch: Sender<Job>,
    pub(super) control: Sender<Control>,
}

struct Serving {
    loaded: Loaded,
    view: Arc<ActiveModel>,
}

/// What a name stands for.
struct Hosted {
    serving: Serving,
    /// While it is on trial: what served before it, which may be nothing.
    trial: Option<Option<Serving>>,
    /// Whether its engine holds something of somebody.
    dirty: bool,
}

struct Worker {
    shared: Arc<Shared>,
    keeper: Keeper,
    hosted: BTreeMap<String, Hosted>,
    generation: u64,
    bedside_runs: u32,
}

/// Starts the thread. The lanes have no bound of their own: admission is theirs.
pub(super) fn start(shared: Arc<Shared>, keeper: Keeper) -> std::io::Result<(JoinHandle<()>, Channels)> {
    let (bedside, from_bedside) = unbounded();
    let (batch, from_batch) = unbounded();
    let (control, orders) = unbounded();
    let watched = Watched { shared: Arc::clone(&shared), code: FaultCode::EngineFailed };
    let worker = Worker { shared, keeper, hosted: BTreeMap::new(), generation: 0, bedside_runs: 0 };
    let thread = std::thread::Builder::new().name("inference".into()).spawn(move || {
        let _watched = watched;
        locus_engine::this_thread_answers();
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
                    self.serve_all(take(job, batch, BATCH_ROWS));
                }
            }
            let dirty = self.hosted.values().any(|hosted| hosted.dirty);
            let idle = if dirty { crossbeam_channel::after(IDLE) } else { crossbeam_channel::never() };
            select_biased! {
                recv(orders) -> order => match order {
                    Ok(Control::Stop) | Err(_) => break,
                    Ok(order) => self.obey(order),
                },
                recv(bedside) -> job => if let Ok(job) = job {
                    let most = self.max_batch(&job);
                    self.bedside_runs += 1;
                    self.serve_all(take(job, bedside, most));
                },
                recv(batch) -> job => if let Ok(job) = job {
                    self.bedside_runs = 0;
                    self.serve_all(take(job, batch, BATCH_ROWS));
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

    fn max_batch(&self, job: &Job) -> usize {
        self.hosted.get(&job.model).map_or(1, |hosted| hosted.serving.loaded.spec().max_batch as usize)
    }

    fn obey(&mut self, order: Control) {
        match order {
            Control::Swap { mut loaded, done } => {
                let proved = loaded.golden_self_test().map(drop).map_err(|error| error.to_string());
                if proved.is_ok() {
                    self.try_out(loaded);
                }
                let _ = done.send(proved);
            }
            Control::Back { model, done } => {
                // A model that failed its proof never served: there is nothing to go back from.
                if self.hosted.get(&model).is_some_and(|hosted| hosted.trial.is_some()) {
                    self.write_over();
                    let before = self.hosted.remove(&model).and_then(|hosted| hosted.trial.flatten());
                    if let Some(Serving { loaded, .. }) = before {
                        let serving = self.serving(loaded);
                        self.hosted.insert(model, Hosted { serving, trial: None, dirty: false });
                    }
                    self.show();
                }
                let _ = done.send(());
            }
            Control::Confirm { model } => {
                if let Some(hosted) = self.hosted.get_mut(&model) {
                    hosted.trial = None;
                    hosted.serving.view.tried.running.store(false, Ordering::Release);
                }
            }
            Control::Remove { model, done } => {
                self.write_over();
                self.hosted.remove(&model);
                self.show();
                let _ = done.send(());
            }
            Control::Ping { done } => drop(done.send(())),
            Control::Stop => {}
        }
    }

    fn serving(&mut self, loaded: Loaded) -> Serving {
        self.generation += 1;
        let view = Arc::new(ActiveModel::of(&loaded, self.generation));
        Serving { loaded, view }
    }

    /// Serves with a model on trial. What served before is kept, with nothing of anybody left in it.
    fn try_out(&mut self, loaded: Loaded) {
        self.write_over();
        let serving = self.serving(loaded);
        serving.view.tried.running.store(true, Ordering::Release);
        let name = serving.view.info.name.clone();
        let before = self.hosted.remove(&name);
        // A trial that follows a trial keeps what was confirmed last.
        let before = before.and_then(|hosted| hosted.trial.unwrap_or(Some(hosted.serving)));
        self.hosted.insert(name, Hosted { serving, trial: Some(before), dirty: false });
        self.show();
    }

    /// Lets the other threads see what serves.
    fn show(&self) {
        let views = self.hosted.iter().map(|(name, hosted)| (name.clone(), Arc::clone(&hosted.serving.view)));
        *self.shared.active.write().unwrap_or_else(PoisonError::into_inner) = views.collect();
    }

    /// Runs jobs of one model together, models in the order of their first jobs.
    fn serve_all(&mut self, mut jobs: Vec<Job>) {
        while let Some(first) = jobs.first() {
            let model = first.model.clone();
            let (own, others) = jobs.into_iter().partition(|job| job.model == model);
            jobs = others;
            self.serve(&model, own);
        }
    }

    fn serve(&mut self, model: &str, jobs: Vec<Job>) {
        let none = self.hosted.is_empty();
        let Some(Hosted { serving: Serving { loaded, view }, trial, dirty }) = self.hosted.get_mut(model)
        else {
            for job in jobs {
                job.fail(match none {
                    true => Fault::new(
                        FaultCode::NoModel,
                        "no model is active on this box; flash one with `locusctl flash`",
                    ),
                    false => Fault::new(
                        FaultCode::UnknownModel,
                        format!("the model {model} was taken out meanwhile; ask for another one"),
                    ),
                });
            }
            return;
        };
        let started = Instant::now();
        let (mut ready, mut encoded) = (Vec::with_capacity(jobs.len()), Vec::with_capacity(jobs.len()));
        for mut job in jobs {
            if job.ticket.forget_if_unheard() {
                dropped("asker_gone");
                continue;
            }
            if started >= job.deadline {
                dropped("deadline");
                job.fail(Fault::new(
                    FaultCode::DeadlineExceeded,
                    "the deadline passed before the model could run; ask again with the same id",
                ));
                continue;
            }
            if job.generation != view.generation {
                // It was taken for another model: it may have asked for that one, and only for that one.
                let genome = job.genome.as_deref();
                let again = prepare::check_model(view, genome, &job.request)
                    .and_then(|()| prepare::read(view, genome, &job.request));
                match again {
                    Ok(again) => (job.encoded, *job.about) = (again.encoded, again.about),
                    Err(fault) => {
                        job.fail(fault);
                        continue;
                    }
                }
            }
            encoded.push(std::mem::replace(&mut job.encoded, Encoded::Taken));
            ready.push(job);
        }
        if ready.is_empty() {
            return;
        }
        let proved = view.tried.proved.load(Ordering::Acquire);
        if !proved {
            self.shared.unproven.mark(&view.info.digest);
        }
        let (encoded, scores) = loaded.score(encoded);
        let good = scores.iter().filter(|score| score.is_ok()).count() as u64;
        if !proved {
            self.shared.unproven.clear(&view.info.digest);
            view.tried.proved.store(good > 0, Ordering::Release);
        }
        if trial.is_some() {
            view.tried.failed.fetch_add(scores.len() as u64 - good, Ordering::AcqRel);
            view.tried.good.fetch_add(good, Ordering::AcqRel);
        }
        metrics::counter!("locus_answers_total", "model" => view.info.name.clone()).increment(good);
        *dirty = true;
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
                    explain::run(loaded, &mut job, &score);
                    let answer = answer::answer(&self.shared.box_name, view, &job, score, started, infer);
                    let (answer, bundle) = (Box::new(answer), view.digest);
                    self.keeper.take(Kept { job, answer, bundle, ready: Instant::now() });
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

    /// The engines keep their buffers, and the last token ids in them.
    fn write_over(&mut self) {
        for hosted in self.hosted.values_mut().filter(|hosted| hosted.dirty) {
            hosted.dirty = false;
            if let Err(error) = hosted.serving.loaded.write_over() {
                tracing::warn!(%error, "the engine's buffers could not be written over");
            }
        }
    }
}

/// Counts a request that the model never saw.
fn dropped(reason: &'static str) {
    metrics::counter!("locus_dropped_total", "reason" => reason).increment(1);
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
