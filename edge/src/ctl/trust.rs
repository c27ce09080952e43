//! `locusctl trust`: the document that says whose models this box takes.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use locus_firmware_config::trust::Role;
use serde_json::json;

use super::slots::told;
use crate::{
    clock::{Clock as _, SystemClock},
    config::Config,
    control::Order,
    flashing::Flasher,
    state::StateDir,
    trust::{Expiry, TrustStore, TrustStoreError, expiry},
    vfs::OsVfs,
};

/// What to do with it.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TrustCommand {
    /// Shows whose models this box takes
    Show {
        /// Prints the document as JSON
        #[arg(long)]
        json: bool,
    },
    /// Takes the next trust document, signed by the roots of the present one and its own
    Update {
        /// The document
        file: PathBuf,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
}

/// Shows or replaces it.
///
/// # Errors
/// No trust document, or one that is refused.
pub fn run(config: &Config, command: &TrustCommand) -> Result<ExitCode> {
    match command {
        TrustCommand::Show { json } => show(config, *json)?,
        TrustCommand::Update { file, json } => update(config, file, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(config: &Config, json: bool) -> Result<()> {
    let first = config.models.trust.as_deref().ok_or(TrustStoreError::NoDocument)?;
    let folder = StateDir::new(&config.state).trust();
    let policy = match TrustStore::peek(&OsVfs, &folder)? {
        Some(policy) => policy,
        None => TrustStore::first(&OsVfs, first)?,
    };
    for path in TrustStore::damaged_copies(&OsVfs, &folder)? {
        complain!("locusctl: {} is damaged, the other copy counts", path.display());
    }
    let document = policy.document();
    if json {
        locus_console::write(format_args!("{}", String::from_utf8_lossy(&document.to_json())));
        return Ok(());
    }
    let role = |role: &Role| format!("{} of {}", role.threshold, role.keys.join(", "));
    let holds = match expiry(document, SystemClock::new().unix_ms(), 0) {
        Expiry::Holds => String::new(),
        Expiry::Expired { .. } => " (expired: nothing is flashed)".to_owned(),
        Expiry::Unknown(why) => format!(" ({why})"),
    };
    say!("version   {}", document.version);
    say!("expires   {}{holds}", document.expires);
    say!("root      {}", role(&document.root));
    say!("signing   {}", role(&document.signing));
    say!(
        "revoked   {}",
        if document.revoked.is_empty() { "-".to_owned() } else { document.revoked.join(", ") }
    );
    Ok(())
}

fn update(config: &Config, file: &std::path::Path, json: bool) -> Result<()> {
    let path = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
    let report = match told(config, &Order::Trust(path.clone()))? {
        Some(report) => report,
        None => serde_json::to_value(Flasher::open(config)?.update_trust(&path)?)?,
    };
    if json {
        say!("{report}");
        return Ok(());
    }
    say!("trust document {} counts, until {}", report["version"], report["expires"].as_str().unwrap_or("-"));
    for model in report["untrusted"].as_array().into_iter().flatten().filter(|model| **model != json!(null)) {
        say!(
            "no longer trusted: {}; it serves until the next start: flash it again, signed anew",
            model.as_str().unwrap_or_default()
        );
    }
    Ok(())
}
