//! The allocator's way with memory that is free again.

use std::{env, os::unix::process::CommandExt as _, process::Command};

/// What mimalloc reads before the first line of a program runs: milliseconds until it gives freed memory back.
const PURGE: &str = "MIMALLOC_PURGE_DELAY";

/// Starts this program anew in its place with an allocator that keeps what it has, unless the variable says
/// otherwise already: a training step frees and takes hundreds of megabytes, and a quarter of its time would go into
/// clearing pages. To be called before anything else.
pub fn keep() {
    if env::var_os(PURGE).is_some() {
        return;
    }
    if let Ok(program) = env::current_exe() {
        // Comes back only where it failed; all that is lost then is speed.
        let _ = Command::new(program).args(env::args_os().skip(1)).env(PURGE, "-1").exec();
    }
}
