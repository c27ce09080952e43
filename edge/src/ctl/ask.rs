//! `locusctl ask`: a terminal on the command line.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use locus_firmware_config::message::{
    Answer, BaseAttribution, MAX_MESSAGE_BYTES, Outcome, Request, TranscriptSpec,
};
use tokio::time::Instant;

use super::reach::{Asker, ReachArgs, Transport, possible};
use crate::{config::Config, keys::random};

/// Characters of the longest bar.
const BAR: usize = 24;

/// What to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct AskArgs {
    /// Over which transport
    #[arg(long, value_enum, default_value_t = Transport::Http)]
    pub transport: Transport,
    /// Who asks
    #[command(flatten)]
    pub reach: ReachArgs,
    /// The terminal's end of the serial line
    #[arg(long)]
    pub serial_port: Option<PathBuf>,
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
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
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
pub fn run(config: &Config, args: &AskArgs) -> Result<ExitCode> {
    let request = request(args)?;
    let port = args.serial_port.as_deref();
    possible(config, args.transport, port)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let ends = Instant::now() + Duration::from_millis(args.timeout_ms);
        Asker::new(config, &args.reach, args.transport, port).ask(&request, ends).await.outcome
    })?;
    if args.json {
        say!("{}", String::from_utf8_lossy(&outcome.to_json()));
    }
    match outcome {
        Outcome::Answer(answer) => {
            if !args.json {
                show(&answer);
            }
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Fault(fault) => {
            complain!("locusctl: {}: {}", fault.code.as_str(), fault.message);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn show(answer: &Answer) {
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
    match &answer.mutation {
        Some(mutation) => say!("{mutation}: {}", answer.predicted_description),
        None => say!("{}", answer.predicted_description),
    }
    if let Some(p) = answer.pathogenic_probability {
        say!(
            "  probability {p:.3} at a prior of {:.2}, band {}",
            answer.prior.unwrap_or(f64::NAN),
            answer.band.as_str()
        );
    }
    for part in answer.prediction.iter().flat_map(|prediction| &prediction.probabilities) {
        say!("  {} {:.3}", part.label, part.probability);
    }
    if answer.input_mode != "sequence" {
        say!("  consequence {}, transcript {}", known(&answer.consequence), known(&answer.transcript_id));
    }
    let names: Vec<&str> =
        [&answer.hgvs_c, &answer.hgvs_p].into_iter().flatten().map(String::as_str).collect();
    if !names.is_empty() {
        say!("  {}", names.join(", "));
    }
    if let Some(evidence) = &answer.evidence {
        say!(
            "  evidence {} {}, likelihood ratio {:.2}",
            evidence.criterion,
            evidence.strength,
            evidence.likelihood_ratio
        );
    }
    if let Some(reason) = &answer.out_of_distribution_reason {
        say!("  unlike the training data: {reason}");
    }
    if !answer.attribution.is_empty() {
        say!("  what each base around the change speaks for, in logits: - benign, + pathogenic");
        bars(&answer.attribution).iter().for_each(|line| say!("  {line}"));
    }
    if let (Some(assembly), Some(reference)) = (&answer.assembly, &answer.reference) {
        say!("  read on {assembly}, {} {}", reference.name, reference.version);
    }
    say!(
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
        say!("  receipt {} of journal {}", receipt.index, receipt.journal);
    }
    for warning in &answer.warnings {
        say!("  warning: {warning}");
    }
    say!("  {}", answer.intended_use);
}

/// One line a base in the order in which they were read, with a bar as long as what it contributes.
fn bars(attribution: &[BaseAttribution]) -> Vec<String> {
    let mut bases: Vec<&BaseAttribution> = attribution.iter().collect();
    bases.sort_by_key(|base| base.offset);
    let most = bases.iter().map(|base| base.effect.abs()).fold(0.0, f32::max);
    let bar = |base: &BaseAttribution| {
        let length = if most > 0.0 { (base.effect.abs() / most * BAR as f32).round() as usize } else { 0 };
        let sign = if base.effect < 0.0 { "-" } else { "+" };
        sign.repeat(length.min(BAR))
    };
    let line = |base: &BaseAttribution| {
        format!("{:+4} {} {:+.3} {}", base.offset, base.base, base.effect, bar(base)).trim_end().to_owned()
    };
    bases.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_order_and_as_long_as_what_a_base_contributes() {
        let base = |offset, effect| BaseAttribution { offset, base: "A".into(), effect };
        let lines = bars(&[base(2, 0.5), base(-1, -1.0), base(0, 0.0)]);
        assert_eq!(lines[0], format!("  -1 A -1.000 {}", "-".repeat(BAR)));
        assert_eq!(lines[1], "  +0 A +0.000");
        assert_eq!(lines[2], format!("  +2 A +0.500 {}", "+".repeat(BAR / 2)));
        assert!(bars(&[base(0, f32::NAN)])[0].contains("NaN"));
    }
}
