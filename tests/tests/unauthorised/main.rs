//! Whoever may not is refused, and counted: over HTTPS, at the embedded broker and at mosquitto.
#![allow(clippy::unwrap_used, reason = "a test")]

mod brokers;
mod client;
mod https;
mod shown;

use std::{fs, time::Duration};

use locus_firmware_config::message::Outcome;
use locus_tests::{Rig, facts};
use rumqttc::{
    AsyncClient, Event,
    mqttbytes::{QoS, v5::Packet},
};
use rustix::process::Signal;

use client::Who;

const PATIENCE: Duration = Duration::from_secs(20);

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
