//! `/v1/session`: who is signed in on the page, and what the page must show of the box all the time.

use std::{sync::Arc, time::Instant};

use axum::{
    body::{Body, to_bytes},
    extract::{Extension, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    BODY, Shared,
    caller::{self, Connection},
    json as response,
};
use crate::access::{Action, Peer, Refusal};

/// Name of the cookie. The prefix binds it to this host, to TLS and to every path.
const COOKIE: &str = "__Host-locus";
const TERMS: &str = "Path=/; Secure; HttpOnly; SameSite=Strict";
/// Most bytes of what is sent to sign in.
const MAX_BYTES: usize = 1 << 10;

/// What is sent to sign in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SignIn {
    token: String,
}

/// The secret of a session that a request shows.
pub(super) fn secret(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, secret)| secret)
}

/// Takes the cookie away.
pub(super) fn over() -> HeaderValue {
    HeaderValue::from_static("__Host-locus=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Strict")
}

/// Who is signed in. Whoever is not learns whether the box is ready, and nothing else.
pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
) -> Response {
    let identity = match caller::identify(&shared, &connection, &headers, false) {
        Ok(identity) => identity,
        Err(Refusal::NoCredentials) => return stranger(&shared, false),
        Err(Refusal::Session) => {
            let mut response = stranger(&shared, true);
            response.headers_mut().insert(header::SET_COOKIE, over());
            return response;
        }
        Err(refusal) => return refusal.response(),
    };
    let health = &shared.health;
    let report = health.report();
    let by = match (&connection.peer, secret(&headers)) {
        (Peer::Known(_), _) => "certificate",
        (_, Some(_)) => "session",
        _ if headers.contains_key(header::AUTHORIZATION) => "token",
        _ => "nothing",
    };
    let body = json!({
        "signed_in": true,
        "name": &*identity.name,
        "role": identity.role,
        "by": by,
        "may_ask": identity.may(Action::Ask),
        "may_operate": identity.may(Action::Operate),
        "ready": report.ready,
        "status": report.status,
        "site": report.site,
        "box": report.r#box,
        "version": report.version,
        "clock": report.clock.state,
        "models": models(&shared),
        "reference": report.reference,
        "assembly": report.assembly,
    });
    response(StatusCode::OK, body.to_string().into_bytes())
}

fn stranger(shared: &Shared, over: bool) -> Response {
    let body = json!({ "signed_in": false, "ready": shared.health.ready(), "over": over });
    response(StatusCode::OK, body.to_string().into_bytes())
}

/// What serves, with the borders of its bands.
fn models(shared: &Shared) -> Vec<Value> {
    let models = shared.health.pipeline.models();
    let shown = models.values().map(|model| {
        json!({
            "name": model.info.name,
            "version": model.info.version,
            "digest": model.info.digest,
            "task": model.task,
            "assembly": model.assembly,
            "provider": model.provider,
            "precision": model.precision,
            "skipped": model.skipped.len(),
            "borders": model.borders,
        })
    });
    shown.collect()
}

/// Begins a session for whoever shows a token that counts.
pub(super) async fn begin(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if caller::cross_site(&headers) {
        return Refusal::CrossSite.response();
    }
    let Ok(Ok(bytes)) = tokio::time::timeout(BODY, to_bytes(body, MAX_BYTES)).await else {
        return Refusal::UnknownToken.response();
    };
    let Ok(mut asked) = serde_json::from_slice::<SignIn>(&bytes) else {
        return Refusal::UnknownToken.response();
    };
    let token = Zeroizing::new(asked.token.trim().to_owned());
    asked.token.zeroize();
    let gate = &shared.gate;
    let signed_in = gate.by_token(&token, connection.from).and_then(|identity| match &connection.peer {
        Peer::Refused(refusal) => Err(*refusal),
        Peer::Known(other) if other.name != identity.name => Err(Refusal::OtherName),
        _ => connection.guest.recognise(&identity).map(|()| identity),
    });
    let identity = match signed_in {
        Ok(identity) => identity,
        Err(refusal) => return refusal.response(),
    };
    if let Some(before) = secret(&headers) {
        gate.sessions.end(before);
    }
    let Ok(secret) = gate.sessions.begin(identity, Instant::now()) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let cookie = Zeroizing::new(format!("{COOKIE}={}; {TERMS}", &*secret));
    let Ok(cookie) = HeaderValue::from_str(&cookie) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    with_cookie(cookie)
}

/// Ends the session, whoever's it is.
pub(super) async fn end(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if caller::cross_site(&headers) {
        return Refusal::CrossSite.response();
    }
    if let Some(secret) = secret(&headers) {
        shared.gate.sessions.end(secret);
    }
    with_cookie(over())
}

fn with_cookie(cookie: HeaderValue) -> Response {
    let store = HeaderValue::from_static("no-store");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, store)]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_cookie_is_a_session_and_it_is_bound_to_this_host() {
        let of = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static(text))]);
            secret(&headers).map(str::to_owned)
        };
        assert_eq!(of("a=1; __Host-locus=77; b=2").as_deref(), Some("77"));
        assert_eq!(of("__host-locus=77; locus=8; x__Host-locus=9"), None);
        assert_eq!(of("__Host-locus"), None);
        for term in TERMS.split("; ") {
            assert!(over().to_str().unwrap().contains(term), "{term}");
        }
        assert!(over().to_str().unwrap().starts_with(&format!("{COOKIE}=;")));
    }
}
