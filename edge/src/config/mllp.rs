//! HL7 v2 over MLLP.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{NAME, Problem};
use crate::names::is_name;

/// One listener for HL7 v2 messages over MLLP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mllp {
    /// Address.
    #[serde(default = "default_address")]
    pub address: IpAddr,
    /// Port; 0 takes a free one.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Name of the terminal that asks here.
    pub terminal: String,
    /// Certificate chain (PEM) of the listener; without one it speaks no TLS.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// Authorities (PEM), one of which must have signed the certificate of whoever asks.
    pub client_ca: Option<PathBuf>,
    /// Whether the journal keeps the first identifier of the patient (PID-3) as subject.
    #[serde(default)]
    pub patient_as_subject: bool,
    /// Time for a message to come whole, an answer to be acknowledged, TLS to be agreed on.
    #[serde(default = "default_wait")]
    pub wait_ms: u32,
    /// Time without a message after which a connection is closed.
    #[serde(default = "default_idle")]
    pub idle_ms: u32,
}

fn default_address() -> IpAddr {
    IpAddr::from([127, 0, 0, 1])
}

const fn default_port() -> u16 {
    2575
}

const fn default_wait() -> u32 {
    15_000
}

const fn default_idle() -> u32 {
    600_000
}

impl Mllp {
    pub(super) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.certificate, &mut self.key, &mut self.client_ca].into_iter().flatten()
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        Problem::first([
            (is_name(&self.terminal), "mllp.terminal", self.terminal.clone(), NAME),
            (
                self.certificate.is_some() == self.key.is_some(),
                "mllp.certificate",
                "one of the two".into(),
                "certificate and key, or neither",
            ),
            (
                self.client_ca.is_none() || self.certificate.is_some(),
                "mllp.client_ca",
                "a file without mllp.certificate".into(),
                "mllp.certificate and mllp.key beside it",
            ),
            (
                self.address.is_loopback() || self.client_ca.is_some(),
                "mllp.address",
                self.address.to_string(),
                "a loopback address, or mllp.certificate, mllp.key and mllp.client_ca: MLLP itself neither encrypts nor says who asks",
            ),
            (
                (100..=600_000).contains(&self.wait_ms),
                "mllp.wait_ms",
                self.wait_ms.to_string(),
                "100 to 600,000",
            ),
            (self.idle_ms >= 1_000, "mllp.idle_ms", self.idle_ms.to_string(), "1,000 or more"),
        ])
    }
}
