//! `locusctl journal`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use ed25519_dalek::VerifyingKey;

use crate::{
    config::Config,
    journal::{Checkpoint, Receipt, Witnesses, export, verify},
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
}

/// Which journal.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Folder of the journal [default: that of the configuration]
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
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
}

/// Runs one of them; exit code 1 where something is wrong with the journal.
///
/// # Errors
/// Files or keys that cannot be read.
pub fn run(config: &Config, command: &JournalCommand) -> Result<ExitCode> {
    match command {
        JournalCommand::Verify(args) => run_verify(config, args),
        JournalCommand::Export(args) => run_export(config, args),
    }
}

fn place(config: &Config, place: &Place) -> Result<(PathBuf, VerifyingKey)> {
    let state = StateDir::new(&config.state);
    let key = place.device_key.clone().unwrap_or_else(|| state.device_public());
    Ok((place.dir.clone().unwrap_or_else(|| state.journal()), read_device_public(&OsVfs, &key)?))
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

fn run_verify(config: &Config, args: &VerifyArgs) -> Result<ExitCode> {
    let (dir, device) = place(config, &args.place)?;
    let witnesses = Witnesses {
        receipts: lines(args.receipts.as_deref(), receipt)?,
        checkpoints: lines(args.checkpoints.as_deref(), |line| {
            Ok(serde_json::from_str::<Checkpoint>(line)?)
        })?,
    };
    let report = verify(&OsVfs, &dir, &device, &witnesses)?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!(
            "journal {}: {} records in {} segments, {}",
            report.journal,
            report.records,
            report.segments,
            if report.intact() { "intact" } else { "DAMAGED" }
        );
        println!(
            "root {}; {} receipts and {} checkpoints compared",
            report.root,
            witnesses.receipts.len(),
            witnesses.checkpoints.len()
        );
        for finding in &report.findings {
            println!("{finding}");
        }
    }
    Ok(if report.intact() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_export(config: &Config, args: &ExportArgs) -> Result<ExitCode> {
    use std::os::unix::fs::OpenOptionsExt;
    let (dir, device) = place(config, &args.place)?;
    let identity = Identity::read(&OsVfs, &args.identity)?;
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => {
            let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            Box::new(std::io::BufWriter::new(file.with_context(|| path.display().to_string())?))
        }
        None => Box::new(std::io::stdout().lock()),
    };
    let (mut records, mut damaged) = (0_u64, 0_u64);
    for record in export(&OsVfs, &dir, &device, &identity)? {
        match record {
            Ok(record) => {
                let Format::Jsonl = args.format;
                writeln!(out, "{}", &*record.to_json_line())?;
                records += 1;
            }
            Err(error) => {
                eprintln!("locusctl: {error}");
                damaged += 1;
            }
        }
    }
    out.flush()?;
    eprintln!("{records} records exported, {damaged} places damaged");
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
