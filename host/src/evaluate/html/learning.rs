//! Learning curves, from the logs that training leaves.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::{
    Result,
    error::io_at,
    report::{Axis, Layer, Page, Picture, Plot},
};

/// Points of a learning curve.
const CURVE: usize = 400;

/// Learning curves of one stage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learning {
    /// The stage.
    pub stage: String,
    /// (step, loss).
    pub loss: Vec<(f64, f64)>,
    /// (step, score) by the metric's name.
    pub validation: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Learning {
    /// Reads the logs of an output folder: every `STAGE.jsonl` with steps and losses.
    ///
    /// # Errors
    /// A folder or log that cannot be read.
    pub fn read(folder: &Path) -> Result<Vec<Self>> {
        let mut logs: Vec<_> = fs::read_dir(folder)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(io_at(folder))?
            .into_iter()
            .map(|e| e.path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        logs.sort();
        let mut all = Vec::new();
        for path in logs {
            let text = fs::read_to_string(&path).map_err(io_at(&path))?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let learning = Self::parse(&name, &text);
            if learning.loss.len() > 1 {
                all.push(learning);
            }
        }
        // In the order of training.
        all.sort_by_key(|l| !l.stage.starts_with("pretrain"));
        Ok(all)
    }

    fn parse(stage: &str, text: &str) -> Self {
        let mut out = Self { stage: stage.into(), ..Self::default() };
        for line in text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()) {
            let Some(step) = line["step"].as_f64() else { continue };
            if let Some(loss) = line["loss"].as_f64() {
                out.loss.push((step, loss));
            }
            if let Some(score) = line["validation"].as_f64() {
                let metric = line["metric"].as_str().unwrap_or("score").to_owned();
                out.validation.entry(metric).or_default().push((step, score));
            }
        }
        out
    }

    fn pictures(&self) -> Result<Vec<Picture>> {
        // Means of equal runs of steps: single batches hide the course.
        let run = self.loss.len().div_ceil(CURVE).max(1);
        let mean = |c: &[(f64, f64)]| {
            let n = c.len() as f64;
            (c.iter().map(|p| p.0).sum::<f64>() / n, c.iter().map(|p| p.1).sum::<f64>() / n)
        };
        let smooth: Vec<(f64, f64)> = self.loss.chunks(run).map(mean).collect();
        let x = |c: &[(f64, f64)]| Axis::numbers("step", 0.0, c.last().map_or(1.0, |p| p.0));
        let (first, last) = (smooth[0].1, smooth[smooth.len() - 1].1);
        let alt = format!("falls from {first:.3} to {last:.3} over {} steps", self.loss.len());
        let y = Axis::around("loss", smooth.iter().map(|p| p.1));
        let title = format!("Loss, {}", self.stage);
        let mut all =
            vec![Plot::new(&title, &alt, x(&smooth), y).with(Layer::Line(String::new(), smooth)).draw()?];
        for (metric, points) in &self.validation {
            let best = points.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
            let y = Axis::around(metric, points.iter().map(|p| p.1));
            let plot = Plot::new(
                &format!("Validation {metric}, {}", self.stage),
                &format!("{} validations, highest {best:.4}", points.len()),
                x(points),
                y,
            );
            let plot = plot.with(Layer::Line(String::new(), points.clone()));
            all.push(plot.with(Layer::Points(String::new(), points.clone())).draw()?);
        }
        Ok(all)
    }
}

/// One section with the curves of every stage.
pub(super) fn learning_section(page: &mut Page, learning: &[Learning]) -> Result<()> {
    if learning.is_empty() {
        return Ok(());
    }
    page.section("Training");
    for stage in learning {
        let pictures = stage.pictures()?;
        page.pictures(
            &pictures.iter().map(|p| (p, "Losses are means over runs of steps.")).collect::<Vec<_>>(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_by_its_keys_and_what_is_no_log_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let log: String =
            (1..=900).map(|s| format!("{{\"step\":{s},\"loss\":{}}}\n", 1.0 / f64::from(s))).collect();
        let checks = "{\"step\":450,\"validation\":0.8,\"metric\":\"auroc\"}\nnot json\n{\"loss\":1}\n";
        fs::write(folder.path().join("finetune.jsonl"), log + checks).unwrap();
        fs::write(folder.path().join("pretrain.jsonl"), "{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n")
            .unwrap();
        fs::write(folder.path().join("test-reads.jsonl"), "{\"time\":\"x\"}\n").unwrap();
        let all = Learning::read(folder.path()).unwrap();
        assert_eq!(all.iter().map(|l| l.stage.as_str()).collect::<Vec<_>>(), ["pretrain", "finetune"]);
        assert_eq!((all[1].loss.len(), all[1].validation["auroc"].len()), (900, 1));
        assert_eq!(all[1].pictures().unwrap().len(), 2);
    }
}
