//! Traces of requests: which stage took how long, posted to a collector of OpenTelemetry where the configuration names one.
//!
//! Whoever answers writes down a few numbers and goes on; a thread makes spans of them and posts them. What that thread
//! cannot get rid of is dropped and counted: no answer and no end of the daemon waits for a collector.

mod post;
mod spans;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use locus_firmware_config::message::{EngineInfo, Lane, ModelInfo, Outcome, Timing};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{SpanContext, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator as _, RandomIdGenerator, Sampler, SamplingDecision, ShouldSample as _},
};

use crate::config;
pub(crate) use post::Post;

/// Name of the header, and of the user property of MQTT, that names the trace that a request belongs to.
pub const PARENT: &str = "traceparent";
/// Name of the span of a request.
const REQUEST: &str = "locus.request";
/// Longest header that is looked at.
const MAX_PARENT: usize = 256;
/// Requests in one post at most.
const POST: usize = 128;
/// How long what came waits for more.
const GATHER: Duration = Duration::from_millis(500);

/// The span of the asker's that a request belongs to, or none.
#[derive(Clone, Debug, Default)]
pub struct Parent(Option<SpanContext>);

impl Parent {
    /// Reads a `traceparent` of W3C; what is none is nobody's. What else the asker says of its trace is not passed on.
    pub fn of(traceparent: &str) -> Self {
        struct Only<'a>(&'a str);
        impl Extractor for Only<'_> {
            fn get(&self, key: &str) -> Option<&str> {
                (key == PARENT).then_some(self.0)
            }
            fn keys(&self) -> Vec<&str> {
                vec![PARENT]
            }
        }
        if traceparent.len() > MAX_PARENT {
            return Self(None);
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Only(traceparent));
        let parent = context.span().span_context().clone();
        Self(parent.is_valid().then_some(parent))
    }
}

/// What is known of a request that has an outcome. No name, id or letter of whoever asked is in it.
#[derive(Debug)]
struct Record {
    context: SpanContext,
    parent: Option<SpanContext>,
    transport: &'static str,
    result: &'static str,
    lane: Lane,
    explains: bool,
    began: SystemTime,
    took: Duration,
    /// Until it waited for the model.
    entered: Duration,
    /// Of an answer that was made for this request, not repeated to it.
    answered: Option<(Timing, ModelInfo, EngineInfo)>,
    repeated: bool,
    failed: bool,
}

/// What an asker of the pipeline knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) transport: &'static str,
    pub(crate) result: &'static str,
    pub(crate) lane: Lane,
    pub(crate) explains: bool,
    pub(crate) started: Instant,
    pub(crate) entered: Duration,
    pub(crate) repeated: bool,
    pub(crate) outcome: &'a Outcome,
}

/// Takes notes of requests, or nothing where no endpoint is configured; clones share one queue.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    sampler: Sampler,
    ids: RandomIdGenerator,
    queue: Sender<Record>,
}

/// The thread that posts.
#[derive(Debug)]
pub struct Posting {
    stop: Sender<()>,
    ended: Receiver<()>,
    timeout: Duration,
}

