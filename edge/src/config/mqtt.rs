//! Where MQTT goes.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{NAME, Problem};
use crate::names::is_name;

/// Where MQTT goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MqttMode {
    /// A broker inside the daemon.
    Embedded,
    /// The site's broker.
    External,
    /// None.
    Off,
}

/// MQTT.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mqtt {
    /// Where it goes.
    pub mode: MqttMode,
    /// The broker's host; the embedded one listens on this address.
    pub host: String,
    /// The broker's port; 0 lets the embedded one take a free one.
    pub port: u16,
    /// Boxes of one group share the requests.
    pub group: String,
    /// How long the broker keeps the box's session: 300 for a single box, 0 in a shared group.
    pub session_expiry_s: u32,
    /// Requests taken before the first is acknowledged.
    pub receive_maximum: u16,
    /// How long the broker keeps an answer for a terminal that is away; 0 for as long as that terminal's session.
    pub answer_expiry_s: u32,
    /// Time without any progress after which the connection to the broker is given up and made anew.
    pub stalled_ms: u32,
    /// Whether a broker on another machine may be used although the box speaks no TLS to it.
    pub without_tls: bool,
    /// User name at the site's broker.
    pub username: Option<String>,
    /// File with its password.
    pub password_file: Option<PathBuf>,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            mode: MqttMode::Embedded,
            host: "127.0.0.1".into(),
            port: 1883,
            group: "locus".into(),
            session_expiry_s: 300,
            receive_maximum: 64,
            answer_expiry_s: 300,
            stalled_ms: 30_000,
            without_tls: false,
            username: None,
            password_file: None,
        }
    }
}

impl Mqtt {
    pub(super) fn problem(&self) -> Option<Problem> {
        let loopback = self.host.parse::<IpAddr>().map_or(self.host == "localhost", |a| a.is_loopback());
        let checks = [
            (is_name(&self.group), "mqtt.group", self.group.clone(), NAME),
            (self.receive_maximum > 0, "mqtt.receive_maximum", "0".into(), "1 to 65,535"),
            (self.stalled_ms >= 1_000, "mqtt.stalled_ms", self.stalled_ms.to_string(), "1,000 or more"),
            (
                self.mode != MqttMode::Embedded || loopback,
                "mqtt.host",
                self.host.clone(),
                "a loopback address: roles do not exist yet",
            ),
            (
                self.mode != MqttMode::External || loopback || self.without_tls,
                "mqtt.host",
                self.host.clone(),
                "a loopback address: the box speaks no TLS to a broker, and whoever is on the way would read sequences and results; where the way is protected otherwise, say so with mqtt.without_tls = true",
            ),
            (
                self.password_file.is_none() || self.username.is_some(),
                "mqtt.password_file",
                "a file without mqtt.username".into(),
                "both, or neither",
            ),
            (
                self.mode != MqttMode::External || self.port != 0,
                "mqtt.port",
                "0".into(),
                "the port of the site's broker",
            ),
        ];
        Problem::first(checks)
    }
}
