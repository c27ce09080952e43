//! A terminal over HTTPS.

use std::{sync::Arc, time::Duration};

use locus_firmware_config::message::{FaultCode, Outcome, Request};
use ureq::{
    Agent, RequestBuilder,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig},
};
use zeroize::Zeroizing;

use super::{ClientError, Credentials, json_of, outcome_of};

/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 4 << 20;
/// Time to get a page.
const GET: Duration = Duration::from_secs(20);

/// Keeps its connection open between requests.
#[derive(Clone, Debug)]
pub struct HttpTerminal {
    agent: Agent,
    base: String,
    token: Option<Zeroizing<String>>,
}

impl HttpTerminal {
    /// Trusts the given authority and no other; who it is, its credentials say.
    ///
    /// # Errors
    /// They hold no certificate or key.
    pub fn new(base: &str, credentials: &Credentials) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::Connect { to: base.to_owned(), reason };
        let certificate =
            Certificate::from_pem(&credentials.authority).map_err(|error| wrong(error.to_string()))?;
        let mut tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(vec![certificate])))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if let Some((certificate, key)) = &credentials.certificate {
            let own = Certificate::from_pem(certificate).map_err(|error| wrong(error.to_string()))?;
            let key = PrivateKey::from_pem(key).map_err(|error| wrong(error.to_string()))?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&[own], key)));
        }
        let agent = Agent::config_builder().tls_config(tls.build()).http_status_as_error(false).build();
        Ok(Self { agent: agent.into(), base: base.to_owned(), token: credentials.token.clone() })
    }

    fn with_token<T>(&self, request: RequestBuilder<T>) -> RequestBuilder<T> {
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {}", &**token)),
            None => request,
        }
    }

    /// Posts a request as it is: status and body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post(&self, body: &[u8], timeout: Duration) -> Result<(u16, Vec<u8>), ClientError> {
        self.post_to("/predict", &[], body, timeout)
    }

    /// Posts to a path, with further headers: status and body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post_to(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        timeout: Duration,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let request = self.with_token(self.agent.post(format!("{}{path}", self.base)));
        let mut request = request.config().timeout_global(Some(timeout)).build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.read(request.content_type("application/json").send(body))
    }

    /// Gets a path: status and body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get(&self, path: &str) -> Result<(u16, Vec<u8>), ClientError> {
        let request = self.with_token(self.agent.get(format!("{}{path}", self.base)));
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
        let (status, bytes) = posted.map_err(|error| ClientError::Broken(error.to_string()))??;
        match (outcome_of(&bytes)?, status) {
            // What the door says is no outcome of the protocol.
            (Outcome::Fault(fault), 401 | 403) if fault.code == FaultCode::Unknown => {
                Err(ClientError::Refused(fault.message))
            }
            (outcome, _) => Ok(outcome),
        }
    }
}
