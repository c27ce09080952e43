//! With mosquitto as the site's broker, and its own client as a terminal.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use locus_edge::client::MqttTerminal;
use locus_firmware_config::message::Outcome;
use locus_tests::{Mosquitto, Rig, facts, peer, python};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);

fn external(port: u16, box_group: &str) -> String {
    format!("[mqtt]\nmode = \"external\"\nport = {port}\ngroup = \"{box_group}\"\n")
}

/// `mosquitto_rr` with its own response topic.
fn rr(program: &Path, port: u16, login: &[String], topic: &str, response: &str, message: &str) -> String {
    let output = Command::new(program)
        .args(["-V", "5", "-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1", "-W", "10"])
        .args(login)
        .args(["-t", topic, "-e", response, "-m", message])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_rr_is_a_terminal_on_both_brokers() {
    let test = "mosquitto_rr_is_a_terminal_on_both_brokers";
    let (Some(server), Some(client)) = (peer(test, "mosquitto"), peer(test, "mosquitto_rr")) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_broker, port) = Mosquitto::start_anywhere(&server, folder.path()).unwrap();
    let external = Rig::new(&external(port, "locus")).unwrap();
    let embedded = Rig::new("").unwrap();
    for (name, rig) in [("mosquitto", &external), ("embedded", &embedded)] {
        rig.flash().unwrap();
        let daemon = rig.start().unwrap();
        let (_, port) = daemon.broker().unwrap();
        let request = serde_json::to_string(&facts().variants[0].request("rr-1")).unwrap();
        let login = match name {
            "embedded" => {
                ["-u", "ward-9", "-P", &rig.token("ward-9", "terminal").unwrap()].map(str::to_owned).to_vec()
            }
            _ => Vec::new(),
        };
        let (topic, response) = ("locus/v1/ward/request/ward-9", "locus/v1/ward/response/ward-9/rr");
        let text = rr(&client, port, &login, topic, response, &request);
        let outcome = Outcome::from_json(text.trim().as_bytes()).unwrap();
        let Outcome::Answer(answer) = outcome else { panic!("{name}: {text}") };
        assert_eq!(answer.id.as_deref(), Some("rr-1"), "{name}");
        assert!(answer.receipt.is_some() && answer.pathogenic_probability.is_some(), "{name}");
        // The retained status of the box, and its will.
        let Some(sub) = peer(test, "mosquitto_sub") else { return };
        let status = || {
            let output = Command::new(&sub)
                .args(["-V", "5", "-h", "127.0.0.1", "-p", &port.to_string(), "-W", "5", "-C", "1"])
                .args(&login)
                .args(["-t", "locus/v1/ward/status/box-1"])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(status().contains("\"online\""), "{name}");
        if name == "mosquitto" {
            daemon.signal(Signal::KILL).unwrap();
            daemon.wait().unwrap();
            let ended = Instant::now();
            while !status().contains("\"offline\"") {
                assert!(ended.elapsed() < PATIENCE, "the will did not come");
            }
            // The broker knows the box from before; the box is new.
            let _daemon = rig.start().unwrap();
            let started = Instant::now();
            while !status().contains("\"online\"") {
                assert!(started.elapsed() < PATIENCE, "the box does not come back to its broker");
            }
            let mut terminal =
                MqttTerminal::connect("127.0.0.1", port, "ward", "ward-9", PATIENCE).await.unwrap();
            let outcome = terminal.ask(&facts().variants[1].request("again"), PATIENCE).await.unwrap();
            assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_loses_no_request() {
    let test = "a_broker_that_restarts_loses_no_request";
    let Some(server) = peer(test, "mosquitto") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut broker, port) = Mosquitto::start_anywhere(&server, folder.path()).unwrap();
    let rig = Rig::new(&external(port, "locus")).unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let facts = facts().variants;
    for round in 0..3 {
        let mut terminal =
            MqttTerminal::connect("127.0.0.1", port, "ward", "ward-2", PATIENCE).await.unwrap();
        for (n, fact) in facts.iter().enumerate() {
            let request = fact.request(&format!("{round}-{n}"));
            let asked = Instant::now();
            loop {
                match terminal.ask(&request, Duration::from_secs(1)).await {
                    Ok(Outcome::Answer(_)) => break,
                    other => assert!(asked.elapsed() < PATIENCE, "{other:?}"),
                }
            }
        }
        drop(terminal);
        drop(broker);
        broker = Mosquitto::start(&server, folder.path(), port).unwrap();
    }
    let down = Instant::now();
    let http = daemon.operator().unwrap();
    loop {
        let health: serde_json::Value = serde_json::from_slice(&http.get("/health").unwrap().1).unwrap();
        if health["mqtt_connected"] == true {
            break;
        }
        assert!(down.elapsed() < Duration::from_secs(15), "the box does not come back to its broker");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(broker);
    daemon.terminate().unwrap();
    assert_eq!(rig.exported().unwrap().len(), 36);
}

/// Publishes a request with its own response topic and correlation data; prints what comes back.
const PAHO: &str = r#"
import queue, sys
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
port, request, token = int(sys.argv[1]), sys.argv[2], sys.argv[3]
got = queue.Queue()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="", protocol=mqtt.MQTTv5)
client.on_connect = lambda client, *rest: client.subscribe("locus/v1/ward/response/ward-7/paho", qos=1)
client.on_subscribe = lambda *rest: got.put("subscribed")
client.on_message = lambda client, data, message: got.put(message)
client.username_pw_set("ward-7", token)
client.connect("127.0.0.1", port)
client.loop_start()
assert got.get(timeout=20) == "subscribed"
properties = Properties(PacketTypes.PUBLISH)
properties.ResponseTopic = "locus/v1/ward/response/ward-7/paho"
properties.CorrelationData = b"number-1"
client.publish("locus/v1/ward/request/ward-7", request, qos=1, properties=properties).wait_for_publish(20)
answer = got.get(timeout=20)
assert answer.properties.CorrelationData == b"number-1", answer.properties
assert answer.properties.ContentType == "application/json", answer.properties
print(answer.payload.decode())
client.disconnect()
"#;

#[test]
fn paho_is_a_terminal_on_the_embedded_broker() {
    let Some(python) = python("paho", &["paho-mqtt==2.1.0"], "import paho.mqtt.client") else { return };
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let daemon = rig.start().unwrap();
    let (_, port) = daemon.broker().unwrap();
    let request = serde_json::to_string(&facts().variants[0].request("paho-1")).unwrap();
    let token = rig.token("ward-7", "terminal").unwrap();
    let output =
        Command::new(python).args(["-c", PAHO, &port.to_string(), &request, &token]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let Outcome::Answer(answer) = Outcome::from_json(text.trim().as_bytes()).unwrap() else {
        panic!("{text}")
    };
    assert_eq!(answer.id.as_deref(), Some("paho-1"));
    assert!(answer.receipt.is_some() && answer.pathogenic_probability.is_some());
}
