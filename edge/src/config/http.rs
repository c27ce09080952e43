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
    /// Address. Without credentials only `/ready` and a short `/health` answer.
    pub address: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Further names and addresses of the box in the certificate that it issues itself, for MQTT too.
    pub names: Vec<String>,
    /// The site's own certificate chain (PEM); issued by the box's authority where absent. MQTT uses it too.
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
            names: Vec::new(),
            certificate: None,
            key: None,
        }
    }
}

/// Whether a text can be a name or address in a certificate.
fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
        || (1..=253).contains(&text.len())
            && text.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            })
}

impl Http {
    pub(super) fn problem(&self) -> Option<Problem> {
        Problem::first([
            (
                self.certificate.is_some() == self.key.is_some(),
                "http.certificate",
                "one of the two".into(),
                "certificate and key, or neither",
            ),
            (
                self.names.len() <= 32 && self.names.iter().all(|name| is_host(name)),
                "http.names",
                self.names.join(" "),
                "at most 32 host names or addresses",
            ),
        ])
    }
}
