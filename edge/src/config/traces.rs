//! Where traces go.

use std::{net::IpAddr, path::PathBuf};

use axum::http::{Uri, uri::Scheme};
use serde::{Deserialize, Serialize};

use super::Problem;

/// Traces in the sense of OpenTelemetry. Without an endpoint there are none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Where they are posted (OTLP, HTTP with protobuf), such as `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: Option<String>,
    /// Share of requests that are traced, of those that belong to nobody else's trace.
    pub ratio: f64,
    /// Headers to send with them, in a file: `name: value`, one a line.
    pub headers_file: Option<PathBuf>,
    /// Certificates (PEM) by which the endpoint is known, in place of the system's.
    pub ca: Option<PathBuf>,
    /// Time for one post, and at most so long a shutdown waits for the last.
    pub timeout_ms: u32,
    /// Requests whose traces wait for their post; what is more is dropped and counted.
    pub queue: u32,
}

impl Default for Traces {
    fn default() -> Self {
        Self { endpoint: None, ratio: 1.0, headers_file: None, ca: None, timeout_ms: 2_000, queue: 2_048 }
    }
}

/// Whether nothing of what is posted there can be read on the way.
fn is_safe(endpoint: &str) -> bool {
    let Ok(uri) = endpoint.parse::<Uri>() else { return false };
    let Some(authority) = uri.authority().filter(|authority| !authority.as_str().contains('@')) else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let loopback = host.parse::<IpAddr>().map_or(host == "localhost", |address| address.is_loopback());
    !host.is_empty()
        && (uri.scheme() == Some(&Scheme::HTTPS) || uri.scheme() == Some(&Scheme::HTTP) && loopback)
}

impl Traces {
    pub(super) fn problem(&self) -> Option<Problem> {
        let endpoint = self.endpoint.as_deref();
        Problem::first([
            (
                endpoint.is_none_or(is_safe),
                "traces.endpoint",
                // What it is may hold a secret.
                "another address".into(),
                "https://host/v1/traces, or http:// on loopback: without TLS whoever is on the way would read which requests come when",
            ),
            (
                (0.0..=1.0).contains(&self.ratio),
                "traces.ratio",
                self.ratio.to_string(),
                "a share from 0 to 1",
            ),
            (
                endpoint.is_some() || self.headers_file.is_none() && self.ca.is_none(),
                "traces.endpoint",
                "none beside traces.headers_file or traces.ca".into(),
                "an address",
            ),
            (
                self.ca.is_none() || endpoint.is_some_and(|endpoint| endpoint.starts_with("https://")),
                "traces.ca",
                "a file".into(),
                "none where traces.endpoint is not https://",
            ),
            (
                (100..=30_000).contains(&self.timeout_ms),
                "traces.timeout_ms",
                self.timeout_ms.to_string(),
                "100 to 30,000",
            ),
            ((1..=100_000).contains(&self.queue), "traces.queue", self.queue.to_string(), "1 to 100,000"),
        ])
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.headers_file, &mut self.ca].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_that_nobody_can_listen_to_is_taken() {
        for good in [
            "http://127.0.0.1:4318/v1/traces",
            "http://localhost:4318/v1/traces",
            "http://[::1]:4318/v1/traces",
            "https://collector.ward:4318/v1/traces",
        ] {
            assert!(is_safe(good), "{good}");
        }
        for bad in [
            "http://10.0.0.1:4318/v1/traces",
            "http://localhost.evil/v1/traces",
            "https://user:secret@collector/v1/traces",
            "http://user@127.0.0.1/",
            "127.0.0.1:4318",
            "grpc://127.0.0.1:4317",
            "/v1/traces",
            "",
        ] {
            assert!(!is_safe(bad), "{bad}");
        }
    }
}
