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
    /// Bits per second.
    #[serde(default = "default_baud")]
    pub baud: u32,
}

const fn default_baud() -> u32 {
    115_200
}

impl Serial {
    pub(super) fn problem(&self) -> Option<Problem> {
        (!is_name(&self.terminal)).then(|| Problem {
            field: "serial.terminal",
            got: self.terminal.clone(),
            expected: NAME,
        })
    }
}
