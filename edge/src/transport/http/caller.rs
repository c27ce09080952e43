//! Who asks over HTTPS: by certificate, by token, or by nothing.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Extension, FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Shared, TERMINAL_HEADER, json};
use crate::access::{Action, Guest, Identity, Peer, Refusal};

/// What a connection says of whoever asks on it.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) guest: Arc<Guest>,
    pub(super) from: IpAddr,
}

impl Refusal {
    /// What HTTP calls it.
    const fn status(self) -> StatusCode {
        match self {
            Self::Role | Self::OtherName | Self::Topic | Self::ClientId => StatusCode::FORBIDDEN,
            Self::Crowded | Self::Slow => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// Counts it and says it.
    pub(super) fn response(self) -> Response {
        self.count("http");
        let status = self.status();
        let code = if status == StatusCode::FORBIDDEN { "forbidden" } else { "unauthorised" };
        let body = serde_json::json!({
            "code": code,
            "reason": self.as_str(),
            "message": self.message(),
            "retryable": matches!(self, Self::Crowded),
        });
        let mut response = json(status, body.to_string().into_bytes());
        if status == StatusCode::UNAUTHORIZED {
            let scheme = header::HeaderValue::from_static("Bearer realm=\"locus\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

/// Who asks, by all that the connection and the request say.
pub(super) fn identify(
    shared: &Shared,
    connection: &Connection,
    headers: &HeaderMap,
) -> Result<Identity, Refusal> {
    let gate = &shared.gate;
    let shown = match headers.get(header::AUTHORIZATION) {
        None => None,
        Some(value) => {
            let token = value.to_str().ok().and_then(|text| {
                let (scheme, token) = text.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
            });
            Some(gate.by_token(token.ok_or(Refusal::UnknownToken)?, connection.from)?)
        }
    };
    let identity = match &connection.peer {
        Peer::Refused(refusal) => return Err(*refusal),
        Peer::Known(identity) => {
            gate.still(identity)?;
            if shown.is_some_and(|other| other.name != identity.name) {
                return Err(Refusal::OtherName);
            }
            identity.clone()
        }
        Peer::Stranger => match shown {
            Some(identity) => identity,
            None => gate.by_nothing(connection.from)?,
        },
    };
    let claimed = headers.get(TERMINAL_HEADER);
    if claimed.is_some_and(|name| name.as_bytes() != identity.name.as_bytes()) {
        return Err(Refusal::OtherName);
    }
    connection.guest.recognise(&identity)?;
    Ok(identity)
}

/// Lets through who may do what a route is for.
pub(super) async fn may(
    action: Action,
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Arc<Connection>>,
    mut request: axum::extract::Request,
    next: Next,
) -> Response {
    match identify(&shared, &connection, request.headers()) {
        Err(refusal) => refusal.response(),
        Ok(identity) if !identity.role.may(action) => Refusal::Role.response(),
        Ok(identity) => {
            request.extensions_mut().insert(Caller(identity));
            next.run(request).await
        }
    }
}

/// Who asks, on a route that lets nobody else through.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) Identity);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| StatusCode::UNAUTHORIZED.into_response())
    }
}
