//! The reference of the MQTT interface before the schema that AsyncAPI publishes, and before what a box really takes and sends.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{fs, process::Command, time::Duration};

use locus_edge::names::{request_topic, response_topic, status_topic};
use locus_tests::{Rig, facts, node, root};
use rumqttc::{
    AsyncClient, Event, MqttOptions, PublishOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, Publish, PublishProperties},
    },
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// What came on which topic.
fn sample(publish: &Publish) -> Value {
    let address = String::from_utf8_lossy(&publish.topic).into_owned();
    let payload: Value = serde_json::from_slice(&publish.payload).unwrap();
    let channel = address.split('/').nth(3).unwrap().to_owned();
    let message = match channel.as_str() {
        "response" if payload.get("code").is_some() => "fault",
        "response" => "answer",
        other => other,
    };
    json!({ "channel": channel, "message": message, "address": address, "payload": payload })
}

/// A request that is answered and one that is not, as a box takes them, and all that it says meanwhile.
async fn samples(rig: &Rig) -> Vec<Value> {
    let daemon = rig.start().unwrap();
    let (host, port) = daemon.broker().unwrap();
    let mut options = MqttOptions::new("ward-2:t", (host.as_str(), port));
    options.set_credentials("ward-2", daemon.token("ward-2").unwrap());
    let (client, mut events) = AsyncClient::builder(options).capacity(8).build();
    for filter in ["response/ward-2/#", "status/+", "checkpoint/+"] {
        client.subscribe(format!("locus/v1/ward/{filter}"), QoS::AtLeastOnce).await.unwrap();
    }
    let good = serde_json::to_value(facts().variants[0].request("good")).unwrap();
    let bad = json!({ "id": "bad", "sequence": "ACGT", "mutation": "A9T" });
    let topic = request_topic("ward", "ward-2");
    let mut found: Vec<Value> = [&good, &bad]
        .iter()
        .map(|body| json!({ "channel": "request", "message": "request", "address": topic, "payload": body }))
        .collect();
    let mut subscribed = 0;
    let listening = async {
        loop {
            match events.poll().await.unwrap() {
                Event::Incoming(Packet::SubAck(_)) => {
                    subscribed += 1;
                    if subscribed < 3 {
                        continue;
                    }
                    for body in [&good, &bad] {
                        let properties = PublishProperties {
                            response_topic: Some(format!("{}/1", response_topic("ward", "ward-2"))),
                            correlation_data: Some(b"7".to_vec().into()),
                            ..PublishProperties::default()
                        };
                        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
                        client.publish(topic.clone(), body.to_string(), options).await.unwrap();
                    }
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    assert_eq!(publish.qos, QoS::AtLeastOnce, "{}", String::from_utf8_lossy(&publish.topic));
                    if publish.topic.starts_with(b"locus/v1/ward/response/") {
                        let properties = publish.properties.as_ref().unwrap();
                        assert_eq!(properties.correlation_data.as_deref(), Some(b"7".as_slice()));
                        assert_eq!(properties.content_type.as_deref(), Some("application/json"));
                        assert!(properties.message_expiry_interval.unwrap() <= 300);
                    }
                    found.push(sample(&publish));
                }
                _ => {}
            }
            let seen = |message: &str| found.iter().any(|sample| sample["message"] == message);
            if ["answer", "fault", "status", "checkpoint"].iter().all(|message| seen(message)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listening).await.expect("an answer, a fault, a status and a checkpoint");
    assert!(daemon.terminate().unwrap().success());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_mqtt_is_valid_asyncapi_and_says_what_the_code_does() {
    let packages = ["@asyncapi/specs@6.11.1", "ajv@8.17.1", "ajv-formats@2.1.1", "js-yaml@4.3.2"];
    let Some((program, folder)) = node("asyncapi", &packages) else { return };
    let rig = Rig::new("").unwrap();
    rig.flash().unwrap();
    let samples = samples(&rig).await;
    let path = rig.path("samples.json");
    fs::write(&path, serde_json::to_vec(&samples).unwrap()).unwrap();
    let output = Command::new(program)
        .arg(root().join("tests/fixtures/asyncapi.mjs"))
        .arg(folder)
        .arg(root().join("docs/reference/asyncapi.yaml"))
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(read["checked"], samples.len());
    let channels = [
        request_topic("{site}", "{terminal}"),
        response_topic("{site}", "{terminal}"),
        status_topic("{site}", "{box}"),
        "locus/v1/{site}/checkpoint/{box}".to_owned(),
    ];
    assert_eq!(read["channels"], json!(channels));
    let retained: Vec<&str> = read["operations"]
        .as_array()
        .unwrap()
        .iter()
        .inspect(|operation| assert_eq!(operation[2]["qos"], 1, "{operation}"))
        .filter(|operation| operation[2]["retain"] == true)
        .map(|operation| operation[0].as_str().unwrap())
        .collect();
    assert_eq!(retained, ["sendStatus", "sendCheckpoint"]);
}

#[test]
fn the_shipped_access_list_of_mosquitto_names_the_topics_that_are_described() {
    let rules = fs::read_to_string(root().join("edge/src/ctl/access/mosquitto.acl")).unwrap();
    let described = fs::read_to_string(root().join("docs/reference/asyncapi.yaml")).unwrap();
    let addresses: Vec<&str> =
        described.lines().filter_map(|line| line.trim().strip_prefix("address: locus/v1/{site}/")).collect();
    assert_eq!(addresses.len(), 4);
    for rule in rules.lines().filter(|line| line.starts_with("pattern") || line.starts_with("topic")) {
        let topic = rule.split_once("locus/v1/{site}/").unwrap().1;
        let kind = topic.split('/').next().unwrap();
        assert!(addresses.iter().any(|address| address.starts_with(kind)), "{rule} is not described");
    }
}
