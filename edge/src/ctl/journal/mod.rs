//! `locusctl journal`.

mod proofs;
mod upkeep;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use ed25519_dalek::VerifyingKey;
use zeroize::Zeroizing;

use crate::{
    config::{Config, ConfigError},
    journal::{COLUMNS, Checkpoint, Receipt, Report, Why, Witnesses, export, verify},
    keys::{Identity, read_device_public},
    state::StateDir,
    vfs::OsVfs,
};

/// What to do with the journal.
#[derive(Clone, Debug, Subcommand)]
pub enum JournalCommand {
    /// Proves that nothing was changed, cut or put in; needs no key that opens it
    Verify(VerifyArgs),
    /// Decrypts it with a recipient's private key
    Export(ExportArgs),
    /// Proves one record to somebody who has nothing of the journal
    Prove(proofs::ProveArgs),
    /// Checks such a proof; needs the device's public key only
    CheckProof(proofs::CheckArgs),
    /// Lists the answers of a withdrawn model; opens none
    Recall(proofs::RecallArgs),
    /// Makes everything of a subject unreadable for ever
    Erase(upkeep::EraseArgs),
    /// Copies finished segments elsewhere, verifies the copy, then frees them here
    Offload(upkeep::OffloadArgs),
}

/// Which journal.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Folder of the journal [default: that of the configuration]; with --device-key no configuration is needed
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Public key of the device that wrote it [default: that of the configuration]
    #[arg(long)]
    pub device_key: Option<PathBuf>,
}

/// How to verify.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// Which journal
    #[command(flatten)]
    pub place: Place,
    /// Answers or receipts that others kept, JSON lines: each must be in the journal
    #[arg(long)]
    pub receipts: Option<PathBuf>,
    /// Checkpoints that others kept, JSON lines
    #[arg(long)]
    pub checkpoints: Option<PathBuf>,
    /// Folders with segments that were offloaded: read as if they were still here
    #[arg(long = "with", value_name = "DIR")]
    pub copies: Vec<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// How to export.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// Which journal
    #[command(flatten)]
    pub place: Place,
    /// A recipient's private key
    #[arg(long)]
    pub identity: PathBuf,
    /// Format
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub format: Format,
    /// File, readable by its owner only [default: standard output]
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Format of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Jsonl,
    /// A table, without the sequences
    Csv,
    /// One FHIR R4 bundle (Genomics Reporting) a line, without the sequences
    Fhir,
}

/// Runs one of them; exit code 1 where something is wrong with the journal.
///
/// # Errors
/// Files or keys that cannot be read.
pub fn run(config: impl Fn() -> Result<Config, ConfigError>, command: &JournalCommand) -> Result<ExitCode> {
    match command {
        JournalCommand::Verify(args) => run_verify(args, &locate(config, &args.place)?),
        JournalCommand::Export(args) => run_export(args, &locate(config, &args.place)?),
        JournalCommand::Prove(args) => proofs::prove(args, &locate(config, &args.place)?),
        JournalCommand::CheckProof(args) => proofs::check(config, args),
        JournalCommand::Recall(args) => proofs::recall(args, &locate(config, &args.place)?),
        JournalCommand::Erase(args) => upkeep::erase(&config()?, args),
        JournalCommand::Offload(args) => upkeep::offload(&config()?, args),
    }
}

struct Located {
    dir: PathBuf,
    device: VerifyingKey,
}

/// Where the journal is, and whose. A copy away from the box, both told, needs no configuration.
fn locate(config: impl Fn() -> Result<Config, ConfigError>, place: &Place) -> Result<Located> {
    let (dir, key) = match (&place.dir, &place.device_key) {
        (Some(dir), Some(key)) => (dir.clone(), key.clone()),
        (dir, key) => {
            let config =
                config().context("a journal without a configuration needs both --dir and --device-key")?;
            let state = StateDir::new(&config.state);
            (
                dir.clone().unwrap_or_else(|| state.journal()),
                key.clone().unwrap_or_else(|| state.device_public()),
            )
        }
    };
    Ok(Located { dir, device: read_device_public(&OsVfs, &key)? })
}

fn lines<T>(path: Option<&Path>, read: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let kept = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    kept.map(|(n, line)| read(line).with_context(|| format!("{}, line {}", path.display(), n + 1))).collect()
}

fn receipt(line: &str) -> Result<Receipt> {
    let value: serde_json::Value = serde_json::from_str(line)?;
    let receipt = value.get("receipt").cloned().unwrap_or(value);
    serde_json::from_value(receipt).context("expected a receipt, or an answer with one")
}

