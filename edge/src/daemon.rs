//! The daemon: puts the parts together, runs until it is told to stop or can no longer keep what it answers.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use locus_genome::ReadError;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::SystemClock,
    config::{Config, MqttMode},
    control,
    flashing::{FlashError, Flasher},
    health::{self, Health},
    journal::{Journal, JournalConfig, JournalError, Recovery, Rotation},
    keys::{self, IndexKey, KeyError, Recipient},
    pipeline::{Genome, Pipeline, PipelineConfig, Threads},
    slots::SlotError,
    state::{Endpoints, StateDir},
    transport::{broker, http, mqtt, serial},
    vfs::OsVfs,
};

/// Longest time that readiness waits for the broker; a broker that is gone does not keep the box from serving.
const BROKER_WAIT: Duration = Duration::from_secs(3);

/// Why the daemon ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// Slots, trusted keys, engine settings.
    #[error(transparent)]
    Flash(#[from] FlashError),
    /// The slot record.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// Keys of the box or of recipients.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The reference pack.
    #[error("reference pack: {0}")]
    Genome(#[from] ReadError),
    /// A transport that cannot start.
    #[error("{0}")]
    Transport(String),
    /// A file or thread.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// It can no longer keep what it answers.
    #[error("stopped because {0}")]
    Fatal(String),
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> DaemonError {
    move |source| DaemonError::Io { what, source }
}

/// No core of this process, and no debugger that is not root: its memory holds patients' sequences.
pub fn seal_memory() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Opens the journal of a box with its keys.
fn open_journal(
    config: &Config,
    state: &StateDir,
    accept_damage: bool,
) -> Result<(Journal, Recovery), DaemonError> {
    let mut recipients = Vec::new();
    for path in &config.journal.recipients {
        recipients.extend(Recipient::read_all(&OsVfs, path)?);
    }
    let journal = JournalConfig {
        vfs: Arc::new(OsVfs),
        clock: Arc::new(SystemClock::new()),
        device_key: keys::load_or_create_device_key(&OsVfs, &state.device_key())?,
        index_key: IndexKey::load_or_create(&OsVfs, &state.index_key())?,
        recipients,
        rotation: Rotation {
            records: config.journal.rotate_records,
            bytes: config.journal.rotate_bytes,
            age_ms: config.journal.rotate_ms,
        },
        remember: config.journal.remember,
        accept_damage,
    };
    Ok(Journal::open(&state.journal(), journal)?)
}

/// Runs a box until SIGTERM or SIGINT; `ready` is told where it listens.
///
/// # Errors
/// [`DaemonError`]; after [`DaemonError::Fatal`] a restart recovers what was answered.
pub async fn run(
    config: Config,
    accept_damage: bool,
    ready: impl FnOnce(&Endpoints),
) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(io("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("signals"))?;
    let state = StateDir::new(&config.state);
    let mut flasher = Flasher::open(&config)?;
    let (journal, recovery) = open_journal(&config, &state, accept_damage)?;
    if !recovery.clean {
        tracing::warn!(
            torn_bytes = recovery.torn_bytes,
            "the journal was not closed properly; everything answered is there"
        );
    }
    let genome = match &config.reference {
        Some(reference) => Some(Genome::open(&reference.fasta, &reference.gff, &reference.assembly)?),
        None => None,
    };
    let (fatal, mut failed) = watch::channel(None);
    let metrics = health::install_metrics();
    let (pipeline, threads) = Pipeline::start(PipelineConfig {
        box_name: config.r#box.clone(),
        limits: config.limits.clone(),
        genome,
        index_key: IndexKey::load_or_create(&OsVfs, &state.index_key())?,
        journal,
        on_fatal: Box::new(move |reason| {
            fatal.send_replace(Some(reason));
        }),
    })
    .map_err(io("starting threads"))?;
    let booted = flasher.boot(&pipeline)?;
    let mut running = Running::start(&config, &state, &pipeline).await?;
    let health = Arc::new(Health {
        pipeline: pipeline.clone(),
        state: state.clone(),
        site: config.site.clone(),
        box_name: config.r#box.clone(),
        started: Instant::now(),
        recovery,
        link: running.link.clone(),
        notices: Mutex::new(booted),
        metrics,
    });
    if config.http.enabled {
        let listener = http::start(&config.http, &state, &config.r#box, Arc::clone(&health)).await;
        running.http = Some(listener.map_err(DaemonError::Transport)?);
    }
    let endpoints = running.endpoints(&config);
    endpoints.write(&state).map_err(io("writing run/endpoints.json"))?;
    control::listen(&state, flasher, Arc::clone(&health), running.stop.clone())
        .map_err(io("control socket"))?;
    ready(&endpoints);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

    let reason = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        Ok(reason) = failed.wait_for(Option::is_some) => reason.clone(),
    };
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    pipeline.drain().await;
    running.stop().await;
    drop(health);
    let _ = std::fs::remove_file(state.endpoints());
    join(pipeline, threads).await?;
    let reason = reason.or_else(|| failed.borrow().clone());
    reason.map_or(Ok(()), |reason| Err(DaemonError::Fatal(reason)))
}

async fn join(pipeline: Pipeline, threads: Threads) -> Result<(), DaemonError> {
    tokio::task::spawn_blocking(move || pipeline.stop(threads))
        .await
        .map_err(|error| DaemonError::Transport(error.to_string()))
}

/// Every transport that runs.
struct Running {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    broker: Option<broker::Embedded>,
    http: Option<http::Listener>,
    link: Option<mqtt::Link>,
}

impl Running {
    async fn start(config: &Config, state: &StateDir, pipeline: &Pipeline) -> Result<Self, DaemonError> {
        std::fs::create_dir_all(state.endpoints().parent().unwrap_or(&PathBuf::from(".")))
            .map_err(io("making the run folder"))?;
        let stop = CancellationToken::new();
        let mut running = Self { stop, tasks: JoinSet::new(), broker: None, http: None, link: None };
        if config.mqtt.mode != MqttMode::Off {
            running.start_mqtt(config, pipeline).await?;
        }
        for line in &config.serial {
            let (pipeline, line, stop) = (pipeline.clone(), line.clone(), running.stop.clone());
            running.tasks.spawn(serial::run(pipeline, line, stop));
        }
        Ok(running)
    }

    async fn start_mqtt(&mut self, config: &Config, pipeline: &Pipeline) -> Result<(), DaemonError> {
        let (mut host, mut port) = (config.mqtt.host.clone(), config.mqtt.port);
        if config.mqtt.mode == MqttMode::Embedded {
            let address: IpAddr = if host == "localhost" {
                IpAddr::from([127, 0, 0, 1])
            } else {
                host.parse().map_err(|_| DaemonError::Transport(format!("mqtt.host {host} is no address")))?
            };
            let broker =
                broker::start(SocketAddr::new(address, port)).await.map_err(DaemonError::Transport)?;
            (host, port) = (broker.address.ip().to_string(), broker.address.port());
            self.broker = Some(broker);
        }
        let link = mqtt::Link {
            site: config.site.clone(),
            box_name: config.r#box.clone(),
            host,
            port,
            connected: Arc::new(AtomicBool::new(false)),
        };
        let (pipeline, told, mqtt, stop) =
            (pipeline.clone(), link.clone(), config.mqtt.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = mqtt::run(pipeline, told, mqtt, stop).await {
                tracing::error!(%error, "MQTT cannot start");
            }
        });
        let waited = Instant::now();
        while !link.connected.load(std::sync::atomic::Ordering::Acquire) && waited.elapsed() < BROKER_WAIT {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.link = Some(link);
        Ok(())
    }

    fn endpoints(&self, config: &Config) -> Endpoints {
        Endpoints {
            pid: std::process::id(),
            mqtt: self.link.as_ref().map(|link| format!("{}:{}", link.host, link.port)),
            http: self.http.as_ref().map(|http| format!("https://{}", http.address)),
            serial: config.serial.iter().map(|line| line.path.clone()).collect(),
        }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        if let Some(http) = self.http.take() {
            http.stop().await;
        }
        while self.tasks.join_next().await.is_some() {}
        if let Some(broker) = self.broker.take() {
            broker.stop().await;
        }
    }
}
