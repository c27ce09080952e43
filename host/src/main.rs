//! The `locus` command.

mod cli;

use std::path::PathBuf;

use clap::Parser;
use locus_host::{
    Recipe,
    commands::{self, Stage, language::LanguageStage},
    memory,
    recipe::{self, LanguageRecipe},
    stage::Run,
    train::Ranks,
};

use cli::{Bundle, Cli, Command, Explain, Interchange, Proof, Training};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn stage(training: &Training) -> anyhow::Result<Stage> {
    let recipe = Recipe::read(&training.recipe)?;
    let folder = training.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    Ok(Stage { run: Run::open_as(&folder, Ranks::from_environment()?)?, recipe, onnxruntime: None })
}

/// The stage of a language-model recipe; `None` for a recipe of another task.
fn language(training: &Training) -> anyhow::Result<Option<LanguageStage>> {
    if recipe::task(&training.recipe)?.as_deref() != Some("language_model") {
        return Ok(None);
    }
    let recipe = LanguageRecipe::read(&training.recipe)?;
    let folder = training.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
    Ok(Some(LanguageStage { run: Run::open_as(&folder, Ranks::from_environment()?)?, recipe }))
}

fn main() -> anyhow::Result<()> {
    memory::keep();
    match Cli::parse().command {
        Command::Prepare(t) => match language(&t)? {
            Some(stage) => stage.prepare()?,
            None => commands::prepare::run(&stage(&t)?)?,
        },
        Command::Pretrain(t) => match language(&t)? {
            Some(stage) => stage.pretrain()?,
            None => commands::pretrain::run(&stage(&t)?)?,
        },
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
        Command::Report(args) => commands::report::run(&args)?,
        Command::Structure(args) => commands::structure::run(&args)?,
        Command::Align(args) => commands::align::run(&args)?,
        Command::Explain(Explain::Variants(args)) => commands::explain::variants(&args)?,
        Command::Explain(Explain::Test(args)) => drop(commands::explain::test(&args)?),
        Command::Interchange(Interchange::Import(args)) => commands::interchange::import(&args)?,
        Command::Interchange(Interchange::Export(args)) => commands::interchange::export(&args)?,
        Command::Score(args) => commands::score::run(&args)?,
        Command::Run { training, proof: Proof { onnxruntime }, date, source } => {
            if let Some(stage) = language(&training)? {
                stage.prepare()?;
                return Ok(stage.pretrain()?);
            }
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
