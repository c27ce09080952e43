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
    /// The broker's host; the embedded one listens on this loopback address, without TLS.
    pub host: String,
    /// The broker's port; 0 lets the embedded one take a free one.
    pub port: u16,
    /// Address on which the embedded broker speaks TLS.
    pub tls_address: IpAddr,
    /// Its port; 0 takes a free one.
    pub tls_port: u16,
    /// Certificates (PEM) by which the site's broker is known: TLS is spoken to it where they are named.
    pub ca: Option<PathBuf>,
    /// The box's own certificate (PEM) at the site's broker.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
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
    /// Whether a broker on another machine may be used without TLS.
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
            tls_address: IpAddr::from([127, 0, 0, 1]),
            tls_port: 8883,
            ca: None,
            certificate: None,
            key: None,
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
                "a loopback address: nothing is encrypted there; mqtt.tls_address may be any",
            ),
            (
                self.mode != MqttMode::External || loopback || self.ca.is_some() || self.without_tls,
                "mqtt.host",
                self.host.clone(),
                "a loopback address, or mqtt.ca: without TLS whoever is on the way would read sequences and results; where the way is protected otherwise, say so with mqtt.without_tls = true",
            ),
            (
                self.ca.is_none() || !self.without_tls,
                "mqtt.without_tls",
                "true beside mqtt.ca".into(),
                "one of the two",
            ),
            (
                self.mode == MqttMode::External || self.ca.is_none(),
                "mqtt.ca",
                "a file".into(),
                "none where mqtt.mode is not external: the box's own authority is used",
            ),
            (
                self.certificate.is_some() == self.key.is_some()
                    && (self.certificate.is_none() || self.ca.is_some()),
                "mqtt.certificate",
                "not all of mqtt.ca, mqtt.certificate and mqtt.key".into(),
                "all three, mqtt.ca alone, or none",
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

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.password_file, &mut self.ca, &mut self.certificate, &mut self.key].into_iter().flatten()
    }
}
