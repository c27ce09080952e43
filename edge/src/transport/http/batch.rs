//! `POST /v1/predict:batch`: many requests in one body, each with an outcome of its own, streamed as they are answered.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt as _, stream};
use locus_firmware_config::message::{Fault, FaultCode, Lane, MAX_MESSAGE_BYTES, Outcome, Request};
use serde_json::value::RawValue;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use super::{BODY, Caller, Shared, parent};
use crate::traces::Parent;

/// Most requests of a batch.
const MAX_REQUESTS: usize = 10_000;
/// Most bytes of a batch.
const MAX_BYTES: usize = 32 << 20;
/// Most bytes of a batch that is one array: it is read whole.
const MAX_ARRAY_BYTES: usize = 4 << 20;
/// Requests of one batch in work at once.
const AT_ONCE: usize = 64;
/// Answers that wait for whoever asked to read them.
const UNREAD: usize = 64;
/// Time to read an answer.
const READING: Duration = Duration::from_secs(30);
/// How long a request of a batch waits for a place before it is answered `busy`.
const PLACE: Duration = Duration::from_secs(30);

/// What goes back for a line that came.
struct Told {
    line: usize,
    outcome: Arc<Outcome>,
}

impl Told {
    /// `{"line": 1, "status": 200, "outcome": {…}}`
    fn to_line(&self) -> Bytes {
        let status = match &*self.outcome {
            Outcome::Answer(_) => StatusCode::OK.as_u16(),
            Outcome::Fault(fault) => fault.code.http_status(),
        };
        let mut line = format!("{{\"line\":{},\"status\":{status},\"outcome\":", self.line).into_bytes();
        line.extend_from_slice(&self.outcome.to_json());
        line.extend_from_slice(b"}\n");
        line.into()
    }
}

