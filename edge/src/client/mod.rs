//! Terminals: what `locusctl ask`, the tests and the benchmarks ask a box with, on each transport.

mod http;
pub mod measured;
mod mqtt;
mod serial;

use std::{path::Path, sync::Arc, time::Duration};

use locus_firmware_config::message::{Outcome, Request};

use rustls::{ClientConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

pub use http::HttpTerminal;
pub use mqtt::MqttTerminal;
pub use serial::SerialTerminal;

use crate::transport::tls;

/// Why there is no outcome; asking again with the same id is always safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No connection.
    #[error("no connection to {to}: {reason}")]
    Connect {
        /// Where to.
        to: String,
        /// Why not.
        reason: String,
    },
    /// The box does not let whoever asks do that.
    #[error("refused: {0}")]
    Refused(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// No outcome in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The box does not take what this terminal sends.
    #[error("the box takes nothing from this terminal: the line has a key; name its file with --key-file")]
    Rejected,
    /// Something came that is no outcome.
    #[error("got {got} bytes that are no answer: {reason}")]
    NoOutcome {
        /// How much came.
        got: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a terminal trusts and shows.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Certificates (PEM) by which the box is known.
    pub authority: Vec<u8>,
    /// Own certificate and private key (PEM).
    pub certificate: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    /// A token.
    pub token: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = (self.certificate.is_some(), self.token.is_some());
        f.debug_tuple("Credentials").field(&shown).finish()
    }
}

impl Credentials {
    /// Shows nothing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn trusting(authority: &Path) -> std::io::Result<Self> {
        Ok(Self { authority: std::fs::read(authority)?, ..Self::default() })
    }

    /// Shows a certificate.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn with_certificate(mut self, certificate: &Path, key: &Path) -> std::io::Result<Self> {
        self.certificate = Some((std::fs::read(certificate)?, std::fs::read(key)?.into()));
        Ok(self)
    }

    /// How a client of these speaks TLS.
    ///
    /// # Errors
    /// They hold no certificate or key.
    pub fn tls(&self) -> Result<Arc<ClientConfig>, String> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(tls::roots(&self.authority)?);
        let Some((certificate, key)) = &self.certificate else {
            return Ok(Arc::new(builder.with_no_client_auth()));
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificate).collect();
        let chain = chain.map_err(|error| error.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
        builder.with_client_auth_cert(chain, key).map(Arc::new).map_err(|error| error.to_string())
    }

    /// Shows a token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(Zeroizing::new(token.trim().to_owned()));
        self
    }
}

/// A terminal on any transport.
#[derive(Debug)]
pub enum Terminal {
    /// HTTPS.
    Http(HttpTerminal),
    /// MQTT.
    Mqtt(Box<MqttTerminal>),
    /// Serial.
    Serial(Box<SerialTerminal>),
}

impl Terminal {
    /// Asks once and waits for the outcome.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&mut self, request: &Request, timeout: Duration) -> Result<Outcome, ClientError> {
        match self {
            Self::Http(terminal) => terminal.ask(request, timeout).await,
            Self::Mqtt(terminal) => terminal.ask(request, timeout).await,
            Self::Serial(terminal) => terminal.ask(request, timeout).await,
        }
    }
}

fn json_of(request: &Request) -> Vec<u8> {
    // Absent keys are left out: what is sent reads like what was written.
    let value = serde_json::to_value(request).unwrap_or_default();
    let present = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    serde_json::Value::Object(present.map(|(key, value)| (key.clone(), value.clone())).collect())
        .to_string()
        .into_bytes()
}

fn outcome_of(bytes: &[u8]) -> Result<Outcome, ClientError> {
    Outcome::from_json(bytes)
        .map_err(|error| ClientError::NoOutcome { got: bytes.len(), reason: error.to_string() })
}
