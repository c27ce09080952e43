//! The `locus` command.

mod cli;
mod dispatch;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    locus_host::memory::keep();
    let ended = dispatch::run(cli::Cli::parse().command);
    match ended.and_then(|()| locus_console::finish().context("writing to standard output")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            locus_console::complain!("locus: {}", locus_console::whole(&error));
            ExitCode::FAILURE
        }
    }
}
