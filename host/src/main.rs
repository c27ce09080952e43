//! The `locus` command.

mod cli;

use std::path::PathBuf;

use clap::Parser;
use locus_host::{
    AnyRecipe,
    commands::{
        self, Stage,
        sequence::{self, SequenceStage},
    },
    stage::Run,
};

use cli::{Bundle, Cli, Command, Proof, Training};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A stage of whatever task the recipe names.
#[allow(clippy::large_enum_variant, reason = "one value per run")]
enum Any {
    Variant(Stage),
    Sequence(SequenceStage),
}

fn stage(training: &Training, onnxruntime: Option<PathBuf>) -> anyhow::Result<Any> {
    let recipe = AnyRecipe::read(&training.recipe)?;
    let folder = training.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(recipe.name()));
    let run = Run::open(&folder)?;
    Ok(match recipe {
        AnyRecipe::Variant(recipe) => Any::Variant(Stage { recipe, run, onnxruntime }),
        AnyRecipe::Sequence(recipe) => Any::Sequence(Stage { recipe, run, onnxruntime }),
    })
}

/// Runs a command of the chain on a stage of either task.
macro_rules! chain {
    ($command:ident, $training:expr, $onnxruntime:expr) => {
        match stage($training, $onnxruntime)? {
            Any::Variant(stage) => commands::$command::run(&stage)?,
            Any::Sequence(stage) => sequence::$command(&stage)?,
        }
    };
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Prepare(t) => chain!(prepare, &t, None),
        Command::Pretrain(t) => chain!(pretrain, &t, None),
        Command::Finetune(t) => chain!(finetune, &t, None),
        Command::Calibrate(t) => chain!(calibrate, &t, None),
        Command::Export { training, proof: Proof { onnxruntime } } => chain!(export, &training, onnxruntime),
        Command::Bundle(Bundle::Create { training, bundle, date, source }) => match stage(&training, None)? {
            Any::Variant(stage) => commands::bundle::create(&stage, &bundle, &date, source)?,
            Any::Sequence(stage) => sequence::bundle::create(&stage, &bundle, &date, source)?,
        },
        Command::Bundle(Bundle::Sign { key, input, out }) => commands::bundle::sign(&key, &input, &out)?,
        Command::Bundle(Bundle::Inspect { json, bundle }) => commands::bundle::inspect(&bundle, json)?,
        Command::Bundle(Bundle::Verify { key, bundle }) => commands::bundle::verify(&bundle, &key)?,
        Command::Keygen { out } => drop(locus_export::generate(&out).map_err(locus_host::Error::from)?),
        Command::Evaluate(args) if args.recipe.is_some() => drop(sequence::evaluate::run(&args)?),
        Command::Evaluate(args) => drop(commands::evaluate::run(&args)?),
        Command::Score(args) => commands::score::run(&args)?,
        Command::Run { training, proof: Proof { onnxruntime }, date, source } => {
            let date = date.unwrap_or_else(|| time::OffsetDateTime::now_utc().date().to_string());
            let bundle = match stage(&training, onnxruntime)? {
                Any::Variant(stage) => commands::run(&stage, &date, source)?,
                Any::Sequence(stage) => sequence::run(&stage, &date, source)?,
            };
            println!("{}: unsigned; `locus bundle sign` makes it flashable", bundle.display());
        }
    }
    Ok(())
}
