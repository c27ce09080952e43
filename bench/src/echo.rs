//! What a broker takes by itself: a responder in place of the box, in a process of its own as a box is.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use locus_edge::{
    access::Gate,
    client::{Credentials, MqttTerminal, Terminal},
    config::Config,
    transport::{broker, serial},
};
use locus_firmware_config::{
    line::{Heard, Line},
    message::{Fault, FaultCode},
    wire::FrameType,
};
use locus_tests::{Rig, facts};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, PublishOptions,
    mqttbytes::{
        QoS,
        v5::{Packet, PublishProperties},
    },
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_serial::SerialStream;

use crate::{sample::Sample, transports::WARM_UP};

const PATIENCE: Duration = Duration::from_secs(20);
const SITE: &str = "echo";
const BAUD: u32 = 115_200;

/// Where the responder answers.
#[derive(clap::Args)]
pub(crate) struct EchoArguments {
    /// A broker's port on loopback
    #[arg(long)]
    port: Option<u16>,
    /// The box whose embedded broker runs beside it
    #[arg(long)]
    config: Option<PathBuf>,
    /// A serial line
    #[arg(long)]
    line: Option<PathBuf>,
}

/// As large as an answer.
const ANSWER: usize = 1_000;

impl EchoArguments {
    /// Answers until standard input ends.
    pub(crate) fn run(&self) -> Result<()> {
        // As the daemon has it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            if let Some(path) = &self.line {
                let line = serial::open(path, BAUD)?;
                println!();
                return answer_line(line).await;
            }
            let (inner, outer, secret) = match &self.config {
                None => (self.port.context("no port")?, self.port.context("no port")?, None),
                Some(config) => {
                    let gate = Gate::open(&Config::open(config)?)?;
                    let free = SocketAddr::from(([127, 0, 0, 1], 0));
                    let (site, box_name) = (SITE.to_owned(), SITE.to_owned());
                    let listening = broker::Listening { address: free, tls_address: free, site, box_name };
                    let started =
                        broker::start(&listening, gate, |_| {}).await.map_err(anyhow::Error::msg)?;
                    (started.inner.port(), started.address.port(), Some(started.secret.to_string()))
                }
            };
            let (client, mut events) = responder(inner, secret.as_deref());
            client.subscribe(format!("$share/{SITE}/locus/v1/{SITE}/request/+"), QoS::AtLeastOnce).await?;
            let subscribed = async {
                while !matches!(events.poll().await?, Event::Incoming(Packet::SubAck(_))) {}
                anyhow::Ok(())
            };
            tokio::time::timeout(PATIENCE, subscribed)
                .await
                .context("the broker takes no subscription")??;
            println!("{outer}");
            tokio::spawn(answer(client, events));
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
            Ok(())
        })
    }
}

fn responder(port: u16, secret: Option<&str>) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(SITE, ("127.0.0.1", port));
    if let Some(secret) = secret {
        options.set_credentials(broker::BOX, secret.to_owned());
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network).set_clean_start(true);
    AsyncClient::builder(options).capacity(64).build()
}

/// Answers at once with a fault of an answer's size.
async fn answer(client: AsyncClient, mut events: EventLoop) {
    let reply = serde_json::json!({
        "id": null, "code": "busy", "message": "x".repeat(ANSWER), "retryable": true, "retry_after_ms": null
    })
    .to_string();
    while let Ok(event) = events.poll().await {
        let Event::Incoming(Packet::Publish(publish)) = event else { continue };
        let Some(asked) = publish.properties else { continue };
        let properties =
            PublishProperties { correlation_data: asked.correlation_data, ..PublishProperties::default() };
        let topic = asked.response_topic.unwrap_or_default();
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        if client.publish(topic, reply.clone(), options).await.is_err() {
            break;
        }
    }
}

/// Answers what comes over a line at once.
async fn answer_line(mut port: SerialStream) -> Result<()> {
    let mut line = Line::new(None, env!("CARGO_PKG_VERSION"));
    let message = postcard::to_allocvec(&Fault::new(FaultCode::Busy, "x".repeat(ANSWER)))?;
    let mut bytes = [0; 4_096];
    loop {
        let n = AsyncReadExt::read(&mut port, &mut bytes).await?;
        let (mut asked, mut out) = (Vec::new(), Vec::new());
        line.receive(&bytes[..n], &mut || None, &mut out, &mut |heard| {
            if let Heard::Request { ticket, .. } = heard {
                asked.push(ticket);
            }
        });
        for ticket in asked {
            let _ = line.outcome(ticket, FrameType::Fault, message.clone(), &mut out);
        }
        AsyncWriteExt::write_all(&mut port, &out).await?;
    }
}

struct Responder(Child);

impl Responder {
    /// Starts it; what it says first.
    fn start(arguments: &[String]) -> Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut responder = Self(command.spawn()?);
        let mut line = String::new();
        BufReader::new(responder.0.stdout.take().context("no output")?).read_line(&mut line)?;
        Ok((responder, line.trim().to_owned()))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Round trips over a broker that listens on loopback.
pub(crate) async fn of_broker(port: u16, requests: usize) -> Result<Sample> {
    round_trips(&["--port".into(), port.to_string()], None, requests).await
}

/// Round trips over the embedded broker, with the settings of a box that does not run.
pub(crate) async fn of_embedded(rig: &Rig, requests: usize) -> Result<Sample> {
    // The registry is read when the broker starts.
    let token = rig.token("bench", "terminal")?;
    let config = rig.config().display().to_string();
    round_trips(&["--config".into(), config], Some(token.trim()), requests).await
}

async fn round_trips(arguments: &[String], token: Option<&str>, requests: usize) -> Result<Sample> {
    let (_responder, said) = Responder::start(arguments)?;
    let port = said.parse().context("the responder did not start")?;
    let shown = token.map(|token| Credentials::default().with_token(token));
    let connected =
        MqttTerminal::connect_as("127.0.0.1", port, SITE, "bench", shown.as_ref(), PATIENCE).await;
    trips(Terminal::Mqtt(Box::new(connected?)), requests).await
}

/// Round trips of a terminal whose line ends at `path`.
pub(crate) async fn of_line(path: &str, terminal: Terminal, requests: usize) -> Result<Sample> {
    let (_responder, _) = Responder::start(&["--line".into(), path.to_owned()])?;
    trips(terminal, requests).await
}

async fn trips(mut terminal: Terminal, requests: usize) -> Result<Sample> {
    let (facts, mut sample) = (facts().variants, Sample::default());
    for n in 0..WARM_UP + requests {
        let request = facts[n % facts.len()].request(&n.to_string());
        let started = Instant::now();
        terminal.ask(&request, PATIENCE).await?;
        if n >= WARM_UP {
            sample.push(started.elapsed());
        }
    }
    Ok(sample)
}
