//! `GET /openapi.json`, and `GET /docs`: a page that shows it, with nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use locus_firmware_config::message::{FaultCode, MAX_MESSAGE_BYTES};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Shared, json as response};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The page and what it may load: itself alone.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Locus</title><style>{STYLE}</style></head><body><main id=\"page\"></main><script>{SCRIPT}</script></body></html>"
    );
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    (page, policy)
});

pub(super) async fn openapi(State(_): State<Arc<Shared>>) -> Response {
    response(StatusCode::OK, document().to_string().into_bytes())
}

pub(super) async fn page(State(_): State<Arc<Shared>>) -> Response {
    let (page, policy) = &*PAGE;
    let mut shown = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page.as_str()).into_response();
    let headers = shown.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    shown
}

/// A field that may be absent or null.
fn field(kind: &str, about: &str) -> Value {
    json!({ "type": [kind, "null"], "description": about })
}

fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// What comes back as JSON, and who may ask.
fn operation(summary: &str, roles: &str, answer: &str, schema: Value) -> Value {
    let roles = match roles {
        "" => "Anybody.".to_owned(),
        roles => format!("Roles: {roles}."),
    };
    json!({
        "summary": summary,
        "description": roles,
        "responses": {
            "200": { "description": answer, "content": { "application/json": { "schema": schema } } },
            "401": { "description": "No credentials, or none that count" },
            "403": { "description": "The role may not do this" },
        },
    })
}

/// The whole interface, OpenAPI 3.1.
fn document() -> Value {
    let faults: Vec<&str> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
    let mut predict =
        operation("Asks about one variant or sequence", "terminal, operator", "An answer", named("Answer"));
    predict["requestBody"] =
        json!({ "required": true, "content": { "application/json": { "schema": named("Request") } } });
    predict["responses"]["default"] = json!({
        "description": "A fault; its status follows from the code",
        "content": { "application/json": { "schema": named("Fault") } },
    });
    let mut batch = operation(
        "Asks many: an array, or one request a line; outcomes are streamed as they come",
        "terminal, operator",
        "One outcome a line, in any order, with the number of its request",
        named("BatchLine"),
    );
    batch["requestBody"] = json!({ "required": true, "content": {
        "application/jsonl": { "schema": named("Request") },
        "application/json": { "schema": { "type": "array", "items": named("Request") } },
    } });
    let lines = batch["responses"]["200"]["content"]["application/json"].take();
    batch["responses"]["200"]["content"] = json!({ "application/jsonl": lines });
    let mut annotate = operation(
        "Annotates a VCF; the query may name assembly and model. 256 MiB, lines of 1 MiB, 100 alleles a line at most",
        "terminal, operator",
        "The same lines in their order, with LOCUS_ keys in INFO; cut off where the file is, or who asks is revoked",
        json!({ "type": "string" }),
    );
    annotate["requestBody"] =
        json!({ "required": true, "content": { "text/plain": { "schema": { "type": "string" } } } });
    let lines = annotate["responses"]["200"]["content"]["application/json"].take();
    annotate["responses"]["200"]["content"] = json!({ "text/plain": lines });
    let object = json!({ "type": "object" });
    let head = json!({ "type": "object", "properties": {
        "records": { "type": "integer", "description": "Index of the next record" },
        "checkpoint": { "oneOf": [named("Checkpoint"), { "type": "null" }] },
    } });
    let order = |summary: &str| {
        let mut order = operation(summary, "operator", "What came of it", json!({ "type": "object" }));
        order["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": {
            "type": "object",
            "properties": { "model": field("string", "The model; may be left out where one is meant") },
        } } } });
        order["responses"]["409"] = json!({ "description": "Refused; what served before serves on" });
        order
    };
    let mut flash =
        order("Takes a signed bundle or pack, and flashes it as `locusctl flash` does; steps are streamed");
    flash["requestBody"] = json!({ "required": true, "content": { "application/octet-stream": {} } });
    let mut sign_in = operation(
        "Begins a session of the page",
        "",
        "Never; 204 with a cookie",
        json!({ "type": "object" }),
    );
    sign_in["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": {
        "type": "object",
        "properties": { "token": { "type": "string" } },
    } } } });
    let session = json!({
        "get": operation("Who is signed in, and what the page shows of the box; whether it is ready to anybody", "", "Session", json!({ "type": "object" })),
        "post": sign_in,
        "delete": operation("Ends the session of the page", "", "Never; 204 without the cookie", json!({ "type": "object" })),
    });
    let ready = json!({ "type": "object", "properties": { "ready": { "type": "boolean" } } });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Locus",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Answers what a DNA language model makes of a variant. Research use and decision support only.",
        },
        "security": [{ "certificate": [] }, { "token": [] }],
        "paths": {
            "/predict": { "post": predict },
            "/v1/predict:batch": { "post": batch },
            "/v1/checkpoint": { "get": operation("The signed head of the journal", "auditor, operator", "Records and checkpoint", head) },
            "/v1/annotate": { "post": annotate },
            "/v1/session": session,
            "/v1/operator": { "get": operation("Health, slots, journal and recipients", "operator", "The box", json!({ "type": "object" })) },
            "/v1/audit": { "get": operation("The latest entries of the audit trail, verified", "operator", "Entries and findings", json!({ "type": "object" })) },
            "/v1/flash": { "post": flash },
            "/v1/confirm": { "post": order("Ends a trial well") },
            "/v1/revert": { "post": order("Ends a trial badly") },
            "/v1/rollback": { "post": order("Goes back to the bundle before") },
            "/health": { "get": operation("How the box is: whether it is ready; all of it for an operator or auditor", "", "Health", object) },
            "/ready": { "get": operation("Whether requests are answered: every model is loaded and every length is warm", "", "It is; 503 where not", ready) },
            "/metrics": { "get": operation("Measurements as Prometheus text", "metrics, operator", "Text", json!({ "type": "string" })) },
            "/openapi.json": { "get": operation("This document", "any", "OpenAPI 3.1", json!({ "type": "object" })) },
            "/docs": { "get": operation("This document as a page", "any", "HTML", json!({ "type": "string" })) },
            "/": { "get": operation("The page at the bedside; `/operator` is the operator's", "", "HTML", json!({ "type": "string" })) },
        },
        "components": {
            "securitySchemes": {
                "certificate": { "type": "mutualTLS", "description": "`locusctl enroll NAME --role …`" },
                "token": { "type": "http", "scheme": "bearer", "description": "`locusctl enroll NAME --role … --token`" },
            },
            "schemas": {
                "Request": request(),
                "Answer": answer(),
                "Fault": {
                    "type": "object",
                    "required": ["code", "message", "retryable"],
                    "properties": {
                        "id": field("string", "The request's id"),
                        "code": { "type": "string", "enum": faults },
                        "message": { "type": "string", "description": "What was got, what was expected, what to do" },
                        "retryable": { "type": "boolean" },
                        "retry_after_ms": field("integer", "When to ask again"),
                    },
                },
                "Checkpoint": checkpoint(),
                "BatchLine": {
                    "type": "object",
                    "properties": {
                        "line": { "type": "integer", "description": "Which request, counted from 1" },
                        "status": { "type": "integer", "description": "As HTTP would say it of this request alone" },
                        "outcome": { "oneOf": [named("Answer"), named("Fault")] },
                    },
                },
            },
        },
    })
}

