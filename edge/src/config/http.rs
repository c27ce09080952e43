//! HTTPS.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::Problem;

/// HTTPS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Whether it listens.
    pub enabled: bool,
    /// Address; loopback until roles exist.
    pub address: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Certificate chain (PEM); made and self-signed where absent.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            enabled: true,
            address: IpAddr::from([127, 0, 0, 1]),
            port: 8443,
            certificate: None,
            key: None,
        }
    }
}

impl Http {
    pub(super) fn problem(&self) -> Option<Problem> {
        Problem::first([
            (
                self.address.is_loopback(),
                "http.address",
                self.address.to_string(),
                "a loopback address: roles do not exist yet",
            ),
            (
                self.certificate.is_some() == self.key.is_some(),
                "http.certificate",
                "one of the two".into(),
                "certificate and key, or neither",
            ),
        ])
    }
}
