//! The `locus` command.

mod cli;
mod dispatch;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    locus_host::memory::keep();
    dispatch::run(cli::Cli::parse().command)
}
