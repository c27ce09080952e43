//! A peer's service in processes of its own, which end with this one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use locus_tests::{free_port, root};
use serde::Serialize;
use tempfile::TempDir;

/// Time in which all workers of a service have their model and answer.
const STARTS: Duration = Duration::from_secs(180);

/// How a service is run; the field names are those of bench/peers/service.py.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Settings {
    /// As the reference runs it.
    pub(super) plain: bool,
    pub(super) workers: usize,
    /// Threads inside an operator; 0 for the library's default.
    pub(super) threads: usize,
    /// Threads beside the event loop that models run on; 0 for none.
    pub(super) pool: usize,
    /// Tokens that rows are padded to.
    pub(super) tokens: usize,
}

impl Settings {
    /// The reference's: four workers, defaults.
    pub(super) const fn reference(tokens: usize) -> Self {
        Self { plain: true, workers: 4, threads: 0, pool: 0, tokens }
    }

    /// What is tried for the tuned column.
    pub(super) fn tunings(tokens: usize) -> Vec<Self> {
        [(1, 1, 0), (1, 2, 0), (2, 1, 0), (1, 1, 2)]
            .map(|(workers, threads, pool)| Self { plain: false, workers, threads, pool, tokens })
            .into()
    }

    pub(super) fn words(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        match self.pool {
            _ if self.plain => "4 workers, defaults".into(),
            0 => format!("{}, {}", count(self.workers, "worker"), count(self.threads, "thread")),
            pool => format!(
                "{}, {} in a pool of {pool}",
                count(self.workers, "worker"),
                count(self.threads, "thread")
            ),
        }
    }
}

/// What a service needs to know beside its settings.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Reads {
    /// `fp32.onnx`, `config.json`, `warm.json`.
    pub(super) folder: PathBuf,
    pub(super) window_bases: usize,
    /// probability = softmax or sigmoid of logit / temperature + offset.
    pub(super) temperature: f64,
    pub(super) offsets: Vec<f64>,
}

/// The value of `LOCUS_PEER`.
pub(super) fn settings(
    settings: &Settings,
    reads: &Reads,
    more: serde_json::Value,
) -> Result<serde_json::Value> {
    let mut all = serde_json::to_value(settings)?;
    for other in [serde_json::to_value(reads)?, more] {
        for (key, value) in other.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
    }
    Ok(all)
}

pub(super) struct Service {
    child: Child,
    folder: TempDir,
    pub(super) base: String,
}

impl Service {
    /// Starts `bench/peers/NAME` and waits until every worker is ready.
    pub(super) fn start(python: &Path, name: &str, how: &Settings, reads: &Reads) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, free_port());
        let ready = folder.path().join("ready");
        fs::create_dir(&ready)?;
        let told = settings(how, reads, serde_json::json!({ "port": port, "ready": ready }))?;
        let log = fs::File::create(folder.path().join("log"))?;
        let mut command = Command::new(python);
        command.arg(root().join("bench/peers").join(name)).env("LOCUS_PEER", told.to_string());
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        // What uvicorn logs of each request goes nowhere.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let base = format!("http://127.0.0.1:{port}");
        let mut service = Self { child: command.spawn()?, folder, base };
        let started = Instant::now();
        while fs::read_dir(&ready)?.count() < how.workers || !listens(port) {
            if service.child.try_wait()?.is_some() || started.elapsed() > STARTS {
                bail!("{name} with {how:?} does not come up: {}", service.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(service)
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

fn listens(port: u16) -> bool {
    std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
}

impl Drop for Service {
    fn drop(&mut self) {
        // Workers end with the process that started them.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