impl Traces {
    /// Starts the thread where there is something to post to.
    ///
    /// # Errors
    /// Headers or certificates cannot be read, or there is no thread.
    pub fn start(config: &config::Traces, r#box: &str) -> Result<(Self, Option<Posting>), String> {
        let Some(post) = Post::new(config, r#box)? else { return Ok((Self::default(), None)) };
        let (queue, records) = bounded(config.queue as usize);
        let (stop, stopped) = bounded(1);
        let (tell, ended) = bounded(0);
        std::thread::Builder::new()
            .name("traces".into())
            .spawn(move || {
                run(&post, &records, &stopped);
                drop(tell);
            })
            .map_err(|error| format!("starting a thread for traces: {error}"))?;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.ratio)));
        let inner = Inner { sampler, ids: RandomIdGenerator::default(), queue };
        let timeout = Duration::from_millis(config.timeout_ms.into());
        Ok((Self(Some(Arc::new(inner))), Some(Posting { stop, ended, timeout })))
    }

    /// Notes what came of a request. It never waits.
    pub(crate) fn note(&self, seen: Seen<'_>, parent: &Parent) {
        let Some(inner) = &self.0 else { return };
        let Some(context) = inner.sampled(parent) else { return };
        let took = seen.started.elapsed();
        let answered = match seen.outcome {
            Outcome::Answer(answer) if !seen.repeated => {
                Some((answer.timing_us, answer.model.clone(), answer.engine.clone()))
            }
            _ => None,
        };
        let record = Record {
            context,
            parent: parent.0.clone(),
            transport: seen.transport,
            result: seen.result,
            lane: seen.lane,
            explains: seen.explains,
            began: SystemTime::now().checked_sub(took).unwrap_or(SystemTime::UNIX_EPOCH),
            took,
            entered: seen.entered,
            answered,
            repeated: seen.repeated,
            failed: matches!(seen.outcome, Outcome::Fault(_)),
        };
        if inner.queue.try_send(record).is_err() {
            dropped("queue_full", 1);
        }
    }
}

impl Inner {
    /// The span of a request, where it is one to be traced.
    fn sampled(&self, Parent(parent): &Parent) -> Option<SpanContext> {
        let trace: TraceId = parent.as_ref().map_or_else(|| self.ids.new_trace_id(), SpanContext::trace_id);
        let within = parent.clone().map(|parent| Context::new().with_remote_span_context(parent));
        let sampled =
            self.sampler.should_sample(within.as_ref(), trace, REQUEST, &SpanKind::Server, &[], &[]);
        (sampled.decision == SamplingDecision::RecordAndSample).then(|| {
            SpanContext::new(trace, self.ids.new_span_id(), TraceFlags::SAMPLED, false, TraceState::NONE)
        })
    }
}

impl Posting {
    /// Lets what waits be posted, and waits for that no longer than for one post.
    pub fn stop(self) {
        let _ = self.stop.try_send(());
        let _ = self.ended.recv_timeout(self.timeout);
    }
}

fn dropped(reason: &'static str, requests: u64) {
    metrics::counter!("locus_traces_dropped_total", "reason" => reason).increment(requests);
}

fn run(post: &Post, records: &Receiver<Record>, stopped: &Receiver<()>) {
    let mut state = State { post, up: true };
    let mut waiting: Vec<Record> = Vec::new();
    let mut due: Option<Instant> = None;
    loop {
        let until =
            due.map_or(Duration::from_secs(3_600), |due| due.saturating_duration_since(Instant::now()));
        crossbeam_channel::select! {
            recv(records) -> record => match record {
                Ok(record) => {
                    waiting.push(record);
                    due.get_or_insert_with(|| Instant::now() + GATHER);
                }
                Err(_) => break,
            },
            recv(stopped) -> _ => break,
            default(until) => {}
        }
        if waiting.len() >= POST || due.is_some_and(|due| Instant::now() >= due) {
            state.post(std::mem::take(&mut waiting));
            due = None;
        }
    }
    waiting.extend(records.try_iter());
    while !waiting.is_empty() {
        let rest = waiting.split_off(waiting.len().min(POST));
        // Who did not take the last one delays nobody for the others.
        match state.up {
            true => state.post(waiting),
            false => dropped("not_taken", waiting.len() as u64),
        }
        waiting = rest;
    }
}

struct State<'a> {
    post: &'a Post,
    /// Whether the last post was taken.
    up: bool,
}

impl State<'_> {
    fn post(&mut self, records: Vec<Record>) {
        let requests = records.len() as u64;
        let spans = records.into_iter().flat_map(spans::of).collect();
        let posted = self.post.send(spans);
        match &posted {
            Ok(()) => metrics::counter!("locus_traces_total").increment(requests),
            Err(_) => dropped("not_taken", requests),
        }
        if self.up != posted.is_ok() {
            self.up = posted.is_ok();
            match posted {
                Ok(()) => tracing::info!("traces are taken again"),
                Err(error) => tracing::warn!(error, "traces are not taken; they are dropped and counted"),
            }
        }
    }
}

#[cfg(test)]
mod tests;
