//! Whoever may not is refused, and counted: over HTTPS, at the embedded broker and at mosquitto.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use locus_edge::{
    access::{Authority, Credential, Kind, Registry, Role, Use, token_digest},
    client::{Credentials, HttpTerminal, MqttTerminal},
    state::StateDir,
};
use locus_firmware_config::message::Outcome;
use locus_tests::{Daemon, Mosquitto, Rig, facts, free_port, peer};
use rumqttc::{
    AsyncClient, Event, MqttOptions, PublishOptions, TlsConfiguration, Transport,
    mqttbytes::{
        QoS,
        v5::{ConnectReturnCode, LastWill, Packet, PubAckReason, SubscribeReasonCode},
    },
};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const DAY: u64 = 86_400;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What can be shown, good and bad.
struct Shown {
    nothing: Credentials,
    good: Credentials,
    other: Credentials,
    metrics: Credentials,
    auditor: Credentials,
    foreign: Credentials,
    expired: Credentials,
    unknown: Credentials,
    revoked: Credentials,
    server: Credentials,
    token: String,
    revoked_token: String,
    expired_token: String,
}

impl Shown {
    /// Of a box whose model is flashed.
    fn of(rig: &Rig) -> Self {
        let state = StateDir::new(&rig.path("state"));
        let nothing = Credentials::trusting(&state.authority()).unwrap();
        let mut foreign = {
            let elsewhere = Rig::new("").unwrap();
            elsewhere.ctl(&["init"]).unwrap();
            elsewhere.certificate("ward-1", "terminal").unwrap()
        };
        foreign.authority = nothing.authority.clone();
        let revoked = rig.certificate("gone-1", "terminal").unwrap();
        let revoked_token = rig.token("gone-2", "terminal").unwrap();
        rig.ctl(&["access", "revoke", "gone-1"]).unwrap();
        rig.ctl(&["access", "revoke", "gone-2"]).unwrap();
        let authority = Authority::load_or_create(&state, "box-1", now_s()).unwrap();
        let issue = |name: &str, when: u64, enrolled: bool| {
            let issued = authority.issue(name, &[], Use::Client, None, when, 5).unwrap();
            let key = issued.key.unwrap().as_bytes().to_vec();
            if enrolled {
                let credential = Credential {
                    kind: Kind::Certificate,
                    sha256: hex::encode(issued.digest),
                    serial: Some(issued.serial),
                    issued_s: when,
                    expires_s: issued.expires_s,
                    revoked_s: None,
                };
                Registry::change(&state, now_s(), |r| r.add(name, Role::Terminal, credential, now_s()))
                    .unwrap();
            }
            let certificate = Some((issued.certificate.into_bytes(), key.into()));
            Credentials { certificate, ..nothing.clone() }
        };
        let expired = issue("late-1", now_s() - 10 * DAY, true);
        let unknown = issue("ward-1", now_s(), false);
        let expired_token = format!("locus-token-{}", "e1".repeat(32));
        let late = Credential {
            kind: Kind::Token,
            sha256: hex::encode(token_digest(&expired_token)),
            serial: None,
            issued_s: 1,
            expires_s: 2,
            revoked_s: None,
        };
        Registry::change(&state, now_s(), |r| r.add("late-2", Role::Terminal, late, now_s())).unwrap();
        let server =
            nothing.clone().with_certificate(&state.certificate(), &state.certificate_key()).unwrap();
        Self {
            good: rig.certificate("ward-1", "terminal").unwrap(),
            other: rig.certificate("ward-2", "terminal").unwrap(),
            metrics: rig.certificate("meter", "metrics").unwrap(),
            auditor: rig.certificate("witness", "auditor").unwrap(),
            token: rig.token("ward-3", "terminal").unwrap(),
            nothing,
            foreign,
            expired,
            unknown,
            revoked,
            server,
            revoked_token,
            expired_token,
        }
    }
}

