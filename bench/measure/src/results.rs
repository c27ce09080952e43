//! A file of results: what was measured how often, where and with what.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Environment, FEW, Latencies, Loaded, SHARES};

/// Version of the form of a file.
pub const SCHEMA: u32 = 1;

/// A run of a benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was measured, in a few words.
    pub title: String,
    /// What it means, in sentences.
    pub about: String,
    /// The command that was run.
    pub command: String,
    /// What arrivals are drawn from.
    pub seed: u64,
    /// Day and time, in UTC.
    pub date: String,
    /// Revision of the source, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The machine, before the first repeat.
    pub environment: Environment,
    /// What was measured.
    pub series: Vec<Series>,
}

/// What a series covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The harness alone: what is no part of the system.
    Harness,
    /// The model's engine.
    Engine,
    /// Admission to durable answer, without transport.
    Pipeline,
    /// What the way takes without a box's work.
    Transport,
    /// From a terminal's question to its answer.
    EndToEnd,
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "loop", rename_all = "kebab-case")]
pub enum Kind {
    /// So many clients, each waiting for its answer before it asks again.
    Closed {
        /// Clients.
        clients: usize,
    },
    /// So many requests a second on average, whenever they are due.
    Open {
        /// Requests a second.
        rate: f64,
        /// Connections that send what is due.
        clients: usize,
    },
}

/// One load, repeated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// Its name, the same in every file that it is compared in.
    pub name: String,
    /// What it covers.
    pub stage: Stage,
    /// How requests come.
    pub kind: Kind,
    /// Variants in one request.
    pub batch: usize,
    /// Seconds before anything counts, in each repeat.
    pub warm_up_s: f64,
    /// Each repeat, in the order in which they were run.
    pub repeats: Vec<Loaded>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResultsError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not in this form.
    #[error("{path}: got something else than results of a benchmark: {reason}")]
    Form {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

impl Series {
    /// For people: the median over the repeats of each percentile and of the rate, with the least and the most.
    pub fn lines(&self) -> Vec<String> {
        let all = self.latencies();
        let mut lines = vec![format!(
            "{}: {} answers in {} repeats, {}",
            self.name,
            self.repeats.iter().map(|repeat| repeat.answered).sum::<u64>(),
            self.repeats.len(),
            spread(&self.rates(), "/s", 1)
        )];
        for (name, share) in SHARES {
            let beyond = all.beyond(share);
            let few = if beyond < FEW {
                format!("  rests on {beyond} answers: another run gives another")
            } else {
                String::new()
            };
            lines.push(format!("  {name:<6} {}{few}", spread(&self.percentiles_ms(share), " ms", 3)));
        }
        lines.push(format!("  max    {:.3} ms", all.max().as_secs_f64() * 1e3));
        let sum = |of: fn(&Loaded) -> u64| self.repeats.iter().map(of).sum::<u64>();
        let others = [
            ("refused", sum(|r| r.refused)),
            ("failed", sum(|r| r.failed)),
            ("abandoned", sum(|r| r.abandoned)),
        ];
        let others: Vec<_> =
            others.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
        if !others.is_empty() {
            lines.push(format!("  {} of {} asked", others.join(", "), sum(|r| r.asked)));
        }
        lines
    }

    /// All repeats together.
    pub fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.repeats.iter().for_each(|repeat| all.merge(&repeat.latencies));
        all
    }

    /// Answers a second, in each repeat.
    pub fn rates(&self) -> Vec<f64> {
        self.repeats.iter().map(Loaded::rate).collect()
    }

    /// A percentile of each repeat, in milliseconds; `None` of a repeat without an answer.
    pub fn percentiles_ms(&self, share: f64) -> Vec<f64> {
        let answered = self.repeats.iter().map(|repeat| &repeat.latencies).filter(|all| all.count() > 0);
        answered.map(|all| all.percentile(share).as_secs_f64() * 1e3).collect()
    }
}

/// The median, and the least and the most.
fn spread(values: &[f64], unit: &str, digits: usize) -> String {
    let (least, most) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (v.min(least), v.max(most)));
    format!("{:.digits$}{unit} ({least:.digits$} to {most:.digits$})", median(values))
}

/// The value in the middle, or between the two in the middle; not a number of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n => f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]),
    }
}

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ResultsError`]; also for a file of another version.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let shown = || path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| ResultsError::Io { path: shown(), source })?;
        let form = |reason: String| ResultsError::Form { path: shown(), reason };
        let results: Self = serde_json::from_str(&text).map_err(|error| form(error.to_string()))?;
        match results.schema {
            SCHEMA => Ok(results),
            other => Err(form(format!("it has schema {other}, expected {SCHEMA}"))),
        }
    }

    /// Writes a file.
    ///
    /// # Errors
    /// [`ResultsError::Io`].
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let written = serde_json::to_string_pretty(self).map_err(io::Error::from);
        let written = written.and_then(|text| fs::write(path, text + "\n"));
        written.map_err(|source| ResultsError::Io { path: path.display().to_string(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn a_run() -> Results {
        let mut repeat = Loaded { seconds: 2.0, answers_per_second: vec![3, 1], ..Loaded::default() };
        (1..=4).for_each(|ms| repeat.latencies.record(Duration::from_millis(ms)));
        let series = Series {
            name: "https, 4 clients".into(),
            stage: Stage::EndToEnd,
            kind: Kind::Open { rate: 2.5, clients: 4 },
            batch: 1,
            warm_up_s: 1.0,
            repeats: vec![repeat.clone(), repeat, Loaded::default()],
        };
        Results {
            schema: SCHEMA,
            title: "t".into(),
            about: "a".into(),
            command: "c".into(),
            seed: 1,
            date: "2026-11-26".into(),
            revision: None,
            environment: Environment::here([]),
            series: vec![series],
        }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_another_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        let mut run = a_run();
        run.write(&path).unwrap();
        let again = Results::read(&path).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&run).unwrap());
        run.schema = 2;
        run.write(&path).unwrap();
        assert!(Results::read(&path).unwrap_err().to_string().contains("schema 2, expected 1"));
        assert!(matches!(Results::read(&folder.path().join("none")), Err(ResultsError::Io { .. })));
    }

    #[test]
    fn a_series_tells_its_repeats_apart_and_takes_them_together() {
        let series = &a_run().series[0];
        assert_eq!((series.latencies().count(), series.rates()), (8, vec![2.0, 2.0, 0.0]));
        // A repeat without an answer has no percentile.
        assert_eq!(series.percentiles_ms(0.5).len(), 2);
        assert!((series.percentiles_ms(0.5)[0] - 2.0).abs() < 0.002);
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[1.0, 2.0])), (2.0, 1.5));
        assert!(median(&[]).is_nan());
    }
}
