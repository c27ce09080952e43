//! `locusctl backup`, `restore`, `decommission`: the life of a box as a whole.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, ensure};

use super::slots::told;
use crate::{
    audit::{About, Audit, Stage, What},
    backup::{self, Contents},
    clock::{Clock as _, SystemClock},
    config::Config,
    control::Order,
    decommission::decommission,
    flashing::Flasher,
    keys::{self, Identity, Recipient, read_device_public},
    state::StateDir,
    vfs::{Access, OsVfs, Vfs as _, write_new},
};

/// Largest file beside the configuration that is taken along, in bytes.
const MAX_BESIDE: u64 = 1 << 20;

/// Where to, and for whom.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    /// File, or a folder in which it gets a name
    #[arg(long)]
    pub to: PathBuf,
    /// Public key of who may open it (of `locusctl keygen`); may be given again
    #[arg(long, required = true)]
    pub recipient: Vec<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// Which backup.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(long)]
    pub from: PathBuf,
    /// Private key that opens it
    #[arg(long)]
    pub identity: PathBuf,
    /// State folder to put it into; empty, or it is not there yet
    #[arg(long)]
    pub state: PathBuf,
    /// Public key of the device, kept elsewhere: a backup of another device is refused
    #[arg(long)]
    pub device_key: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// Whether it is meant.
