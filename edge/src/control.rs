//! The local socket on which `locusctl` gives orders to a running daemon: one line of JSON each way.

use std::{
    fs::Permissions,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};

use locus_firmware_config::pack::PACK_SLOTS;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::Gate,
    audit::What,
    flashing::{FlashReport, Flasher, OnStep},
    health::Health,
    journal::{Erased, Offloaded},
    slots::Step,
    state::StateDir,
    watch,
};

/// Longest order, in bytes.
const MAX_ORDER_BYTES: u64 = 16 << 10;
/// Time to send an order.
const ORDER: Duration = Duration::from_secs(10);
/// Pause after a connection that could not be taken, such as for want of files.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a trial is looked at.
const SETTLE: Duration = Duration::from_millis(100);
/// Longest time of a flash: engines are built on the device.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// What a daemon can be told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Verify, prove and activate a bundle.
    Flash(PathBuf),
    /// Go back to the previous bundle of a model.
    Rollback(Option<String>),
    /// End a trial well.
    Confirm(Option<String>),
    /// End a trial badly.
    Revert(Option<String>),
    /// Take a model out.
    Remove(String),
    /// Take the next trust document.
    Trust(PathBuf),
    /// Read again who may use the box, and note who was changed and how.
    Access {
        /// Who.
        subject: String,
        /// How.
        reason: String,
    },
    /// Note that a backup is made.
    Backup {
        /// Where to.
        subject: String,
        /// Who opens it.
        reason: String,
    },
    /// Say how it is.
    Health,
    /// Make everything of a subject unreadable.
    Erase(String),
    /// Copy finished segments to a folder, and free what need not stay; or only copy.
    Offload {
        /// The folder.
        to: PathBuf,
        /// Whether all stays on the box too.
        keep: bool,
    },
    /// Say whether the clock is trusted; believe it, where that is ordered.
    Clock {
        /// Whether to believe it.
        accept: bool,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    /// How far it has come; more follows.
    Step(Step),
    Ok(Value),
    Error(String),
}

/// Listens until `stop`.
///
/// # Errors
/// The socket cannot be made.
pub(crate) fn listen(
    state: &StateDir,
    desk: Desk,
    watched: Option<PathBuf>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let path = state.control_socket();
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    // Whoever may write to it may change the model.
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let (flasher, health) = (Arc::clone(&desk.flasher), Arc::clone(&desk.health));
    tokio::spawn(settle(Arc::clone(&flasher), Arc::clone(&health), stop.clone()));
    if let Some(folder) = watched {
        tokio::spawn(watch::run(folder, flasher, health, stop.clone()));
    }
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => drop(tokio::spawn(serve(stream, desk.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "an order could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

/// Ends trials by themselves. The count of answers is looked at, never waited for by an answer.
async fn settle(flasher: Arc<Mutex<Flasher>>, health: Arc<Health>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SETTLE) => {}
        }
        let (flasher, health) = (Arc::clone(&flasher), Arc::clone(&health));
        let settled = tokio::task::spawn_blocking(move || {
            // Whoever flashes has the flasher for long; the next look is soon.
            let mut flasher = match flasher.try_lock() {
                Ok(flasher) => flasher,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let notices = if flasher.unsettled() { flasher.settle(&health.pipeline) } else { Vec::new() };
            for notice in notices {
                tracing::error!("{}", notice.text);
                health.notice(notice);
            }
        });
        let _ = settled.await;
    }
}

async fn serve(stream: tokio::net::UnixStream, desk: Desk) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(MAX_ORDER_BYTES));
    if !matches!(tokio::time::timeout(ORDER, reader.read_line(&mut line)).await, Ok(Ok(_))) {
        return;
    }
    let (tell, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let obeyed = match serde_json::from_str(&line) {
        Err(error) => {
            drop(tell);
            let reply = Reply::Error(format!("got an order that cannot be read: {error}"));
            tokio::task::spawn_blocking(move || reply)
        }
        Ok(order) => tokio::task::spawn_blocking(move || {
            let tell: OnStep = Arc::new(move |step: &Step| drop(tell.send(step.clone())));
            desk.obey(order, None, tell).map_or_else(Reply::Error, Reply::Ok)
        }),
    };
    // Ends with the order, which holds the other end.
    while let Some(step) = steps.recv().await {
        let _ = writer.write_all(&line_of(&Reply::Step(step))).await;
    }
    let reply = obeyed.await.unwrap_or_else(|_| Reply::Error("the order failed by a defect".into()));
    let _ = writer.write_all(&line_of(&reply)).await;
}

fn line_of(reply: &Reply) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(reply).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// Where orders come in, whoever gives them.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    flasher: Arc<Mutex<Flasher>>,
    health: Arc<Health>,
    gate: Arc<Gate>,
}

/// The slots while an order is obeyed, on behalf of whoever gave it.
struct Behalf<'a>(MutexGuard<'a, Flasher>);

impl Drop for Behalf<'_> {
    fn drop(&mut self) {
        self.0.on_behalf(None);
    }
}

impl Desk {
    pub(crate) fn new(flasher: Flasher, health: Arc<Health>, gate: Arc<Gate>) -> Self {
        Self { flasher: Arc::new(Mutex::new(flasher)), health, gate }
    }

