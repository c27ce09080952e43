//! What a terminal waits for, beside what the model takes and what the broker takes.

use std::{
    io::Write as _,
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
use locus_tests::{Daemon, Fact, Mosquitto, Rig, facts, onnxruntime, peer, root};
use rumqttc::{
    AsyncClient, Event, MqttOptions, NetworkOptions, PublishOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, PublishProperties},
    },
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    figures::{Results, Run},
    sample::Sample,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// Runs before the clock counts.
const WARM_UP: usize = 100;

/// A file system in memory: there a durable write costs what its code costs.
const MEMORY: &str = "/dev/shm";
/// Bytes of a record, about.
const RECORD: usize = 4_096;

/// Times of one transport: until the answer came, and what of them the engine did not take.
#[derive(Default)]
struct Asked {
    whole: Sample,
    beyond: Sample,
}

pub(crate) fn run(requests: usize, out: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let run = Run::of(&format!("transports --requests {requests}"));
    let mut figures = Vec::new();
    let mut show = |name: &str, sample: &Sample, beside: &dyn Fn(f64, f64) -> Option<String>| {
        for share in [0.5, 0.99] {
            let (name, value) = (format!("{name}, p{:.0}", share * 100.0), sample.percentile(share));
            figures.push(run.figure(name, value, "ms", sample.spread(share), beside(share, value)));
        }
    };
    show("bare engine, batch 1", &engine(requests)?, &|_, _| None);
    let folder = tempfile::tempdir()?;
    let sync = synced(folder.path(), requests)?;
    show("a write of 4 KiB and fdatasync on this disk", &sync, &|_, _| None);
    let memory = Path::new(MEMORY);
    for (place, parent) in [("in memory", memory), ("on disk", folder.path())] {
        let trips = runtime.block_on(measure(parent, requests))?;
        for (name, trip, asked) in &trips {
            let name = format!("{name}, state {place}");
            let trip = |share| trip.as_ref().map_or(0.0, |trip: &Sample| trip.percentile(share));
            let disk = |share| if place == "on disk" { sync.percentile(share) } else { 0.0 };
            show(&name, &asked.whole, &|_, _| None);
            show(&format!("{name}: beyond the engine"), &asked.beyond, &|share, value| {
                let bar = if share == 0.5 { 0.2 } else { 0.5 };
                let (trip, disk) = (trip(share), disk(share));
                let left = value - trip - disk;
                Some(format!("less the broker's {trip:.3} and fdatasync's {disk:.3}: {left:.3}; bar {bar}"))
            });
        }
    }
    let about = "Sequential requests of one terminal, one variant with transcript each, all in one run; MQTT with QoS 1 and nodelay on \
                 both ends. The time of a request holds its journal record, written and synced. State in memory: the box's folder is in \
                 /dev/shm, where syncing costs nothing. Beyond the engine: each request's time less the inference time that its own \
                 answer states. The broker's: the same percentile of an echo of the same sizes over the same broker, without a box.";
    Results { title: "Transports", about: about.into(), figures }.write(out)
}

/// Appends a record's worth and syncs it, as the journal does for one answer.
fn synced(folder: &Path, times: usize) -> Result<Sample> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let (record, mut sample) = (vec![0xa5; RECORD], Sample::default());
    for n in 0..WARM_UP + times {
        let started = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        if n >= WARM_UP {
            sample.push(started.elapsed());
        }
    }
    Ok(sample)
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

/// Every transport of boxes that live below a folder: its name, the broker's own round trip, and its times.
async fn measure(below: &Path, requests: usize) -> Result<Vec<(&'static str, Option<Sample>, Asked)>> {
    let server = peer("the mosquitto figures", "mosquitto").context("mosquitto is not installed")?;
    let folder = tempfile::tempdir()?;
    let (_mosquitto, port) = Mosquitto::start_anywhere(&server, folder.path())?;
    let external = Rig::below(below, &format!("[mqtt]\nmode = \"external\"\nport = {port}\n"))?;
    external.flash()?;
    let daemon = external.start()?;
    let trip = round_trip(port, port, None, requests).await?;
    let mut all = vec![("MQTT over mosquitto", Some(trip), mqtt(&daemon, requests).await?)];
    daemon.terminate()?;

    let embedded = Rig::below(below, "")?;
    embedded.flash()?;
    let daemon = embedded.start()?;
    let trip = embedded_round_trip(&embedded, requests).await?;
    all.push(("MQTT over the embedded broker", Some(trip), mqtt(&daemon, requests).await?));
    let http = Terminal::Http(daemon.http("ward-1")?);
    all.push(("HTTPS", None, ask(http, requests).await?));
    let serial = Terminal::Serial(Box::new(embedded.serial()?));
    all.push(("serial (pty)", None, ask(serial, requests).await?));
    daemon.terminate()?;
    Ok(all)
}

async fn mqtt(daemon: &Daemon, requests: usize) -> Result<Asked> {
    ask(Terminal::Mqtt(Box::new(daemon.mqtt("ward-2").await?)), requests).await
}

async fn ask(mut terminal: Terminal, requests: usize) -> Result<Asked> {
    let facts: Vec<Fact> = facts().variants;
    let mut asked = Asked::default();
    for n in 0..WARM_UP + requests {
        let request = facts[n % facts.len()].request(&n.to_string());
        let started = Instant::now();
        match terminal.ask(&request, PATIENCE).await? {
            Outcome::Answer(answer) if n >= WARM_UP => {
                let whole = started.elapsed();
                asked.whole.push(whole);
                asked.beyond.push(whole.saturating_sub(Duration::from_micros(answer.timing_us.infer)));
            }
            Outcome::Answer(_) => {}
            Outcome::Fault(fault) => bail!("{}: {}", fault.code.as_str(), fault.message),
        }
    }
    Ok(asked)
}

/// The embedded broker of a box in this process, with a responder in place of the box.
async fn embedded_round_trip(rig: &Rig, requests: usize) -> Result<Sample> {
    // The registry is read when the gate opens.
    let token = rig.token("bench", "terminal")?;
    let config = Config::open(&rig.config())?;
    let (gate, free) = (Gate::open(&config)?, SocketAddr::from(([127, 0, 0, 1], 0)));
    let (site, box_name) = ("echo".to_owned(), "echo".to_owned());
    let listening = broker::Listening { address: free, tls_address: free, site, box_name };
    let started = broker::start(&listening, gate, |_| {}).await.map_err(anyhow::Error::msg)?;
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
    let (subscribed, ready) = oneshot::channel();
    let echo = tokio::spawn(async move {
        let mut subscribed = Some(subscribed);
        while let Ok(event) = events.poll().await {
            let publish = match event {
                Event::Incoming(Packet::SubAck(_)) => {
                    subscribed.take().map(|subscribed| subscribed.send(()));
                    continue;
                }
                Event::Incoming(Packet::Publish(publish)) => publish,
                _ => continue,
            };
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
    // A request that nobody subscribes to is gone.
    timeout(PATIENCE, ready).await.context("the echo did not subscribe")??;
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
