//! Progress: a bar on a terminal, plain lines otherwise, and one JSON line per step in a file.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{Result, error::io_at, files};

/// Longest time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(15);
/// Plain lines at least, at even shares of the whole.
const PLAIN_LINES: u64 = 10;

/// Progress of one stage.
pub struct Progress {
    bar: Option<ProgressBar>,
    stage: &'static str,
    total: u64,
    first: u64,
    began: Instant,
    printed: Instant,
    /// Shares of the whole at the last plain line.
    shares: u64,
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
        let shares = first * PLAIN_LINES / total.max(1);
        Self { bar, stage, total, first, began: now, printed: now, shares, tokens: 0 }
    }

    /// One more step is done.
    pub fn step(&mut self, done: u64, tokens: u64, message: &str) {
        self.tokens += tokens;
        let steps = done.saturating_sub(self.first);
        let last = done >= self.total;
        let shares = done * PLAIN_LINES / self.total.max(1);
        let due = last || shares > self.shares || self.printed.elapsed() >= PLAIN_EVERY;
        if self.bar.is_none() && !due {
            return;
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let left =
            if steps == 0 { 0.0 } else { seconds / steps as f64 * self.total.saturating_sub(done) as f64 };
        let speed = if self.tokens == 0 {
            String::new()
        } else {
            format!(" {:.0} tokens/s", self.tokens as f64 / seconds.max(1e-9))
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
                complain!("{} {done}/{} {line}", self.stage, self.total);
                self.printed = Instant::now();
                self.shares = shares;
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
    /// Opens a log of steps to go on after `step`: what a stopped run wrote beyond it, or did not end, is taken
    /// out, because it will come again.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn resume(path: &Path, step: u64) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Line {
            step: u64,
        }
        let before = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(io_at(path)(e)),
        };
        let stays = |line: &&[u8]| {
            line.ends_with(b"\n") && serde_json::from_slice::<Line>(line).is_ok_and(|l| l.step <= step)
        };
        let kept: Vec<&[u8]> = before.split_inclusive(|&b| b == b'\n').filter(stays).collect();
        files::write_atomically(path, &kept.concat())?;
        let file = OpenOptions::new().append(true).open(path).map_err(io_at(path))?;
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
    fn a_log_goes_on_after_the_checkpoint_without_what_came_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = JsonLines::resume(&path, 0).unwrap();
        for step in 1..=5 {
            log.write(&serde_json::json!({ "step": step })).unwrap();
        }
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"step\":2");
        fs::write(&path, text).unwrap();
        JsonLines::resume(&path, 3).unwrap().write(&serde_json::json!({ "step": 4, "again": true })).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"again\":true,\"step\":4}\n"
        );
        JsonLines::resume(&path, 0).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }
}