/// Answers a batch. The head of the response comes at once, so that answers can follow while requests still come.
pub(super) async fn predict(
    State(shared): State<Arc<Shared>>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (tell, told) = mpsc::channel::<Told>(UNREAD);
    let parent = parent(&headers);
    let batch =
        Batch { shared, who, parent, tell, places: Arc::new(Semaphore::new(AT_ONCE)), line: 0, skips: false };
    tokio::spawn(batch.run(body));
    let lines = stream::unfold(told, |mut told| async move {
        let one = told.recv().await?;
        Some((Ok::<_, Infallible>(one.to_line()), told))
    });
    let headers = [(header::CONTENT_TYPE, "application/jsonl"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, Body::from_stream(lines)).into_response()
}

struct Batch {
    shared: Arc<Shared>,
    who: crate::access::Identity,
    parent: Parent,
    tell: mpsc::Sender<Told>,
    places: Arc<Semaphore>,
    line: usize,
    /// The rest of a line that was too long is thrown away up to its end.
    skips: bool,
}

/// Why no more of a batch is read; `None` where nobody is there to be told.
type Stopped = Option<Fault>;

fn bad(message: impl Into<String>) -> Stopped {
    Some(Fault::new(FaultCode::BadRequest, message.into()))
}

impl Batch {
    async fn run(mut self, body: Body) {
        let mut chunks = body.into_data_stream();
        if let Err(Some(fault)) = self.read(&mut chunks).await {
            // Who still writes would not read why it is refused.
            let mut thrown_away = 0;
            while let Ok(Some(Ok(chunk))) = timeout(BODY, chunks.next()).await {
                thrown_away += chunk.len();
                if thrown_away > MAX_BYTES {
                    break;
                }
            }
            self.line += 1;
            let told = Told { line: self.line, outcome: Arc::new(Outcome::Fault(fault)) };
            let _ = timeout(READING, self.tell.send(told)).await;
        }
    }

    async fn read(&mut self, chunks: &mut BodyDataStream) -> Result<(), Stopped> {
        let (mut waiting, mut seen, mut array) = (Zeroizing::new(Vec::<u8>::new()), 0, None);
        loop {
            let chunk = match timeout(BODY, chunks.next()).await {
                Err(_) => {
                    return Err(bad("got nothing for 10 s, expected the rest of the batch; send it again"));
                }
                Ok(None) => break,
                Ok(Some(Err(_))) => return Err(bad("got a batch that is cut off, expected a whole one")),
                Ok(Some(Ok(chunk))) => chunk,
            };
            seen += chunk.len();
            if seen > MAX_BYTES {
                let message = format!("got over {MAX_BYTES} bytes, expected at most so many in a batch");
                return Err(Some(Fault::new(FaultCode::TooLarge, message)));
            }
            waiting.extend_from_slice(&chunk);
            if array.is_none() {
                let first = waiting.iter().find(|byte| !byte.is_ascii_whitespace());
                array = first.map(|first| *first == b'[');
            }
            match array {
                Some(true) if waiting.len() > MAX_ARRAY_BYTES => {
                    let message = format!(
                        "got an array of over {MAX_ARRAY_BYTES} bytes, expected a shorter one, or one request a line"
                    );
                    return Err(Some(Fault::new(FaultCode::TooLarge, message)));
                }
                Some(false) => self.lines(&mut waiting).await?,
                _ => {}
            }
        }
        if array == Some(true) {
            let all: Vec<&RawValue> = serde_json::from_slice(&waiting)
                .map_err(|error| bad(format!("got an array that cannot be read: {error}")))?;
            for one in all {
                self.take(one.get().as_bytes()).await?;
            }
            return Ok(());
        }
        self.take(&waiting).await
    }

    /// Takes the whole lines of what came.
    async fn lines(&mut self, waiting: &mut Zeroizing<Vec<u8>>) -> Result<(), Stopped> {
        if self.skips {
            let end = waiting.iter().position(|byte| *byte == b'\n');
            self.skips = end.is_none();
            let rest = end.unwrap_or(waiting.len());
            waiting.drain(..rest);
        }
        let Some(end) = waiting.iter().rposition(|byte| *byte == b'\n') else {
            if waiting.len() > MAX_MESSAGE_BYTES {
                self.take(waiting).await?;
                waiting.clear();
                self.skips = true;
            }
            return Ok(());
        };
        let rest = Zeroizing::new(waiting.split_off(end + 1));
        let whole = std::mem::replace(waiting, rest);
        for line in whole.split(|byte| *byte == b'\n') {
            self.take(line).await?;
        }
        Ok(())
    }

    /// Asks one request, once there is a place for it.
    async fn take(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if self.line == MAX_REQUESTS {
            return Err(bad(format!(
                "got over {MAX_REQUESTS} requests, expected at most so many in a batch"
            )));
        }
        // Who was revoked meanwhile gets no further answer.
        self.shared.gate.still(&self.who).map_err(|refusal| {
            refusal.count("http");
            bad(refusal.message())
        })?;
        self.line += 1;
        let line = self.line;
        let request = if bytes.len() > MAX_MESSAGE_BYTES {
            let message =
                format!("got over {MAX_MESSAGE_BYTES} bytes, expected at most so many in a request");
            Err(Fault::new(FaultCode::TooLarge, message))
        } else {
            Request::from_json(bytes)
        };
        let request = request.map(|request| Request { lane: Some(Lane::Batch), ..request });
        let (Ok(place), tell) = (Arc::clone(&self.places).acquire_owned().await, self.tell.clone()) else {
            return Err(None);
        };
        if tell.is_closed() {
            return Err(None);
        }
        let (shared, who, parent) = (Arc::clone(&self.shared), self.who.clone(), self.parent.clone());
        tokio::spawn(async move {
            let answered = answer(&shared, &who.name, request, &parent);
            tokio::select! {
                outcome = answered => {
                    let _ = timeout(READING, tell.send(Told { line, outcome })).await;
                }
                () = tell.closed() => {}
            }
            drop(place);
        });
        Ok(())
    }
}

/// Asks again while the box is busy, for as long as a batch waits.
pub(super) async fn answer(
    shared: &Shared,
    terminal: &str,
    request: Result<Request, Fault>,
    parent: &Parent,
) -> Arc<Outcome> {
    let ends = Instant::now() + PLACE;
    loop {
        let outcome = shared.health.pipeline.ask_within(terminal, "http", request.clone(), parent).await;
        let pause = match &*outcome {
            Outcome::Fault(fault) if fault.code == FaultCode::Busy => {
                Duration::from_millis(fault.retry_after_ms.unwrap_or(100).into())
            }
            _ => return outcome,
        };
        if Instant::now() + pause >= ends {
            return outcome;
        }
        tokio::time::sleep(pause).await;
    }
}
