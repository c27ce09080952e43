//! `locus prepare` and `locus pretrain` of a language-model recipe: genomes are packed, a model is trained on them,
//! and its bits per base are reported beside models that count.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    chain,
    pretrain::{CHECKPOINT_EVERY, MODEL, start},
    write_checkpoint_folder,
};
use crate::{
    Error, Result,
    data::page,
    files,
    language::{
        LanguageModel, Regions, Stretch, StretchWindows,
        bits::{self, Report},
        counts::Counts,
        describe::describe,
        objectives::Maker,
        regions::Rules,
    },
    packed::{PackedGenome, PackedWriter},
    recipe::LanguageRecipe,
    stage::{Run, read_json, write_json},
    train::{Metric, Trainer},
};

const PREPARED: [&str; 2] = ["genome.packed", "regions.json"];
const PRETRAINED: [&str; 4] = [
    "pretrained/model.safetensors",
    "pretrained/config.json",
    "pretrained/tokenizer.json",
    "bits_per_base.json",
];
/// Validations of a run, and the share of the held-out bases that each asks for.
const VALIDATIONS: u64 = 10;

/// What the stages are given.
#[derive(Debug)]
pub struct LanguageStage {
    /// The recipe.
    pub recipe: LanguageRecipe,
    /// The output folder.
    pub run: Run,
}

fn digest_of(part: &impl Serialize) -> String {
    hex::encode(Sha256::digest(serde_json::to_vec(part).expect("plain numbers and texts serialise")))
}

impl LanguageStage {
    fn prepare_inputs(&self) -> Result<BTreeMap<String, String>> {
        let r = &self.recipe;
        let part = digest_of(&(&r.data.fasta, r.data.held_out_share, r.seed, &r.window));
        let mut all = BTreeMap::from([("recipe".to_owned(), part)]);
        let variants = r.data.variants.iter();
        for path in r.data.fasta.iter().map(|f| &f.path).chain(variants) {
            all.insert(path.display().to_string(), files::sha256(&r.data_root().join(path))?);
        }
        Ok(all)
    }

    fn pretrain_inputs(&self) -> Result<BTreeMap<String, String>> {
        let r = &self.recipe;
        let part = digest_of(&(&r.pretrain, &r.model, &r.window, &r.data, r.seed));
        let mut all = BTreeMap::from([("recipe".to_owned(), part)]);
        for name in PREPARED {
            all.insert(name.to_owned(), files::sha256(&self.run.at(name))?);
        }
        if let Some(from) = &r.pretrain.from {
            all.insert("from".into(), files::sha256(&from.join(MODEL))?);
        }
        Ok(all)
    }

    /// Packs the genomes and assigns their stretches, or says that it is done.
    ///
    /// # Errors
    /// A source file that cannot be read, or nothing to train on or to report on.
    pub fn prepare(&self) -> Result<()> {
        self.run.ranks().expect_alone("prepare")?;
        if chain::undone(&self.run, "prepare", &PREPARED, || self.prepare_inputs())?.is_none() {
            complain!("prepare: done before");
            return Ok(());
        }
        let r = &self.recipe;
        let made_from = self.prepare_inputs()?;
        let root = r.data_root();
        let path = self.run.at(PREPARED[0]);
        let mut writer = PackedWriter::create(&path)?;
        for fasta in &r.data.fasta {
            let word = fasta.keep.as_deref();
            writer.fasta(&root.join(&fasta.path), |_, description| {
                word.is_none_or(|word| description.split_whitespace().any(|w| w == word))
            })?;
        }
        writer.finish()?;
        let genome = PackedGenome::open(&path)?;
        let variants = r.data.variants.as_ref().map(|v| root.join(v));
        let regions = Regions::assign(
            &genome,
            Rules {
                variants: variants.as_deref(),
                held_out_share: r.data.held_out_share,
                shortest: bits::span(self.width()?) as u64,
                seed: r.seed,
            },
        )?;
        write_json(&self.run.at(PREPARED[1]), &regions)?;
        let mut sources = made_from.clone();
        sources.remove("recipe");
        describe(&r.name, &genome, &regions, sources, |report, items| page::write(&self.run, report, items))?;
        let bases: u64 = genome.records().iter().map(|record| record.len).sum();
        let mut figures: BTreeMap<String, f64> =
            regions.left_out.iter().map(|(why, n)| (format!("left out: {why}"), *n as f64)).collect();
        figures.insert("records".into(), genome.records().len() as f64);
        figures.insert("bases".into(), bases as f64);
        figures.insert("train bases".into(), regions.train_bases() as f64);
        figures.insert("train stretches".into(), regions.train.len() as f64);
        figures.insert("held-out stretches".into(), regions.held_out.len() as f64);
        complain!("prepare: {figures:?}");
        chain::finish(&self.run, "prepare", &PREPARED, made_from, figures)
    }

