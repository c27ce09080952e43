//! What the operator's page shows and orders. Every order goes the way that one on the local socket goes, with the name of
//! whoever gave it in the audit trail.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use locus_engine::{
    Bundle, Limits, Trust,
    bundle::{Pack, is_pack},
};
use locus_firmware_config::pack::MAX_PACK_BYTES;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::{BODY, Caller, Shared, json as response};
use crate::{
    audit,
    control::Order,
    flashing::OnStep,
    keys::read_device_public,
    slots::{FileSlotStore, SlotRecord, Step},
    state::StateDir,
    vfs::OsVfs,
};

/// Most entries of the audit trail that are shown; the latest.
const MAX_ENTRIES: usize = 200;
/// Most bytes of an order.
const MAX_ORDER_BYTES: usize = 1 << 10;
/// Longest pause in an upload.
const PAUSE: Duration = Duration::from_secs(30);
/// Bytes of an upload after which the room is looked at again.
const LOOK: u64 = 8 << 20;
/// How an uploaded file is called until it was flashed or refused.
const UPLOADED: &str = "uploaded-";

/// One upload at a time: each takes room on the disk.
static UPLOADS: Semaphore = Semaphore::const_new(1);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The model that an order is for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    model: Option<String>,
}

fn refused(status: StatusCode, message: impl Into<String>) -> Response {
    let body = json!({ "code": "refused", "message": message.into(), "retryable": false });
    response(status, body.to_string().into_bytes())
}

fn defect() -> Response {
    refused(StatusCode::INTERNAL_SERVER_ERROR, "the box failed at this by a defect; look at its log")
}

