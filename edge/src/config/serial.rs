//! Serial lines.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{NAME, Problem};
use crate::names::is_name;

/// One serial line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial {
    /// The device, best by its stable name under /dev/serial/by-id.
    pub path: PathBuf,
    /// Name of the terminal on it.
    pub terminal: String,
    /// The key that the line's frames are made with, in a file; `locusctl line-key` makes one.
    pub key_file: Option<PathBuf>,
    /// Time between attempts to open a line that is not there.
    #[serde(default = "default_reopen")]
    pub reopen_ms: u32,
    /// Bits per second.
    #[serde(default = "default_baud")]
    pub baud: u32,
}

const fn default_baud() -> u32 {
    115_200
}

const fn default_reopen() -> u32 {
    500
}

impl Serial {
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        std::iter::once(&mut self.path).chain(&mut self.key_file)
    }

    pub(super) fn problem(&self) -> Option<Problem> {
        Problem::first([
            (is_name(&self.terminal), "serial.terminal", self.terminal.clone(), NAME),
            (
                (50..=60_000).contains(&self.reopen_ms),
                "serial.reopen_ms",
                self.reopen_ms.to_string(),
                "50 to 60,000",
            ),
        ])
    }
}
