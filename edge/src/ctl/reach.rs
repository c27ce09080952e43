//! How a terminal on the command line reaches the box.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use locus_firmware_config::message::{Outcome, Request};
use tokio::time::Instant;

use crate::{
    access::{LOCAL, read_token},
    client::{ClientError, Credentials, HttpTerminal, MqttTerminal, SerialTerminal, Terminal},
    config::{Config, MqttMode},
    state::{Endpoints, StateDir},
    transport::serial::read_key,
};

/// Time between two attempts with the same id.
const PAUSE: Duration = Duration::from_millis(200);
/// Time of one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Over which transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Transport {
    /// HTTPS.
    Http,
    /// MQTT v5.
    Mqtt,
    /// A serial line.
    Serial,
}

impl Transport {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Mqtt => "mqtt",
            Self::Serial => "serial",
        }
    }
}

/// Who asks, and what is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct ReachArgs {
    /// Who asks; over a network the name that the credentials are of
    #[arg(long, default_value = LOCAL)]
    pub terminal: String,
    /// Certificate to show instead of the token of this machine, with --key
    #[arg(long, requires = "key")]
    pub certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, requires = "certificate")]
    pub key: Option<PathBuf>,
    /// File with a token to show instead
    #[arg(long, conflicts_with = "certificate")]
    pub token_file: Option<PathBuf>,
    /// Key of the serial line, where it has one
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// Speed of the serial line [default: as the first one of the configuration]
    #[arg(long)]
    pub baud: Option<u32>,
}

/// Over what one terminal asks, and as whom.
#[derive(Clone, Debug, clap::Args)]
pub struct WayArgs {
    /// Over which transport
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub transport: Transport,
    /// Who asks
    #[command(flatten)]
    pub reach: ReachArgs,
    /// The terminal's end of the serial line
    #[arg(long)]
    pub serial_port: Option<PathBuf>,
}

/// What no waiting mends.
pub(super) fn possible(config: &Config, transport: Transport, port: Option<&Path>) -> Result<()> {
    match transport {
        Transport::Http if !config.http.enabled => bail!("HTTPS is off in the configuration"),
        Transport::Mqtt if config.mqtt.mode == MqttMode::Off => bail!("MQTT is off in the configuration"),
        Transport::Serial if port.is_none() => {
            bail!("expected --serial-port, the terminal's end of the line")
        }
        _ => Ok(()),
    }
}

/// What is shown: the token of this machine, unless other credentials are named.
fn credentials(config: &Config, args: &ReachArgs) -> Result<Credentials> {
    let state = StateDir::new(&config.state);
    let authority = config.http.certificate.clone().unwrap_or_else(|| state.authority());
    let trusting = Credentials::trusting(&authority).with_context(|| authority.display().to_string())?;
    if let (Some(certificate), Some(key)) = (&args.certificate, &args.key) {
        return trusting.with_certificate(certificate, key).context("reading --certificate and --key");
    }
    let path = args.token_file.clone().unwrap_or_else(|| state.local_token());
    let token = read_token(&path)?.with_context(|| format!("no token in {}", path.display()))?;
    Ok(trusting.with_token(&token))
}