fn checkpoint() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let number = |about: &str| json!({ "type": "integer", "description": about });
    json!({
        "type": "object",
        "description": "A head of the journal, signed by the device: kept elsewhere, it shows a journal that was cut back",
        "properties": {
            "journal": text("Journal id, hexadecimal"),
            "segment": number("Number of the segment"),
            "commit": number("Number of the commit in the segment, from 1"),
            "first": number("Index of the segment's first record"),
            "records": number("Index of the next record"),
            "root": text("Head of the chain, hexadecimal"),
            "tree": text("Head of the Merkle tree (RFC 6962) over the segment's records, hexadecimal"),
            "unix_ms": number("When, milliseconds since 1970"),
            "closed": { "type": "boolean", "description": "Whether the segment ends here" },
            "signature": text("Ed25519 signature of the device, hexadecimal"),
        },
    })
}

fn request() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": format!(
            "Either sequence and mutation, or variant, or sequence alone. At most {MAX_MESSAGE_BYTES} bytes."
        ),
        "properties": {
            "id": field("string", "Name of the request; the same name is the same request"),
            "sequence": field("string", "Wild-type bases; alone, what a sequence model reads"),
            "mutation": field("string", "Change in the sequence, such as A123T"),
            "variant": field("string", "Change on the box's reference, such as chr17-43045705-T-A"),
            "subject": field("string", "Whom it is about: a pseudonym that only the journal keeps, encrypted"),
            "model": field("string", "Model that must answer: name, name@version or digest"),
            "assembly": field("string", "Genome assembly of the variant"),
            "gene": field("string", "Gene"),
            "transcript_id": field("string", "Transcript to read"),
            "lane": { "type": ["string", "null"], "enum": ["bedside", "batch", null] },
            "deadline_ms": field("integer", "Time after which no answer is wanted"),
            "explain": field("boolean", "Whether an explanation is wanted"),
            "transcript": {
                "type": ["object", "null"],
                "description": "Transcript in the coordinates of the sequence, 1-based inclusive",
                "properties": {
                    "strand": { "enum": ["+", "-"] },
                    "exons": { "type": "array", "items": { "type": "array", "items": { "type": "integer" } } },
                    "cds": { "type": "array", "items": { "type": "array", "items": { "type": "integer" } } },
                },
            },
        },
    })
}

