//! How the box is, for people and for machines.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use locus_engine::Skipped;
use locus_firmware_config::message::ModelInfo;
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
    pub(crate) notices: Mutex<Vec<String>>,
    pub(crate) metrics: Option<PrometheusHandle>,
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
    /// What serves.
    pub model: Option<ModelInfo>,
    /// Answers that it has given on trial; null where it is confirmed.
    pub trial_answers: Option<u64>,
    /// What runs it.
    pub engine: Option<EngineReport>,
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

/// What runs the model.
#[derive(Debug, Serialize)]
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
        self.pipeline.active().is_some() && self.pipeline.failed().is_none()
    }

    /// Everything.
    pub fn report(&self) -> Report {
        let active = self.pipeline.active();
        let (queue_units, queue_limit) = self.pipeline.load();
        let (records, _) = self.pipeline.journal().head();
        Report {
            ready: self.ready(),
            status: match (self.pipeline.failed(), &active) {
                (Some(code), _) => code.as_str(),
                (None, None) => "no_model",
                (None, Some(_)) => "ok",
            },
            version: env!("CARGO_PKG_VERSION"),
            site: self.site.clone(),
            r#box: self.box_name.clone(),
            uptime_s: self.started.elapsed().as_secs(),
            model: active.as_ref().map(|model| model.info.clone()),
            trial_answers: self.pipeline.tried().map(|(good, _)| good),
            engine: active.as_ref().map(|model| EngineReport {
                provider: model.provider.clone(),
                runtime: model.runtime.clone(),
                precision: model.precision.clone(),
                note: model.note.clone(),
                skipped: model.skipped.clone(),
            }),
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
                notices.into_iter().chain(self.pipeline.notice()).collect()
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
        metrics::gauge!("locus_ready").set(if self.ready() { 1.0 } else { 0.0 });
        self.metrics.as_ref().map_or_else(String::new, PrometheusHandle::render)
    }

    pub(crate) fn notice(self: &Arc<Self>, notices: Vec<String>) {
        *self.notices.lock().unwrap_or_else(PoisonError::into_inner) = notices;
    }
}
