//! `locusctl journal prove`, `check-proof`, `recall`: what can be said of records without opening them.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Located, Place, receipt};
use crate::{
    config::{Config, ConfigError},
    journal::{self, Checkpoint, Proof, Receipt},
    keys::{IndexKey, read_device_public},
    state::StateDir,
    vfs::{OsVfs, Vfs as _},
};

/// Largest proof or receipt that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// What to prove.
#[derive(Clone, Debug, clap::Args)]
pub struct ProveArgs {
    /// Which journal
    #[command(flatten)]
    pub place: Place,
    /// Index of the record
    #[arg(long, required_unless_present = "receipt")]
    pub index: Option<u64>,
    /// Receipt, or answer with one, of the record (JSON)
    #[arg(long, conflicts_with = "index")]
    pub receipt: Option<PathBuf>,
    /// Checkpoint that whoever checks has kept (JSON) [default: the last one of the segment]
    #[arg(long)]
    pub checkpoint: Option<PathBuf>,
}

/// What to check.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The proof (JSON)
    pub proof: PathBuf,
    /// Public key of the device [default: that of the configuration]
    #[arg(long)]
    pub device_key: Option<PathBuf>,
    /// Receipt, or answer with one, that the proof must be for (JSON)
    #[arg(long)]
    pub receipt: Option<PathBuf>,
    /// Checkpoint that the proof must be under (JSON)
    #[arg(long)]
    pub checkpoint: Option<PathBuf>,
}

/// Which model.
#[derive(Clone, Debug, clap::Args)]
pub struct RecallArgs {
    /// Which journal
    #[command(flatten)]
    pub place: Place,
    /// Digest of its bundle, hexadecimal, or the first 8 digits of it and more
    #[arg(long)]
    pub model: String,
    /// Name of a terminal: where it asked, its name is shown beside the hash; needs the box's index key
    #[arg(long = "terminal", value_name = "NAME")]
    pub terminals: Vec<String>,
    /// The box's index key [default: that of the configuration], for --terminal
    #[arg(long)]
    pub index_key: Option<PathBuf>,
    /// Prints JSON lines
    #[arg(long)]
    pub json: bool,
}

fn read(path: &std::path::Path) -> Result<String> {
    let bytes = OsVfs.read(path, MAX_FILE).with_context(|| path.display().to_string())?;
    String::from_utf8(bytes).with_context(|| path.display().to_string())
}

fn read_receipt(path: &std::path::Path) -> Result<Receipt> {
    receipt(&read(path)?).with_context(|| path.display().to_string())
}

fn read_checkpoint(path: &std::path::Path) -> Result<Checkpoint> {
    serde_json::from_str(&read(path)?).with_context(|| format!("{} is no checkpoint", path.display()))
}

pub(super) fn prove(args: &ProveArgs, Located { dir, device }: &Located) -> Result<ExitCode> {
    let kept = args.receipt.as_deref().map(read_receipt).transpose()?;
    let index = kept.as_ref().map(|kept| kept.index).or(args.index).context("which record?")?;
    let checkpoint = args.checkpoint.as_deref().map(read_checkpoint).transpose()?;
    let proof = journal::prove(&OsVfs, dir, device, index, checkpoint.as_ref())?;
    if kept.is_some_and(|kept| kept != proof.receipt) {
        bail!("record {index} is not the one of the receipt: verify the journal");
    }
    say!("{}", serde_json::to_string(&proof)?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(config: impl Fn() -> Result<Config, ConfigError>, args: &CheckArgs) -> Result<ExitCode> {
    let key = match &args.device_key {
        Some(key) => key.clone(),
        None => {
            let config = config().context("a check without a configuration needs --device-key")?;
            StateDir::new(&config.state).device_public()
        }
    };
    let device = read_device_public(&OsVfs, &key)?;
    let proof: Proof = serde_json::from_str(&read(&args.proof)?)
        .with_context(|| format!("{} is no proof", args.proof.display()))?;
    let receipt = args.receipt.as_deref().map(read_receipt).transpose()?;
    let checkpoint = args.checkpoint.as_deref().map(read_checkpoint).transpose()?;
    match proof.check(&device, receipt.as_ref(), checkpoint.as_ref()) {
        Ok(()) => {
            say!(
                "record {} with the leaf {} is in journal {}, under the device's head of {} records{}",
                proof.receipt.index,
                proof.receipt.leaf,
                proof.receipt.journal,
                proof.checkpoint.records,
                if receipt.is_some() { "; the receipt is its own" } else { "" }
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => {
            say!("NOT PROVED: {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn time(unix_ms: u64) -> String {
    let time = i64::try_from(unix_ms / 1_000).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}

pub(super) fn recall(args: &RecallArgs, Located { dir, device }: &Located) -> Result<ExitCode> {
    let digest = args.model.to_ascii_lowercase();
    ensure!(
        (8..=64).contains(&digest.len()) && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "got the model {:?}, expected the digest of its bundle, 8 to 64 hexadecimal digits",
        args.model
    );
    let mut names = BTreeMap::new();
    if !args.terminals.is_empty() {
        let beside = || dir.parent().map(|state| StateDir::new(state).index_key());
        let path = args.index_key.clone().or_else(beside).context("name the box's --index-key")?;
        ensure!(path.exists(), "{} is not there: name the box's --index-key", path.display());
        let key = IndexKey::load_or_create(&OsVfs, &path)?;
        names.extend(args.terminals.iter().map(|name| (hex::encode(key.terminal(name)), name.as_str())));
    }
    let mut count = 0_u64;
    if !args.json {
        say!("{:>9}  {:<20}  {:<16}  {:<16}  {:<64}  repeats", "index", "time", "terminal", "bundle", "leaf");
    }
    let findings = journal::recall(&OsVfs, dir, device, &digest, |recalled| {
        count += 1;
        let name = recalled.terminal.as_ref().and_then(|hash| names.get(hash)).copied();
        if args.json {
            let mut line = serde_json::to_value(&recalled).unwrap_or_default();
            if let Some(name) = name {
                line["terminal_name"] = name.into();
            }
            say!("{line}");
            return;
        }
        let doubt = if recalled.clock_trusted { "" } else { "?" };
        say!(
            "{:>9}  {:<20}  {:<16}  {:<16}  {:<64}  {}",
            recalled.receipt.index,
            format!("{}{doubt}", time(recalled.unix_ms)),
            name.or(recalled.terminal.as_deref()).unwrap_or("-"),
            &recalled.bundle[..16],
            recalled.receipt.leaf,
            recalled.repeat_of.map_or_else(|| "-".to_owned(), |index| index.to_string())
        );
    })?;
    complain!("{count} answers of the model");
    for finding in &findings {
        complain!("locusctl: {finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
