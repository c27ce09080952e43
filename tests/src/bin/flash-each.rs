//! Flashes files one after the other, as a box without a daemon does, and says what came of each and how much memory it
//! took: `flash-each CONFIG FILE...`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use locus_edge::{config::Config, flashing::Flasher};
use serde_json::json;

/// Most memory that this process has had, in KiB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let config = Config::open(&arguments.next().context("no configuration")?)?;
    let mut flasher = Flasher::open(&config)?;
    for path in arguments {
        let error = flasher.flash(&path, None).err().map(|error| error.to_string());
        println!("{}", json!({"file": path, "error": error, "peak_kib": peak()?}));
    }
    println!("{}", json!({"record": flasher.state()?}));
    Ok(())
}