/// Connects a terminal; `port` is the serial line's.
pub(super) async fn connect(
    config: &Config,
    args: &ReachArgs,
    transport: Transport,
    port: Option<&Path>,
    patience: Duration,
) -> Result<Terminal> {
    let state = StateDir::new(&config.state);
    let endpoints = || {
        Endpoints::read(&state)
            .with_context(|| format!("no daemon runs on {}; start locusd", config.state.display()))
    };
    Ok(match transport {
        Transport::Http => {
            let base = endpoints()?.http.context("the daemon that runs has HTTPS off; start it again")?;
            Terminal::Http(HttpTerminal::new(&base, &credentials(config, args)?)?)
        }
        Transport::Mqtt => {
            let endpoints = endpoints()?;
            let mut credentials = credentials(config, args)?;
            let plain = endpoints.mqtt.context("the daemon that runs has MQTT off; start it again")?;
            // A certificate needs TLS; a token is good enough on loopback.
            let address = match (endpoints.mqtts, &credentials.certificate) {
                (Some(encrypted), Some(_)) => encrypted,
                (Some(_), None) => {
                    credentials.authority.clear();
                    plain
                }
                (None, _) => {
                    credentials.authority = match &config.mqtt.ca {
                        Some(ca) => std::fs::read(ca).with_context(|| ca.display().to_string())?,
                        None => Vec::new(),
                    };
                    if args.token_file.is_none() {
                        credentials.token = None;
                    }
                    plain
                }
            };
            let (host, number) = address.rsplit_once(':').context("no port in run/endpoints.json")?;
            let (number, site, shown) = (number.parse()?, &config.site, Some(&credentials));
            let connected = MqttTerminal::connect_as(host, number, site, &args.terminal, shown, patience);
            Terminal::Mqtt(Box::new(connected.await?))
        }
        Transport::Serial => {
            let path = port.context("expected --serial-port, the terminal's end of the line")?;
            let baud = args.baud.or_else(|| config.serial.first().map(|line| line.baud)).unwrap_or(115_200);
            let key = args.key_file.as_deref().map(read_key).transpose();
            let key = key.map_err(anyhow::Error::msg)?;
            Terminal::Serial(Box::new(SerialTerminal::open_with(path, baud, key)?))
        }
    })
}

/// A terminal that connects when it asks, and again where the connection broke.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) config: &'a Config,
    pub(super) args: &'a ReachArgs,
    pub(super) transport: Transport,
    pub(super) port: Option<&'a Path>,
    terminal: Option<Terminal>,
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Told {
    /// The last fault is the outcome where time ends first: it says more than that there was no answer.
    pub(super) outcome: Result<Outcome>,
    /// How often it was asked beyond the first time.
    pub(super) repeats: usize,
}

impl<'a> Asker<'a> {
    /// Of one terminal, if its way is open at all.
    pub(super) fn of(config: &'a Config, way: &'a WayArgs) -> Result<Self> {
        let port = way.serial_port.as_deref();
        possible(config, way.transport, port)?;
        Ok(Self::new(config, &way.reach, way.transport, port))
    }

    pub(super) fn new(
        config: &'a Config,
        args: &'a ReachArgs,
        transport: Transport,
        port: Option<&'a Path>,
    ) -> Self {
        Self { config, args, transport, port, terminal: None }
    }

    async fn attempt(&mut self, request: &Request, patience: Duration) -> Result<Outcome> {
        let mut terminal = match self.terminal.take() {
            Some(terminal) => terminal,
            None => connect(self.config, self.args, self.transport, self.port, patience).await?,
        };
        let outcome = terminal.ask(request, patience).await;
        if matches!(outcome, Ok(_) | Err(ClientError::Timeout(_) | ClientError::NoOutcome { .. })) {
            self.terminal = Some(terminal);
        }
        Ok(outcome?)
    }

    /// Asks until there is an outcome that asking again would not change, or time ends.
    pub(super) async fn ask(&mut self, request: &Request, ends: Instant) -> Told {
        let (mut fault, mut repeats) = (None, 0);
        loop {
            let patience = ends.saturating_duration_since(Instant::now()).min(ATTEMPT);
            let (pause, last) = match self.attempt(request, patience).await {
                Ok(Outcome::Fault(told)) if told.retryable => {
                    let pause = told.retry_after_ms.map_or(PAUSE, |ms| Duration::from_millis(ms.into()));
                    fault = Some(told.clone());
                    (pause, Ok(Outcome::Fault(told)))
                }
                Ok(outcome) => return Told { outcome: Ok(outcome), repeats },
                Err(error)
                    if matches!(
                        error.downcast_ref(),
                        Some(ClientError::NoOutcome { .. } | ClientError::Refused(_))
                    ) =>
                {
                    return Told { outcome: Err(error), repeats };
                }
                Err(error) => (PAUSE, fault.clone().map(Outcome::Fault).ok_or(error)),
            };
            if Instant::now() + pause >= ends {
                return Told { outcome: last, repeats };
            }
            tokio::time::sleep(pause).await;
            repeats += 1;
        }
    }
}
