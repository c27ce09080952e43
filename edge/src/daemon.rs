//! The daemon: puts the parts together, runs until it is told to stop or can no longer keep what it answers.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use locus_genome::ReadError;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{self, AccessError, Gate},
    clock::SystemClock,
    config::{Config, MqttMode, Protocol},
    control,
    flashing::{self, FlashError, Flasher},
    health::{self, Health},
    journal::{Journal, JournalConfig, JournalError, Recovery, Rotation, Upkeep},
    keys::{self, IndexKey, KeyError, Recipient},
    pipeline::{Genome, Pipeline, PipelineConfig, Threads},
    slots::SlotError,
    state::{Endpoints, StateDir},
    traces::{self, Traces},
    transport::{broker, http, lis, mllp, mqtt, serial},
    unproven::Unproven,
    vfs::OsVfs,
    watchdog,
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
    /// Who may use the box.
    #[error(transparent)]
    Access(#[from] AccessError),
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
    /// Its keys were destroyed.
    #[error(
        "this box was decommissioned ({0}); set up a new one with another, empty state folder and `locusctl init`"
    )]
    Decommissioned(PathBuf),
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

fn recipients(config: &Config) -> Result<Vec<Recipient>, KeyError> {
    let mut recipients = Vec::new();
    for path in &config.journal.recipients {
        recipients.extend(Recipient::read_all(&OsVfs, path)?);
    }
    Ok(recipients)
}