/// Health, slots and journal, without disturbing anything.
pub(super) async fn overview(State(shared): State<Arc<Shared>>) -> Response {
    let looked = tokio::task::spawn_blocking(move || {
        let (health, state) = (&shared.health, &shared.health.state);
        let (records, checkpoint) = health.pipeline.journal().head();
        let slots = |dir: &Path| FileSlotStore::peek(&OsVfs, dir).map_err(|error| error.to_string());
        let (models, packs) = (slots(&state.slots())?, slots(&state.packs())?);
        let mut stored = BTreeMap::new();
        for (record, dir) in [(&models, state.slots()), (&packs, state.packs())] {
            stored.extend(named(record, &dir.join("bundles")));
        }
        Ok::<_, String>(json!({
            "health": health.report(),
            "slots": models.models,
            "packs": packs.models,
            "stored": stored,
            "records": records,
            "checkpoint": checkpoint,
            "recipients": health.recipients,
            "authority": shared.gate.fingerprint(),
            "trial": { "after": shared.confirm_after, "by_hand": shared.confirm_by_hand },
        }))
    });
    match looked.await {
        Ok(Ok(body)) => response(StatusCode::OK, body.to_string().into_bytes()),
        Ok(Err(error)) => refused(StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(_) => defect(),
    }
}

/// Name and version of every bundle that a record names, where its file says so: the digest is that of what it says.
fn named(record: &SlotRecord, bundles: &Path) -> BTreeMap<String, Value> {
    let slots = record.models.values();
    let digests = slots.flat_map(|slots| [&slots.active, &slots.previous, &slots.trial]).flatten();
    let mut named = BTreeMap::new();
    for digest in digests {
        let path = bundles.join(format!("{digest}.locus"));
        let bytes = std::fs::metadata(&path).map(|about| about.len()).ok();
        let about = if is_pack(&path).unwrap_or(false) {
            Pack::announced(&path, &Trust::AllowUnsigned)
                .ok()
                .map(|(manifest, _)| (manifest.name, manifest.version.to_string()))
        } else {
            Bundle::announced(&path, &Trust::AllowUnsigned, &Limits::default())
                .ok()
                .map(|manifest| (manifest.name, manifest.version.to_string()))
        };
        if let Some((name, version)) = about {
            named.insert(digest.clone(), json!({ "name": name, "version": version, "bytes": bytes }));
        }
    }
    named
}

/// The latest of the audit trail, and what is wrong with it.
pub(super) async fn trail(State(shared): State<Arc<Shared>>) -> Response {
    let read = tokio::task::spawn_blocking(move || {
        let state = &shared.health.state;
        let device = read_device_public(&OsVfs, &state.device_public()).map_err(|error| error.to_string())?;
        audit::verify(&OsVfs, &state.audit(), &device).map_err(|error| error.to_string())
    });
    match read.await {
        Ok(Ok(verified)) => {
            let from = verified.entries.len().saturating_sub(MAX_ENTRIES);
            let body = json!({ "entries": verified.entries[from..], "findings": verified.findings });
            response(StatusCode::OK, body.to_string().into_bytes())
        }
        Ok(Err(error)) => refused(StatusCode::INTERNAL_SERVER_ERROR, error),
        Err(_) => defect(),
    }
}

pub(super) async fn confirm(State(shared): State<Arc<Shared>>, Caller(who): Caller, body: Body) -> Response {
    order(shared, &who.name, body, Order::Confirm).await
}

pub(super) async fn revert(State(shared): State<Arc<Shared>>, Caller(who): Caller, body: Body) -> Response {
    order(shared, &who.name, body, Order::Revert).await
}

pub(super) async fn roll_back(
    State(shared): State<Arc<Shared>>,
    Caller(who): Caller,
    body: Body,
) -> Response {
    order(shared, &who.name, body, Order::Rollback).await
}

async fn order(shared: Arc<Shared>, who: &Arc<str>, body: Body, of: fn(Option<String>) -> Order) -> Response {
    let bytes = match timeout(BODY, to_bytes(body, MAX_ORDER_BYTES)).await {
        Ok(Ok(bytes)) => bytes,
        _ => return refused(StatusCode::BAD_REQUEST, "got no whole order, expected one; send it again"),
    };
    let Ok(About { model }) = serde_json::from_slice(&bytes) else {
        let message = "got an order that cannot be read, expected {\"model\": NAME}";
        return refused(StatusCode::BAD_REQUEST, message);
    };
    let who = Arc::clone(who);
    let obeyed =
        tokio::task::spawn_blocking(move || shared.desk.obey(of(model), Some(&who), Arc::new(|_: &Step| {})));
    match obeyed.await {
        Ok(Ok(value)) => response(StatusCode::OK, json!({ "ok": value }).to_string().into_bytes()),
        Ok(Err(reason)) => refused(StatusCode::CONFLICT, reason),
        Err(_) => defect(),
    }
}

/// A file that was uploaded; removed when this goes, whatever came of it.
struct Upload(PathBuf);

impl Drop for Upload {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Removes what an end of the daemon left of uploads.
pub(super) fn clean(state: &StateDir) {
    let folder = state.run();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UPLOADED) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Takes a bundle or pack into a file, then flashes it as `locusctl flash` does; the steps are streamed, one JSON value a
/// line, and the last line says what came of it.
pub(super) async fn flash(
    State(shared): State<Arc<Shared>>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Ok(place) = UPLOADS.try_acquire() else {
        return refused(StatusCode::CONFLICT, "another file is being uploaded or flashed; wait for its end");
    };
    let upload = match take(&shared, &headers, body).await {
        Ok(upload) => upload,
        Err((status, message)) => return refused(status, message),
    };
    let (tell, told) = mpsc::unbounded_channel::<Value>();
    let steps = tell.clone();
    tokio::task::spawn_blocking(move || {
        let on_step: OnStep = Arc::new(move |step: &Step| drop(steps.send(json!({ "step": step }))));
        let path = upload.0.clone();
        let obeyed = shared.desk.obey(Order::Flash(path), Some(&who.name), on_step);
        drop((upload, place));
        let _ =
            tell.send(obeyed.map_or_else(|why| json!({ "error": why }), |report| json!({ "ok": report })));
    });
    let lines = stream::unfold(told, |mut told| async move {
        let value = told.recv().await?;
        Some((Ok::<_, io::Error>(Bytes::from(format!("{value}\n"))), told))
    });
    let headers = [(header::CONTENT_TYPE, "application/jsonl"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, Body::from_stream(lines)).into_response()
}

async fn take(shared: &Shared, headers: &HeaderMap, body: Body) -> Result<Upload, (StatusCode, String)> {
    let failed = |error: io::Error| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("the upload cannot be written: {error}"))
    };
    let state = &shared.health.state;
    let reserve = shared.health.pipeline.journal().space().reserve_bytes();
    // It is stored once more, beside the upload, before the upload goes.
    let room = |still: u64, whole: u64| {
        let (more, free) = (still.saturating_add(whole), state.free_bytes().unwrap_or(0));
        (more <= free.saturating_sub(reserve)).then_some(()).ok_or_else(|| {
            let message = format!(
                "got a file that takes {more} bytes more, twice its size, expected no more than the {} that are free beside the reserve of the journal; free room first",
                free.saturating_sub(reserve)
            );
            (StatusCode::INSUFFICIENT_STORAGE, message)
        })
    };
    let length: Option<u64> =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(length) = length {
        room(length, length)?;
    }
    let folder = state.run();
    tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
    let name = format!("{UPLOADED}{}-{}.locus", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let upload = Upload(folder.join(name));
    let mut file = tokio::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&upload.0)
        .await
        .map_err(failed)?;
    let (mut chunks, mut got, mut looked) = (body.into_data_stream(), 0, 0);
    loop {
        let chunk = match timeout(PAUSE, chunks.next()).await {
            Err(_) => {
                return Err((StatusCode::REQUEST_TIMEOUT, "got nothing for 30 s; send it again".to_owned()));
            }
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err((StatusCode::BAD_REQUEST, "got an upload that is cut off; send it again".into()));
            }
            Ok(Some(Ok(chunk))) => chunk,
        };
        got += chunk.len() as u64;
        if got > MAX_PACK_BYTES {
            let message = format!("got over {MAX_PACK_BYTES} bytes, which no bundle or pack has");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if got - looked > LOOK {
            looked = got;
            // What was written already is no longer free.
            let whole = length.unwrap_or(got + LOOK).max(got);
            room(whole - got, whole)?;
        }
        file.write_all(&chunk).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    if got == 0 {
        return Err((StatusCode::BAD_REQUEST, "got an empty file, expected a bundle or a pack".into()));
    }
    Ok(upload)
}
