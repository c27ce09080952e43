//! The `locus` command.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use locus_host::{
    Recipe,
    commands::{self, Stage},
    memory,
    stage::Run,
    train::Ranks,
};

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

#[derive(Args)]
struct Proof {
    /// The ONNX Runtime library [default: LOCUS_ONNXRUNTIME, else the project's .locus folder]
    #[arg(long)]
    onnxruntime: Option<PathBuf>,
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
    /// Write ONNX in FP32 and INT8, proved against the checkpoint
    Export {
        #[command(flatten)]
        training: Training,
        #[command(flatten)]
        proof: Proof,
    },
    /// Make, sign and look at bundles
    #[command(subcommand)]
    Bundle(Bundle),
    /// Make an Ed25519 key pair: OUT.key and OUT.pub
    Keygen {
        /// Path without ending
        #[arg(long)]
        out: PathBuf,
    },
    /// Figures on labelled variants
    Evaluate(commands::evaluate::EvaluateArgs),
    /// Score every allele of a VCF
    Score(commands::score::ScoreArgs),
    /// The whole training chain, from where it stopped, to an unsigned bundle OUT/NAME.locus
    Run {
        #[command(flatten)]
        training: Training,
        #[command(flatten)]
        proof: Proof,
        /// Date to write into the manifest, YYYY-MM-DD [default: today]
        #[arg(long)]
        date: Option<String>,
        /// Commit of the code to write into the manifest
        #[arg(long)]
        source: Option<String>,
    },
}

#[derive(Subcommand)]
enum Bundle {
    /// Put an output folder's model into an unsigned bundle
    Create {
        #[command(flatten)]
        training: Training,
        /// Bundle to write
        #[arg(long)]
        bundle: PathBuf,
        /// Date to write into the manifest, YYYY-MM-DD
        #[arg(long)]
        date: String,
        /// Commit of the code to write into the manifest
        #[arg(long)]
        source: Option<String>,
    },
    /// Add a signature
    Sign {
        /// Private key
        #[arg(long)]
        key: PathBuf,
        /// Bundle to sign
        input: PathBuf,
        /// Signed bundle to write
        out: PathBuf,
    },
    /// Print the manifest
    Inspect {
        /// The manifest's own JSON
        #[arg(long)]
        json: bool,
        /// The bundle
        bundle: PathBuf,
    },
    /// Check everything that a box checks before it runs the model
    Verify {
        /// Trusted public keys
        #[arg(long, required = true)]
        key: Vec<PathBuf>,
        /// The bundle
        bundle: PathBuf,
    },
}

fn stage(training: &Training) -> anyhow::Result<Stage> {
    let recipe = Recipe::read(&training.recipe)?;
    let folder = training.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    Ok(Stage { run: Run::open_as(&folder, Ranks::from_environment()?)?, recipe, onnxruntime: None })
}

fn main() -> anyhow::Result<()> {
    memory::keep();
    match Cli::parse().command {
        Command::Prepare(t) => commands::prepare::run(&stage(&t)?)?,
        Command::Pretrain(t) => commands::pretrain::run(&stage(&t)?)?,
        Command::Finetune(t) => commands::finetune::run(&stage(&t)?)?,
        Command::Calibrate(t) => commands::calibrate::run(&stage(&t)?)?,
        Command::Export { training, proof: Proof { onnxruntime } } => {
            commands::export::run(&Stage { onnxruntime, ..stage(&training)? })?
        }
        Command::Bundle(Bundle::Create { training, bundle, date, source }) => {
            commands::bundle::create(&stage(&training)?, &bundle, &date, source)?
        }
        Command::Bundle(Bundle::Sign { key, input, out }) => commands::bundle::sign(&key, &input, &out)?,
        Command::Bundle(Bundle::Inspect { json, bundle }) => commands::bundle::inspect(&bundle, json)?,
        Command::Bundle(Bundle::Verify { key, bundle }) => commands::bundle::verify(&bundle, &key)?,
        Command::Keygen { out } => drop(locus_export::generate(&out).map_err(locus_host::Error::from)?),
        Command::Evaluate(args) => drop(commands::evaluate::run(&args)?),
        Command::Score(args) => commands::score::run(&args)?,
        Command::Run { training, proof: Proof { onnxruntime }, date, source } => {
            let stage = Stage { onnxruntime, ..stage(&training)? };
            commands::export::ready(&stage)?;
            commands::prepare::run(&stage)?;
            commands::pretrain::run(&stage)?;
            commands::finetune::run(&stage)?;
            commands::calibrate::run(&stage)?;
            commands::export::run(&stage)?;
            let bundle = stage.run.at(&format!("{}.locus", stage.recipe.name));
            let date = date.unwrap_or_else(|| time::OffsetDateTime::now_utc().date().to_string());
            commands::bundle::create(&stage, &bundle, &date, source)?;
            println!("{}: unsigned; `locus bundle sign` makes it flashable", bundle.display());
        }
    }
    Ok(())
}
