//! The real programs that the tests talk to.

use std::process::Command;

use anyhow::Result;

use crate::process;

const PACKAGES: [&str; 5] = ["mosquitto", "mosquitto-clients", "chromium", "fonts-noto-cjk", "valgrind"];
/// What looks at packages and completions; a system that does not let itself be given them goes without.
const SYSTEM: [&str; 4] = ["debootstrap", "systemd", "fish", "zsh"];
/// A program of each, where it has one.
const PROGRAMS: [&str; 8] =
    ["mosquitto", "mosquitto_rr", "chromium", "valgrind", "debootstrap", "systemd-analyze", "fish", "zsh"];

/// Installs what is missing. Tests whose peer is not there report themselves skipped.
pub(crate) fn install() -> Result<()> {
    let there = PROGRAMS.iter().all(|p| {
        ["/usr/bin", "/usr/sbin", "/usr/local/bin"].iter().any(|d| std::path::Path::new(d).join(p).exists())
    });
    if there {
        return Ok(());
    }
    let apt = |arguments: &[&str]| {
        process::run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
    };
    apt(&["update", "-qq"])?;
    let install = ["install", "-y", "-qq", "--no-install-recommends"];
    apt(&[&install, PACKAGES.as_slice()].concat())?;
    for package in SYSTEM {
        if let Err(error) = apt(&[&install[..], &[package]].concat()) {
            println!("skipped: {package}: {error:#}");
        }
    }
    // The package starts a broker of its own on the standard port; the tests start theirs.
    let _ = Command::new("service").args(["mosquitto", "stop"]).output();
    Ok(())
}
