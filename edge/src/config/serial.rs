//! Serial lines.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{NAME, Problem};
use crate::names::is_name;

/// What is spoken on a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The frames of `firmware-config`.
    #[default]
    Wire,
    /// LIS01-A2 and LIS02-A2.
    Lis,
}

/// Settings of a line that speaks LIS01-A2.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lis {
    /// Time for an answer to an enquiry or a frame.
    pub reply_ms: u32,
    /// Time for the next frame of a message.
    pub frame_ms: u32,
    /// Time before a terminal that was busy is asked again.
    pub busy_ms: u32,
    /// Time before a terminal that enquired at the same time is asked again.
    pub contention_ms: u32,
    /// Whether the journal keeps the patient's id as subject.
    pub patient_as_subject: bool,
}

impl Default for Lis {
    fn default() -> Self {
        Self {
            reply_ms: 15_000,
            frame_ms: 30_000,
            busy_ms: 10_000,
            contention_ms: 20_000,
            patient_as_subject: false,
        }
    }
}

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
    /// What is spoken on it.
    #[serde(default)]
    pub protocol: Protocol,
    /// Settings of a line that speaks LIS01-A2.
    #[serde(default)]
    pub lis: Lis,
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
            (
                self.protocol == Protocol::Wire || self.key_file.is_none(),
                "serial.key_file",
                "a key on a line of LIS01-A2".into(),
                "none: that protocol knows no key",
            ),
            (
                [self.lis.reply_ms, self.lis.frame_ms, self.lis.busy_ms, self.lis.contention_ms]
                    .iter()
                    .all(|ms| (10..=600_000).contains(ms)),
                "serial.lis",
                "a time-out of it".into(),
                "10 to 600,000 ms",
            ),
        ])
    }
}
