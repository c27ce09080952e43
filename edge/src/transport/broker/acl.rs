//! Who may publish and subscribe to what at the embedded broker: bound to who was authenticated.

use std::{
    collections::HashMap,
    future::{Future, ready},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use mqtt5::{
    broker::auth::{AuthProvider, AuthResult},
    packet::connect::ConnectPacket,
    protocol::v5::reason_codes::ReasonCode,
};
use zeroize::Zeroizing;

use crate::{
    access::{ANONYMOUS, Action, Gate, Guest, Identity, Peer, Refusal},
    names::is_name,
};

/// Who the box is to its own broker: no name that anybody can be enrolled under.
pub const BOX: &str = "$box";

/// What the front knows of a connection that it brings to the broker, by the address that it comes from.
#[derive(Debug)]
pub(super) struct Brought {
    pub(super) peer: Peer,
    pub(super) guest: Arc<Guest>,
    pub(super) from: SocketAddr,
}

/// Connections that the front brings.
pub(super) type Bringing = Arc<Mutex<HashMap<SocketAddr, Brought>>>;

/// Says who may do what at the broker.
pub(super) struct Rules {
    pub(super) gate: Arc<Gate>,
    pub(super) bringing: Bringing,
    pub(super) site: String,
    pub(super) box_name: String,
    /// What the box shows to its own broker.
    pub(super) secret: Zeroizing<String>,
}

type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether a client identifier is a client's own, so that nobody takes over the connection of another one: none was
/// given, or it is the name, or that, a colon and more.
fn is_own_id(client: &str, name: &str) -> bool {
    let given_by_broker = client
        .strip_prefix("auto-")
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
    given_by_broker || client.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

impl Rules {
    fn identify(&self, connect: &ConnectPacket, from: SocketAddr) -> Result<String, Refusal> {
        let user = connect.username.as_deref();
        let password = connect.password.as_deref().map(String::from_utf8_lossy);
        let bringing = self.bringing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(brought) = bringing.get(&from) else {
            // Past the front comes nobody but the box itself.
            let own = user == Some(BOX) && password.is_some_and(|password| password == *self.secret);
            return if own { Ok(BOX.to_owned()) } else { Err(Refusal::NoCredentials) };
        };
        let identity: Identity = match (&brought.peer, password) {
            (Peer::Refused(refusal), _) => return Err(*refusal),
            (Peer::Known(identity), None) => identity.clone(),
            (Peer::Known(identity), Some(token)) => {
                let other = self.gate.by_token(&token, brought.from.ip())?;
                if other.name != identity.name {
                    return Err(Refusal::OtherName);
                }
                identity.clone()
            }
            (Peer::Stranger, Some(token)) => self.gate.by_token(&token, brought.from.ip())?,
            (Peer::Stranger, None) => self.gate.by_nothing(brought.from.ip())?,
        };
        self.gate.still(&identity)?;
        if &*identity.name != ANONYMOUS {
            if user.is_some_and(|user| user != &*identity.name) {
                return Err(Refusal::OtherName);
            }
            let as_a_box = format!("locus-{}-{}", self.site, identity.name);
            let is_box = self.may(&identity.name, Action::Serve) && connect.client_id == as_a_box;
            if !is_box && !is_own_id(&connect.client_id, &identity.name) {
                return Err(Refusal::ClientId);
            }
        } else if connect.client_id.starts_with("locus-") {
            return Err(Refusal::ClientId);
        }
        brought.guest.recognise(&identity)?;
        Ok(identity.name.to_string())
    }

    /// The part of a topic behind `locus/v1/SITE/`.
    fn below<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        topic.strip_prefix("locus/v1/")?.strip_prefix(self.site.as_str())?.strip_prefix('/')?.split_once('/')
    }

    fn may_publish(&self, user: &str, topic: &str) -> bool {
        let Some((kind, rest)) = self.below(topic) else { return false };
        match (kind, user) {
            ("response", BOX) => true,
            ("status" | "checkpoint", BOX) => rest == self.box_name,
            (_, BOX) => false,
            ("request", ANONYMOUS) => self.may(user, Action::Ask) && is_name(rest),
            ("request", name) => rest == name && self.may(name, Action::Ask),
            ("response", name) => self.may(name, Action::Serve),
            ("status" | "checkpoint", name) => rest == name && self.may(name, Action::Serve),
            _ => false,
        }
    }

    fn may_subscribe(&self, user: &str, filter: &str) -> bool {
        if user == BOX || self.may(user, Action::Serve) {
            let requests = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
            return requests.is_some_and(|(_, filter)| self.below(filter) == Some(("request", "+")));
        }
        let Some((kind, rest)) = self.below(filter) else { return false };
        match (kind, user) {
            ("status" | "checkpoint", name) => {
                self.may(name, Action::Look) && (rest == "+" || rest == "#" || is_name(rest))
            }
            ("response", ANONYMOUS) => self.may(user, Action::Ask),
            ("response", name) => {
                let own =
                    rest.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                own && self.may(name, Action::Ask)
            }
            _ => false,
        }
    }

    fn may(&self, name: &str, action: Action) -> bool {
        self.gate.role_of(name).is_some_and(|role| role.may(action))
    }
}

fn decided(allowed: bool) -> Answer<'static, bool> {
    if !allowed {
        Refusal::Topic.count("mqtt");
    }
    Box::pin(ready(allowed))
}

impl AuthProvider for Rules {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        from: SocketAddr,
    ) -> Answer<'a, mqtt5::error::Result<AuthResult>> {
        let result = match self.identify(connect, from) {
            Ok(user) => AuthResult::success_with_user(user),
            Err(refusal) => {
                refusal.count("mqtt");
                let code = match refusal {
                    Refusal::UnknownToken | Refusal::OtherName => ReasonCode::BadUsernameOrPassword,
                    Refusal::ClientId => ReasonCode::ClientIdentifierNotValid,
                    Refusal::Crowded => ReasonCode::ServerBusy,
                    _ => ReasonCode::NotAuthorized,
                };
                AuthResult::fail_with_reason(code, refusal.message())
            }
        };
        Box::pin(ready(Ok(result)))
    }

    fn authorize_publish<'a>(&'a self, _: &str, user: Option<&'a str>, topic: &'a str) -> Answer<'a, bool> {
        decided(user.is_some_and(|user| self.may_publish(user, topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _: &str,
        user: Option<&'a str>,
        filter: &'a str,
    ) -> Answer<'a, bool> {
        decided(user.is_some_and(|user| self.may_subscribe(user, filter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_identifier_is_the_names_own_or_the_brokers() {
        let auto = format!("auto-{}", "0a".repeat(16));
        for own in ["ward-3", "ward-3:", "ward-3:2/x", auto.as_str()] {
            assert!(is_own_id(own, "ward-3"), "{own}");
        }
        for other in ["", "ward-30", "ward-3-1", "ward", "locus-ward-box-1", "auto-1", "auto-ward-3"] {
            assert!(!is_own_id(other, "ward-3"), "{other}");
        }
    }
}
