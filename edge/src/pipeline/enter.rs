//! From a terminal's question to a job in its lane: who asked it before, whether there is room, what the model reads.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use locus_firmware_config::message::{Fault, FaultCode, Lane, Outcome, Request};

use super::{
    Pipeline,
    admission::{Full, Units},
    explain,
    prepare::{self, Genome, Prepared},
    replay::{self, Entry},
    shared::{ActiveModel, Job},
};
use crate::{
    journal::{RequestHash, Seen},
    keys::random,
    traces::{Parent, Seen as Noted},
};

/// Where the outcome of a request will be, and whether it is another one's of the same id.
type Entered = (tokio::sync::watch::Receiver<Option<Arc<Outcome>>>, bool);

/// Shortest and longest hint when to ask again, in milliseconds.
const RETRY_MS: (u64, u64) = (20, 5_000);

/// A request that is taken, with what it was read by.
struct Admitted {
    prepared: Prepared,
    genome: Option<Arc<Genome>>,
    model: Arc<ActiveModel>,
    repeat_of: Option<u64>,
    tokenize: Duration,
    units: Units,
}

impl Pipeline {
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
            Ok(admitted) => {
                let Admitted {
                    prepared: Prepared { encoded, about },
                    genome,
                    model,
                    repeat_of,
                    tokenize,
                    units,
                } = admitted;
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

    fn admit(
        &self,
        terminal: &str,
        transport: &'static str,
        request: &Request,
        hash: RequestHash,
        received: Instant,
    ) -> Result<Admitted, Fault> {
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
        Ok(Admitted { prepared, genome, model, repeat_of, tokenize, units })
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

fn reused() -> Fault {
    Fault::new(
        FaultCode::IdReused,
        "got an id that this terminal used for another request, expected a new id; answers are never mixed",
    )
}
