//! How the box is, for people and for machines.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use locus_engine::Skipped;
use locus_firmware_config::{manifest::Task, message::ModelInfo};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Doubt,
    journal::{Keep, Recovery, Upkeep},
    pipeline::Pipeline,
    state::StateDir,
    transport::mqtt::Link,
};

/// Borders of the latency histograms, in seconds.
const SECONDS: [f64; 16] =
    [2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];
/// Borders of the histogram of rows in one run.
const ROWS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// How often measurements are folded into their histograms; until then each takes its place in memory.
const UPKEEP: Duration = Duration::from_secs(5);

/// Most notices that are kept; the oldest go first.
const MAX_NOTICES: usize = 32;

/// What the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The model that it is about; none where it is about the box.
    pub model: Option<String>,
    /// In words.
    pub text: String,
}

/// Everything that is shown of a running box.
#[derive(Debug)]
pub struct Health {
    pub(crate) pipeline: Pipeline,
    pub(crate) state: StateDir,
    pub(crate) site: String,
    pub(crate) box_name: String,
    pub(crate) started: Instant,
    pub(crate) recovery: Recovery,
    pub(crate) link: Option<Link>,
    pub(crate) upkeep: Arc<Upkeep>,
    /// Fingerprints of whoever may open results.
    pub(crate) recipients: Vec<String>,
    /// The operator is told when the room lasts for fewer days.
    pub(crate) warn_days: u32,
    /// How much of what is finished stays on the box.
    pub(crate) keep: Keep,
    /// What the operator should know of the slots: a fallback, a trial that a restart ended, a model that does not load.
    pub(crate) notices: Mutex<Vec<Notice>>,
    pub(crate) metrics: Option<PrometheusHandle>,
    /// Models that the metrics have shown: one that went away is shown as such.
    pub(crate) shown: Mutex<BTreeSet<String>>,
}

/// As `GET /health` gives it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether requests are answered.
    pub ready: bool,
    /// `ok`, `no_model`, `storage_full`, or why the box stops: `journal_failed` or `engine_failed`.
    pub status: &'static str,
    /// Version of the daemon.
    pub version: &'static str,
    /// Site.
    pub site: String,
    /// Box.
    pub r#box: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Everything that serves, by name.
    pub models: Vec<ModelReport>,
    /// What serves, where that is one model; null with several.
    pub model: Option<ModelInfo>,
    /// Answers that it has given on trial; null where it is confirmed.
    pub trial_answers: Option<u64>,
    /// What runs it.
    pub engine: Option<EngineReport>,
    /// Engines that were built by a thread that answers, while whoever asked waited: always 0.
    pub engine_builds_while_serving: u64,
    /// Reference pack that variants are read on; null without one.
    pub reference: Option<ModelInfo>,
    /// Its assembly.
    pub assembly: Option<String>,
    /// What is kept.
    pub journal: JournalReport,
    /// Whether the box trusts its clock.
    pub clock: ClockReport,
    /// Bytes that are free in the state folder; null where the system does not say.
    pub free_bytes: Option<u64>,
    /// Units of work waiting or running.
    pub queue_units: u32,
    /// Most units.
    pub queue_limit: u32,
    /// Whether requests arrive over MQTT; null where it is off.
    pub mqtt_connected: Option<bool>,
    /// What the operator should know.
    pub notices: Vec<String>,
}

/// A model that serves.
#[derive(Clone, Debug, Serialize)]
pub struct ModelReport {
    /// Name, version, digest.
    #[serde(flatten)]
    pub info: ModelInfo,
    /// What it does.
    pub task: Task,
    /// Answers that it has given on trial; null where it is confirmed.
    pub trial_answers: Option<u64>,
    /// What runs it.
    pub engine: EngineReport,
}

/// What runs the model.
#[derive(Clone, Debug, Serialize)]
pub struct EngineReport {
    /// Engine and provider that serve: the provider started and is asked first.
    pub provider: String,
    /// Library and version.
    pub runtime: String,
    /// Precision really in use.
    pub precision: String,
    /// Why not the one hoped for.
    pub note: Option<String>,
    /// Engines that came first in the order and do not serve.
    pub skipped: Vec<Skipped>,
}

