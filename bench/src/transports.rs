//! What a terminal waits for, beside what the model takes and what the broker takes.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use locus_edge::{
    access::Gate,
    client::{Credentials, MqttTerminal, Terminal},
    config::Config,
    pipeline,
    transport::broker,
};
use locus_engine::{Bundle, LoadOptions, Scorer, Trust};
use locus_firmware_config::{message::Outcome, profile::DeviceProfile};
use locus_tests::{Daemon, Fact, Mosquitto, Rig, facts, free_port, onnxruntime, peer, root};
use rumqttc::{
    AsyncClient, Event, MqttOptions, NetworkOptions, PublishOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, PublishProperties},
    },
};

use crate::{
    figures::{Figure, Machine, Results},
    sample::Sample,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Runs before the clock counts.
const WARM_UP: usize = 100;

pub(crate) fn run(requests: usize, out: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut samples = vec![("bare engine, batch 1".to_owned(), engine(requests)?)];
    runtime.block_on(measure(requests, &mut samples))?;
    let date = time::OffsetDateTime::now_utc().date().to_string();
    let machine = Machine::this();
    let command = format!("cargo run -p locus-bench -- transports --requests {requests}");
    let bare = samples[0].1.percentile(0.5);
    let mut figures = Vec::new();
    for (name, sample) in &samples {
        for share in [0.5, 0.99] {
            figures.push(Figure {
                name: format!("{name}, p{:.0}", share * 100.0),
                value: sample.percentile(share),
                unit: "ms",
                spread: sample.spread(share),
                command: command.clone(),
                seed: None,
                date: date.clone(),
                machine: machine.clone(),
                beside: (share == 0.5)
                    .then(|| format!("{:.2} of the bare engine", sample.percentile(share) / bare)),
            });
        }
    }
    let about = "Sequential requests of one terminal, one variant with transcript each, all in one run; MQTT with QoS 1 and nodelay on both ends. The time of a request holds its durable journal record. Round trip: an echo of the same sizes over the same broker, without a box.";
    Results { title: "Transports", about: about.into(), figures }.write(out)
}

/// Encoded once, run again and again: what the engine takes by itself.
fn engine(requests: usize) -> Result<Sample> {
    let bundle = Bundle::open(root().join("models/variant-effect.locus"), &Trust::AllowUnsigned)?;
    let options = LoadOptions { onnxruntime: onnxruntime(), ..LoadOptions::default() };
    let mut scorer = Scorer::open(&bundle, &DeviceProfile::named("cpu-x86")?, &options)?;
    let facts = facts().variants;
    let encoded = facts.iter().map(|fact| {
        pipeline::encode(scorer.encoder(), None, &fact.request("x"))
            .map_err(|fault| anyhow::anyhow!(fault.message))
    });
    let encoded = encoded.collect::<Result<Vec<_>>>()?;
    let mut sample = Sample::default();
    for n in 0..WARM_UP + requests {
        let one = &encoded[n % encoded.len()..=n % encoded.len()];
        let started = Instant::now();
        scorer.score(one)?;
        if n >= WARM_UP {
            sample.push(started.elapsed());
        }
    }
    Ok(sample)
}

async fn measure(requests: usize, samples: &mut Vec<(String, Sample)>) -> Result<()> {
    let server = peer("the mosquitto figures", "mosquitto").context("mosquitto is not installed")?;
    let (port, folder) = (free_port(), tempfile::tempdir()?);
    let _mosquitto = Mosquitto::start(&server, folder.path(), port)?;
    let external = Rig::new(&format!("[mqtt]\nmode = \"external\"\nport = {port}\n"))?;
    external.flash()?;
    let daemon = external.start()?;
    samples.push(("mosquitto, round trip".into(), round_trip(port, port, None, requests).await?));
    samples.push(("MQTT over mosquitto".into(), mqtt(&daemon, requests).await?));
    daemon.terminate()?;

    let embedded = Rig::new("")?;
    embedded.flash()?;
    let daemon = embedded.start()?;
    samples.push(("embedded broker, round trip".into(), embedded_round_trip(&embedded, requests).await?));
    samples.push(("MQTT over the embedded broker".into(), mqtt(&daemon, requests).await?));
    let http = Terminal::Http(daemon.http("ward-1")?);
    samples.push(("HTTPS".into(), ask(http, requests).await?));
    let serial = Terminal::Serial(Box::new(embedded.serial()?));
    samples.push(("serial (pty)".into(), ask(serial, requests).await?));
    daemon.terminate()?;
    Ok(())
}

async fn mqtt(daemon: &Daemon, requests: usize) -> Result<Sample> {
    ask(Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await?)), requests).await
}

