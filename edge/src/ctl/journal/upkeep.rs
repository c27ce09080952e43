//! `locusctl journal erase`, `offload`: through the running daemon where there is one, else by themselves.

use std::{io::Read as _, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::super::slots::told;
use crate::{
    audit::What,
    clock::{ClockWatch, SystemClock},
    config::Config,
    control::Order,
    flashing::Flasher,
    journal::Upkeep,
    keys::{self, IndexKey},
    state::StateDir,
    vfs::{OsVfs, Vfs as _, VfsLock},
};

/// Longest subject on standard input.
const MAX_SUBJECT: u64 = 256;

/// Whom to erase.
#[derive(Clone, Debug, clap::Args)]
pub struct EraseArgs {
    /// The subject as it was in the requests; - reads it from standard input, so that it is in no list of processes
    #[arg(long)]
    pub subject: String,
    /// Erases in a copy of the journal (of `offload`) and not in the journal itself
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// Where to.
#[derive(Clone, Debug, clap::Args)]
pub struct OffloadArgs {
    /// Folder, on another disk
    #[arg(long)]
    pub to: PathBuf,
    /// Only copies and verifies: everything stays on the box too
    #[arg(long)]
    pub keep: bool,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// The box's hand on its segments, without a daemon; nobody else has it meanwhile.
fn by_hand(config: &Config) -> Result<(Upkeep, Box<dyn VfsLock>)> {
    let state = StateDir::new(&config.state);
    let lock = OsVfs.lock(&state.journal().join("lock")).with_context(|| {
        format!("cannot lock the journal in {}: another process has it", state.journal().display())
    })?;
    Ok((upkeep_of(&state)?, lock))
}

fn upkeep_of(state: &StateDir) -> Result<Upkeep> {
    let clock = ClockWatch::new(Arc::new(SystemClock::new()), 0, None);
    let device_key = keys::load_or_create_device_key(&OsVfs, &state.device_key())?;
    let index_key = IndexKey::load_or_create(&OsVfs, &state.index_key())?;
    Ok(Upkeep::new(Arc::new(OsVfs), clock, &state.journal(), device_key, index_key))
}

fn subject(given: &str) -> Result<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().take(MAX_SUBJECT).read_to_string(&mut text)?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    ensure!(!text.is_empty(), "got no subject on standard input");
    Ok(text)
}

pub(super) fn erase(config: &Config, args: &EraseArgs) -> Result<ExitCode> {
    let subject = subject(&args.subject)?;
    let state = StateDir::new(&config.state);
    let erased = match &args.dir {
        Some(copy) => {
            let upkeep = upkeep_of(&state)?;
            serde_json::to_value(upkeep.hold().erase(Some(copy), None, &subject)?)?
        }
        None => match told(config, &Order::Erase(subject.clone()))? {
            Some(erased) => erased,
            None => {
                let (upkeep, _lock) = by_hand(config)?;
                let erased = Flasher::open(config)?.attempt(What::Erase, None, || {
                    let erased = upkeep.hold().erase(None, None, &subject).map_err(|e| e.to_string())?;
                    Ok((erased, format!("{} records", erased.records)))
                });
                serde_json::to_value(erased.map_err(|reason| anyhow!(reason))?)?
            }
        },
    };
    if args.json {
        say!("{erased}");
        return Ok(ExitCode::SUCCESS);
    }
    say!("{} records in {} segments are unreadable for ever", erased["records"], erased["segments"]);
    if args.dir.is_none() && copied(&state)? {
        say!("copies of the journal still hold what was copied before: erase there with --dir too");
    }
    Ok(ExitCode::SUCCESS)
}

fn copied(state: &StateDir) -> Result<bool> {
    Ok(upkeep_of(state)?.known()?.0 > 0)
}

pub(super) fn offload(config: &Config, args: &OffloadArgs) -> Result<ExitCode> {
    std::fs::create_dir_all(&args.to).with_context(|| format!("cannot make {}", args.to.display()))?;
    let to = args.to.canonicalize().with_context(|| format!("cannot find {}", args.to.display()))?;
    let offloaded: Value = match told(config, &Order::Offload { to: to.clone(), keep: args.keep })? {
        Some(offloaded) => offloaded,
        None => {
            let (upkeep, _lock) = by_hand(config)?;
            let keep = (!args.keep).then(|| config.journal.keep());
            let offloaded =
                Flasher::open(config)?.attempt(What::Offload, Some(to.display().to_string()), || {
                    let offloaded =
                        upkeep.hold().offload(&to, None, keep.as_ref()).map_err(|e| e.to_string())?;
                    let said =
                        format!("{} segments copied, {} freed", offloaded.segments, offloaded.freed.segments);
                    Ok((offloaded, said))
                });
            serde_json::to_value(offloaded.map_err(|reason| anyhow!(reason))?)?
        }
    };
    if args.json {
        say!("{offloaded}");
        return Ok(ExitCode::SUCCESS);
    }
    say!(
        "{} records in {} segments lie in {}, verified; {} bytes were copied now",
        offloaded["records"],
        offloaded["segments"],
        to.display(),
        offloaded["copied_bytes"]
    );
    let freed = &offloaded["freed"];
    say!(
        "{} records in {} segments were freed here, {} bytes",
        freed["records"],
        freed["segments"],
        freed["bytes"]
    );
    Ok(ExitCode::SUCCESS)
}