/// What is kept.
#[derive(Debug, Serialize)]
pub struct JournalReport {
    /// Journal id.
    pub id: String,
    /// Records so far.
    pub records: u64,
    /// Bytes that nobody was answered for, cut off when the box started.
    pub recovered_torn_bytes: u64,
    /// Whether it had been closed properly.
    pub recovered_clean: bool,
    /// Bytes that it grows by in a day; null before ten minutes are known.
    pub bytes_per_day: Option<u64>,
    /// Days until the reserve is touched if it goes on so; null where that is not known.
    pub days_left: Option<f64>,
    /// Bytes that are kept free.
    pub reserve_bytes: u64,
    /// Whether the reserve is touched: nothing new is taken.
    pub storage_full: bool,
    /// Records that were freed, with the box's signed word.
    pub freed_records: u64,
    /// Last segment of which a copy was verified; 0 where none was.
    pub copied_to_segment: u64,
}

/// Whether the box trusts its clock.
#[derive(Debug, Serialize)]
pub struct ClockReport {
    /// `trusted` or `untrusted`.
    pub state: &'static str,
    /// What speaks against it.
    pub doubt: Option<Doubt>,
    /// How often it became untrusted since the start.
    pub doubts: u64,
}

/// How often it looks whether finished segments may leave the box.
const RETAIN: Duration = Duration::from_secs(60);

/// Frees what need not stay, until `stop`.
pub(crate) async fn retain(health: Arc<Health>, keep: Keep, stop: CancellationToken) {
    let mut looks = tokio::time::interval(RETAIN);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let health = Arc::clone(&health);
        let retained = tokio::task::spawn_blocking(move || {
            let (_, head) = health.pipeline.journal().head();
            let Some(open) = head.map(|head| head.segment) else { return };
            match health.upkeep.hold().retain(&keep, open, false) {
                Ok(freed) if freed.segments > 0 => tracing::info!(
                    segments = freed.segments,
                    records = freed.records,
                    bytes = freed.bytes,
                    "finished segments were freed, as configured"
                ),
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "finished segments could not be freed"),
            }
        });
        let _ = retained.await;
    }
}

/// Installs the process's metrics.
pub(crate) fn install_metrics() -> Option<PrometheusHandle> {
    recorder().and_then(PrometheusBuilder::install_recorder).ok()
}

fn recorder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(Matcher::Full("locus_batch_rows".into()), &ROWS)
}

/// Keeps the measurements small, whether anybody reads them or not.
pub(crate) async fn keep_metrics(metrics: PrometheusHandle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(UPKEEP) => metrics.run_upkeep(),
        }
    }
}

impl Health {
    /// Whether a request would be answered now.
    pub fn ready(&self) -> bool {
        !self.pipeline.models().is_empty()
            && self.pipeline.failed().is_none()
            && !self.pipeline.journal().space().short()
    }

    /// Everything.
    pub fn report(&self) -> Report {
        let models: Vec<ModelReport> = self
            .pipeline
            .models()
            .values()
            .map(|model| ModelReport {
                info: model.info.clone(),
                task: model.task,
                trial_answers: self.pipeline.tried(&model.info.name).map(|(good, _)| good),
                engine: EngineReport {
                    provider: model.provider.clone(),
                    runtime: model.runtime.clone(),
                    precision: model.precision.clone(),
                    note: model.note.clone(),
                    skipped: model.skipped.clone(),
                },
            })
            .collect();
        let only = if let [only] = models.as_slice() { Some(only.clone()) } else { None };
        let (queue_units, queue_limit) = self.pipeline.load();
        let journal = self.pipeline.journal();
        let ((records, _), space, doubt) = (journal.head(), journal.space(), journal.clock().doubt());
        let (copied_to_segment, _, freed_records) = self.upkeep.known().unwrap_or_default();
        Report {
            ready: self.ready(),
            status: match self.pipeline.failed() {
                Some(code) => code.as_str(),
                None if space.short() => "storage_full",
                None if models.is_empty() => "no_model",
                None => "ok",
            },
            version: env!("CARGO_PKG_VERSION"),
            site: self.site.clone(),
            r#box: self.box_name.clone(),
            uptime_s: self.started.elapsed().as_secs(),
            models,
            model: only.as_ref().map(|model| model.info.clone()),
            trial_answers: only.as_ref().and_then(|model| model.trial_answers),
            engine: only.map(|model| model.engine),
            engine_builds_while_serving: locus_engine::built_while_serving(),
            reference: self.pipeline.reference(),
            assembly: self.pipeline.assembly(),
            journal: JournalReport {
                id: self.pipeline.journal().id().to_owned(),
                records,
                recovered_torn_bytes: self.recovery.torn_bytes,
                recovered_clean: self.recovery.clean,
                bytes_per_day: space.bytes_per_day().map(|bytes| bytes as u64),
                days_left: space.days_left().map(|days| (days * 10.0).round() / 10.0),
                reserve_bytes: space.reserve_bytes(),
                storage_full: space.short(),
                freed_records,
                copied_to_segment,
            },
            clock: ClockReport {
                state: if doubt.is_none() { "trusted" } else { "untrusted" },
                doubt,
                doubts: journal.clock().doubts(),
            },
            free_bytes: self.state.free_bytes().ok(),
            queue_units,
            queue_limit,
            mqtt_connected: self
                .link
                .as_ref()
                .map(|link| link.connected.load(std::sync::atomic::Ordering::Acquire)),
            notices: {
                let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let texts = notices.into_iter().map(|notice| notice.text);
                texts.chain(self.pipeline.notices()).chain(self.journal_notices()).collect()
            },
        }
    }

