//! `locusctl ask`: a terminal on the command line.

use std::{
    io::Read,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use locus_firmware_config::message::{Answer, MAX_MESSAGE_BYTES, Outcome, Request};

use crate::{
    access::{LOCAL, read_token},
    client::{ClientError, Credentials, HttpTerminal, MqttTerminal, SerialTerminal, Terminal},
    config::{Config, MqttMode},
    keys::random,
    state::{Endpoints, StateDir},
    transport::serial::read_key,
};

/// Time between two attempts with the same id.
const PAUSE: Duration = Duration::from_millis(200);
/// Time of one attempt.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Over which transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// HTTPS.
    Http,
    /// MQTT v5.
    Mqtt,
    /// A serial line.
    Serial,
}

/// What to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct AskArgs {
    /// Over which transport
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub transport: Transport,
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
    /// The terminal's end of the serial line
    #[arg(long)]
    pub serial_port: Option<PathBuf>,
    /// Key of the serial line, where it has one
    #[arg(long)]
    pub key_file: Option<PathBuf>,
    /// A whole request as JSON, in a file or `-` for standard input
    #[arg(long, conflicts_with_all = ["sequence", "mutation", "variant", "transcript_id", "subject", "model"])]
    pub request: Option<PathBuf>,
    /// Wild-type bases
    #[arg(long)]
    pub sequence: Option<String>,
    /// Change in the sequence, such as A123T
    #[arg(long, requires = "sequence")]
    pub mutation: Option<String>,
    /// Change on the box's reference, such as chr17-43045705-T-A
    #[arg(long, conflicts_with = "sequence")]
    pub variant: Option<String>,
    /// Transcript to read the variant on
    #[arg(long)]
    pub transcript_id: Option<String>,
    /// Model that must answer, by name, name@version or digest
    #[arg(long)]
    pub model: Option<String>,
    /// Whom it is about, by pseudonym
    #[arg(long)]
    pub subject: Option<String>,
    /// Name of the request; the same name is the same request
    #[arg(long)]
    pub id: Option<String>,
    /// How long to ask again until there is an outcome
    #[arg(long, default_value_t = 20_000)]
    pub timeout_ms: u64,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

fn request(args: &AskArgs) -> Result<Request> {
    let mut request = match &args.request {
        Some(path) => {
            let mut text = Vec::new();
            let limit = MAX_MESSAGE_BYTES as u64 + 1;
            if path.as_os_str() == "-" {
                std::io::stdin().take(limit).read_to_end(&mut text)?;
            } else {
                let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
                file.take(limit).read_to_end(&mut text)?;
            }
            Request::from_json(&text)
                .map_err(|fault| anyhow::anyhow!("{}: {}", fault.code.as_str(), fault.message))?
        }
        None if args.sequence.is_none() && args.variant.is_none() => {
            bail!(
                "got nothing to ask, expected --sequence with or without --mutation, --variant, or --request"
            )
        }
        None => Request {
            sequence: args.sequence.clone(),
            mutation: args.mutation.clone(),
            variant: args.variant.clone(),
            transcript_id: args.transcript_id.clone(),
            subject: args.subject.clone(),
            model: args.model.clone(),
            ..Request::default()
        },
    };
    if let Some(id) = &args.id {
        request.id = Some(id.clone());
    }
    if request.id.is_none() {
        request.id = Some(hex::encode(*random::<8>()?));
    }
    Ok(request)
}

/// What no waiting mends.
fn possible(config: &Config, args: &AskArgs) -> Result<()> {
    match args.transport {
        Transport::Http if !config.http.enabled => bail!("HTTPS is off in the configuration"),
        Transport::Mqtt if config.mqtt.mode == MqttMode::Off => bail!("MQTT is off in the configuration"),
        Transport::Serial if args.serial_port.is_none() => {
            bail!("expected --serial-port, the terminal's end of the line")
        }
        _ => Ok(()),
    }
}

/// What is shown: the token of this machine, unless other credentials are named.
fn credentials(config: &Config, args: &AskArgs) -> Result<Credentials> {
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

async fn connect(config: &Config, args: &AskArgs, patience: Duration) -> Result<Terminal> {
    let state = StateDir::new(&config.state);
    let endpoints = || {
        Endpoints::read(&state)
            .with_context(|| format!("no daemon runs on {}; start locusd", config.state.display()))
    };
    Ok(match args.transport {
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
            let (host, port) = address.rsplit_once(':').context("no port in run/endpoints.json")?;
            let (port, site, shown) = (port.parse()?, &config.site, Some(&credentials));
            let connected = MqttTerminal::connect_as(host, port, site, &args.terminal, shown, patience);
            Terminal::Mqtt(Box::new(connected.await?))
        }
        Transport::Serial => {
            let path = args
                .serial_port
                .as_deref()
                .context("expected --serial-port, the terminal's end of the line")?;
            let baud = config.serial.first().map_or(115_200, |line| line.baud);
            let key = args.key_file.as_deref().map(read_key).transpose();
            let key = key.map_err(anyhow::Error::msg)?;
            Terminal::Serial(Box::new(SerialTerminal::open_with(path, baud, key)?))
        }
    })
}