    /// Bases of a window.
    fn width(&self) -> Result<usize> {
        Ok(self.recipe.tokenizer()?.bases(self.recipe.window.kmers))
    }

    /// Trains from the last checkpoint and reports, or says that it is done.
    ///
    /// # Errors
    /// Genomes that are not prepared, a model to start from that does not fit, or a step that diverges.
    pub fn pretrain(&self) -> Result<()> {
        let undone = chain::undone(&self.run, "prepare", &PREPARED, || self.prepare_inputs())?;
        if let Some(reason) = undone {
            return Err(Error::Undone { stage: "pretrain", needs: "prepare", reason });
        }
        if chain::undone(&self.run, "pretrain", &PRETRAINED, || self.pretrain_inputs())?.is_none() {
            complain!("pretrain: done before");
            return Ok(());
        }
        let r = &self.recipe;
        let made_from = self.pretrain_inputs()?;
        let genome = PackedGenome::open(&self.run.at(PREPARED[0]))?;
        let regions: Regions = read_json(&self.run.at(PREPARED[1]))?;
        let (tokenizer, config, width) = (r.tokenizer()?, r.model_config()?, self.width()?);
        let windows = StretchWindows::new(&genome, &regions.train, tokenizer, width, r.data.max_ambiguous)?;
        let ask = |stretches: &[Stretch], count: usize| {
            let windows = StretchWindows::new(&genome, stretches, tokenizer, bits::span(width), 0.0)?;
            bits::questions(&windows, width, count, r.seed)
        };
        let (select, report) = regions.held_out_parts();
        let few = r.data.held_out_bases.div_ceil(VALIDATIONS as usize);
        let objective = LanguageModel {
            maker: Maker {
                windows: &windows,
                masking: r.pretrain.masking(&tokenizer),
                buckets: &r.window.buckets,
                seed: r.seed,
            },
            objectives: r.pretrain.objectives,
            config: &config,
            batch: r.pretrain.train.batch,
            questions: ask(&select, few)?,
        };
        let trainer = Trainer {
            stage: "pretrain",
            run: &self.run,
            inputs: &made_from,
            config: &config,
            seed: r.seed,
            plan: &r.pretrain.train,
            batch: r.pretrain.train.batch,
            steps: r.pretrain.steps,
            validate_every: r.pretrain.steps.div_ceil(VALIDATIONS),
            checkpoint_every: CHECKPOINT_EVERY,
            metric: Metric::lower("bits_per_base"),
        };
        let trained = trainer.train(&objective, || start(&r.pretrain, &config, &tokenizer, r.seed))?;
        if !self.run.ranks().is_first() {
            return Ok(());
        }
        let params = trained.best();
        let questions = ask(&report, r.data.held_out_bases)?;
        let counts = Counts::of(&genome, &regions.train)?;
        let model = (&config, &params.frozen());
        let report = bits::report(model, &tokenizer, &counts, &questions, regions.train_bases(), r.seed)?;
        print(&report);
        write_json(&self.run.at("bits_per_base.json"), &report)?;
        write_checkpoint_folder(&self.run.at("pretrained"), &config, params, &tokenizer.to_json())?;
        let mut figures = trained.figures();
        figures.insert("bits_per_base".into(), report.model.value);
        chain::finish(&self.run, "pretrain", &PRETRAINED, made_from, figures)
    }
}

/// The report as a table.
fn print(report: &Report) {
    say!(
        "bits per base, {} held-out bases in {} stretches (95 % interval, stretches resampled)",
        report.bases,
        report.stretches
    );
    let line = |what: &str, e: &crate::evaluate::Estimate| {
        let interval = match (e.low, e.high) {
            (Some(low), Some(high)) => format!("  {low:.4} to {high:.4}"),
            _ => String::new(),
        };
        say!("  {what:<44} {:>8.4}{interval}", e.value);
    };
    line("model, both sides", &report.model);
    line("model, left side alone", &report.model_left);
    for (n, e) in report.markov.iter().enumerate() {
        line(&format!("Markov, order {n}"), e);
    }
    for (n, e) in report.between.iter().enumerate() {
        line(&format!("counts, {n} bases on either side"), e);
    }
    line("model less Markov of order 5", &report.model_less_markov);
    line("model less counts of 5 bases on either side", &report.model_less_between);
    line("model, left side alone, less Markov", &report.model_left_less_markov);
}
