//! Over HTTPS: paths, credentials, roles, and what another site has a browser send.

use std::fs;

use locus_edge::client::Credentials;
use locus_tests::{Daemon, Rig, facts};

use crate::{
    PATIENCE,
    shown::{Shown, check, without_tls},
};

/// What the operator's page asks and orders.
const OPERATORS: [&str; 6] =
    ["/v1/operator", "/v1/audit", "/v1/flash", "/v1/confirm", "/v1/revert", "/v1/rollback"];
/// Somebody who guesses a token on the page.
const SIGN_IN: &str =
    "{\"token\": \"locus-token-0000000000000000000000000000000000000000000000000000000000000000\"}";

/// A request over HTTPS: let in, or refused by status or handshake.
fn http(
    daemon: &Daemon,
    shown: &Credentials,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<String, String> {
    let terminal = daemon.http_with(shown).unwrap();
    let request = serde_json::to_vec(&facts().variants[0].request("u")).unwrap();
    let got = match path {
        "/predict" | "/v1/predict:batch" | "/v1/annotate" | "/v1/flash" | "/v1/confirm" | "/v1/revert"
        | "/v1/rollback" => terminal.post_to(path, headers, &request, PATIENCE),
        "/v1/session" => terminal.post_to(path, headers, SIGN_IN.as_bytes(), PATIENCE),
        _ => terminal.get(path),
    };
    let (status, body) = got.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&body).into_owned();
    match status {
        401 | 403 => Err(format!("{status} {text}")),
        status => Ok(format!("{status} {text}")),
    }
}

/// What it is, what is shown, where, with which headers, and why it is refused.
type Case<'a> = (String, Credentials, &'a str, Vec<(&'a str, &'a str)>, &'a str);