/// Reads what a configuration names, as far as that changes nothing and takes no time: keys, recipients, certificates,
/// the words for engines, the broker's password, whether the genome is there.
///
/// # Errors
/// What the daemon would end with.
pub fn check(config: &Config) -> Result<(), DaemonError> {
    flashing::check(config)?;
    recipients(config)?;
    access::check(&config.http)?;
    for path in config.reference.iter().flat_map(|reference| [&reference.fasta, &reference.gff]) {
        let unreadable = |source| ReadError::Io { path: path.clone(), source };
        std::fs::File::open(path).map_err(unreadable)?;
    }
    for path in config.serial.iter().filter_map(|line| line.key_file.as_deref()) {
        serial::read_key(path).map_err(DaemonError::Transport)?;
    }
    for listener in &config.mllp {
        mllp::tls(listener).map_err(DaemonError::Transport)?;
    }
    traces::Post::new(&config.traces, &config.r#box).map_err(DaemonError::Transport)?;
    if config.mqtt.mode != MqttMode::Off {
        let link = mqtt::Link::new(config, config.mqtt.host.clone(), config.mqtt.port);
        mqtt::options(&link, &config.mqtt).map_err(DaemonError::Transport)?;
    }
    Ok(())
}

/// Opens the journal of a box with its keys.
fn open_journal(
    config: &Config,
    state: &StateDir,
    accept_damage: bool,
) -> Result<(Journal, Recovery), DaemonError> {
    let journal = JournalConfig {
        vfs: Arc::new(OsVfs),
        clock: Arc::new(SystemClock::new()),
        device_key: keys::load_or_create_device_key(&OsVfs, &state.device_key())?,
        index_key: IndexKey::load_or_create(&OsVfs, &state.index_key())?,
        recipients: recipients(config)?,
        rotation: Rotation {
            records: config.journal.rotate_records,
            bytes: config.journal.rotate_bytes,
            age_ms: config.journal.rotate_ms,
        },
        remember: config.journal.remember,
        accept_damage,
        reserve_bytes: config.journal.reserve_bytes,
        synchronized: config.clock.synchronized_file.clone(),
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
    let hangup = signal(SignalKind::hangup()).map_err(io("signals"))?;
    config.exposed().iter().for_each(|exposed| tracing::warn!("{exposed}"));
    let state = StateDir::new(&config.state);
    if state.decommissioned().exists() {
        return Err(DaemonError::Decommissioned(state.decommissioned()));
    }
    let flasher = Flasher::open(&config)?;
    let genome = match &config.reference {
        Some(reference) if !flasher.has_pack()? => {
            Some(Genome::open(&reference.fasta, &reference.gff, &reference.assembly)?)
        }
        _ => None,
    };
    let gate = Gate::open(&config)?;
    let (traces, posting) = Traces::start(&config.traces, &config.r#box).map_err(DaemonError::Transport)?;
    let (journal, recovery) = open_journal(&config, &state, accept_damage)?;
    if !recovery.clean {
        tracing::warn!(
            torn_bytes = recovery.torn_bytes,
            "the journal was not closed properly; everything answered is there"
        );
    }
    let upkeep = Arc::new(Upkeep::new(
        Arc::new(OsVfs),
        journal.clock(),
        &state.journal(),
        keys::load_or_create_device_key(&OsVfs, &state.device_key())?,
        IndexKey::load_or_create(&OsVfs, &state.index_key())?,
    ));
    let (fatal, mut failed) = watch::channel(None);
    let tell = fatal.clone();
    let metrics = health::install_metrics();
    let unproven = Unproven::open(&state.unproven()).map_err(io("making the folder of marks"))?;
    let (pipeline, threads) = Pipeline::start(PipelineConfig {
        box_name: config.r#box.clone(),
        limits: config.limits.clone(),
        genome,
        index_key: IndexKey::load_or_create(&OsVfs, &state.index_key())?,
        journal,
        unproven: unproven.clone(),
        traces,
        on_fatal: Box::new(move |reason| {
            tell.send_replace(Some(reason));
        }),
    })
    .map_err(io("starting threads"))?;
    // From here on the journal is in use: whatever fails, it is closed.
    let mut running = Running::new(fatal, unproven, upkeep, gate);
    running.watch_access(hangup);
    let ended = match running.start(&config, &state, &pipeline, flasher, recovery, metrics).await {
        Err(error) => Err(error),
        Ok(endpoints) => {
            ready(&endpoints);
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            Ok(tokio::select! {
                _ = terminate.recv() => None,
                _ = interrupt.recv() => None,
                Ok(reason) = failed.wait_for(Option::is_some) => reason.clone(),
                Some(_) = running.tasks.join_next() => Some("a transport ended by a defect".to_owned()),
            })
        }
    };
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    pipeline.drain().await;
    running.stop().await;
    let _ = std::fs::remove_file(state.endpoints());
    let joined = join(pipeline, threads).await;
    if let Some(posting) = posting {
        let _ = tokio::task::spawn_blocking(|| posting.stop()).await;
    }
    let reason = ended?;
    joined?;
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
    fatal: watch::Sender<Option<String>>,
    tasks: JoinSet<()>,
    broker: Option<broker::Embedded>,
    http: Option<http::Listener>,
    mllp: Vec<SocketAddr>,
    link: Option<mqtt::Link>,
    unproven: Unproven,
    upkeep: Arc<Upkeep>,
    gate: Arc<Gate>,
}

/// Where a listener on every address is reached from this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// SIGHUP: certificates and registry are read again. Whoever still may be here stays connected.
async fn reload(gate: Arc<Gate>, mut hangup: Signal, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = hangup.recv() => {}
        }
        let reloading = Arc::clone(&gate);
        match tokio::task::spawn_blocking(move || reloading.reload()).await {
            Ok(Ok(cut)) => tracing::info!(cut, "certificates and registry were read again"),
            Ok(Err(error)) => tracing::error!(%error, "certificates and registry stay as they were"),
            Err(_) => tracing::error!("reading certificates and registry failed by a defect"),
        }
    }
}

impl Running {
    fn new(
        fatal: watch::Sender<Option<String>>,
        unproven: Unproven,
        upkeep: Arc<Upkeep>,
        gate: Arc<Gate>,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), JoinSet::new());
        Self {
            stop,
            fatal,
            tasks,
            broker: None,
            http: None,
            mllp: Vec::new(),
            link: None,
            unproven,
            upkeep,
            gate,
        }
    }

    fn watch_access(&mut self, hangup: Signal) {
        self.tasks.spawn(reload(Arc::clone(&self.gate), hangup, self.stop.clone()));
        self.tasks.spawn(Arc::clone(&self.gate).watch(self.stop.clone()));
    }

    async fn start(
        &mut self,
        config: &Config,
        state: &StateDir,
        pipeline: &Pipeline,
        mut flasher: Flasher,
        recovery: Recovery,
        metrics: Option<PrometheusHandle>,
    ) -> Result<Endpoints, DaemonError> {
        let booted = flasher.boot(pipeline, &self.unproven)?;
        for notice in pipeline.notices() {
            tracing::error!("{notice}");
        }
        std::fs::create_dir_all(state.endpoints().parent().unwrap_or(&PathBuf::from(".")))
            .map_err(io("making the run folder"))?;
        if config.mqtt.mode != MqttMode::Off {
            self.start_mqtt(config, pipeline).await?;
        }
        for line in &config.serial {
            let key = line.key_file.as_deref().map(serial::read_key).transpose();
            let key = key.map_err(DaemonError::Transport)?;
            let (pipeline, line, stop) = (pipeline.clone(), line.clone(), self.stop.clone());
            match line.protocol {
                Protocol::Wire => self.tasks.spawn(serial::run(pipeline, line, key, stop)),
                Protocol::Lis => self.tasks.spawn(lis::run(pipeline, line, config.r#box.clone(), stop)),
            };
        }
        for section in &config.mllp {
            let listener = mllp::Listener::bind(section, &config.r#box).await;
            let listener = listener.map_err(DaemonError::Transport)?;
            self.mllp.push(listener.address);
            self.tasks.spawn(listener.run(pipeline.clone(), self.stop.clone()));
        }
        if let Some(limit) = sd_notify::watchdog_enabled() {
            self.tasks.spawn(watchdog::run(limit, pipeline.clone(), self.stop.clone()));
        }
        if let Some(metrics) = metrics.clone() {
            self.tasks.spawn(health::keep_metrics(metrics, self.stop.clone()));
        }
        let health = Arc::new(Health {
            pipeline: pipeline.clone(),
            state: state.clone(),
            site: config.site.clone(),
            box_name: config.r#box.clone(),
            started: Instant::now(),
            recovery,
            link: self.link.clone(),
            upkeep: Arc::clone(&self.upkeep),
            recipients: recipients(config)?.iter().map(Recipient::id).collect(),
            warn_days: config.journal.warn_days,
            keep: config.journal.keep(),
            notices: Mutex::new(booted),
            metrics,
            shown: Mutex::default(),
        });
        let keep = config.journal.keep();
        if keep.days.is_some() || keep.bytes.is_some() {
            self.tasks.spawn(health::retain(Arc::clone(&health), keep, self.stop.clone()));
        }
        let desk = control::Desk::new(flasher, Arc::clone(&health), Arc::clone(&self.gate));
        if config.http.enabled {
            let listener =
                http::start(config, Arc::clone(&self.gate), Arc::clone(&health), desk.clone()).await;
            self.http = Some(listener.map_err(DaemonError::Transport)?);
        }
        let endpoints = self.endpoints(config);
        endpoints.write(state).map_err(io("writing run/endpoints.json"))?;
        control::listen(state, desk, config.models.watch.clone(), self.stop.clone())
            .map_err(io("control socket"))?;
        Ok(endpoints)
    }

    async fn start_mqtt(&mut self, config: &Config, pipeline: &Pipeline) -> Result<(), DaemonError> {
        let (mut host, mut port, mut own) = (config.mqtt.host.clone(), config.mqtt.port, None);
        if config.mqtt.mode == MqttMode::Embedded {
            let address: IpAddr = if host == "localhost" {
                IpAddr::from([127, 0, 0, 1])
            } else {
                host.parse().map_err(|_| DaemonError::Transport(format!("mqtt.host {host} is no address")))?
            };
            let fatal = self.fatal.clone();
            let ended = move |reason| {
                fatal.send_replace(Some(reason));
            };
            let listening = broker::Listening {
                address: SocketAddr::new(address, port),
                tls_address: SocketAddr::new(config.mqtt.tls_address, config.mqtt.tls_port),
                site: config.site.clone(),
                box_name: config.r#box.clone(),
            };
            let broker = broker::start(&listening, Arc::clone(&self.gate), ended).await;
            let broker = broker.map_err(DaemonError::Transport)?;
            (host, port) = (broker.inner.ip().to_string(), broker.inner.port());
            own = Some(broker.secret.clone());
            self.broker = Some(broker);
        }
        let link = mqtt::Link { own, ..mqtt::Link::new(config, host, port) };
        let options = mqtt::options(&link, &config.mqtt).map_err(DaemonError::Transport)?;
        let (mqtt, stop) = (config.mqtt.clone(), self.stop.clone());
        self.tasks.spawn(mqtt::run(pipeline.clone(), link.clone(), options, mqtt, stop));
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
            mqtt: match &self.broker {
                Some(broker) => Some(broker.address.to_string()),
                None => self.link.as_ref().map(|link| format!("{}:{}", link.host, link.port)),
            },
            mqtts: self.broker.as_ref().map(|broker| reachable(broker.tls_address).to_string()),
            http: self.http.as_ref().map(|http| format!("https://{}", reachable(http.address))),
            serial: config.serial.iter().map(|line| line.path.clone()).collect(),
            mllp: self.mllp.iter().map(ToString::to_string).collect(),
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