fn answer() -> Value {
    json!({
        "type": "object",
        "properties": {
            "id": field("string", "The request's id"),
            "box": { "type": "string", "description": "Name of the box" },
            "mutation": field("string", "What was asked about"),
            "predicted_label": field("integer", "1 pathogenic, 0 benign, null: neither is said"),
            "predicted_description": { "type": "string", "description": "The label in words" },
            "pathogenic_probability": field("number", "Calibrated probability under the prior"),
            "benign_probability": field("number", "One less that"),
            "prior": field("number", "Share of pathogenic variants that the probability assumes"),
            "band": { "type": "string", "enum": ["benign", "uncertain", "pathogenic", "none"] },
            "abstained": { "type": "boolean" },
            "input_mode": { "type": "string", "enum": ["transcript", "sequence_only", "sequence"] },
            "consequence": field("string", "Sequence Ontology terms"),
            "transcript_id": field("string", "Transcript that was read"),
            "model": { "type": "object", "description": "Name, version and digest of the model" },
            "engine": { "type": "object", "description": "Provider and precision" },
            "timing_us": { "type": "object", "description": "Microseconds by stage" },
            "receipt": field("object", "Proof that the answer is in the journal: keep it"),
            "warnings": { "type": "array", "items": { "type": "string" } },
            "intended_use": { "type": "string" },
            "prediction": field("object", "What a sequence model says"),
            "hgvs_c": field("string", "HGVS name on the transcript, at the 3' end"),
            "hgvs_p": field("string", "HGVS name of the predicted change of the protein"),
            "assembly": field("string", "Genome assembly of the variant"),
            "reference": field("object", "Name, version and digest of the reference pack that was read"),
            "evidence": field("object", "PP3 or BP4, its strength, and the likelihood ratio that is reached with 95 % confidence"),
            "out_of_distribution": { "type": "boolean", "description": "Whether the input is unlike what the model was trained on" },
            "out_of_distribution_reason": field("string", "Why"),
            "attribution": { "type": "array", "items": { "type": "object" }, "description": "What each base near the change contributes, where explain asks for it" },
            "around": field("object", "Bases around the change, what each of them is, and their codons, where explain asks for it"),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, env, fs, path::Path};

    use locus_firmware_config::message::Request;

    use super::*;
    use crate::{journal::Checkpoint, pipeline::tests::an_answer};

    fn keys(value: &Value) -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_field_of_requests_and_answers_is_described_and_no_other() {
        let written = serde_json::to_value(Request::default()).unwrap();
        assert_eq!(keys(&request()["properties"]), keys(&written));
        let written: Value = serde_json::from_slice(&an_answer().to_json()).unwrap();
        assert_eq!(keys(&answer()["properties"]), keys(&written));
        let written = serde_json::to_value(Checkpoint {
            journal: String::new(),
            segment: 0,
            commit: 0,
            first: 0,
            records: 0,
            root: String::new(),
            tree: String::new(),
            unix_ms: 0,
            closed: false,
            signature: String::new(),
        })
        .unwrap();
        assert_eq!(keys(&checkpoint()["properties"]), keys(&written));
    }

    #[test]
    fn the_committed_description_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/openapi.json");
        if env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
            fs::write(&path, serde_json::to_string_pretty(&document()).unwrap() + "\n").unwrap();
        }
        let committed: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(
            committed,
            document(),
            "docs/reference/openapi.json is not what a box serves; run this test with INSTA_UPDATE=always"
        );
    }

    #[test]
    fn every_reference_leads_somewhere_and_the_page_loads_nothing_from_elsewhere() {
        let document = document();
        let text = document.to_string();
        let names = keys(&document["components"]["schemas"]);
        let references: BTreeSet<String> = text
            .split("#/components/schemas/")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned())
            .collect();
        assert_eq!(references, names);
        let (page, policy) = &*PAGE;
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
    }
}
