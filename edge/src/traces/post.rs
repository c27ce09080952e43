//! OTLP over HTTP: protobuf in the body of a POST.

use std::{path::Path, sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{Resource, trace::SpanData};
use prost::Message as _;
use ureq::{
    Agent,
    http::{HeaderName, HeaderValue},
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};
use zeroize::Zeroizing;

use crate::{
    config,
    vfs::{OsVfs, Vfs as _},
};

/// The certificates of Debian and its relatives.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Largest file of headers or certificates, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Most headers.
const MAX_HEADERS: usize = 16;
/// Largest answer of a collector that is read, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// An endpoint.
pub(crate) struct Post {
    agent: Agent,
    endpoint: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    resource: ResourceAttributesWithSchema,
}

/// Headers and address may hold secrets.
impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("headers", &self.headers.len()).finish_non_exhaustive()
    }
}

impl Post {
    /// The endpoint that a configuration names, if it names one; nothing is sent yet.
    ///
    /// # Errors
    /// Headers or certificates cannot be read.
    pub(crate) fn new(config: &config::Traces, r#box: &str) -> Result<Option<Self>, String> {
        let Some(endpoint) = config.endpoint.clone() else { return Ok(None) };
        let mut tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        if endpoint.starts_with("https://") {
            let certificates = certificates(config.ca.as_deref().unwrap_or(Path::new(SYSTEM)))?;
            tls = tls.root_certs(RootCerts::Specific(Arc::new(certificates)));
        }
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(Duration::from_millis(config.timeout_ms.into())))
            // Where it is sent on to, or through, the configuration does not say.
            .max_redirects(0)
            .proxy(None)
            .http_status_as_error(false)
            .build()
            .into();
        let resource = Resource::builder_empty()
            .with_service_name("locusd")
            .with_attributes([
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", r#box.to_owned()),
            ])
            .build();
        let headers = config.headers_file.as_deref().map(headers).transpose()?.unwrap_or_default();
        Ok(Some(Self { agent, endpoint, headers, resource: (&resource).into() }))
    }

    /// Posts spans and waits until they are taken, or until time is over.
    ///
    /// # Errors
    /// They are not taken, in words that hold nothing of them.
    pub(super) fn send(&self, spans: Vec<SpanData>) -> Result<(), String> {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut request = self.agent.post(&self.endpoint).content_type("application/x-protobuf");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = request.send(&body).map_err(|error| said(&error))?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(format!("the collector answers with status {status}"));
        }
        let answer = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let answer = answer.map_err(|error| said(&error))?;
        // An answer that cannot be read is an answer all the same: it has the spans.
        let partial = ExportTraceServiceResponse::decode(&*answer).ok().and_then(|a| a.partial_success);
        match partial.map_or(0, |partial| partial.rejected_spans) {
            0 => Ok(()),
            rejected => Err(format!("the collector rejects {rejected} spans")),
        }
    }
}

/// What went wrong, without the address.
fn said(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => format!("no connection: {}", error.kind()),
        ureq::Error::Timeout(_) => "no answer in time".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        ureq::Error::HostNotFound => "the collector's name is not known".into(),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            "no TLS: its certificate may not be known here".into()
        }
        _ => "the collector does not speak HTTP as expected".into(),
    }
}

fn certificates(path: &Path) -> Result<Vec<ureq::tls::Certificate<'static>>, String> {
    let named = |reason: &str| format!("traces.ca {}: {reason}", path.display());
    let pem = OsVfs.read(path, MAX_FILE).map_err(|error| named(&error.to_string()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(named("it holds no certificate")) } else { Ok(certificates) }
}

fn headers(path: &Path) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    let named = |reason: &str| format!("traces.headers_file {}: {reason}", path.display());
    let text = OsVfs.read(path, MAX_FILE).map(Zeroizing::new).map_err(|error| named(&error.to_string()))?;
    let text = std::str::from_utf8(&text).map_err(|_| named("it is no text"))?;
    let mut headers = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = || named(&format!("line {}: expected `name: value`", number + 1));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    if headers.len() > MAX_HEADERS {
        return Err(named(&format!("got {} headers, expected at most {MAX_HEADERS}", headers.len())));
    }
    Ok(headers)
}
