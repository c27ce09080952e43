//! The repository's own commands. `cargo xtask --help` lists them.

mod benchmarks;
mod cross;
mod cuda;
mod demo;
mod fuzz;
mod generated;
mod metadata;
mod onnxruntime;
mod package;
mod peers;
mod process;
mod soup;
mod test;
mod trace;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Commands of the Locus repository")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Signs and flashes the shipped model, asks it real variants over MQTT, serial and HTTPS, and
    /// verifies the encrypted journal.
    Demo {
        /// Folder for keys, state and logs; made new each time.
        #[arg(long, default_value = ".locus/demo")]
        folder: std::path::PathBuf,
    },
    /// Format, lints and every test suite.
    Test {
        /// Also the slow suites.
        #[arg(long)]
        full: bool,
        /// Leave format and lints out.
        #[arg(long)]
        no_lint: bool,
    },
    /// Fetches ONNX Runtime from its Python wheel into the project's folder.
    Onnxruntime {
        /// The build with OpenVINO instead, for the suite that runs it; 250 MB.
        #[arg(long)]
        openvino: bool,
    },
    /// Sets CUDA's toolkit up from its Python wheels and builds `locus` for NVIDIA GPUs.
    Cuda {
        /// Run the workbench's tests on the GPU instead, where there is one.
        #[arg(long)]
        test: bool,
        /// Measure training on the GPU beside PyTorch instead, where there is one.
        #[arg(long, conflicts_with = "test")]
        bench: bool,
    },
    /// Makes the Debian packages of the box in target/package, with what went into them.
    Package(package::Options),
    /// Builds the box for 64-bit Arm, runs its flow suite under qemu and compares its logits with those of x86.
    Cross {
        /// Take the programs that are there instead of building them.
        #[arg(long)]
        built: bool,
    },
    /// Feeds every parser of bytes from outside changes of its corpus, by a seed. `cargo xtask fuzz -- --help` names the
    /// options, such as `--cases 1000000 --target journal`.
    Fuzz {
        /// Options of the driver.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// Installs the real peers of the tests (mosquitto, chromium, valgrind, debootstrap, systemd's tools) with apt; needs root.
    Peers,
    /// Writes docs/benchmarks.md from bench/results/*.json.
    Benchmarks {
        /// Only say whether the page is up to date.
        #[arg(long)]
        check: bool,
    },
    /// Writes the tables of docs/requirements.md and docs/risk.md; fails where a requirement, a hazard's control, a suite or a
    /// link has no counterpart.
    Trace {
        /// Only say whether the tables are up to date.
        #[arg(long)]
        check: bool,
    },
    /// Writes the tables of docs/soup.md, software of others that is used directly, and of docs/licences.md.
    Soup {
        /// Only say whether the tables are up to date.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Demo { folder } => demo::run(&folder),
        Command::Test { full, no_lint } => test::run(full, no_lint),
        Command::Onnxruntime { openvino: true } => onnxruntime::OPENVINO.get().map(|_| ()),
        Command::Onnxruntime { openvino: false } => onnxruntime::ensure().map(|_| ()),
        Command::Cuda { test, bench } => cuda::run(match (test, bench) {
            (true, _) => cuda::Goal::Test,
            (_, true) => cuda::Goal::Bench,
            _ => cuda::Goal::Build,
        }),
        Command::Package(options) => package::run(options),
        Command::Cross { built } => cross::run(if built { cross::Goal::Built } else { cross::Goal::All }),
        Command::Fuzz { options } => fuzz::run(&options),
        Command::Peers => peers::install(),
        Command::Benchmarks { check } => benchmarks::write(check),
        Command::Trace { check } => trace::run(check),
        Command::Soup { check } => soup::run(check),
    }
}