#[test]
fn over_https() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let shown = Shown::of(&rig);
    let daemon = rig.start().unwrap();
    let operator = daemon.operator().unwrap();
    let with = |token: &str| shown.nothing.clone().with_token(token);
    let bearer = |shown: &Credentials, token: &str| Credentials {
        token: Some(token.to_owned().into()),
        ..shown.clone()
    };
    let guess = format!("locus-token-{}", "00".repeat(32));
    let local = fs::read_to_string(rig.path("state/access/local.token")).unwrap();
    let mut near = shown.token.trim().to_owned();
    let last = if near.pop() == Some('0') { '1' } else { '0' };
    near.push(last);
    let plain = [("nothing", shown.nothing.clone(), "no_credentials")];
    let mut cases: Vec<Case<'_>> = Vec::new();
    let paths = [
        "/predict",
        "/v1/predict:batch",
        "/v1/annotate",
        "/v1/checkpoint",
        "/metrics",
        "/openapi.json",
        "/docs",
    ];
    for path in paths.into_iter().chain(OPERATORS) {
        for (what, credentials, reason) in &plain {
            cases.push((format!("{what} at {path}"), credentials.clone(), path, vec![], *reason));
        }
    }
    for (what, credentials, reason) in [
        ("a foreign certificate", &shown.foreign, "handshake"),
        ("an expired certificate", &shown.expired, "handshake"),
        ("the server's certificate", &shown.server, "handshake"),
        ("a certificate of this authority that nobody enrolled", &shown.unknown, "unknown_certificate"),
        ("a revoked certificate", &shown.revoked, "revoked"),
        ("a guessed token", &with(&guess), "unknown_token"),
        ("no token after the scheme", &with(""), "unknown_token"),
        ("a token with another last digit", &with(&near), "unknown_token"),
        ("a revoked token", &with(&shown.revoked_token), "revoked"),
        ("an expired token", &with(&shown.expired_token), "expired"),
        ("a good certificate with a guessed token", &bearer(&shown.good, &guess), "unknown_token"),
        ("a good certificate with the token of another", &bearer(&shown.good, &shown.token), "other_name"),
        ("a foreign certificate with a good token", &bearer(&shown.foreign, &shown.token), "handshake"),
        ("a revoked certificate with a good token", &bearer(&shown.revoked, &shown.token), "revoked"),
        ("the role metrics asks", &shown.metrics, "role"),
        ("the role auditor asks", &shown.auditor, "role"),
    ] {
        cases.push((what.into(), credentials.clone(), "/predict", vec![], reason));
    }
    for (what, credentials, path, reason) in [
        ("a terminal", &shown.good, "/metrics", "role"),
        ("a terminal", &shown.good, "/v1/checkpoint", "role"),
        ("a terminal by token", &with(&shown.token), "/metrics", "role"),
        ("the role metrics", &shown.metrics, "/v1/checkpoint", "role"),
        ("the role metrics", &shown.metrics, "/v1/predict:batch", "role"),
        ("the role auditor", &shown.auditor, "/metrics", "role"),
        ("the role auditor", &shown.auditor, "/v1/audit", "role"),
        ("the role metrics", &shown.metrics, "/v1/annotate", "role"),
        ("the token of this machine", &with(&local), "/v1/operator", "role"),
        ("the token of this machine", &with(&local), "/v1/flash", "role"),
        ("nothing but a guess", &shown.nothing, "/v1/session", "unknown_token"),
        ("a good certificate and a guess", &shown.good, "/v1/session", "unknown_token"),
        ("a guessed token", &with(&guess), "/health", "unknown_token"),
        ("a guessed token", &with(&guess), "/ready", "unknown_token"),
        ("a revoked certificate", &shown.revoked, "/ready", "revoked"),
    ] {
        cases.push((format!("{what} at {path}"), credentials.clone(), path, vec![], reason));
    }
    for path in OPERATORS {
        cases.push((format!("a terminal at {path}"), shown.good.clone(), path, vec![], "role"));
    }
    // What another site has a browser send, with whatever the browser shows.
    let cookie = format!("__Host-locus={}", "0".repeat(64));
    for (what, credentials, path, headers, reason) in [
        (
            "another site, with a certificate",
            &shown.good,
            "/predict",
            vec![("sec-fetch-site", "cross-site")],
            "cross_site",
        ),
        (
            "another site that names itself",
            &shown.good,
            "/predict",
            vec![("origin", "https://evil.example")],
            "cross_site",
        ),
        ("a page without an origin", &shown.good, "/v1/annotate", vec![("origin", "null")], "cross_site"),
        (
            "another site signs somebody in",
            &shown.nothing,
            "/v1/session",
            vec![("sec-fetch-site", "same-site")],
            "cross_site",
        ),
        (
            "a cookie from no browser",
            &shown.nothing,
            "/predict",
            vec![("cookie", cookie.as_str())],
            "cross_site",
        ),
        (
            "a guessed session",
            &shown.nothing,
            "/predict",
            vec![("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin")],
            "session",
        ),
    ] {
        cases.push((what.into(), credentials.clone(), path, headers, reason));
    }
    let header = |name| vec![("locus-terminal", name)];
    cases.push((
        "another name in the header".into(),
        shown.good.clone(),
        "/predict",
        header("ward-2"),
        "other_name",
    ));
    cases.push((
        "another name beside a token".into(),
        with(&shown.token),
        "/predict",
        header("ward-1"),
        "other_name",
    ));
    cases.push((
        "the box's name in the header".into(),
        shown.good.clone(),
        "/predict",
        header("box-1"),
        "other_name",
    ));
    cases.push((
        "another scheme".into(),
        shown.nothing.clone(),
        "/predict",
        vec![("authorization", "Basic d2FyZC0zOng=")],
        "unknown_token",
    ));
    for (case, credentials, path, headers, reason) in &cases {
        check(&operator, "http", case, reason, || http(&daemon, credentials, path, headers));
    }
    let address = daemon.endpoints.http.clone().unwrap().replace("https://", "");
    let request = b"GET /predict HTTP/1.1\r\nhost: x\r\n\r\n";
    check(&operator, "http", "no TLS", "handshake", || without_tls(&address, request));
    println!("unauthorised: {} cases over HTTPS refused and counted", cases.len() + 1);

    // The files of the pages hold nothing, and are anybody's.
    for path in ["/", "/operator", "/page/app.js", "/page/zh.json", "/manifest.webmanifest"] {
        let shell = http(&daemon, &shown.nothing, path, &[]).unwrap();
        assert!(shell.starts_with("200") && !shell.contains("box-1"), "{path}");
    }
    let stale = [("cookie", cookie.as_str()), ("sec-fetch-site", "same-origin")];
    assert!(
        http(&daemon, &shown.good, "/predict", &stale).unwrap().starts_with("200"),
        "a certificate is enough"
    );
    // What is left open says nothing, and who may is let in.
    for path in ["/health", "/ready"] {
        assert_eq!(http(&daemon, &shown.nothing, path, &[]).unwrap(), "200 {\"ready\":true}");
    }
    for (credentials, path, headers) in [
        (&shown.good, "/predict", header("ward-1")),
        (&with(&shown.token), "/predict", vec![]),
        (&bearer(&shown.other, &rig.token("ward-2", "terminal").unwrap()), "/v1/predict:batch", vec![]),
        (&shown.metrics, "/metrics", vec![]),
        (&shown.auditor, "/v1/checkpoint", vec![]),
        (&shown.auditor, "/health", vec![]),
        (&shown.good, "/docs", vec![]),
        (&shown.good, "/openapi.json", vec![]),
    ] {
        let got = http(&daemon, credentials, path, &headers).unwrap();
        assert!(got.starts_with("200"), "{path}: {got}");
    }
    daemon.terminate().unwrap();
    let names = rig.exported().unwrap();
    let names: Vec<_> = names.iter().map(|one| one["record"]["terminal"].as_str().unwrap()).collect();
    assert_eq!(names, ["ward-1", "ward-3", "ward-2"], "the journal knows who asked");
}
