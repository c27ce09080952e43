//! `locusctl completions` and `locusctl manual`: what a shell and `man` want to know of both programs.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, ValueEnum};
use clap_complete::{Shell, generate};

use crate::arguments::{Ctl, Daemon};
use locus_console::Stdout;

/// A program of this project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// The operator's command.
    Locusctl,
    /// The daemon.
    Locusd,
}

/// Which completions.
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsArgs {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
    /// Of which program
    #[arg(long, value_enum, default_value_t = Program::Locusctl)]
    pub program: Program,
}

/// Where to.
#[derive(Clone, Debug, clap::Args)]
pub struct ManualArgs {
    /// Folder that the pages are written to; it is made
    #[arg(long)]
    pub out: PathBuf,
}

/// Prints completions.
///
/// # Errors
/// None; writing is looked at by whoever ends the program.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let (mut command, name) = match args.program {
        Program::Locusctl => (Ctl::command(), "locusctl"),
        Program::Locusd => (Daemon::command(), "locusd"),
    };
    generate(args.shell, &mut command, name, &mut Stdout);
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for each program and command.
///
/// # Errors
/// The folder cannot be written to.
pub fn pages(args: &ManualArgs) -> Result<ExitCode> {
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    for command in [Ctl::command(), Daemon::command()] {
        clap_mangen::generate_to(command, &args.out).with_context(|| args.out.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
