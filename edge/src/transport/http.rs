//! HTTPS: `POST /predict`, `GET /health`, `GET /ready`, `GET /metrics`.

use std::{
    future::{self, Ready},
    io,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use axum_server::{Handle, accept::Accept, tls_rustls::RustlsConfig};
use futures_util::StreamExt as _;
use locus_firmware_config::message::{Fault, FaultCode, MAX_MESSAGE_BYTES, Outcome, Request};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::tls;
use crate::{config::Http, health::Health, names::is_name, state::StateDir};

/// Header in which a terminal says who it is.
pub const TERMINAL_HEADER: &str = "locus-terminal";
/// Most bytes of a body that is too large that are read before the connection is closed.
const MAX_THROWN_AWAY_BYTES: usize = 32 << 20;
/// Time to send a body.
const BODY: Duration = Duration::from_secs(10);
/// Time to send the head of a request, the first one too.
const HEAD: Duration = Duration::from_secs(10);
/// Connections at once.
const MAX_CONNECTIONS: usize = 256;

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
/// The certificate cannot be used, or the address is taken.
pub async fn start(
    config: &Http,
    state: &StateDir,
    box_name: &str,
    health: Arc<Health>,
) -> Result<Listener, String> {
    let address = SocketAddr::new(config.address, config.port);
    let tls = tls::server_config(config, state, box_name).map_err(|error| error.to_string())?;
    let handle = Handle::new();
    let listener =
        std::net::TcpListener::bind(address).map_err(|error| format!("HTTPS on {address}: {error}"))?;
    listener.set_nonblocking(true).map_err(|error| format!("HTTPS on {address}: {error}"))?;
    let mut server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))
        .map_err(|error| format!("HTTPS on {address}: {error}"))?
        .map(|tls| tls.acceptor(Bounded::new(MAX_CONNECTIONS)))
        .handle(handle.clone())
        .first_request_timeout(HEAD)
        .http1_only();
    server
        .http_builder()
        .http1()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(64 << 10);
    let service = router(health).into_make_service();
    let task = tokio::spawn(async move { server.serve(service).await });
    let address =
        handle.listening().await.ok_or_else(|| format!("HTTPS on {address}: it does not listen"))?;
    Ok(Listener { address, handle, task })
}

/// Takes so many connections and closes what comes above: who opens them and says nothing leaves files for others.
#[derive(Clone, Debug)]
struct Bounded(Arc<Semaphore>);

impl Bounded {
    fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }
}

impl<I> Accept<I, Router> for Bounded {
    type Stream = I;
    type Service = Router;
    type Future = Ready<io::Result<(I, Router)>>;

    fn accept(&self, stream: I, service: Router) -> Self::Future {
        future::ready(match Arc::clone(&self.0).try_acquire_owned() {
            // The connection owns its service, and with it the permit.
            Ok(permit) => Ok((stream, service.layer(Extension(Arc::new(permit))))),
            Err(_) => {
                metrics::counter!("locus_http_refused_total").increment(1);
                Err(io::ErrorKind::ConnectionRefused.into())
            }
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

/// The routes, without TLS.
pub fn router(health: Arc<Health>) -> Router {
    Router::new()
        .route("/predict", post(predict))
        .route("/health", get(show_health))
        .route("/ready", get(ready))
        .route("/metrics", get(show_metrics))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(health)
}

async fn unknown() -> Response {
    let message = "got a path or method that is not there, expected POST /predict, GET /health, GET /ready or GET /metrics";
    let mut response = outcome_response(&Outcome::Fault(Fault::new(FaultCode::BadRequest, message)));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn predict(State(health): State<Arc<Health>>, headers: HeaderMap, body: Body) -> Response {
    let terminal = match headers.get(TERMINAL_HEADER).map(HeaderValue::to_str) {
        None => "http",
        Some(Ok(name)) if is_name(name) => name,
        Some(_) => {
            let message = format!(
                "got a {TERMINAL_HEADER} header that is no name, expected 1 to 64 letters, digits, dots, dashes or underscores"
            );
            return outcome_response(&Outcome::Fault(Fault::new(FaultCode::BadRequest, message)));
        }
    };
    let request = match tokio::time::timeout(BODY, read(body)).await {
        Ok(request) => request,
        Err(_) => {
            Err(Fault::new(FaultCode::BadRequest, "got no whole body in 10 s, expected one; send it again"))
        }
    };
    let outcome = health.pipeline.ask(terminal, "http", request).await;
    outcome_response(&outcome)
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

async fn show_health(State(health): State<Arc<Health>>) -> Response {
    let report = health.report();
    let status =
        if health.pipeline.failed().is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    json(status, serde_json::to_vec(&report).unwrap_or_default())
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    let ready = health.ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let models: Vec<String> = health.pipeline.models().into_keys().collect();
    json(status, serde_json::json!({ "ready": ready, "models": models }).to_string().into_bytes())
}

async fn show_metrics(State(health): State<Arc<Health>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics_text()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_above_the_limit_is_closed_until_another_one_ends() {
        let bounded = Bounded::new(2);
        let first = bounded.accept((), Router::new()).await.unwrap();
        let second = bounded.accept((), Router::new()).await.unwrap();
        assert!(bounded.accept((), Router::new()).await.is_err());
        drop(first);
        let third = bounded.accept((), Router::new()).await;
        assert!(third.is_ok() && bounded.accept((), Router::new()).await.is_err());
        drop((second, third));
        assert_eq!(bounded.0.available_permits(), 2);
    }
}
