//! `locusctl ask`: a terminal on the command line.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use locus_firmware_config::message::{Answer, MAX_MESSAGE_BYTES, Outcome, Request, TranscriptSpec};
use tokio::time::Instant;

use super::{
    answer,
    place::{AwayArgs, Place},
    reach::{Asker, WayArgs},
};
use crate::{
    clock::{Clock as _, SystemClock},
    journal::fhir_of,
    keys::random,
    transport::mllp,
};

/// What to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct AskArgs {
    /// Over what
    #[command(flatten)]
    pub way: WayArgs,
    /// Where
    #[command(flatten)]
    pub away: AwayArgs,
    /// A whole request as JSON, in a file or `-` for standard input
    #[arg(long, conflicts_with_all = ["sequence", "mutation", "variant", "transcript_id", "transcript", "gene", "assembly", "explain", "subject", "model"])]
    pub request: Option<PathBuf>,
    /// Wild-type bases
    #[arg(long)]
    pub sequence: Option<String>,
    /// Change in the sequence, such as A123T
    #[arg(long, requires = "sequence")]
    pub mutation: Option<String>,
    /// Change on the box's reference, such as chr17-43045705-T-A, LRG_292t1:c.5096G>A or, with --gene, c.5096G>A
    #[arg(long, conflicts_with = "sequence")]
    pub variant: Option<String>,
    /// Gene whose first transcript is meant by a variant such as c.5096G>A
    #[arg(long)]
    pub gene: Option<String>,
    /// Assembly that the variant is on; the box refuses another one than its own
    #[arg(long)]
    pub assembly: Option<String>,
    /// Transcript to read the variant on
    #[arg(long)]
    pub transcript_id: Option<String>,
    /// Transcript in the coordinates of the sequence, as JSON in a file: {"strand", "exons", "cds"}
    #[arg(long, requires = "sequence")]
    pub transcript: Option<PathBuf>,
    /// Also shows what each base around the change contributes
    #[arg(long)]
    pub explain: bool,
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
    /// In which form the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Prints JSON, as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For a person.
    Text,
    /// The message as it came, faults too.
    Json,
    /// A FHIR R4 bundle after the Genomics Reporting guide.
    Fhir,
    /// An HL7 v2 message ORU^R01.
    Hl7,
}

impl Format {
    /// An answer in this form.
    pub(super) fn of(self, request: &Request, answer: &Answer) -> Result<String> {
        let clock = SystemClock::new();
        Ok(match self {
            Self::Text => answer::lines(answer).join("\n"),
            Self::Json => {
                String::from_utf8_lossy(&Outcome::Answer(Box::new(answer.clone())).to_json()).into_owned()
            }
            Self::Fhir => {
                let bundle = fhir_of(request, answer, clock.unix_ms());
                bundle
                    .context("got an answer that is not in the journal, expected one with a receipt")?
                    .to_string()
            }
            Self::Hl7 => {
                let message = mllp::message(answer, request.gene.as_deref(), &clock);
                String::from_utf8_lossy(&message).into_owned()
            }
        })
    }
}

/// A file, or `-` for standard input.
fn read(path: &Path) -> Result<Vec<u8>> {
    let (mut text, limit) = (Vec::new(), MAX_MESSAGE_BYTES as u64 + 1);
    if path.as_os_str() == "-" {
        std::io::stdin().take(limit).read_to_end(&mut text)?;
    } else {
        let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
        file.take(limit).read_to_end(&mut text)?;
    }
    Ok(text)
}

fn transcript(path: &Path) -> Result<TranscriptSpec> {
    let spec = serde_json::from_slice(&read(path)?);
    spec.with_context(|| format!("{}: expected {{\"strand\", \"exons\", \"cds\"}}", path.display()))
}

fn request(args: &AskArgs) -> Result<Request> {
    let mut request = match &args.request {
        Some(path) => {
            let text = read(path)?;
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
            gene: args.gene.clone(),
            assembly: args.assembly.clone(),
            transcript_id: args.transcript_id.clone(),
            transcript: args.transcript.as_deref().map(transcript).transpose()?,
            explain: args.explain.then_some(true),
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

/// Asks until there is an outcome; exit code 1 for a fault.
///
/// # Errors
/// No outcome in time.
pub fn run(place: &Place, args: &AskArgs) -> Result<ExitCode> {
    let request = request(args)?;
    let mut asker = Asker::of(place, &args.way)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let ends = Instant::now() + Duration::from_millis(args.timeout_ms);
        asker.ask(&request, ends).await.outcome
    })?;
    let format = if args.json { Format::Json } else { args.format };
    match outcome {
        Outcome::Answer(answer) => {
            say!("{}", format.of(&request, &answer)?);
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Fault(fault) => {
            complain!("locusctl: {}: {}", fault.code.as_str(), fault.message);
            if format == Format::Json {
                say!("{}", String::from_utf8_lossy(&Outcome::Fault(fault).to_json()));
            }
            Ok(ExitCode::FAILURE)
        }
    }
}
