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
    transport::{broker, mqtt::IN_FLIGHT, serial},
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
    /// Microseconds of computing before each answer
    #[arg(long, default_value_t = 0)]
    hold_us: u64,
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
                return answer_line(line, self.hold()).await;
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
            tokio::spawn(answer(client, events, self.hold()));
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
            Ok(())
        })
    }

    const fn hold(&self) -> Duration {
        Duration::from_micros(self.hold_us)
    }
}

/// Computes for as long: meanwhile everybody else on the way falls asleep, as they do while a model runs.
fn compute(hold: Duration) {
    let started = Instant::now();
    while started.elapsed() < hold {
        std::hint::spin_loop();
    }
}

fn responder(port: u16, secret: Option<&str>) -> (AsyncClient, EventLoop) {
    let mut options = MqttOptions::new(SITE, ("127.0.0.1", port));
    if let Some(secret) = secret {
        options.set_credentials(broker::BOX, secret.to_owned());
    }
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network).set_clean_start(true).set_outgoing_inflight_upper_limit(IN_FLIGHT);
    AsyncClient::builder(options).capacity(64).build()
}

/// Answers with a fault of an answer's size.
async fn answer(client: AsyncClient, mut events: EventLoop, hold: Duration) {
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
        compute(hold);
        if client.publish(topic, reply.clone(), options).await.is_err() {
            break;
        }
    }
}

/// Answers what comes over a line.
async fn answer_line(mut port: SerialStream, hold: Duration) -> Result<()> {
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
            compute(hold);
            let _ = line.outcome(ticket, FrameType::Fault, message.clone(), &mut out);
        }
        AsyncWriteExt::write_all(&mut port, &out).await?;
    }
}

/// Ends when it is dropped.
pub(crate) struct Responder(Child);

impl Responder {
    /// Starts it; what it says first.
    fn start(arguments: &[String], hold: Duration) -> Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("echo").args(arguments).arg("--hold-us").arg(hold.as_micros().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
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

/// What the way takes by itself.
pub(crate) struct Trips {
    /// Of an echo that answers at once, where there is one.
    pub(crate) at_once: Option<Sample>,
    /// Of one that computes for as long as the engine does before, which is taken off again.
    pub(crate) own: Sample,
}

/// A terminal at a broker on loopback, and the responder that computes for so long before it answers.
pub(crate) async fn at_broker(port: u16, hold: Duration) -> Result<(Responder, Terminal)> {
    connected(&["--port".into(), port.to_string()], None, hold).await
}

/// The same at the embedded broker, with the settings of a box that does not run.
pub(crate) async fn at_embedded(rig: &Rig, hold: Duration) -> Result<(Responder, Terminal)> {
    // The registry is read when the broker starts.
    let token = rig.token("bench", "terminal")?;
    let config = rig.config().display().to_string();
    connected(&["--config".into(), config], Some(token.trim()), hold).await
}

/// The same on a line that `pty` makes, with the name of its other end.
pub(crate) fn on_line(
    pty: &impl Fn() -> Result<(Terminal, String)>,
    hold: Duration,
) -> Result<(Responder, Terminal)> {
    let (terminal, name) = pty()?;
    let (responder, _) = Responder::start(&["--line".into(), name], hold)?;
    Ok((responder, terminal))
}

async fn connected(
    arguments: &[String],
    token: Option<&str>,
    hold: Duration,
) -> Result<(Responder, Terminal)> {
    let shown = token.map(|token| Credentials::default().with_token(token));
    let (responder, said) = Responder::start(arguments, hold)?;
    let port = said.parse().context("the responder did not start")?;
    let terminal = MqttTerminal::connect_as("127.0.0.1", port, SITE, "bench", shown.as_ref(), PATIENCE);
    Ok((responder, Terminal::Mqtt(Box::new(terminal.await?))))
}

/// Round trips where the responder answers at once, and where it computes for as long as the engine does before.
pub(crate) async fn round_trips(
    way: impl AsyncFn(Duration) -> Result<(Responder, Terminal)>,
    requests: usize,
    hold: Duration,
) -> Result<Trips> {
    let (responder, terminal) = way(Duration::ZERO).await?;
    let at_once = trips(terminal, requests, Duration::ZERO).await?;
    drop(responder);
    let (_responder, terminal) = way(hold).await?;
    Ok(Trips { at_once: Some(at_once), own: trips(terminal, requests, hold).await? })
}

async fn trips(mut terminal: Terminal, requests: usize, hold: Duration) -> Result<Sample> {
    let (facts, mut sample) = (facts().variants, Sample::default());
    for n in 0..WARM_UP + requests {
        let request = facts[n % facts.len()].request(&n.to_string());
        let started = Instant::now();
        terminal.ask(&request, PATIENCE).await?;
        if n >= WARM_UP {
            sample.push(started.elapsed().saturating_sub(hold));
        }
    }
    Ok(sample)
}