#[derive(Clone, Debug, clap::Args)]
pub struct DecommissionArgs {
    /// Name of the box, so that it is the right one
    #[arg(long, value_name = "BOX")]
    pub confirm: String,
    /// Destroys results that have no verified copy, too
    #[arg(long)]
    pub discard_results: bool,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

fn show(contents: &Contents, what: &str, json: bool) -> Result<()> {
    if json {
        say!("{}", serde_json::to_string(contents)?);
        return Ok(());
    }
    say!("{what}: {} files of the box {} (device {})", contents.files.len(), contents.r#box, contents.device);
    say!("secrets in it: {}", contents.secrets.join(", "));
    say!("opened by: {}", contents.recipients.join(", "));
    Ok(())
}

/// A file's name beside the configuration, and where it is.
type Beside = (PathBuf, PathBuf);

/// Files that the configuration names and that lie beside it, and those that lie elsewhere.
fn beside(config: &Config, path: &Path) -> Result<(Vec<Beside>, Vec<PathBuf>)> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().context("the configuration has no name")?;
    let (mut files, mut elsewhere) = (vec![(PathBuf::from(name), path.to_owned())], Vec::new());
    for named in config.named_files() {
        if !named.is_file() || OsVfs.len(&named)? > MAX_BESIDE {
            continue;
        }
        match named.strip_prefix(folder) {
            Ok(name) if !files.iter().any(|(known, _)| known == name) => {
                files.push((name.to_owned(), named.clone()));
            }
            Ok(_) => {}
            Err(_) => elsewhere.push(named),
        }
    }
    Ok((files, elsewhere))
}

/// Makes a backup.
///
/// # Errors
/// Keys that cannot be read, a file that is there already.
pub fn make(config: &Config, path: &Path, args: &BackupArgs) -> Result<ExitCode> {
    let state = StateDir::new(&config.state);
    let mut recipients = Vec::new();
    for path in &args.recipient {
        recipients.extend(Recipient::read_all(&OsVfs, path)?);
    }
    ensure!(
        state.device_key().exists(),
        "{} is not there: run `locusctl init`",
        state.device_key().display()
    );
    let device_key = keys::load_or_create_device_key(&OsVfs, &state.device_key())?;
    let (files, elsewhere) = beside(config, path)?;
    let unix_ms = SystemClock::new().unix_ms();
    let (bytes, contents) = backup::make(&state, &config.r#box, &files, &recipients, &device_key, unix_ms)?;
    let to = match args.to.is_dir() {
        true => args.to.join(format!("{}-{}.locus-backup", config.r#box, unix_ms / 1_000)),
        false => args.to.clone(),
    };
    // It holds every secret of the box: none is made that is not written down.
    note(config, &to, &contents).context("the backup was not made, because it cannot be written down")?;
    write_new(&OsVfs, &to, &bytes, Access::Private).with_context(|| to.display().to_string())?;
    show(&contents, &to.display().to_string(), args.json)?;
    for path in elsewhere {
        complain!(
            "locusctl: not in it, because it does not lie beside the configuration: {}",
            path.display()
        );
    }
    if !args.json {
        say!("results are not in it: `locusctl journal offload`; bundles neither: flash them again");
    }
    Ok(ExitCode::SUCCESS)
}

fn note(config: &Config, to: &Path, contents: &Contents) -> Result<()> {
    let (subject, reason) =
        (to.display().to_string(), format!("opened by {}", contents.recipients.join(", ")));
    let made = Order::Backup { subject: subject.clone(), reason: reason.clone() };
    if told(config, &made)?.is_none() {
        Flasher::open(config)?.note(What::Backup, subject, reason)?;
    }
    Ok(())
}

/// Puts a backup back.
///
/// # Errors
/// A backup that does not open, a state folder that is in use.
pub fn restore(path: &Path, args: &RestoreArgs) -> Result<ExitCode> {
    let identity = Identity::read(&OsVfs, &args.identity)?;
    let device = args.device_key.as_deref().map(|path| read_device_public(&OsVfs, path)).transpose()?;
    let state = StateDir::new(&args.state);
    let folder = path.parent().unwrap_or(Path::new("."));
    let contents = backup::restore(&args.from, &identity, device.as_ref(), &state, folder)?;
    let key = keys::load_or_create_device_key(&OsVfs, &state.device_key())?;
    let clock = Arc::new(SystemClock::new());
    let mut audit = Audit::open(Arc::new(OsVfs), clock, &state.audit(), key)?;
    let reason = Some(format!("made at {} ms since 1970", contents.unix_ms));
    audit.note(What::Restore, Stage::Done, About { reason, ..About::default() })?;
    show(&contents, "put back", args.json)?;
    if !args.json {
        if args.device_key.is_none() {
            say!("compare the device's id with the one that you know: no --device-key was named");
        }
        say!("the floors of models are those of that day. Never run two boxes with these keys");
    }
    Ok(ExitCode::SUCCESS)
}

/// Destroys keys and results.
///
/// # Errors
/// A daemon that runs, results without a copy, another box.
pub fn end(config: &Config, args: &DecommissionArgs) -> Result<ExitCode> {
    ensure!(
        args.confirm == config.r#box,
        "got --confirm {:?}, expected the name of this box: nothing was destroyed",
        args.confirm
    );
    ensure!(told(config, &Order::Health)?.is_none(), "the daemon runs: stop it first");
    let state = StateDir::new(&config.state);
    let locks = [state.journal().join("lock"), state.slots().join("lock")];
    let mut held = Vec::new();
    for path in locks.iter().filter(|path| path.exists()) {
        held.push(OsVfs.lock(path).map_err(|error| anyhow!("{}: {error}", path.display()))?);
    }
    let public = state.device_public();
    let device = public.exists().then(|| read_device_public(&OsVfs, &public)).transpose()?;
    let done = decommission(&state, device.as_ref(), args.discard_results, SystemClock::new().unix_ms())?;
    if args.json {
        say!("{}", serde_json::to_string(&done)?);
        return Ok(ExitCode::SUCCESS);
    }
    say!(
        "{} files, {} bytes, were written over and removed: every key and every result of this box",
        done.destroyed,
        done.bytes
    );
    match done.copied_to_segment {
        0 => say!("no copy of its results was ever verified"),
        last => {
            say!("copies of segments up to {last} elsewhere stay readable to {}", done.recipients.join(", "))
        }
    }
    say!("what flash memory keeps of old blocks is beyond this: destroy the disk where that matters");
    say!("{} keeps `locusd` from starting here", state.decommissioned().display());
    Ok(ExitCode::SUCCESS)
}
