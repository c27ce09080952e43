//! `locus pretrain`: the encoder on regions without validation or test records.

use std::{collections::BTreeMap, path::Path};

use locus_genome::{KmerTokenizer, ReferencePack};

use super::{Link, Stage, write_model};
use crate::{
    Error, Result,
    data::regions::WindowSampler,
    language::{LanguageModel, objectives::Maker},
    model::{HeadKind, ModelConfig, Params},
    recipe::PretrainPlan,
    stage::read_json,
    train::{Metric, Trainer},
};

/// Steps between checkpoints.
pub(super) const CHECKPOINT_EVERY: u64 = 100;
/// Weights in a checkpoint folder.
pub(super) const MODEL: &str = "model.safetensors";

/// Runs the stage from its last checkpoint, or says that it is done.
///
/// # Errors
/// A missing dataset, another reference, a model to start from that does not fit, or a step that diverges.
pub fn run(stage: &Stage) -> Result<()> {
    let plan = &stage.recipe.pretrain;
    let (dataset, _) = stage.dataset("pretrain")?;
    if stage.done_before(Link::Pretrain)? {
        return Ok(());
    }
    let made_from = stage.made_from(Link::Pretrain)?;
    let tokenizer = dataset.tokenizer()?;
    let config = ModelConfig { head: HeadKind::Pretraining, ..stage.config(&dataset)? };
    let seed = stage.recipe.seed;
    let mut figures = BTreeMap::from([("steps".to_owned(), 0.0)]);
    let params = if plan.steps > 0 {
        let files = stage.sources();
        let reference = ReferencePack::open(&files.fasta, &files.gff3)?;
        let windows = WindowSampler::new(&reference, &dataset, plan.track_dropout)?;
        let objective = LanguageModel {
            maker: Maker {
                windows: &windows,
                masking: plan.masking(&tokenizer),
                buckets: &stage.recipe.window.buckets,
                seed,
            },
            objectives: plan.objectives,
            config: &config,
            batch: plan.train.batch,
            questions: Vec::new(),
        };
        let trainer = Trainer {
            stage: "pretrain",
            run: &stage.run,
            inputs: &made_from,
            config: &config,
            seed,
            plan: &plan.train,
            batch: plan.train.batch,
            steps: plan.steps,
            validate_every: 0,
            checkpoint_every: CHECKPOINT_EVERY,
            metric: Metric::lower("loss"),
        };
        let trained = trainer.train(&objective, || start(plan, &config, &tokenizer, seed))?;
        figures.extend(trained.figures());
        trained.weights.last
    } else {
        start(plan, &config, &tokenizer, seed)?
    };
    write_model(stage, "pretrained", &config, &params, &tokenizer)?;
    stage.finish(Link::Pretrain, made_from, figures)
}

/// Weights to begin with: new ones, or those of the model that the plan names.
pub(super) fn start(
    plan: &PretrainPlan,
    config: &ModelConfig,
    tokenizer: &KmerTokenizer,
    seed: u64,
) -> Result<Params> {
    let Some(from) = &plan.from else { return Ok(Params::new(config, seed)?) };
    check_fits(from, config, tokenizer)?;
    let path = from.join(MODEL);
    Params::start_from(&path, config, seed).map_err(|e| Error::Data {
        what: path.display().to_string(),
        got: e.to_string(),
        expected: "the whole weights that locus pretrain wrote".into(),
    })
}

/// Refuses a model of another vocabulary or shape, by the first thing that differs.
fn check_fits(from: &Path, config: &ModelConfig, tokenizer: &KmerTokenizer) -> Result<()> {
    let path = from.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).map_err(crate::error::io_at(&path))?;
    let wrong = |what: &str, got: String, expected: String| {
        Err(Error::Data { what: format!("pretrain.from = {}: {what}", from.display()), got, expected })
    };
    let other = KmerTokenizer::from_json(&text)?;
    if other != *tokenizer {
        let named = |t: &KmerTokenizer| format!("k = {}, stride {}", t.k(), t.stride());
        return wrong("vocabulary", named(&other), format!("{} as in this recipe", named(tokenizer)));
    }
    let other: ModelConfig = read_json(&from.join("config.json"))?;
    let shape = |c: &ModelConfig| {
        [
            ("model.hidden", c.hidden_size),
            ("model.layers", c.num_hidden_layers),
            ("model.heads", c.num_attention_heads),
            ("model.ffn", c.intermediate_size),
            ("track codes", c.type_vocab_size),
        ]
    };
    for ((key, got), (_, expected)) in shape(&other).into_iter().zip(shape(config)) {
        if got != expected {
            return wrong(key, got.to_string(), format!("{expected} as in this recipe"));
        }
    }
    if other.norm_position != config.norm_position {
        return wrong("norm_position", other.norm_position, config.norm_position.clone());
    }
    let (got, least) = (other.max_position_embeddings, config.max_position_embeddings);
    if got < least {
        return wrong("longest row", format!("{got} tokens"), format!("{least} or more"));
    }
    Ok(())
}
