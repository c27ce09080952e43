//! Traces: spans of requests at a collector, with nothing of anybody in them, and a collector that is gone costs nothing.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use locus_edge::client::HttpTerminal;
use locus_firmware_config::message::{Outcome, Request};
use locus_tests::{Daemon, Rig, facts, load::percentile};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message as _;
use rumqttc::mqttbytes::{
    QoS,
    v5::{Packet, PublishProperties},
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "Bearer of-the-collector";
/// Of whoever asks: none of it may leave the box this way.
const CANARIES: [&str; 5] =
    ["canary-subject-7f3a", "canary-id-91bc", "canary-ward-5d5d", "canary-state", "canary-hop"];

/// What came to a collector.
#[derive(Default)]
struct Came {
    spans: Vec<Span>,
    resource: BTreeMap<String, String>,
    bytes: Vec<u8>,
    headers: Vec<HeaderMap>,
}

/// A collector that takes everything.
struct Collector {
    endpoint: String,
    came: Arc<Mutex<Came>>,
}

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn attributes(span: &Span) -> BTreeMap<String, String> {
    let of = |pair: &opentelemetry_proto::tonic::common::v1::KeyValue| {
        (pair.key.clone(), text(pair.value.as_ref().and_then(|value| value.value.as_ref())))
    };
    span.attributes.iter().map(of).collect()
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let came = Arc::new(Mutex::new(Came::default()));
        let into = Arc::clone(&came);
        let take = move |headers: HeaderMap, body: Bytes| {
            let into = Arc::clone(&into);
            async move {
                let posted = ExportTraceServiceRequest::decode(body.clone()).unwrap();
                let mut came = into.lock().unwrap();
                came.bytes.extend_from_slice(&body);
                for resource in posted.resource_spans {
                    for pair in resource.resource.unwrap().attributes {
                        let value = text(pair.value.and_then(|value| value.value).as_ref());
                        came.resource.insert(pair.key, value);
                    }
                    came.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
                came.headers.push(headers);
                StatusCode::OK
            }
        };
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { endpoint, came }
    }

    /// Waits for so many requests' spans.
    async fn requests(&self, n: usize) {
        let since = Instant::now();
        let whole = |came: &Came| came.spans.iter().filter(|span| span.name == "locus.request").count();
        while whole(&self.came.lock().unwrap()) < n {
            assert!(since.elapsed() < PATIENCE, "{} of {n}", whole(&self.came.lock().unwrap()));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn a_box(traces: &str) -> (Rig, Daemon) {
    let rig = Rig::new(&format!("[traces]\n{traces}\n")).unwrap();
    fs::write(rig.path("collector.headers"), format!("authorization: {SECRET}\nx-tenant: ward\n")).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    (rig, daemon)
}

fn request(id: &str) -> Request {
    Request { subject: Some(CANARIES[0].into()), ..facts().variants[0].request(id) }
}

fn json(request: &Request) -> Vec<u8> {
    let value = serde_json::to_value(request).unwrap();
    let present = value.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
    serde_json::Value::Object(present.map(|(key, value)| (key.clone(), value.clone())).collect())
        .to_string()
        .into_bytes()
}

fn ask(terminal: &HttpTerminal, headers: &[(&str, &str)], request: &Request) -> Outcome {
    let (_, body) = terminal.post_to("/predict", headers, &json(request), PATIENCE).unwrap();
    Outcome::from_json(&body).unwrap()
}

/// Publishes a request with a user property, and waits for an answer.
async fn ask_over_mqtt(daemon: &Daemon, parent: &str, request: &Request) {
    let (name, (host, port)) = (CANARIES[2], daemon.broker().unwrap());
    let mut options = rumqttc::MqttOptions::new(format!("{name}:t"), (host.as_str(), port));
    options.set_credentials(name, daemon.token(name).unwrap());
    let (client, mut events) = rumqttc::AsyncClient::builder(options).capacity(8).build();
    client.subscribe(format!("locus/v1/ward/response/{name}/#"), QoS::AtLeastOnce).await.unwrap();
    let properties = PublishProperties {
        user_properties: vec![("traceparent".into(), parent.into()), ("hop".into(), CANARIES[4].into())],
        ..PublishProperties::default()
    };
    let options = rumqttc::PublishOptions::new(QoS::AtLeastOnce).properties(properties);
    let asked = async {
        loop {
            match events.poll().await.unwrap() {
                rumqttc::Event::Incoming(Packet::SubAck(_)) => {
                    let topic = format!("locus/v1/ward/request/{name}");
                    client.publish(topic, json(request), options.clone()).await.unwrap();
                }
                rumqttc::Event::Incoming(Packet::Publish(_)) => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_with_its_stages_and_nothing_of_whoever_asked() {
    let collector = Collector::start().await;
    let endpoint = &collector.endpoint;
    let (rig, daemon) = a_box(&format!("endpoint = \"{endpoint}\"\nheaders_file = \"collector.headers\""));
    let terminal = daemon.http(CANARIES[2]).unwrap();
    let parent = |n: u64| format!("00-{n:032x}-{n:016x}-01");
    let state = ("tracestate", CANARIES[3]);
    let first = ask(&terminal, &[("traceparent", &parent(1)), state], &request(CANARIES[1]));
    assert!(matches!(first, Outcome::Answer(_)), "{first:?}");
    ask(&terminal, &[("traceparent", &parent(2))], &request(CANARIES[1]));
    let wrong = Request { mutation: Some("C1G".into()), ..request("canary-id-91bc-2") };
    ask(&terminal, &[("traceparent", &parent(3))], &wrong);
    let explained = Request { explain: Some(true), ..request("canary-id-91bc-3") };
    ask(&terminal, &[("traceparent", &parent(4))], &explained);
    ask_over_mqtt(&daemon, &parent(5), &request("canary-id-91bc-4")).await;
    ask(&terminal, &[("traceparent", "no such thing")], &request("canary-id-91bc-5"));
    let batch = [json(&request("canary-id-91bc-6")), json(&request("canary-id-91bc-7"))].join(&b'\n');
    terminal.post_to("/v1/predict:batch", &[("traceparent", &parent(6))], &batch, PATIENCE).unwrap();
    // Nobody's affair but the asker's.
    ask(&terminal, &[("traceparent", &parent(7).replace("-01", "-00"))], &request("canary-id-91bc-8"));
    collector.requests(8).await;
    daemon.terminate().unwrap();

    let came = collector.came.lock().unwrap();
    let of_trace = |n: u64| -> Vec<&Span> {
        came.spans.iter().filter(|span| span.trace_id == u128::from(n).to_be_bytes()).collect()
    };
    let names = |spans: &[&Span]| spans.iter().map(|span| span.name.clone()).collect::<Vec<_>>();
    let whole = of_trace(1);
    assert_eq!(names(&whole), ["locus.request", "admit", "encode", "queue", "infer", "journal", "reply"]);
    let root = whole[0];
    assert_eq!(
        (root.parent_span_id.as_slice(), root.kind()),
        (1_u64.to_be_bytes().as_slice(), SpanKind::Server)
    );
    let mut at = root.start_time_unix_nano;
    for stage in &whole[1..] {
        assert_eq!(
            (&stage.parent_span_id, stage.start_time_unix_nano),
            (&root.span_id, at),
            "{}",
            stage.name
        );
        at = stage.end_time_unix_nano;
    }
    assert_eq!(at, root.end_time_unix_nano);
    // As long as the answer itself says.
    let Outcome::Answer(answer) = &first else { panic!() };
    let infer = (whole[4].end_time_unix_nano - whole[4].start_time_unix_nano) / 1_000;
    assert_eq!(infer, answer.timing_us.infer);
    let said = attributes(root);
    let is = |key: &str, value: &str| assert_eq!(said.get(key).map(String::as_str), Some(value), "{said:?}");
    is("locus.transport", "http");
    is("locus.result", "answered");
    is("locus.lane", "bedside");
    is("locus.repeated", "false");
    is("locus.model", &answer.model.name);
    is("locus.engine", &answer.engine.provider);
    let repeated = of_trace(2);
    assert_eq!(
        (names(&repeated), &*attributes(repeated[0])["locus.repeated"]),
        (vec!["locus.request".into()], "true")
    );
    let fault = of_trace(3);
    let status = fault[0].status.as_ref().unwrap();
    assert_eq!((names(&fault).len(), status.code()), (1, SpanStatus::Error));
    assert_eq!(status.message, "ref_mismatch");
    assert_eq!(names(&of_trace(4))[5..], ["explain", "journal"]);
    assert_eq!(attributes(of_trace(5)[0])["locus.transport"], "mqtt");
    let batch: Vec<_> = of_trace(6).into_iter().filter(|span| span.name == "locus.request").collect();
    assert!(batch.len() == 2 && batch.iter().all(|span| attributes(span)["locus.lane"] == "batch"));
    assert!(of_trace(7).is_empty());
    assert_eq!(
        (&*came.resource["service.name"], &*came.resource["service.instance.id"]),
        ("locusd", "box-1")
    );
    let header = |name: &str| came.headers[0][name].to_str().unwrap().to_owned();
    assert_eq!((header("authorization"), header("x-tenant")), (SECRET.to_owned(), "ward".to_owned()));
    assert_eq!(header("content-type"), "application/x-protobuf");

    let fact = &facts().variants[0];
    let holds = |what: &str| came.bytes.windows(what.len()).any(|window| window == what.as_bytes());
    assert!(holds("locus.request"), "the search finds what is there");
    for canary in CANARIES.into_iter().chain([&fact.sequence[290..306], &fact.mutation, &fact.gene]) {
        assert!(!holds(canary), "{canary}");
    }
    let log = fs::read_to_string(rig.path("locusd.log")).unwrap();
    assert!(!log.contains("of-the-collector") && !log.contains(endpoint.as_str()), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_none_traces_what_the_asker_traces_and_no_more() {
    let collector = Collector::start().await;
    let (_rig, daemon) = a_box(&format!("endpoint = \"{}\"\nratio = 0.0", collector.endpoint));
    let terminal = daemon.http("ward-1").unwrap();
    for n in 0..5 {
        ask(&terminal, &[], &request(&n.to_string()));
    }
    ask(&terminal, &[("traceparent", &format!("00-{:032x}-{:016x}-01", 9, 9))], &request("traced"));
    collector.requests(1).await;
    daemon.terminate().unwrap();
    let came = collector.came.lock().unwrap();
    assert!(came.spans.iter().all(|span| span.trace_id == 9_u128.to_be_bytes()), "{:?}", came.spans);
}

fn metric(daemon: &Daemon, line: &str) -> u64 {
    let text = String::from_utf8(daemon.operator().unwrap().get("/metrics").unwrap().1).unwrap();
    text.lines().find_map(|l| l.strip_prefix(line)).map_or(0, |value| value.trim().parse().unwrap())
}

/// A collector that is not there, and one that takes the connection and never says a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_gone_or_silent_delays_no_answer_and_no_end() {
    const TIMEOUT: Duration = Duration::from_secs(6);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for (name, address, reason) in
        [("closed", closed, "not_taken"), ("silent", silent.local_addr().unwrap(), "queue_full")]
    {
        let traces = format!(
            "endpoint = \"http://{address}/v1/traces\"\ntimeout_ms = {}\nqueue = 4",
            TIMEOUT.as_millis()
        );
        let (rig, daemon) = a_box(&traces);
        let terminal = daemon.http("ward-1").unwrap();
        let counter = format!("locus_traces_dropped_total{{reason=\"{reason}\"}}");
        let (mut took, started) = (Vec::new(), Instant::now());
        // Until something was dropped, and at least for longer than spans are gathered.
        while took.len() < 60 || metric(&daemon, &counter) == 0 {
            assert!(started.elapsed() < 3 * PATIENCE, "{name}: nothing was dropped");
            let asked = Instant::now();
            let outcome = ask(&terminal, &[], &request(&took.len().to_string()));
            assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
            took.push(asked.elapsed());
        }
        let stopping = Instant::now();
        assert!(daemon.terminate().unwrap().success());
        let stopped = stopping.elapsed();
        println!(
            "{name}: {} answers, {:?} (median), {:?} (worst); stopped in {stopped:?}",
            took.len(),
            percentile(&took, 0.5),
            percentile(&took, 1.0)
        );
        assert!(percentile(&took, 1.0) < TIMEOUT, "an answer waited for the collector");
        assert!(stopped < TIMEOUT + Duration::from_secs(6), "{stopped:?}");
        let log = fs::read_to_string(rig.path("locusd.log")).unwrap();
        assert!(log.matches("traces are not taken").count() <= 1, "it is said once: {log}");
    }
}

/// Takes one post over TLS, with a certificate that nobody but who is told knows.
async fn encrypted() -> (String, String, tokio::task::JoinHandle<Vec<u8>>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://localhost:{}/v1/traces", listener.local_addr().unwrap().port());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let taken = tokio::spawn(async move {
        loop {
            // Who does not know the certificate goes away.
            let Ok(mut stream) = acceptor.accept(listener.accept().await.unwrap().0).await else { continue };
            let (mut came, mut bytes) = (Vec::new(), [0; 4_096]);
            loop {
                let head = came.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
                if let Some(head) = head {
                    let text = String::from_utf8(came[..head].to_vec()).unwrap().to_lowercase();
                    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                    if came.len() >= head + length.parse::<usize>().unwrap() {
                        let body = came.split_off(head);
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                        return body;
                    }
                }
                match stream.read(&mut bytes).await {
                    Ok(n @ 1..) => came.extend_from_slice(&bytes[..n]),
                    _ => break,
                }
            }
        }
    });
    (endpoint, made.cert.pem(), taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_go_to_whom_the_configuration_knows_and_to_nobody_else() {
    let (endpoint, certificate, taken) = encrypted().await;
    let (rig, daemon) = a_box(&format!("endpoint = \"{endpoint}\"\nca = \"state/access/ca.crt\""));
    let ask_one = |daemon: &Daemon| {
        ask(&daemon.http("ward-1").unwrap(), &[], &request("over-tls"));
    };
    ask_one(&daemon);
    let since = Instant::now();
    while metric(&daemon, "locus_traces_dropped_total{reason=\"not_taken\"}") == 0 {
        assert!(since.elapsed() < PATIENCE && !taken.is_finished(), "posted to a stranger");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.terminate().unwrap();
    fs::write(rig.path("collector.pem"), certificate).unwrap();
    rig.configure(|text| text.replace("state/access/ca.crt", "collector.pem")).unwrap();
    let daemon = rig.start().unwrap();
    ask_one(&daemon);
    let body = tokio::time::timeout(PATIENCE, taken).await.unwrap().unwrap();
    let posted = ExportTraceServiceRequest::decode(&*body).unwrap();
    assert_eq!(posted.resource_spans[0].scope_spans[0].spans[0].name, "locus.request");
    daemon.terminate().unwrap();
}

#[test]
fn what_the_configuration_names_is_checked_before_anything_starts() {
    let rig = Rig::new("[traces]\nendpoint = \"http://127.0.0.1:9/\"\nheaders_file = \"h\"\n").unwrap();
    let check = || {
        let output = locus_tests::program("locusd")
            .arg("--config")
            .arg(rig.config())
            .args(["config", "check"])
            .output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (good, error) = check();
    assert!(!good && error.contains("traces.headers_file"), "{error}");
    fs::write(rig.path("h"), "authorization Bearer secret-word\n").unwrap();
    let (good, error) = check();
    assert!(!good && error.contains("line 1") && !error.contains("secret-word"), "{error}");
    fs::write(rig.path("h"), "authorization: Bearer secret-word\n\n").unwrap();
    assert!(check().0);
    rig.configure(|text| text.replace("127.0.0.1:9/", "collector.ward:4318/")).unwrap();
    let (good, error) = check();
    assert!(!good && error.contains("traces.endpoint") && error.contains("https://"), "{error}");
}
