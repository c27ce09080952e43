//! `locusctl line-key`: the secret of a serial line, for the box and for the terminal on it.

use std::{
    fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, process::ExitCode,
};

use anyhow::{Context, Result};
use locus_firmware_config::wire::KEY_BYTES;
use zeroize::Zeroizing;

use crate::keys::random;

/// Where it goes.
#[derive(Clone, Debug, clap::Args)]
pub struct LineKeyArgs {
    /// File to make, readable by its owner only
    #[arg(long)]
    pub out: PathBuf,
}

/// Makes a key; never over another file.
///
/// # Errors
/// The file is there, or cannot be written.
pub fn run(args: &LineKeyArgs) -> Result<ExitCode> {
    let digits = Zeroizing::new(hex::encode(*random::<KEY_BYTES>()?));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.out);
    let mut file = file.with_context(|| args.out.display().to_string())?;
    writeln!(file, "{}", &*digits)?;
    file.sync_all()?;
    say!(
        "{}: name it as key_file of the line, and give the same 32 bytes to its terminal",
        args.out.display()
    );
    Ok(ExitCode::SUCCESS)
}