    fn flasher(&self, by: Option<&str>) -> Behalf<'_> {
        let mut flasher = self.flasher.lock().unwrap_or_else(PoisonError::into_inner);
        flasher.on_behalf(by);
        Behalf(flasher)
    }

    /// Obeys; blocks for as long as it takes. `by` is the name of whoever ordered it over the network, and is in the
    /// audit trail.
    ///
    /// # Errors
    /// Why it was refused, in words.
    pub(crate) fn obey(&self, order: Order, by: Option<&str>, tell: OnStep) -> Result<Value, String> {
        let health = &self.health;
        let said = |error: crate::slots::SlotError| error.to_string();
        let changed = |report: FlashReport| {
            if !report.flashed.unchanged {
                // The slots of packs have a name of their own.
                health.settled(if report.kind == PACK_SLOTS { PACK_SLOTS } else { &report.flashed.name });
            }
            value(&report)
        };
        match order {
            Order::Health => value(&health.report()),
            // It counts before it is written down: whoever was revoked does not wait for a flash to end.
            Order::Access { subject, reason } => {
                let cut = self.gate.reload().map_err(|error| error.to_string())?;
                self.flasher(by).0.note(What::Access, subject, reason).map_err(said)?;
                value(&cut)
            }
            Order::Backup { subject, reason } => {
                self.flasher(by).0.note(What::Backup, subject, reason).map_err(said)?;
                value(&true)
            }
            Order::Flash(path) => {
                let report = self.flasher(by).0.flash_telling(&path, Some(&health.pipeline), tell);
                changed(report.map_err(said)?)
            }
            Order::Erase(subject) => self.audited(by, What::Erase, None, || erase(health, &subject)),
            Order::Offload { to, keep } => {
                let place = Some(to.display().to_string());
                self.audited(by, What::Offload, place, || offload(health, &to, keep))
            }
            Order::Clock { accept: false } => value(&health.report().clock),
            Order::Clock { accept: true } => self.audited(by, What::Clock, None, || {
                health.pipeline.journal().clock().accept();
                let clock = health.report().clock;
                let said = clock.state.to_owned();
                Ok((clock, said))
            }),
            Order::Confirm(model) => {
                let report = self.flasher(by).0.confirm(model.as_deref(), Some(&health.pipeline));
                changed(report.map_err(said)?)
            }
            Order::Revert(model) => {
                let reverted =
                    self.flasher(by).0.revert(model.as_deref(), Some(&health.pipeline), "by order");
                value(&reverted.map_err(said)?)
            }
            Order::Trust(path) => value(&self.flasher(by).0.update_trust(&path).map_err(said)?),
            Order::Remove(model) => {
                let removed = self.flasher(by).0.remove(&model, Some(&health.pipeline)).map_err(said)?;
                health.settled(&model);
                value(&removed)
            }
            Order::Rollback(model) => {
                let report = self.flasher(by).0.roll_back(model.as_deref(), Some(&health.pipeline));
                changed(report.map_err(said)?)
            }
        }
    }

    fn audited<T: Serialize>(
        &self,
        by: Option<&str>,
        what: What,
        subject: Option<String>,
        work: impl FnOnce() -> Result<(T, String), String>,
    ) -> Result<Value, String> {
        value(&self.flasher(by).0.attempt(what, subject, work)?)
    }
}

fn erase(health: &Health, subject: &str) -> Result<(Erased, String), String> {
    let hold = health.upkeep.hold();
    let (open, now) = health.pipeline.journal().erase(subject)?;
    let before = hold.erase(None, Some(open), subject).map_err(|error| error.to_string())?;
    let erased = now.and(before);
    Ok((erased, format!("{} records", erased.records)))
}

fn offload(health: &Health, to: &Path, keep: bool) -> Result<(Offloaded, String), String> {
    let (_, head) = health.pipeline.journal().head();
    let open = head.map(|head| head.segment).ok_or("the journal has stopped")?;
    let keep = (!keep).then_some(health.keep);
    let offloaded = health.upkeep.hold().offload(to, Some(open), keep.as_ref());
    let offloaded = offloaded.map_err(|error| error.to_string())?;
    let said = format!("{} segments copied, {} freed", offloaded.segments, offloaded.freed.segments);
    Ok((offloaded, said))
}

fn value(report: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(report).map_err(|error| error.to_string())
}

/// Gives an order to the daemon of a state folder; `None` where none runs. `tell` hears of the steps of a flash.
///
/// # Errors
/// What the daemon refused, or a broken connection.
pub fn order(state: &StateDir, order: &Order, tell: &dyn Fn(&Step)) -> Result<Option<Value>, String> {
    let Ok(mut stream) = UnixStream::connect(state.control_socket()) else { return Ok(None) };
    let broken = |error: std::io::Error| format!("the daemon did not answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = serde_json::to_vec(order).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut reply = String::new();
        reader.read_line(&mut reply).map_err(broken)?;
        match serde_json::from_str(&reply).map_err(|_| "the daemon ended before it answered".to_owned())? {
            Reply::Step(step) => tell(&step),
            Reply::Ok(value) => return Ok(Some(value)),
            Reply::Error(reason) => return Err(reason),
        }
    }
}
