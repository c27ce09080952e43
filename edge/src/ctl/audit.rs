//! `locusctl audit`: what was attempted on this box.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    audit::{self, Entry},
    config::Config,
    keys::read_device_public,
    state::StateDir,
    vfs::OsVfs,
};

/// How to show it.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows the audit trail; exit code 1 where it is not what this box wrote.
///
/// # Errors
/// It cannot be read.
pub fn run(config: &Config, args: &AuditArgs) -> Result<ExitCode> {
    let state = StateDir::new(&config.state);
    let device = read_device_public(&OsVfs, &state.device_public())?;
    let verified = audit::verify(&OsVfs, &state.audit(), &device)?;
    if args.json {
        say!("{}", serde_json::to_string(&verified)?);
    } else {
        verified.entries.iter().for_each(|entry| say!("{}", line(entry)));
    }
    for finding in &verified.findings {
        complain!("locusctl: {finding}");
    }
    Ok(if verified.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(entry: &Entry) -> String {
    let time = OffsetDateTime::from_unix_timestamp((entry.unix_ms / 1_000) as i64).ok();
    let time = time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned());
    let word = |value: Value| value.as_str().unwrap_or("-").to_owned();
    let what = word(serde_json::to_value(entry.what).unwrap_or_default());
    let stage = word(serde_json::to_value(entry.stage).unwrap_or_default());
    let by = entry.by.as_ref().map(|by| format!("by {by}"));
    let rest = [&entry.subject, &entry.digest, &entry.reason, &by].into_iter().flatten();
    let rest: Vec<&str> = rest.map(String::as_str).collect();
    format!("{:>6} {time} {what:<8} {stage:<8} {}", entry.index, rest.join(" | "))
}
