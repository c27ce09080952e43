//! What a run leaves to look at: JSON lines, progress, and TensorBoard's event files where they are asked for.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Metric, Trainer, tensorboard::EventFile, trainer::Step};
use crate::{
    Result,
    progress::{JsonLines, Progress},
};

pub(super) struct Records {
    stage: &'static str,
    steps: u64,
    log: JsonLines,
    progress: Progress,
    events: Option<EventFile>,
}

impl Records {
    /// Goes on after `step`.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn open(trainer: &Trainer<'_>, step: u64) -> Result<Self> {
        let stage = trainer.stage;
        let events = || EventFile::create(&trainer.run.at("tensorboard").join(stage), step);
        Ok(Self {
            stage,
            steps: trainer.steps,
            log: JsonLines::resume(&trainer.run.at(&format!("{stage}.jsonl")), step)?,
            progress: Progress::new(stage, step, trainer.steps),
            events: trainer.plan.tensorboard.then(events).transpose()?,
        })
    }

    /// A step; `mean` is the smoothed loss.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn step(&mut self, at: u64, step: &Step, mean: f64, rate: f64, seconds: f64) -> Result<()> {
        let Step { loss, norm, tokens, figures } = step;
        let mut line = json!({
            "stage": self.stage, "step": at, "loss": loss, "learning_rate": rate, "norm": norm,
            "tokens": tokens, "seconds": seconds,
        });
        if !figures.is_empty() {
            line["figures"] = json!(figures);
        }
        self.log.write(&line)?;
        if let Some(events) = &mut self.events {
            let speed = *tokens as f64 / seconds.max(1e-9);
            let own = [
                ("loss", f64::from(*loss)),
                ("learning_rate", rate),
                ("gradient_norm", *norm),
                ("tokens_per_second", speed),
            ];
            events.scalars(at, own.into_iter().chain(figures.iter().map(|(n, v)| (n.as_str(), *v))))?;
        }
        self.progress.step(at, *tokens, &format!("loss {mean:.4}"));
        Ok(())
    }

    /// A validation, and what it is judged by.
    ///
    /// # Errors
    /// A file cannot be written.
    pub(super) fn validation(
        &mut self,
        at: u64,
        metric: &Metric,
        score: f64,
        figures: &BTreeMap<String, f64>,
    ) -> Result<()> {
        let (stage, name) = (self.stage, &metric.name);
        complain!("{stage} {at}/{} validation {name} {score:.4} {figures:.4?}", self.steps);
        self.log.write(&json!({
            "stage": stage, "step": at, "validation": score, "metric": name, "figures": figures,
        }))?;
        if let Some(events) = &mut self.events {
            let tags: Vec<(String, f64)> =
                figures.iter().map(|(n, v)| (format!("validation/{n}"), *v)).collect();
            events.scalars(at, tags.iter().map(|(n, v)| (n.as_str(), *v)))?;
        }
        Ok(())
    }
}
