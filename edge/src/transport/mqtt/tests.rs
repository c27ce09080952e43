use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::{
    config::Limits,
    pipeline::tests::{Box_, SEQUENCE},
};

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const NOT_AUTHORIZED: u8 = 0x87;

/// A broker that does what a test says, byte by byte.
struct Broker(TcpListener);

/// A box as its client.
struct Client {
    link: Link,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Broker {
    async fn with_a_client(made: &Box_) -> (Self, Client) {
        Self::with(made, Mqtt { receive_maximum: 1_000, ..Mqtt::default() }).await
    }

    async fn with(made: &Box_, config: Mqtt) -> (Self, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Link {
            own: None,
            site: "ward".into(),
            box_name: "box".into(),
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            connected: Arc::default(),
        };
        let options = options(&link, &config).unwrap();
        let places = options.get_outgoing_inflight_upper_limit();
        assert_eq!(places, Some(IN_FLIGHT), "the library looks through every place after each read");
        let stop = CancellationToken::new();
        let running = run(made.pipeline.clone(), link.clone(), options, config, stop.clone());
        (Self(listener), Client { link, stop, running: tokio::spawn(running) })
    }

    /// A connection, and whether it begins a new session.
    async fn accept(&self) -> (TcpStream, bool) {
        let (mut stream, _) = self.0.accept().await.unwrap();
        let (kind, body) = packet(&mut stream).await;
        assert_eq!(kind, CONNECT);
        (stream, body[7] & 2 != 0)
    }
}

/// The next packet: first byte and body.
async fn packet(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let reading = async {
        let kind = stream.read_u8().await.unwrap();
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = stream.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        (kind, body)
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("a packet")
}

/// Accepts the connection and answers its subscription.
async fn subscribed(stream: &mut TcpStream, session_present: bool, reason: u8) {
    stream.write_all(&[0x20, 3, u8::from(session_present), 0, 0]).await.unwrap();
    // A session that goes on begins with what was not acknowledged.
    let body = loop {
        let (kind, body) = packet(stream).await;
        if kind == SUBSCRIBE {
            break body;
        }
    };
    stream.write_all(&[0x90, 4, body[0], body[1], 0, reason]).await.unwrap();
}

/// A request with QoS 1.
async fn request(stream: &mut TcpStream, number: u16, payload: &str) {
    request_with(stream, number, &[], payload).await;
}

/// As [`request`], with properties.
async fn request_with(stream: &mut TcpStream, number: u16, properties: &[u8], payload: &str) {
    let topic = b"locus/v1/ward/request/t";
    let mut body = vec![0, topic.len() as u8];
    body.extend(topic);
    body.extend(number.to_be_bytes());
    body.push(properties.len() as u8);
    body.extend(properties);
    body.extend(payload.as_bytes());
    let length = [(body.len() & 0x7f) as u8 | 0x80, (body.len() >> 7) as u8];
    stream.write_all(&[&[PUBLISH | 2], &length[..], &body].concat()).await.unwrap();
}

fn payload() -> String {
    format!(r#"{{"sequence": "{SEQUENCE}", "mutation": "A42G"}}"#)
}

/// The topic of the next message.
async fn topic(stream: &mut TcpStream) -> String {
    loop {
        let (kind, body) = packet(stream).await;
        if kind & 0xf0 == PUBLISH {
            return String::from_utf8(body[2..2 + usize::from(body[1])].to_vec()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_broker_is_waited_for_and_the_box_is_online_once_requests_arrive() {
    let made = Box_::of(Limits::default());
    let (broker, client) = Broker::with_a_client(&made).await;
    let (mut stream, clean) = broker.accept().await;
    assert!(clean, "a new process takes no session over that it knows nothing of");
    // Longer than two ticks: who comes again has given the first connection up.
    assert!(tokio::time::timeout(CHECKPOINT * 5 / 2, broker.0.accept()).await.is_err());
    subscribed(&mut stream, false, NOT_AUTHORIZED).await;
    request(&mut stream, 1, "x").await;
    assert_eq!(topic(&mut stream).await, "locus/v1/ward/response/t", "not its status");
    assert!(!client.link.connected.load(Ordering::Acquire));
    drop(stream);
    let (mut stream, clean) = broker.accept().await;
    assert!(!clean, "what came meanwhile is still there");
    subscribed(&mut stream, true, 1).await;
    while topic(&mut stream).await != "locus/v1/ward/status/box" {}
    assert!(client.link.connected.load(Ordering::Acquire));
    drop(stream);
    client.stop.cancel();
    client.running.await.unwrap();
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_of_qos_1_is_dropped_however_many_wait() {
    let made = Box_::of(Limits { queue_units: 2_000, ..Limits::default() });
    let held = made.hold().await;
    let (broker, client) = Broker::with_a_client(&made).await;
    let (mut stream, _) = broker.accept().await;
    subscribed(&mut stream, false, 1).await;
    let all = TASKS + 50;
    for number in 1..=all {
        request(&mut stream, number as u16, &payload()).await;
    }
    crate::pipeline::tests::until("work", || made.pipeline.load().0 as usize == all).await;
    drop(held);
    let mut acknowledged = 0;
    while acknowledged < all {
        let (kind, body) = packet(&mut stream).await;
        match kind & 0xf0 {
            PUBACK => acknowledged += 1,
            // An answer with QoS 1: its number follows its topic.
            PUBLISH if kind & 6 != 0 => {
                let at = 2 + usize::from(body[1]);
                stream.write_all(&[PUBACK, 2, body[at], body[at + 1]]).await.unwrap();
            }
            _ => {}
        }
    }
    drop(stream);
    client.stop.cancel();
    client.running.await.unwrap();
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_owed_an_acknowledgement_is_made_anew() {
    let made = Box_::of(Limits::default());
    let (broker, client) = Broker::with(&made, Mqtt { stalled_ms: 1_000, ..Mqtt::default() }).await;
    let (mut stream, _) = broker.accept().await;
    subscribed(&mut stream, false, 1).await;
    assert_eq!(topic(&mut stream).await, "locus/v1/ward/status/box");
    // It is not acknowledged; the connection stays open, and the broker would answer pings.
    let (mut again, clean) = broker.accept().await;
    assert!(clean, "the new client knows nothing of the old one's session");
    assert!(!client.link.connected.load(Ordering::Acquire), "no request arrives yet");
    subscribed(&mut again, false, 1).await;
    request(&mut again, 1, &payload()).await;
    while topic(&mut again).await != "locus/v1/ward/response/t" {}
    drop((stream, again));
    client.stop.cancel();
    client.running.await.unwrap();
    made.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_while_it_waits_is_acknowledged_and_never_answered() {
    let made = Box_::of(Limits::default());
    let held = made.hold().await;
    let (broker, client) = Broker::with_a_client(&made).await;
    let (mut stream, _) = broker.accept().await;
    subscribed(&mut stream, false, 1).await;
    assert_eq!(topic(&mut stream).await, "locus/v1/ward/status/box");
    let in_a_second = [2, 0, 0, 0, 1];
    request_with(&mut stream, 7, &in_a_second, &payload()).await;
    let (kind, body) = packet(&mut stream).await;
    assert_eq!((kind & 0xf0, &body[..2]), (PUBACK, &[0, 7][..]), "and no answer before it");
    drop(held);
    crate::pipeline::tests::until("idle box", || made.pipeline.load().0 == 0).await;
    assert_eq!(made.pipeline.journal().head().0, 0, "it reached neither the model nor the journal");
    drop(stream);
    client.stop.cancel();
    client.running.await.unwrap();
    made.stop();
}

#[test]
fn a_password_that_cannot_be_read_is_named() {
    let link = Link {
        own: None,
        site: "ward".into(),
        box_name: "box".into(),
        host: "127.0.0.1".into(),
        port: 1,
        connected: Arc::default(),
    };
    let config = Mqtt {
        username: Some("u".into()),
        password_file: Some("/nowhere/password".into()),
        ..Mqtt::default()
    };
    let error = options(&link, &config).unwrap_err();
    assert!(error.contains("mqtt.password_file /nowhere/password"), "{error}");
}