    /// What the operator should know of room and time.
    fn journal_notices(&self) -> Vec<String> {
        let (space, clock) = (self.pipeline.journal().space(), self.pipeline.journal().clock());
        let mut notices = Vec::new();
        if space.short() {
            notices.push(format!(
                "the room for results is used up to its reserve of {} bytes: nothing new is taken until `locusctl journal offload` or another hand makes room",
                space.reserve_bytes()
            ));
        } else if let Some(days) = space.days_left().filter(|days| *days < f64::from(self.warn_days)) {
            notices.push(format!(
                "the room for results lasts for {days:.1} days if it goes on so: `locusctl journal offload`"
            ));
        }
        if let Some(doubt) = clock.doubt() {
            notices.push(format!(
                "the clock is not trusted: {}; records are flagged and ordered by index. Set it, or look at it and run `locusctl clock --accept`",
                doubt.as_str()
            ));
        }
        notices
    }

    /// Prometheus text.
    pub fn metrics_text(&self) -> String {
        let (units, _) = self.pipeline.load();
        metrics::gauge!("locus_queue_units").set(f64::from(units));
        if let Ok(bytes) = self.state.free_bytes() {
            metrics::gauge!("locus_state_free_bytes").set(bytes as f64);
        }
        let (space, clock) = (self.pipeline.journal().space(), self.pipeline.journal().clock());
        for (name, value) in [
            ("locus_journal_bytes_per_day", space.bytes_per_day()),
            ("locus_journal_days_left", space.days_left()),
            ("locus_storage_full", Some(f64::from(u8::from(space.short())))),
            ("locus_clock_trusted", Some(f64::from(u8::from(clock.doubt().is_none())))),
        ] {
            if let Some(value) = value {
                metrics::gauge!(name).set(value);
            }
        }
        metrics::counter!("locus_engine_builds_while_serving_total")
            .absolute(locus_engine::built_while_serving());
        let models = self.pipeline.models();
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.extend(models.keys().cloned());
        for name in &*shown {
            let serves = if models.contains_key(name) { 1.0 } else { 0.0 };
            metrics::gauge!("locus_model_serves", "model" => name.clone()).set(serves);
        }
        drop(shown);
        metrics::gauge!("locus_ready").set(if self.ready() { 1.0 } else { 0.0 });
        self.metrics.as_ref().map_or_else(String::new, PrometheusHandle::render)
    }

    /// Shows what the operator should know, until it is settled.
    pub(crate) fn notice(&self, notice: Notice) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.retain(|other| *other != notice);
        if notices.len() >= MAX_NOTICES {
            notices.remove(0);
        }
        notices.push(notice);
    }

    /// What was to be known of a model, and of the slots as a whole, is settled by a bundle that was proved and recorded
    /// just now.
    pub(crate) fn settled(&self, model: &str) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.retain(|notice| notice.model.as_deref().is_some_and(|other| other != model));
    }
}
