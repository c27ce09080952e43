//! `locusctl init`, `locusctl keygen`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use super::access::show_authority;
use crate::{
    access,
    clock::{Clock as _, SystemClock},
    config::Config,
    keys::{self, Identity, IndexKey, Recipient},
    state::StateDir,
    vfs::OsVfs,
};

/// Where keys go.
#[derive(Clone, Debug, clap::Args)]
pub struct KeygenArgs {
    /// BASE.key (private: keep it off the box) and BASE.pub (for `journal.recipients`) are made
    #[arg(long, value_name = "BASE")]
    pub out: PathBuf,
}

/// Makes a recipient's key pair; never overwrites.
///
/// # Errors
/// A file is there already, or cannot be written.
pub fn keygen(args: &KeygenArgs) -> Result<ExitCode> {
    let file = |end: &str| PathBuf::from(format!("{}.{end}", args.out.display()));
    let identity = Identity::generate()?;
    identity.write_pair(&OsVfs, &file("key"), &file("pub"))?;
    say!("{}: opens journals; keep it off the box", file("key").display());
    say!("{}: recipient {}", file("pub").display(), identity.recipient().id());
    Ok(ExitCode::SUCCESS)
}

/// Makes what a box needs before its first start; what is there is kept.
///
/// # Errors
/// A key that cannot be read or made.
pub fn init(config: &Config) -> Result<ExitCode> {
    let state = StateDir::new(&config.state);
    keys::load_or_create_device_key(&OsVfs, &state.device_key())?;
    IndexKey::load_or_create(&OsVfs, &state.index_key())?;
    let authority = access::prepare(config, SystemClock::new().unix_ms() / 1_000)?;
    for path in &config.journal.recipients {
        for recipient in Recipient::read_all(&OsVfs, path)? {
            say!("results will be sealed to {} ({})", recipient.id(), path.display());
        }
    }
    say!("device key {}", state.device_public().display());
    show_authority(&state, &authority);
    Ok(ExitCode::SUCCESS)
}
