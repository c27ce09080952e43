//! `locusctl cable`: a serial cable without hardware, with noise if wanted, to try terminals and boxes on.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};

/// The two ends, and what the cable does to bytes.
#[derive(Clone, Debug, clap::Args)]
pub struct CableArgs {
    /// Link to make for the box's end
    pub r#box: PathBuf,
    /// Link to make for the terminal's end
    pub terminal: PathBuf,
    /// Share of bits that are flipped, such as 1e-4
    #[arg(long, default_value_t = 0.0)]
    pub bit_errors: f64,
    /// Seed of the noise
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

struct End {
    controller: File,
    /// Held open: a pty without a user reads as broken.
    _user: File,
    link: PathBuf,
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.link);
    }
}

fn end(link: &Path) -> Result<End> {
    let controller: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let name = ptsname(&controller, Vec::new())?;
    let name = PathBuf::from(name.to_str().context("a pty's name is no text")?);
    let user = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits() as i32)
        .open(&name)?;
    let mut attributes = tcgetattr(&user)?;
    attributes.make_raw();
    tcsetattr(&user, OptionalActions::Now, &attributes)?;
    let _ = std::fs::remove_file(link);
    std::os::unix::fs::symlink(&name, link).with_context(|| link.display().to_string())?;
    Ok(End { controller: File::from(controller), _user: user, link: link.to_owned() })
}

/// Noise from a seed: xorshift64* decides for every bit.
struct Noise {
    state: u64,
    below: u64,
}

impl Noise {
    fn new(bit_errors: f64, seed: u64) -> Self {
        // A share of all 64-bit numbers; the cast saturates at both ends.
        Self { state: seed.max(1), below: (bit_errors * u64::MAX as f64) as u64 }
    }

    fn flips(&mut self) -> bool {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) < self.below
    }

    fn spoil(&mut self, bytes: &mut [u8]) {
        if self.below == 0 {
            return;
        }
        for byte in bytes {
            for bit in 0..8 {
                if self.flips() {
                    *byte ^= 1 << bit;
                }
            }
        }
    }
}

fn carry(mut from: File, mut to: File, mut noise: Noise) {
    let mut bytes = [0; 4_096];
    while let Ok(n) = from.read(&mut bytes) {
        noise.spoil(&mut bytes[..n]);
        if n == 0 || to.write_all(&bytes[..n]).is_err() {
            break;
        }
    }
}

/// Runs until it is killed, or until standard input ends.
///
/// # Errors
/// The system gives no ptys, or a link cannot be made.
pub fn run(args: &CableArgs) -> Result<ExitCode> {
    ensure!(
        (0.0..=0.5).contains(&args.bit_errors),
        "got --bit-errors {}, expected a share from 0 to 0.5",
        args.bit_errors
    );
    let (one, other) = (end(&args.r#box)?, end(&args.terminal)?);
    for (from, to, seed) in [(&one, &other, args.seed), (&other, &one, !args.seed)] {
        let (from, to) = (from.controller.try_clone()?, to.controller.try_clone()?);
        let noise = Noise::new(args.bit_errors, seed);
        thread::spawn(move || carry(from, to, noise));
    }
    println!("ready {} {}", args.r#box.display(), args.terminal.display());
    // Whoever started it may end it by closing its input.
    let mut nothing = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut nothing);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_flips_about_the_share_that_was_asked_for() {
        let mut bytes = vec![0; 100_000];
        Noise::new(1e-3, 7).spoil(&mut bytes);
        let flipped: u32 = bytes.iter().map(|b: &u8| b.count_ones()).sum();
        assert!((600..1_000).contains(&flipped), "{flipped}");
        let mut clean = vec![0; 1_000];
        Noise::new(0.0, 7).spoil(&mut clean);
        assert!(clean.iter().all(|&b| b == 0));
    }
}
