//! A terminal over HTTPS.

use std::{path::Path, sync::Arc, time::Duration};

use locus_firmware_config::message::{Outcome, Request};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{ClientError, json_of, outcome_of};
use crate::transport::http::TERMINAL_HEADER;

/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Time to get a page.
const GET: Duration = Duration::from_secs(20);

/// Keeps its connection open between requests.
#[derive(Clone, Debug)]
pub struct HttpTerminal {
    agent: Agent,
    base: String,
    terminal: String,
}

impl HttpTerminal {
    /// Trusts the certificate in a file, and no other.
    ///
    /// # Errors
    /// The file is no certificate.
    pub fn new(base: &str, certificate: &Path, terminal: &str) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::Connect { to: base.to_owned(), reason };
        let pem = std::fs::read(certificate)
            .map_err(|error| wrong(format!("{}: {error}", certificate.display())))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| wrong(error.to_string()))?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(vec![certificate])))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder().tls_config(tls).http_status_as_error(false).build().into();
        Ok(Self { agent, base: base.to_owned(), terminal: terminal.to_owned() })
    }

    /// Posts bytes as they are: status and body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post(&self, body: &[u8], timeout: Duration) -> Result<(u16, Vec<u8>), ClientError> {
        let request = self.agent.post(format!("{}/predict", self.base));
        let request = request.config().timeout_global(Some(timeout)).build();
        self.read(request.header(TERMINAL_HEADER, &self.terminal).content_type("application/json").send(body))
    }

    /// Gets a path: status and body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get(&self, path: &str) -> Result<(u16, Vec<u8>), ClientError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        self.read(request.config().timeout_global(Some(GET)).build().call())
    }

    fn read(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let mut response = response
            .map_err(|error| ClientError::Connect { to: self.base.clone(), reason: error.to_string() })?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        Ok((status, body.map_err(|error| ClientError::Broken(error.to_string()))?))
    }

    /// Asks and waits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&self, request: &Request, timeout: Duration) -> Result<Outcome, ClientError> {
        let (terminal, body) = (self.clone(), json_of(request));
        let posted = tokio::task::spawn_blocking(move || terminal.post(&body, timeout)).await;
        let (_, bytes) = posted.map_err(|error| ClientError::Broken(error.to_string()))??;
        outcome_of(&bytes)
    }
}
