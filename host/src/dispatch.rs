//! Which command does what: stages of a recipe by its task, everything else as it is asked.

use std::path::PathBuf;

use locus_host::{
    AnyRecipe,
    commands::{
        self, Stage,
        language::LanguageStage,
        sequence::{self, SequenceStage},
    },
    device::DeviceChoice,
    stage::Run,
    train::Ranks,
};

use crate::cli::{Bundle, Command, Explain, Interchange, On, Pack, Proof, Training, Trust};

/// Where the stages compute that do not train.
const CPU: DeviceChoice = DeviceChoice::Cpu;

/// A stage of whatever task the recipe names.
#[allow(clippy::large_enum_variant, reason = "one value per run")]
enum Any {
    Variant(Stage),
    Sequence(SequenceStage),
    Language(LanguageStage),
}

fn stage(training: &Training, device: DeviceChoice, onnxruntime: Option<PathBuf>) -> anyhow::Result<Any> {
    let recipe = AnyRecipe::read(&training.recipe)?;
    let folder = training.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(recipe.name()));
    let run = Run::open_as(&folder, Ranks::from_environment()?)?.on(device.open()?);
    Ok(match recipe {
        AnyRecipe::Variant(recipe) => Any::Variant(Stage { recipe, run, onnxruntime }),
        AnyRecipe::Sequence(recipe) => Any::Sequence(Stage { recipe, run, onnxruntime }),
        AnyRecipe::Language(recipe) => Any::Language(LanguageStage { recipe, run }),
    })
}

/// What a stage after pretraining says to the recipe of a language model.
fn unlabelled() -> anyhow::Result<()> {
    anyhow::bail!("got a language_model recipe, which ends with `locus pretrain`, expected one with labels")
}

/// Runs a command of the chain on a stage of any task.
macro_rules! chain {
    ($command:ident, $training:expr, $device:expr, $onnxruntime:expr, $language:expr) => {
        match stage($training, $device, $onnxruntime)? {
            Any::Variant(stage) => commands::$command::run(&stage)?,
            Any::Sequence(stage) => sequence::$command(&stage)?,
            Any::Language(stage) => $language(&stage)?,
        }
    };
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Prepare(t) => chain!(prepare, &t, CPU, None, LanguageStage::prepare),
        Command::Pretrain { training, on: On { device } } => {
            chain!(pretrain, &training, device, None, LanguageStage::pretrain)
        }
        Command::Finetune { training, on: On { device } } => {
            chain!(finetune, &training, device, None, |_: &LanguageStage| unlabelled())
        }
        Command::Prune { training, proof: Proof { onnxruntime } } => {
            match stage(&training, CPU, onnxruntime)? {
                Any::Variant(stage) => commands::prune::run(&stage)?,
                _ => anyhow::bail!(
                    "got a recipe with a task, expected one for variant effect: no other model is pruned"
                ),
            }
        }
        Command::Calibrate(t) => chain!(calibrate, &t, CPU, None, |_: &LanguageStage| unlabelled()),
        Command::Export { training, proof: Proof { onnxruntime } } => {
            chain!(export, &training, CPU, onnxruntime, |_: &LanguageStage| unlabelled())
        }
        Command::Bundle(Bundle::Create { training, bundle, date, source }) => {
            match stage(&training, CPU, None)? {
                Any::Variant(stage) => commands::bundle::create(&stage, &bundle, &date, source)?,
                Any::Sequence(stage) => sequence::bundle::create(&stage, &bundle, &date, source)?,
                Any::Language(_) => unlabelled()?,
            }
        }
        Command::Bundle(Bundle::Sign { key, input, out }) => commands::bundle::sign(&key, &input, &out)?,
        Command::Bundle(Bundle::Evidence(args)) => commands::evidence::run(&args)?,
        Command::Bundle(Bundle::Delta { old, new, out }) => commands::bundle::delta(&old, &new, &out)?,
        Command::Bundle(Bundle::Inspect { json, bundle }) => commands::bundle::inspect(&bundle, json)?,
        Command::Bundle(Bundle::Verify(args)) => commands::bundle::verify(&args)?,
        Command::Pack(Pack::Build(args)) => commands::pack::build(&args)?,
        Command::Pack(Pack::Sign { key, input, out }) => commands::pack::sign(&key, &input, &out)?,
        Command::Pack(Pack::Verify(args)) => commands::pack::verify(&args)?,
        Command::Pack(Pack::Show { json, pack }) => commands::pack::show(&pack, json)?,
        Command::Trust(Trust::Create(args)) => commands::trust::create(&args)?,
        Command::Trust(Trust::Sign { key, input, out }) => commands::trust::sign(&key, &input, &out)?,
        Command::Trust(Trust::Show { file }) => commands::trust::show(&file)?,
        Command::Keygen { out } => drop(locus_export::generate(&out).map_err(locus_host::Error::from)?),
        Command::Evaluate(args) if args.recipe.is_some() => drop(sequence::evaluate::run(&args)?),
        Command::Evaluate(args) => drop(commands::evaluate::run(&args)?),
        Command::Report(args) => commands::report::run(&args)?,
        Command::Structure(args) => commands::structure::run(&args)?,
        Command::Align(args) => commands::align::run(&args)?,
        Command::Explain(Explain::Variants(args)) => commands::explain::variants(&args)?,
        Command::Explain(Explain::Test(args)) => drop(commands::explain::test(&args)?),
        Command::Interchange(Interchange::Import(args)) => commands::interchange::import(&args)?,
        Command::Interchange(Interchange::Export(args)) => commands::interchange::export(&args)?,
        Command::Score(args) => commands::score::run(&args)?,
        Command::Run { training, on: On { device }, proof: Proof { onnxruntime }, date, source } => {
            let date = date.unwrap_or_else(|| time::OffsetDateTime::now_utc().date().to_string());
            let bundle = match stage(&training, device, onnxruntime)? {
                Any::Variant(stage) => commands::run(&stage, &date, source)?,
                Any::Sequence(stage) => sequence::run(&stage, &date, source)?,
                Any::Language(stage) => {
                    stage.prepare()?;
                    return Ok(stage.pretrain()?);
                }
            };
            locus_console::say!("{}: unsigned; `locus bundle sign` makes it flashable", bundle.display());
        }
    }
    Ok(())
}
