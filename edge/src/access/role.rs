//! Which role may do what: one table, for every transport.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What somebody is enrolled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asks, and reads its own answers.
    Terminal,
    /// Looks after the box.
    Operator,
    /// Witnesses the journal.
    Auditor,
    /// Collects measurements.
    Metrics,
    /// Another box, which shares the requests of this one's broker.
    Box,
}

/// What can be done over a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To ask: `POST /predict`, `POST /v1/predict:batch`, `POST /v1/annotate`, a request over MQTT, and to read the own answers.
    Ask,
    /// The whole of `GET /health`.
    Health,
    /// `GET /metrics`.
    Metrics,
    /// `GET /v1/checkpoint`: the signed head of the journal.
    Checkpoint,
    /// Status and checkpoint topics of MQTT, `GET /openapi.json`, `GET /docs`.
    Look,
    /// To take requests from the broker and to answer them.
    Serve,
    /// To see and change what the box runs, on the page.
    Operate,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Terminal, Self::Operator, Self::Auditor, Self::Metrics, Self::Box];

    /// The table.
    pub const fn may(self, action: Action) -> bool {
        match action {
            Action::Look => true,
            Action::Serve => matches!(self, Self::Box),
            Action::Operate => matches!(self, Self::Operator),
            Action::Ask => matches!(self, Self::Terminal | Self::Operator),
            Action::Health => matches!(self, Self::Operator | Self::Auditor),
            Action::Metrics => matches!(self, Self::Metrics | Self::Operator),
            Action::Checkpoint => matches!(self, Self::Auditor | Self::Operator),
        }
    }

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Metrics => "metrics",
            Self::Box => "box",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why somebody is refused; also the label of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing was shown.
    NoCredentials,
    /// The TLS handshake failed: no certificate of this box's authority, an expired one, or no TLS at all.
    Handshake,
    /// The handshake took too long.
    Slow,
    /// A certificate that this box does not know.
    UnknownCertificate,
    /// A token that this box does not know.
    UnknownToken,
    /// It was revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// The role may not do this.
    Role,
    /// The name of another one is used.
    OtherName,
    /// A topic of another one, or of the box.
    Topic,
    /// The client identifier of another one.
    ClientId,
    /// Too many connections.
    Crowded,
    /// A session of the page that is over, or never was.
    Session,
    /// An order that another site had a browser send.
    CrossSite,
}

impl Refusal {
    /// As it is counted.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::Handshake => "handshake",
            Self::Slow => "slow",
            Self::UnknownCertificate => "unknown_certificate",
            Self::UnknownToken => "unknown_token",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Role => "role",
            Self::OtherName => "other_name",
            Self::Topic => "topic",
            Self::ClientId => "client_id",
            Self::Crowded => "crowded",
            Self::Session => "session",
            Self::CrossSite => "cross_site",
        }
    }

    /// For whoever is refused: what was got and expected.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NoCredentials => {
                "got no credentials, expected a client certificate or the header `authorization: Bearer TOKEN`; `locusctl enroll` issues both"
            }
            Self::Handshake => "the TLS handshake failed, expected a certificate that this box issued",
            Self::Slow => "the TLS handshake took too long",
            Self::UnknownCertificate => {
                "got a certificate that this box did not enrol, expected one of `locusctl enroll`"
            }
            Self::UnknownToken => {
                "got a token that this box does not know, expected one of `locusctl enroll --token`"
            }
            Self::Revoked => "got credentials that were revoked; enrol anew",
            Self::Expired => "got credentials whose time is over; `locusctl access renew` issues new ones",
            Self::Role => "the role of these credentials may not do this; see the table in docs/operating.md",
            Self::OtherName => {
                "got the name of another terminal, expected the one of the credentials; leave it out"
            }
            Self::Topic => "the topic is not this terminal's",
            Self::ClientId => {
                "got another client identifier, expected none, the name of the credentials, or that and a colon and more"
            }
            Self::Crowded => "too many connections; close some, or ask again later",
            Self::Session => "the session is over; sign in again",
            Self::CrossSite => {
                "got an order from a page of another site, expected one from this box's own; open the box's address itself"
            }
        }
    }

    /// Counts one.
    pub fn count(self, transport: &'static str) {
        metrics::counter!("locus_refused_total", "transport" => transport, "reason" => self.as_str())
            .increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_and_operators_ask_and_nobody_but_the_operator_may_do_all() {
        let all =
            [Action::Ask, Action::Health, Action::Metrics, Action::Checkpoint, Action::Look, Action::Operate];
        for role in Role::ALL {
            assert_eq!(all.iter().all(|action| role.may(*action)), role == Role::Operator, "{role}");
            assert_eq!(role.may(Action::Ask), matches!(role, Role::Terminal | Role::Operator), "{role}");
        }
        assert!(!Role::Terminal.may(Action::Metrics) && !Role::Metrics.may(Action::Health));
        let operators = Role::ALL.into_iter().filter(|role| role.may(Action::Operate));
        assert_eq!(operators.collect::<Vec<_>>(), [Role::Operator]);
    }
}
