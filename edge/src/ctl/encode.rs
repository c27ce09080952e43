//! `locusctl encode`: what the model would read, without running it.

use std::{io::BufRead, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use locus_engine::{Bundle, Scorer, Trust};
use locus_firmware_config::message::{MAX_MESSAGE_BYTES, Request};
use serde_json::json;

use crate::{
    config::Config,
    pipeline::{self, Genome},
};

/// What to encode.
#[derive(Clone, Debug, clap::Args)]
pub struct EncodeArgs {
    /// Bundle whose tokenizer and window are used; it is not run, so it may be unsigned
    #[arg(long)]
    pub bundle: PathBuf,
    /// Requests, one JSON object a line [default: standard input]
    #[arg(long)]
    pub requests: Option<PathBuf>,
}

/// Prints one JSON object a line: `ref_ids, alt_ids, track, features, input_mode, consequence`, or `fault`.
///
/// # Errors
/// The bundle, the reference pack or the requests cannot be read.
pub fn run(config: &Config, args: &EncodeArgs) -> Result<ExitCode> {
    let bundle = Bundle::open(&args.bundle, &Trust::AllowUnsigned)?;
    let encoder = Scorer::encoder_of(&bundle)?;
    let genome =
        config.reference.as_ref().map(|r| Genome::open(&r.fasta, &r.gff, &r.assembly)).transpose()?;
    let input: Box<dyn BufRead> = match &args.requests {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
            Box::new(std::io::BufReader::new(file))
        }
        None => Box::new(std::io::stdin().lock()),
    };
    for line in input.lines() {
        let line = line?;
        if line.len() > MAX_MESSAGE_BYTES * 2 {
            anyhow::bail!("got a line of {} bytes, expected one request", line.len());
        }
        let encoded = Request::from_json(line.as_bytes())
            .and_then(|request| pipeline::encode(&encoder, genome.as_ref(), &request));
        let shown = match encoded {
            Ok(e) => json!({
                "ref_ids": e.ref_ids, "alt_ids": e.alt_ids, "track": e.track, "alt_track": e.alt_track, "features": e.features,
                "input_mode": e.mode.as_str(), "consequence": e.consequence.map(|c| c.so_term()),
                "transcript_id": e.transcript_id,
            }),
            Err(fault) => json!({ "fault": fault }),
        };
        say!("{shown}");
    }
    Ok(ExitCode::SUCCESS)
}
