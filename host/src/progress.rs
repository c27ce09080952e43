//! Progress: a bar on a terminal, plain lines otherwise, and one JSON line per step in a file.

use std::{
    fs::{File, OpenOptions},
    io::{IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{Result, error::io_at};

/// Time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(15);

/// Progress of one stage.
pub struct Progress {
    bar: Option<ProgressBar>,
    stage: &'static str,
    total: u64,
    first: u64,
    began: Instant,
    printed: Instant,
    tokens: u64,
}

impl Progress {
    /// Progress from `first` of `total` steps.
    pub fn new(stage: &'static str, first: u64, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total).with_position(first);
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:32}] {pos}/{len} {msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(stage);
            bar
        });
        let now = Instant::now();
        Self { bar, stage, total, first, began: now, printed: now, tokens: 0 }
    }

    /// Tokens per second so far.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.began.elapsed().as_secs_f64().max(1e-9)
    }

    /// One more step is done.
    pub fn step(&mut self, done: u64, tokens: u64, message: &str) {
        self.tokens += tokens;
        let steps = done.saturating_sub(self.first);
        let last = done >= self.total;
        let due = last || self.printed.elapsed() >= PLAIN_EVERY;
        if self.bar.is_none() && !due {
            return;
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let left =
            if steps == 0 { 0.0 } else { seconds / steps as f64 * self.total.saturating_sub(done) as f64 };
        let speed = if self.tokens == 0 {
            String::new()
        } else {
            format!(" {:.0} tokens/s", self.tokens_per_second())
        };
        let line = format!("{message}{speed}, {} left", duration(left));
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(line);
                if last {
                    bar.finish();
                }
            }
            None => {
                eprintln!("{} {done}/{} {line}", self.stage, self.total);
                self.printed = Instant::now();
            }
        }
    }
}

fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    if s < 60 { format!("{s} s") } else { format!("{} min {} s", s / 60, s % 60) }
}

/// One JSON object per line, appended.
pub struct JsonLines(File, std::path::PathBuf);

impl JsonLines {
    /// Opens a file to append to.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io_at(path))?;
        Ok(Self(file, path.to_owned()))
    }

    /// Writes one line.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(value).map_err(std::io::Error::from).map_err(io_at(&self.1))?;
        line.push('\n');
        self.0.write_all(line.as_bytes()).map_err(io_at(&self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_minutes_and_seconds() {
        assert_eq!((duration(59.4).as_str(), duration(61.0).as_str()), ("59 s", "1 min 1 s"));
    }

    #[test]
    fn lines_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        for step in 0..2 {
            JsonLines::open(&path).unwrap().write(&serde_json::json!({ "step": step })).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":0}\n{\"step\":1}\n");
    }
}
