//! How a terminal on the command line reaches the box.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use locus_firmware_config::message::{Outcome, Request};
use tokio::time::Instant;

use super::place::Place;
use crate::{
    access::LOCAL,
    client::{ClientError, HttpTerminal, MqttTerminal, SerialTerminal, Terminal},
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

impl WayArgs {
    /// Whether it is a serial line.
    pub fn is_line(&self) -> bool {
        self.transport == Transport::Serial
    }
}

/// Connects a terminal; `port` is the serial line's.
pub(super) async fn connect(
    place: &Place,
    args: &ReachArgs,
    transport: Transport,
    port: Option<&Path>,
    patience: Duration,
) -> Result<Terminal> {
    Ok(match transport {
        Transport::Http => {
            let (base, shown) = place.https(args)?;
            Terminal::Http(HttpTerminal::new(&base, &shown)?)
        }
        Transport::Mqtt => {
            let (host, number, site, shown) = place.mqtt(args)?;
            let connected =
                MqttTerminal::connect_as(&host, number, &site, &args.terminal, Some(&shown), patience);
            Terminal::Mqtt(Box::new(connected.await?))
        }
        Transport::Serial => {
            let path = port.context("expected --serial-port, the terminal's end of the line")?;
            let baud = args.baud.or_else(|| place.baud()).unwrap_or(115_200);
            let key = args.key_file.as_deref().map(read_key).transpose();
            let key = key.map_err(anyhow::Error::msg)?;
            Terminal::Serial(Box::new(SerialTerminal::open_with(path, baud, key)?))
        }
    })
}

/// A terminal that connects when it asks, and again where the connection broke.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) place: &'a Place,
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
    pub(super) fn of(place: &'a Place, way: &'a WayArgs) -> Result<Self> {
        let port = way.serial_port.as_deref();
        place.possible(&way.reach, way.transport, port)?;
        Ok(Self::new(place, &way.reach, way.transport, port))
    }

    pub(super) fn new(
        place: &'a Place,
        args: &'a ReachArgs,
        transport: Transport,
        port: Option<&'a Path>,
    ) -> Self {
        Self { place, args, transport, port, terminal: None }
    }

    async fn attempt(&mut self, request: &Request, patience: Duration) -> Result<Outcome> {
        let mut terminal = match self.terminal.take() {
            Some(terminal) => terminal,
            None => connect(self.place, self.args, self.transport, self.port, patience).await?,
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