fn run_verify(args: &VerifyArgs, Located { dir, device }: &Located) -> Result<ExitCode> {
    let witnesses = Witnesses {
        receipts: lines(args.receipts.as_deref(), receipt)?,
        checkpoints: lines(args.checkpoints.as_deref(), |line| {
            Ok(serde_json::from_str::<Checkpoint>(line)?)
        })?,
        copies: args.copies.clone(),
    };
    let report = verify(&OsVfs, dir, device, &witnesses)?;
    if args.json {
        say!("{}", serde_json::to_string(&report)?);
    } else {
        say!(
            "journal {}: {} records in {} segments, {}",
            report.journal,
            report.records,
            report.segments,
            if report.intact() { "intact" } else { "DAMAGED" }
        );
        say!(
            "root {}; {} receipts and {} checkpoints compared",
            report.root,
            witnesses.receipts.len(),
            witnesses.checkpoints.len()
        );
        for line in remarks(&report) {
            say!("{line}");
        }
        for finding in &report.findings {
            say!("{finding}");
        }
    }
    Ok(if report.intact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is not damage, and what an auditor asks for all the same.
fn remarks(report: &Report) -> Vec<String> {
    let mut lines = vec![if report.closed {
        "closed properly".to_owned()
    } else {
        "not closed: the box writes it, or was cut off".to_owned()
    }];
    if report.torn_bytes > 0 {
        lines.push(format!(
            "{} bytes behind the last commit: a batch being written, or torn and never answered for",
            report.torn_bytes
        ));
    }
    if report.recovered_losses > 0 {
        lines.push(format!(
            "{} records lost at power cuts before anybody was answered, as the box wrote down",
            report.recovered_losses
        ));
    }
    if report.shredded > 0 {
        lines.push(format!("{} records unreadable, because their subject was shredded", report.shredded));
    }
    for span in &report.freed {
        let why = match span.why {
            Why::Copied => "after a copy was verified",
            Why::Policy => "by the box's configuration",
        };
        lines.push(format!(
            "{} records in segments {} to {} are not here: freed {why}",
            span.records, span.first_segment, span.last_segment
        ));
    }
    if report.clock_untrusted > 0 {
        lines.push(format!(
            "{} records were written while the box did not trust its clock",
            report.clock_untrusted
        ));
    }
    if report.clock_steps_back > 0 {
        lines.push(format!("the clock went backwards {} times between records", report.clock_steps_back));
    }
    lines
}

fn run_export(args: &ExportArgs, Located { dir, device }: &Located) -> Result<ExitCode> {
    use std::os::unix::fs::OpenOptionsExt;
    let identity = Identity::read(&OsVfs, &args.identity)?;
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            Box::new(std::io::BufWriter::new(file.with_context(|| path.display().to_string())?))
        }
        None => Box::new(locus_console::Stdout),
    };
    let (mut records, mut damaged, mut left_out) = (0_u64, 0_u64, 0_u64);
    if args.format == Format::Csv {
        out.write_all(&csv_line(COLUMNS.iter().map(|column| column.as_bytes()))?)?;
    }
    for record in export(&OsVfs, dir, device, &identity)? {
        if locus_console::closed() {
            break;
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                complain!("locusctl: {error}");
                damaged += 1;
                continue;
            }
        };
        match args.format {
            Format::Jsonl => writeln!(out, "{}", &*record.to_json_line())?,
            Format::Csv => {
                let row = record.to_csv_row();
                out.write_all(&csv_line(row.iter().map(|field| field.as_bytes()))?)?;
            }
            Format::Fhir => match record.to_fhir() {
                Some(bundle) => writeln!(out, "{}", &*bundle)?,
                None => {
                    left_out += 1;
                    continue;
                }
            },
        }
        records += 1;
    }
    out.flush()?;
    if left_out > 0 {
        complain!("{left_out} records are no answers that can be read, and are left out");
    }
    complain!("{records} records exported, {damaged} places damaged");
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn csv_line<'a>(fields: impl Iterator<Item = &'a [u8]>) -> Result<Zeroizing<Vec<u8>>> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(fields)?;
    writer.into_inner().map(Zeroizing::new).map_err(|error| error.into_error().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Span;

    #[test]
    fn what_verification_counted_is_told_to_people_too() {
        let report = Report {
            torn_bytes: 11,
            recovered_losses: 12,
            shredded: 13,
            clock_steps_back: 14,
            clock_untrusted: 15,
            freed: vec![Span {
                first_segment: 1,
                last_segment: 3,
                records: 16,
                why: Why::Policy,
                unix_ms: 0,
            }],
            ..Report::default()
        };
        let text = remarks(&report).join("\n");
        for told in [
            "not closed",
            "11 bytes",
            "12 records lost",
            "13 records unreadable",
            "14 times",
            "15 records",
            "16 records in segments 1 to 3",
        ] {
            assert!(text.contains(told), "{told}: {text}");
        }
        assert_eq!(remarks(&Report { closed: true, ..Report::default() }), ["closed properly"]);
    }
}
