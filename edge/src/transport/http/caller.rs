//! Who asks over HTTPS: by certificate, by token, by a session that began with one, or by nothing.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Extension, FromRequestParts, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Shared, TERMINAL_HEADER, json, session};
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
            Self::Role | Self::OtherName | Self::Topic | Self::ClientId | Self::CrossSite => {
                StatusCode::FORBIDDEN
            }
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
            let scheme = HeaderValue::from_static("Bearer realm=\"locus\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if self == Self::Session {
            response.headers_mut().insert(header::SET_COOKIE, session::over());
        }
        response
    }
}

/// Whether an order may be what another site had a browser send: a browser shows certificates and cookies whoever's page
/// it is on, and says so.
pub(super) fn cross_site(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        // No browser, then; but a cookie comes from one.
        return session::secret(headers).is_some();
    };
    let own = headers.get(header::HOST).map(|host| [b"https://", host.as_bytes()].concat());
    !own.is_some_and(|own| own.eq_ignore_ascii_case(origin.as_bytes()))
}

/// Who asks, by all that the connection and the request say. `orders`: more than to look, which keeps a session open.
pub(super) fn identify(
    shared: &Shared,
    connection: &Connection,
    headers: &HeaderMap,
    orders: bool,
) -> Result<Identity, Refusal> {
    let gate = &shared.gate;
    let by_certificate = matches!(connection.peer, Peer::Known(_));
    let shown = match headers.get(header::AUTHORIZATION) {
        None => match session::secret(headers).map(|secret| gate.by_session(secret, orders)) {
            // A certificate is enough, whatever was before.
            Some(Err(Refusal::Session)) if by_certificate => None,
            session => session.transpose()?,
        },
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
    let orders = !matches!(*request.method(), Method::GET | Method::HEAD);
    if orders && cross_site(request.headers()) {
        return Refusal::CrossSite.response();
    }
    match identify(&shared, &connection, request.headers(), orders) {
        Err(refusal) => refusal.response(),
        Ok(identity) if !identity.may(action) => Refusal::Role.response(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn an_order_counts_from_the_boxs_own_page_or_from_no_browser_and_from_nowhere_else() {
        let cookie = ("cookie", "a=b; __Host-locus=00");
        for good in [
            vec![],
            vec![("host", "box:8443")],
            vec![("sec-fetch-site", "same-origin"), cookie],
            vec![("sec-fetch-site", "none")],
            vec![("host", "box:8443"), ("origin", "https://BOX:8443"), cookie],
        ] {
            assert!(!cross_site(&headers(&good)), "{good:?}");
        }
        for bad in [
            vec![cookie],
            vec![("sec-fetch-site", "cross-site")],
            vec![("sec-fetch-site", "same-site"), ("host", "box"), ("origin", "https://box")],
            vec![("sec-fetch-site", "")],
            vec![("host", "box:8443"), ("origin", "https://box")],
            vec![("host", "box:8443"), ("origin", "http://box:8443")],
            vec![("host", "box"), ("origin", "null")],
            vec![("origin", "https://box")],
        ] {
            assert!(cross_site(&headers(&bad)), "{bad:?}");
        }
    }
}
