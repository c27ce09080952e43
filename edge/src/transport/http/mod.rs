//! HTTPS: requests, health, measurements, and what describes them.

mod annotate;
mod batch;
mod caller;
mod describe;
mod operator;
mod page;
mod session;

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{from_fn_with_state, map_response},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use axum_server::{Handle, accept::Accept};
use futures_util::StreamExt as _;
use locus_firmware_config::message::{Fault, FaultCode, MAX_MESSAGE_BYTES, Outcome, Request};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use crate::{
    access::{Action, Cut, Door, Gate, Refusal},
    config::Config,
    control::Desk,
    health::Health,
    traces::{self, Parent},
};
use caller::{Caller, Connection};

/// Header in which a terminal may repeat who it is; another name than the authenticated one is refused.
pub const TERMINAL_HEADER: &str = "locus-terminal";
/// Most bytes of a body that is too large that are read before the connection is closed.
const MAX_THROWN_AWAY_BYTES: usize = 32 << 20;
/// Time to send a body.
const BODY: Duration = Duration::from_secs(10);
/// Time to send the head of a request, the first one too.
const HEAD: Duration = Duration::from_secs(10);

/// What every route shares.
#[derive(Debug)]
struct Shared {
    gate: Arc<Gate>,
    health: Arc<Health>,
    desk: Desk,
    confirm_after: u32,
    confirm_by_hand: bool,
}

/// A running listener.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    handle: Handle<SocketAddr>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// Starts to listen.
///
/// # Errors
/// The address is taken.
pub(crate) async fn start(
    config: &Config,
    gate: Arc<Gate>,
    health: Arc<Health>,
    desk: Desk,
) -> Result<Listener, String> {
    let address = SocketAddr::new(config.http.address, config.http.port);
    operator::clean(&health.state);
    let failed = |error: io::Error| format!("HTTPS on {address}: {error}");
    let handle = Handle::new();
    let listener = std::net::TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let door = Door { gate: Arc::clone(&gate), web: true };
    let mut server = axum_server::from_tcp(listener)
        .map_err(failed)?
        .acceptor(door)
        .handle(handle.clone())
        .first_request_timeout(HEAD)
        .http1_only();
    server
        .http_builder()
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 << 10);
    let (confirm_after, confirm_by_hand) = (config.models.confirm_after, config.models.confirm_by_hand);
    let shared = Shared { gate, health, desk, confirm_after, confirm_by_hand };
    let service = router(shared).into_make_service();
    let task = tokio::spawn(async move { server.serve(service).await });
    let address =
        handle.listening().await.ok_or_else(|| format!("HTTPS on {address}: it does not listen"))?;
    Ok(Listener { address, handle, task })
}

impl Accept<TcpStream, Router> for Door {
    type Stream = Cut<TlsStream<TcpStream>>;
    type Service = Router;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, Router)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: Router) -> Self::Future {
        let door = self.clone();
        Box::pin(async move {
            let entered = door.enter(stream).await?;
            let connection = Connection { peer: entered.peer, guest: entered.guest, from: entered.from.ip() };
            Ok((entered.stream, service.layer(Extension(Arc::new(connection)))))
        })
    }
}

impl Listener {
    /// Lets what runs end, then closes.
    pub async fn stop(self) {
        self.handle.graceful_shutdown(Some(Duration::from_secs(2)));
        if !matches!(self.task.await, Ok(Ok(()))) {
            tracing::warn!("HTTPS did not end properly");
        }
    }
}

/// Every route: path, method, who may, and what it does. `/ready`, `/health` and `/v1/session` answer anybody, and so do the
/// files of the pages.
fn router(shared: Shared) -> Router {
    let shared = Arc::new(shared);
    let session = get(session::show).post(session::begin).delete(session::end);
    let open = Router::new().route("/ready", get(ready)).route("/health", get(show_health));
    let mut router = page::routes(open.route("/v1/session", session));
    let routes: [(&str, Action, MethodRouter<Arc<Shared>>); 13] = [
        ("/predict", Action::Ask, post(predict)),
        ("/v1/predict:batch", Action::Ask, post(batch::predict)),
        ("/v1/annotate", Action::Ask, post(annotate::annotate)),
        ("/v1/operator", Action::Operate, get(operator::overview)),
        ("/v1/audit", Action::Operate, get(operator::trail)),
        ("/v1/flash", Action::Operate, post(operator::flash)),
        ("/v1/confirm", Action::Operate, post(operator::confirm)),
        ("/v1/revert", Action::Operate, post(operator::revert)),
        ("/v1/rollback", Action::Operate, post(operator::roll_back)),
        ("/v1/checkpoint", Action::Checkpoint, get(checkpoint)),
        ("/metrics", Action::Metrics, get(show_metrics)),
        ("/openapi.json", Action::Look, get(describe::openapi)),
        ("/docs", Action::Look, get(describe::page)),
    ];
    for (path, action, route) in routes {
        let gate = from_fn_with_state(Arc::clone(&shared), move |state, connection, request, next| {
            caller::may(action, state, connection, request, next)
        });
        router = router.route(path, route.route_layer(gate));
    }
    let router = router.fallback(unknown).method_not_allowed_fallback(unknown).with_state(shared);
    router.layer(map_response(with_headers))
}

