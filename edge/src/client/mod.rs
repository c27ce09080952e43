//! Terminals: what `locusctl ask`, the tests and the benchmarks ask a box with, on each transport.

mod http;
mod mqtt;
mod serial;

use std::time::Duration;

use locus_firmware_config::message::{Outcome, Request};

pub use http::HttpTerminal;
pub use mqtt::MqttTerminal;
pub use serial::SerialTerminal;

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