/// How often something was refused for a reason.
fn refused(operator: &HttpTerminal, transport: &str, reason: &str) -> u64 {
    let text = String::from_utf8(operator.get("/metrics").unwrap().1).unwrap();
    let line = format!("locus_refused_total{{transport=\"{transport}\",reason=\"{reason}\"}} ");
    text.lines().find_map(|one| one.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

/// A case is refused as it should be, and counted.
fn check(
    operator: &HttpTerminal,
    transport: &str,
    case: &str,
    reason: &str,
    run: impl FnOnce() -> Result<String, String>,
) {
    let before = refused(operator, transport, reason);
    let outcome = run();
    assert!(outcome.is_err(), "{transport}, {case}: let in: {outcome:?}");
    let waited = std::time::Instant::now();
    while refused(operator, transport, reason) <= before {
        assert!(waited.elapsed() < PATIENCE, "{transport}, {case}: not counted as {reason}: {outcome:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

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

/// Bytes that are no TLS, to a port that speaks nothing else.
fn without_tls(address: &str, bytes: &[u8]) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    // A TLS alert or nothing at all.
    if answer.is_empty() || answer[0] == 0x15 { Err("no TLS".into()) } else { Ok(format!("{answer:?}")) }
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

/// What is tried at a broker.
#[derive(Clone, Copy)]
enum Try<'a> {
    Connect,
    Publish(&'a str),
    Subscribe(&'a str),
}

/// Who tries it.
#[derive(Clone, Default)]
struct Who {
    port: u16,
    tls: Option<Credentials>,
    login: Option<(String, String)>,
    id: String,
}

impl Who {
    fn options(&self) -> MqttOptions {
        let mut options = MqttOptions::new(self.id.clone(), ("127.0.0.1", self.port));
        options.set_clean_start(true).set_keep_alive(30);
        if let Some(shown) = &self.tls {
            let config = shown.tls().unwrap();
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        if let Some((user, password)) = &self.login {
            options.set_credentials(user.clone(), password.clone());
        }
        options
    }

    /// Tries it; an error says how it was refused.
    async fn attempt(&self, what: Try<'_>) -> Result<String, String> {
        let (client, mut events) = AsyncClient::builder(self.options()).capacity(8).build();
        let trying = async {
            loop {
                match events.poll().await.map_err(|error| error.to_string())? {
                    Event::Incoming(Packet::ConnAck(ack)) if ack.code == ConnectReturnCode::Success => {
                        let tried = match what {
                            Try::Connect => return Ok("connected".to_owned()),
                            Try::Subscribe(filter) => {
                                client.subscribe(filter, QoS::AtLeastOnce).await.map(drop)
                            }
                            Try::Publish(topic) => {
                                let options = PublishOptions::new(QoS::AtLeastOnce);
                                client.publish(topic, "{}", options).await.map(drop)
                            }
                        };
                        tried.map_err(|error| error.to_string())?;
                    }
                    Event::Incoming(Packet::ConnAck(ack)) => return Err(format!("{:?}", ack.code)),
                    Event::Incoming(Packet::SubAck(ack)) => {
                        return match ack.return_codes[0] {
                            SubscribeReasonCode::Success(_) => Ok("subscribed".to_owned()),
                            code => Err(format!("{code:?}")),
                        };
                    }
                    Event::Incoming(Packet::PubAck(ack)) => {
                        return match ack.reason {
                            PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
                                Ok("published".to_owned())
                            }
                            reason => Err(format!("{reason:?}")),
                        };
                    }
                    Event::Incoming(Packet::Disconnect(bye)) => return Err(format!("{:?}", bye.reason_code)),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, trying).await.map_err(|_| "no answer".to_owned())?
    }
}

/// Certificates that no broker may take, and topics that no terminal may publish to: the same for both brokers.
fn common(shown: &Shown, port: u16) -> Vec<(&'static str, Who, Try<'static>, &'static str)> {
    let who = |tls: &Credentials| Who { port, tls: Some(tls.clone()), id: String::new(), login: None };
    let mut cases = vec![
        ("no certificate", who(&shown.nothing), Try::Connect, "no_credentials"),
        ("a foreign certificate", who(&shown.foreign), Try::Connect, "handshake"),
        ("an expired certificate", who(&shown.expired), Try::Connect, "handshake"),
        ("the server's certificate", who(&shown.server), Try::Connect, "handshake"),
        ("a revoked certificate", who(&shown.revoked), Try::Connect, "revoked"),
    ];
    for (case, topic) in [
        ("a request as another terminal", "locus/v1/ward/request/ward-2"),
        ("a request below the own topic", "locus/v1/ward/request/ward-1/x"),
        ("a request of another site", "locus/v1/other/request/ward-1"),
        ("an answer to another terminal", "locus/v1/ward/response/ward-2"),
        ("an answer to itself", "locus/v1/ward/response/ward-1"),
        ("the status of the box", "locus/v1/ward/status/box-1"),
        ("a checkpoint of the box", "locus/v1/ward/checkpoint/box-1"),
        ("another topic", "somewhere/else"),
    ] {
        cases.push((case, who(&shown.good), Try::Publish(topic), "topic"));
    }
    cases
}

/// Filters that would show what is not a terminal's own.
const FILTERS: [&str; 8] = [
    "locus/v1/ward/response/ward-2",
    "locus/v1/ward/response/ward-2/#",
    "locus/v1/ward/response/#",
    "locus/v1/ward/response/+",
    "locus/v1/ward/+/ward-2",
    "locus/v1/ward/request/+",
    "locus/v1/ward/request/ward-2",
    "#",
];

/// Subscribes to all of them beside its own answers, whatever the broker says to it; then asks twice, the victim in
/// between. Nothing but the own answers may arrive.
async fn hears_nothing(thief: &Who, victim: &mut MqttTerminal) {
    let (client, mut events) = AsyncClient::builder(thief.options()).capacity(32).build();
    for filter in FILTERS.iter().copied().chain(["locus/v1/ward/response/ward-1"]) {
        client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
    }
    let ask = |id: &str| serde_json::to_vec(&facts().variants[0].request(id)).unwrap();
    let own = |id: &str| {
        let (client, body) = (client.clone(), ask(id));
        async move {
            let options = PublishOptions::new(QoS::AtLeastOnce);
            client.publish("locus/v1/ward/request/ward-1", body, options).await.unwrap();
        }
    };
    let mut acknowledged = 0;
    let listening = async {
        loop {
            match events.poll().await.unwrap() {
                Event::Incoming(Packet::SubAck(_)) => {
                    acknowledged += 1;
                    if acknowledged == FILTERS.len() + 1 {
                        own("first").await;
                    }
                }
                // Everybody may see how the box is, also through a filter that asks for more.
                Event::Incoming(Packet::Publish(publish))
                    if [&b"locus/v1/ward/status/"[..], b"locus/v1/ward/checkpoint/"]
                        .iter()
                        .any(|own| publish.topic.starts_with(own)) => {}
                Event::Incoming(Packet::Publish(publish)) => {
                    assert_eq!(publish.topic, "locus/v1/ward/response/ward-1", "the thief hears");
                    let outcome = Outcome::from_json(&publish.payload).unwrap();
                    let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
                    match answer.id.as_deref() {
                        Some("first") => {
                            let asked = victim.ask(&facts().variants[1].request("secret"), PATIENCE).await;
                            assert!(matches!(asked, Ok(Outcome::Answer(_))), "{asked:?}");
                            own("last").await;
                        }
                        Some("last") => return,
                        other => panic!("{other:?}"),
                    }
                }
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_embedded_broker() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let shown = Shown::of(&rig);
    let daemon = rig.start().unwrap();
    let operator = daemon.operator().unwrap();
    let encrypted = daemon.endpoints.mqtts.clone().unwrap();
    let port: u16 = encrypted.rsplit_once(':').unwrap().1.parse().unwrap();
    let (_, open) = daemon.broker().unwrap();
    let mut cases = common(&shown, port);
    let who = |tls: &Credentials| Who { port, tls: Some(tls.clone()), ..Who::default() };
    let login = |user: &str, password: &str| Some((user.to_owned(), password.trim().to_owned()));
    let plain =
        |user: &str, password: &str| Who { port: open, login: login(user, password), ..Who::default() };
    let guess = format!("locus-token-{}", "00".repeat(32));
    let named = |tls: &Credentials, id: &str| Who { id: id.to_owned(), ..who(tls) };
    cases.extend([
        ("a certificate that nobody enrolled", who(&shown.unknown), Try::Connect, "unknown_certificate"),
        ("nothing, without TLS", Who { port: open, ..Who::default() }, Try::Connect, "no_credentials"),
        ("a guessed token", plain("ward-3", &guess), Try::Connect, "unknown_token"),
        ("no password", plain("ward-3", ""), Try::Connect, "unknown_token"),
        ("the token of another", plain("ward-1", &shown.token), Try::Connect, "other_name"),
        ("a revoked token", plain("gone-2", &shown.revoked_token), Try::Connect, "revoked"),
        ("an expired token", plain("late-2", &shown.expired_token), Try::Connect, "expired"),
        ("the box's own user", plain("$box", &guess), Try::Connect, "unknown_token"),
        ("the box's own user with a good token", plain("$box", &shown.token), Try::Connect, "other_name"),
        ("the box's name with a good token", plain("box-1", &shown.token), Try::Connect, "other_name"),
        (
            "a guessed token over TLS",
            Who { login: login("ward-3", &guess), ..who(&shown.nothing) },
            Try::Connect,
            "unknown_token",
        ),
        (
            "a certificate and another user",
            Who { login: login("ward-2", &shown.token), ..who(&shown.good) },
            Try::Connect,
            "other_name",
        ),
        ("the client identifier of another", named(&shown.good, "ward-2"), Try::Connect, "client_id"),
        (
            "the client identifier of the box",
            named(&shown.good, "locus-ward-box-1"),
            Try::Connect,
            "client_id",
        ),
        ("any client identifier", named(&shown.good, "paho"), Try::Connect, "client_id"),
        ("the role metrics asks", who(&shown.metrics), Try::Publish("locus/v1/ward/request/meter"), "topic"),
        (
            "the role auditor asks",
            who(&shown.auditor),
            Try::Publish("locus/v1/ward/request/witness"),
            "topic",
        ),
        (
            "the role metrics listens",
            who(&shown.metrics),
            Try::Subscribe("locus/v1/ward/response/meter"),
            "topic",
        ),
        (
            "a share of the requests",
            who(&shown.good),
            Try::Subscribe("$share/locus/locus/v1/ward/request/+"),
            "topic",
        ),
        (
            "a share of its own answers",
            who(&shown.good),
            Try::Subscribe("$share/x/locus/v1/ward/response/ward-1"),
            "topic",
        ),
        (
            "a name that begins as its own",
            who(&shown.good),
            Try::Subscribe("locus/v1/ward/response/ward-10"),
            "topic",
        ),
    ]);
    cases.extend(FILTERS.map(|filter| (filter, who(&shown.good), Try::Subscribe(filter), "topic")));
    let runtime = tokio::runtime::Handle::current();
    for (case, who, what, reason) in &cases {
        let attempt = || tokio::task::block_in_place(|| runtime.block_on(who.attempt(*what)));
        tokio::task::block_in_place(|| check(&operator, "mqtt", case, reason, attempt));
    }
    // A will is a message that is sent later.
    let mut options = who(&shown.good).options();
    let will = LastWill::new("locus/v1/ward/response/ward-2", "{}", QoS::AtLeastOnce, false, None);
    options.set_last_will(will);
    tokio::task::block_in_place(|| {
        check(&operator, "mqtt", "a will to another terminal", "topic", || {
            runtime.block_on(async {
                let (_client, mut events) = AsyncClient::builder(options).capacity(8).build();
                while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::ConnAck(_))) {}
            });
            Err("it is gone".into())
        });
        check(&operator, "mqtt", "no TLS", "handshake", || {
            without_tls(&encrypted, b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x00\x00\x00")
        });
    });
    println!("unauthorised: {} cases at the embedded broker refused and counted", cases.len() + 2);
    for allowed in [
        (who(&shown.good), Try::Subscribe("locus/v1/ward/response/ward-1/#")),
        (who(&shown.good), Try::Subscribe("locus/v1/ward/status/+")),
        (who(&shown.metrics), Try::Subscribe("locus/v1/ward/checkpoint/box-1")),
        (named(&shown.good, "ward-1:2"), Try::Publish("locus/v1/ward/request/ward-1")),
        (plain("ward-3", &shown.token), Try::Publish("locus/v1/ward/request/ward-3")),
    ] {
        allowed.0.attempt(allowed.1).await.unwrap();
    }
    let mut victim = daemon.mqtt("ward-2").await.unwrap();
    hears_nothing(&who(&shown.good), &mut victim).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_mosquitto_with_the_configuration_that_is_shipped() {
    let test = "at_mosquitto_with_the_configuration_that_is_shipped";
    let (Some(server), Some(rr)) = (peer(test, "mosquitto"), peer(test, "mosquitto_rr")) else { return };
    let port = free_port();
    let rig = Rig::new(&format!(
        "[mqtt]\nmode = \"external\"\nport = {port}\nca = \"broker/ca.crt\"\ncertificate = \"broker/box.crt\"\nkey = \"broker/box.key\"\n"
    ))
    .unwrap();
    rig.flash().unwrap();
    let shown = Shown::of(&rig);
    let out = rig.path("broker").display().to_string();
    let port_text = port.to_string();
    rig.ctl(&[
        "access",
        "mosquitto",
        "--host",
        "127.0.0.1",
        "--port",
        &port_text,
        "--listen",
        "127.0.0.1",
        "--out",
        &out,
    ])
    .unwrap();
    let config = rig.path("broker/mosquitto.conf");
    // Started by root it would become another user, who cannot read the key.
    let user = format!("user {}\n", if rustix::process::geteuid().is_root() { "root" } else { "nobody" });
    fs::write(&config, fs::read_to_string(&config).unwrap() + &user).unwrap();
    let _broker = Mosquitto::start_with(&server, &config, port).unwrap();
    let daemon = rig.start().unwrap();
    let cases = common(&shown, port);
    for (case, who, what, _) in &cases {
        let outcome = who.attempt(*what).await;
        assert!(outcome.is_err(), "mosquitto, {case}: let in: {outcome:?}");
    }
    assert!(
        without_tls(&format!("127.0.0.1:{port}"), b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x00\x00\x00").is_err()
    );
    println!("unauthorised: {} cases at mosquitto refused", cases.len() + 1 + FILTERS.len());
    let (site, shows) = ("ward", Some(&shown.other));
    let mut victim =
        MqttTerminal::connect_as("127.0.0.1", port, site, "ward-2", shows, PATIENCE).await.unwrap();
    let thief = Who { port, tls: Some(shown.good.clone()), ..Who::default() };
    hears_nothing(&thief, &mut victim).await;
    // Its identifier does not count, so it cuts nobody off.
    let other = Who { id: "ward-2".into(), ..thief.clone() };
    other.attempt(Try::Connect).await.unwrap();
    let asked = victim.ask(&facts().variants[2].request("still here"), PATIENCE).await.unwrap();
    assert!(matches!(asked, Outcome::Answer(_)), "{asked:?}");
    // A client of version 3.1.1 knows no response topic.
    let answered = asked_by_rr(&rr, port, &rig, "311", &[]);
    assert!(matches!(answered, Outcome::Answer(_)), "{answered:?}");
    assert!(daemon.terminate().unwrap().success());
}

/// `mosquitto_rr` as ward-1, with a certificate.
fn asked_by_rr(program: &std::path::Path, port: u16, rig: &Rig, version: &str, more: &[&str]) -> Outcome {
    let issued = |end: &str| rig.path("issued").join(end).display().to_string();
    let request = serde_json::to_string(&facts().variants[0].request(&format!("rr-{version}"))).unwrap();
    let output = std::process::Command::new(program)
        .args(["-V", version, "-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-W", "15"])
        .args([
            "--cafile",
            &issued("ca.crt"),
            "--cert",
            &issued("ward-1.crt"),
            "--key",
            &issued("ward-1.key"),
        ])
        .args(["-t", "locus/v1/ward/request/ward-1", "-e", "locus/v1/ward/response/ward-1", "-m", &request])
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Outcome::from_json(String::from_utf8(output.stdout).unwrap().trim().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_version_3_1_1_is_answered_over_tls() {
    let test = "a_client_of_version_3_1_1_is_answered_over_tls";
    let Some(rr) = peer(test, "mosquitto_rr") else { return };
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    rig.enrolled("ward-1", "terminal").unwrap();
    let daemon = rig.start().unwrap();
    let port = daemon.endpoints.mqtts.clone().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    for version in ["311", "5"] {
        let answered = asked_by_rr(&rr, port, &rig, version, &[]);
        assert!(matches!(answered, Outcome::Answer(_)), "{version}: {answered:?}");
    }
}

/// Whoever is revoked is cut off at once, whatever it is doing; whoever is not stays connected, also through SIGHUP.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_terminal_is_cut_off_and_the_others_stay() {
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let port = daemon.endpoints.mqtts.clone().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
    let connected = async |name: &str| {
        let who = Who { port, tls: Some(rig.certificate(name, "terminal").unwrap()), ..Who::default() };
        let (client, mut events) = AsyncClient::builder(who.options()).capacity(8).build();
        while !matches!(events.poll().await.unwrap(), Event::Incoming(Packet::ConnAck(_))) {}
        (client, events)
    };
    let (_one, mut gone) = connected("ward-1").await;
    let (two, mut stays) = connected("ward-2").await;
    let http = daemon.http("ward-1").unwrap();
    let asked = http.ask(&facts().variants[0].request("before"), PATIENCE).await.unwrap();
    assert!(matches!(asked, Outcome::Answer(_)));
    rig.ctl(&["access", "revoke", "ward-1"]).unwrap();
    let ended = async { while gone.poll().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("it is cut off");
    let refused = http.ask(&facts().variants[0].request("after"), PATIENCE).await;
    assert!(refused.is_err(), "{refused:?}");
    daemon.signal(Signal::HUP).unwrap();
    let log = || fs::read_to_string(rig.path("locusd.log")).unwrap();
    let waited = std::time::Instant::now();
    while !log().contains("were read again") {
        assert!(waited.elapsed() < PATIENCE, "{}", log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    two.subscribe("locus/v1/ward/response/ward-2", QoS::AtLeastOnce).await.unwrap();
    while !matches!(stays.poll().await.expect("it stays connected"), Event::Incoming(Packet::SubAck(_))) {}
    // Who was revoked is in the audit trail.
    let trail = rig.ctl(&["audit"]).unwrap();
    assert!(trail.contains("access") && trail.contains("ward-1") && trail.contains("1 revoked"), "{trail}");
}