async fn ask(mut terminal: Terminal, requests: usize) -> Result<Sample> {
    let facts: Vec<Fact> = facts().variants;
    let mut sample = Sample::default();
    for n in 0..WARM_UP + requests {
        let request = facts[n % facts.len()].request(&n.to_string());
        let started = Instant::now();
        match terminal.ask(&request, PATIENCE).await? {
            Outcome::Answer(_) if n >= WARM_UP => sample.push(started.elapsed()),
            Outcome::Answer(_) => {}
            Outcome::Fault(fault) => bail!("{}: {}", fault.code.as_str(), fault.message),
        }
    }
    Ok(sample)
}

/// The embedded broker of a box in this process, with a responder in place of the box.
async fn embedded_round_trip(rig: &Rig, requests: usize) -> Result<Sample> {
    let config = Config::open(&rig.config())?;
    let (gate, free) = (Gate::open(&config)?, SocketAddr::from(([127, 0, 0, 1], 0)));
    let (site, box_name) = ("echo".to_owned(), "echo".to_owned());
    let listening = broker::Listening { address: free, tls_address: free, site, box_name };
    let started = broker::start(&listening, gate, |_| {}).await.map_err(anyhow::Error::msg)?;
    let token = rig.token("bench", "terminal")?;
    let shown = Some((started.secret.as_str(), token.trim()));
    let sample = round_trip(started.inner.port(), started.address.port(), shown, requests).await;
    started.stop().await;
    sample
}

/// A responder that answers at once with a fault of an answer's size, and a terminal that asks it. `shown`: what both
/// show to a broker that asks who they are.
async fn round_trip(inner: u16, port: u16, shown: Option<(&str, &str)>, requests: usize) -> Result<Sample> {
    let mut options = MqttOptions::new("echo", ("127.0.0.1", inner));
    if let Some((secret, _)) = shown {
        options.set_credentials(broker::BOX, secret.to_owned());
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network).set_clean_start(true);
    let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
    client.subscribe("$share/echo/locus/v1/echo/request/+", QoS::AtLeastOnce).await?;
    let reply = serde_json::json!({
        "id": null, "code": "busy", "message": "x".repeat(1_000), "retryable": true, "retry_after_ms": null
    })
    .to_string();
    let echo = tokio::spawn(async move {
        while let Ok(event) = events.poll().await {
            let Event::Incoming(Packet::Publish(publish)) = event else { continue };
            let Some(asked) = publish.properties else { continue };
            let properties = PublishProperties {
                correlation_data: asked.correlation_data,
                ..PublishProperties::default()
            };
            let topic = asked.response_topic.unwrap_or_default();
            let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
            if client.publish(topic, reply.clone(), options).await.is_err() {
                break;
            }
        }
    });
    let shown = shown.map(|(_, token)| Credentials::default().with_token(token));
    let connected =
        MqttTerminal::connect_as("127.0.0.1", port, "echo", "bench", shown.as_ref(), PATIENCE).await;
    let mut terminal = connected?;
    let facts = facts().variants;
    let mut sample = Sample::default();
    for n in 0..WARM_UP + requests {
        let request = facts[n % facts.len()].request(&n.to_string());
        let started = Instant::now();
        terminal.ask(&request, PATIENCE).await?;
        if n >= WARM_UP {
            sample.push(started.elapsed());
        }
    }
    echo.abort();
    Ok(sample)
}
