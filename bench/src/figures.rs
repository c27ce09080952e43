//! The form of a results file; `cargo xtask benchmarks` reads it.

use std::{fs, path::Path};

use anyhow::Result;
use locus_measure::Environment;
use serde::Serialize;

/// One file.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) title: &'static str,
    pub(crate) about: String,
    pub(crate) figures: Vec<Figure>,
}

/// One figure.
#[derive(Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) spread: String,
    pub(crate) command: String,
    pub(crate) seed: Option<u64>,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) beside: Option<String>,
}

/// What it was measured on.
#[derive(Clone, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_bytes: u64,
}

impl Machine {
    /// This one; what the system does not tell is empty or zero.
    pub(crate) fn this() -> Self {
        let here = Environment::here([]);
        Self {
            cpu: here.cpu.unwrap_or_default(),
            cores: here.cores,
            memory_bytes: here.memory_bytes.unwrap_or_default(),
        }
    }
}

/// What a command line begins with where other programs than the workspace's own were measured.
fn programs() -> String {
    std::env::var("LOCUS_PROGRAMS")
        .map_or_else(|_| String::new(), |folder| format!("LOCUS_PROGRAMS={folder} "))
}

/// What the figures of one run share.
pub(crate) struct Run {
    command: String,
    date: String,
    machine: Machine,
}

impl Run {
    /// Of `cargo run -p locus-bench -- ARGUMENTS`, now and here.
    pub(crate) fn of(arguments: &str) -> Self {
        Self {
            command: format!("{}cargo run -p locus-bench -- {arguments}", programs()),
            date: time::OffsetDateTime::now_utc().date().to_string(),
            machine: Machine::this(),
        }
    }

    /// One of them.
    pub(crate) fn figure(
        &self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        spread: impl Into<String>,
        beside: impl Into<Option<String>>,
    ) -> Figure {
        Figure {
            name: name.into(),
            value,
            unit,
            spread: spread.into(),
            command: self.command.clone(),
            seed: None,
            date: self.date.clone(),
            machine: self.machine.clone(),
            beside: beside.into(),
        }
    }
}

impl Results {
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        println!("{}", path.display());
        Ok(())
    }
}
