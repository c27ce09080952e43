//! The `locus` command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use locus_host::{Recipe, commands::{self, Stage}, stage::Run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "locus", version, about = "Train, evaluate, shrink and ship DNA language models")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Training {
    /// What to train, and how
    recipe: PathBuf,
    /// Output folder [default: runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Encode every record once
    Prepare(Training),
    /// Train on masked tokens
    Pretrain(Training),
    /// Train on labelled variants
    Finetune(Training),
    /// Fit probability, bands and activation ranges
    Calibrate(Training),
    /// Figures on labelled variants
    Evaluate(commands::evaluate::EvaluateArgs),
    /// Score every allele of a VCF
    Score(commands::score::ScoreArgs),
    /// The whole training chain, from where it stopped
    Run(Training),
}

fn stage(training: &Training) -> anyhow::Result<Stage> {
    let recipe = Recipe::read(&training.recipe)?;
    let folder = training.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    Ok(Stage { run: Run::open(&folder)?, recipe })
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Prepare(t) => commands::prepare::run(&stage(&t)?)?,
        Command::Pretrain(t) => commands::pretrain::run(&stage(&t)?)?,
        Command::Finetune(t) => commands::finetune::run(&stage(&t)?)?,
        Command::Calibrate(t) => commands::calibrate::run(&stage(&t)?)?,
        Command::Evaluate(args) => drop(commands::evaluate::run(&args)?),
        Command::Score(args) => commands::score::run(&args)?,
        Command::Run(t) => {
            let stage = stage(&t)?;
            commands::prepare::run(&stage)?;
            commands::pretrain::run(&stage)?;
            commands::finetune::run(&stage)?;
            commands::calibrate::run(&stage)?;
        }
    }
    Ok(())
}
