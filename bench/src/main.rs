//! Latency, throughput, training speed and memory, measured on the real programs.

mod appliance;
mod bare;
mod compare;
mod crowd;
mod curves;
mod echo;
mod figures;
mod flash;
mod instructions;
mod journal;
mod latency;
mod page;
mod peers;
mod pretraining;
mod pruning;
mod quantisation;
mod sample;
mod scoring;
mod sequences;
mod tokenising;
mod training;
mod transports;
mod variants;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

// As the workbench has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "locus-bench", version, about = "Measures a box; results go to bench/results")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Engine, pipeline, transports and boxes in closed and open loop, with every histogram
    Latency(latency::LatencyArguments),
    /// Two results of `latency` or `locusctl bench`: ratios, and which of them are more than chance
    Compare(compare::CompareArguments),
    /// Results of `latency` or `locusctl bench` as one HTML page
    Report(curves::ReportArguments),
    /// Sequential requests over every transport, beside the bare engine and the brokers' own round trip
    Transports {
        /// Requests on each
        #[arg(long, default_value_t = 2_000)]
        requests: usize,
        /// File to write
        #[arg(long, default_value = "bench/results/transports.json")]
        out: PathBuf,
    },
    /// Start to readiness and first answer; memory idle and loaded
    Appliance {
        /// Starts that count
        #[arg(long, default_value_t = 20)]
        starts: usize,
        /// Length of the load, in seconds
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// File to write
        #[arg(long, default_value = "bench/results/appliance.json")]
        out: PathBuf,
    },
    /// Throughput beside the bare engine, overload, and two boxes at one broker
    Crowd {
        /// Length of each part, in seconds
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// File to write
        #[arg(long, default_value = "bench/results/crowd.json")]
        out: PathBuf,
    },
    /// From `locusctl flash` to serving, in a daemon that runs
    Flash {
        /// Flashes of each bundle
        #[arg(long, default_value_t = 20)]
        rounds: usize,
        /// File to write
        #[arg(long, default_value = "bench/results/flash.json")]
        out: PathBuf,
    },
    /// The journal alone: durable records a second, and what each costs the processor
    Journal(journal::JournalArguments),
    /// The page in Chromium on this machine: from a click to the answer, and what it weighs
    Page {
        /// Clicks that count
        #[arg(long, default_value_t = 200)]
        clicks: usize,
        /// File to write
        #[arg(long, default_value = "bench/results/page.json")]
        out: PathBuf,
    },
    /// Training steps beside PyTorch, and their memory with and without activation checkpointing
    Training {
        /// Times that both programs run, one after the other
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// File to write
        #[arg(long, default_value = "bench/results/training.json")]
        out: PathBuf,
    },
    /// Training steps on a GPU beside PyTorch; writes down that it was not run where there is none
    TrainingGpu {
        /// Times that both programs run, one after the other
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// File to write
        #[arg(long, default_value = "bench/results/training-gpu.json")]
        out: PathBuf,
    },
    /// Bits per base of recipes/pretraining.toml (trained where it is not), and the memory that a whole genome takes
    Pretraining {
        /// Bases of the genome whose memory is measured; as many bytes of temporary files are written
        #[arg(long, default_value_t = 3_000_000_000)]
        bases: u64,
        /// File to write
        #[arg(long, default_value = "bench/results/pretraining.json")]
        out: PathBuf,
    },
    /// The variant-effect recipe over seeds, without pretraining and with it (trained where it is not)
    Variants(variants::VariantsArguments),
    /// The shipped variant-effect bundle: figures per input mode, and calibration
    VariantEffect(variants::ShippedArguments),
    /// The steps of recipes/variant-effect-pruned.toml (pruned where they are not)
    Pruning(pruning::PruningArguments),
    /// The box beside the reference's services on PyTorch and on onnxruntime
    Peers(peers::PeersArguments),
    /// Bases a second that become tokens, beside the reference's Python and `tokenizers`
    Tokenising(tokenising::TokenisingArguments),
    /// `locus score` of the test split beside the bare engine
    Scoring(scoring::ScoringArguments),
    /// Instructions of the hot paths, beside those of bench/instructions.toml
    Instructions(instructions::InstructionsArguments),
    /// Quality of the sequence models' recipes, each trained with several seeds, beside their floors
    Sequences(sequences::SequencesArguments),
    /// INT8 beside FP32: what it costs, how large and how fast it is, beside ONNX Runtime's own quantiser
    Quantisation(quantisation::QuantisationArguments),
    /// A child of `quantisation`
    #[command(hide = true)]
    ExportStep(quantisation::export_step::ExportArguments),
    /// A child of `transports`
    #[command(hide = true)]
    Echo(echo::EchoArguments),
    /// A child of `instructions`
    #[command(hide = true)]
    HotPath(instructions::HotPathArguments),
    /// A child of `training`
    #[command(hide = true)]
    TrainingStep(training::StepArguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Latency(arguments) => arguments.run(),
        Command::Compare(arguments) => arguments.run(),
        Command::Report(arguments) => arguments.run(),
        Command::Transports { requests, out } => transports::run(requests, &out),
        Command::Appliance { starts, seconds, out } => appliance::run(starts, seconds, &out),
        Command::Crowd { seconds, out } => crowd::run(seconds, &out),
        Command::Flash { rounds, out } => flash::run(rounds, &out),
        Command::Journal(arguments) => arguments.run(),
        Command::Page { clicks, out } => page::run(clicks, &out),
        Command::Training { rounds, out } => training::run(rounds, &out),
        Command::TrainingGpu { rounds, out } => training::gpu::run(rounds, &out),
        Command::Pretraining { bases, out } => pretraining::run(bases, &out),
        Command::Variants(arguments) => arguments.run(),
        Command::VariantEffect(arguments) => arguments.run(),
        Command::Pruning(arguments) => arguments.run(),
        Command::Peers(arguments) => arguments.run(),
        Command::Tokenising(arguments) => arguments.run(),
        Command::Scoring(arguments) => arguments.run(),
        Command::Instructions(arguments) => arguments.run(),
        Command::Sequences(arguments) => arguments.run(),
        Command::Quantisation(arguments) => arguments.run(),
        Command::ExportStep(arguments) => arguments.run(),
        Command::Echo(arguments) => arguments.run(),
        Command::HotPath(arguments) => arguments.run(),
        Command::TrainingStep(arguments) => arguments.run(),
    }
}
