//! How the box is, for people and for machines.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use locus_engine::Skipped;
use locus_firmware_config::{manifest::Task, message::ModelInfo};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{journal::Recovery, pipeline::Pipeline, state::StateDir, transport::mqtt::Link};

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
    /// `ok`, `no_model`, or why the box stops: `journal_failed` or `engine_failed`.
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
        !self.pipeline.models().is_empty() && self.pipeline.failed().is_none()
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
        let (records, _) = self.pipeline.journal().head();
        Report {
            ready: self.ready(),
            status: match self.pipeline.failed() {
                Some(code) => code.as_str(),
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
                notices.into_iter().map(|notice| notice.text).chain(self.pipeline.notices()).collect()
            },
        }
    }

    /// Prometheus text.
    pub fn metrics_text(&self) -> String {
        let (units, _) = self.pipeline.load();
        metrics::gauge!("locus_queue_units").set(f64::from(units));
        if let Ok(bytes) = self.state.free_bytes() {
            metrics::gauge!("locus_state_free_bytes").set(bytes as f64);
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
