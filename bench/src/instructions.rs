//! Instructions of the hot paths, counted under valgrind beside a committed file: a number that no other program on the
//! machine disturbs, so that a regression shows where a clock would not.

mod paths;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum as _;
use locus_tests::{peer, root};
use serde::{Deserialize, Serialize};

use self::paths::Path;

const FILE: &str = "bench/instructions.toml";
const HEAD: &str = "# Instructions of each hot path, counted under valgrind by `cargo run -p locus-bench -- instructions --write`; a count that\n\
                    # is more than the tolerance above its own here fails. Only for this compiler and valgrind.\n";
const TOLERANCE: f64 = 0.03;

#[derive(Debug, clap::Args)]
pub(crate) struct InstructionsArguments {
    /// Keep what is counted now
    #[arg(long)]
    write: bool,
    /// Count this path alone
    #[arg(long, value_enum, conflicts_with = "write")]
    only: Option<Path>,
    /// The file of counts
    #[arg(long, default_value = FILE)]
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HotPathArguments {
    #[arg(value_enum)]
    path: Path,
    #[arg(long)]
    times: u64,
}

impl HotPathArguments {
    pub(crate) fn run(&self) -> Result<()> {
        self.path.go(self.times)
    }
}

/// The committed file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    rustc: String,
    target: String,
    valgrind: String,
    /// Share by which a count may be more.
    tolerance: f64,
    instructions: BTreeMap<String, u64>,
}

fn name(path: Path) -> String {
    path.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Instructions of a process of its own that goes a path so many times.
fn whole(valgrind: &std::path::Path, path: Path, times: u64) -> Result<u64> {
    let log = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(valgrind);
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    command.arg(format!("--log-file={}", log.path().display()));
    command.arg(std::env::current_exe()?).args(["hot-path", &name(path), "--times", &times.to_string()]);
    let output = command.stdin(Stdio::null()).output()?;
    let text = fs::read_to_string(log.path())?;
    let counted = text.lines().find_map(|line| {
        let (before, count) = line.split_once("refs:")?;
        before.trim_end().ends_with('I').then(|| count.replace(',', "").trim().parse::<u64>().ok())?
    });
    match counted {
        Some(counted) if output.status.success() => Ok(counted),
        _ => bail!("{command:?} counted nothing: {text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// Of one time: what twice as many times take more, so that start and end cancel out.
fn count(valgrind: &std::path::Path, path: Path) -> Result<u64> {
    let times = path.times();
    // Two processes at once, as there are two cores at least where anything is built.
    let (once, twice) = std::thread::scope(|scope| {
        let twice = scope.spawn(|| whole(valgrind, path, 2 * times));
        (whole(valgrind, path, times), twice.join())
    });
    let twice = twice.map_err(|_| anyhow::anyhow!("a thread ended by a defect"))??;
    Ok(twice.saturating_sub(once?) / times)
}

impl InstructionsArguments {
    pub(crate) fn run(&self) -> Result<()> {
        let Some(valgrind) = peer("instructions of the hot paths", "valgrind") else { return Ok(()) };
        let here = Kept {
            rustc: said(Command::new("rustc").arg("--version").current_dir(root()))?,
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            valgrind: said(Command::new(&valgrind).arg("--version"))?,
            tolerance: TOLERANCE,
            instructions: BTreeMap::new(),
        };
        if self.write {
            return self.keep(here, &valgrind);
        }
        let text = fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        let kept: Kept = toml::from_str(&text).with_context(|| self.file.display().to_string())?;
        for (got, expected) in
            [(&here.rustc, &kept.rustc), (&here.target, &kept.target), (&here.valgrind, &kept.valgrind)]
        {
            if got != expected {
                println!(
                    "skipped: {} is for {expected}, this is {got}; `--write` counts anew",
                    self.file.display()
                );
                return Ok(());
            }
        }
        let mut more = Vec::new();
        for &path in Path::value_variants() {
            if self.only.is_some_and(|only| only != path) {
                continue;
            }
            let (name, got) = (name(path), count(&valgrind, path)?);
            let expected = kept.instructions.get(&name);
            let expected = *expected
                .with_context(|| format!("{} has no {name}; `--write` counts it", self.file.display()))?;
            let ratio = got as f64 / expected as f64;
            println!("{name}: {got} instructions, {ratio:.4} of what is kept");
            if ratio > 1.0 + kept.tolerance {
                more.push(format!("{name}: got {got} instructions, expected {expected}"));
            } else if ratio < 1.0 - kept.tolerance {
                println!("{name} became faster; `--write` keeps that");
            }
        }
        ensure!(
            more.is_empty(),
            "more than {:.0} % above {}:\n{}\nMake it faster; where the work is worth it, `cargo run -p locus-bench -- instructions --write` keeps the new counts",
            100.0 * kept.tolerance,
            self.file.display(),
            more.join("\n")
        );
        Ok(())
    }

    fn keep(&self, mut here: Kept, valgrind: &std::path::Path) -> Result<()> {
        for &path in Path::value_variants() {
            let counted = count(valgrind, path)?;
            println!("{}: {counted} instructions", name(path));
            here.instructions.insert(name(path), counted);
        }
        fs::write(&self.file, format!("{HEAD}{}", toml::to_string(&here)?))?;
        println!("{}", self.file.display());
        Ok(())
    }
}