/// Asks until there is an outcome; exit code 1 for a fault.
///
/// # Errors
/// No outcome in time.
pub fn run(config: &Config, args: &AskArgs) -> Result<ExitCode> {
    let request = request(args)?;
    possible(config, args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(ask(config, args, &request))?;
    if args.json {
        println!("{}", String::from_utf8_lossy(&outcome.to_json()));
    }
    match outcome {
        Outcome::Answer(answer) => {
            if !args.json {
                show(&answer);
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Fault(fault) => {
            eprintln!("locusctl: {}: {}", fault.code.as_str(), fault.message);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The last fault is the outcome where time ends first: it says more than that there was no answer.
async fn ask(config: &Config, args: &AskArgs, request: &Request) -> Result<Outcome> {
    let ends = Instant::now() + Duration::from_millis(args.timeout_ms);
    let mut fault = None;
    loop {
        let patience = ends.saturating_duration_since(Instant::now()).min(ATTEMPT);
        let attempt =
            async { anyhow::Ok(connect(config, args, patience).await?.ask(request, patience).await?) };
        let (pause, last) = match attempt.await {
            Ok(Outcome::Fault(told)) if told.retryable => {
                let pause = told.retry_after_ms.map_or(PAUSE, |ms| Duration::from_millis(ms.into()));
                fault = Some(told.clone());
                (pause, Ok(Outcome::Fault(told)))
            }
            Ok(outcome) => return Ok(outcome),
            Err(error)
                if matches!(
                    error.downcast_ref(),
                    Some(ClientError::NoOutcome { .. } | ClientError::Refused(_))
                ) =>
            {
                return Err(error);
            }
            Err(error) => (PAUSE, fault.clone().map(Outcome::Fault).ok_or(error)),
        };
        if Instant::now() + pause >= ends {
            return last;
        }
        tokio::time::sleep(pause).await;
    }
}

fn show(answer: &Answer) {
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    match &answer.mutation {
        Some(mutation) => println!("{mutation}: {}", answer.predicted_description),
        None => println!("{}", answer.predicted_description),
    }
    if let Some(p) = answer.pathogenic_probability {
        println!(
            "  probability {p:.3} at a prior of {:.2}, band {}",
            answer.prior.unwrap_or(f64::NAN),
            answer.band.as_str()
        );
    }
    for part in answer.prediction.iter().flat_map(|prediction| &prediction.probabilities) {
        println!("  {} {:.3}", part.label, part.probability);
    }
    if answer.input_mode != "sequence" {
        println!("  consequence {}, transcript {}", known(&answer.consequence), known(&answer.transcript_id));
    }
    let names: Vec<&str> =
        [&answer.hgvs_c, &answer.hgvs_p].into_iter().flatten().map(String::as_str).collect();
    if !names.is_empty() {
        println!("  {}", names.join(", "));
    }
    if let Some(evidence) = &answer.evidence {
        println!(
            "  evidence {} {}, likelihood ratio {:.2}",
            evidence.criterion, evidence.strength, evidence.likelihood_ratio
        );
    }
    if let Some(reason) = &answer.out_of_distribution_reason {
        println!("  unlike the training data: {reason}");
    }
    for base in &answer.attribution {
        println!("  {:+4} {} {:+.3}", base.offset, base.base, base.effect);
    }
    if let (Some(assembly), Some(reference)) = (&answer.assembly, &answer.reference) {
        println!("  read on {assembly}, {} {}", reference.name, reference.version);
    }
    println!(
        "  model {} {} on {} in {}, {} us",
        answer.model.name,
        answer.model.version,
        answer.engine.provider,
        answer.engine.precision,
        answer.timing_us.queue
            + answer.timing_us.tokenize
            + answer.timing_us.infer
            + answer.timing_us.journal
    );
    if let Some(receipt) = &answer.receipt {
        println!("  receipt {} of journal {}", receipt.index, receipt.journal);
    }
    for warning in &answer.warnings {
        println!("  warning: {warning}");
    }
    println!("  {}", answer.intended_use);
}