/// What every response says, where its route says nothing else.
async fn with_headers(mut response: Response) -> Response {
    for (name, value) in page::HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn unknown() -> Response {
    let message = "got a path or method that is not there, expected the pages / and /operator, POST /predict, POST /v1/predict:batch, POST /v1/annotate, GET /v1/checkpoint, GET /health, GET /ready, GET /metrics, GET /openapi.json, GET /docs, /v1/session, or an operator's GET /v1/operator, GET /v1/audit, POST /v1/flash, POST /v1/confirm, POST /v1/revert or POST /v1/rollback";
    let mut response = outcome_response(&Outcome::Fault(Fault::new(FaultCode::BadRequest, message)));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn predict(
    State(shared): State<Arc<Shared>>,
    Caller(who): Caller,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let request = match tokio::time::timeout(BODY, read(body)).await {
        Ok(request) => request,
        Err(_) => {
            Err(Fault::new(FaultCode::BadRequest, "got no whole body in 10 s, expected one; send it again"))
        }
    };
    let outcome = shared.health.pipeline.ask_within(&who.name, "http", request, &parent(&headers)).await;
    outcome_response(&outcome)
}

/// The trace of the asker's that a request belongs to.
fn parent(headers: &HeaderMap) -> Parent {
    let named = headers.get(traces::PARENT).and_then(|value| value.to_str().ok());
    named.map(Parent::of).unwrap_or_default()
}

/// Reads a body. One that is too large is read on and thrown away, up to a limit: a terminal that still writes
/// would not read why it is refused.
async fn read(body: Body) -> Result<Request, Fault> {
    let (mut bytes, mut got) = (Zeroizing::new(Vec::new()), 0);
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let Ok(chunk) = chunk else {
            let message = "got a body that is cut off, expected a whole one; send it again";
            return Err(Fault::new(FaultCode::BadRequest, message));
        };
        got += chunk.len();
        if got <= MAX_MESSAGE_BYTES {
            bytes.extend_from_slice(&chunk);
        } else if got > MAX_THROWN_AWAY_BYTES {
            break;
        }
    }
    if got > MAX_MESSAGE_BYTES {
        let message = format!(
            "got {got} bytes, expected at most {MAX_MESSAGE_BYTES}; send a shorter sequence around the mutation"
        );
        return Err(Fault::new(FaultCode::TooLarge, message));
    }
    Request::from_json(&bytes)
}

fn outcome_response(outcome: &Outcome) -> Response {
    let mut response = json(StatusCode::OK, outcome.to_json());
    if let Outcome::Fault(fault) = outcome {
        *response.status_mut() =
            StatusCode::from_u16(fault.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Some(ms) = fault.retry_after_ms {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
    }
    response
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        // A result is nobody's to keep but the journal's.
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

/// Whoever shows no credentials is told whether the box is ready, and nothing else.
async fn show_health(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
) -> Response {
    let status = match shared.health.pipeline.failed() {
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
        None => StatusCode::OK,
    };
    let whole = match caller::identify(&shared, &connection, &headers, false) {
        Ok(identity) => identity.may(Action::Health),
        Err(Refusal::NoCredentials) => false,
        Err(refusal) => return refusal.response(),
    };
    if whole {
        json(status, serde_json::to_vec(&shared.health.report()).unwrap_or_default())
    } else {
        json(status, serde_json::json!({ "ready": shared.health.ready() }).to_string().into_bytes())
    }
}

async fn ready(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
) -> Response {
    let ready = shared.health.ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = serde_json::json!({ "ready": ready });
    match caller::identify(&shared, &connection, &headers, false) {
        Ok(_) => body["models"] = shared.health.pipeline.models().into_keys().collect(),
        Err(Refusal::NoCredentials) => {}
        Err(refusal) => return refusal.response(),
    }
    json(status, body.to_string().into_bytes())
}

async fn checkpoint(State(shared): State<Arc<Shared>>) -> Response {
    let (next, checkpoint) = shared.health.pipeline.journal().head();
    let body = serde_json::json!({ "records": next, "checkpoint": checkpoint });
    json(StatusCode::OK, body.to_string().into_bytes())
}

async fn show_metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shared.health.metrics_text()).into_response()
}
