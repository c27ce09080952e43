//! The local socket on which `locusctl` gives orders to a running daemon: one line of JSON each way.

use std::{
    fs::Permissions,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};
use tokio_util::sync::CancellationToken;

use crate::{
    flashing::{FlashReport, Flasher},
    health::Health,
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
    /// Go back to the previous model.
    Rollback,
    /// End the trial well.
    Confirm,
    /// End the trial badly.
    Revert,
    /// Take the next trust document.
    Trust(PathBuf),
    /// Say how it is.
    Health,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Ok(Value),
    Error(String),
}

/// Listens until `stop`.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(
    state: &StateDir,
    flasher: Flasher,
    health: Arc<Health>,
    watched: Option<PathBuf>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let path = state.control_socket();
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    // Whoever may write to it may change the model.
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let flasher = Arc::new(Mutex::new(flasher));
    tokio::spawn(settle(Arc::clone(&flasher), Arc::clone(&health), stop.clone()));
    if let Some(folder) = watched {
        tokio::spawn(watch::run(folder, Arc::clone(&flasher), Arc::clone(&health), stop.clone()));
    }
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (flasher, health) = (Arc::clone(&flasher), Arc::clone(&health));
                    tokio::spawn(serve(stream, flasher, health));
                }
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
        if health.pipeline.tried().is_none() {
            continue;
        }
        let (flasher, health) = (Arc::clone(&flasher), Arc::clone(&health));
        let settled = tokio::task::spawn_blocking(move || {
            let mut flasher = flasher.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(notice) = flasher.settle(&health.pipeline) {
                tracing::error!("{notice}");
                health.notice(vec![notice]);
            }
        });
        let _ = settled.await;
    }
}

async fn serve(stream: tokio::net::UnixStream, flasher: Arc<Mutex<Flasher>>, health: Arc<Health>) {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(MAX_ORDER_BYTES));
    if !matches!(tokio::time::timeout(ORDER, reader.read_line(&mut line)).await, Ok(Ok(_))) {
        return;
    }
    let reply = match serde_json::from_str(&line) {
        Err(error) => Reply::Error(format!("got an order that cannot be read: {error}")),
        Ok(order) => tokio::task::spawn_blocking(move || obey(order, &flasher, &health))
            .await
            .unwrap_or_else(|_| Reply::Error("the order failed by a defect".into())),
    };
    let mut bytes = serde_json::to_vec(&reply).unwrap_or_default();
    bytes.push(b'\n');
    let _ = writer.write_all(&bytes).await;
}

fn obey(order: Order, flasher: &Mutex<Flasher>, health: &Arc<Health>) -> Reply {
    let changed = |result: Result<FlashReport, crate::slots::SlotError>| match result {
        Ok(report) => {
            // What was to be known of the slots is settled by a model that was proved and recorded just now.
            if !report.flashed.unchanged {
                health.notice(Vec::new());
            }
            value(&report)
        }
        Err(error) => Reply::Error(error.to_string()),
    };
    match order {
        Order::Health => value(&health.report()),
        Order::Flash(path) => {
            let mut flasher = flasher.lock().unwrap_or_else(PoisonError::into_inner);
            changed(flasher.flash(&path, Some(&health.pipeline)))
        }
        Order::Confirm => {
            let mut flasher = flasher.lock().unwrap_or_else(PoisonError::into_inner);
            changed(flasher.confirm(Some(&health.pipeline)))
        }
        Order::Revert => {
            let mut flasher = flasher.lock().unwrap_or_else(PoisonError::into_inner);
            let reverted = flasher.revert(Some(&health.pipeline), "by order");
            reverted.map_or_else(|error| Reply::Error(error.to_string()), |digest| value(&digest))
        }
        Order::Trust(path) => {
            let mut flasher = flasher.lock().unwrap_or_else(PoisonError::into_inner);
            flasher
                .update_trust(&path)
                .map_or_else(|error| Reply::Error(error.to_string()), |report| value(&report))
        }
        Order::Rollback => {
            let mut flasher = flasher.lock().unwrap_or_else(PoisonError::into_inner);
            changed(flasher.roll_back(Some(&health.pipeline)))
        }
    }
}

fn value(report: &impl Serialize) -> Reply {
    serde_json::to_value(report).map_or_else(|error| Reply::Error(error.to_string()), Reply::Ok)
}

/// Gives an order to the daemon of a state folder; `None` where none runs.
///
/// # Errors
/// What the daemon refused, or a broken connection.
pub fn order(state: &StateDir, order: &Order) -> Result<Option<Value>, String> {
    let Ok(mut stream) = UnixStream::connect(state.control_socket()) else { return Ok(None) };
    let broken = |error: std::io::Error| format!("the daemon did not answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    let mut line = serde_json::to_vec(order).map_err(|error| error.to_string())?;
    line.push(b'\n');
    stream.write_all(&line).map_err(broken)?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).map_err(broken)?;
    match serde_json::from_str(&reply).map_err(|_| "the daemon ended before it answered".to_owned())? {
        Reply::Ok(value) => Ok(Some(value)),
        Reply::Error(reason) => Err(reason),
    }
}
