//! The pages of whoever asks and of the operator: files that hold nothing but what is drawn, for anybody; data is for whoever
//! signs in.

use std::sync::LazyLock;

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

/// What a page may load: this box's own files, and nothing that is written into it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const WORDS: &str = "application/json";

macro_rules! files {
    ($($path:literal, $kind:expr, $file:literal;)+) => {
        /// Every file: path, type, content.
        const FILES: &[(&str, &str, &[u8])] = &[
            $(($path, $kind, include_bytes!(concat!("../../../page/", $file)))),+
        ];
    };
}

files! {
    "/", HTML, "index.html";
    "/operator", HTML, "operator.html";
    "/sw.js", SCRIPT, "sw.js";
    "/manifest.webmanifest", "application/manifest+json", "manifest.webmanifest";
    "/page/style.css", "text/css; charset=utf-8", "style.css";
    "/page/answer.js", SCRIPT, "answer.js";
    "/page/api.js", SCRIPT, "api.js";
    "/page/app.js", SCRIPT, "app.js";
    "/page/band.js", SCRIPT, "band.js";
    "/page/batch.js", SCRIPT, "batch.js";
    "/page/dom.js", SCRIPT, "dom.js";
    "/page/drawing.js", SCRIPT, "drawing.js";
    "/page/input.js", SCRIPT, "input.js";
    "/page/operator.js", SCRIPT, "operator.js";
    "/page/said.js", SCRIPT, "said.js";
    "/page/shell.js", SCRIPT, "shell.js";
    "/page/words.js", SCRIPT, "words.js";
    "/page/en.json", WORDS, "en.json";
    "/page/zh.json", WORDS, "zh.json";
    "/page/icon.svg", "image/svg+xml", "icon.svg";
    "/page/icon-192.png", "image/png", "icon-192.png";
    "/page/icon-512.png", "image/png", "icon-512.png";
}

/// What changes with every file: the name of the copy that a browser keeps of the shell.
static TAGS: LazyLock<Vec<HeaderValue>> = LazyLock::new(|| {
    let tag = |content: &[u8]| format!("\"{}\"", hex::encode(&Sha256::digest(content)[..12]));
    FILES
        .iter()
        .map(|(_, _, content)| {
            HeaderValue::from_str(&tag(content)).expect("hex and quotes are visible ASCII")
        })
        .collect()
});

/// Headers of everything that this box sends over HTTPS, where a route sets no others.
pub(super) const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
];

/// Routes of all files.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(mut router: Router<S>) -> Router<S> {
    for (n, (path, kind, content)) in FILES.iter().enumerate() {
        let serve = move |headers: HeaderMap| async move { file(&headers, &TAGS[n], kind, content) };
        router = router.route(path, get(serve));
    }
    router
}

fn file(headers: &HeaderMap, tag: &HeaderValue, kind: &'static str, content: &'static [u8]) -> Response {
    let own = [
        (header::ETAG, tag.clone()),
        // Kept, and asked for again each time: a box that was changed shows its own page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (
            HeaderName::from_static("permissions-policy"),
            HeaderValue::from_static("camera=(), geolocation=(), microphone=()"),
        ),
    ];
    if headers.get(header::IF_NONE_MATCH) == Some(tag) {
        return (StatusCode::NOT_MODIFIED, own).into_response();
    }
    let mut response = (own, content).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
