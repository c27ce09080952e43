//! At both brokers: who connects, who publishes where, and who hears what.

use std::fs;

use locus_edge::client::{Credentials, MqttTerminal};
use locus_firmware_config::message::Outcome;
use locus_tests::{Mosquitto, Rig, facts, free_port, peer};
use rumqttc::{
    AsyncClient, Event, PublishOptions,
    mqttbytes::{
        QoS,
        v5::{LastWill, Packet},
    },
};

use crate::{
    PATIENCE,
    client::{Try, Who},
    shown::{Shown, check, without_tls},
};

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
