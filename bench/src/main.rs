//! Latency and throughput, measured on the real programs.

mod figures;
mod sample;
mod transports;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "locus-bench", version, about = "Measures a box; results go to bench/results")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sequential requests over every transport, beside the bare engine and the brokers' own round trip
    Transports {
        /// Requests on each
        #[arg(long, default_value_t = 2_000)]
        requests: usize,
        /// File to write
        #[arg(long, default_value = "bench/results/transports.json")]
        out: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Transports { requests, out } => transports::run(requests, &out),
    }
}
